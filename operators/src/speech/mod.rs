//! What is said in a video or a clip.

pub mod checks;
pub mod find;
pub mod listener;
pub mod start;
pub mod transcript;
pub mod whisper;

#[cfg(test)]
mod tests;
