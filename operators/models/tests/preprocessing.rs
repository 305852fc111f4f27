//! CLIP's preprocessing against Pillow: at most 1 of 255 apart, in at most 0.5 % of the values.

#![allow(clippy::unwrap_used)]

mod common;

use common::picture;
use curette_models::image::{EDGE, VALUES, clip_preprocess, resize_and_crop};
use proptest::prelude::*;

#[test]
fn pixels_are_pillows() {
    let (mut values, mut different) = (0, 0);
    for i in 0..4 {
        let (pixels, width, height) = picture(&format!("picture_{i}.png"));
        let ours = resize_and_crop(&pixels, width, height).unwrap();
        // The golden has every second pixel of every second row.
        let (golden, half, _) = picture(&format!("crop_{i}.png"));
        assert_eq!(half, EDGE / 2);
        for (at, want) in golden.chunks_exact(3).enumerate() {
            let (x, y) = (at % half as usize * 2, at / half as usize * 2);
            for (have, want) in ours[(y * EDGE as usize + x) * 3..][..3].iter().zip(want) {
                let apart = have.abs_diff(*want);
                assert!(apart <= 1, "picture {i} at {x},{y}: {have}, Pillow has {want}");
                values += 1;
                different += u32::from(apart > 0);
            }
        }
    }
    let share = f64::from(different) / f64::from(values);
    println!("{different} of {values} values differ ({:.3} %)", share * 100.0);
    assert!(share <= 0.005, "{:.3} % of the values differ", share * 100.0);
}

#[test]
fn values_are_normalised_in_planes() {
    let one = clip_preprocess(&[255, 0, 0].repeat(224 * 224), 224, 224).unwrap();
    let (red, green) = ((1.0 - 0.481_454_66) / 0.268_629_54, -0.457_827_5 / 0.261_302_6);
    assert!((one[0] - red).abs() < 1e-5 && (one[VALUES / 3] - green).abs() < 1e-5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_size_gives_a_full_square_or_a_reason(width in 0u32..900, height in 0u32..900) {
        let pixels = vec![77u8; width as usize * height as usize * 3];
        match resize_and_crop(&pixels, width, height) {
            // A plain picture stays plain.
            Ok(out) => prop_assert!(out.len() == VALUES && out.iter().all(|&v| v == 77)),
            Err(e) => prop_assert!(width == 0 || height == 0 || width.max(height) > 64 * width.min(height), "{e}"),
        }
    }
}
