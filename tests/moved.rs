//! A corpus that was moved: its addresses are in the table, so old and new ones must not mix there.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

const PIPELINE: &str = r#"
[pipeline]
name = "moved"
output = "out"
split_max_items = 1
[step.videos]
type = "videos"
path = "${CORPUS}"
[step.list]
type = "parquet"
inputs = ["videos"]
"#;

fn run(folder: &Path, corpus: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_curette"));
    command.current_dir(folder).env("CORPUS", corpus).env_remove("CURETTE_LOG").env_remove("CURETTE_KILL_AT");
    command.args(["run", "p.toml", "-w", "1"]).args(args).output().unwrap()
}

#[test]
fn a_moved_corpus_is_refused_with_the_reason_and_another_spelling_is_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("old")).unwrap();
    std::fs::write(dir.path().join("old/a.mp4"), "v").unwrap();
    std::fs::write(dir.path().join("p.toml"), PIPELINE).unwrap();
    let text =
        |output: &Output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));

    let first = run(dir.path(), "old", &[]);
    assert!(first.status.success(), "{}", text(&first));
    let absolute = format!("{}/old/*.mp4", dir.path().display());
    let again = run(dir.path(), &absolute, &[]);
    assert!(again.status.success() && text(&again).contains("1 were done before"), "{}", text(&again));

    std::fs::rename(dir.path().join("old"), dir.path().join("new")).unwrap();
    let refused = run(dir.path(), "new", &[]);
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(text(&refused).contains("1 input(s) changed: a.mp4"), "{}", text(&refused));
    let renewed = run(dir.path(), "new", &["--new-version"]);
    assert!(renewed.status.success(), "{}", text(&renewed));
}
