//! What keeps an output tidy while it is in use: `gc`, `compact`, `status`. None may lose a row, whoever is at work or was killed.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::s3::{Fault, Rule, S3};
use super::stores::{pipeline, said};
use super::support::{assert_same, curette, succeed, tables};
use super::{rows_of_files, videos};

const TABLES: [&str; 4] = ["clips", "rejects", "errors", "stages"];

fn run(file: &Path, kill: &str) -> Output {
    let mut command = curette();
    command.arg("run").arg(file).args(["--quiet", "-w", "2"]);
    if !kill.is_empty() {
        command.env("CURETTE_KILL_AT", kill);
    }
    command.output().unwrap()
}

fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&succeed(command.args(["--format", "json"])).stdout).unwrap()
}

/// Orphans that were found, and files by a fate, over all tables.
fn gc(output: &Path, args: &[&str], fate: &str) -> (Vec<String>, u64) {
    let found = json(curette().arg("gc").arg(output).args(args));
    let tables = found["tables"].as_object().unwrap();
    let names = |(table, found): (&String, &Value)| -> Vec<String> {
        found["orphans"].as_array().unwrap().iter().map(|o| format!("{table}/{}", o["file"].as_str().unwrap())).collect()
    };
    (tables.iter().flat_map(names).collect(), tables.values().filter_map(|found| found["files"][fate].as_u64()).sum())
}

#[test]
fn tables_are_tidied_beside_runs_that_live_and_that_were_killed() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let at = |name: &str| {
        let output = dir.path().join(name);
        (pipeline(dir.path(), name, &videos.display().to_string(), &output.display().to_string(), ""), output)
    };
    let (file, undisturbed) = at("undisturbed");
    assert!(run(&file, "").status.success());
    let want = tables(&undisturbed);

    // A run that lives: whatever is collected beside it, it ends well.
    let (file, output) = at("alive");
    let mut child = curette().arg("run").arg(&file).args(["--quiet", "-w", "2"]).spawn().unwrap();
    let mut collections = 0;
    let status = loop {
        let collected = curette().arg("gc").arg(&output).args(["--delete", "--older-than-hours", "0"]).output().unwrap();
        collections += u32::from(collected.status.success());
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(status.success() && collections > 2, "{status}, {collections}");
    assert_same("gc beside a run", &want, &tables(&output));

    // Runs that were killed: before what they had written was written down, and after.
    let (file, output) = at("killed");
    assert!(!run(&file, "after_shard_finish:2").status.success());
    assert!(!run(&file, "between_tables:2").status.success());
    let (orphans, pending) = gc(&output, &["--older-than-hours", "0"], "pending");
    assert!(!orphans.is_empty() && pending > 0, "{orphans:?}, {pending}");
    assert_eq!(gc(&output, &["--delete"], "young").0, Vec::<String>::new(), "they are not a day old");
    assert!(orphans.iter().all(|file| output.join(file).exists()), "a look deletes nothing");
    assert_eq!(gc(&output, &["--delete", "--older-than-hours", "0"], "pending"), (orphans.clone(), pending));
    assert!(!orphans.iter().any(|file| output.join(file).exists()));
    // One table alone knows its output, and nothing is left to collect in it.
    assert!(gc(&output.join("clips"), &["--older-than-hours", "0"], "named").0.is_empty());
    let finished = run(&file, "");
    assert!(finished.status.success(), "{}", said(&finished));
    assert_same("what was pending was committed", &want, &tables(&output));

    // Compaction: the same rows in fewer files, through a kill on either side of its entry.
    let named = |table: &str| gc(&output.join(table), &[], "named").1;
    let before = TABLES.map(named);
    let clips = output.join("clips");
    let compact = |table: &Path, kill: &str| {
        let mut command = curette();
        command.arg("compact").arg(table).env("CURETTE_KILL_AT", kill).output().unwrap()
    };
    assert!(!compact(&clips, "before_compaction").status.success());
    assert_same("killed before", &want, &tables(&output));
    let (left, _) = gc(&output, &["--delete", "--older-than-hours", "0"], "named");
    assert!(left.len() == 1 && left[0].contains("/compact-"), "{left:?}");
    assert!(!compact(&clips, "after_compaction").status.success());
    assert_same("killed after", &want, &tables(&output));
    for table in ["rejects", "errors", "stages"] {
        succeed(curette().arg("compact").arg(output.join(table)));
    }
    assert_same("compacted", &want, &tables(&output));
    // Old files stay for old versions, so there are more now than before; a reader by the log sees few.
    for (table, before) in TABLES.into_iter().zip(before) {
        assert_eq!(named(table), before + u64::from(before > 1), "{table}");
    }
    assert!(rows_of_files(&clips) > want["clips"].len() as u64, "older versions keep their files");
    let again = json(curette().arg("compact").arg(&clips));
    assert_eq!(again["files_before"], 0, "{again}");
    let again = run(&file, "");
    assert!(again.status.success() && said(&again).contains("0 splits done"), "{}", said(&again));

    let status = json(curette().arg("status").arg(&output));
    assert_eq!((&status["splits_done"], &status["processes"].as_array().unwrap().len()), (&status["splits"], &0), "{status}");
    let text = said(&succeed(curette().arg("status").arg(&output)));
    assert!(text.contains("nobody runs") && text.contains("splits are committed (version"), "{text}");
    let refused = curette().args(["gc"]).arg(dir.path()).output().unwrap();
    assert!(refused.status.code() == Some(2) && said(&refused).contains("neither a table nor the output"), "{}", said(&refused));
}

