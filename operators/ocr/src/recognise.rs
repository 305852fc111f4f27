//! What stands in the boxes of a picture: strips of one width share a call of the recogniser, its output becomes text.
//!
//! A strip's width depends on its own box alone, so that a text does not depend on its neighbours.

use ndarray::Array4;

use crate::crop::{STRIP_HEIGHT, Strip};
use crate::ctc::{Decoded, decode, decode_easyocr};
use crate::grey::{Grey, GreyStrip, ROWS};
use crate::{Dictionary, Infer, OcrError, Picture, TextBox, contrast, reader};

/// Strips that share one call of the recogniser at most.
pub const BATCH: usize = 6;
/// The narrowest input of PP-OCR's recogniser, in columns; the model is trained with it.
pub const MIN_INPUT_WIDTH: usize = 320;
/// Inputs of PP-OCR's recogniser are multiples of this, so that the runtime sees few shapes.
pub const WIDTH_STEP: usize = 64;
/// EasyOCR reads a strip again, with its contrast stretched, when its score is below this.
pub const READ_AGAIN_BELOW: f32 = 0.1;

/// Which recogniser it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recogniser {
    /// PP-OCR's: `[n, 3, 48, w]` to probabilities `[n, steps, classes]`.
    PpOcr,
    /// EasyOCR's second generation: `[n, 1, 64, w]` to `[n, steps, classes]` before the softmax.
    EasyOcr,
}

/// A box that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Index into [`crate::Reading::boxes`].
    pub text_box: usize,
    /// What stands there.
    pub text: String,
    /// How certain the recogniser is, 0 to 1: see [`crate::ctc`].
    pub score: f32,
}

impl Recogniser {
    /// Reads the boxes of a picture that have any text; in their order.
    pub fn read(
        self,
        picture: &Picture,
        boxes: &[TextBox],
        model: &mut impl Infer,
        dictionary: &Dictionary,
    ) -> Result<Vec<Line>, OcrError> {
        if boxes.is_empty() {
            return Ok(Vec::new());
        }
        let mut lines = match self {
            Recogniser::PpOcr => pp_ocr(picture, boxes, model, dictionary)?,
            Recogniser::EasyOcr => easyocr(picture, boxes, model, dictionary)?,
        };
        lines.sort_by_key(|line| line.text_box);
        lines.retain(|line| !line.text.trim().is_empty());
        Ok(lines)
    }

    fn family(self) -> &'static str {
        match self {
            Recogniser::PpOcr => "PP-OCR",
            Recogniser::EasyOcr => "EasyOCR",
        }
    }

    /// Runs a batch and decodes what it gives.
    fn run(self, model: &mut impl Infer, input: &Array4<f32>, dictionary: &Dictionary) -> Result<Vec<Decoded>, OcrError> {
        let count = input.dim().0;
        let output = reader::run("recogniser", model, input)?;
        let shape = || OcrError::Shape {
            family: self.family(),
            model: "recogniser",
            got: output.shape().to_vec(),
            want: format!("[{count}, steps, classes]"),
        };
        let &[rows, steps, classes] = output.shape() else { return Err(shape()) };
        if rows != count || steps == 0 || classes == 0 {
            return Err(shape());
        }
        if classes != dictionary.classes() {
            return Err(OcrError::Dictionary { classes, characters: dictionary.len() });
        }
        let output = output.as_standard_layout();
        let decode = match self {
            Recogniser::PpOcr => decode,
            Recogniser::EasyOcr => decode_easyocr,
        };
        Ok(output.as_slice().unwrap_or_default().chunks_exact(steps * classes).map(|steps| decode(steps, dictionary)).collect())
    }
}

/// Indexes of equal width, [`BATCH`] at most.
fn batches(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|&i| (widths[i], i));
    order.chunk_by(|&a, &b| widths[a] == widths[b]).flat_map(|same| same.chunks(BATCH)).map(<[usize]>::to_vec).collect()
}

fn pp_ocr(picture: &Picture, boxes: &[TextBox], model: &mut impl Infer, dictionary: &Dictionary) -> Result<Vec<Line>, OcrError> {
    let strips: Vec<Strip> = boxes.iter().map(|b| Strip::of(&b.corners)).collect();
    let widths: Vec<usize> = strips.iter().map(|s| s.width.max(MIN_INPUT_WIDTH).next_multiple_of(WIDTH_STEP)).collect();
    let mut lines = Vec::new();
    for batch in batches(&widths) {
        let width = batch.first().map_or(MIN_INPUT_WIDTH, |&i| widths[i]);
        let mut input = Array4::<f32>::zeros((batch.len(), 3, STRIP_HEIGHT, width));
        for (mut planes, &i) in input.outer_iter_mut().zip(&batch) {
            if let Some(planes) = planes.as_slice_mut() {
                strips[i].fill(picture, planes, width);
            }
        }
        let read = Recogniser::PpOcr.run(model, &input, dictionary)?;
        lines.extend(batch.iter().zip(read).map(|(&text_box, d)| Line { text_box, text: d.text, score: d.score }));
    }
    Ok(lines)
}

