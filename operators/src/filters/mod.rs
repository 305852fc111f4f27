//! Rules that drop rows.

pub mod black_border;
pub mod filter;
pub mod phi_text;
pub mod resolution_filter;
pub mod subtitles;
