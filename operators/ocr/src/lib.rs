//! Reads text in pictures: the pipelines of PP-OCR and of EasyOCR (detect, cut out, recognise) around two models that the caller runs.
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`picture`] | RGB bytes | a checked view |
//! | [`prepare`], [`craft_input`] | a picture | the detector's input (PP-OCR, CRAFT) |
//! | [`components`] | the detector's map | text regions as runs of pixels |
//! | [`hull`], [`rect`] | pixels of a region | the smallest rectangle around them |
//! | [`boxes`] | PP-OCR's map | text boxes with scores (DB post-processing) |
//! | [`craft`], [`lines`] | CRAFT's two maps | words, and words joined to lines |
//! | [`detect`] | a picture | text boxes, by either detector |
//! | [`order`] | boxes | boxes in reading order |
//! | [`crop`] | a picture and a box | a strip of 48 rows, the input of PP-OCR's recogniser |
//! | [`grey`], [`contrast`] | a picture and a box | a grey strip of 64 rows, the input of EasyOCR's recogniser |
//! | [`ctc`], [`dictionary`] | the recogniser's output | text and its score |
//! | [`recognise`] | boxes of a picture | lines of text, by either recogniser |
//! | [`reader`] | a picture | all of the above in turn |
//!
//! Why a crate of its own: geometry is pure and compiles in seconds; inference goes through [`Infer`], so that neither a runtime nor the engine is
//! needed to build or test it. Numbers and rules are those of PaddleOCR's DB detector and CRNN recogniser as RapidOCR runs them, and those of
//! EasyOCR's CRAFT detector and second-generation recognisers as `Reader.readtext` runs them. Either detector works with either recogniser.
//!
//! What can go wrong: a model that is not what it claims to be. Every output's shape is looked at before it is used, numbers that are no
//! numbers find no text, and nothing here panics on bad input.

pub mod boxes;
pub mod components;
pub mod contrast;
pub mod craft;
pub mod craft_input;
pub mod crop;
pub mod ctc;
pub mod detect;
pub mod dictionary;
pub mod grey;
pub mod hull;
pub mod lines;
pub mod order;
pub mod picture;
pub mod prepare;
pub mod reader;
pub mod recognise;
pub mod rect;

pub use detect::{Detector, TextBox};
pub use dictionary::Dictionary;
pub use picture::Picture;
pub use prepare::DetectSize;
pub use reader::{Reader, Reading, Settings};
pub use recognise::{Line, Recogniser};

use ndarray::{ArrayD, ArrayView4};

/// Whatever a model runtime says when it fails.
pub type InferError = Box<dyn std::error::Error + Send + Sync>;

/// A model with one input `[n, channels, height, width]` and one output, both f32.
pub trait Infer {
    /// Runs the model once.
    fn run(&mut self, input: ArrayView4<f32>) -> Result<ArrayD<f32>, InferError>;
}

/// Why a picture could not be read.
#[derive(Debug, thiserror::Error)]
pub enum OcrError {
    /// Width, height and number of bytes do not fit together.
    #[error("a picture of {width} x {height} pixels needs {} bytes of RGB, not {bytes}", 3 * width * height)]
    BadPicture {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// The resizer refused.
    #[error("a picture of {width} x {height} pixels cannot be resized: {reason}")]
    Resize {
        /// Pixels per row.
        width: usize,
        /// Rows.
        height: usize,
        /// What the resizer said.
        reason: String,
    },
    /// The model's runtime failed.
    #[error("the {model} failed: {source}")]
    Inference {
        /// `detector` or `recogniser`.
        model: &'static str,
        /// What the runtime said.
        source: InferError,
    },
    /// The model is not of the kind that this pipeline can use.
    #[error("the {model} gave a tensor of shape {got:?} where {want} is expected: it is not {family}'s {model}")]
    Shape {
        /// `PP-OCR` or `EasyOCR`.
        family: &'static str,
        /// `detector` or `recogniser`.
        model: &'static str,
        /// The shape that came.
        got: Vec<usize>,
        /// The shape that was expected.
        want: String,
    },
    /// The dictionary belongs to another recogniser.
    #[error(
        "the recogniser has {classes} classes but the dictionary has {characters} characters, which need {} classes: it belongs to another model",
        characters + 1
    )]
    Dictionary {
        /// Classes of the recogniser, the blank included.
        classes: usize,
        /// Characters of the dictionary, without the blank.
        characters: usize,
    },
}