fn easyocr(picture: &Picture, boxes: &[TextBox], model: &mut impl Infer, dictionary: &Dictionary) -> Result<Vec<Line>, OcrError> {
    let grey = Grey::of(picture);
    let strips: Vec<(usize, GreyStrip)> =
        boxes.iter().enumerate().filter_map(|(i, b)| Some((i, grey.cut(&b.corners)?))).collect();
    let mut lines = read_grey(&strips, model, dictionary)?;
    // The faint ones once more; the second reading counts unless it is worse.
    let faint = |i: usize| lines.iter().any(|l| l.text_box == i && l.score < READ_AGAIN_BELOW);
    let again: Vec<(usize, GreyStrip)> = strips
        .iter()
        .filter(|(i, _)| faint(*i))
        .map(|(i, strip)| {
            let pixels = contrast::stretched(&strip.grey.pixels);
            (*i, GreyStrip { grey: Grey { width: strip.grey.width, pixels }, input_width: strip.input_width })
        })
        .collect();
    for second in read_grey(&again, model, dictionary)? {
        if let Some(first) = lines.iter_mut().find(|l| l.text_box == second.text_box && l.score <= second.score) {
            *first = second;
        }
    }
    Ok(lines)
}

fn read_grey(strips: &[(usize, GreyStrip)], model: &mut impl Infer, dictionary: &Dictionary) -> Result<Vec<Line>, OcrError> {
    let widths: Vec<usize> = strips.iter().map(|(_, s)| s.input_width).collect();
    let mut lines = Vec::new();
    for batch in batches(&widths) {
        let width = batch.first().map_or(ROWS, |&i| widths[i]);
        let mut input = Array4::<f32>::zeros((batch.len(), 1, ROWS, width));
        for (mut plane, &i) in input.outer_iter_mut().zip(&batch) {
            if let Some(values) = plane.as_slice_mut() {
                strips[i].1.grey.clone().squeezed()?.fill(values, width);
            }
        }
        let read = Recogniser::EasyOcr.run(model, &input, dictionary)?;
        lines.extend(batch.iter().zip(read).map(|(&i, d)| Line { text_box: strips[i].0, text: d.text, score: d.score }));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InferError;
    use ndarray::{ArrayD, ArrayView4};

    /// Reads "a" where the middle of a strip is bright, and is the more certain the more contrast there is.
    struct Eye {
        widths: Vec<(usize, usize)>,
    }

    impl Infer for Eye {
        fn run(&mut self, input: ArrayView4<f32>) -> Result<ArrayD<f32>, InferError> {
            let (n, channels, rows, width) = input.dim();
            assert_eq!((channels, rows), (1, ROWS));
            self.widths.push((n, width));
            let mut out = ArrayD::zeros(vec![n, 1, 2]);
            for i in 0..n {
                let strip = input.index_axis(ndarray::Axis(0), i);
                let spread = strip.iter().fold(-1f32, |a, b| a.max(*b)) - strip.iter().fold(1f32, |a, b| a.min(*b));
                let p = if spread > 1.5 { 0.9 } else { 0.52 + 0.01 * spread };
                (out[[i, 0, 0]], out[[i, 0, 1]]) = (1.0 - p, p);
            }
            Ok(out)
        }
    }

    fn at(left: f64, top: f64, right: f64, bottom: f64) -> TextBox {
        let (l, r, t, b) = (left - 0.5, right - 0.5, top - 0.5, bottom - 0.5);
        TextBox { corners: [(l, t), (r, t), (r, b), (l, b)], score: 1.0 }
    }

    #[test]
    fn strips_of_one_width_share_a_call_and_a_box_without_area_is_skipped() {
        let rgb = vec![200u8; 3 * 400 * 100];
        let picture = Picture::new(400, 100, &rgb).unwrap();
        let dictionary = Dictionary::from_characters("a");
        let boxes = [
            at(0.0, 0.0, 100.0, 40.0),
            at(0.0, 50.0, 110.0, 90.0),
            at(7.0, 7.0, 7.0, 9.0),
            at(0.0, 0.0, 300.0, 40.0),
            at(0.0, 0.0, 20.0, 60.0),
        ];
        let mut eye = Eye { widths: Vec::new() };
        let lines = Recogniser::EasyOcr.read(&picture, &boxes, &mut eye, &dictionary).unwrap();
        assert_eq!(lines.iter().map(|l| l.text_box).collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert_eq!(eye.widths, [(3, 192), (1, 512)], "a hundred by forty is 2.5, so three times 64");
    }

    #[test]
    fn what_is_read_badly_is_read_again_with_more_contrast() {
        // One step: the score is the probability squared, so 0.52 gives 0.27; a class more makes it worse.
        let rgb: Vec<u8> = (0..100 * 40).flat_map(|i| if i % 100 < 50 { [60; 3] } else { [160; 3] }).collect();
        let picture = Picture::new(100, 40, &rgb).unwrap();
        struct Faint(Eye);
        impl Infer for Faint {
            fn run(&mut self, input: ArrayView4<f32>) -> Result<ArrayD<f32>, InferError> {
                // Four steps of a quarter of the certainty: 0.53^(4 * 2 / 2) = 0.08.
                let one = self.0.run(input)?;
                let views = [one.view(), one.view(), one.view(), one.view()];
                Ok(ndarray::concatenate(ndarray::Axis(1), &views)?)
            }
        }
        let mut eye = Faint(Eye { widths: Vec::new() });
        let lines = Recogniser::EasyOcr
            .read(&picture, &[at(0.0, 0.0, 100.0, 40.0)], &mut eye, &Dictionary::from_characters("a"))
            .unwrap();
        assert_eq!((eye.0.widths.len(), lines[0].text.as_str()), (2, "a"));
        assert!((lines[0].score - 0.9f32.powi(4)).abs() < 1e-4, "{}", lines[0].score);
    }
}
