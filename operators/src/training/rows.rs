//! A table of clips, as `clip_cut` and `captioner` make it: ids first, then rows in the order of their ids, and the bytes of one clip at a time.
//!
//! Why by id: files of a table are named by the attempt that wrote them, so their order tells who was faster; the order of ids is the same whatever
//! ran. Memory holds the ids and places of all rows and the bytes of one clip. What can go wrong: two rows of one id, which is an error; a clip
//! whose bytes are neither in the row nor in a file, which is the clip's own problem.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use curette_trainer::rules::ClipFacts;

use crate::sources::files::{Files, is_url};
use crate::tables::cast;
use crate::tables::parts::{Part, Parts};

/// Rows of a batch of ids.
const BATCH_ROWS: usize = 1 << 14;
/// More rows are refused: about 100 bytes of memory each.
const MAX_ROWS: u64 = 50_000_000;
/// A larger clip is not read; `clip_cut` makes none.
const MAX_CLIP_BYTES: u64 = 1 << 30;
/// Columns of `clip_cut` that tell what a clip is; all of them may be missing.
pub const FACT_COLUMNS: [&str; 5] = ["clip_frames", "clip_height", "clip_width", "clip_fps", "clip_duration_us"];
/// The column with the file of a clip whose bytes are not in the row.
pub const FILE_COLUMN: &str = "clip_uri";

/// Which columns are what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Names a clip.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// The clip itself, as bytes or as a struct of `bytes` and `path`.
    pub clip: String,
}

/// Where a row is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its clip.
    pub id: String,
    part: usize,
    row: u64,
}

/// A row without its clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Names the clip.
    pub id: String,
    /// What it shows; empty where the table does not say.
    pub caption: String,
    /// What the table says of its pictures.
    pub facts: ClipFacts,
    /// Its length, likewise.
    pub duration_s: Option<f64>,
}

/// A clip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// From the row.
    Bytes(Vec<u8>),
    /// A path or URL.
    File(String),
    /// The row names none.
    Nothing,
}

/// A clip that cannot be had: a word for the reason, and details.
pub type NoClip = (String, String);

/// A table that is read.
pub struct ClipTable {
    parts: Parts,
    list: Vec<Part>,
    files: Arc<Files>,
    names: Names,
    /// Where relative paths of clips start.
    folder: String,
}

impl ClipTable {
    /// Opens the folder or URL of an output table, a Parquet file, or a folder of Parquet files.
    pub fn open(place: &str, names: Names, files: Arc<Files>) -> Result<ClipTable, String> {
        let parts = Parts::open(place, &files)?;
        let list = parts.list(&files)?;
        let rows: u64 = list.iter().map(|part| part.rows).sum();
        if rows > MAX_ROWS {
            return Err(format!("it has {rows} rows, more than the {MAX_ROWS} that can be held; take a part of it"));
        }
        let local = Path::new(place.strip_prefix("file://").unwrap_or(place));
        let folder = if local.is_file() { local.parent().unwrap_or(local) } else { local };
        let folder = folder.to_string_lossy().into_owned();
        Ok(ClipTable { parts, list, files, names, folder })
    }

    /// All rows, by id. A row without an id is row number `n` of its file, so that it can be told.
    pub fn places(&self) -> Result<Vec<Place>, String> {
        let mut out = Vec::new();
        for (number, part) in self.list.iter().enumerate() {
            let columns = [self.names.id.as_str()];
            let batches = self.parts.read(&self.files, (&part.name, &part.identity), &columns, BATCH_ROWS, None);
            let mut at = 0;
            for batch in batches.map_err(|e| e.message)? {
                let ids = cast::need_text(&batch?, &self.names.id).map_err(|e| format!("{}: {e}", part.name))?;
                for row in 0..ids.len() {
                    let id = cast::cell(&ids, row).ok_or_else(|| {
                        format!("row {} of {} has no `{}`; name another column for it", at + 1, part.name, self.names.id)
                    })?;
                    out.push(Place { id: id.to_owned(), part: number, row: at });
                    at += 1;
                }
            }
        }
        out.sort();
        match out.windows(2).find(|w| w[0].id == w[1].id) {
            Some(twice) => {
                let what = format!("two rows have the `{}` `{}`; each clip must be there once", self.names.id, twice[0].id);
                Err(format!("{what} (the source `dedup` leaves one of them)"))
            }
            None => Ok(out),
        }
    }

