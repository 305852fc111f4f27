//! `curette label`: what to label is chosen and laid out in a folder; what a human filled in is read back.
//!
//! A folder has `sampling.json` (what was asked for), `labels.csv` (one row each, the last column to fill in) and, for frames, `frames/` with a JPEG each.
//! Any spreadsheet will do; there is no server. The same command again continues: labels stay, pictures that are there are not decoded again, a larger count
//! adds rows at the end. What can go wrong: the folder belongs to other settings; that is refused, because labels of two samplings would be mixed.

pub mod choose;
pub mod collect;
pub mod sheet;
pub mod source;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::media::to_jpeg;
use choose::choose;
use sheet::Sheet;
use source::{Table, Videos};

/// Quality of the JPEGs.
const JPEG_QUALITY: u8 = 88;
/// More rows than this no human labels.
pub const MAX_COUNT: usize = 100_000;

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
    /// Column of groups of a table.
    pub group: Option<String>,
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
        std::fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(folder, e))?;
        std::fs::write(folder.join("sampling.json"), text + "\n").map_err(|e| failed(folder, e))
    }
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

/// Lays out `count` frames of the videos below `settings.source`.
pub fn frames(settings: &Settings, count: usize, folder: &Path) -> Result<LaidOut, LabelError> {
    let videos = Videos::of(&settings.source);
    let (all, mut skipped) = videos.candidates()?;
    let columns = ["sample", "picture", "video_id", "time_us", "group", "label"];
    let candidates: Vec<_> = all.iter().map(|(_, c)| c.clone()).collect();
    settings.claim(folder)?;
    let pictures = folder.join("frames");
    std::fs::create_dir_all(&pictures).map_err(|e| failed(&pictures, e))?;
    let chosen = choose(&candidates, count, settings.seed);
    lay_out(
        folder,
        &columns,
        &chosen,
        |i| {
            let (id, candidate) = &all[i];
            // Named by what it shows, so that a picture is found again whatever the count was.
            let name = format!("{}-{}.jpg", &blake3::hash(id.video.as_bytes()).to_hex()[..12], id.second);
            let frame = match videos.picture(id) {
                Ok(frame) => frame,
                Err(e) => {
                    skipped.push(format!("{}: {e}", candidate.id));
                    return Ok(None);
                }
            };
            let path = pictures.join(&name);
            let jpeg = to_jpeg(&frame, JPEG_QUALITY).map_err(|e| failed(&path, e))?;
            std::fs::write(&path, jpeg).map_err(|e| failed(&path, e))?;
            let time_us = (frame.pts_ns / 1000).to_string();
            Ok(Some(vec![format!("frames/{name}"), id.video.clone(), time_us, candidate.group.clone()]))
        },
        |i| candidates[i].id.clone(),
    )
    .map(|done| LaidOut { skipped, ..done })
}

/// Lays out `count` rows of a table, with the columns that help to decide.
pub fn records(settings: &Settings, table: &Table, count: usize, folder: &Path) -> Result<LaidOut, LabelError> {
    let own = ["sample", "video_id", "time_us", "group", "label"];
    if let Some(taken) = table.show.iter().find(|name| own.contains(&name.as_str())) {
        let what = format!("the sheet has a column `{taken}` of its own, so it cannot show the table's; rename that one");
        return Err(LabelError { path: folder.to_path_buf(), what });
    }
    let all = table.candidates()?;
    let show = table.show.iter().map(String::as_str);
    let columns: Vec<&str> = ["sample", "video_id"].into_iter().chain(show).chain(["group", "label"]).collect();
    let candidates: Vec<_> = all.iter().map(|(_, c)| c.clone()).collect();
    settings.claim(folder)?;
    let chosen = choose(&candidates, count, settings.seed);
    lay_out(
        folder,
        &columns,
        &chosen,
        |i| {
            let (texts, candidate) = &all[i];
            let group = candidate.group.clone();
            Ok(Some([candidate.id.clone()].into_iter().chain(texts.iter().cloned()).chain([group]).collect()))
        },
        |i| candidates[i].id.clone(),
    )
}

/// Adds what is chosen and not in the sheet yet. `row` gives the cells between `sample` and `label`, or nothing where there is nothing to show.
fn lay_out(
    folder: &Path,
    columns: &[&str],
    chosen: &[usize],
    mut row: impl FnMut(usize) -> Result<Option<Vec<String>>, LabelError>,
    name: impl Fn(usize) -> String,
) -> Result<LaidOut, LabelError> {
    let mut sheet = Sheet::read(folder)?.unwrap_or_default();
    let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    if sheet.columns.is_empty() {
        sheet.columns = columns;
    } else if sheet.columns != columns {
        let what = format!("{} has the columns {}, expected {}", sheet::SHEET, sheet.columns.join(", "), columns.join(", "));
        return Err(failed(folder, what));
    }
    let there: HashSet<String> = sheet.rows.iter().map(|r| r[0].clone()).collect();
    let before = sheet.rows.len();
    for &i in chosen {
        let name = name(i);
        if there.contains(&name) {
            continue;
        }
        if let Some(cells) = row(i)? {
            sheet.rows.push([name].into_iter().chain(cells).chain([String::new()]).collect());
        }
    }
    sheet.write(folder)?;
    let labelled = sheet.rows.iter().filter(|r| r.last().is_some_and(|l| !l.is_empty())).count();
    Ok(LaidOut { rows: sheet.rows.len(), new: sheet.rows.len() - before, labelled, skipped: Vec::new() })
}

#[cfg(test)]
mod tests;
