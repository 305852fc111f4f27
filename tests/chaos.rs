//! kill -9, again and again: the tables must end as if nothing had happened, and what was committed must not be done again.

#![allow(clippy::unwrap_used)]

#[path = "support/s3.rs"]
#[allow(dead_code)]
mod s3;
#[path = "chaos/secrets.rs"]
mod secrets;
#[path = "chaos/stores.rs"]
mod stores;
mod support;
#[path = "chaos/upkeep.rs"]
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use curette_engine::commit::Table;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use support::{assert_same, corpus, curette, quickstart, succeed, tables};

/// Videos of the chaos runs: a few readable ones, a broken one, one split each.
const VIDEOS: usize = 8;
/// Kills at random moments.
const RANDOM_KILLS: u64 = 20;
/// A run that hangs is a failure.
const LIMIT: Duration = Duration::from_secs(240);

struct Chaos {
    pipeline: PathBuf,
    output: PathBuf,
}

/// Two folders of a few videos of the corpus, linked: `videos` and, next to it, `more`.
fn videos(folder: &Path) -> PathBuf {
    let (from, to) = (corpus().folder.join("videos"), folder.join("videos"));
    std::fs::create_dir_all(&to).unwrap();
    std::fs::create_dir_all(folder.join("more")).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(from).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect();
    files.sort();
    let stem = |p: &Path| p.file_name().unwrap().to_string_lossy().split('.').next().unwrap().to_string();
    let is_video = |p: &&PathBuf| ["mp4", "mkv", "webm"].contains(&&*p.extension().unwrap().to_string_lossy());
    let mut shortest: Vec<_> = files.iter().filter(is_video).cloned().collect();
    shortest.sort_by_key(|p| (p.metadata().unwrap().len(), p.clone()));
    let chosen: BTreeSet<String> =
        shortest.iter().step_by((shortest.len() / VIDEOS).max(1)).take(VIDEOS).map(|p| stem(p)).collect();
    for file in files.iter().filter(|f| chosen.contains(&stem(f))) {
        let nth = chosen.iter().position(|c| *c == stem(file)).unwrap();
        let to = if nth.is_multiple_of(3) { folder.join("more") } else { to.clone() }.join(file.file_name().unwrap());
        std::fs::hard_link(file, &to).or_else(|_| std::fs::copy(file, &to).map(|_| ())).unwrap();
    }
    to
}

/// A second source, whose rows join the others, and a second sink of another format.
fn widened(text: &str, videos: &Path) -> String {
    let more = videos.with_file_name("more");
    let joined = text.replace("inputs = [\"videos\"]", "inputs = [\"videos\", \"more\"]");
    assert_ne!(joined, text);
    format!(
        "{joined}\n[step.more]\ntype = \"videos\"\npath = {:?}\n\n[step.preview]\ntype = \"jsonl\"\ninputs = [\"captions\"]\n\
         columns = [\"clip_id\", \"start_us\", \"end_us\", \"mean_frame_score\"]\n",
        more.display().to_string()
    )
}

/// Committed tables, and the lines of the plain files.
fn results(chaos: &Chaos) -> BTreeMap<&'static str, Vec<String>> {
    let mut all = tables(&chaos.output);
    let files = std::fs::read_dir(chaos.output.join("preview")).unwrap().map(|e| e.unwrap().path());
    let (data, rest): (Vec<_>, Vec<_>) = files.partition(|p| p.extension().is_some_and(|e| e == "jsonl"));
    assert!(rest.iter().all(|p| p.ends_with("_plan.json")), "left behind: {rest:?}");
    let mut lines: Vec<_> =
        data.iter().flat_map(|p| std::fs::read_to_string(p).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    assert_eq!(lines.len(), all["clips"].len(), "every caption became a clip");
    all.insert("preview", lines);
    all
}

fn chaos(folder: &Path, videos: &Path, name: &str) -> Chaos {
    let output = folder.join(name);
    let pipeline = quickstart(&corpus(), videos, &output, "split_max_items = 1");
    let text = widened(&std::fs::read_to_string(&pipeline).unwrap(), videos);
    assert!(!text.contains("[engine]"), "the settings below would be given twice");
    // Commit after every split, so that every moment of the protocol happens often.
    std::fs::write(&pipeline, format!("{text}\n[engine]\ncommit_interval_seconds = 0\nmax_restarts = 0\n")).unwrap();
    Chaos { pipeline, output }
}

