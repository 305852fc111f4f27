//! Decisions from metadata alone.

pub mod dictionaries;
mod first_words;
pub mod fold;
pub mod keyword_filter;
pub mod keyword_lint;
pub mod keyword_rules;
pub mod keywords;
pub mod text_classifier;

#[cfg(test)]
mod medical_terms_test;
