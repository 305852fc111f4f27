//! The models of `subtitles`: found, held against each other, and run.
//!
//! What can go wrong: a detector in place of a recogniser, or a dictionary of another recogniser. Both are seen from the graphs' ports before the
//! first row; what a graph leaves open is seen at its first output and then ends the run, because every row would fail alike.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use curette_engine::operator::OperatorError;
use curette_engine::verdict::Problem;
use curette_models::{FileRole, Model, ModelError, ModelRef, Models, Tensor};
use curette_ocr::{Dictionary, Infer, InferError, OcrError};
use ndarray::{ArrayD, ArrayView4};

use super::kinds::{self, Family, Role};
use crate::media::Frame;
use crate::models;
use crate::models::identity_of;

/// Detector, recogniser and dictionary.
pub struct OcrModels {
    detector: Arc<Model>,
    recogniser: Arc<Model>,
    dictionary: Dictionary,
}

const NO_DICTIONARY: &str =
    "name a file in the key `dictionary`: one character a line, or `character_list: '...'` for a model of EasyOCR";

const UNFIT: &str = "name models of PP-OCR, or of EasyOCR by manifests with `preset = \"craft\"` and \
     `preset = \"easyocr-rec\"` (a bare .onnx file is taken for PP-OCR's), and the recogniser's own dictionary";

/// What a failed reading means.
pub enum Failure {
    /// This row cannot be read.
    Row(Problem),
    /// No row can.
    Run(OperatorError),
}

impl OcrModels {
    /// Opens both models. The dictionary: the named file, else the recogniser's dictionary file, else its metadata.
    pub fn open(
        store: &Models,
        detector: &ModelRef,
        recogniser: &ModelRef,
        dictionary: Option<&Path>,
    ) -> Result<Self, OperatorError> {
        let detector = store.open_default(detector).map_err(models::broken)?;
        let located = store.find(recogniser).map_err(models::broken)?;
        let recogniser = store.open_default(recogniser).map_err(models::broken)?;
        let file = dictionary.or_else(|| located.require(FileRole::Dictionary).ok());
        let dictionary = match file {
            Some(path) => read_dictionary(path).map_err(OperatorError::new)?,
            None => match recogniser.metadata("character").map_err(models::broken)? {
                Some(lines) => Dictionary::from_lines(&lines),
                None => {
                    let name = &recogniser.identity().name;
                    let message = format!("model `{name}` holds no dictionary: its metadata has no key `character`");
                    return Err(OperatorError::new(message).help(NO_DICTIONARY));
                }
            },
        };
        let opened = OcrModels { detector, recogniser, dictionary };
        opened.check()?;
        Ok(opened)
    }

    /// Holds the graphs against what they must be, as far as they say.
    fn check(&self) -> Result<(), OperatorError> {
        let contract = self.recogniser.contract();
        let mistake = kinds::mistake(Role::Detector, self.detector.manifest(), Some(self.detector.contract()))
            .or_else(|| kinds::mistake(Role::Recogniser, self.recogniser.manifest(), Some(contract)))
            .or_else(|| kinds::foreign(&self.dictionary, contract));
        mistake.map_or(Ok(()), |m| Err(OperatorError::new(m.message).help(m.help)))
    }

    /// How they read, each in the way of its family.
    pub fn settings(&self, longest_side_px: Option<u32>, min_line_score: Option<f32>) -> curette_ocr::Settings {
        let (detector, recogniser) = (Family::of(self.detector.manifest()), Family::of(self.recogniser.manifest()));
        curette_ocr::Settings {
            detect_size: detector.detect_size(longest_side_px),
            detector: detector.detector(),
            recogniser: recogniser.recogniser(),
            min_line_score: min_line_score.unwrap_or_else(|| recogniser.min_line_score()),
        }
    }

    /// What names them in outputs.
    pub fn identity(&self) -> String {
        format!("{}+{}", identity_of(&self.detector), identity_of(&self.recogniser))
    }

    /// A reader for one task.
    pub fn reader<'a>(&'a self, settings: curette_ocr::Settings, cancelled: &'a AtomicBool) -> Reader<'a> {
        let running = |model: &'a Model| Running { model, cancelled };
        curette_ocr::Reader::new(running(&self.detector), running(&self.recogniser), self.dictionary.clone(), settings)
    }
}

/// See [`OcrModels::reader`].
pub type Reader<'a> = curette_ocr::Reader<Running<'a>, Running<'a>>;

/// A model of the pool, lent for each call.
pub struct Running<'a> {
    model: &'a Model,
    cancelled: &'a AtomicBool,
}

impl Infer for Running<'_> {
    fn run(&mut self, input: ArrayView4<f32>) -> Result<ArrayD<f32>, InferError> {
        let input = Tensor::F32(input.to_owned().into_dyn());
        let outputs = self.model.run_until(&[input], Some(self.cancelled))?;
        match outputs.into_iter().next() {
            Some(Tensor::F32(output)) => Ok(output),
            _ => Err(format!("model `{}` gave no floats", self.model.identity().name).into()),
        }
    }
}

/// A frame as the reader takes it.
pub fn picture(frame: &Frame) -> Result<curette_ocr::Picture<'_>, OcrError> {
    curette_ocr::Picture::new(frame.width as usize, frame.height as usize, &frame.rgb)
}

/// Whose fault a failure is.
pub fn failure(error: OcrError) -> Failure {
    let text = error.to_string();
    match error {
        OcrError::BadPicture { .. } | OcrError::Resize { .. } => Failure::Row(Problem::new("damaged", text)),
        OcrError::Shape { .. } | OcrError::Dictionary { .. } => Failure::Run(OperatorError::new(text).help(UNFIT)),
        OcrError::Inference { source, .. } => match source.downcast::<ModelError>() {
            Ok(e) => models::problem(*e).map_or_else(Failure::Run, Failure::Row),
            Err(_) => Failure::Run(OperatorError::new(text)),
        },
    }
}

/// Reads a dictionary file; `Err` is the sentence for people.
pub fn read_dictionary(path: &Path) -> Result<Dictionary, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Dictionary::from_file(&text).map_err(|e| format!("{}: {e}", path.display()))
}
