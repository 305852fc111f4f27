//! Rules that drop rows.

pub mod black_border;
pub mod filter;
pub mod gate;
pub mod resolution_filter;
pub mod subtitles;
