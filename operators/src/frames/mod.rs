//! Embeddings and scores of frames.

#[cfg(test)]
pub(crate) mod fixtures;
pub mod frame_classifier;
pub mod head;
pub mod vectors;
pub mod descriptor;
pub mod frame_embed;
