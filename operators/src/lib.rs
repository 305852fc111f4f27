//! The operators of curette: one folder per family, one file per operator, one line in [`registry`].
//!
//! [`media`] is the plane where pixels live: operators ask it for frames and cuts; it knows nothing of rows.

pub mod calibrate;
pub mod captions;
pub mod clips;
pub mod damage;
pub mod filters;
pub mod frames;
pub mod label;
pub mod meaning;
pub mod media;
pub mod metadata;
pub mod models;
pub mod pixels;
pub mod quality;
pub mod refilter;
pub mod registry;
pub mod remote;
pub mod report;
pub mod rounds;
pub mod sinks;
pub mod slots;
pub mod sources;
pub mod span;
pub mod speech;
pub mod stats;
pub mod sweep;
pub mod tables;
#[cfg(test)]
pub mod testing;
pub mod text;
pub mod train_head;
pub mod video;
pub mod why;

/// The example operator of CONTRIBUTING.md must compile.
#[cfg(doctest)]
#[doc = include_str!("../../CONTRIBUTING.md")]
struct Contributing;
