//! The quickstart over real and broken video files: each ends as clips, rejects or a typed error; none hangs, crashes or disappears.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use support::{corpus, curette, media, quickstart, rows, succeed};

#[test]
fn every_real_file_ends_somewhere() {
    let Some(folder) = media() else { return };
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    // A pattern takes everything that it matches: also what is no video at all.
    let pipeline = quickstart(&corpus(), &folder.join("*"), &output, "max_error_rate = 1.0");
    succeed(curette().arg("run").arg(pipeline).args(["--quiet", "-w", "2"]));
    let field = |row: &str, name: &str| {
        row.split(" | ").find_map(|c| c.strip_prefix(&format!("{name}="))).unwrap_or_default().to_string()
    };
    let mut seen = BTreeSet::new();
    for (table, id) in [("clips", "video_id"), ("rejects", "root_id"), ("errors", "root_id")] {
        // An error that was kept is not the end of a row.
        let ends = rows(&output.join(table)).into_iter().filter(|r| table != "errors" || field(r, "kept") == "false");
        for row in ends {
            seen.insert(field(&row, id));
            if table == "errors" {
                let code = field(&row, "code");
                assert!(!code.is_empty() && !["panic", "unknown", "internal"].contains(&code.as_str()), "{row}");
            }
        }
    }
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "files that disappeared");
}
