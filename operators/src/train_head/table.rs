//! Embeddings from a table that a pipeline wrote, instead of decoding the videos again.
//!
//! Columns as `frame_embed` makes them: `video_id`, `frame_times_us`, `frame_embeddings`, `embedding_model`; or one vector a row: `video_id`, `embedding`,
//! `embedding_model`. What can go wrong: a table with two embedding
//! models; a head can read only one, so that is an error.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use curette_engine::verdict::Problem;
use curette_heads::Encoder;

use super::TrainError;
use super::labels::batches;
use super::samples::{Embedded, Embedder};
use crate::frames::vectors::Vectors;

/// All embeddings of a Parquet file, or of the Parquet files in a folder.
pub struct EmbeddingTable {
    encoder: Option<Encoder>,
    videos: HashMap<String, Embedded>,
}

impl EmbeddingTable {
    /// Reads it.
    pub fn read(path: &Path) -> Result<EmbeddingTable, TrainError> {
        let err = |what: String| TrainError::Embeddings(format!("embeddings {}: {what}", path.display()));
        let files = files(path).map_err(|e| err(e.to_string()))?;
        let mut table = EmbeddingTable { encoder: None, videos: HashMap::new() };
        for file in &files {
            for batch in batches(file).map_err(|e| err(e.to_string()))? {
                table.add(&batch).map_err(err)?;
            }
        }
        if table.videos.is_empty() {
            return Err(err("no row has embeddings; write them with a `parquet` sink after `frame_embed`".into()));
        }
        Ok(table)
    }

    fn add(&mut self, batch: &arrow::array::RecordBatch) -> Result<(), String> {
        if batch.column_by_name("frame_embeddings").is_none() && batch.column_by_name("embedding").is_some() {
            return self.add_single(batch);
        }
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
            self.agree(models.value(row))?;
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

    /// One vector per id: texts, or pictures.
    fn add_single(&mut self, batch: &arrow::array::RecordBatch) -> Result<(), String> {
        let column = |name: &str| batch.column_by_name(name).ok_or(format!("needs a column `{name}`"));
        let text = |name: &str| column(name)?.as_string_opt::<i32>().ok_or(format!("column `{name}` is not text"));
        let (ids, models, vectors) = (text("video_id")?, text("embedding_model")?, column("embedding")?);
        for row in (0..batch.num_rows()).filter(|&r| ids.is_valid(r) && models.is_valid(r) && vectors.is_valid(r)) {
            self.agree(models.value(row))?;
            let vector = super::flat::vector(vectors, row)
                .ok_or(format!("column `embedding` is {}, expected a list of Float32 without nulls", vectors.data_type()))?;
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

/// The file, or the Parquet files in the folder, in order.
pub(crate) fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "parquet")).collect();
    files.sort();
    Ok(files)
}

impl Embedder for EmbeddingTable {
    fn encoder(&self) -> Encoder {
        self.encoder.clone().unwrap_or(Encoder::built_in("unknown"))
    }
    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        self.videos.get(video).cloned().ok_or_else(|| Problem::new("not_in_table", "the embedding table has no such `video_id`"))
    }
}
