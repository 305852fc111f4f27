//! Rules that drop rows.

pub mod black_border;
mod borders;
