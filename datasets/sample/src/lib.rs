//! Makes the sample corpus: short videos whose truth is known because a program drew them.
//!
//! Why drawn: nothing has to be downloaded, no licence or patient is involved, and cuts, borders, words and labels are exact. The same seed gives the same
//! bytes on the same machine (another version of an encoder may give others). `README.md` beside this crate says what each file is for.
//!
//! | module | job |
//! |---|---|
//! | [`corpus`] | the list of videos |
//! | [`spec`] | how a video is described |
//! | [`looks`], [`canvas`], [`font`], [`rng`] | pictures |
//! | [`encode`], [`stamps`] | files by GStreamer, without what changes from run to run |
//! | [`metadata`] | the files beside a video |
//! | [`truth`] | what tests compare with |
//! | [`generate`], [`write`] | putting it together |

#![allow(missing_docs)] // fields of plain descriptions speak for themselves

pub mod canvas;
pub mod corpus;
pub mod encode;
pub mod font;
pub mod generate;
pub mod looks;
pub mod metadata;
pub mod rng;
pub mod spec;
pub mod stamps;
pub mod truth;
pub mod write;

use std::path::PathBuf;

/// Raise when any output byte changes: an older corpus is then made anew.
pub const GENERATOR_VERSION: u32 = 5;

/// Why the corpus could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The disk said no.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// GStreamer said no.
    #[error("cannot encode {}: {what}\n  help: the GStreamer plugins base, good, ugly and libav must be installed; scripts/bootstrap does it", .path.display())]
    Encode { path: PathBuf, what: String },
    /// GStreamer itself is unusable.
    #[error("GStreamer does not start: {0}")]
    Gstreamer(String),
}
