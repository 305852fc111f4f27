//! What part of which video a row is: `[start_us, end_us)` of `video_uri`, or the whole video when there is no span.

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use curette_engine::operator::OperatorError;
use curette_engine::verdict::Problem;

/// What decides an answer about the pixels of a clip: the file's content and the span. For [`Operator::decided_by`](curette_engine::operator::Operator::decided_by).
pub(crate) const OF_PIXELS: [&str; 3] = ["content_blake3", "start_us", "end_us"];

/// A column that `check` has made sure of; its absence is a bug of the engine, not of the data.
pub fn text_column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray, OperatorError> {
    rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).ok_or_else(|| {
        OperatorError::new(format!("column `{name}` is missing or not text, although `check` accepted the pipeline"))
    })
}

/// The spans of a batch.
pub struct Spans<'a> {
    uri: &'a StringArray,
    start: Option<&'a Int64Array>,
    end: Option<&'a Int64Array>,
    duration: Option<&'a Int64Array>,
}

/// The span of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    /// Path or URL of the video.
    pub uri: &'a str,
    /// Start in microseconds of stream time.
    pub start_us: i64,
    /// End, not included.
    pub end_us: i64,
}

impl<'a> Spans<'a> {
    /// Reads `video_uri`, and `start_us`, `end_us`, `duration_us` where they are.
    pub fn of(rows: &'a RecordBatch) -> Result<Self, OperatorError> {
        let number = |name: &str| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        Ok(Spans {
            uri: text_column(rows, "video_uri")?,
            start: number("start_us"),
            end: number("end_us"),
            duration: number("duration_us"),
        })
    }

    /// The span of a row. A span with a null or without length is a problem of the row.
    pub fn row(&self, row: usize) -> Result<Span<'a>, Problem> {
        if self.uri.is_null(row) {
            return Err(Problem::new("file_missing", "the row has no video_uri"));
        }
        let value = |column: Option<&Int64Array>| column.filter(|c| c.is_valid(row)).map(|c| c.value(row));
        let (start_us, end_us) = match (self.start, self.end) {
            (Some(_), Some(_)) => match (value(self.start), value(self.end)) {
                (Some(start), Some(end)) => (start, end),
                _ => return Err(Problem::new("no_span", "start_us or end_us is null")),
            },
            // The whole video, also when its duration is not known: the largest time that still fits in nanoseconds.
            _ => (0, value(self.duration).unwrap_or(i64::MAX / 1000)),
        };
        if start_us < 0 || end_us <= start_us || end_us > i64::MAX / 1000 {
            return Err(Problem::new("no_span", format!("[{start_us}, {end_us}) microseconds is no span")));
        }
        Ok(Span { uri: self.uri.value(row), start_us, end_us })
    }
}
