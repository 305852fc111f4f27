//! From frame scores to clips, and from cuts to shots.

mod boundaries;
pub mod clip_cut;
mod cuts;
pub mod runs;
mod shot_rows;
pub mod shot_split;
mod shots;
pub mod similarity;
mod split_decision;
mod split_input;
pub mod temporal_split;
