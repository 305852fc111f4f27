//! What is said in a video or a clip.

pub mod find;
pub mod listener;
pub mod transcript;
pub mod whisper;

#[cfg(test)]
mod tests;