fn command(chaos: &Chaos, args: &[String]) -> Command {
    let mut command = curette();
    command
        .arg("run")
        .arg(&chaos.pipeline)
        .args(["--quiet", "--log", "json", "--log-level", "info,curette_engine::dataflow=debug"])
        .args(args);
    command
}

/// Runs until the end, or until it is killed after `kill_after`. Gives the splits that it opened, and whether it ended well.
fn run(chaos: &Chaos, args: &[String], kill_at: Option<&str>, kill_after: Option<Duration>) -> (Vec<u64>, bool) {
    let mut command = command(chaos, args);
    if let Some(label) = kill_at {
        command.env("CURETTE_KILL_AT", label);
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    command.stdout(Stdio::null()).stderr(log.reopen().unwrap()).process_group(0);
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let over = kill_after.is_some_and(|after| started.elapsed() >= after);
        if over || started.elapsed() > LIMIT {
            // SAFETY: the group is that of the child, which has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            assert!(over, "the run hangs: {}", std::fs::read_to_string(log.path()).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = std::fs::read_to_string(log.path()).unwrap();
    let events = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l.trim_start_matches(|c| c != '{')).ok());
    let opened = events.filter(|e| e["message"] == "Split opened").filter_map(|e| e["split"].as_u64()).collect();
    let fatal = !status.success() && kill_at.is_none() && kill_after.is_none();
    assert!(!fatal, "{status}: {text}");
    (opened, status.success())
}

fn committed(chaos: &Chaos) -> BTreeSet<u64> {
    let plan = curette().arg("plan").arg(&chaos.pipeline).args(["--format", "json", "--no-environment"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    plan["splits"].as_array().unwrap().iter().filter(|s| s["done"] == true).map(|s| s["split"].as_u64().unwrap()).collect()
}

fn assert_nothing_redone(what: &str, before: &BTreeSet<u64>, opened: &[u64]) {
    let redone: Vec<_> = opened.iter().filter(|s| before.contains(s)).collect();
    assert!(redone.is_empty(), "{what}: committed splits were done again: {redone:?}");
    let twice: BTreeSet<_> = opened.iter().collect();
    assert_eq!(twice.len(), opened.len(), "{what}: a split was opened twice in one run");
}

fn workers(n: u64) -> Vec<String> {
    match n % 4 {
        0 => vec!["-w".into(), "1".into()],
        1 => vec!["-w".into(), "2".into()],
        2 => vec!["--processes".into(), "2".into(), "-w".into(), "1".into()],
        _ => vec!["-w".into(), "3".into()],
    }
}

fn undisturbed(folder: &Path, videos: &Path) -> (BTreeMap<&'static str, Vec<String>>, Duration) {
    let chaos = chaos(folder, videos, "undisturbed");
    let started = Instant::now();
    succeed(&mut command(&chaos, &workers(1)));
    (results(&chaos), started.elapsed())
}

#[test]
fn killed_at_random_moments_it_ends_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, mut whole) = undisturbed(dir.path(), &videos);
    let mut kills = 0;
    let mut round = 0;
    // Moments are spread over the whole run by a fixed sequence; a table is killed until it is finished, then the next one is begun.
    while kills < RANDOM_KILLS {
        let chaos = chaos(dir.path(), &videos, &format!("random-{round}"));
        loop {
            let before = if kills == 0 || !chaos.output.exists() { BTreeSet::new() } else { committed(&chaos) };
            let after = whole.mul_f64(((kills * 37 + 11) % 100) as f64 / 100.0);
            let kill = (kills < RANDOM_KILLS).then_some(after);
            let (opened, finished) = run(&chaos, &workers(kills + round), None, kill);
            assert_nothing_redone(&format!("round {round}, kill {kills}"), &before, &opened);
            if finished {
                // The machine is less busy than it was: come earlier, or the same moment would be missed again and again.
                whole = whole.mul_f64(0.8);
                break;
            }
            kills += 1;
        }
        assert_same(&format!("round {round}"), &want, &results(&chaos));
        round += 1;
    }
}

