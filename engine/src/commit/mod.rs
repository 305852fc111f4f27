//! Delta tables that are right after any kill.

pub mod killpoint;
mod split_set;

pub use killpoint::kill_point;
pub use split_set::{SplitSet, SplitSetError};
