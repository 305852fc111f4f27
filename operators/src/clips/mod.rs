//! From frame scores to clips.