#[test]
fn killed_at_every_labelled_point_it_ends_as_if_nothing_had_happened() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, _) = undisturbed(dir.path(), &videos);
    let points = [
        "split_opened",
        "split_complete",
        "before_shard_finish",
        "after_shard_finish",
        "before_commit",
        "after_commit",
        "between_tables",
    ];
    for (i, point) in points.into_iter().enumerate() {
        let chaos = chaos(dir.path(), &videos, point);
        for pass in [1, 3, 6] {
            let before = if chaos.output.exists() { committed(&chaos) } else { BTreeSet::new() };
            let (opened, finished) = run(&chaos, &workers(i as u64 + pass), Some(&format!("{point}:{pass}")), None);
            assert_nothing_redone(&format!("{point}:{pass}"), &before, &opened);
            assert!(!finished || pass > 1, "{point} was never passed: nothing was killed");
        }
        let before = committed(&chaos);
        let (opened, finished) = run(&chaos, &workers(i as u64 + 1), None, None);
        assert!(finished);
        assert_nothing_redone(point, &before, &opened);
        assert_same(point, &want, &results(&chaos));
    }
}

#[test]
fn a_new_version_of_an_unchanged_plan_is_begun_once_however_often_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, _) = undisturbed(dir.path(), &videos);
    let chaos = chaos(dir.path(), &videos, "undisturbed");
    let generations = || -> BTreeSet<u64> {
        let open = |name: &str| Table::open_existing(name, &chaos.output.join(name).to_string_lossy()).unwrap().unwrap();
        ["clips", "rejects", "errors", "stages"].map(|name| open(name).state().unwrap().generation).into()
    };
    let anew = |n: u64| workers(n).into_iter().chain(["--new-version".to_string()]).collect::<Vec<_>>();
    for (i, point) in
        ["version_begun:1", "version_begun:2", "split_complete:2", "between_tables:3", "split_complete:1"].into_iter().enumerate()
    {
        let (_, finished) = run(&chaos, &anew(i as u64), Some(point), None);
        assert!(!finished, "{point} was never passed: nothing was killed");
        assert!(generations().iter().all(|g| *g <= 1), "{point}: {:?}", generations());
    }
    let (_, finished) = run(&chaos, &anew(2), None, None);
    assert!(finished);
    assert_eq!(generations(), BTreeSet::from([1]));
    assert_same("a new version", &want, &results(&chaos));
    // A local cluster begins one generation more, once: its children do not decide.
    let (opened, _) = run(&chaos, &anew(2), None, None);
    assert_eq!((generations(), opened.is_empty()), (BTreeSet::from([2]), false));
    assert_same("the next version", &want, &results(&chaos));
}

/// Rows of all files of a folder, as a program counts them that knows nothing of the log.
fn rows_of_files(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let parquet = files.filter(|p| p.file_name().unwrap().to_string_lossy().contains(".parquet"));
    parquet
        .map(|p| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(&p).unwrap());
            let reader = reader.unwrap_or_else(|e| panic!("{}: {e}", p.display()));
            reader.metadata().file_metadata().num_rows() as u64
        })
        .sum()
}

#[test]
fn of_two_runs_at_once_the_slower_one_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, _) = undisturbed(dir.path(), &videos);
    let mut losers = 0;
    // Committing all at the end, and after each split.
    for interval in ["60", "0"] {
        let chaos = chaos(dir.path(), &videos, &format!("two-{interval}"));
        let text = std::fs::read_to_string(&chaos.pipeline).unwrap();
        std::fs::write(
            &chaos.pipeline,
            text.replace("commit_interval_seconds = 0", &format!("commit_interval_seconds = {interval}")),
        )
        .unwrap();
        let children: Vec<_> =
            (0..2).map(|_| command(&chaos, &workers(1)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()).collect();
        let ends: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
        for end in &ends {
            let said = String::from_utf8_lossy(&end.stderr);
            match end.status.code() {
                Some(0) => {}
                Some(1) => {
                    assert!(said.contains("another run has committed splits"), "{said}");
                    losers += 1;
                }
                other => panic!("{other:?}: {said}"),
            }
        }
        for name in ["clips", "rejects", "errors", "stages"] {
            let folder = chaos.output.join(name);
            let table = Table::open_existing(name, &folder.to_string_lossy()).unwrap().unwrap();
            assert_eq!(rows_of_files(&folder), table.row_count().unwrap(), "{name}, interval {interval}: {ends:#?}");
        }
        let pending = std::fs::read_dir(chaos.output.join("_curette/pending")).map_or(0, |all| all.count());
        assert_eq!(pending, 0, "interval {interval}");
        // Each may have been faster with another split; then both gave way.
        let (_, finished) = run(&chaos, &workers(1), None, None);
        assert!(finished);
        assert_same(&format!("interval {interval}"), &want, &results(&chaos));
    }
    assert!(losers > 0, "the runs never met");
}

