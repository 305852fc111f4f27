//! FastVideo of July 2025. Clips: `merge.txt` and a list; its preprocessing encodes them. Samples: three files of `torch.save` each, and a list.
//!
//! Row 0 of a prompt's embedding is CLIP's pooled vector, filled up with zeros; the rows behind are the tokens, filled up to the length of the mask.
//! Paths are relative: run the tool in the exported folder.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::json;

use super::torch_file::torch_file;
use super::{ClipSink, ListFile, Report, VIDEOS, Whole, each_sample, write_file, write_video};
use crate::disk::{self, Result, TrainerError};
use crate::spool::{OwnedTensor, Sample, Spool};

/// The list of clips or of samples.
const LIST: &str = "videos2caption.json";
/// The tool takes clips of 93 frames at 24 frames per second from this length on, and up to twice that.
const DURATION_S: (f64, f64) = (3.88, 7.75);
/// It takes pictures of this shape: height / width.
const HEIGHT_BY_WIDTH: (f64, f64) = (0.38, 0.85);

pub(crate) struct Clips {
    folder: PathBuf,
    list: ListFile,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Result<Clips> {
        disk::make_folder(&folder.join(VIDEOS))?;
        write_file(&folder.join("merge.txt"), format!("{VIDEOS},{LIST}\n").as_bytes())?;
        Ok(Clips { folder: folder.to_owned(), list: ListFile::new(&folder.join(LIST))? })
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, report: &mut Report) -> Result<()> {
        write_video(&self.folder, clip)?;
        if !(DURATION_S.0..=DURATION_S.1).contains(&clip.duration_s) {
            report.warn("FastVideo V0 drops clips that do not last 3.88 to 7.75 s (93 frames at 24 per second)");
        }
        if !(HEIGHT_BY_WIDTH.0..=HEIGHT_BY_WIDTH.1).contains(&(clip.height as f64 / clip.width as f64)) {
            report.warn("FastVideo V0 drops clips whose height is not 0.38 to 0.85 of their width");
        }
        self.list.item(&json!({
            "path": format!("{}.mp4", clip.name),
            "resolution": {"width": clip.width, "height": clip.height},
            "fps": clip.fps,
            "duration": clip.duration_s,
            "cap": [clip.clip.caption],
        }))
    }
    fn finish(&mut self) -> Result<()> {
        self.list.end_items()
    }
}

pub(crate) fn samples(spool: &Spool, folder: &Path) -> Result<Report> {
    let folders = ["latent", "prompt_embed", "prompt_attention_mask"];
    for name in folders {
        disk::make_folder(&folder.join(name))?;
    }
    let mut list = ListFile::new(&folder.join(LIST))?;
    let exported = each_sample(spool, |sample, name| {
        let (latent, mask) = (tensor(sample, "latent")?, tensor(sample, "mask")?);
        let file = format!("{name}.pt");
        for (place, content) in folders.into_iter().zip([latent, &prompt(sample)?, mask]) {
            write_file(&folder.join(place).join(&file), &torch_file(content)?)?;
        }
        list.item(&json!({
            "length": latent.shape.get(1),
            "latent_path": file,
            "prompt_embed_path": file,
            "prompt_attention_mask": file,
            "caption": sample.info.caption,
        }))
    })?;
    list.end_items()?;
    Ok(Report { exported, ..Report::default() })
}

/// A tensor of a sample, or an error that names the clip.
pub(crate) fn tensor<'a>(sample: &'a Sample, name: &str) -> Result<&'a OwnedTensor> {
    sample.tensors.get(name).ok_or_else(|| TrainerError(format!("clip `{}` has no tensor `{name}`", sample.info.id)))
}

/// The tokens, filled up with zeros to the length of the mask.
pub(crate) fn padded(sample: &Sample) -> Result<OwnedTensor> {
    let (embed, mask) = (tensor(sample, "embed")?, tensor(sample, "mask")?);
    let (&[tokens, width], &[longest]) = (&embed.shape[..], &mask.shape[..]) else {
        return Err(TrainerError(format!("clip `{}`: `embed` or `mask` has not the sides that it should have", sample.info.id)));
    };
    if tokens > longest {
        return Err(TrainerError(format!("clip `{}` has {tokens} tokens, its mask {longest}", sample.info.id)));
    }
    let mut bytes = embed.bytes.clone();
    bytes.resize(longest * width * bytes_of(embed.dtype), 0);
    Ok(OwnedTensor { dtype: embed.dtype, shape: vec![longest, width], bytes })
}

pub(crate) fn bytes_of(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

fn prompt(sample: &Sample) -> Result<OwnedTensor> {
    let mut embed = padded(sample)?;
    let Some(pooled) = sample.tensors.get("pooled") else { return Ok(embed) };
    let row = embed.shape[1] * bytes_of(embed.dtype);
    if pooled.dtype != embed.dtype || pooled.bytes.len() > row {
        return Err(TrainerError(format!("clip `{}`: `pooled` does not fit into a row of `embed`", sample.info.id)));
    }
    let mut bytes = pooled.bytes.clone();
    bytes.resize(row, 0);
    bytes.append(&mut embed.bytes);
    embed.shape[0] += 1;
    Ok(OwnedTensor { bytes, ..embed })
}
