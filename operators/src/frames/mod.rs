//! Embeddings and scores of frames.