/// Two members of a cluster as two machines would start them; gives the exit code and the log of each.
fn on_hosts(folder: &Path, of: [&Chaos; 2], args: &[&str]) -> [(Option<i32>, String); 2] {
    // The ports are free now; that somebody takes one before the members listen is unlikely, and would be told.
    let ports: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let hosts: String = ports.iter().map(|port| format!("{}\n", port.local_addr().unwrap())).collect();
    let file = folder.join("hosts.txt");
    std::fs::write(&file, hosts).unwrap();
    drop(ports);
    let children = [0, 1].map(|process| {
        let mut command = command(of[process], &workers(0));
        command.arg("--hosts").arg(&file).args(["--process", &process.to_string()]).args(args);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    });
    children.map(|child| {
        let end = child.wait_with_output().unwrap();
        (end.status.code(), String::from_utf8_lossy(&end.stderr).into_owned())
    })
}

#[test]
fn members_on_hosts_agree_on_the_plan_and_on_the_version() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, _) = undisturbed(dir.path(), &videos);
    let all = chaos(dir.path(), &videos, "hosts");
    for generation in 0..2 {
        // The second time everything is done: the first process decides to begin again, and the other one follows.
        let args: &[&str] = if generation == 0 { &[] } else { &["--new-version"] };
        for (code, said) in on_hosts(dir.path(), [&all, &all], args) {
            assert_eq!(code, Some(0), "{said}");
        }
        assert_same("hosts", &want, &results(&all));
        let stages = Table::open_existing("stages", &all.output.join("stages").to_string_lossy()).unwrap().unwrap();
        assert_eq!(stages.state().unwrap().generation, generation);
    }
    let other = chaos(dir.path(), &videos, "other");
    let text = std::fs::read_to_string(&other.pipeline).unwrap();
    std::fs::write(&other.pipeline, text.replace("split_max_items = 1", "split_max_items = 2")).unwrap();
    for (code, said) in on_hosts(dir.path(), [&all, &other], &[]) {
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("their plans differ") && said.contains("give every process the same pipeline file"), "{said}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_an_error_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let chaos = Chaos { pipeline: dir.path().join("small-files.toml"), output: dir.path().join("small-files") };
    let steps = "[step.probe]\ntype = \"probe\"\ninputs = [\"videos\"]\n\n[step.all]\ntype = \"parquet\"\ninputs = [\"probe\"]\n";
    let text = format!(
        "[pipeline]\nname = \"small\"\noutput = {:?}\n\n[step.videos]\ntype = \"videos\"\npath = {:?}\n\n{steps}",
        chaos.output.display().to_string(),
        videos.display().to_string()
    );
    std::fs::write(&chaos.pipeline, text).unwrap();
    let mut limited = command(&chaos, &workers(1));
    // SAFETY: between fork and exec one async-signal-safe call.
    unsafe {
        limited.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 4 << 10, rlim_max: 4 << 10 };
            if libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let end = limited.output().unwrap();
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(1), "{}: {said}", end.status);
    assert!(said.contains("File too large"), "{said}");
}

#[test]
fn a_killed_process_of_a_local_cluster_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let videos = videos(dir.path());
    let (want, whole) = undisturbed(dir.path(), &videos);
    let chaos = chaos(dir.path(), &videos, "one-of-two");
    let text = std::fs::read_to_string(&chaos.pipeline).unwrap();
    std::fs::write(&chaos.pipeline, text.replace("max_restarts = 0", "max_restarts = 3")).unwrap();
    let mut child = command(&chaos, &workers(2)).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap();
    std::thread::sleep(whole / 3);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
    let victim: Option<i32> = children.split_whitespace().next_back().and_then(|p| p.parse().ok());
    let victim = victim.expect("the parent has children a third into the run");
    // SAFETY: the process is a child of our child, which is alive.
    unsafe { libc::kill(victim, libc::SIGKILL) };
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < LIMIT, "the cluster hangs after a process was killed");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
    assert_same("one of two killed", &want, &results(&chaos));
}
