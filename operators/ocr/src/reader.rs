//! The pipeline: detect boxes, put them in reading order, cut them out, recognise them, keep what is certain enough.
//!
//! The recogniser is skipped when there is no box: pictures without text cost the detector alone.

use ndarray::{Array4, ArrayD};

use crate::boxes::BoxSettings;
use crate::{DetectSize, Detector, Dictionary, Infer, InferError, Line, OcrError, Picture, Recogniser, TextBox};

/// How pictures are read; the defaults are RapidOCR's but for the size, see [`DetectSize`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How large the detector sees a picture.
    pub detect_size: DetectSize,
    /// Which detector it is, and how its map becomes boxes.
    pub detector: Detector,
    /// Which recogniser it is.
    pub recogniser: Recogniser,
    /// Lines with a lower score are dropped.
    pub min_line_score: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            detect_size: DetectSize::LongestAtMost(640),
            detector: Detector::PpOcr(BoxSettings::default()),
            recogniser: Recogniser::PpOcr,
            min_line_score: 0.5,
        }
    }
}

/// What stands in a picture.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// All boxes in reading order.
    pub boxes: Vec<TextBox>,
    /// Those that could be read, in the same order.
    pub lines: Vec<Line>,
}

/// Reads pictures with two models.
pub struct Reader<D, R> {
    detector: D,
    recogniser: R,
    dictionary: Dictionary,
    settings: Settings,
}

impl<D: Infer, R: Infer> Reader<D, R> {
    /// A reader; whether the dictionary fits the recogniser is seen at its first output.
    pub fn new(detector: D, recogniser: R, dictionary: Dictionary, settings: Settings) -> Self {
        Reader { detector, recogniser, dictionary, settings }
    }

    /// Reads a picture. Depends on nothing but the picture.
    pub fn read(&mut self, picture: &Picture) -> Result<Reading, OcrError> {
        let boxes = self.detect(picture)?;
        let lines = self.recognise(picture, &boxes)?;
        Ok(Reading { boxes, lines })
    }

    /// The boxes of a picture, in reading order.
    pub fn detect(&mut self, picture: &Picture) -> Result<Vec<TextBox>, OcrError> {
        self.settings.detector.detect(picture, self.settings.detect_size, &mut self.detector)
    }

    /// Reads boxes of a picture.
    pub fn recognise(&mut self, picture: &Picture, boxes: &[TextBox]) -> Result<Vec<Line>, OcrError> {
        let mut lines = self.settings.recogniser.read(picture, boxes, &mut self.recogniser, &self.dictionary)?;
        lines.retain(|line| line.score >= self.settings.min_line_score);
        Ok(lines)
    }
}

/// Runs a model; a failure names it.
pub(crate) fn run(model: &'static str, infer: &mut impl Infer, input: &Array4<f32>) -> Result<ArrayD<f32>, OcrError> {
    infer.run(input.view()).map_err(|source: InferError| OcrError::Inference { model, source })
}
