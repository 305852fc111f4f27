//! The rows of a table: first their names, then what is wanted of those that were chosen, so that a table may be larger than memory.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;

use super::{Candidate, LONGEST_SIDE, LONGEST_SIDE_OF_SEVERAL, MAX_CANDIDATES, TIMEOUT};
use crate::label::contact::sheet_of;
use crate::label::{LabelError, failed};
use crate::media::{Frame, MediaContext, MediaError, MediaPlane, uniform_frames};
use crate::tables::cast::{integers, need_text, text};
use crate::tables::{BATCH_ROWS, OpenTable};

/// Rows of a batch with clips in it: `clip_cut` allows 100 MB each.
const CLIP_ROWS: usize = 1;
/// A span that is all of a file.
const ALL_US: (i64, i64) = (0, i64::MAX / 2000);

/// Where what is in a table.
#[derive(Debug, Clone)]
pub struct Table {
    /// A table as [`OpenTable`] reads it.
    pub path: PathBuf,
    /// Column that tells rows apart.
    pub id: String,
    /// Column of groups; without it each row is a group.
    pub group: Option<String>,
    /// Columns that the human sees.
    pub show: Vec<String>,
    /// Frames in the picture of each row; 0 = no picture.
    pub pictures: usize,
}

/// What is laid out of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The video that a head's embeddings are found by: of a clip, the one that it is of.
    pub video_id: String,
    /// Where in the video, as text, if the table says so.
    pub span_seconds: Option<[String; 2]>,
    /// The columns to show.
    pub shown: Vec<String>,
    /// Where its pictures are.
    pub clip: Clip,
}

/// Where the pictures of a clip are.
#[derive(Debug, Clone, PartialEq)]
pub enum Clip {
    /// In files: each with a span in microseconds, the first that can be read counts.
    Files(Vec<(String, (i64, i64))>),
    /// In these bytes.
    Bytes(Vec<u8>),
}

/// Takes each picture's name and bytes.
type EachPicture<'a> = &'a mut dyn FnMut(&str, Vec<u8>) -> Result<(), LabelError>;

