//! CLIP's preprocessing against Pillow: at most 1 of 255 apart, in at most 0.5 % of the values; at most 2 where everything is a hard edge.

#![allow(clippy::unwrap_used)]

mod common;

use common::{picture, pillow};
use curette_models::image::{EDGE, VALUES, clip_preprocess, resize_and_crop};
use proptest::prelude::*;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// See scripts/goldens/clip_preprocess.py.
#[derive(Deserialize)]
struct Goldens {
    goldens: Vec<Golden>,
}

/// Hashes of a picture and of what Pillow makes of it.
#[derive(Deserialize)]
struct Golden {
    kind: String,
    width: u32,
    height: u32,
    picture: String,
    crop: String,
}

/// A number of 32 bits that looks like chance.
fn mixed(n: u32) -> u32 {
    let n = (n ^ (n >> 16)).wrapping_mul(0x7feb_352d);
    let n = (n ^ (n >> 15)).wrapping_mul(0x846c_a68b);
    n ^ (n >> 16)
}

/// Pictures of 0 and 255 alone, as the script draws them.
fn hard_edges(kind: &str, width: u32, height: u32) -> Vec<u8> {
    let bits = |x: u32, y: u32, c: u32| match kind {
        "checks" => (x + 7 * c) / (3 + c) + y / (5 - c),
        "noise" => mixed((y * width + x) * 3 + c),
        "blocks" => mixed(y / 9 * 1000 + x / 7 + 500_000 * c) | u32::from(y.is_multiple_of(31)) | u32::from(x.is_multiple_of(29)),
        other => panic!("no picture is called {other}"),
    };
    let pixel = |x: u32, y: u32| (0..3).map(move |c| (bits(x, y, c) & 1) as u8 * 255);
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// How many values differ by 0, 1, 2, ... of 255.
fn apart(a: &[u8], b: &[u8]) -> Vec<usize> {
    assert_eq!(a.len(), b.len());
    let mut counts = vec![0; 256];
    a.iter().zip(b).for_each(|(a, b)| counts[usize::from(a.abs_diff(*b))] += 1);
    counts
}

#[test]
fn hard_edges_become_pillows_pixels() {
    let goldens: Goldens = serde_json::from_str(include_str!("golden/clip_preprocess.json")).unwrap();
    assert_eq!(goldens.goldens.len(), 30);
    let mut all = vec![0; 256];
    for Golden { kind, width, height, picture, crop } in goldens.goldens {
        let pixels = hard_edges(&kind, width, height);
        assert_eq!(sha256(&pixels), picture, "the test draws {kind} {width}x{height} as the script does");
        let pillows = pillow::resize_and_crop(&pixels, width as usize, height as usize, EDGE as usize);
        assert_eq!(sha256(&pillows), crop, "the oracle has Pillow's pixels of {kind} {width}x{height}");
        let counts = apart(&resize_and_crop(&pixels, width, height).unwrap(), &pillows);
        assert_eq!(counts[3..].iter().sum::<usize>(), 0, "{kind} {width}x{height} is more than 2 apart");
        all.iter_mut().zip(&counts).for_each(|(all, n)| *all += n);
        println!("{kind} {width}x{height}: {:?} of {VALUES} values are 1 and 2 apart", &counts[1..3]);
    }
    // The library's weights have 16 bits, Pillow's 22: where rows repeat, a value on the edge of rounding is off in all of them.
    let share = |n: usize| n as f64 / (30 * VALUES) as f64;
    println!("{:.4} % are 1 apart, {:.4} % are 2", share(all[1]) * 100.0, share(all[2]) * 100.0);
    assert!(share(all[1] + all[2]) <= 0.005 && share(all[2]) <= 0.0001, "{:?}", &all[..3]);
}

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
    fn any_picture_of_hard_edges_is_within_two_of_pillows(width in 20u32..500, height in 20u32..500, kind in 0usize..3) {
        prop_assume!(width.max(height) <= 64 * width.min(height));
        let pixels = hard_edges(["checks", "noise", "blocks"][kind], width, height);
        let pillows = pillow::resize_and_crop(&pixels, width as usize, height as usize, EDGE as usize);
        let counts = apart(&resize_and_crop(&pixels, width, height).unwrap(), &pillows);
        prop_assert!(counts[3..].iter().sum::<usize>() == 0, "{width}x{height}: {:?}", &counts[1..]);
        prop_assert!(counts[2] * 100 <= VALUES, "{width}x{height}: {} values are 2 apart", counts[2]);
    }

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
