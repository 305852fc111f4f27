//! What a training costs, by arithmetic: tokens, operations, days, memory, disk.
//!
//! For a frozen model with full recomputation, of linear layers L and attention A operations per sample forward: forward twice, 2 (L + A); the
//! gradient through frozen weights, L; the gradient of attention with recomputed scores, 2.5 A. What can go wrong: the share of the device's peak
//! that is reached (MFU) is a guess until a run has measured it, so it is a key, and the answer names it.

use serde::Serialize;

use crate::architecture::{Architecture, PIXELS_PER_LATENT, SIDE_MULTIPLE};
use crate::job::Shape;
use crate::preset::Settings;

/// Bytes of memory besides the model, the kept block inputs and the adapter, for the 38,160 tokens at which it was estimated.
const WORKING_BYTES: f64 = 6.5e9;
const WORKING_TOKENS: f64 = 38_160.0;
/// Parameter, both moments of Adam and the average, each of 4 bytes.
const STATE_BYTES_PER_LORA: u64 = 16;
/// In a checkpoint the adapter is there again in its own file, and the averaged one.
const CHECKPOINT_BYTES_PER_LORA: u64 = 24;
const SECONDS_PER_DAY: f64 = 86_400.0;

/// The machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Device {
    /// Peak of one device, in 10^12 operations a second.
    pub tflops: f64,
    /// Share of it that training reaches, 0 to 1.
    pub mfu: f64,
    /// Memory of one device, in GB (10^9 bytes).
    pub memory_gb: f64,
    /// Devices.
    pub count: u32,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// Video tokens of a sample.
    pub tokens: u64,
    /// Operations for one sample.
    pub flop_per_sample: f64,
    /// Operations of the whole training.
    pub flop: f64,
    /// Days on these devices.
    pub days: f64,
    /// Times that each sample is seen.
    pub epochs: f64,
    /// Memory of a device with the model on each, in GB.
    pub memory_gb: f64,
    /// The same with the model dealt out over all devices.
    pub memory_sharded_gb: f64,
    /// The spool, in bytes.
    pub spool_bytes: u64,
    /// Checkpoints that are there at the same time, in bytes.
    pub checkpoint_bytes: u64,
}

/// Works it out.
pub fn estimate(architecture: Architecture, shape: &Shape, settings: &Settings, samples: u64, device: &Device) -> Estimate {
    let sizes = architecture.sizes();
    let latent_frames = architecture.latent_frames(shape.frames);
    // Whatever the file says: too large a size is an error of the preflight, not an overflow here.
    let product = |factors: [u64; 3]| factors.into_iter().fold(1, u64::saturating_mul);
    let tokens = product([latent_frames, shape.height / SIDE_MULTIPLE, shape.width / SIDE_MULTIPLE]);
    let (n, d, blocks) = (tokens as f64, sizes.width as f64, sizes.blocks as f64);
    let all_tokens = n + sizes.text_tokens as f64;
    let linear = 2.0 * sizes.linear * blocks * d * d * n;
    let attention = 4.0 * blocks * all_tokens * all_tokens * d;
    let flop_per_sample = 2.0 * (linear + attention) + linear + 2.5 * attention;
    let seen = settings.steps as f64 * f64::from(settings.global_batch);
    let flop = seen * flop_per_sample;
    let rate = f64::from(device.count) * device.tflops * 1e12 * device.mfu;
    let lora = sizes.lora_per_rank.saturating_mul(u64::from(settings.rank));
    let weights = 2.0 * sizes.parameters as f64;
    let micro = f64::from(settings.micro_batch);
    let rest =
        micro * (blocks * all_tokens * d * 2.0 + WORKING_BYTES * n / WORKING_TOKENS) + lora as f64 * STATE_BYTES_PER_LORA as f64;
    let latent = product([latent_frames, shape.height / PIXELS_PER_LATENT, shape.width / PIXELS_PER_LATENT])
        .saturating_mul(sizes.channels * 2);
    let text = sizes.text_tokens * sizes.text_width * 2;
    let kept = u64::from(settings.keep_last) + settings.steps.checked_div(settings.keep_every).unwrap_or(0);
    Estimate {
        tokens,
        flop_per_sample,
        flop,
        days: flop / rate / SECONDS_PER_DAY,
        epochs: if samples == 0 { 0.0 } else { seen / samples as f64 },
        memory_gb: (weights + rest) / 1e9,
        memory_sharded_gb: (weights / f64::from(device.count.max(1)) + rest) / 1e9,
        spool_bytes: latent.saturating_add(text).saturating_mul(samples),
        checkpoint_bytes: lora.saturating_mul(CHECKPOINT_BYTES_PER_LORA).saturating_mul(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset::Preset;

    const A800: Device = Device { tflops: 312.0, mfu: 0.45, memory_gb: 80.0, count: 8 };

    fn near(value: f64, wanted: f64, tolerance: f64) {
        assert!((value - wanted).abs() <= tolerance, "{value} is not {wanted} ± {tolerance}");
    }

    /// The numbers that were worked out by hand for the paper's setting.
    #[test]
    fn the_papers_setting_costs_what_was_worked_out_by_hand() {
        let shape = Shape { frames: 93, height: 480, width: 848, fps: 24.0 };
        let got = estimate(Architecture::Hunyuan, &shape, &Preset::PaperCode.settings(), 55_000, &A800);
        assert_eq!(got.tokens, 38_160);
        near(got.flop_per_sample / 1e15, 6.45, 0.01);
        near(got.flop / 1e22, 1.03, 0.01);
        near(got.days, 106.0, 0.7);
        near(got.epochs, 29.0, 0.1);
        near(got.memory_gb, 47.0, 0.5);
        near(got.spool_bytes as f64 / 1e9, 384.0, 0.5);
        near(got.checkpoint_bytes as f64 / 1e9, 13.0 * 0.98, 0.1);
    }

    #[test]
    fn smaller_pictures_and_other_models() {
        let small = Shape { frames: 93, height: 256, width: 448, fps: 24.0 };
        near(estimate(Architecture::Hunyuan, &small, &Preset::PaperCode.settings(), 55_000, &A800).days, 14.0, 1.0);
        let large = Shape { frames: 93, height: 720, width: 1280, fps: 24.0 };
        let got = estimate(Architecture::Hunyuan, &large, &Preset::PaperCode.settings(), 55_000, &A800);
        near(got.spool_bytes as f64 / 1e9, 724.0, 1.0);
        assert!((70.0..77.0).contains(&got.memory_gb), "{}", got.memory_gb);
        assert!(got.memory_sharded_gb < got.memory_gb - 20.0);
        let mochi = Shape { frames: 91, height: 480, width: 848, fps: 24.0 };
        let got = estimate(Architecture::Mochi, &mochi, &Preset::PaperCode.settings(), 55_000, &A800);
        near(got.spool_bytes as f64 / 1e9, 250.0, 1.0);
    }
}