impl Table {
    /// The column that tells rows apart where none is named: a table of clips has several rows of a video.
    pub fn usual_id(path: &Path) -> Result<&'static str, LabelError> {
        Ok(if open(path)?.has("clip_id") { "clip_id" } else { "video_id" })
    }

    /// What is shown where nothing is named: the title, if there is one.
    pub fn usual_show(path: &Path) -> Result<Vec<String>, LabelError> {
        Ok(if open(path)?.has("title") { vec!["title".to_owned()] } else { vec![] })
    }

    /// The names of all rows, and their groups.
    pub fn candidates(&self) -> Result<Vec<Candidate>, LabelError> {
        let table = self.open()?;
        let columns: Vec<&str> = [self.id.as_str()].into_iter().chain(self.group.as_deref()).collect();
        let all = columns.iter().copied().chain(self.show.iter().map(String::as_str));
        all.clone().try_for_each(|column| table.need(column)).map_err(|e| self.failed(e))?;
        let (mut out, mut seen) = (Vec::new(), HashSet::new());
        for batch in table.batches(&columns, BATCH_ROWS).map_err(|e| self.failed(e))? {
            let batch = batch.map_err(|e| self.failed(e))?;
            let ids = self.text(&batch, &self.id)?;
            let group = self.group.as_ref().map(|group| self.text(&batch, group)).transpose()?;
            for row in 0..batch.num_rows() {
                let id = cell(&ids, row);
                if id.is_empty() || !seen.insert(id.clone()) {
                    let what = if id.is_empty() { "is empty".to_owned() } else { format!("`{id}` occurs twice") };
                    return Err(self.failed(format!("row {}: `{}` {what}", out.len() + 1, self.id)));
                }
                let group = group.as_ref().map(|group| cell(group, row)).filter(|g| !g.is_empty());
                out.push(Candidate { group: group.unwrap_or_else(|| id.clone()), id });
                if out.len() > MAX_CANDIDATES {
                    return Err(self.failed(format!("more than {MAX_CANDIDATES} rows; label a part of it")));
                }
            }
        }
        Ok(out)
    }

    /// Whether rows are parts of videos.
    pub fn has_spans(&self) -> Result<bool, LabelError> {
        let table = self.open()?;
        Ok(self.id != "video_id" && ["video_id", "start_us", "end_us"].into_iter().all(|column| table.has(column)))
    }

    /// Whether clips are in the rows themselves.
    pub fn has_bytes(&self) -> Result<bool, LabelError> {
        let table = self.open()?;
        let clip = table.schema().field_with_name("clip").ok();
        Ok(clip.is_some_and(|clip| matches!(clip.data_type(), DataType::Struct(parts) if parts.find("bytes").is_some())))
    }

    /// The chosen rows by their names.
    pub fn rows(&self, chosen: &HashSet<&str>) -> Result<HashMap<String, Row>, LabelError> {
        let (table, spans) = (self.open()?, self.has_spans()?);
        let files = ["video_uri", "clip_uri"].into_iter().filter(|column| table.has(column));
        let files: Vec<&str> = files.filter(|_| self.pictures > 0).collect();
        if self.pictures > 0 && files.is_empty() && !self.has_bytes()? {
            let what = "has no pictures: it needs a column `video_uri` (with `start_us` and `end_us`), `clip_uri` or `clip`";
            return Err(self.failed(what));
        }
        let mut columns = vec![self.id.as_str(), "video_id", "start_us", "end_us"];
        columns.extend(self.show.iter().map(String::as_str).chain(files));
        let mut out = HashMap::new();
        for batch in table.batches(&columns, BATCH_ROWS).map_err(|e| self.failed(e))? {
            let batch = batch.map_err(|e| self.failed(e))?;
            let ids = self.text(&batch, &self.id)?;
            let optional = |name: &str| text(&batch, name).map_err(|e| self.failed(e));
            let whole = |name: &str| integers(&batch, name).map_err(|e| self.failed(e));
            let (video, clip) = (optional("video_uri")?, optional("clip_uri")?);
            let (video_ids, starts, ends) = match spans {
                true => (optional("video_id")?, whole("start_us")?, whole("end_us")?),
                false => (None, None, None),
            };
            let shown = self.show.iter().map(|name| self.text(&batch, name)).collect::<Result<Vec<_>, _>>()?;
            for row in (0..batch.num_rows()).filter(|&row| ids.is_valid(row) && chosen.contains(ids.value(row))) {
                let maybe = |column: &Option<StringArray>| column.as_ref().map(|c| cell(c, row)).filter(|c| !c.is_empty());
                let span = starts.as_ref().zip(ends.as_ref()).filter(|(s, e)| s.is_valid(row) && e.is_valid(row));
                let span = span.map(|(starts, ends)| (starts.value(row), ends.value(row)));
                let mut files: Vec<(String, (i64, i64))> = Vec::new();
                files.extend(maybe(&video).map(|uri| (uri, span.unwrap_or(ALL_US))));
                files.extend(maybe(&clip).map(|uri| (uri, ALL_US)));
                let id = cell(&ids, row);
                let seconds = |us: i64| (us as f64 / 1e6).to_string();
                let made = Row {
                    video_id: maybe(&video_ids).unwrap_or_else(|| id.clone()),
                    span_seconds: spans.then(|| span.map_or_else(Default::default, |(s, e)| [seconds(s), seconds(e)])),
                    shown: shown.iter().map(|column| cell(column, row)).collect(),
                    clip: Clip::Files(files),
                };
                out.insert(id, made);
            }
        }
        Ok(out)
    }

    /// The bytes of the clips of these rows, one at a time.
    pub fn each_bytes(&self, chosen: &HashSet<&str>, each: EachPicture<'_>) -> Result<(), LabelError> {
        let table = self.open()?;
        for batch in table.batches(&[&self.id, "clip"], CLIP_ROWS).map_err(|e| self.failed(e))? {
            let batch = batch.map_err(|e| self.failed(e))?;
            let ids = self.text(&batch, &self.id)?;
            let clips = batch.column_by_name("clip").and_then(|clip| clip.as_struct_opt()?.column_by_name("bytes").cloned());
            let clips = clips.ok_or_else(|| self.failed("needs a column `clip` with `bytes` in it"))?;
            let clips = arrow_cast::cast(&clips, &DataType::Binary).map_err(|e| self.failed(format!("column `clip`: {e}")))?;
            let clips: &BinaryArray = clips.as_binary_opt().ok_or_else(|| self.failed("column `clip` holds no bytes"))?;
            for row in (0..batch.num_rows()).filter(|&row| ids.is_valid(row) && chosen.contains(ids.value(row))) {
                let bytes = if clips.is_valid(row) { clips.value(row).to_vec() } else { Vec::new() };
                each(ids.value(row), bytes)?;
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<OpenTable, LabelError> {
        open(&self.path)
    }

    fn failed(&self, what: impl ToString) -> LabelError {
        failed(&self.path, what)
    }

    fn text(&self, batch: &RecordBatch, name: &str) -> Result<StringArray, LabelError> {
        need_text(batch, name).map_err(|e| self.failed(e))
    }
}

fn open(path: &Path) -> Result<OpenTable, LabelError> {
    OpenTable::open(path).map_err(|e| failed(path, e))
}

fn cell(column: &StringArray, row: usize) -> String {
    if column.is_valid(row) { column.value(row).to_owned() } else { String::new() }
}

/// `count` uniformly spaced frames of a clip as one picture.
pub fn picture_of(clip: &Clip, count: usize) -> Result<Frame, MediaError> {
    let (plane, running) = (MediaPlane::default(), AtomicBool::new(false));
    let context = MediaContext { cancelled: &running, plane: &plane, timeout: TIMEOUT };
    let side = if count > 1 { LONGEST_SIDE_OF_SEVERAL } else { LONGEST_SIDE };
    let of = |uri: &str, (start_us, end_us): (i64, i64)| {
        let frames = uniform_frames(uri, start_us, end_us, count, Some(side), &context)?;
        sheet_of(&frames).ok_or_else(|| MediaError { code: "no_frames", message: format!("{uri} has no frame in the span") })
    };
    match clip {
        Clip::Files(files) => {
            let mut last = MediaError { code: "file_missing", message: "the row names no video and no clip".into() };
            for (uri, span) in files {
                match of(uri, *span) {
                    Ok(picture) => return Ok(picture),
                    Err(e) => last = e,
                }
            }
            Err(last)
        }
        Clip::Bytes(bytes) => {
            let error =
                |e: std::io::Error| MediaError { code: "file_unreadable", message: format!("a clip cannot be put aside: {e}") };
            let file = tempfile::Builder::new().suffix(".mp4").tempfile().map_err(error)?;
            std::fs::write(file.path(), bytes).map_err(error)?;
            of(&file.path().to_string_lossy(), ALL_US)
        }
    }
}