    /// These rows, in this order.
    pub fn rows(&self, places: &[Place]) -> Result<Vec<Row>, String> {
        let mut by_part: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, place) in places.iter().enumerate() {
            by_part.entry(place.part).or_default().push((place.row, at));
        }
        let columns: Vec<&str> = [self.names.caption.as_str()].into_iter().chain(FACT_COLUMNS).collect();
        let mut out: Vec<Option<Row>> = vec![None; places.len()];
        for (part, mut wanted) in by_part {
            wanted.sort_unstable();
            let rows: Vec<u64> = wanted.iter().map(|(row, _)| *row).collect();
            let batch = self.batch(part, &columns, &rows)?;
            let reader = Facts::of(&batch, &self.names.caption).map_err(|e| format!("{}: {e}", self.list[part].name))?;
            for (row, (_, at)) in wanted.iter().enumerate() {
                out[*at] = Some(reader.row(places[*at].id.clone(), row));
            }
        }
        Ok(out.into_iter().flatten().collect())
    }

    /// The clip of a row.
    pub fn content(&self, place: &Place) -> Result<Content, String> {
        let batch = self.batch(place.part, &[&self.names.clip, FILE_COLUMN], &[place.row])?;
        let named = |e: String| format!("clip `{}` in {}: {e}", place.id, self.list[place.part].name);
        let (bytes, path) = parts_of(&batch, &self.names.clip).map_err(named)?;
        if let Some(bytes) = bytes.filter(|b| b.is_valid(0) && !b.value(0).is_empty()) {
            return Ok(Content::Bytes(bytes.value(0).to_vec()));
        }
        let file = cast::text(&batch, FILE_COLUMN).map_err(named)?;
        let of_row = |column: &StringArray| cast::cell(column, 0).map(str::to_owned);
        // Beside bytes in the row the path is a mere name.
        let path = path.as_ref().and_then(of_row).filter(|path| is_url(path) || Path::new(path).is_absolute());
        Ok(match file.as_ref().and_then(of_row).or(path) {
            Some(file) => Content::File(self.full(file)),
            None => Content::Nothing,
        })
    }

    /// The bytes of a clip, wherever they are.
    pub fn bytes(&self, place: &Place) -> Result<Result<Vec<u8>, NoClip>, String> {
        Ok(match self.content(place)? {
            Content::Bytes(bytes) => Ok(bytes),
            Content::File(uri) => self.file(&uri),
            Content::Nothing => Err(self.nothing()),
        })
    }

    /// The bytes of a clip's file.
    pub fn file(&self, uri: &str) -> Result<Vec<u8>, NoClip> {
        match self.files.read(uri, MAX_CLIP_BYTES) {
            Ok((bytes, _)) => Ok(bytes),
            Err(e) => Err((e.code().to_owned(), format!("its clip cannot be read: {e}"))),
        }
    }

    /// Why a row that names no clip has none.
    pub fn nothing(&self) -> NoClip {
        ("no_clip".into(), format!("has no clip: `{}` holds no bytes and `{FILE_COLUMN}` names no file", self.names.clip))
    }

    fn full(&self, file: String) -> String {
        match is_url(&file) || file.starts_with("file://") || Path::new(&file).is_absolute() {
            true => file,
            false => format!("{}/{file}", self.folder),
        }
    }

    fn batch(&self, part: usize, columns: &[&str], rows: &[u64]) -> Result<RecordBatch, String> {
        let part = &self.list[part];
        self.parts.rows(&self.files, (&part.name, &part.identity), columns, rows).map_err(|e| e.message)
    }
}

/// Columns of a batch.
struct Facts {
    caption: StringArray,
    whole: [Option<arrow::array::Int64Array>; 4],
    fps: Option<arrow::array::Float64Array>,
}

impl Facts {
    fn of(batch: &RecordBatch, caption: &str) -> Result<Facts, String> {
        let [frames, height, width, fps, duration] = FACT_COLUMNS;
        let whole = |name: &str| cast::integers(batch, name);
        Ok(Facts {
            caption: cast::need_text(batch, caption)?,
            whole: [whole(frames)?, whole(height)?, whole(width)?, whole(duration)?],
            fps: cast::numbers(batch, fps)?,
        })
    }

    fn row(&self, id: String, row: usize) -> Row {
        let whole = |at: usize| {
            let column = self.whole[at].as_ref().filter(|c| c.is_valid(row))?;
            u64::try_from(column.value(row)).ok()
        };
        let fps = self.fps.as_ref().filter(|c| c.is_valid(row)).map(|c| c.value(row));
        Row {
            id,
            caption: cast::cell(&self.caption, row).unwrap_or_default().to_owned(),
            facts: ClipFacts { frames: whole(0), height: whole(1), width: whole(2), fps },
            duration_s: whole(3).map(|us| us as f64 / 1e6),
        }
    }
}

/// Bytes and paths of a column of clips.
type ClipParts = (Option<BinaryArray>, Option<StringArray>);

fn parts_of(batch: &RecordBatch, name: &str) -> Result<ClipParts, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok((None, None)) };
    let strict = arrow_cast::CastOptions { safe: false, ..Default::default() };
    let cast = |column: &ArrayRef, to: &DataType| {
        arrow_cast::cast_with_options(column, to, &strict).map_err(|e| format!("column `{name}`: {e}"))
    };
    let binary = |column: &ArrayRef| Ok::<_, String>(cast(column, &DataType::Binary)?.as_binary_opt::<i32>().cloned());
    match column.as_struct_opt() {
        // A null struct has null parts, whatever lies below it.
        Some(clips) => {
            let child = |part: &str| {
                let index = clips.column_names().iter().position(|column| *column == part)?;
                let child = clips.column(index);
                let nulls = arrow::buffer::NullBuffer::union(clips.nulls(), child.nulls());
                Some(arrow::array::make_array(child.to_data().into_builder().nulls(nulls).build().ok()?))
            };
            let path = child("path").map(|path| cast(&path, &DataType::Utf8)).transpose()?;
            let bytes = child("bytes").map(|bytes| binary(&bytes)).transpose()?.flatten();
            Ok((bytes, path.and_then(|path| path.as_string_opt::<i32>().cloned())))
        }
        None => Ok((binary(column)?, None)),
    }
}

/// Whether a column of this type holds clips.
pub fn holds_clips(data_type: &DataType) -> bool {
    let binary = |data_type: &DataType| matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    match data_type {
        DataType::Struct(parts) => parts.find("bytes").is_some_and(|(_, part)| binary(part.data_type())),
        other => binary(other),
    }
}
