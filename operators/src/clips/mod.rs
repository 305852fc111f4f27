//! From frame scores to clips.

pub mod clip_cut;
pub mod runs;
pub mod similarity;
mod split_decision;
mod split_input;
pub mod temporal_split;
