//! Which files hold records, in which format, and the parts that they are read in.
//!
//! A part is small enough for memory and known from the file alone: a piece of a Parquet row group, a byte range of JSON Lines. Compressed text and
//! CSV cannot be entered in the middle (a line end may be inside of quotes), so such a file is one part and has a limit.
//!
//! What can go wrong: a file whose end cannot be read when the plan is made. It is one part then, and reading it says what is wrong.

use std::io::{BufReader, Read};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{FileError, Files};
use super::record_parquet;

/// Bytes of a part of a JSON Lines file.
pub const PART_BYTES: u64 = 32 << 20;
/// What a compressed file or a CSV file may hold.
pub const MAX_WHOLE_BYTES: u64 = 1 << 30;
/// Bytes that are asked for at once.
const BLOCK_BYTES: u64 = 4 << 20;
/// How much larger compressed text becomes, for estimates of cost.
const USUAL_RATIO: u64 = 5;

/// Extensions that a folder listing takes for files of records.
pub const EXTENSIONS: &[&str] = &["parquet", "jsonl", "ndjson", "csv", "json", "gz", "zst"];

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// JSON Lines.
    Lines,
    /// One JSON object, as yt-dlp writes it.
    Json,
    /// CSV with a header.
    Csv,
}

/// How a file is compressed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not.
    Plain,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What a file is, by its name.
pub fn kind_of(name: &str) -> Option<(Format, Compression)> {
    let name = name.to_ascii_lowercase();
    let (stem, compression) = match name.rsplit_once('.')? {
        (stem, "gz") => (stem.to_owned(), Compression::Gzip),
        (stem, "zst") => (stem.to_owned(), Compression::Zstd),
        _ => (name, Compression::Plain),
    };
    let format = match stem.rsplit_once('.')?.1 {
        "parquet" if compression == Compression::Plain => Format::Parquet,
        "jsonl" | "ndjson" => Format::Lines,
        "json" => Format::Json,
        "csv" => Format::Csv,
        _ => return None,
    };
    Some((format, compression))
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// All of it.
    Whole,
    /// The lines that begin in these bytes.
    Bytes {
        /// The first.
        from: u64,
        /// Behind the last.
        to: u64,
    },
    /// Rows of a row group.
    Rows {
        /// Row group, from 0.
        group: usize,
        /// First row in the group.
        from: u64,
        /// How many.
        rows: u64,
        /// Rows of the file before it.
        before: u64,
    },
}

/// The parts of a file and their estimated cost in bytes.
pub fn parts(files: &Arc<Files>, uri: &str, bytes: u64, kind: (Format, Compression)) -> Vec<(Part, u64)> {
    match kind {
        (Format::Parquet, _) => match record_parquet::parts(files, uri, bytes) {
            Ok(parts) if !parts.is_empty() => {
                let part = |p: &record_parquet::Part| {
                    (Part::Rows { group: p.group, from: p.from, rows: p.rows, before: p.before }, p.bytes)
                };
                parts.iter().map(part).collect()
            }
            Ok(_) => vec![],
            Err(_) => vec![(Part::Whole, bytes)],
        },
        (Format::Lines, Compression::Plain) => (0..bytes)
            .step_by(PART_BYTES as usize)
            .map(|from| (from, (from + PART_BYTES).min(bytes)))
            .map(|(from, to)| (Part::Bytes { from, to }, to - from))
            .collect(),
        (_, Compression::Plain) => vec![(Part::Whole, bytes)],
        (_, Compression::Gzip | Compression::Zstd) => vec![(Part::Whole, bytes.saturating_mul(USUAL_RATIO))],
    }
}

/// A file from some byte on, block by block.
struct Blocks {
    files: Arc<Files>,
    uri: String,
    at: u64,
    size: u64,
    block: bytes::Bytes,
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.block.is_empty() && self.at < self.size {
            let to = (self.at + BLOCK_BYTES).min(self.size);
            self.block = self.files.read_range(&self.uri, self.at, to).map_err(std::io::Error::other)?;
            if self.block.is_empty() {
                return Err(std::io::Error::other(format!("{} ends at byte {}, not {}", self.uri, self.at, self.size)));
            }
            self.at += self.block.len() as u64;
        }
        let taken = self.block.len().min(out.len());
        out[..taken].copy_from_slice(&self.block.split_to(taken));
        Ok(taken)
    }
}

/// Reads a file of `size` bytes from byte `from` on.
pub fn from_byte(files: &Arc<Files>, uri: &str, from: u64, size: u64) -> BufReader<impl Read> {
    let blocks = Blocks { files: Arc::clone(files), uri: uri.into(), at: from, size, block: bytes::Bytes::new() };
    BufReader::with_capacity(256 << 10, blocks)
}

/// Reads at most so many bytes; more is an error.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let taken = self.inner.read(out)?;
        self.left = self.left.checked_sub(taken as u64).ok_or_else(|| {
            let advice = "split it into smaller files, or write Parquet or plain .jsonl";
            std::io::Error::other(format!("more than {MAX_WHOLE_BYTES} bytes, the limit for CSV and compressed files: {advice}"))
        })?;
        Ok(taken)
    }
}

/// Reads a whole file, decompressed.
pub fn whole(files: &Files, uri: &str, compression: Compression) -> Result<Box<dyn Read + Send>, FileError> {
    let plain = files.open(uri, MAX_WHOLE_BYTES)?;
    let reader: Box<dyn Read + Send> = match compression {
        Compression::Plain => plain,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(plain)),
        Compression::Zstd => match zstd::Decoder::new(plain) {
            Ok(decoder) => Box::new(decoder),
            Err(e) => return Err(FileError::Unreadable { uri: uri.into(), reason: e.to_string() }),
        },
    };
    Ok(Box::new(Limited { inner: reader, left: MAX_WHOLE_BYTES }))
}
