//! From frame scores to clips.

pub mod clip_cut;
pub mod runs;
pub mod temporal_split;
