//! What DOVER's two branches look at, and what their numbers mean: pure functions of frames, the frame count and the clip's id.
//!
//! Source: H. Wu et al., "Exploring video quality assessment on user generated contents from aesthetic and technical perspectives", ICCV 2023, and its public
//! configuration `val-l1080p`. The technical branch sees 3 segments of 32 frames (every second one), cut down to a 7x7 grid of 32x32 raw patches; the aesthetic
//! branch sees 32 frames over the whole clip, scaled to 224x224.
//!
//! There, segments, frames and patches are drawn by an unseeded generator, so that no score can be had twice. Here choice number k of a clip is
//! `splitmix64(fnv1a64(clip id) + k * 0x9E3779B97F4A7C15)`, scaled to its range by the upper half of the 128-bit product; [`Choice`] numbers the choices.
//!
//! Two more differences. A clip with fewer than 32 frames spreads its frames over the aesthetic view (upstream repeats the first one). A picture whose shorter side is
//! below 224 is enlarged and its grid covers the enlarged picture (upstream keeps the grid of the small one and sees its upper left part).

use curette_models::manifest::{Direction, Manifest};
use curette_models::store::built_in;
use curette_models::{ErrorKind, ModelError};

use crate::media::Frame;

/// Frames of one view.
pub const FRAMES: usize = 32;
/// Views of the technical branch.
pub const SEGMENTS: usize = 3;
/// Side of a view in pixels.
pub const SIDE: usize = 224;
/// Patches along a side.
const GRID: usize = 7;
/// Side of a patch.
const PATCH: usize = 32;
/// The technical branch takes every second frame.
const STRIDE: usize = 2;
/// Mean and standard deviation of each colour on 0 to 255, as for ImageNet.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const STD: [f32; 3] = [58.395, 57.12, 57.375];

/// The choices of one clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    seed: u64,
}

impl Choice {
    /// Numbers 0 to 2 are the segments' starts, 3 to 34 the aesthetic frames, then for each segment and patch (row by row) down and right.
    pub fn of(clip_id: &str) -> Self {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        Choice { seed: clip_id.bytes().fold(0xCBF2_9CE4_8422_2325, fnv) }
    }

