//! Sources whose rows are decided over whole committed tables, before the run: in planning rounds.
//!
//! Such a decision needs all rows of a channel or of a content, so it cannot be a step among steps whose splits are finished one by one. It is the
//! first step of a pipeline over the tables that another pipeline has committed; what it decides is part of the plan.

pub mod channel_expansion;
pub mod columns;
pub mod dedup;
pub mod ids;
pub mod places;
pub mod planning;

#[cfg(test)]
mod tests;
