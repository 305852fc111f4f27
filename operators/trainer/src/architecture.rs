//! What is known of the models that adapters are trained for: sizes and rules of their input.
//!
//! The numbers of HunyuanVideo and Mochi are those of the released models, counted: hidden width, blocks, parameters, the VAE's factors. Those of Wan
//! have not been held against a release. What can go wrong: a release with other sizes under the same name; the trainer's own `plan` event tells the truth then, and the estimates here are only for the preflight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// HunyuanVideo, 12.8 billion parameters.
    Hunyuan,
    /// Mochi 1, 10 billion parameters.
    Mochi,
    /// Wan 2.1, 1.3 billion parameters.
    #[serde(rename = "wan_1_3b")]
    Wan1_3b,
    /// Wan 2.1, 14 billion parameters.
    #[serde(rename = "wan_14b")]
    Wan14b,
}

/// Its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    /// Width of a token.
    pub width: u64,
    /// Transformer blocks.
    pub blocks: u64,
    /// Parameters of the frozen model.
    pub parameters: u64,
    /// Weights of the linear layers that a video token passes in a block, in units of width².
    pub linear: f64,
    /// Text tokens that take part in attention.
    pub text_tokens: u64,
    /// Width of a text token.
    pub text_width: u64,
    /// Channels of a latent.
    pub channels: u64,
    /// Frames of which the VAE makes one latent frame, after the first.
    pub frames_per_latent: u64,
    /// Numbers of a LoRA of rank 1 on q, k, v and the output projection.
    pub lora_per_rank: u64,
}

/// Pixels of a side that become one latent.
pub const PIXELS_PER_LATENT: u64 = 8;
/// Sides are multiples of this: latents are cut into patches of 2×2.
pub const SIDE_MULTIPLE: u64 = 16;

impl Architecture {
    /// The word in job files.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Hunyuan => "hunyuan",
            Architecture::Mochi => "mochi",
            Architecture::Wan1_3b => "wan_1_3b",
            Architecture::Wan14b => "wan_14b",
        }
    }

    /// See [`Sizes`].
    pub fn sizes(self) -> Sizes {
        match self {
            // 40,894,464 numbers at rank 32.
            Architecture::Hunyuan => Sizes {
                width: 3072,
                blocks: 60,
                parameters: 12_820_000_000,
                linear: 12.0,
                text_tokens: 256,
                text_width: 4096,
                channels: 16,
                frames_per_latent: 4,
                lora_per_rank: 1_277_952,
            },
            // 38,010,880 numbers at rank 32.
            Architecture::Mochi => Sizes {
                width: 3072,
                blocks: 48,
                parameters: 10_030_000_000,
                linear: 12.0,
                text_tokens: 256,
                text_width: 4096,
                channels: 12,
                frames_per_latent: 6,
                lora_per_rank: 1_187_840,
            },
            Architecture::Wan1_3b => wan(1536, 8960, 30, 1_420_000_000),
            Architecture::Wan14b => wan(5120, 13_824, 40, 14_290_000_000),
        }
    }

    /// The frame counts that its VAE keeps, in words.
    pub fn frame_rule(self) -> &'static str {
        match self.sizes().frames_per_latent {
            6 => "6k + 1",
            _ => "4k + 1",
        }
    }

    /// The largest number of frames, at most `frames`, that it keeps; 0 frames are none.
    pub fn whole_frames(self, frames: u64) -> u64 {
        let step = self.sizes().frames_per_latent;
        frames.checked_sub(1).map_or(0, |rest| rest / step * step + 1)
    }

    /// Latent frames of so many frames.
    pub fn latent_frames(self, frames: u64) -> u64 {
        frames.saturating_sub(1) / self.sizes().frames_per_latent + u64::from(frames > 0)
    }
}

/// Self- and cross-attention with four projections each, and two layers of `hidden`. LoRA on both attentions.
fn wan(width: u64, hidden: u64, blocks: u64, parameters: u64) -> Sizes {
    Sizes {
        width,
        blocks,
        parameters,
        linear: 8.0 + 2.0 * hidden as f64 / width as f64,
        text_tokens: 512,
        text_width: 4096,
        channels: 16,
        frames_per_latent: 4,
        lora_per_rank: 8 * 2 * width * blocks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_the_vae_would_drop_in_silence() {
        assert_eq!(Architecture::Hunyuan.whole_frames(93), 93);
        assert_eq!(Architecture::Hunyuan.latent_frames(93), 24);
        assert_eq!(Architecture::Mochi.whole_frames(93), 91);
        assert_eq!(Architecture::Mochi.latent_frames(91), 16);
        assert_eq!((Architecture::Mochi.whole_frames(0), Architecture::Mochi.latent_frames(0)), (0, 0));
    }

    #[test]
    fn sizes_of_adapters_are_those_that_were_counted() {
        assert_eq!(Architecture::Hunyuan.sizes().lora_per_rank * 32, 40_894_464);
        assert_eq!(Architecture::Mochi.sizes().lora_per_rank * 32, 38_010_880);
    }
}
