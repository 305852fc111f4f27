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
}