/// Asks until the answer is as it should be.
fn until(child: &mut Child, what: &str, ask: impl Fn() -> Option<String>) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {what}");
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn status_tells_who_runs_and_who_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let store = S3::start();
    store.upload(&videos, "corpus/videos");
    // A run that cannot end while it is looked at.
    store.befall(&[Rule {
        method: "GET",
        part: ".mp4",
        skip: 2,
        times: usize::MAX,
        fault: Fault::Slow(Duration::from_secs(20)),
    }]);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = dir.path().join("out");
    let engine = format!("metrics_address = \"{free}\"\n");
    let file = pipeline(dir.path(), "status", "s3://corpus/videos", &output.display().to_string(), &engine);
    let mut command = curette();
    store.lend(&mut command).arg("run").arg(&file).args(["--quiet", "-w", "1"]).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = |place: &str| {
        let output = curette().args(["status", place]).output().unwrap();
        output.status.success().then(|| said(&output))
    };
    let place = output.display().to_string();
    let text = until(&mut child, "the metrics", || status(&format!("http://{free}/metrics")));
    assert!(text.contains("splits are committed") && text.contains("running  for"), "{text}");
    let text = until(&mut child, "the process", || status(&place).filter(|text| text.contains("running  for")));
    assert!(text.contains(&format!("({} on ", child.id())) && text.contains(&format!("metrics http://{free}")), "{text}");
    // The address is on loopback and nowhere else, and nothing else listens.
    let listening = listening(child.id());
    assert_eq!(listening, [free.to_string()], "only what was asked for, and on loopback");
    child.kill().unwrap();
    child.wait().unwrap();
    let text = status(&place).unwrap();
    assert!(text.contains("killed ") && text.contains("nobody runs"), "{text}");
    assert_eq!(status(&format!("http://{free}")), None);
}

/// Addresses (IPv4 and IPv6) that a process listens on.
pub fn listening(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
    let inodes: Vec<String> =
        links.filter_map(|l| Some(l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap();
        for fields in text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>()) {
            // State 0A: it listens.
            if fields[3] == "0A" && inodes.iter().any(|inode| inode == fields[9]) {
                let (ip, port) = fields[1].split_once(':').unwrap();
                let port = u16::from_str_radix(port, 16).unwrap();
                let ip = match u32::from_str_radix(ip, 16) {
                    Ok(v4) if table == "tcp" => std::net::Ipv4Addr::from(v4.swap_bytes()).to_string(),
                    _ => ip.to_owned(),
                };
                found.push(format!("{ip}:{port}"));
            }
        }
    }
    found
}
