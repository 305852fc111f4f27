//! What a clip must be so that a model trains on all of it.
//!
//! Why before encoding: trainers drop or cut what does not fit without a word. 93 frames of Mochi, for one, encode to 16 latent frames, of which 91
//! frames come back.

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::architecture::{Architecture, SIDE_MULTIPLE};
use crate::job::Shape;

/// Frame rates may differ so much.
const FPS_TOLERANCE: f64 = 0.01;
/// Text models read 256 tokens; a token is hardly ever longer than this, in bytes.
const LONGEST_CAPTION_BYTES: usize = 16 << 10;

/// What the table says of a clip; nothing where it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ClipFacts {
    /// Frames, counted.
    pub frames: Option<u64>,
    /// Pixels.
    pub height: Option<u64>,
    /// Pixels.
    pub width: Option<u64>,
    /// Mean frame rate.
    pub fps: Option<f64>,
}

/// What is wrong with the size that a job asks for: key, what, and what to do.
pub fn check_shape(architecture: Architecture, shape: &Shape) -> Vec<(&'static str, String, String)> {
    let mut out = Vec::new();
    let whole = architecture.whole_frames(shape.frames);
    if shape.frames == 0 || whole != shape.frames {
        let (name, rule) = (architecture.name(), architecture.frame_rule());
        let what =
            format!("{name} takes {rule} frames; of {} its VAE would keep {whole} and drop the others in silence", shape.frames);
        out.push(("frames", what, format!("use {}", whole.max(1))));
    }
    for (key, pixels) in [("height", shape.height), ("width", shape.width)] {
        if pixels == 0 || !pixels.is_multiple_of(SIDE_MULTIPLE) {
            let fits = (pixels / SIDE_MULTIPLE * SIDE_MULTIPLE).max(SIDE_MULTIPLE);
            out.push((key, format!("{pixels} is not a multiple of {SIDE_MULTIPLE}"), format!("use {fits}")));
        }
    }
    if !(1.0..=240.0).contains(&shape.fps) {
        out.push(("fps", format!("{} is not from 1 to 240", shape.fps), "use 24".into()));
    }
    out
}

/// Why a clip does not fit: a word, and details.
pub fn check(
    architecture: Architecture,
    shape: &Shape,
    facts: &ClipFacts,
    caption: &str,
) -> std::result::Result<(), (&'static str, String)> {
    if let Some(frames) = facts.frames.filter(|frames| *frames < shape.frames) {
        return Err((
            "too_few_frames",
            format!("has {frames} frames, {} are trained on ({})", shape.frames, architecture.name()),
        ));
    }
    for (has, wanted, side) in [(facts.height, shape.height, "high"), (facts.width, shape.width, "wide")] {
        if let Some(has) = has.filter(|has| *has != wanted) {
            return Err(("other_size", format!("is {has} pixels {side}, not {wanted}; `clip_cut` makes clips of one size")));
        }
    }
    if let Some(fps) = facts.fps.filter(|fps| fps.is_nan() || (fps - shape.fps).abs() > FPS_TOLERANCE) {
        return Err(("other_fps", format!("has {fps} frames per second, not {}; `clip_cut` makes clips of one rate", shape.fps)));
    }
    if caption.trim().is_empty() {
        return Err(("no_caption", "has no caption".into()));
    }
    if caption.len() > LONGEST_CAPTION_BYTES {
        return Err((
            "caption_too_long",
            format!("its caption has {} bytes, at most {LONGEST_CAPTION_BYTES} can be read", caption.len()),
        ));
    }
    Ok(())
}

/// Gives each number of a tensor to `visit`. False, without any, if its type is not of floating-point numbers.
pub fn each_number(dtype: Dtype, bytes: &[u8], mut visit: impl FnMut(f64)) -> bool {
    fn all<const N: usize>(bytes: &[u8], visit: &mut impl FnMut(f64), number: impl Fn([u8; N]) -> f64) {
        bytes.chunks_exact(N).filter_map(|b| b.try_into().ok()).map(number).for_each(visit);
    }
    match dtype {
        Dtype::F64 => all(bytes, &mut visit, f64::from_le_bytes),
        Dtype::F32 => all(bytes, &mut visit, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::BF16 => all(bytes, &mut visit, |b| half::bf16::from_le_bytes(b).to_f64()),
        Dtype::F16 => all(bytes, &mut visit, |b| half::f16::from_le_bytes(b).to_f64()),
        _ => return false,
    }
    true
}

/// No NaN and no infinity; integers have none.
pub fn is_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    let mut finite = true;
    each_number(dtype, bytes, |value| finite &= value.is_finite());
    finite
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { frames: 93, height: 480, width: 848, fps: 24.0 };

    #[test]
    fn sizes_that_would_lose_something_are_named_with_the_next_that_fits() {
        assert_eq!(check_shape(Architecture::Hunyuan, &SHAPE), []);
        let found = check_shape(Architecture::Mochi, &Shape { width: 850, fps: f64::NAN, ..SHAPE });
        let text: Vec<String> = found.iter().map(|(key, what, help)| format!("{key}: {what} ({help})")).collect();
        insta::assert_snapshot!(text.join("\n"));
        assert_eq!(check_shape(Architecture::Mochi, &Shape { frames: 91, ..SHAPE }), []);
        assert_eq!(check_shape(Architecture::Hunyuan, &Shape { frames: 0, height: 0, width: 0, fps: 0.0 }).len(), 4);
    }

    #[test]
    fn clips_that_do_not_fit_are_told_why() {
        let facts = ClipFacts { frames: Some(100), height: Some(480), width: Some(848), fps: Some(24.0) };
        let code = |facts, caption: &str| check(Architecture::Hunyuan, &SHAPE, &facts, caption).map_err(|(code, _)| code);
        assert_eq!(code(facts, "a hand"), Ok(()));
        assert_eq!(code(ClipFacts::default(), "a hand"), Ok(()), "what nobody knows is left to the encoder");
        assert_eq!(code(ClipFacts { frames: Some(92), ..facts }, "a hand"), Err("too_few_frames"));
        assert_eq!(code(ClipFacts { width: Some(854), ..facts }, "a hand"), Err("other_size"));
        assert_eq!(code(ClipFacts { fps: Some(23.976), ..facts }, "a hand"), Err("other_fps"));
        assert_eq!(code(ClipFacts { fps: Some(f64::NAN), ..facts }, "a hand"), Err("other_fps"));
        assert_eq!(code(facts, " \n"), Err("no_caption"));
        assert_eq!(code(facts, &"x".repeat(20_000)), Err("caption_too_long"));
    }

    #[test]
    fn nan_is_found_in_every_type() {
        assert!(is_finite(Dtype::F32, &1.0_f32.to_le_bytes()) && !is_finite(Dtype::F32, &f32::NAN.to_le_bytes()));
        assert!(
            !is_finite(Dtype::BF16, &half::bf16::INFINITY.to_le_bytes()) && !is_finite(Dtype::F16, &half::f16::NAN.to_le_bytes())
        );
        assert!(!is_finite(Dtype::F64, &f64::INFINITY.to_le_bytes()) && is_finite(Dtype::I64, &[255; 8]));
    }
}
