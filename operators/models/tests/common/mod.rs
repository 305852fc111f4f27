//! Fixtures and the search for ONNX Runtime.

#![allow(dead_code, clippy::unwrap_used)]

pub mod pillow;

use std::path::{Path, PathBuf};

use curette_models::{Models, RunSettings, Settings};

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Where scripts/bootstrap puts the library, unless `ORT_DYLIB_PATH` names another. `None` (said on one line) only on a machine that may lack it.
pub fn library() -> Option<PathBuf> {
    let cache = std::env::var_os("CURETTE_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache"), PathBuf::from);
    let path = std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache.join("onnxruntime/libonnxruntime.so"), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var_os("CI").is_some_and(|v| v == "true") || std::env::var_os("CURETTE_REQUIRE_ORT").is_some();
    assert!(!required, "ONNX Runtime is not at {}: run scripts/bootstrap", path.display());
    eprintln!("skipped: ONNX Runtime is not at {} (scripts/bootstrap fetches it)", path.display());
    None
}

/// Settings that touch nothing but `folder`.
pub fn settings(folder: &Path, library: Option<PathBuf>) -> Settings {
    Settings {
        onnxruntime: library,
        manifests: Some(folder.join("manifests")),
        cache: folder.join("cache"),
        run: RunSettings { replicas: 2, ..RunSettings::default() },
    }
}

/// A process with an empty folder, or `None` without a library.
pub fn models() -> Option<(tempfile::TempDir, Models)> {
    let library = library()?;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("manifests")).unwrap();
    let models = Models::new(settings(folder.path(), Some(library)));
    Some((folder, models))
}

/// Manifest of the text fixture; `graph` and `tokenizer` name the files.
pub fn text_manifest(graph: &str, tokenizer: &str) -> String {
    format!(
        r#"name = "tiny-text"
version = "1"
title = "made-up weights"
kind = "onnx"
files = [{{ role = "graph", path = "{graph}" }}, {{ role = "tokenizer", path = "{tokenizer}" }}]
[origin]
licence = "CC0-1.0"
commercial_use = "yes"
[contract]
inputs = [
  {{ name = "input_ids", dtype = "i64", shape = ["batch", "seq"] }},
  {{ name = "attention_mask", dtype = "i64", shape = ["batch", "seq"] }},
]
outputs = [{{ name = "embedding", dtype = "f32", shape = ["batch", 16] }}]
[tokenizer]
max_length = 12
"#
    )
}

/// Manifest of the image fixture; `graph` names the file.
pub fn image_manifest(graph: &str) -> String {
    format!(
        r#"name = "tiny-image"
version = "1"
title = "made-up weights"
kind = "onnx"
files = [{{ role = "graph", path = "{graph}" }}]
[origin]
licence = "CC0-1.0"
commercial_use = "yes"
[contract]
inputs = [{{ name = "pixel_values", dtype = "f32", shape = ["batch", 3, 224, 224] }}]
outputs = [{{ name = "image_embeds", dtype = "f32", shape = ["batch", 16] }}]
[preprocessing]
preset = "clip-224"
"#
    )
}

/// Copies fixtures into a folder beside a manifest and gives the manifest's path.
pub fn place(folder: &Path, manifest: &str, files: &[&str]) -> PathBuf {
    for file in files {
        std::fs::copy(fixtures().join(file), folder.join(file)).unwrap();
    }
    let path = folder.join("model.toml");
    std::fs::write(&path, manifest).unwrap();
    path
}

/// Pixels, width, height of a PNG fixture.
pub fn picture(name: &str) -> (Vec<u8>, u32, u32) {
    let image = image::open(fixtures().join(name)).unwrap().to_rgb8();
    let (width, height) = image.dimensions();
    (image.into_raw(), width, height)
}

pub fn close(a: &[f32], b: &[f32], within: f32) {
    assert_eq!(a.len(), b.len());
    for (x, y) in a.iter().zip(b) {
        assert!((x - y).abs() <= within, "{x} and {y} differ by more than {within}");
    }
}
