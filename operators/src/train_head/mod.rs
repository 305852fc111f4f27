//! `curette train-head`: labels and embeddings become a head file.
//!
//! Three ways in: a label table and the videos that it names; a label table and a table of embeddings; a table that has both. How training works is
//! in [`curette_heads::train`]. What can go wrong: labels that contradict each other, videos that cannot be read, embeddings of another encoder than the one
//! that was asked for; each ends in a [`TrainError`] or, where training can go on, in a line of the [`Outcome`].

pub mod flat;
pub mod folder;
pub mod labels;
pub mod samples;
pub mod table;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use curette_heads::train::{Refusal, Settings, train};
use curette_heads::{Encoder, Head, report::Report};
use serde::{Deserialize, Serialize};

use samples::{Collected, Embedder};

/// Why no head was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The label table cannot be used.
    #[error(transparent)]
    Labels(#[from] labels::LabelError),
    /// The embeddings cannot be had.
    #[error("{0}")]
    Embeddings(String),
    /// There is not enough to learn from.
    #[error("{0}")]
    TooLittle(String),
    /// Training refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The result cannot be written.
    #[error("{} cannot be written: {error}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// What training came to, and what could not be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// See [`Report`].
    #[serde(flatten)]
    pub report: Report,
    /// Lines of the label table that no sampled frame answers to.
    pub labels_without_frames: usize,
    /// Rows of a table with labels and embeddings that have no label.
    #[serde(default)]
    pub rows_unlabelled: usize,
    /// Videos that could not be embedded, and why.
    pub videos_skipped: Vec<String>,
}

/// Reads labels, has the videos that they name embedded, trains, and writes the head to `out` as a whole or not at all. `wanted` is the encoder that the
/// embeddings must be of; `group` the label table's column of groups.
pub fn run(
    labels: &Path,
    group: Option<&str>,
    embedder: &dyn Embedder,
    wanted: Option<&Encoder>,
    settings: &Settings,
    out: &Path,
) -> Result<Outcome, TrainError> {
    let encoder = agreed(Some(&embedder.encoder()), wanted)?;
    let labels = labels::read(labels, &settings.classes, group)?;
    learn(&labels, embedder, &encoder, settings, out)
}

/// As [`run`], with the embeddings of a table, of which only those of labelled videos are kept.
pub fn run_table(
    labels: &Path,
    group: Option<&str>,
    embeddings: &Path,
    wanted: Option<&Encoder>,
    settings: &Settings,
    out: &Path,
) -> Result<Outcome, TrainError> {
    let labels = labels::read(labels, &settings.classes, group)?;
    let named: HashSet<&str> = labels.iter().map(|label| label.video.as_str()).collect();
    let table = table::EmbeddingTable::read(embeddings, &|video| named.contains(video))?;
    let encoder = agreed(Some(&table.encoder()), wanted)?;
    learn(&labels, &table, &encoder, settings, out)
}

fn learn(
    labels: &[labels::Label],
    embedder: &dyn Embedder,
    encoder: &Encoder,
    settings: &Settings,
    out: &Path,
) -> Result<Outcome, TrainError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    finish(samples::collect(labels, embedder, threads)?, encoder, settings, out)
}

/// As [`run`], from a table that has embeddings and labels in the same row.
pub fn run_flat(
    table: &flat::FlatTable,
    wanted: Option<&Encoder>,
    settings: &Settings,
    out: &Path,
) -> Result<Outcome, TrainError> {
    let read = table.read(&settings.classes)?;
    let encoder = agreed(read.encoder.as_ref(), wanted)?;
    let outcome = finish(Collected { samples: read.samples, ..Collected::default() }, &encoder, settings, out)?;
    Ok(Outcome { rows_unlabelled: read.unlabelled, ..outcome })
}

/// The encoder of the embeddings: what they say themselves, what was asked for, and both if both speak.
fn agreed(said: Option<&Encoder>, wanted: Option<&Encoder>) -> Result<Encoder, TrainError> {
    let message = match (said, wanted) {
        (Some(said), Some(wanted)) if said == wanted => return Ok(said.clone()),
        (Some(said), None) => return Ok(said.clone()),
        (None, Some(wanted)) => return Ok(wanted.clone()),
        (Some(said), Some(wanted)) if said.name == wanted.name => {
            let hash = |e: &Encoder| e.sha256.clone().unwrap_or("no file".into());
            format!(
                "the embeddings are of another file of `{}` than --encoder: {} against {}; embed again, or name the encoder that they are of",
                said.name,
                hash(said),
                hash(wanted)
            )
        }
        (Some(said), Some(wanted)) => format!("the embeddings are of `{said}`, not of `{wanted}` as --encoder says"),
        (None, None) => {
            "the table does not say which encoder its embeddings are of; name it with --encoder NAME@sha256:HEX".into()
        }
    };
    Err(TrainError::Embeddings(message))
}

fn finish(collected: Collected, encoder: &Encoder, settings: &Settings, out: &Path) -> Result<Outcome, TrainError> {
    let (head, report) = train(&collected.samples, encoder, settings)?;
    write(&head, out)?;
    Ok(Outcome {
        report,
        labels_without_frames: collected.labels_without_frames,
        rows_unlabelled: 0,
        videos_skipped: collected.videos_skipped,
    })
}

/// Writes a head as a whole or not at all.
pub fn write(head: &Head, out: &Path) -> Result<(), TrainError> {
    let failed = |error| TrainError::Write { path: out.to_path_buf(), error };
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let unfinished = out.with_extension("tmp");
    std::fs::write(&unfinished, head.to_bytes()).and_then(|()| std::fs::rename(&unfinished, out)).map_err(failed)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.report)?;
        if self.labels_without_frames > 0 {
            writeln!(f, "unused      {} labels lie where no frame was sampled", self.labels_without_frames)?;
        }
        if self.rows_unlabelled > 0 {
            writeln!(f, "unused      {} rows have no label", self.rows_unlabelled)?;
        }
        for video in &self.videos_skipped {
            writeln!(f, "skipped     {video}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
