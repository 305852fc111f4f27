//! From a picture to CRAFT's input, as EasyOCR makes it: shrunk with its aspect kept to the pixel, black to the right and below up to multiples of
//! 32, planar RGB with ImageNet's mean and standard deviation.
//!
//! The black is there before the numbers are shifted, so that it is not zero afterwards.

use ndarray::Array4;

use crate::prepare::{MAX_SIDE_PX, STRIDE, resized};
use crate::{DetectSize, OcrError, Picture};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// CRAFT's input `[1, 3, height, width]` and how many times larger it shows the picture.
pub fn craft_input(picture: &Picture, size: DetectSize) -> Result<(Array4<f32>, f64), OcrError> {
    let longest = picture.width().max(picture.height()) as f64;
    let ratio = size.ratio(picture.width(), picture.height()).min(MAX_SIDE_PX as f64 / longest);
    let side = |v: usize| ((v as f64 * ratio) as usize).max(1);
    let (inner_width, inner_height) = (side(picture.width()), side(picture.height()));
    let rgb = resized(picture, inner_width, inner_height)?;
    let (width, height) = (inner_width.next_multiple_of(STRIDE), inner_height.next_multiple_of(STRIDE));
    let mut planes = vec![0.0; 3 * width * height];
    for (channel, plane) in planes.chunks_exact_mut(width * height).enumerate() {
        let normalised: [f32; 256] = std::array::from_fn(|v| (v as f32 - MEAN[channel] * 255.0) / (STD[channel] * 255.0));
        plane.fill(normalised[0]);
        for (line, bytes) in plane.chunks_exact_mut(width).zip(rgb.chunks_exact(3 * inner_width)) {
            for (value, pixel) in line.iter_mut().zip(bytes.chunks_exact(3)) {
                *value = normalised[usize::from(pixel[channel])];
            }
        }
    }
    let failed = |e: ndarray::ShapeError| OcrError::Resize { width, height, reason: e.to_string() };
    Ok((Array4::from_shape_vec((1, 3, height, width), planes).map_err(failed)?, ratio))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn red_comes_first_and_black_fills_up() {
        let rgb: Vec<u8> = (0..40 * 20).flat_map(|_| [255, 0, 51]).collect();
        let picture = Picture::new(40, 20, &rgb).unwrap();
        let (input, ratio) = craft_input(&picture, DetectSize::LongestAtMost(2560)).unwrap();
        assert_eq!((input.shape(), ratio), (&[1, 3, 32, 64][..], 1.0));
        let near = |at: [usize; 4], want: f32| assert!((input[at] - want).abs() < 1e-5, "{at:?} {} {want}", input[at]);
        near([0, 0, 19, 39], (1.0 - 0.485) / 0.229);
        near([0, 1, 0, 0], -0.456 / 0.224);
        near([0, 2, 3, 3], (0.2 - 0.406) / 0.225);
        near([0, 0, 20, 0], -0.485 / 0.229);
        near([0, 2, 0, 40], -0.406 / 0.225);
        let (small, ratio) = craft_input(&picture, DetectSize::LongestAtMost(32)).unwrap();
        assert_eq!((small.shape(), ratio), (&[1, 3, 32, 32][..], 0.8));
        assert!((small[[0, 0, 15, 31]] - (1.0 - 0.485) / 0.229).abs() < 1e-5 && small[[0, 0, 16, 0]] < 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_picture_has_an_input(w in 1usize..300, h in 1usize..300, side in 32u32..400, shortest in any::<bool>()) {
            let rgb = vec![9; 3 * w * h];
            let size = if shortest { DetectSize::ShortestAtLeast(side) } else { DetectSize::LongestAtMost(side) };
            let (input, _) = craft_input(&Picture::new(w, h, &rgb).unwrap(), size).unwrap();
            let (_, _, height, width) = input.dim();
            prop_assert!(height % STRIDE == 0 && width % STRIDE == 0 && height.max(width) <= MAX_SIDE_PX);
        }
    }
}
