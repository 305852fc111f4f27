//! The columns of `shot_split`.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBuilder, Float32Builder, Int32Builder, Int64Builder, StringBuilder};

use super::shot_split::Rows;
use super::shots::Shot;
use crate::damage::Usable;

#[derive(Default)]
pub(super) struct Builders {
    id: StringBuilder,
    index: Int32Builder,
    /// Start and end in microseconds, then in nanoseconds.
    spans: [Int64Builder; 4],
    frames: Int32Builder,
    scores: [Float32Builder; 2],
    decoded: Int64Builder,
    truncated: BooleanBuilder,
    errors: Int64Builder,
}

impl Builders {
    /// One more shot of a video.
    pub fn append(&mut self, video: &str, index: usize, shot: &Shot, usable: &Usable, decode_errors: u64) {
        let (start_us, end_us) = (shot.start_ns / 1000, shot.end_ns / 1000);
        self.id.append_value(format!("{video}#{start_us}-{end_us}"));
        self.index.append_value(index as i32);
        for (builder, value) in self.spans.iter_mut().zip([start_us, end_us, shot.start_ns, shot.end_ns]) {
            builder.append_value(value);
        }
        self.frames.append_value(shot.frames as i32);
        for (builder, value) in self.scores.iter_mut().zip([shot.cut_score, shot.max_inner_score]) {
            builder.append_option(value);
        }
        self.decoded.append_value(usable.decoded_duration_us);
        self.truncated.append_value(usable.truncated);
        self.errors.append_value(decode_errors as i64);
    }

    /// The columns that rows of this kind have.
    pub fn finish(mut self, rows: Rows) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.id.finish()), Arc::new(self.index.finish())];
        let spans = if rows == Rows::Clips { 4 } else { 2 };
        columns.extend(self.spans.iter_mut().take(spans).map(|b| Arc::new(b.finish()) as ArrayRef));
        columns.push(Arc::new(self.frames.finish()));
        columns.extend(self.scores.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef));
        columns.push(Arc::new(self.decoded.finish()));
        columns.push(Arc::new(self.truncated.finish()));
        columns.push(Arc::new(self.errors.finish()));
        columns
    }
}
