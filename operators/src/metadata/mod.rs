//! Decisions from metadata alone.

pub mod keyword_filter;
pub mod keywords;
pub mod text_classifier;

#[cfg(test)]
mod medical_terms_test;
