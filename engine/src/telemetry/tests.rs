//! Logs and progress of a whole process, seen from outside: this test binary in a role.

use std::process::{Command, Output};
use std::time::Duration;

use super::{LogFormat, LogOptions, Progress, ProgressMode, Snapshot, TelemetryError, Total, init_logs};

const ROLE: &str = "CURETTE_TEST_ROLE";

#[test]
#[ignore = "a program that other tests start"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (format, mode) = match role.as_str() {
        "json" => (LogFormat::Json, ProgressMode::Auto),
        "json-panic" => (LogFormat::Json, ProgressMode::Off),
        "human" => (LogFormat::Human, ProgressMode::Auto),
        "human-bar" => (LogFormat::Human, ProgressMode::Bar),
        other => panic!("no role {other}"),
    };
    let options = LogOptions { format, filter: Some("debug".into()), color: true };
    init_logs(&options).unwrap();
    assert!(matches!(init_logs(&options), Err(TelemetryError::AlreadySet("logs"))));
    if role == "json-panic" {
        crate::cluster::abort_on_panic();
        panic!("boom \"quoted\"");
    }
    let kept = vec![("clips".to_string(), 2)];
    let seen = Snapshot { splits: 1, items: 3, work: Some(4.5), to_do: 6, kept, rejected: 1, errors: 0 };
    let progress = Progress::start_every(Duration::from_millis(100), Total { splits: 2, items: 6 }, mode, move || seen.clone());
    tracing::info!(step = "probe", "Opened a split");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..100).for_each(|i| tracing::debug!(thread, i, "A line of its own")));
        }
    });
    std::thread::sleep(Duration::from_millis(300));
    progress.finish();
    std::process::exit(0)
}

fn run(role: &str) -> (Output, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["telemetry::tests::role", "--exact", "--ignored", "--nocapture"]).env(ROLE, role).env_remove("CURETTE_LOG");
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!stdout.contains("split") && !stdout.contains("boom"), "stdout belongs to data: {stdout}");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, stderr)
}

#[test]
fn json_logs_are_json_to_the_last_line_with_progress_in_them() {
    let (output, text) = run("json");
    assert!(output.status.success(), "{text}");
    let events: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events.iter().filter(|e| e["message"] == "A line of its own").count(), 400);
    let progress = events.iter().find(|e| e["message"] == "Progress").unwrap();
    assert_eq!((&progress["items"], &progress["items_total"], &progress["rejected"]), (&3.into(), &6.into(), &1.into()));
    assert!(events.iter().any(|e| e["step"] == "probe" && e["level"] == "INFO"));
}

#[test]
fn a_panic_is_a_json_event_too() {
    let (output, text) = run("json-panic");
    assert_eq!(output.status.code(), Some(70));
    let events: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let message = events.last().unwrap()["message"].as_str().unwrap();
    assert!(message.contains("boom \"quoted\"") && message.contains("telemetry/tests.rs:"), "{message}");
}

#[test]
fn human_logs_have_no_colour_codes_in_a_file() {
    for role in ["human", "human-bar"] {
        let (output, text) = run(role);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
        assert_eq!(text.lines().filter(|l| l.contains("A line of its own thread=")).count(), 400, "whole lines");
        let updates = text.lines().filter(|l| l.starts_with("3/6 inputs, 1/2 splits, 2 in clips, 1 rejected, 0.0/s")).count();
        assert_eq!(updates > 0, role == "human", "lines where there is no terminal, and only there: {text}");
        assert!(text.lines().last().unwrap().starts_with("3/6 inputs, 1/2 splits, 2 in clips, 1 rejected in "), "{text}");
    }
}
