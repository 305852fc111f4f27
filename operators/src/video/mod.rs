//! What a video file is.

pub mod probe;

pub(crate) use probe::report_missing;
