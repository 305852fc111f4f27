//! all-MiniLM-L6-v2 with its real weights: the vectors of sentence-transformers, from the graph that scripts/convert/bert_without_torch.py writes.
//!
//! scripts/bootstrap fetches the weights; goldens by scripts/goldens/minilm.py.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::models;
use curette_models::{ErrorKind, ModelRef};

#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

/// The real manifest beside the fetched files; `None` (said on one line) only on a machine that may lack them.
fn minilm(folder: &Path) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache = std::env::var_os("CURETTE_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    let home = cache.join("models/minilm");
    if !home.join("all-minilm-l6-v2.onnx").is_file() {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{} is missing: run scripts/bootstrap", home.display());
        eprintln!("skipped: all-MiniLM-L6-v2 is not at {} (scripts/bootstrap fetches it)", home.display());
        return None;
    }
    for file in ["all-minilm-l6-v2.onnx", "tokenizer.json"] {
        std::os::unix::fs::symlink(home.canonicalize().unwrap().join(file), folder.join(file)).unwrap();
    }
    let manifest = folder.join("minilm.toml");
    std::fs::copy(root.join("datasets/models/all-minilm-l6-v2.toml"), &manifest).unwrap();
    Some(manifest)
}

#[test]
fn vectors_are_those_of_sentence_transformers() {
    let Some((folder, models)) = models() else { return };
    let Some(manifest) = minilm(folder.path()) else { return };
    let encoder = models.text_encoder(&ModelRef::Manifest(manifest)).unwrap();
    let golden: Golden = serde_json::from_str(include_str!("golden/minilm.json")).unwrap();
    let texts: Vec<&str> = golden.texts.iter().map(String::as_str).collect();
    let vectors = encoder.embed(&texts).unwrap();
    assert_eq!((vectors.len(), encoder.width()), (golden.vectors.len(), 384));
    for ((text, got), want) in texts.iter().zip(&vectors).zip(&golden.vectors) {
        let difference = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0f32, f32::max);
        assert!(difference <= 1e-5, "{}: {difference:e}", &text[..text.len().min(40)]);
    }
}

#[test]
fn the_tokenizer_of_another_model_is_refused() {
    let Some((folder, models)) = models() else { return };
    let Some(manifest) = minilm(folder.path()) else { return };
    // 30,522 tokens on the graph of a model that knows 40.
    std::fs::copy(common::fixtures().join("text.onnx"), folder.path().join("tiny.onnx")).unwrap();
    std::fs::write(&manifest, common::text_manifest("tiny.onnx", "tokenizer.json")).unwrap();
    let error = models.text_encoder(&ModelRef::Manifest(manifest)).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Tokenizer, "{error}");
}
