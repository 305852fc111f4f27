//! The pipeline file: parse, interpolate, override.
