//! Whole processes: supervised clusters and panics. The programs are `/bin/sh`, or this test binary in a role.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use timely::WorkerConfig;
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Exchange, Input, Inspect, Probe};
use timely::worker::Worker;

use crate::cluster::local::{Local, Outcome, Seat, supervise};
use crate::cluster::{Workers, abort_on_panic, connect, secure, workers};
use crate::exit::Exit;

const ROLE: &str = "CURETTE_TEST_ROLE";
const DIR: &str = "CURETTE_TEST_DIR";
const ROLE_ARGS: [&str; 4] = ["cluster::tests::processes::role", "--exact", "--ignored", "--nocapture"];

/// A shell cluster whose script sees `$D` as its folder and `$I` as its index.
fn shell(processes: usize, max_restarts: u32, dir: &Path, script: &str) -> Local {
    let index = r#"I=${CURETTE_CLUSTER#*\"index\":}; I=${I%%,*}"#;
    Local {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), format!("D='{}'; {index}; {script}", dir.display()).into()],
        processes,
        member: None,
        max_restarts,
        first_pause: Duration::from_millis(20),
        contain: true,
    }
}

/// A cluster of this test binary.
fn roles(role: &str, processes: usize, max_restarts: u32, dir: &Path) -> Local {
    let mut args = vec![format!("{ROLE}={role}"), format!("{DIR}={}", dir.display()), exe().display().to_string()];
    args.extend(ROLE_ARGS.map(String::from));
    let args = args.into_iter().map(Into::into).collect();
    Local {
        program: "/usr/bin/env".into(),
        args,
        processes,
        member: None,
        max_restarts,
        first_pause: Duration::from_millis(20),
        contain: true,
    }
}

fn role_command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(exe());
    command.args(ROLE_ARGS).env(ROLE, role).env(DIR, dir).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn exe() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn lines(file: PathBuf) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(String::from).collect()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody reaps yet does nothing any more.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

/// Ends within the limit or is killed and fails the test.
fn output_within(child: Child, limit: Duration) -> Output {
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel();
    let wait = std::thread::spawn(move || {
        let output = child.wait_with_output().unwrap();
        let _ = done.send(());
        output
    });
    let in_time = ended.recv_timeout(limit).is_ok();
    if !in_time {
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    }
    let output = wait.join().unwrap();
    assert!(in_time, "it hung: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The programs behind the tests.
#[test]
#[ignore = "a program that other tests start"]
fn role() {
    let (Ok(role), Ok(dir)) = (std::env::var(ROLE), std::env::var(DIR)) else { return };
    let dir = PathBuf::from(dir);
    match role.as_str() {
        "panic" => {
            abort_on_panic();
            // Without the hook this hangs: the other worker waits for what this one holds.
            let ended = workers(Workers::Threads(2), WorkerConfig::default(), |worker| {
                sum(worker, |index| assert!(index != 1, "boom in worker 1"));
            });
            unreachable!("{ended:?}");
        }
        "peer-lost" => {
            abort_on_panic();
            panic!("timely communication error: reading data: socket closed");
        }
        "member" | "member-mistake" | "member-crash" => member(&role, &dir),
        "supervise-trap" | "supervise-plain" | "supervise-deaf" => {
            let trap = match role.as_str() {
                "supervise-trap" => "trap 'echo told >> $D/told; exit 7' TERM INT;",
                "supervise-deaf" => "trap 'echo told >> $D/told' TERM INT;",
                _ => "",
            };
            let script = format!("{trap} echo $$ >> $D/pids; while :; do sleep 0.05; done");
            let outcome = supervise(&shell(2, 5, &dir, &script)).unwrap();
            std::process::exit(i32::from(outcome.code));
        }
        "foreign-seat" => {
            // A grandchild sees the variable, yet has no place.
            let seat = Seat::from_environment();
            std::process::exit(match seat {
                Ok(None) => 0,
                Ok(Some(_)) => 11,
                Err(_) => 12,
            });
        }
        other => panic!("no role {other}"),
    }
}

/// All workers of the cluster exchange the numbers below 100; gives the sum of those that came here.
fn sum(worker: &mut Worker, step: impl Fn(usize) + 'static) -> u64 {
    let mut input = InputHandle::<u64, timely::container::CapacityContainerBuilder<Vec<u64>>>::new();
    let total = std::rc::Rc::new(std::cell::Cell::new(0));
    let (seen, index) = (std::rc::Rc::clone(&total), worker.index());
    let probe = worker.dataflow(|scope| {
        let stream = scope.input_from(&mut input).exchange(|x| *x).inspect(move |x| {
            step(index);
            seen.set(seen.get() + x);
        });
        stream.probe().0
    });
    if worker.index() == 0 {
        (0..100).for_each(|x| input.send(x));
    }
    input.close();
    while !probe.done() {
        worker.step_or_park(None);
    }
    total.get()
}

/// A whole child of `--processes`: seat, sockets, workers.
fn member(role: &str, dir: &Path) -> ! {
    abort_on_panic();
    let (seat, listener) = Seat::from_environment().unwrap().expect("started by a supervisor");
    assert!(Seat::from_environment().unwrap().is_none(), "a seat is taken once");
    let (index, restarts) = (seat.index, seat.restarts);
    let plan = if role == "member-mistake" { format!("plan-{index}") } else { "plan".into() };
    let crash = role == "member-crash" && restarts == 0;
    let members = seat.members(listener, 2, plan, Duration::from_secs(20));
    let sockets = match connect(&members, Duration::from_secs(20)).and_then(|sockets| secure(&members, sockets)) {
        Ok(sockets) => sockets,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(i32::from(e.exit().code()))
        }
    };
    let sums = workers(Workers::Cluster { sockets, threads: 2 }, WorkerConfig::default(), move |worker| {
        sum(worker, move |at| assert!(!(crash && at == 3), "boom in worker 3"))
    });
    let sum: u64 = sums.unwrap().into_iter().sum();
    std::fs::write(dir.join(format!("sum-{restarts}-{index}")), sum.to_string()).unwrap();
    std::process::exit(0)
}

#[test]
fn a_cluster_of_real_processes_exchanges_rows() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(supervise(&roles("member", 3, 0, dir.path())).unwrap(), Outcome { code: 0, restarts: 0 });
    let sums: Vec<u64> = (0..3).map(|i| lines(dir.path().join(format!("sum-0-{i}")))[0].parse().unwrap()).collect();
    assert_eq!(sums.iter().sum::<u64>(), 4950);
    assert!(sums.iter().all(|s| *s > 0), "every process took part: {sums:?}");
}

