//! What can be labelled: frames of the videos below a folder, or the rows of a table.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;

use super::choose::Candidate;
use super::{LabelError, failed};
use crate::media::{Frame, MediaContext, MediaError, MediaPlane, probe, uniform_frames};
use crate::train_head::labels::batches;

/// More candidates than this are refused.
pub const MAX_CANDIDATES: usize = 20_000_000;
/// File names that are videos.
const EXTENSIONS: [&str; 8] = ["mp4", "m4v", "mkv", "webm", "mov", "avi", "ts", "mpg"];
/// Longest side of a picture in pixels.
const LONGEST_SIDE: u32 = 768;
/// Time for one probe or picture.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The videos below a folder.
pub struct Videos {
    folder: PathBuf,
    plane: MediaPlane,
    running: AtomicBool,
}

/// A frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameId {
    /// Path below the folder.
    pub video: String,
    /// The second that was drawn; the picture is the first frame from there on.
    pub second: i64,
}

/// A frame, as something that can be chosen.
pub type FrameCandidate = (FrameId, Candidate);

impl Videos {
    /// Of this folder.
    pub fn of(folder: &Path) -> Videos {
        Videos { folder: folder.to_owned(), plane: MediaPlane::default(), running: AtomicBool::new(false) }
    }

    fn context(&self) -> MediaContext<'_> {
        MediaContext { cancelled: &self.running, plane: &self.plane, timeout: TIMEOUT }
    }

    /// One candidate per whole second of each video. The group is the first folder below the root (a channel, say), for videos directly in it the video.
    /// The second list names videos that cannot be read.
    pub fn candidates(&self) -> Result<(Vec<FrameCandidate>, Vec<String>), LabelError> {
        let (mut out, mut skipped) = (Vec::new(), Vec::new());
        for video in videos_below(&self.folder).map_err(|e| failed(&self.folder, e))? {
            let uri = self.folder.join(&video).to_string_lossy().into_owned();
            let seconds = match probe(&uri, &self.context()).map(|info| info.duration_us) {
                Ok(us) => (us / 1_000_000).max(1),
                Err(e) => {
                    skipped.push(format!("{video}: {e}"));
                    continue;
                }
            };
            let group = video.split_once('/').map_or(video.as_str(), |(first, _)| first);
            for second in 0..seconds {
                let candidate = Candidate { id: format!("{video}@{second}"), group: group.to_owned() };
                out.push((FrameId { video: video.clone(), second }, candidate));
            }
            if out.len() > MAX_CANDIDATES {
                return Err(failed(&self.folder, format!("more than {MAX_CANDIDATES} seconds of video; label a part of it")));
            }
        }
        Ok((out, skipped))
    }

    /// The picture of a candidate.
    pub fn picture(&self, id: &FrameId) -> Result<Frame, MediaError> {
        let uri = self.folder.join(&id.video).to_string_lossy().into_owned();
        let start_us = id.second * 1_000_000;
        let frames = uniform_frames(&uri, start_us, start_us + 1_000_000, 1, Some(LONGEST_SIDE), &self.context())?;
        let frame = frames.first().cloned();
        frame.ok_or_else(|| MediaError { code: "no_frames", message: format!("{} has no frame at {} s", id.video, id.second) })
    }
}

/// Paths below the folder with `/` between, in order. Links are not followed.
fn videos_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let (mut out, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(folder.join(&at))? {
            let (entry, path) = entry.map(|e| (e.file_type(), at.join(e.file_name())))?;
            let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
            match entry? {
                kind if kind.is_dir() => open.push(path),
                kind if kind.is_file() && EXTENSIONS.contains(&extension.as_str()) => {
                    out.push(path.to_string_lossy().replace('\\', "/"));
                }
                _ => {}
            }
        }
    }
    out.sort();
    Ok(out)
}

/// Where what is in a table.
#[derive(Debug, Clone)]
pub struct Table {
    /// CSV, JSON Lines or Parquet.
    pub path: PathBuf,
    /// Column that tells rows apart.
    pub id: String,
    /// Column of groups; without it each row is a group.
    pub group: Option<String>,
    /// Columns that the human sees.
    pub show: Vec<String>,
}

impl Table {
    /// The rows: candidates with the texts to show.
    pub fn candidates(&self) -> Result<Vec<(Vec<String>, Candidate)>, LabelError> {
        let mut out = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for batch in batches(&self.path).map_err(|e| failed(&self.path, e))? {
            let text = |name: &String| {
                let column = batch.column_by_name(name).ok_or_else(|| failed(&self.path, format!("needs a column `{name}`")))?;
                arrow_cast::cast(column, &DataType::Utf8)
                    .map_err(|e| failed(&self.path, format!("column `{name}` is not text: {e}")))
            };
            let (ids, group) = (text(&self.id)?, self.group.as_ref().map(text).transpose()?);
            let show = self.show.iter().map(text).collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let cell = |column: &arrow::array::ArrayRef| {
                    let column = column.as_string::<i32>();
                    if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
                };
                let id = cell(&ids);
                if id.is_empty() || !seen.insert(id.clone()) {
                    let what = if id.is_empty() { "is empty".to_owned() } else { format!("`{id}` occurs twice") };
                    return Err(failed(&self.path, format!("row {}: `{}` {what}", out.len() + 1, self.id)));
                }
                let group = group.as_ref().map(cell).filter(|g| !g.is_empty()).unwrap_or_else(|| id.clone());
                out.push((show.iter().map(cell).collect(), Candidate { id, group }));
            }
        }
        if out.len() > MAX_CANDIDATES {
            return Err(failed(&self.path, format!("more than {MAX_CANDIDATES} rows; label a part of it")));
        }
        Ok(out)
    }
}
