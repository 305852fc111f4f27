//! From a picture to the detector's input: resized so that both sides are multiples of 32, planar BGR, x / 127.5 - 1.
//!
//! The detector halves its input five times, hence the 32. Bilinear without a wider filter when shrinking: that is what the model's authors feed it
//! (OpenCV's `INTER_LINEAR`), and a smoother picture would be another input.

use fast_image_resize as fir;
use ndarray::Array4;

use crate::{OcrError, Picture};

/// The detector's stride.
pub const STRIDE: usize = 32;
/// No side of the detector's input is longer, however long and thin a picture is.
pub const MAX_SIDE_PX: usize = 4096;

/// How large the detector sees a picture; the aspect is kept but for the rounding to 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectSize {
    /// Shrinks until no side is longer than this; never enlarges.
    LongestAtMost(u32),
    /// Enlarges until no side is shorter than this; never shrinks (RapidOCR's own rule, with 736).
    ShortestAtLeast(u32),
}

impl DetectSize {
    /// Width and height of the detector's input for a picture's size.
    pub fn of(self, width: usize, height: usize) -> (usize, usize) {
        let (w, h) = (width.max(1) as f64, height.max(1) as f64);
        let ratio = match self {
            DetectSize::LongestAtMost(side) => (f64::from(side) / w.max(h)).min(1.0),
            DetectSize::ShortestAtLeast(side) => (f64::from(side) / w.min(h)).max(1.0),
        };
        let stride = STRIDE as f64;
        let side = |v: f64| (((v * ratio).floor() / stride).round_ties_even() as usize * STRIDE).clamp(STRIDE, MAX_SIDE_PX);
        (side(w), side(h))
    }
}

/// The detector's input, `[1, 3, height, width]`.
pub fn detector_input(picture: &Picture, size: DetectSize) -> Result<Array4<f32>, OcrError> {
    let (width, height) = size.of(picture.width(), picture.height());
    let resized;
    let rgb = if (width, height) == (picture.width(), picture.height()) {
        picture.rgb()
    } else {
        resized = resize(picture, width, height)?;
        &resized
    };
    let pixels = width * height;
    let mut planes = vec![0.0; 3 * pixels];
    let (blue, rest) = planes.split_at_mut(pixels);
    let (green, red) = rest.split_at_mut(pixels);
    for (i, p) in rgb.chunks_exact(3).enumerate() {
        (red[i], green[i], blue[i]) = (normalised(p[0]), normalised(p[1]), normalised(p[2]));
    }
    let failed = |e: ndarray::ShapeError| OcrError::Resize { width, height, reason: e.to_string() };
    Array4::from_shape_vec((1, 3, height, width), planes).map_err(failed)
}

/// A byte as the models expect it.
pub(crate) fn normalised(value: u8) -> f32 {
    f32::from(value) * (2.0 / 255.0) - 1.0
}

fn resize(picture: &Picture, width: usize, height: usize) -> Result<Vec<u8>, OcrError> {
    let (w, h) = (picture.width(), picture.height());
    let failed = |reason: String| OcrError::Resize { width: w, height: h, reason };
    let side = |v: usize| u32::try_from(v).map_err(|e| failed(e.to_string()));
    // Typed views: the untyped call would compile every kernel of every pixel type into this crate, which takes minutes.
    let source = fir::images::TypedImageRef::<fir::pixels::U8x3>::from_buffer(side(w)?, side(h)?, picture.rgb());
    let source = source.map_err(|e| failed(e.to_string()))?;
    let mut rgb = vec![0; 3 * width * height];
    let target = fir::images::TypedImage::<fir::pixels::U8x3>::from_buffer(side(width)?, side(height)?, &mut rgb);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Interpolation(fir::FilterType::Bilinear)).use_alpha(false);
    let resize = |mut target| fir::Resizer::new().resize_typed(&source, &mut target, &options).map_err(|e| e.to_string());
    target.map_err(|e| e.to_string()).and_then(resize).map_err(failed)?;
    Ok(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sizes() {
        assert_eq!(DetectSize::LongestAtMost(640).of(854, 480), (640, 352));
        assert_eq!(DetectSize::LongestAtMost(640).of(1280, 720), (640, 352));
        assert_eq!(DetectSize::LongestAtMost(640).of(320, 240), (320, 256));
        assert_eq!(DetectSize::ShortestAtLeast(736).of(854, 480), (1312, 736));
        assert_eq!(DetectSize::ShortestAtLeast(736).of(1920, 1080), (1920, 1088));
    }

    #[test]
    fn planes_are_blue_green_red_from_minus_one_to_one() {
        let rgb: Vec<u8> = (0..32 * 32).flat_map(|_| [255, 0, 51]).collect();
        let input = detector_input(&Picture::new(32, 32, &rgb).unwrap(), DetectSize::LongestAtMost(640)).unwrap();
        assert_eq!(input.shape(), [1, 3, 32, 32]);
        let at = |c| input[[0, c, 31, 7]];
        assert!((at(0) + 0.6).abs() < 1e-6 && at(1) == -1.0 && at(2) == 1.0);
    }

    proptest! {
        #[test]
        fn sides_are_multiples_within_the_limits(w in 1usize..20_000, h in 1usize..20_000, side in 32u32..2000) {
            for size in [DetectSize::LongestAtMost(side), DetectSize::ShortestAtLeast(side)] {
                let (a, b) = size.of(w, h);
                prop_assert!(a % STRIDE == 0 && b % STRIDE == 0 && a >= STRIDE && b >= STRIDE && a.max(b) <= MAX_SIDE_PX);
            }
            let (a, b) = DetectSize::LongestAtMost(side).of(w, h);
            prop_assert!(a.max(b) <= side as usize + STRIDE / 2);
        }
    }
}