#[test]
fn a_panic_in_one_process_restarts_all_and_the_second_time_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(supervise(&roles("member-crash", 2, 3, dir.path())).unwrap(), Outcome { code: 0, restarts: 1 });
    let sums: u64 = (0..2).map(|i| lines(dir.path().join(format!("sum-1-{i}")))[0].parse::<u64>().unwrap()).sum();
    assert_eq!(sums, 4950);
}

#[test]
fn a_crash_that_stays_ends_with_the_code_of_the_one_that_panicked() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = supervise(&roles("member-crash", 2, 0, dir.path())).unwrap();
    assert_eq!(outcome, Outcome { code: Exit::Internal.code(), restarts: 0 });
}

#[test]
fn members_with_different_plans_end_the_cluster_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let outcome = supervise(&roles("member-mistake", 2, 3, dir.path())).unwrap();
    assert_eq!(outcome, Outcome { code: Exit::PlanChanged.code(), restarts: 0 });
    assert!(started.elapsed() < Duration::from_secs(15), "the one that listens is not waited for");
}

#[test]
fn all_well() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = supervise(&shell(3, 3, dir.path(), "echo hello from $I >&2; echo $I >> $D/started")).unwrap();
    assert_eq!(outcome, Outcome { code: 0, restarts: 0 });
    let mut started = lines(dir.path().join("started"));
    started.sort();
    assert_eq!(started, ["0", "1", "2"]);
}

#[test]
fn a_process_that_is_killed_once_is_started_again_with_all_others() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $I >> $D/started; if [ $I = 1 ] && [ ! -e $D/once ]; then : > $D/once; kill -9 $$; fi; sleep 0.2";
    let outcome = supervise(&shell(2, 3, dir.path(), script)).unwrap();
    assert_eq!(outcome, Outcome { code: 0, restarts: 1 });
    assert_eq!(lines(dir.path().join("started")).len(), 4);
}

#[test]
fn a_crash_for_ever_ends_after_the_last_restart() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = supervise(&shell(2, 2, dir.path(), "echo $I >> $D/started; [ $I = 0 ] && exit 75; exit 70")).unwrap();
    assert_eq!(outcome, Outcome { code: 70, restarts: 2 }, "the one that panicked is blamed, not the one that lost it");
    assert_eq!(lines(dir.path().join("started")).len(), 6);
}

#[test]
fn one_process_of_several_machines_is_started_again_and_told_of_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"echo "$CURETTE_WATCHED" >> $D/told; case $(wc -l < $D/told) in 1) exit 75;; 2) kill -11 $$;; esac"#;
    let mut local = shell(1, 5, dir.path(), script);
    local.member = Some(2);
    assert_eq!(supervise(&local).unwrap(), Outcome { code: 0, restarts: 2 });
    let told: Vec<String> = lines(dir.path().join("told")).iter().map(|l| l.split(",\"parent").next().unwrap().into()).collect();
    let expected = [(0, false), (1, false), (2, true)];
    assert_eq!(told, expected.map(|(n, crash)| format!("{{\"restarts\":{n},\"contain\":{crash}")));
}

