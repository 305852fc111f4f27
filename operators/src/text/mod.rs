//! Transcripts: WebVTT and SRT sidecars become a list of timed words or lines.
//!
//! Why a cleaner of its own: YouTube's automatic captions "roll", each line is there three times, and converting them to SRT keeps
//! every copy. A captioner that is shown the copies repeats them. The rule is in [`clean`]; reading is in [`parse`] and [`markup`].
//!
//! What can go wrong: anything at all is in these files. Reading never fails on a single cue, it skips what it cannot read; only a file
//! without one readable cue is an error ([`TranscriptError`]), because silence and damage must not look alike.

pub mod clean;
pub mod markup;
pub mod parse;

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Builder, ListArray, StringBuilder, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use parse::Cues;

/// Larger transcript files are refused: a day of speech with word times takes about 8 MiB.
pub const MAX_TRANSCRIPT_BYTES: u64 = 16 << 20;

/// A word or a line and when it is said, in microseconds of the video's time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedText {
    /// Start.
    pub start_us: i64,
    /// End, not before the start.
    pub end_us: i64,
    /// One word, or one line where the file has no word times. Never empty, no line breaks, single spaces.
    pub text: String,
}

/// What a transcript file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Words or lines by start time, without rolling duplicates.
    pub items: Vec<TimedText>,
    /// True when the file times single words inside its cues, which only automatic captions do.
    pub has_word_times: bool,
}

/// A file that is no transcript.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscriptError {
    /// Neither a WebVTT header nor a single readable cue.
    #[error("no cue could be read: neither a WEBVTT header nor a line such as `00:00:01.000 --> 00:00:02.500`")]
    NoCues,
}

/// Reads a WebVTT or SRT file, whichever it is.
pub fn read(bytes: &[u8]) -> Result<Transcript, TranscriptError> {
    let Cues { cues, has_header } = parse::cues(&parse::decode(bytes));
    if cues.is_empty() && !has_header {
        return Err(TranscriptError::NoCues);
    }
    Ok(clean::clean(cues))
}

/// What is said in `[start_us, end_us)`: every item whose time overlaps the span, joined by spaces.
///
/// An item that only touches the span at its border is outside, so that of two adjacent clips one gets it, not both; an item of no
/// length belongs to the span that it starts in.
pub fn clip_transcript<'a>(items: impl IntoIterator<Item = (i64, i64, &'a str)>, start_us: i64, end_us: i64) -> String {
    let mut out = String::new();
    for (from, to, text) in items {
        let inside = if from == to { from >= start_us && from < end_us } else { from < end_us && to > start_us };
        if inside {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(text);
        }
    }
    out
}

/// The Arrow type of a transcript column: a list of `{start_us, end_us, text}`.
pub fn transcript_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(item_fields()), true)))
}

fn item_fields() -> Fields {
    let field = |name, data_type| Field::new(name, data_type, true);
    Fields::from(vec![field("start_us", DataType::Int64), field("end_us", DataType::Int64), field("text", DataType::Utf8)])
}

/// A transcript column; `None` becomes null.
pub fn transcript_column<'a>(rows: impl Iterator<Item = Option<&'a [TimedText]>>) -> ListArray {
    let (mut starts, mut ends, mut texts) = (Int64Builder::new(), Int64Builder::new(), StringBuilder::new());
    let (mut lengths, mut valid) = (Vec::new(), Vec::new());
    for row in rows {
        valid.push(row.is_some());
        let items = row.unwrap_or(&[]);
        lengths.push(items.len());
        for item in items {
            starts.append_value(item.start_us);
            ends.append_value(item.end_us);
            texts.append_value(&item.text);
        }
    }
    let items =
        StructArray::new(item_fields(), vec![Arc::new(starts.finish()), Arc::new(ends.finish()), Arc::new(texts.finish())], None);
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    ListArray::new(field, OffsetBuffer::from_lengths(lengths), Arc::new(items), Some(valid.into()))
}

/// The items of one row of a transcript column, for [`clip_transcript`]; `None` when the row is null or the column is none of ours.
pub fn transcript_items(column: &dyn Array, row: usize) -> Option<Vec<(i64, i64, String)>> {
    let list = column.as_list_opt::<i32>().filter(|list| list.is_valid(row))?;
    let items = list.value(row);
    let items = items.as_struct_opt()?;
    let starts = items.column_by_name("start_us")?.as_primitive_opt::<Int64Type>()?;
    let ends = items.column_by_name("end_us")?.as_primitive_opt::<Int64Type>()?;
    let texts = items.column_by_name("text")?.as_string_opt::<i32>()?;
    Some((0..items.len()).map(|i| (starts.value(i), ends.value(i), texts.value(i).to_string())).collect())
}

#[cfg(test)]
mod tests;
