//! Decisions from metadata alone.

pub mod keyword_filter;
pub mod keywords;

#[cfg(test)]
mod medical_terms_test;
