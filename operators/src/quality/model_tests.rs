//! What tests of operators with models share: tiny graphs with random weights and what onnxruntime says of them.
//!
//! Made by `scripts/goldens/quality_models.py`. ONNX Runtime is where `scripts/bootstrap` puts it, or where `ORT_DYLIB_PATH` says; without it the tests say so on one
//! line and pass, except where `CI` is set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use curette_models::{Models, Settings};

use crate::media::Frame;
use crate::media::tests::Bench;

/// Golden scores, and a process that knows where ONNX Runtime is.
pub struct Goldens {
    /// What onnxruntime says.
    pub golden: serde_json::Value,
    /// The process.
    pub bench: Bench,
}

impl Goldens {
    /// Its models.
    pub fn models(&self) -> Arc<Models> {
        crate::models::of(&self.bench.resources)
    }
}

/// The folder of the tiny models.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quality-models")
}

/// Where ONNX Runtime is; `None` (said on one line) without it.
pub fn library() -> Option<PathBuf> {
    let cache =
        std::env::var_os("CURETTE_CACHE").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache"), PathBuf::from);
    let library = std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache.join("onnxruntime/libonnxruntime.so"), PathBuf::from);
    if !library.is_file() {
        assert!(std::env::var_os("CI").is_none(), "ONNX Runtime is not at {}: run scripts/bootstrap", library.display());
        eprintln!("skipped: ONNX Runtime is not at {} (scripts/bootstrap fetches it)", library.display());
        return None;
    }
    Some(library)
}

/// See [`library`].
pub fn goldens() -> Option<Goldens> {
    let library = library()?;
    let bench = Bench::new();
    let settings = Settings { onnxruntime: Some(library), ..Settings::from_environment() };
    bench.resources.get(|| Models::new(settings));
    Some(Goldens { golden: crate::pixels::goldens::read("quality_models.json"), bench })
}

/// A picture that Python draws alike (`drawn` in `scripts/goldens/dover.py`).
pub fn drawn(width: u32, height: u32, t: u32) -> Frame {
    let value = |i: u32| {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        (x * (3 + c) + y * (7 - c) + x * y / 16 + t * 11) as u8
    };
    Frame { pts_ns: 0, width, height, rgb: (0..width * height * 3).map(value).collect() }
}
