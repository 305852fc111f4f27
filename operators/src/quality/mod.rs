//! How good a clip's pictures are, without a model: one operator per measure, each from a few uniformly spaced frames.
//!
//! Operators that ask for the same frames of a clip share one decode through the frame store of [`crate::media`]: `sharpness`, `exposure`, `blockiness` and
//! [`crate::filters::black_border`] look at 8 frames in native size, `freeze` and `jitter` at 32 small ones. Put them next to each other in a pipeline.

pub mod blockiness;
pub mod dover_views;
pub mod exposure;
pub mod freeze;
pub mod jitter;
mod per_clip;
pub mod sharpness;

#[cfg(test)]
mod tests;
