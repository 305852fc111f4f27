//! `curette label`: what to label is chosen and laid out in a folder; what a human filled in is read back.
//!
//! A folder has `sampling.json` (what was asked for), `labels.csv` (one row each, the last column to fill in), `rows.jsonl` (what each row stands for) and, where pictures are
//! wanted, `frames/` with a JPEG each. Any spreadsheet will do; there is no server. The same command again continues, also after it was stopped: labels stay, pictures that are
//! there are not decoded again, a larger count adds rows at the end. What can go wrong: the folder belongs to other settings; that is refused, because labels of two
//! samplings would be mixed.

pub mod choose;
pub mod collect;
pub mod contact;
pub mod folder;
mod frames;
mod records;
pub mod sheet;
pub mod source;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use frames::frames;
pub use records::records;

/// Quality of the JPEGs.
const JPEG_QUALITY: u8 = 88;
/// More rows than this no human labels.
pub const MAX_COUNT: usize = 100_000;
/// More pictures of a clip than this no human compares.
pub const MAX_PICTURES: usize = 16;

/// Why nothing was laid out or read back.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", .path.display())]
pub struct LabelError {
    /// File or folder.
    pub path: PathBuf,
    /// What is wrong, where, and what to do.
    pub what: String,
}

pub(crate) fn failed(path: &Path, what: impl ToString) -> LabelError {
    LabelError { path: path.to_path_buf(), what: what.to_string() }
}

/// What a folder was laid out for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Folder of videos or table.
    pub source: PathBuf,
    /// The labels that may be given.
    pub classes: Vec<String>,
    /// Draws.
    pub seed: u64,
    /// Column of a table that tells rows apart.
    pub id: Option<String>,
    /// Column of groups of a table.
    pub group: Option<String>,
    /// Frames in the picture of each row of a table; 0 = no pictures.
    pub pictures: usize,
}

impl Settings {
    fn read(folder: &Path) -> Result<Option<Settings>, LabelError> {
        let path = folder.join("sampling.json");
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed(&path, e)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// Makes the folder these settings', or finds that it is.
    fn claim(&self, folder: &Path) -> Result<(), LabelError> {
        if let Some(other) = Settings::read(folder)? {
            let same = *self == other;
            let message = || {
                let json = |s: &Settings| serde_json::to_string(s).unwrap_or_default();
                format!("was laid out with other settings: {}, now {}; use another folder", json(&other), json(self))
            };
            return if same { Ok(()) } else { Err(failed(folder, message())) };
        }
        if folder.join(sheet::SHEET).exists() {
            let what = "has a labels.csv, but no sampling.json that says what it was laid out for; it was not written over: use another folder";
            return Err(failed(folder, what));
        }
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(folder, e))?;
        write_whole(&folder.join("sampling.json"), (text + "\n").as_bytes())
    }
}

/// Writes a file as a whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), LabelError> {
    let unfinished = path.with_extension("tmp");
    std::fs::write(&unfinished, bytes).and_then(|()| std::fs::rename(&unfinished, path)).map_err(|e| failed(path, e))
}

/// What was laid out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LaidOut {
    /// Rows in all.
    pub rows: usize,
    /// Rows that were new.
    pub new: usize,
    /// Rows with a label.
    pub labelled: usize,
    /// What could not be read.
    pub skipped: Vec<String>,
}

impl LaidOut {
    fn of(folder: &folder::Folder, skipped: Vec<String>) -> LaidOut {
        let (rows, new, labelled) = folder.counts();
        LaidOut { rows, new, labelled, skipped }
    }
}

#[cfg(test)]
mod tests;