#[test]
fn mistakes_are_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let outcome = supervise(&shell(2, 5, dir.path(), "echo $I >> $D/started; exit 2")).unwrap();
    assert_eq!(outcome, Outcome { code: 2, restarts: 0 });
    assert_eq!(lines(dir.path().join("started")).len(), 2);
}

#[test]
fn the_others_are_killed_with_all_they_started() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $$ >> $D/pids; if [ $I = 1 ]; then sleep 0.3; exit 1; fi; sleep 300 & echo $! >> $D/pids; wait";
    let started = Instant::now();
    let outcome = supervise(&shell(3, 0, dir.path(), script)).unwrap();
    assert_eq!(outcome, Outcome { code: 1, restarts: 0 });
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let pids = lines(dir.path().join("pids"));
    assert_eq!(pids.len(), 5);
    wait_for("the processes to go", || !pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn a_program_that_cannot_be_started_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut local = shell(2, 3, dir.path(), "");
    local.program = "/nonexistent/curette".into();
    let e = supervise(&local).unwrap_err().to_string();
    assert!(e.starts_with("cannot start process 0 of the cluster (/nonexistent/curette): "), "{e}");
    local.processes = 0;
    assert_eq!(supervise(&local).unwrap_err().exit(), Exit::Mistake);
}

/// Starts a supervisor in a process of its own and waits until its two children run.
fn supervisor(role: &str, dir: &Path) -> (Child, Vec<String>) {
    let child = role_command(role, dir).spawn().unwrap();
    wait_for("both children", || lines(dir.join("pids")).len() == 2);
    (child, lines(dir.join("pids")))
}

#[test]
fn signals_are_passed_on_and_the_code_of_process_0_comes_back() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let dir = tempfile::tempdir().unwrap();
        let (child, pids) = supervisor("supervise-trap", dir.path());
        unsafe { libc::kill(child.id() as i32, signal) };
        let output = output_within(child, Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(7));
        assert_eq!(lines(dir.path().join("told")).len(), 2, "both were told, none was started again");
        assert!(!pids.iter().any(|pid| is_alive(pid)));
    }
}

#[test]
fn a_stop_of_children_that_do_not_listen_gives_the_code_of_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    let (child, pids) = supervisor("supervise-plain", dir.path());
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(output_within(child, Duration::from_secs(20)).status.code(), Some(130));
    assert!(!pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn a_second_signal_kills_children_that_do_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let (child, pids) = supervisor("supervise-deaf", dir.path());
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    wait_for("both to be told", || lines(dir.path().join("told")).len() == 2);
    assert!(pids.iter().all(|pid| is_alive(pid)), "the first signal asks");
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(output_within(child, Duration::from_secs(20)).status.code(), Some(143));
    assert!(!pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn the_children_die_with_their_parent() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, pids) = supervisor("supervise-trap", dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the children to go", || !pids.iter().any(|pid| is_alive(pid)));
}

#[test]
fn a_panic_in_one_of_two_workers_ends_the_process_instead_of_hanging_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = output_within(role_command("panic", dir.path()).spawn().unwrap(), Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(i32::from(Exit::Internal.code())));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("boom in worker 1") && text.contains("processes.rs:") && text.contains("timely:work-1"), "{text}");
    assert!(text.contains("RUST_BACKTRACE=1") || text.contains("0:"), "{text}");
}

#[test]
fn the_death_of_a_peer_is_one_quiet_line_and_its_own_code() {
    let dir = tempfile::tempdir().unwrap();
    let output = output_within(role_command("peer-lost", dir.path()).spawn().unwrap(), Duration::from_secs(20));
    assert_eq!(output.status.code(), Some(i32::from(Exit::PeerLost.code())));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("Another process of the cluster is gone"), "{text}");
}

#[test]
fn a_grandchild_does_not_take_its_parents_seat() {
    let dir = tempfile::tempdir().unwrap();
    let seat = r#"{"index":0,"addresses":["127.0.0.1:1"],"run_id":"r","restarts":0,"secret":"s","listener":0,"parent":1}"#;
    let run = |value: &str| {
        let mut command = role_command("foreign-seat", dir.path());
        command.env(crate::cluster::local::VARIABLE, value);
        output_within(command.spawn().unwrap(), Duration::from_secs(20)).status.code()
    };
    assert_eq!(run(seat), Some(0));
    assert_eq!(run("not json"), Some(12));
    // Standard input is no socket: a place, but not one that can be taken.
    assert_eq!(run(&seat.replace("\"parent\":1", &format!("\"parent\":{}", std::process::id()))), Some(12));
}
