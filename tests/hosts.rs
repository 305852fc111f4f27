//! Three hosts as network namespaces behind a bridge, one pipeline over all of them, and everything that happens to machines: a stall, a partition, a
//! killed process, a killed host, strangers at the port. The tables must end as those of one process that nothing happened to.
//!
//! The test runs itself inside of namespaces of its own, so that it touches no network of the machine and leaves nothing behind, however it ends.
//! Where these are not allowed it says so on one line and is skipped. Delays come from `tc netem` where the kernel has it, else from a link that is
//! down for less time than a silence may last.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use curette_engine::commit::Table;
use support::{assert_same, curette, root, rows, succeed};

/// Tells the inner test that it is inside.
const INSIDE: &str = "CURETTE_TEST_HOSTS";
const HOSTS: usize = 3;
/// One file of records is one split.
const SPLITS: usize = 42;
const RECORDS: usize = 20;
/// Each commit is held up by this much, so that there is a run to disturb.
const PAUSE_MILLIS: u64 = 250;
/// Of the pipeline: a silence that is longer is a lost machine.
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
/// Nothing here should take so long on any machine.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_cluster_of_hosts_bears_stalls_partitions_and_deaths() {
    let namespaces = |program: &[&str]| {
        // SAFETY: takes no pointers and changes nothing.
        let user = if unsafe { libc::geteuid() } == 0 { "-nm" } else { "-Urnm" };
        let mut command = Command::new("unshare");
        command.arg(user).args(program);
        command
    };
    let tools = "ip -V && tc -V && nsenter -V && mount -t tmpfs none /run && ip link add test0 type veth peer name test1";
    match namespaces(&["sh", "-c", tools]).output() {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => {
            let why = String::from_utf8_lossy(&tried.stderr);
            println!("skipped: no network namespaces here ({})", why.lines().last().unwrap_or("no reason given"));
            return;
        }
        Err(e) => {
            println!("skipped: no network namespaces here (unshare: {e})");
            return;
        }
    }
    let test = std::env::current_exe().unwrap();
    let mut inner = namespaces(&[&test.display().to_string(), "--exact", "inside", "--ignored", "--nocapture"]);
    print!("{}", String::from_utf8_lossy(&succeed(inner.env(INSIDE, "1")).stdout));
}

#[test]
#[ignore = "runs in namespaces that another test makes"]
fn inside() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let net = Net::make();
    let mut cluster = Cluster::new(dir.path());
    let want = alone(dir.path());

    // Strangers, while process 2 is waited for: a prober, a scanner, and somebody with another secret.
    cluster.start(0, &net);
    cluster.start(1, &net);
    probe("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    probe("\0\0\0\0\0\0\0\u{2}");
    let guess = dir.path().join("guess");
    std::fs::write(&guess, "not the secret of this cluster").unwrap();
    let stranger = cluster.command(2, &net, &guess).stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(2), "{said}");
    assert!(said.contains("they do not share the same cluster secret"), "{said}");
    cluster.start(2, &net);
    cluster.wait_for_splits(3);
    assert!(cluster.log(0).contains("Refused a connection"), "{}", cluster.log(0));

    let slow = net.delay();
    net.link(2, "down");
    std::thread::sleep(PEER_TIMEOUT / 4);
    net.link(2, "up");
    cluster.wait_for_splits(3);
    assert_eq!(cluster.restarts(), [0, 0, 0], "a stall is no loss: {}", cluster.logs());

    net.link(2, "down");
    let cut = Instant::now();
    cluster.wait_for("the partition to be noticed by all", |c| c.restarts().iter().all(|n| *n >= 1));
    let noticed = cut.elapsed();
    assert!(noticed < PEER_TIMEOUT + Duration::from_secs(10), "noticed after {noticed:?}");
    net.link(2, "up");
    cluster.wait_for_splits(3);

    let (before, victim) = (cluster.restarts(), cluster.child_of(1));
    kill(victim);
    let killed = Instant::now();
    cluster.wait_for("a restart after a kill", |c| c.restarts().iter().zip(before).all(|(now, then)| *now > then));
    cluster.wait_for_splits(1);
    let resumed = killed.elapsed();
    cluster.wait_for_splits(2);

    // The host that commits dies with all its processes, and comes back.
    let (before, child) = (cluster.restarts(), cluster.child_of(0));
    let parent = cluster.hosts[0].child.as_mut().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    cluster.wait_for("the child to die with its parent", |_| !Path::new(&format!("/proc/{child}")).exists());
    cluster.wait_for("the others to notice", |c| (1..HOSTS).all(|i| c.restarts()[i] > before[i]));
    cluster.start(0, &net);

    for code in cluster.end() {
        assert_eq!(code, Some(0), "{}", cluster.logs());
    }
    assert_same("three hosts", &want, &tables(&cluster.output));
    println!(
        "{HOSTS} hosts, {SPLITS} splits, netem {}: a partition was noticed after {:.1} s, a commit came {:.1} s after a kill, restarts {:?}",
        if slow { "used" } else { "not in this kernel" },
        noticed.as_secs_f64(),
        resumed.as_secs_f64(),
        cluster.restarts()
    );
}

