//! The models of `subtitles`: found, held against each other, and run.
//!
//! What can go wrong: a detector in place of a recogniser, or a dictionary of another recogniser. Both are seen from the graphs' ports before the first
//! row; what a graph leaves open is seen at its first output and then ends the run, because every row would fail alike.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use curette_engine::operator::OperatorError;
use curette_engine::verdict::Problem;
use curette_models::manifest::Dim;
use curette_models::{FileRole, Model, ModelError, ModelRef, Models, Tensor};
use curette_ocr::{Dictionary, Infer, InferError, OcrError};
use ndarray::{ArrayD, ArrayView4};

use crate::media::Frame;
use crate::models;
use crate::models::identity_of;

/// Detector, recogniser and dictionary.
pub struct OcrModels {
    detector: Arc<Model>,
    recogniser: Arc<Model>,
    dictionary: Dictionary,
}

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
                    return Err(OperatorError::new(message).help("name a file with one character a line in the key `dictionary`"));
                }
            },
        };
        let opened = OcrModels { detector, recogniser, dictionary };
        opened.check()?;
        Ok(opened)
    }

    /// Holds the graphs against what they must be, as far as they say.
    fn check(&self) -> Result<(), OperatorError> {
        const KIND: &str = "name a detector and a recogniser of the PP-OCR kind";
        for (role, model, rank) in [("detector", &self.detector, 4), ("recogniser", &self.recogniser, 3)] {
            let contract = model.contract();
            let channels = match contract.inputs.as_slice() {
                [input] => input.shape.get(1),
                _ => None,
            };
            let output = contract.outputs.first().map(|o| o.shape.len());
            if !matches!(channels, Some(Dim::Fixed(3) | Dim::Symbol(_))) || output.is_some_and(|n| n != rank && n != 0) {
                let name = &model.identity().name;
                let message =
                    format!("model `{name}` is no text {role}: it must take one picture of 3 channels and give {rank} axes");
                return Err(OperatorError::new(message).help(KIND));
            }
        }
        if let Some(Dim::Fixed(classes)) = self.recogniser.contract().outputs.first().and_then(|o| o.shape.last())
            && *classes != self.dictionary.classes() as u64
        {
            let error = OcrError::Dictionary { classes: *classes as usize, characters: self.dictionary.len() };
            return Err(OperatorError::new(error.to_string()).help("leave `dictionary` out to use the recogniser's own"));
        }
        Ok(())
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
        OcrError::Shape { .. } | OcrError::Dictionary { .. } => {
            Failure::Run(OperatorError::new(text).help("name models of the PP-OCR kind, and the recogniser's own dictionary"))
        }
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
