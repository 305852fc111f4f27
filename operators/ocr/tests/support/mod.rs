//! The real models on ONNX Runtime, for tests and the example. Both come from `scripts/bootstrap`; without them a test says so on one line and
//! passes, but fails where `CI` is set.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

use curette_ocr::{Dictionary, Infer, InferError, Reader, Settings};
use ndarray::{ArrayD, ArrayView4};
use ort::environment::Environment;
use ort::session::Session;
use ort::value::TensorRef;

/// A session on one thread.
pub struct Model(Session);

impl Infer for Model {
    fn run(&mut self, input: ArrayView4<f32>) -> Result<ArrayD<f32>, InferError> {
        let outputs = self.0.run(ort::inputs![TensorRef::from_array_view(input)?])?;
        Ok(outputs[0].try_extract_array::<f32>()?.to_owned())
    }
}

impl Model {
    /// Opens a model file.
    pub fn open(environment: &Environment, path: &Path) -> Model {
        let mut builder = Session::builder(environment).unwrap();
        builder = builder.with_intra_threads(1).unwrap_or_else(|e| panic!("{e}"));
        builder = builder.with_intra_op_spinning(false).unwrap_or_else(|e| panic!("{e}"));
        Model(builder.commit_from_file(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
    }

    /// The dictionary in the model's metadata.
    pub fn dictionary(&self) -> Dictionary {
        Dictionary::from_lines(&self.0.metadata().unwrap().custom("character").expect("no `character` in the model's metadata"))
    }
}

fn cache() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::var_os("CURETTE_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from)
}

fn library() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache().join("onnxruntime/libonnxruntime.so"), PathBuf::from)
}

/// The first file that is not there is said, or fails where `CI` is set.
fn missing(files: &[&Path]) -> bool {
    let missing = files.iter().find(|f| !f.exists());
    if let Some(missing) = missing {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run scripts/bootstrap", missing.display());
        eprintln!("skipped: no {} (run scripts/bootstrap)", missing.display());
    }
    missing.is_some()
}

/// ONNX Runtime, if this machine has it.
pub fn environment() -> Option<Environment> {
    let library = library();
    if missing(&[&library]) {
        return None;
    }
    let environment = ort::init_from(&library).unwrap_or_else(|e| panic!("{}: {e:?}", library.display()));
    Some(environment.with_telemetry(false).build().unwrap())
}

/// Detector and recogniser files, and the runtime's library, if this machine has them.
pub fn files() -> Option<(PathBuf, PathBuf, PathBuf)> {
    let models = cache().join("models/rapidocr");
    let files = (models.join("ch_PP-OCRv4_det_infer.onnx"), models.join("ch_PP-OCRv4_rec_infer.onnx"), library());
    if missing(&[&files.0, &files.1, &files.2]) {
        return None;
    }
    Some(files)
}

/// A reader on the real models.
pub fn reader(settings: Settings) -> Option<Reader<Model, Model>> {
    let (detector, recogniser, _) = files()?;
    let environment = environment()?;
    let (detector, recogniser) = (Model::open(&environment, &detector), Model::open(&environment, &recogniser));
    let dictionary = recogniser.dictionary();
    Some(Reader::new(detector, recogniser, dictionary, settings))
}
