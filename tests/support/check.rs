//! Pipelines of the repository, checked without what `make demo` makes. A module of its own: `support` is for tests that run things.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

use curette_engine::check::{Options, check};
use curette_engine::graph::Graph;
use curette_heads::{Encoder, Head};
use curette_operators::frames::descriptor::{DIMENSION, NAME};
use curette_operators::registry::ALL;

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file `pipelines/*.toml`, sorted.
pub fn pipelines() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("pipelines")).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}

/// Checks a pipeline file. Heads that `make demo` trains below `out/` need not be there: a head of zeros stands for them. The error is every mistake in a line.
pub fn checked(file: &Path) -> Result<Graph, String> {
    let folder = tempfile::tempdir().unwrap();
    let zeros = folder.path().join("head.safetensors");
    std::fs::write(&zeros, head().to_bytes()).unwrap();
    let is_trained = |value: &str| value.starts_with("../out/") && value.ends_with(".safetensors");
    let text = std::fs::read_to_string(file).unwrap();
    let text: Vec<&str> = text.split('"').map(|part| if is_trained(part) { zeros.to_str().unwrap() } else { part }).collect();
    let options = Options { environment: false, variables: &|_| None, ..Options::default() };
    check(file, &text.join("\""), ALL, &options)
        .map_err(|found| found.iter().map(|d| format!("{}: {}\n", d.code.as_str(), d.message)).collect())
}

fn head() -> Head {
    Head::linear(vec![0.0; DIMENSION], 0.0, Encoder::built_in(NAME), ["no".into(), "yes".into()])
}
