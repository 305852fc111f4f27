//! How good a clip's pictures are, with and without a model: one operator per measure, each from a few uniformly spaced frames.
//!
//! Operators that ask for the same frames of a clip share one decode through the frame store of [`crate::media`]: `sharpness`, `exposure`, `blockiness` and
//! [`crate::filters::black_border`] look at 8 frames in native size, `freeze` and `jitter` at 32 small ones. Put them next to each other in a pipeline.

pub mod aesthetic;
pub mod blockiness;
pub mod camera_motion;
pub mod dover_views;
pub mod exposure;
pub mod freeze;
pub mod jitter;
pub(crate) mod models;
mod per_clip;
mod regression_head;
mod scale;
pub mod sharpness;
pub mod technical;

#[cfg(test)]
pub(crate) mod model_tests;
#[cfg(test)]
mod tests;
