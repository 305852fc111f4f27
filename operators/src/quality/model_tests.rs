//! What tests of operators with models share: tiny graphs with random weights and what onnxruntime says of them.
//!
//! Made by `scripts/goldens/quality_models.py`. ONNX Runtime is found as in production (`ORT_DYLIB_PATH` and so on); without it the tests say so on one line and
//! pass, except where `CI` is set.

use std::path::PathBuf;

use curette_models::{ModelRef, Models, Settings};

use crate::media::Frame;

/// One of the tiny graphs.
pub fn model(name: &str) -> ModelRef {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quality-models");
    ModelRef::Onnx(folder.join(format!("{name}.onnx")))
}

/// The golden scores, if ONNX Runtime is on this machine.
pub fn golden() -> Option<serde_json::Value> {
    match Models::new(Settings::from_environment()).library() {
        Ok(_) => Some(crate::pixels::goldens::read("quality_models.json")),
        Err(e) if std::env::var_os("CI").is_some() => panic!("{}", e.full()),
        Err(e) => {
            eprintln!("skipped: {}", e.full());
            None
        }
    }
}

/// A picture that Python draws alike (`drawn` in `scripts/goldens/dover.py`).
pub fn drawn(width: u32, height: u32, t: u32) -> Frame {
    let value = |i: u32| {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        (x * (3 + c) + y * (7 - c) + x * y / 16 + t * 11) as u8
    };
    Frame { pts_ns: 0, width, height, rgb: (0..width * height * 3).map(value).collect() }
}