    /// Choice number `k` among `0..range`; 0 for an empty range.
    fn below(self, k: usize, range: usize) -> usize {
        let mut z = self.seed.wrapping_add((k as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((u128::from(z ^ (z >> 31)) * range as u128) >> 64) as usize
    }

    /// Indexes of the technical frames of a segment among the clip's `frames` (at least one); they start again at the end of a short clip.
    pub fn technical_frames(self, segment: usize, frames: usize) -> [usize; FRAMES] {
        let length = frames / SEGMENTS;
        let start = length * segment + self.below(segment, length.saturating_sub(FRAMES * STRIDE));
        std::array::from_fn(|i| (start + i * STRIDE) % frames.max(1))
    }

    /// Indexes of the aesthetic frames.
    pub fn aesthetic_frames(self, frames: usize) -> [usize; FRAMES] {
        let length = frames / FRAMES;
        std::array::from_fn(|i| match length {
            0 => i * frames / FRAMES,
            _ => length * i + self.below(SEGMENTS + i, length.saturating_sub(STRIDE)),
        })
    }

    /// The grid of raw patches of a frame, RGB rows of [`SIDE`] pixels. All frames of a segment use the same places.
    pub fn technical_view(self, segment: usize, frame: &Frame) -> Vec<u8> {
        let (mut width, mut height, mut rgb) = (frame.width as usize, frame.height as usize, std::borrow::Cow::from(&frame.rgb));
        let short = width.min(height);
        if short < SIDE && short > 0 {
            let (larger_width, larger_height) = (width * SIDE / short, height * SIDE / short);
            let scale = short as f64 / SIDE as f64;
            rgb = bilinear(&rgb, (width, height), (larger_width, larger_height), (scale, scale)).into();
            (width, height) = (larger_width, larger_height);
        }
        let mut view = vec![0; SIDE * SIDE * 3];
        if short == 0 {
            return view;
        }
        let (cell_width, cell_height) = (width / GRID, height / GRID);
        for cell in 0..GRID * GRID {
            let (row, column) = (cell / GRID, cell % GRID);
            let number = SEGMENTS + FRAMES + 2 * (segment * GRID * GRID + cell);
            let top = (cell_height * row).min(height - PATCH) + self.below(number, cell_height.saturating_sub(PATCH));
            let left = (cell_width * column).min(width - PATCH) + self.below(number + 1, cell_width.saturating_sub(PATCH));
            for y in 0..PATCH {
                let from = ((top + y) * width + left) * 3;
                let to = ((row * PATCH + y) * SIDE + column * PATCH) * 3;
                view[to..to + PATCH * 3].copy_from_slice(&rgb[from..from + PATCH * 3]);
            }
        }
        view
    }
}

/// The whole frame scaled to a square, its aspect ignored.
pub fn aesthetic_view(frame: &Frame) -> Vec<u8> {
    let (width, height) = (frame.width as usize, frame.height as usize);
    if width == 0 || height == 0 {
        return vec![0; SIDE * SIDE * 3];
    }
    let scale = (width as f64 / SIDE as f64, height as f64 / SIDE as f64);
    bilinear(&frame.rgb, (width, height), (SIDE, SIDE), scale)
}

/// Bilinear without a wider filter for shrinking (torch's `interpolate`, `align_corners=False`), rounded half to even. `scale` is source pixels per target pixel.
fn bilinear(rgb: &[u8], from: (usize, usize), to: (usize, usize), scale: (f64, f64)) -> Vec<u8> {
    let taps = |n: usize, of: usize, scale: f64| -> Vec<(usize, usize, f64)> {
        let tap = |i: usize| {
            let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
            let low = (at as usize).min(of - 1);
            (low, (low + 1).min(of - 1), at - low as f64)
        };
        (0..n).map(tap).collect()
    };
    let (columns, rows) = (taps(to.0, from.0, scale.0), taps(to.1, from.1, scale.1));
    let mut out = Vec::with_capacity(to.0 * to.1 * 3);
    for (top, bottom, v) in rows {
        for &(left, right, u) in &columns {
            for c in 0..3 {
                let p = |x: usize, y: usize| f64::from(rgb[(y * from.0 + x) * 3 + c]);
                let upper = p(left, top) * (1.0 - u) + p(right, top) * u;
                let lower = p(left, bottom) * (1.0 - u) + p(right, bottom) * u;
                out.push((upper * (1.0 - v) + lower * v).round_ties_even() as u8);
            }
        }
    }
    out
}

/// Views in order of time as the input of a network: colour, frame, row, column; normalised.
pub fn tensor(views: &[&[u8]]) -> Vec<f32> {
    let normal = |c: usize, v: u8| (f32::from(v) - MEAN[c]) / STD[c];
    (0..3).flat_map(|c| views.iter().flat_map(move |view| view.iter().skip(c).step_by(3).map(move |&v| normal(c, v)))).collect()
}

/// Which constants normalise the two branches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Constants {
    /// As in the public code: as the manifests `dover-technical` and `dover-aesthetic` have them. Published scores, the paper's among them, are of this kind, although each
    /// branch has the other one's constants.
    #[default]
    Upstream,
    /// Each branch with the mean and deviation of its own scores.
    Corrected,
}

/// How a branch's number becomes its part of the whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norm {
    /// Mean of raw scores.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Weight in the sum of both branches.
    pub weight: f64,
}

/// Both branches' numbers: those of their manifests' `[score] constants`, where a manifest has none those of DOVER's built-in one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fusion {
    /// Of the technical branch.
    pub technical: Norm,
    /// Of the aesthetic branch.
    pub aesthetic: Norm,
}

