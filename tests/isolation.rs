//! Decoder processes with the real binary: a crash, a kill or a hang of one costs one row, and nothing is left behind.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{corpus, curette, media, quickstart, rows, succeed};

fn field(row: &str, name: &str) -> String {
    row.split(" | ").find_map(|c| c.strip_prefix(&format!("{name}="))).unwrap_or_default().to_string()
}

/// Code and message of each video that ended as an error.
fn errors(output: &Path) -> BTreeMap<String, (String, String)> {
    let rows = rows(&output.join("errors"));
    rows.iter().map(|row| (field(row, "root_id"), (field(row, "code"), field(row, "message")))).collect()
}

/// Probes the corpus; `engine` are further settings.
fn pipeline(videos: &Path, output: &Path, engine: &str) -> std::path::PathBuf {
    let text = format!(
        "[pipeline]\nname = \"isolation\"\noutput = {:?}\nmax_error_rate = 1.0\n[engine]\n{engine}\n\
         [step.videos]\ntype = \"videos\"\npath = {:?}\n[step.probe]\ntype = \"probe\"\ninputs = [\"videos\"]\n\
         [step.embed]\ntype = \"frame_embed\"\ninputs = [\"probe\"]\n\
         [step.clips]\ntype = \"parquet\"\ninputs = [\"embed\"]\n",
        output.display().to_string(),
        videos.display().to_string(),
    );
    let file = output.with_extension("toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn run(pipeline: &Path) -> Command {
    let mut command = curette();
    command.arg("run").arg(pipeline).args(["--quiet", "-w", "2"]);
    command
}

/// Processes whose parent is `parent`, with the command that they run.
fn children(parent: u32) -> Vec<(i32, String)> {
    let of = |entry: std::fs::DirEntry| {
        let id: i32 = entry.file_name().to_str()?.parse().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let ours = status.lines().any(|l| l.strip_prefix("PPid:").is_some_and(|p| p.trim() == parent.to_string()));
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        ours.then_some((id, command))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|e| of(e.ok()?)).collect()
}

fn wait_until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_whole_run_in_child_processes_is_the_same_run() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = corpus();
    let made = |name: &str, engine: &str| {
        let output = dir.path().join(name);
        let file = quickstart(&corpus, &corpus.folder.join("videos"), &output, "max_error_rate = 1.0");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n[engine]\n{engine}\n")).unwrap();
        succeed(&mut run(&file));
        ["clips", "rejects", "errors"].map(|table| rows(&output.join(table)))
    };
    let plain = made("plain", "reuse = false");
    assert!(plain.iter().all(|table| !table.is_empty()));
    let isolated = made("isolated", "reuse = false\ndecoder_processes = 2");
    for (plain, isolated) in plain.iter().zip(&isolated) {
        assert_eq!(plain, isolated);
    }
}

#[test]
fn a_crash_costs_one_row_and_names_its_signal() {
    let dir = tempfile::tempdir().unwrap();
    let videos = corpus().folder.join("videos");
    let plain = dir.path().join("plain");
    succeed(&mut run(&pipeline(&videos, &plain, "")));
    let good: Vec<String> = rows(&plain.join("clips")).iter().map(|row| field(row, "video_id")).collect();
    let victim = good.first().unwrap().clone();
    for (fault, says) in [("segv", "SIGSEGV"), ("abort", "SIGABRT"), ("hang", "within 2 s (decoder_task_seconds)")] {
        let output = dir.path().join(fault);
        let seconds = if fault == "hang" { "decoder_task_seconds = 2" } else { "" };
        let file = pipeline(&videos, &output, &format!("decoder_processes = 2\n{seconds}"));
        succeed(run(&file).env("CURETTE_DECODER_FAULT", format!("{victim}={fault}")));
        let mut errors_expected = errors(&plain);
        let errors = errors(&output);
        let (code, message) = &errors[&victim];
        assert_eq!(code, if fault == "hang" { "decoder_hung" } else { "decoder_crashed" });
        assert!(message.contains(says) && message.contains("probe"), "{message}");
        assert!(message.contains("the last of 2 attempts"), "{message}");
        errors_expected.insert(victim.clone(), (code.clone(), message.clone()));
        let codes =
            |of: &BTreeMap<String, (String, String)>| of.iter().map(|(k, v)| (k.clone(), v.0.clone())).collect::<Vec<_>>();
        assert_eq!(codes(&errors), codes(&errors_expected), "{fault}: no other row is touched");
        let kept: Vec<String> = rows(&output.join("clips")).iter().map(|row| field(row, "video_id")).collect();
        assert_eq!(kept, good[1..], "{fault}");
    }
}