/// What one process makes of the same records.
fn alone(folder: &Path) -> BTreeMap<&'static str, Vec<String>> {
    let output = folder.join("alone");
    let file = pipeline(folder, &output);
    succeed(curette().arg("run").arg(file).args(["--quiet", "-w", "2"]));
    let tables = tables(&output);
    assert!(tables.values().all(|rows| !rows.is_empty()));
    assert_eq!(tables.values().map(Vec::len).sum::<usize>(), SPLITS * RECORDS, "every record is in a table");
    tables
}

fn tables(output: &Path) -> BTreeMap<&'static str, Vec<String>> {
    ["videos", "rejects", "errors"].into_iter().map(|name| (name, rows(&output.join(name)))).collect()
}

/// Records of which some name a medical term and some are none.
fn pipeline(folder: &Path, output: &Path) -> PathBuf {
    let records = folder.join("records");
    std::fs::create_dir_all(&records).unwrap();
    for split in 0..SPLITS {
        let line = |i: usize| match i % 5 {
            0 => format!("{{\"id\": \"v{split:03}-{i}\", \"title\": \"Laparoscopic cholecystectomy {i}\"}}\n"),
            1 => "{\"title\": \"no id\"}\n".to_string(),
            _ => format!("{{\"id\": \"v{split:03}-{i}\", \"title\": \"Street food {i}\"}}\n"),
        };
        std::fs::write(records.join(format!("{split:03}.jsonl")), (0..RECORDS).map(line).collect::<String>()).unwrap();
    }
    let text = format!(
        "[pipeline]\nname = \"hosts\"\noutput = {:?}\nsplit_max_items = 1\nmax_error_rate = 1.0\n\
         [engine]\ncommit_interval_seconds = 0\nmax_restarts = 20\nrestart_pause_seconds = 0\npeer_timeout_seconds = {}\nconnect_seconds = 60\n\
         [step.records]\ntype = \"metadata\"\npath = {:?}\n\
         [step.keywords]\ntype = \"keyword_filter\"\ninputs = [\"records\"]\ndictionary = {:?}\nmin_hits = 1\n\
         [step.videos]\ntype = \"parquet\"\ninputs = [\"keywords\"]\n",
        output.display().to_string(),
        PEER_TIMEOUT.as_secs(),
        records.display().to_string(),
        root().join("datasets/medical_terms.txt").display().to_string(),
    );
    let file = output.with_extension("toml");
    std::fs::write(&file, text).unwrap();
    file
}

struct Host {
    log: PathBuf,
    child: Option<Child>,
}

struct Cluster {
    folder: PathBuf,
    pipeline: PathBuf,
    output: PathBuf,
    hosts: Vec<Host>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.hosts.iter_mut().filter_map(|h| h.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    fn new(folder: &Path) -> Cluster {
        let output = folder.join("cluster");
        let lines: String = (0..HOSTS).map(|i| format!("{}:2101\n", address(i))).collect();
        std::fs::write(folder.join("hosts.txt"), lines).unwrap();
        std::fs::write(folder.join("secret"), "correct horse battery staple\n").unwrap();
        let hosts = (0..HOSTS).map(|i| Host { log: folder.join(format!("host-{i}.log")), child: None }).collect();
        Cluster { folder: folder.into(), pipeline: pipeline(folder, &output), output, hosts }
    }

    fn command(&self, host: usize, net: &Net, secret: &Path) -> Command {
        let mut command = net.inside(host, env!("CARGO_BIN_EXE_curette"));
        command.arg("run").arg(&self.pipeline).args(["--quiet", "-w", "1", "--process", &host.to_string()]);
        command.arg("--hosts").arg(self.folder.join("hosts.txt")).arg("--secret-file").arg(secret);
        command.env_remove("CURETTE_LOG").env("CURETTE_PAUSE_AT", format!("split_complete:{PAUSE_MILLIS}"));
        command
    }

    fn start(&mut self, host: usize, net: &Net) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.hosts[host].log).unwrap();
        let mut command = self.command(host, net, &self.folder.join("secret"));
        self.hosts[host].child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Exit codes, when all have ended.
    fn end(&mut self) -> Vec<Option<i32>> {
        self.wait_for("the end", |c| c.hosts.iter_mut().all(|h| h.child.as_mut().unwrap().try_wait().unwrap().is_some()));
        self.hosts.iter_mut().map(|h| h.child.as_mut().unwrap().wait().unwrap().code()).collect()
    }