impl Fusion {
    /// From the manifests of both branches.
    pub fn of(technical: &Manifest, aesthetic: &Manifest, constants: Constants) -> Result<Fusion, ModelError> {
        let (mut t, mut a) = (norm(technical, "dover-technical")?, norm(aesthetic, "dover-aesthetic")?);
        if constants == Constants::Corrected {
            // Each branch's numbers are in the other one's place; the weights are right.
            std::mem::swap(&mut t.mean, &mut a.mean);
            std::mem::swap(&mut t.std, &mut a.std);
        }
        Ok(Fusion { technical: t, aesthetic: a })
    }
}

fn norm(manifest: &Manifest, otherwise: &str) -> Result<Norm, ModelError> {
    let wrong = |what: String| Err(ModelError::new(ErrorKind::Manifest, format!("model `{}`: {what}", manifest.name)));
    if let Some(score) = &manifest.score
        && (score.scale != "raw" || score.direction != Direction::HigherIsBetter)
    {
        return wrong(
            "a branch of DOVER has a score of scale `raw` and direction `higher_is_better`; its manifest says otherwise".into(),
        );
    }
    let own = manifest.score.as_ref().map(|s| &s.constants).filter(|c| !c.is_empty()).cloned();
    let constants = match own {
        Some(own) => own,
        None => built_in(otherwise)?.score.map(|s| s.constants).unwrap_or_default(),
    };
    let number = |key: &str| constants.get(key).copied().filter(|v| v.is_finite());
    match (number("mean"), number("std").filter(|v| *v > 0.0), number("weight")) {
        (Some(mean), Some(std), Some(weight)) => Ok(Norm { mean, std, weight }),
        _ => wrong("`[score] constants` needs numbers `mean`, `std` (above 0) and `weight`".into()),
    }
}

/// What the two branches say of a clip, on all scales. Higher is better on each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// The technical branch's own number, mean over the segments; about -0.3 to 0.
    pub technical_raw: f64,
    /// The aesthetic branch's own number; about -0.3 to 0.35.
    pub aesthetic_raw: f64,
    /// Technical, in standard deviations from the mean.
    pub technical_z: f64,
    /// Aesthetic, in standard deviations from the mean.
    pub aesthetic_z: f64,
    /// Both together before the sigmoid: the weighted sum of both z.
    pub logit: f64,
}

impl Scores {
    /// From the raw outputs.
    pub fn of(technical_raw: f64, aesthetic_raw: f64, fusion: &Fusion) -> Self {
        let z = |raw: f64, n: &Norm| (raw - n.mean) / n.std;
        let (technical_z, aesthetic_z) = (z(technical_raw, &fusion.technical), z(aesthetic_raw, &fusion.aesthetic));
        let logit = fusion.technical.weight * technical_z + fusion.aesthetic.weight * aesthetic_z;
        Scores { technical_raw, aesthetic_raw, technical_z, aesthetic_z, logit }
    }

    /// Both together, 0 to 1.
    pub fn overall(&self) -> f64 {
        sigmoid(self.logit)
    }
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::super::model_tests::drawn;
    use super::*;
    use crate::pixels::goldens::{crc32, read};

    fn fusion(constants: Constants) -> Fusion {
        Fusion::of(&built_in("dover-technical").unwrap(), &built_in("dover-aesthetic").unwrap(), constants).unwrap()
    }

    #[test]
    fn constants_come_from_the_manifests() {
        let (mut technical, aesthetic) = (built_in("dover-technical").unwrap(), built_in("dover-aesthetic").unwrap());
        let upstream = fusion(Constants::Upstream);
        let mobile = built_in("dover-mobile-technical").unwrap();
        assert_eq!(Fusion::of(&mobile, &aesthetic, Constants::Upstream).unwrap(), upstream, "one without constants has DOVER's");
        let corrected = fusion(Constants::Corrected);
        assert_eq!((corrected.technical.mean, corrected.technical.weight), (upstream.aesthetic.mean, upstream.technical.weight));
        technical.score.as_mut().unwrap().constants.insert("mean".into(), 0.5);
        assert_eq!(Fusion::of(&technical, &aesthetic, Constants::Upstream).unwrap().technical.mean, 0.5);
        technical.score.as_mut().unwrap().constants.remove("std");
        assert!(Fusion::of(&technical, &aesthetic, Constants::Upstream).unwrap_err().message.contains("above 0"));
        technical.score.as_mut().unwrap().direction = Direction::LowerIsBetter;
        assert!(Fusion::of(&technical, &aesthetic, Constants::Upstream).unwrap_err().message.contains("higher_is_better"));
    }

