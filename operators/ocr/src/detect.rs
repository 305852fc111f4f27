//! Where there is text in a picture: the detector's input, its run, and its map made into boxes of the picture.
//!
//! Boxes are in pixels whose centres are whole numbers. PP-OCR's maps have the size of the input; CRAFT's have half of it, with one number for the
//! inside of characters and one for what is between them.

use ndarray::Axis;

use crate::boxes::{BoxSettings, text_boxes};
use crate::craft::{CraftSettings, words};
use crate::craft_input::craft_input;
use crate::crop::Corners;
use crate::lines::{LineSettings, PixelQuad, Place, lines};
use crate::order::{self, reading_order};
use crate::prepare::detector_input;
use crate::{DetectSize, Infer, OcrError, Picture, reader};

/// Which detector it is, and how its map becomes boxes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Detector {
    /// PP-OCR's (DB): `[1, 3, h, w]` to `[1, 1, h, w]`.
    PpOcr(BoxSettings),
    /// EasyOCR's (CRAFT): `[1, 3, h, w]` to `[1, h / 2, w / 2, 2]`.
    Craft(CraftSettings, LineSettings),
}

/// Where there is text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextBox {
    /// Upper left, upper right, lower right, lower left, in pixels of the picture; may reach beyond it.
    pub corners: Corners,
    /// How certain the detector is, 0 to 1.
    pub score: f32,
}

/// How many times smaller CRAFT's map is than its input.
const CRAFT_STRIDE: usize = 2;

impl Detector {
    /// The boxes of a picture, in reading order.
    pub fn detect(&self, picture: &Picture, size: DetectSize, model: &mut impl Infer) -> Result<Vec<TextBox>, OcrError> {
        let boxes = match self {
            Detector::PpOcr(settings) => pp_ocr(picture, size, model, settings)?,
            Detector::Craft(craft, lines) => easyocr(picture, size, model, craft, lines)?,
        };
        let places: Vec<order::Place> = boxes.iter().map(place).collect();
        Ok(reading_order(&places).into_iter().map(|i| boxes[i]).collect())
    }
}

fn pp_ocr(picture: &Picture, size: DetectSize, model: &mut impl Infer, settings: &BoxSettings) -> Result<Vec<TextBox>, OcrError> {
    let input = detector_input(picture, size)?;
    let (height, width) = (input.dim().2, input.dim().3);
    let map = reader::run("detector", model, &input)?;
    if map.shape() != [1, 1, height, width] {
        let want = format!("[1, 1, {height}, {width}]");
        return Err(OcrError::Shape { family: "PP-OCR", model: "detector", got: map.shape().to_vec(), want });
    }
    let map = map.as_standard_layout();
    // Pixel centres are at halves, in the small picture and in the large one.
    let (kx, ky) = (picture.width() as f64 / width as f64, picture.height() as f64 / height as f64);
    let in_picture = |(x, y): (f64, f64)| ((x + 0.5) * kx - 0.5, (y + 0.5) * ky - 0.5);
    let found = text_boxes(map.as_slice().unwrap_or_default(), width, settings);
    Ok(found.iter().map(|b| TextBox { corners: b.rect.corners().map(in_picture), score: b.score }).collect())
}

fn easyocr(
    picture: &Picture,
    size: DetectSize,
    model: &mut impl Infer,
    craft: &CraftSettings,
    line_settings: &LineSettings,
) -> Result<Vec<TextBox>, OcrError> {
    let (input, ratio) = craft_input(picture, size)?;
    let (height, width) = (input.dim().2 / CRAFT_STRIDE, input.dim().3 / CRAFT_STRIDE);
    let maps = reader::run("detector", model, &input)?;
    if maps.shape() != [1, height, width, 2] {
        let want = format!("[1, {height}, {width}, 2]");
        return Err(OcrError::Shape { family: "EasyOCR", model: "detector", got: maps.shape().to_vec(), want });
    }
    let plane = |i: usize| maps.index_axis(Axis(3), i).iter().copied().collect::<Vec<f32>>();
    let found = words(&plane(0), &plane(1), width, craft);
    let quads: Vec<PixelQuad> = found.iter().map(|word| word.quad.map(|p| in_picture(p, ratio))).collect();
    let groups = lines(&quads, line_settings);
    let score = |members: &[usize]| members.iter().map(|&i| found[i].score).sum::<f32>() / members.len().max(1) as f32;
    let boxes = groups.iter().filter_map(|g| Some(TextBox { corners: corners(&g.place, picture)?, score: score(&g.members) }));
    Ok(boxes.collect())
}

/// The original scales corners in single precision, without regard to pixel centres, and cuts off the fraction.
fn in_picture((x, y): (f64, f64), ratio: f64) -> (i32, i32) {
    let scale = 1.0 / ratio * CRAFT_STRIDE as f64;
    let scaled = |v: f64| (f64::from(v as f32) * scale) as f32 as i32;
    (scaled(x), scaled(y))
}

/// The part of a box that is in the picture; nothing if none of an upright one is.
fn corners(place: &Place, picture: &Picture) -> Option<Corners> {
    match *place {
        Place::Upright { left, right, top, bottom } => {
            let (left, right) = (left.max(0), right.min(picture.width() as i64));
            let (top, bottom) = (top.max(0), bottom.min(picture.height() as i64));
            let edge = |v: i64| v as f64 - 0.5;
            let (l, r, t, b) = (edge(left), edge(right), edge(top), edge(bottom));
            (left < right && top < bottom).then_some([(l, t), (r, t), (r, b), (l, b)])
        }
        // Their corners are centres of pixels: the box ends half a pixel further out.
        Place::Tilted([a, b, c, d]) => {
            let unit = |from: (f64, f64), to: (f64, f64)| {
                let (dx, dy) = (to.0 - from.0, to.1 - from.1);
                let length = dx.hypot(dy).max(1.0);
                (0.5 * dx / length, 0.5 * dy / length)
            };
            let (along, down) = (unit(a, b), unit(a, d));
            let out = |p: (f64, f64), u: f64, v: f64| (p.0 + u * along.0 + v * down.0, p.1 + u * along.1 + v * down.1);
            Some([out(a, -1.0, -1.0), out(b, 1.0, -1.0), out(c, 1.0, 1.0), out(d, -1.0, 1.0)])
        }
    }
}

fn place(text_box: &TextBox) -> order::Place {
    let c = &text_box.corners;
    let top = c.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let bottom = c.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let left = c.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    order::Place { left, middle: (top + bottom) / 2.0, height: bottom - top }
}
