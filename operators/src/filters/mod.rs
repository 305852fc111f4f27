//! Rules that drop rows.

pub mod filter;
pub mod resolution_filter;
pub mod black_border;
mod borders;
