//! The finished tables, read by four independent readers: deltalake, Polars, DuckDB and datasets, from the environment that the bootstrap makes.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use support::{corpus, curette, quickstart, root, succeed};

#[test]
fn four_readers_see_the_same_rows() {
    let given = std::env::var_os("CURETTE_PYTHON").map(std::path::PathBuf::from);
    let python = given.unwrap_or_else(|| root().join(".cache/venv/bin/python"));
    assert!(python.exists(), "{} is not there: run scripts/bootstrap, which `make test` does first", python.display());
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let corpus = corpus();
    let pipeline = quickstart(&corpus, &corpus.folder.join("videos"), &output, "split_max_items = 9");
    succeed(curette().arg("run").arg(pipeline).args(["--quiet", "-w", "2"]));
    let said = succeed(Command::new(python).arg(root().join("tests/readers/read_tables.py")).arg(&output));
    assert!(String::from_utf8_lossy(&said.stdout).contains("all readers agree"));

    // The report of the same tables: pictures of kept and dropped clips, distributions, and no script.
    let page = dir.path().join("report.html");
    succeed(curette().arg("report").arg(output.join("clips")).args(["--examples", "2", "--out"]).arg(&page));
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.matches("src=\"data:image/jpeg;base64,").count() >= 6, "kept and dropped clips have pictures");
    for wanted in [
        "Dropped by ",
        "<h3>Duration</h3>",
        "<h3>Caption</h3>",
        "<h3>Resolution</h3>",
        "nothing of: aesthetic score",
        "curette/builtin-1",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    assert!(!html.contains("<script") && html.len() < 4 << 20, "{} bytes", html.len());
}
