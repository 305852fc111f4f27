//! From frame scores to clips.

pub mod clip_cut;
