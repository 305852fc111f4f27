//! Embeddings from a table that a pipeline wrote, instead of decoding the videos again.
//!
//! Columns as `frame_embed` makes them: `video_id`, `frame_times_us`, `frame_embeddings`, `embedding_model`. What can go wrong: a table with two embedding
//! models; a head can read only one, so that is an error.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use curette_engine::verdict::Problem;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::TrainError;
use super::samples::{Embedded, Embedder};
use crate::frames::vectors::Vectors;

/// All embeddings of a Parquet file, or of the Parquet files in a folder.
pub struct EmbeddingTable {
    model: String,
    videos: HashMap<String, Embedded>,
}

impl EmbeddingTable {
    /// Reads it.
    pub fn read(path: &Path) -> Result<EmbeddingTable, TrainError> {
        let err = |what: String| TrainError::Embeddings(format!("embeddings {}: {what}", path.display()));
        let mut files = vec![path.to_path_buf()];
        if path.is_dir() {
            let entries = std::fs::read_dir(path).map_err(|e| err(e.to_string()))?;
            files = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
            files.sort();
        }
        let mut table = EmbeddingTable { model: String::new(), videos: HashMap::new() };
        for file in &files {
            let reader = File::open(file).map_err(|e| err(e.to_string()))?;
            let reader =
                ParquetRecordBatchReaderBuilder::try_new(reader).and_then(|b| b.build()).map_err(|e| err(e.to_string()))?;
            for batch in reader {
                table.add(&batch.map_err(|e| err(e.to_string()))?).map_err(err)?;
            }
        }
        if table.videos.is_empty() {
            return Err(err("no row has embeddings; write them with a `parquet` sink after `frame_embed`".into()));
        }
        Ok(table)
    }

    fn add(&mut self, batch: &arrow::array::RecordBatch) -> Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or(format!("needs a column `{name}`"));
        let text = |name: &str| column(name)?.as_string_opt::<i32>().ok_or(format!("column `{name}` is not text"));
        let (ids, models) = (text("video_id")?, text("embedding_model")?);
        let times = column("frame_times_us")?.as_list_opt::<i32>().ok_or("column `frame_times_us` is not a list")?;
        let vectors =
            Vectors::of(column("frame_embeddings")?).ok_or("column `frame_embeddings` is not a list of Float32 vectors")?;
        for row in 0..batch.num_rows() {
            let (Some(vectors), false) = (vectors.row(row), ids.is_null(row) || models.is_null(row) || times.is_null(row)) else {
                continue;
            };
            let model = models.value(row);
            if !self.model.is_empty() && self.model != model {
                return Err(format!("holds embeddings of `{}` and of `{model}`; a head reads one", self.model));
            }
            self.model = model.to_owned();
            let times = times.value(row);
            let times = times.as_primitive_opt::<Int64Type>().ok_or("column `frame_times_us` does not hold Int64")?;
            let id = ids.value(row);
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
}

impl Embedder for EmbeddingTable {
    fn model(&self) -> String {
        self.model.clone()
    }
    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        self.videos.get(video).cloned().ok_or_else(|| Problem::new("not_in_table", "the embedding table has no such `video_id`"))
    }
}
