//! The pipeline: detect boxes, put them in reading order, cut them out, recognise them, keep what is certain enough.
//!
//! The recogniser is skipped when there is no box: pictures without text cost the detector alone. Strips are padded to a multiple of
//! 64 columns of their own, so that the text of a box does not depend on its neighbours; strips of one width share a call.

use ndarray::{Array4, ArrayD};

use crate::boxes::{BoxSettings, text_boxes};
use crate::crop::{Corners, STRIP_HEIGHT, Strip};
use crate::ctc::decode;
use crate::order::{Place, reading_order};
use crate::prepare::{DetectSize, detector_input};
use crate::{Dictionary, Infer, InferError, OcrError, Picture};

/// Strips that share one call of the recogniser at most.
pub const BATCH: usize = 6;
/// The narrowest input of the recogniser, in columns; the model is trained with it.
pub const MIN_INPUT_WIDTH: usize = 320;
/// Inputs of the recogniser are multiples of this, so that the runtime sees few shapes.
pub const WIDTH_STEP: usize = 64;

/// How pictures are read; the defaults are RapidOCR's but for the size, see [`DetectSize`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How large the detector sees a picture.
    pub detect_size: DetectSize,
    /// How its map becomes boxes.
    pub boxes: BoxSettings,
    /// Lines with a lower mean probability are dropped.
    pub min_line_score: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { detect_size: DetectSize::LongestAtMost(640), boxes: BoxSettings::default(), min_line_score: 0.5 }
    }
}

/// Where there is text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextBox {
    /// Upper left, upper right, lower right, lower left, in pixels of the picture; may reach beyond it.
    pub corners: Corners,
    /// How certain the detector is, 0 to 1.
    pub score: f32,
}

/// A box that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Index into [`Reading::boxes`].
    pub text_box: usize,
    /// What stands there.
    pub text: String,
    /// Mean probability of its characters, 0 to 1.
    pub score: f32,
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
        let input = detector_input(picture, self.settings.detect_size)?;
        let (height, width) = (input.dim().2, input.dim().3);
        let map = run("detector", &mut self.detector, &input)?;
        if map.shape() != [1, 1, height, width] {
            let want = format!("[1, 1, {height}, {width}]");
            return Err(OcrError::Shape { model: "detector", got: map.shape().to_vec(), want });
        }
        let map = map.as_standard_layout();
        let found = text_boxes(map.as_slice().unwrap_or_default(), width, &self.settings.boxes);
        // Pixel centres are at halves, in the small picture and in the large one.
        let (kx, ky) = (picture.width() as f64 / width as f64, picture.height() as f64 / height as f64);
        let boxes: Vec<TextBox> = found
            .iter()
            .map(|b| TextBox {
                corners: b.rect.corners().map(|(x, y)| ((x + 0.5) * kx - 0.5, (y + 0.5) * ky - 0.5)),
                score: b.score,
            })
            .collect();
        let places: Vec<Place> = boxes.iter().map(place).collect();
        Ok(reading_order(&places).into_iter().map(|i| boxes[i]).collect())
    }

    /// Reads boxes of a picture.
    pub fn recognise(&mut self, picture: &Picture, boxes: &[TextBox]) -> Result<Vec<Line>, OcrError> {
        let strips: Vec<Strip> = boxes.iter().map(|b| Strip::of(&b.corners)).collect();
        let mut order: Vec<usize> = (0..strips.len()).collect();
        order.sort_by_key(|&i| (input_width(&strips[i]), i));
        let mut lines = Vec::new();
        for same_width in order.chunk_by(|&a, &b| input_width(&strips[a]) == input_width(&strips[b])) {
            for batch in same_width.chunks(BATCH) {
                self.read_batch(picture, &strips, batch, &mut lines)?;
            }
        }
        lines.sort_by_key(|line| line.text_box);
        Ok(lines)
    }

    fn read_batch(
        &mut self,
        picture: &Picture,
        strips: &[Strip],
        batch: &[usize],
        lines: &mut Vec<Line>,
    ) -> Result<(), OcrError> {
        let width = batch.first().map_or(MIN_INPUT_WIDTH, |&i| input_width(&strips[i]));
        let mut input = Array4::<f32>::zeros((batch.len(), 3, STRIP_HEIGHT, width));
        for (mut planes, &i) in input.outer_iter_mut().zip(batch) {
            if let Some(planes) = planes.as_slice_mut() {
                strips[i].fill(picture, planes, width);
            }
        }
        let output = run("recogniser", &mut self.recogniser, &input)?;
        let shape = || OcrError::Shape {
            model: "recogniser",
            got: output.shape().to_vec(),
            want: format!("[{}, steps, classes]", batch.len()),
        };
        let &[count, steps, classes] = output.shape() else { return Err(shape()) };
        if count != batch.len() || steps == 0 || classes == 0 {
            return Err(shape());
        }
        if classes != self.dictionary.classes() {
            return Err(OcrError::Dictionary { classes, characters: self.dictionary.len() });
        }
        let output = output.as_standard_layout();
        let values = output.as_slice().unwrap_or_default();
        for (probabilities, &i) in values.chunks_exact(steps * classes).zip(batch) {
            let read = decode(probabilities, &self.dictionary);
            if !read.text.trim().is_empty() && read.score >= self.settings.min_line_score {
                lines.push(Line { text_box: i, text: read.text, score: read.score });
            }
        }
        Ok(())
    }
}

fn run(model: &'static str, infer: &mut impl Infer, input: &Array4<f32>) -> Result<ArrayD<f32>, OcrError> {
    infer.run(input.view()).map_err(|source: InferError| OcrError::Inference { model, source })
}

/// Columns of the recogniser's input for a strip.
fn input_width(strip: &Strip) -> usize {
    strip.width.max(MIN_INPUT_WIDTH).next_multiple_of(WIDTH_STEP)
}

fn place(text_box: &TextBox) -> Place {
    let c = &text_box.corners;
    let top = c.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let bottom = c.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let left = c.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    Place { left, middle: (top + bottom) / 2.0, height: bottom - top }
}
