//! What a captioner knows of a clip: one row's columns, by name, absent ones as `None`.
//!
//! Empty text counts as absent: an empty title tells a model nothing and a reader less.

use arrow::array::{Array, AsArray, Int64Array, ListArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};

use crate::text::clip_transcript;

/// One row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Clip<'a> {
    /// Where the video is.
    pub uri: Option<&'a str>,
    /// Content hash of the video.
    pub content: Option<&'a str>,
    /// Title of the video.
    pub title: Option<&'a str>,
    /// Description of the video.
    pub description: Option<&'a str>,
    /// Start and end in the video's stream time, microseconds. For a row that is a whole video: from 0 to its duration.
    pub span: Option<(i64, i64)>,
    /// Displayed size.
    pub size: Option<(i32, i32)>,
    /// What is said in the span; `None` when the video has no transcript.
    pub transcript: Option<String>,
}

/// The columns that [`clips`] reads; all of them optional.
pub const COLUMNS: [&str; 11] = [
    "video_uri",
    "content_blake3",
    "title",
    "description",
    "start_us",
    "end_us",
    "duration_us",
    "width",
    "height",
    "transcript",
    "speech_text",
];

/// The clips of all rows.
pub fn clips(rows: &RecordBatch) -> Vec<Clip<'_>> {
    let column = |name: &str| rows.column_by_name(name);
    let text = |name: &str| column(name).and_then(|c| c.as_string_opt::<i32>());
    let int64 = |name: &str| column(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
    let int32 = |name: &str| column(name).and_then(|c| c.as_primitive_opt::<Int32Type>());
    let (uri, content, title, description) = (text("video_uri"), text("content_blake3"), text("title"), text("description"));
    let (start, end, duration) = (int64("start_us"), int64("end_us"), int64("duration_us"));
    let (width, height) = (int32("width"), int32("height"));
    // What `transcript` found out about the row itself goes before the words of the whole video; null there means unknown, empty means silence.
    let speech = text("speech_text");
    let transcripts = column("transcript").and_then(|c| c.as_list_opt::<i32>());

    (0..rows.num_rows())
        .map(|row| {
            let span = match (start, end) {
                (None, None) => int64_at(duration, row).map(|d| (0, d)),
                (start, end) => int64_at(start, row).zip(int64_at(end, row)),
            };
            let span = span.filter(|(a, b)| b > a);
            Clip {
                uri: str_at(uri, row),
                content: str_at(content, row),
                title: str_at(title, row),
                description: str_at(description, row),
                span,
                size: width
                    .zip(height)
                    .filter(|(w, h)| w.is_valid(row) && h.is_valid(row))
                    .map(|(w, h)| (w.value(row), h.value(row)))
                    .filter(|(w, h)| *w > 0 && *h > 0),
                transcript: match speech {
                    Some(speech) => speech.is_valid(row).then(|| speech.value(row).to_owned()),
                    None => transcripts.zip(span).and_then(|(t, span)| spoken(t, row, span)),
                },
            }
        })
        .collect()
}

fn str_at(column: Option<&StringArray>, row: usize) -> Option<&str> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row)).filter(|s| !s.trim().is_empty())
}

fn int64_at(column: Option<&Int64Array>, row: usize) -> Option<i64> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

fn spoken(transcripts: &ListArray, row: usize, (start_us, end_us): (i64, i64)) -> Option<String> {
    if transcripts.is_null(row) {
        return None;
    }
    let (from, to) = (transcripts.value_offsets()[row] as usize, transcripts.value_offsets()[row + 1] as usize);
    let cues: &StructArray = transcripts.values().as_struct_opt()?;
    let start = cues.column_by_name("start_us")?.as_primitive_opt::<Int64Type>()?;
    let end = cues.column_by_name("end_us")?.as_primitive_opt::<Int64Type>()?;
    let text = cues.column_by_name("text")?.as_string_opt::<i32>()?;
    let items = (from..to)
        .filter(|&i| cues.is_valid(i) && start.is_valid(i) && end.is_valid(i) && text.is_valid(i))
        .map(|i| (start.value(i), end.value(i), text.value(i)));
    Some(clip_transcript(items, start_us, end_us))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{DataType, Field, Fields};

    use super::*;

    fn transcript() -> ListArray {
        let fields: Fields = [("start_us", DataType::Int64), ("end_us", DataType::Int64), ("text", DataType::Utf8)]
            .into_iter()
            .map(|(n, t)| Field::new(n, t, true))
            .collect();
        let cues = StructArray::new(
            fields.clone(),
            vec![
                Arc::new(Int64Array::from(vec![0, 5, 10])),
                Arc::new(Int64Array::from(vec![5, 10, 15])),
                Arc::new(StringArray::from(vec![Some("one"), Some("two"), None])),
            ],
            None,
        );
        let item = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
        ListArray::new(item, OffsetBuffer::from_lengths([3, 0]), Arc::new(cues), Some(vec![true, false].into()))
    }

    #[test]
    fn a_clip_has_the_words_of_its_span_and_nothing_else() {
        let rows = RecordBatch::try_from_iter([
            ("title", Arc::new(StringArray::from(vec![" ", "t"])) as ArrayRef),
            ("start_us", Arc::new(Int64Array::from(vec![Some(5), None]))),
            ("end_us", Arc::new(Int64Array::from(vec![20, 20]))),
            ("transcript", Arc::new(transcript())),
        ])
        .unwrap();
        let clips = clips(&rows);
        assert_eq!((clips[0].title, clips[0].span, clips[0].transcript.as_deref()), (None, Some((5, 20)), Some("two")));
        assert_eq!(clips[1], Clip { title: Some("t"), ..Clip::default() });
    }

    #[test]
    fn what_was_found_out_about_the_row_itself_goes_first() {
        let rows = RecordBatch::try_from_iter_with_nullable([
            ("start_us", Arc::new(Int64Array::from(vec![5, 5])) as ArrayRef, true),
            ("end_us", Arc::new(Int64Array::from(vec![20, 20])), true),
            ("transcript", Arc::new(transcript()), true),
            ("speech_text", Arc::new(StringArray::from(vec![None, Some("heard")])), true),
        ])
        .unwrap();
        assert_eq!(clips(&rows).iter().map(|c| c.transcript.as_deref()).collect::<Vec<_>>(), [None, Some("heard")]);
    }

    #[test]
    fn a_whole_video_spans_its_duration() {
        let rows =
            RecordBatch::try_from_iter([("duration_us", Arc::new(Int64Array::from(vec![Some(9), None])) as ArrayRef)]).unwrap();
        assert_eq!(clips(&rows).iter().map(|c| c.span).collect::<Vec<_>>(), [Some((0, 9)), None]);
    }
}
