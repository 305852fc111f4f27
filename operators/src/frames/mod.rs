//! Embeddings and scores of frames.

pub mod category;
pub mod descriptor;
mod embed_columns;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod frame_classifier;
pub mod frame_embed;
pub mod vectors;
