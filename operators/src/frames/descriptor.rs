//! The built-in picture descriptor: no model, no download, good enough to see a cut.
//!
//! From a 64 x 64 RGB picture, four blocks, each scaled to length 1 (a block without content stays zero), multiplied by its weight, joined, and the
//! whole scaled to length 1, so that the dot product of two descriptors is their cosine:
//!
//! | block | size | what |
//! |---|---|---|
//! | colour histogram | 64 | 4 x 4 x 4 bins of R, G, B around 0, 85, 170, 255, a pixel shared linearly among its neighbours; square roots of the shares |
//! | colour layout | 48 | mean Y - 0.5, Cb, Cr (BT.601, full range) of 4 x 4 cells |
//! | gradient orientation | 96 | 4 x 4 cells x 6 unsigned orientations of the luma gradient, weighted by strength, shared linearly between two; square roots |
//! | thumbnail | 64 | 8 x 8 mean luma less the picture's mean |
//!
//! What can go wrong: it knows nothing of meaning. Two shots of the same scene look alike, a flash looks like a cut.

/// Width and height of the picture that [`describe`] takes.
pub const SIDE: usize = 64;
/// Numbers in a descriptor.
pub const DIMENSION: usize = HISTOGRAM + LAYOUT + GRADIENT + THUMBNAIL;
/// Its name in `embedding_model`.
pub const NAME: &str = "curette/builtin-1";

const HISTOGRAM: usize = 64;
const CELLS: usize = 4;
const LAYOUT: usize = CELLS * CELLS * 3;
const ORIENTATIONS: usize = 6;
const GRADIENT: usize = CELLS * CELLS * ORIENTATIONS;
const THUMB: usize = 8;
const THUMBNAIL: usize = THUMB * THUMB;
/// Weights of the four blocks: what moves with the camera counts least.
const WEIGHTS: [f32; 4] = [1.0, 0.6, 0.6, 0.3];
/// Luma differences below this (of 1) are noise, not edges.
const NOISE: f32 = 6.0 / 255.0;
/// A block shorter than this has no content.
const EMPTY: f32 = 1e-3;

/// Describes 64 x 64 RGB pixels (12288 bytes).
pub fn describe(rgb: &[u8]) -> Vec<f32> {
    debug_assert_eq!(rgb.len(), SIDE * SIDE * 3);
    let mut out = vec![0f32; DIMENSION];
    let (histogram, rest) = out.split_at_mut(HISTOGRAM);
    let (layout, rest) = rest.split_at_mut(LAYOUT);
    let (gradient, thumbnail) = rest.split_at_mut(GRADIENT);
    let mut luma = vec![0f32; SIDE * SIDE];
    let (cell, thumb) = (SIDE / CELLS, SIDE / THUMB);
    for (i, pixel) in rgb.chunks_exact(3).enumerate() {
        let (x, y) = (i % SIDE, i / SIDE);
        share(histogram, pixel);
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|v| f32::from(v) / 255.0);
        let l = 0.299 * r + 0.587 * g + 0.114 * b;
        luma[i] = l;
        let at = ((y / cell) * CELLS + x / cell) * 3;
        layout[at] += l - 0.5;
        layout[at + 1] += (b - l) * 0.564;
        layout[at + 2] += (r - l) * 0.713;
        thumbnail[(y / thumb) * THUMB + x / thumb] += l;
    }
    for y in 1..SIDE - 1 {
        for x in 1..SIDE - 1 {
            let at = y * SIDE + x;
            let (dx, dy) = (luma[at + 1] - luma[at - 1], luma[at + SIDE] - luma[at - SIDE]);
            let strength = (dx * dx + dy * dy).sqrt();
            if strength < NOISE {
                continue;
            }
            let angle = dy.atan2(dx).rem_euclid(std::f32::consts::PI) / std::f32::consts::PI * ORIENTATIONS as f32;
            let (below, part) = (angle as usize, angle.fract());
            let base = ((y / cell) * CELLS + x / cell) * ORIENTATIONS;
            gradient[base + below % ORIENTATIONS] += strength * (1.0 - part);
            gradient[base + (below + 1) % ORIENTATIONS] += strength * part;
        }
    }
    let mean = thumbnail.iter().sum::<f32>() / THUMBNAIL as f32;
    thumbnail.iter_mut().for_each(|v| *v -= mean);
    for block in [&mut *histogram, &mut *gradient] {
        block.iter_mut().for_each(|v| *v = v.sqrt());
    }
    for (block, weight) in [histogram, layout, gradient, thumbnail].into_iter().zip(WEIGHTS) {
        scale_to(block, weight);
    }
    scale_to(&mut out, 1.0);
    out
}

/// Adds a pixel to the eight bins around its colour.
fn share(histogram: &mut [f32], pixel: &[u8]) {
    let axes = [pixel[0], pixel[1], pixel[2]].map(|v| {
        let at = f32::from(v) / 85.0;
        let below = (at as usize).min(2);
        [(below, 1.0 - (at - below as f32)), (below + 1, at - below as f32)]
    });
    for (r, wr) in axes[0] {
        for (g, wg) in axes[1] {
            for (b, wb) in axes[2] {
                histogram[r * 16 + g * 4 + b] += wr * wg * wb;
            }
        }
    }
}

fn scale_to(block: &mut [f32], length: f32) {
    let norm = block.iter().map(|v| v * v).sum::<f32>().sqrt();
    if norm > EMPTY {
        block.iter_mut().for_each(|v| *v *= length / norm);
    } else {
        block.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(f: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
        (0..SIDE * SIDE).flat_map(|i| f(i % SIDE, i / SIDE)).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn every_picture_has_length_one_also_a_flat_one() {
        for p in
            [picture(|_, _| [0; 3]), picture(|_, _| [255; 3]), picture(|_, _| [128; 3]), picture(|x, y| [x as u8, y as u8, 9])]
        {
            let d = describe(&p);
            assert_eq!(d.len(), DIMENSION);
            assert!(d.iter().all(|v| v.is_finite()));
            assert!((cosine(&d, &d) - 1.0).abs() < 1e-4);
        }
        const { assert!(DIMENSION < 300) };
    }

    #[test]
    fn small_motion_is_the_same_scene_and_another_picture_is_not() {
        let disc = |cx: f32, colour: [u8; 3]| {
            picture(move |x, y| if (x as f32 - cx).hypot(y as f32 - 32.0) < 18.0 { colour } else { [20, 20, 20] })
        };
        let (a, b, c) =
            (disc(32.0, [200, 60, 50]), disc(34.0, [200, 60, 50]), picture(|x, y| [90, (y * 4) as u8, (x * 4) as u8]));
        assert!(cosine(&describe(&a), &describe(&b)) > 0.95);
        assert!(cosine(&describe(&a), &describe(&c)) < 0.6);
    }
}
