//! Captions.

pub mod cache;
pub mod captioner;
pub mod clip;
pub mod describe;
pub mod openai;
pub mod pictures;
pub mod prompt;
pub mod template;

#[cfg(test)]
mod tests;
