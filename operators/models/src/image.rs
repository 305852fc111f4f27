//! Image embeddings with CLIP: pixels to the tensor that CLIP was trained on, then one vector per picture.
//!
//! The reference is Pillow up to version 12: shortest edge to 224 with its bicubic filter, centre crop, CLIP's mean and standard deviation. It filters
//! horizontally first and rounds to 8 bits between the passes, as torchvision does; the resize library does it the other way round, which differs by up
//! to 31 of 255 where edges are hard. Hence two calls of one axis each: the largest difference is then 1, or 2 in a few values of pictures that are nothing
//! but hard edges (the library's weights have 16 bits, Pillow's 22). Pillow 13 begins with the columns where the height shrinks by much more than the
//! width; CLIP was trained with the old order, so that is not followed.
//!
//! What can go wrong: a picture of 0 pixels, or so long that one edge would be empty; both are refused.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::manifest::{Dim, Dtype, Preset};
use crate::{ErrorKind, Model, ModelError, Result, Tensor};

/// Edge of the model's input in pixels.
pub const EDGE: u32 = 224;
/// Values of one input.
pub const VALUES: usize = 3 * (EDGE as usize) * (EDGE as usize);
/// Pictures of one batch unless the manifest says otherwise.
pub const BATCH: usize = 8;
/// Longest edge of a picture in pixels.
pub const MAX_EDGE: u32 = 16384;
/// Most times that one edge may be longer than the other.
pub const MAX_ASPECT: u32 = 64;

const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// An RGB picture, 3 bytes a pixel, rows from top to bottom without gaps.
#[derive(Clone, Copy)]
pub struct Rgb<'a> {
    /// The bytes.
    pub pixels: &'a [u8],
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// A CLIP image encoder.
pub struct ClipImageEncoder {
    model: Arc<Model>,
    width: usize,
    batch: usize,
}

