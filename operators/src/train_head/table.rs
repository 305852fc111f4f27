//! Embeddings from a table that a pipeline or another program wrote, instead of decoding the videos again.
//!
//! Columns as `frame_embed` makes them: `video_id`, `frame_times_us`, `frame_embeddings`, `embedding_model`; or one vector a row: `video_id`, `embedding`,
//! `embedding_model`. Only the vectors of videos that are asked for are kept, so the table may be larger than memory. What can go wrong: a table with two embedding
//! models; a head can read only one, so that is an error.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use curette_engine::verdict::Problem;
use curette_heads::Encoder;

use super::TrainError;
use super::samples::{Embedded, Embedder};
use crate::frames::vectors::Vectors;
use crate::tables::cast::{integer_lists, lists_of_vectors, need_text, vectors};
use crate::tables::{BATCH_ROWS, OpenTable};

/// Rows of a batch of videos: one of an hour has 11 MB of vectors.
const VIDEO_ROWS: usize = 4;

/// The embeddings of some videos.
pub struct EmbeddingTable {
    encoder: Option<Encoder>,
    videos: HashMap<String, Embedded>,
}

impl EmbeddingTable {
    /// Reads those that are `wanted`, by their `video_id`.
    pub fn read(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<EmbeddingTable, TrainError> {
        let err = |what: String| TrainError::Embeddings(format!("embeddings {}: {what}", path.display()));
        let open = OpenTable::open(path).map_err(err)?;
        let mut table = EmbeddingTable { encoder: None, videos: HashMap::new() };
        let single = !open.has("frame_embeddings") && open.has("embedding");
        let (columns, rows) = match single {
            true => (["video_id", "embedding_model", "embedding"].as_slice(), BATCH_ROWS),
            false => (["video_id", "embedding_model", "frame_times_us", "frame_embeddings"].as_slice(), VIDEO_ROWS),
        };
        columns.iter().try_for_each(|column| open.need(column)).map_err(err)?;
        for batch in open.batches(columns, rows).map_err(err)? {
            let batch = batch.map_err(err)?;
            if single { table.add_single(&batch, wanted) } else { table.add(&batch, wanted) }.map_err(err)?;
        }
        if table.encoder.is_none() {
            return Err(err("no row has embeddings; write them with a `parquet` sink after `frame_embed`".into()));
        }
        Ok(table)
    }

    fn add(&mut self, batch: &RecordBatch, wanted: &dyn Fn(&str) -> bool) -> Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or(format!("needs a column `{name}`"));
        let (ids, models) = (need_text(batch, "video_id")?, need_text(batch, "embedding_model")?);
        let (times, lists) = (column("frame_times_us")?, column("frame_embeddings")?);
        let times = integer_lists(times)
            .ok_or_else(|| format!("column `frame_times_us` is {}, expected a list of whole numbers", times.data_type()))?;
        let cast = lists_of_vectors(lists);
        let vectors = cast.as_ref().and_then(|cast| Vectors::of(cast)).ok_or_else(|| {
            format!("column `frame_embeddings` is {}, expected a list of vectors of Float32 or Float64", lists.data_type())
        })?;
        for row in 0..batch.num_rows() {
            let (Some(vectors), false) = (vectors.row(row), ids.is_null(row) || models.is_null(row) || times.is_null(row)) else {
                continue;
            };
            self.agree(models.value(row))?;
            let id = ids.value(row);
            if !wanted(id) {
                continue;
            }
            let times = times.value(row);
            let times = times.as_primitive_opt::<Int64Type>().ok_or("column `frame_times_us` does not hold Int64")?;
            let embedded = Embedded {
                times_us: times.values().to_vec(),
                vectors: (0..vectors.len())
                    .map(|i| vectors.get(i).map(<[f32]>::to_vec).map_err(|e| format!("{id}: the embedding of frame {i} {e}")))
                    .collect::<Result<_, _>>()?,
            };
            if embedded.times_us.len() != embedded.vectors.len() {
                return Err(format!("{id}: {} times but {} embeddings", embedded.times_us.len(), embedded.vectors.len()));
            }
            self.videos.insert(id.to_owned(), embedded);
        }
        Ok(())
    }

    /// One vector per id: texts, or pictures.
    fn add_single(&mut self, batch: &RecordBatch, wanted: &dyn Fn(&str) -> bool) -> Result<(), String> {
        let (ids, models) = (need_text(batch, "video_id")?, need_text(batch, "embedding_model")?);
        let column = batch.column_by_name("embedding").ok_or("needs a column `embedding`")?;
        let wrong = || format!("column `embedding` is {}, expected a list of numbers without nulls", column.data_type());
        let lists = vectors(column).ok_or_else(wrong)?;
        for row in (0..batch.num_rows()).filter(|&r| ids.is_valid(r) && models.is_valid(r) && lists.is_valid(r)) {
            self.agree(models.value(row))?;
            if !wanted(ids.value(row)) {
                continue;
            }
            let vector = super::flat::vector(&lists, row).ok_or_else(wrong)?;
            self.videos.insert(ids.value(row).to_owned(), Embedded { times_us: vec![0], vectors: vec![vector] });
        }
        Ok(())
    }

    fn agree(&mut self, model: &str) -> Result<(), String> {
        let model: Encoder = model.parse()?;
        match &self.encoder {
            Some(before) if *before != model => Err(format!("holds embeddings of `{before}` and of `{model}`; a head reads one")),
            _ => {
                self.encoder = Some(model);
                Ok(())
            }
        }
    }
}

impl Embedder for EmbeddingTable {
    fn encoder(&self) -> Encoder {
        self.encoder.clone().unwrap_or(Encoder::built_in("unknown"))
    }
    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        self.videos.get(video).cloned().ok_or_else(|| Problem::new("not_in_table", "the embedding table has no such `video_id`"))
    }
}
