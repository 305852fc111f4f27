//! Embeddings and scores of frames.

pub mod descriptor;
pub mod frame_embed;
