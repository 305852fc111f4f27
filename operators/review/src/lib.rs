//! People look at a sample of what a pipeline made, and what they say becomes a table.
//!
//! Why a crate of its own: it is a web server and a journal, needs no video library and no model, and is built beside the operators.
//!
//! | file | does |
//! |---|---|
//! | `mode` | what can be rated: scales, tags, dimensions |
//! | `draw` | which rows are looked at, from a seed alone |
//! | `stage` | which rows a step of a pipeline kept and dropped, from the tables of its output |
//! | `rows` | the rest of those rows: scores, captions, where the clip is |
//! | `files` | folders of videos, and what `curette label` laid out, in the place of a pipeline's output |
//! | `session` | the sample, written down once, so that ratings can go on tomorrow |
//! | `rating`, `journal` | one rating; a file per rater that holds it before the page is told so |
//! | `ledger` | the committed table `ratings` |
//! | `media`, `range` | the bytes of a clip, whole or in part |
//! | `server` | the page and what it asks for |
//! | `audit` | how a stage stands, and whether its audit has passed |
//! | `results` | shares, agreement of raters, win rates, from the ratings |
//! | `labels` | labels as `curette train-head` reads them |
//!
//! What can go wrong: a process killed at any moment. What the page was told is kept stands in a journal, and the next command that looks commits it.

pub mod audit;
pub mod draw;
pub mod files;
pub mod journal;
pub mod labels;
pub mod ledger;
pub mod media;
pub mod mode;
pub mod range;
pub mod rating;
pub mod results;
pub mod rows;
pub mod server;
pub mod session;
pub mod stage;

/// What went wrong: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ReviewError {
    /// File, folder or table.
    pub place: String,
    /// What is wrong, and what to do.
    pub what: String,
}

impl ReviewError {
    /// At a place.
    pub fn at(place: impl std::fmt::Display, what: impl std::fmt::Display) -> ReviewError {
        ReviewError { place: place.to_string(), what: what.to_string() }
    }
}

/// An order that depends on a seed and names alone: the same on every machine, whatever order things came in.
pub(crate) fn key(seed: u64, parts: &[&str]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    for part in parts {
        // With its length, so that no two lists of parts look alike.
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
