//! Settings of a training, and the named ones: what the paper's code did, what its text says, or your own.
//!
//! Why two readings of one paper: its table of hyperparameters lists arguments that the program of that time took and did not use. `paper_code` does
//! what that program executed; `paper_text` does what the table says. They differ materially: the mean noise level is 0.50 with shift 1 and 0.79 with
//! shift 7.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// What the paper's program executed: shift 1 in training, no EMA.
    PaperCode,
    /// What the paper's table says: shift 7 in training, EMA 0.999 applied.
    PaperText,
    /// Defaults that every key may change.
    Custom,
}

/// How noise levels are drawn before the shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoiseLevels {
    /// Evenly from 0 to 1.
    Uniform,
    /// The logistic function of a normal number.
    LogitNormal,
}

/// An exponential moving average of the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// Share that is kept at each step.
    pub decay: f64,
    /// First step that counts.
    #[serde(default)]
    pub start_step: u64,
    /// At step t at most (1 + t) / (10 + t) is kept, so that the beginning does not linger.
    #[serde(default = "yes")]
    pub warmup: bool,
}

fn yes() -> bool {
    true
}

/// Everything that a trainer needs to know of the training itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Rank of the adapter.
    pub rank: u32,
    /// Its scale is alpha / rank.
    pub alpha: f64,
    /// Optimiser steps.
    pub steps: u64,
    /// AdamW's learning rate.
    pub learning_rate: f64,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm.
    pub max_grad_norm: f64,
    /// Samples of a step, on all ranks together.
    pub global_batch: u32,
    /// Samples of one forward pass on one rank.
    pub micro_batch: u32,
    /// Noise levels in training: s u / (1 + (s - 1) u).
    pub train_shift: f64,
    /// The same when videos are made for evaluation.
    pub sample_shift: f64,
    /// How noise levels are drawn.
    pub noise_levels: NoiseLevels,
    /// Embedded guidance in training.
    pub train_guidance: f64,
    /// Share of captions that are left empty.
    pub caption_dropout: f64,
    /// The average of the adapter, if one is kept.
    pub ema: Option<Ema>,
    /// A checkpoint every so many steps.
    pub checkpoint_every: u64,
    /// The newest checkpoints that are kept.
    pub keep_last: u32,
    /// Checkpoints at multiples of this are kept for ever.
    pub keep_every: u64,
    /// Decides order, noise and first weights.
    pub seed: u64,
}

impl Preset {
    /// The settings, before single keys change them.
    pub fn settings(self) -> Settings {
        let code = Settings {
            rank: 32,
            alpha: 32.0,
            steps: 50_000,
            learning_rate: 5e-5,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            global_batch: 32,
            micro_batch: 1,
            train_shift: 1.0,
            sample_shift: 7.0,
            noise_levels: NoiseLevels::Uniform,
            train_guidance: 1.0,
            caption_dropout: 0.0,
            ema: None,
            checkpoint_every: 100,
            keep_last: 3,
            keep_every: 5_000,
            seed: 1024,
        };
        match self {
            Preset::PaperCode | Preset::Custom => code,
            Preset::PaperText => {
                Settings { train_shift: 7.0, ema: Some(Ema { decay: 0.999, start_step: 0, warmup: true }), ..code }
            }
        }
    }

    /// The settings of the paper's table that do nothing under this preset, a sentence each.
    pub fn inert(self) -> &'static [&'static str] {
        match self {
            Preset::PaperCode => &[
                "shift 7 acts on the validation sampler only (sample_shift); training draws noise levels with shift 1",
                "ema_decay 0.999 and ema_start_step 0 are parsed and never used",
                "train_batch_size 32 is how many rows a loader takes at once, not the batch of a step",
                "num_frames 93 acts on validation only",
                "mixed_precision and allow_tf32 are ignored: bf16 autocast and TF32 are always on",
                "checkpoints_total_limit 100 is ignored: nothing is ever removed (here keep_last and keep_every do it)",
            ],
            Preset::PaperText | Preset::Custom => &[],
        }
    }
}

impl Settings {
    /// Forward passes of a step on each of `ranks`, or why the batch cannot be dealt out.
    pub fn accumulation(&self, ranks: u32) -> Result<u32, String> {
        let at_once = u64::from(self.micro_batch) * u64::from(ranks);
        if at_once == 0 || !u64::from(self.global_batch).is_multiple_of(at_once) {
            return Err(format!(
                "global_batch {} is not a multiple of micro_batch {} × {ranks} ranks",
                self.global_batch, self.micro_batch
            ));
        }
        u32::try_from(u64::from(self.global_batch) / at_once).map_err(|e| e.to_string())
    }

    /// Each number that makes no sense: its key and why.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let mut range = |key, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                out.push((key, format!("{value} is not from {low} to {high}")));
            }
        };
        range("rank", f64::from(self.rank), 1.0, 1024.0);
        range("alpha", self.alpha, 1e-3, 1e5);
        range("steps", self.steps as f64, 1.0, 1e9);
        range("learning_rate", self.learning_rate, 1e-9, 1.0);
        range("weight_decay", self.weight_decay, 0.0, 1.0);
        range("max_grad_norm", self.max_grad_norm, 1e-6, 1e6);
        range("global_batch", f64::from(self.global_batch), 1.0, 65_536.0);
        range("micro_batch", f64::from(self.micro_batch), 1.0, 1024.0);
        range("train_shift", self.train_shift, 0.1, 100.0);
        range("sample_shift", self.sample_shift, 0.1, 100.0);
        range("train_guidance", self.train_guidance, 0.0, 100.0);
        range("caption_dropout", self.caption_dropout, 0.0, 1.0);
        range("checkpoint_every", self.checkpoint_every as f64, 1.0, 1e9);
        range("keep_last", f64::from(self.keep_last), 2.0, 1000.0);
        range("keep_every", self.keep_every as f64, 1.0, 1e9);
        if let Some(ema) = self.ema {
            range("ema", ema.decay, 0.0, 0.999_999);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_readings_of_the_paper_differ_where_they_should() {
        let (code, text) = (Preset::PaperCode.settings(), Preset::PaperText.settings());
        assert_eq!((code.train_shift, code.ema), (1.0, None));
        assert_eq!((text.train_shift, text.ema.map(|e| e.decay)), (7.0, Some(0.999)));
        assert_eq!(Settings { train_shift: 1.0, ema: None, ..text }, code);
        assert!(!Preset::PaperCode.inert().is_empty() && Preset::PaperText.inert().is_empty());
        for preset in [Preset::PaperCode, Preset::PaperText, Preset::Custom] {
            assert_eq!(preset.settings().mistakes(), []);
        }
    }

    #[test]
    fn a_batch_is_dealt_out_evenly_or_not_at_all() {
        let settings = Preset::PaperCode.settings();
        assert_eq!(settings.accumulation(8), Ok(4));
        assert!(settings.accumulation(7).is_err_and(|e| e == "global_batch 32 is not a multiple of micro_batch 1 × 7 ranks"));
        assert!(settings.accumulation(0).is_err());
    }

    #[test]
    fn senseless_numbers_are_found_all_at_once() {
        let settings = Settings { rank: 0, learning_rate: f64::NAN, keep_last: 1, ..Preset::Custom.settings() };
        let keys: Vec<&str> = settings.mistakes().iter().map(|m| m.0).collect();
        assert_eq!(keys, ["rank", "learning_rate", "keep_last"]);
    }
}
