//! Decisions from metadata alone.

pub mod keyword_filter;
pub mod keywords;
