//! What a video file is.