    fn log(&self, host: usize) -> String {
        std::fs::read_to_string(&self.hosts[host].log).unwrap_or_default()
    }

    fn logs(&self) -> String {
        (0..HOSTS).map(|i| format!("host {i}:\n{}", self.log(i))).collect()
    }

    /// How often each host says that it starts again.
    fn restarts(&self) -> [usize; HOSTS] {
        std::array::from_fn(|i| self.log(i).matches("of the whole cluster in").count())
    }

    fn child_of(&mut self, host: usize) -> i32 {
        let parent = self.hosts[host].child.as_ref().unwrap().id();
        let mut found = None;
        self.wait_for("a child", |_| {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
            found = children.split_whitespace().next().and_then(|p| p.parse().ok());
            found.is_some()
        });
        found.unwrap()
    }

    fn splits(&self) -> u64 {
        let stages = Table::open_existing("stages", &self.output.join("stages").to_string_lossy()).ok().flatten();
        stages.and_then(|table| table.state().ok()).map_or(0, |state| state.done.len())
    }

    /// Until this many more are committed.
    fn wait_for_splits(&mut self, more: u64) {
        let wanted = self.splits() + more;
        assert!(wanted < SPLITS as u64, "the run was over before it could be disturbed; make SPLITS larger");
        self.wait_for("commits", |c| c.splits() >= wanted);
    }

    fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Cluster) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < LIMIT, "waited too long for {what}: {}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn address(host: usize) -> String {
    format!("10.77.0.{}", host + 1)
}

/// Somebody who calls process 0 and speaks another language: hung up on without a word.
fn probe(words: &str) {
    let until = Instant::now() + LIMIT;
    let mut stream = loop {
        match TcpStream::connect((address(0), 2101)) {
            Ok(stream) => break stream,
            Err(e) => assert!(Instant::now() < until, "nobody listens: {e}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(words.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has been hung up, too.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "a stranger learns nothing");
}

fn kill(process: i32) {
    // SAFETY: the process is a child of our child, which is alive and has not reaped it.
    assert_eq!(unsafe { libc::kill(process, libc::SIGKILL) }, 0);
}

/// A bridge in the namespace of this process, and a namespace with a cable to it for each host.
struct Net;

impl Net {
    fn make() -> Net {
        sh("mount -t tmpfs none /run && ip link set lo up && ip link add bridge type bridge && ip link set bridge up && \
            ip address add 10.77.0.254/24 dev bridge");
        for host in 0..HOSTS {
            let inside = format!("nsenter --net=/run/netns/host{host}");
            sh(&format!(
                "ip netns add host{host} && ip link add cable{host} type veth peer name eth0 netns host{host} && \
                 ip link set cable{host} master bridge up && {inside} ip address add {}/24 dev eth0 && {inside} ip link set eth0 up && \
                 {inside} ip link set lo up",
                address(host)
            ));
        }
        Net
    }

    fn inside(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/host{host}")).arg(program);
        command
    }

    fn link(&self, host: usize, state: &str) {
        sh(&format!("ip link set cable{host} {state}"));
    }

    /// Slows all cables down and makes them lose packets, if the kernel can.
    fn delay(&self) -> bool {
        let all = (0..HOSTS).map(|host| format!("tc qdisc add dev cable{host} root netem delay 10ms 5ms loss 1%"));
        let done = Command::new("sh").arg("-c").arg(all.collect::<Vec<_>>().join(" && ")).output().unwrap();
        done.status.success()
    }
}

fn sh(line: &str) {
    succeed(Command::new("sh").arg("-c").arg(line));
}
