//! From frame scores to clips.

pub mod runs;
pub mod temporal_split;
pub mod clip_cut;
