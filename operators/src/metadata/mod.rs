//! Decisions from metadata alone.
