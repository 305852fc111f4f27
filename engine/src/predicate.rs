//! SQL conditions over columns.
