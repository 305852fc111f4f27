//! From frame scores to clips.

mod boundaries;
pub mod clip_cut;
pub mod runs;
pub mod similarity;
mod split_decision;
mod split_input;
pub mod temporal_split;
