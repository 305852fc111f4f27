//! The verbs `models` and `doctor` on the real binary, with tiny made-up models.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::{curette, root};

const MANIFEST: &str = r#"name = "tiny"
version = "1"
title = "made-up weights"
kind = "onnx"
files = [{ role = "graph", path = "tiny.onnx" }]
[origin]
licence = "CC-BY-NC-4.0"
commercial_use = "no"
obtain = "make it with make.py"
[contract]
inputs = [{ name = "pixel_values", dtype = "f32", shape = ["batch", 3, 224, 224] }]
outputs = [{ name = "image_embeds", dtype = "f32", shape = ["batch", 16] }]
"#;

/// A folder with a manifest and an empty store.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Machine {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("manifests")).unwrap();
        Machine(folder)
    }

    fn with_manifest() -> Machine {
        let machine = Machine::new();
        std::fs::write(machine.0.path().join("manifests/tiny.toml"), MANIFEST).unwrap();
        machine
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = curette();
        command.env("CURETTE_MODELS", self.0.path().join("manifests")).env("CURETTE_MODEL_CACHE", self.0.path().join("cache"));
        command.args(args).output().unwrap()
    }
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn graph() -> String {
    root().join("operators/models/tests/fixtures/image.onnx").display().to_string()
}

fn library() -> Option<PathBuf> {
    let cache = std::env::var_os("CURETTE_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    let path = std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache.join("onnxruntime/libonnxruntime.so"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var_os("CI").is_some_and(|v| v == "true") || std::env::var_os("CURETTE_REQUIRE_ORT").is_some();
    assert!(!required, "ONNX Runtime is not at {}: run scripts/bootstrap", path.display());
    eprintln!("skipped: ONNX Runtime is not at {} (scripts/bootstrap fetches it)", path.display());
    None
}

#[test]
fn a_model_comes_in_is_tried_and_goes_to_another_machine() {
    let here = Machine::with_manifest();
    let (code, out, _) = text(&here.run(&["models", "list"]));
    assert_eq!(code, 0);
    assert!(out.contains("CC-BY-NC-4.0 (non-commercial)") && out.contains("clip-vit-b32"), "{out}");
    assert!(out.contains("make it with make.py; then run `curette models add tiny graph=PATH --accept-licence`"), "{out}");

    let (code, _, err) = text(&here.run(&["models", "add", "tiny", &graph()]));
    assert_eq!(code, 2);
    assert!(err.contains("forbids commercial use") && err.contains("--accept-licence"), "{err}");
    let (code, out, err) = text(&here.run(&["models", "add", "tiny", &format!("graph={}", graph()), "--accept-licence"]));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("tiny  graph"), "{out}");
    assert!(here.0.path().join("manifests/models.lock").is_file());

    let tar = here.0.path().join("m.tar").display().to_string();
    assert_eq!(text(&here.run(&["models", "export", "tiny", "--to", &tar])).0, 0);
    let there = Machine::new();
    assert_eq!(text(&there.run(&["models", "import", &tar])).0, 2, "the licence must be accepted there, too");
    assert_eq!(text(&there.run(&["models", "import", &tar, "--accept-licence"])).0, 0);
    let list: Value = serde_json::from_slice(&there.run(&["models", "list", "--format", "json"]).stdout).unwrap();
    let tiny = list.as_array().unwrap().iter().find(|m| m["name"] == "tiny").unwrap();
    assert_eq!(tiny["state"], "present");

    let Some(library) = library() else { return };
    let library = library.display().to_string();
    let (code, out, err) = text(&there.run(&["models", "verify", "--onnxruntime", &library]));
    assert_eq!((code, out.as_str()), (0, "tiny: fine\n"), "{err}");
    let blob = std::fs::read_dir(there.0.path().join("cache/blobs")).unwrap().map(|e| e.unwrap().path());
    let blob = blob.into_iter().find(|p| p.extension().is_none()).unwrap();
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let (code, out, _) = text(&there.run(&["models", "verify", "tiny", "--onnxruntime", &library]));
    assert_eq!(code, 2);
    assert!(out.contains("is not the file of model `tiny`"), "{out}");
}

#[test]
fn doctor_tells_what_is_missing_and_fails_without_a_library() {
    let machine = Machine::with_manifest();
    let (code, out, _) = text(&machine.run(&["doctor", "--onnxruntime", "/nowhere/lib.so"]));
    assert_eq!(code, 2);
    assert!(out.contains("PROBLEM: ONNX Runtime is not at /nowhere/lib.so") && out.contains("scripts/bootstrap"), "{out}");
    let Some(library) = library() else { return };
    let output = machine.run(&["doctor", "--format", "json", "--onnxruntime", &library.display().to_string()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(report["onnxruntime"]["version"].as_str().unwrap().starts_with("1."), "{report}");
    assert!(report["onnxruntime"]["providers"].as_array().unwrap().contains(&"cpu".into()), "{report}");
    assert!(Path::new(report["store"].as_str().unwrap()).starts_with(machine.0.path()));
}
