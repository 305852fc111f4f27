//! Rules that drop rows.
