//! Captions.

pub mod answer;
pub mod binding;
pub mod body;
pub mod captioner;
pub mod checks;
pub mod clip;
pub mod describe;
pub mod keys;
pub mod openai;
pub mod pictures;
pub mod prompt;
pub mod records;
pub mod seen;
pub mod start;
pub mod template;
pub mod writer;

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod service_tests;
#[cfg(test)]
mod tests;
