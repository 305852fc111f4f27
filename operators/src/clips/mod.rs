//! From frame scores to clips.

pub mod runs;
pub mod temporal_split;
