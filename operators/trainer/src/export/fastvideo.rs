//! FastVideo of today. Clips: `videos/` and a list. Samples: a Parquet table.
//!
//! Its reader takes the bytes of a tensor for float32 whatever the column of types says, so that is what is written. The table has one embedding:
//! CLIP's pooled vector, where a spool has one, is left to the tool.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use safetensors::Dtype;
use serde_json::json;

use super::fastvideo_v0::tensor;
use super::{ClipSink, ListFile, Report, VIDEOS, Whole, file_name, write_video};
use crate::disk::{self, Result, TrainerError};
use crate::spool::{OwnedTensor, Sample, Spool};

pub(crate) struct Clips {
    folder: PathBuf,
    list: ListFile,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Result<Clips> {
        disk::make_folder(&folder.join(VIDEOS))?;
        Ok(Clips { folder: folder.to_owned(), list: ListFile::new(&folder.join("videos2caption.json"))? })
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, _report: &mut Report) -> Result<()> {
        write_video(&self.folder, clip)?;
        self.list.item(&json!({"path": format!("{}.mp4", clip.name), "cap": [clip.clip.caption]}))
    }
    fn finish(&mut self) -> Result<()> {
        self.list.end_items()
    }
}

/// A table for each shard of the spool.
pub(crate) fn samples(spool: &Spool, folder: &Path) -> Result<Report> {
    let mut exported = 0;
    for (number, line) in spool.manifest.shards.iter().enumerate() {
        let rows = spool.shard(line)?.iter().map(Row::of).collect::<Result<Vec<_>>>()?;
        exported += rows.len() as u64;
        let path = folder.join(format!("data_{number:06}.parquet"));
        write(&path, &rows).map_err(|e| TrainerError::at("write", &path, e))?;
    }
    Ok(Report { exported, ..Report::default() })
}

struct Row {
    id: String,
    name: String,
    latent: (Vec<u8>, Vec<usize>),
    text: (Vec<u8>, Vec<usize>),
    info: crate::spool::SampleInfo,
}

impl Row {
    fn of(sample: &Sample) -> Result<Row> {
        let whole = |tensor: &OwnedTensor| Ok((float32(tensor)?, tensor.shape.clone()));
        Ok(Row {
            id: sample.info.id.clone(),
            name: format!("{}.mp4", file_name(&sample.info.id)),
            latent: whole(tensor(sample, "latent")?)?,
            text: whole(tensor(sample, "embed")?)?,
            info: sample.info.clone(),
        })
    }
}

fn float32(tensor: &OwnedTensor) -> Result<Vec<u8>> {
    let pairs = || tensor.bytes.as_chunks::<2>().0.iter();
    match tensor.dtype {
        Dtype::F32 => Ok(tensor.bytes.clone()),
        Dtype::BF16 => Ok(pairs().flat_map(|b| half::bf16::from_le_bytes(*b).to_f32().to_le_bytes()).collect()),
        Dtype::F16 => Ok(pairs().flat_map(|b| half::f16::from_le_bytes(*b).to_f32().to_le_bytes()).collect()),
        other => Err(TrainerError(format!("{other:?} cannot be written as float32"))),
    }
}

fn write(path: &Path, rows: &[Row]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let text = |of: fn(&Row) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(of))) as ArrayRef;
    let bytes = |of: fn(&Row) -> &[u8]| Arc::new(BinaryArray::from_iter_values(rows.iter().map(of))) as ArrayRef;
    let shape = |of: fn(&Row) -> &[usize]| {
        let lists = rows.iter().map(|row| Some(of(row).iter().map(|side| Some(*side as i64)).collect::<Vec<_>>()));
        Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)) as ArrayRef
    };
    let number = |of: fn(&Row) -> u64| Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| of(row) as i64))) as ArrayRef;
    let real = |of: fn(&Row) -> f64| Arc::new(Float64Array::from_iter_values(rows.iter().map(of))) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("id", text(|row| &row.id)),
        ("vae_latent_bytes", bytes(|row| &row.latent.0)),
        ("vae_latent_shape", shape(|row| &row.latent.1)),
        ("vae_latent_dtype", text(|_| "float32")),
        ("text_embedding_bytes", bytes(|row| &row.text.0)),
        ("text_embedding_shape", shape(|row| &row.text.1)),
        ("text_embedding_dtype", text(|_| "float32")),
        ("file_name", text(|row| &row.name)),
        ("caption", text(|row| &row.info.caption)),
        ("media_type", text(|_| "video")),
        ("width", number(|row| row.info.width)),
        ("height", number(|row| row.info.height)),
        ("num_frames", number(|row| row.info.frames)),
        ("duration_sec", real(|row| row.info.frames as f64 / row.info.fps)),
        ("fps", real(|row| row.info.fps)),
    ])?;
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}
