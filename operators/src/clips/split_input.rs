//! What `temporal_split` reads of a row, checked: columns of one row that contradict each other make it unmeasured, they are never guessed.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch};
use arrow::datatypes::{Float32Type, Int64Type};
use curette_engine::verdict::Problem;

use crate::frames::vectors::{RowVectors, Vectors};

/// The columns of one video.
pub(super) struct Video<'a> {
    pub times: &'a [i64],
    pub pts: &'a [i64],
    pub positive: Vec<bool>,
    pub vectors: RowVectors<'a>,
    pub scores: Option<&'a [f32]>,
    /// Times of key frames, ascending; none where the column has none.
    pub key_frames: &'a [i64],
}

/// The values of a list column, or why they are not there.
fn list<'a>(column: &'a ListArray, row: usize, name: &str) -> Result<(usize, usize, &'a ArrayRef), Problem> {
    if column.is_null(row) {
        return Err(Problem::new(
            "no_frames",
            format!("`{name}` is null: the video has no sampled frames; see what came before"),
        ));
    }
    let (from, to) = (column.value_offsets()[row] as usize, column.value_offsets()[row + 1] as usize);
    let values = column.values();
    if values.null_count() > 0 && (from..to).any(|i| values.is_null(i)) {
        return Err(Problem::new("columns_disagree", format!("`{name}` has a null in it")));
    }
    Ok((from, to, values))
}

/// The columns of a batch.
pub(super) struct Inputs<'a> {
    pub ids: &'a arrow::array::StringArray,
    times: &'a ListArray,
    pts: &'a ListArray,
    labels: &'a ListArray,
    scores: Option<&'a ListArray>,
    key_frames: Option<&'a ListArray>,
    vectors: Vectors<'a>,
}

impl<'a> Inputs<'a> {
    pub fn of(rows: &'a RecordBatch, id_column: &str) -> Result<Self, String> {
        let column = |name: &str| rows.column_by_name(name).ok_or(format!("column `{name}` is missing"));
        let lists = |name: &str| column(name)?.as_list_opt::<i32>().ok_or(format!("column `{name}` is not a list"));
        Ok(Inputs {
            ids: column(id_column)?.as_string_opt().ok_or(format!("column `{id_column}` is not text"))?,
            times: lists("frame_times_us")?,
            pts: lists("frame_pts")?,
            labels: lists("frame_labels")?,
            scores: rows.column_by_name("frame_scores").and_then(|c| c.as_list_opt()),
            key_frames: rows.column_by_name("key_frame_times_us").and_then(|c| c.as_list_opt()),
            vectors: Vectors::of(column("frame_embeddings")?)
                .ok_or("column `frame_embeddings` is not a list of Float32 vectors")?,
        })
    }

    /// One row, or why it cannot be used.
    pub fn video(&self, row: usize) -> Result<Video<'a>, Problem> {
        let wrong_type = |name: &str| Problem::new("columns_disagree", format!("`{name}` has values of another type"));
        let int64s = |column: &'a ListArray, name: &str| -> Result<&'a [i64], Problem> {
            let (from, to, values) = list(column, row, name)?;
            Ok(&values.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name))?.values()[from..to])
        };
        let (from, to, values) = list(self.labels, row, "frame_labels")?;
        let labels = values.as_boolean_opt().ok_or_else(|| wrong_type("frame_labels"))?;
        let scores = match self.scores.filter(|s| s.is_valid(row)) {
            None => None,
            Some(column) => {
                let (from, to, values) = list(column, row, "frame_scores")?;
                Some(&values.as_primitive_opt::<Float32Type>().ok_or_else(|| wrong_type("frame_scores"))?.values()[from..to])
            }
        };
        let key_frames: &[i64] = match self.key_frames.filter(|k| k.is_valid(row)) {
            None => &[],
            Some(column) => int64s(column, "key_frame_times_us")?,
        };
        if key_frames.windows(2).any(|w| w[0] >= w[1]) {
            return Err(Problem::new("times_not_ascending", "`key_frame_times_us` is not ascending"));
        }
        let video = Video {
            times: int64s(self.times, "frame_times_us")?,
            pts: int64s(self.pts, "frame_pts")?,
            positive: (from..to).map(|i| labels.value(i)).collect(),
            vectors: self.vectors.row(row).ok_or_else(|| Problem::new("no_frames", "`frame_embeddings` is null"))?,
            scores,
            key_frames,
        };
        let n = video.times.len();
        let others = [
            ("frame_pts", video.pts.len()),
            ("frame_labels", video.positive.len()),
            ("frame_embeddings", video.vectors.len()),
            ("frame_scores", scores.map_or(n, <[f32]>::len)),
        ];
        if let Some((name, len)) = others.into_iter().find(|(_, len)| *len != n) {
            let message = format!("`frame_times_us` has {n} frames but `{name}` has {len}");
            return Err(Problem::new("columns_disagree", message));
        }
        if let Some(k) = (1..n).find(|&k| video.times[k] <= video.times[k - 1]) {
            let message = format!("frame {k} is at {} us, the one before at {} us", video.times[k], video.times[k - 1]);
            return Err(Problem::new("times_not_ascending", message));
        }
        Ok(video)
    }
}