    #[test]
    fn views_and_scales_are_those_of_numpy() {
        let golden = read("dover.json");
        for one in golden["clips"].as_array().unwrap() {
            let (id, frames) = (one["id"].as_str().unwrap(), one["frames"].as_u64().unwrap() as usize);
            let choice = Choice::of(id);
            for segment in 0..SEGMENTS {
                assert_eq!(serde_json::json!(choice.technical_frames(segment, frames)), one["technical_frames"][segment], "{id}");
            }
            assert_eq!(serde_json::json!(choice.aesthetic_frames(frames)), one["aesthetic_frames"], "{id}");
            let frame = drawn(one["width"].as_u64().unwrap() as u32, one["height"].as_u64().unwrap() as u32, 5);
            for segment in 0..SEGMENTS {
                assert_eq!(crc32(&choice.technical_view(segment, &frame)), one["technical_crc32"][segment], "{id} {segment}");
            }
            let view = aesthetic_view(&frame);
            assert_eq!(crc32(&view), one["aesthetic_crc32"], "{id}");
            let input = tensor(&[&view, &choice.technical_view(1, &frame)]);
            for (at, want) in one["tensor"].as_object().unwrap() {
                assert!((f64::from(input[at.parse::<usize>().unwrap()]) - want.as_f64().unwrap()).abs() < 1e-6, "{id} {at}");
            }
        }
        for one in golden["scores"].as_array().unwrap() {
            let constants = if one["constants"] == "upstream" { Constants::Upstream } else { Constants::Corrected };
            let number = |key: &str| one[key].as_f64().unwrap();
            let got = Scores::of(number("technical_raw"), number("aesthetic_raw"), &fusion(constants));
            for (key, got) in [
                ("technical_z", got.technical_z),
                ("aesthetic_z", got.aesthetic_z),
                ("technical", sigmoid(got.technical_z)),
                ("aesthetic", sigmoid(got.aesthetic_z)),
                ("logit", got.logit),
                ("overall", got.overall()),
            ] {
                assert!((got - number(key)).abs() < 1e-12, "{one}: {key} {got}");
            }
        }
    }

    #[test]
    fn the_demo_video_of_the_readme_has_its_score() {
        let scores = Scores::of(-0.079, 0.148, &fusion(Constants::Upstream));
        assert!((scores.logit - 0.809).abs() < 0.01 && (scores.overall() - 0.692).abs() < 0.002, "{scores:?}");
    }

    #[test]
    fn choices_stay_in_range_whatever_the_clip() {
        for frames in [1, 2, 3, 31, 32, 33, 95, 191, 192, 193, 250, 100_000] {
            for id in ["", "a#0-1", "ü"] {
                let choice = Choice::of(id);
                let technical = (0..SEGMENTS).flat_map(|s| choice.technical_frames(s, frames));
                assert!(technical.chain(choice.aesthetic_frames(frames)).all(|i| i < frames), "{frames} {id}");
                let aesthetic = choice.aesthetic_frames(frames);
                assert!(aesthetic.windows(2).all(|w| w[0] <= w[1]), "{frames}: {aesthetic:?}");
            }
        }
        for (width, height) in [(1, 1), (1, 300), (31, 40), (223, 224), (224, 224), (225, 999), (1920, 1080)] {
            assert_eq!(Choice::of("x").technical_view(2, &drawn(width, height, 0)).len(), SIDE * SIDE * 3);
            assert_eq!(aesthetic_view(&drawn(width, height, 0)).len(), SIDE * SIDE * 3);
        }
    }
}