#[test]
fn a_row_that_kills_or_hangs_whole_processes_ends_as_an_error_when_someone_watches_them() {
    let dir = tempfile::tempdir().unwrap();
    let videos = dir.path().join("in");
    std::fs::create_dir(&videos).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(corpus().folder.join("videos")).unwrap().map(|e| e.unwrap().path()).collect();
    names.retain(|p| p.extension().is_some_and(|e| e == "mp4"));
    names.sort_by_key(|p| (p.metadata().unwrap().len(), p.clone()));
    for path in names.iter().take(4) {
        std::fs::copy(path, videos.join(path.file_name().unwrap())).unwrap();
    }
    let plain = dir.path().join("plain");
    succeed(&mut run(&pipeline(&videos, &plain, "")));
    let good: Vec<String> = rows(&plain.join("clips")).iter().map(|row| field(row, "video_id")).collect();
    let victim = good.first().unwrap().clone();
    let hang = "decoder_task_seconds = 2\ndecoder_attempts = 1";
    for (fault, limits, code, says) in
        [("segv", "", "decoder_crashed", "signal 11 (SIGSEGV)"), ("hang", hang, "decoder_hung", "within 2 s")]
    {
        let output = dir.path().join(format!("whole-{fault}"));
        let file = pipeline(&videos, &output, &format!("max_restarts = 2\nrestart_pause_seconds = 0\n{limits}"));
        let mut command = run(&file);
        let end = succeed(command.args(["--processes", "1"]).env("CURETTE_DECODER_FAULT", format!("{victim}={fault}")));
        let said = String::from_utf8_lossy(&end.stderr);
        assert!(said.contains("restart 1 of at most 2") && said.contains("decoding in processes of its own"), "{said}");
        let found = &errors(&output)[&victim];
        assert!(found.0 == code && found.1.contains(says), "{found:?}");
        let kept: Vec<String> = rows(&output.join("clips")).iter().map(|row| field(row, "video_id")).collect();
        assert_eq!(kept, good[1..], "{fault}: the neighbours are unharmed");
    }
}

#[cfg(target_os = "linux")]
fn killed_in_the_middle(videos: &Path, output: &Path) -> (Child, i32) {
    let file = pipeline(videos, output, "decoder_processes = 1\ndecoder_attempts = 1");
    let run =
        run(&file).env("CURETTE_DECODER_FAULT", "bunny-480p=hang").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let id = run.id();
    let child = wait_until("a decoder process", || {
        let all = children(id);
        assert!(all.len() <= 1, "more than one child: {all:?}");
        all.into_iter().find(|(_, command)| command.contains("decoder-process")).map(|(child, _)| child)
    });
    // At work on the video that does not end.
    std::thread::sleep(Duration::from_secs(3));
    (run, child)
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_child_costs_its_row_and_a_killed_run_leaves_no_child() {
    let Some(folder) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let videos = dir.path().join("in");
    std::fs::create_dir(&videos).unwrap();
    for name in ["bunny-480p.mp4", "h264-10bit-200p.mp4"] {
        std::fs::copy(folder.join(name), videos.join(name)).unwrap();
    }
    let output = dir.path().join("killed");
    let (mut run, child) = killed_in_the_middle(&videos, &output);
    // SAFETY: sends a signal to a process that this test has started.
    assert_eq!(unsafe { libc::kill(child, libc::SIGKILL) }, 0);
    assert!(run.wait().unwrap().success());
    let errors = errors(&output);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let (code, message) = &errors["bunny-480p.mp4"];
    assert!(code == "decoder_crashed" && message.contains("SIGKILL"), "{code}: {message}");
    assert_eq!(rows(&output.join("clips")).len(), 1);
    // The parent dies: so does its child, wherever it is.
    let (mut run, child) = killed_in_the_middle(&videos, &dir.path().join("orphan"));
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the end of the child", || (!Path::new(&format!("/proc/{child}")).exists()).then_some(()));
}