impl ClipImageEncoder {
    /// On an open model with one input `[batch, 3, 224, 224]` and one output `[batch, WIDTH]`.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let name = &model.identity().name;
        let wrong =
            |what: &str| Err(ModelError::new(ErrorKind::Contract, format!("model `{name}` is no CLIP image encoder: {what}")));
        if let Some(p) = &model.manifest().preprocessing {
            let other = |given: &Option<[f32; 3]>, ours: [f32; 3]| {
                given.is_some_and(|g| g.iter().zip(ours).any(|(g, o)| (g - o).abs() > 1e-4))
            };
            // Other numbers would give plausible embeddings of other pictures.
            if p.preset != Some(Preset::Clip224)
                || other(&p.mean, MEAN)
                || other(&p.std, STD)
                || p.channels.as_deref().is_some_and(|c| c != "rgb")
            {
                return wrong("its preprocessing is not `preset = \"clip-224\"`, the only one there is");
            }
        }
        let contract = model.contract();
        let edge = Dim::Fixed(u64::from(EDGE));
        let [input] = contract.inputs.as_slice() else { return wrong("it has not one input") };
        match input.shape.as_slice() {
            [Dim::Symbol(_), Dim::Fixed(3), h, w] if *h == edge && *w == edge && input.dtype == Dtype::F32 => {}
            _ => return wrong("its input is not f32 [batch, 3, 224, 224]"),
        }
        let width = match contract.outputs.first().map(|p| (p.dtype, p.shape.as_slice())) {
            Some((Dtype::F32, [_, Dim::Fixed(width)])) => *width as usize,
            _ => return wrong("its first output is not f32 [batch, WIDTH]"),
        };
        let batch = if model.manifest().run.batch == 0 { BATCH } else { model.manifest().run.batch };
        Ok(ClipImageEncoder { model, width, batch })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
    /// Length of each embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Most pictures of one batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// One embedding per picture, in order.
    pub fn embed(&self, pictures: &[Rgb<'_>]) -> Result<Vec<Vec<f32>>> {
        self.embed_until(pictures, None)
    }

    /// As [`ClipImageEncoder::embed`], ending early when `cancelled` turns true.
    pub fn embed_until(&self, pictures: &[Rgb<'_>], cancelled: Option<&AtomicBool>) -> Result<Vec<Vec<f32>>> {
        let mut out = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(self.batch) {
            let mut values = Vec::with_capacity(batch.len() * VALUES);
            for picture in batch {
                values.extend_from_slice(&clip_preprocess(picture.pixels, picture.width, picture.height)?);
            }
            let edge = EDGE as usize;
            let input = Tensor::f32(&[batch.len(), 3, edge, edge], values)?;
            let vectors = self.model.run_until(&[input], cancelled)?.first().and_then(Tensor::rows_f32).unwrap_or_default();
            if vectors.len() != batch.len() || vectors.iter().any(|v| v.len() != self.width) {
                let message =
                    format!("model `{}` gave no [{}, {}] embeddings", self.model.identity().name, batch.len(), self.width);
                return Err(ModelError::new(ErrorKind::Contract, message));
            }
            out.extend(vectors);
        }
        Ok(out)
    }
}

/// The input tensor of CLIP for one picture: planes R, G, B of 224x224 normalised values.
pub fn clip_preprocess(rgb: &[u8], width: u32, height: u32) -> Result<Vec<f32>> {
    let cropped = resize_and_crop(rgb, width, height)?;
    let plane = VALUES / 3;
    let mut out = vec![0f32; VALUES];
    for c in 0..3 {
        let (scale, offset) = (1.0 / (255.0 * STD[c]), -MEAN[c] / STD[c]);
        for (value, pixel) in out[c * plane..][..plane].iter_mut().zip(cropped.chunks_exact(3)) {
            *value = f32::from(pixel[c]) * scale + offset;
        }
    }
    Ok(out)
}

/// The 224x224 pixels that the resize of Pillow up to 12 (bicubic, shortest edge 224) and centre crop give, within 1 of 255 (2 in a few values where
/// everything is a hard edge).
pub fn resize_and_crop(rgb: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let bad = |what: String| ModelError::new(ErrorKind::BadInput, what);
    let (short, long) = (width.min(height), width.max(height));
    if short == 0 || long > MAX_EDGE || long > short.saturating_mul(MAX_ASPECT) {
        return Err(bad(format!("a picture of {width}x{height} cannot be brought to {EDGE}x{EDGE}")));
    }
    if rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
        return Err(bad(format!("{} bytes are not a {width}x{height} RGB picture", rgb.len())));
    }
    // Both fit: MAX_ASPECT * EDGE is far below u32::MAX.
    let stretched = (u64::from(EDGE) * u64::from(long) / u64::from(short)) as u32;
    let (new_width, new_height) = if width <= height { (EDGE, stretched) } else { (stretched, EDGE) };
    let odd = |e: &dyn std::fmt::Display| ModelError::new(ErrorKind::BadInput, format!("a {width}x{height} picture: {e}"));
    let mut resizer = Resizer::new();
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).use_alpha(false);

    // Only the columns and rows of the crop are computed.
    // Typed views: the untyped calls would compile every kernel of every pixel type into this crate, which takes minutes.
    let source = TypedImageRef::<U8x3>::from_buffer(width, height, rgb).map_err(|e| odd(&e))?;
    let mut narrow = TypedImage::<U8x3>::new(EDGE, height);
    let (left, across) = cropped(width, new_width);
    let columns = options.crop(left, 0.0, across, f64::from(height));
    resizer.resize_typed(&source, &mut narrow, &columns).map_err(|e| odd(&e))?;

    let mut pixels = vec![0; VALUES];
    let mut square = TypedImage::<U8x3>::from_buffer(EDGE, EDGE, &mut pixels).map_err(|e| odd(&e))?;
    let (top, down) = cropped(height, new_height);
    let rows = options.crop(0.0, top, f64::from(EDGE), down);
    resizer.resize_typed(&narrow, &mut square, &rows).map_err(|e| odd(&e))?;
    Ok(pixels)
}

/// Start and length, in source pixels, of what becomes the middle [`EDGE`] of `resized` pixels.
fn cropped(source: u32, resized: u32) -> (f64, f64) {
    let scale = f64::from(source) / f64::from(resized);
    let start = f64::from((resized - EDGE) / 2) * scale;
    // The product may be above the whole length by a rounding error.
    (start, (f64::from(EDGE) * scale).min(f64::from(source) - start))
}
