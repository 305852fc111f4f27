//! musubi-tuner. Clips: a list and a TOML table of settings; the tool encodes. Samples: its two caches, of latents and of text, for HunyuanVideo.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;

use super::fastvideo_v0::{padded, tensor};
use super::{ClipSink, ListFile, Report, VIDEOS, Whole, each_sample, write_file, write_video};
use crate::architecture::{Architecture, PIXELS_PER_LATENT};
use crate::disk::{self, Result, TrainerError};
use crate::spool::{OwnedTensor, Spool};

/// The version of the cache's form.
const FORMAT_VERSION: &str = "1.0.1";

pub(crate) struct Clips {
    folder: PathBuf,
    list: ListFile,
    /// Of all clips: the fewest frames, the largest picture, the lowest rate.
    common: Option<(u64, (u64, u64), f64)>,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Result<Clips> {
        disk::make_folder(&folder.join(VIDEOS))?;
        Ok(Clips { folder: folder.to_owned(), list: ListFile::new(&folder.join("videos.jsonl"))?, common: None })
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, report: &mut Report) -> Result<()> {
        let path = write_video(&self.folder, clip)?;
        let (frames, size, fps) = self.common.unwrap_or((clip.frames, (clip.width, clip.height), clip.fps));
        if (fps - clip.fps).abs() > 0.01 {
            report.warn("frame rates differ: musubi-tuner takes one `source_fps` for all");
        }
        self.common = Some((frames.min(clip.frames), size.max((clip.width, clip.height)), fps.min(clip.fps)));
        self.list.text(&format!("{}\n", json!({"video_path": path, "caption": one_caption(clip)})))
    }
    fn finish(&mut self) -> Result<()> {
        self.list.end()?;
        let Some((frames, (width, height), fps)) = self.common else { return Ok(()) };
        let frames = Architecture::Hunyuan.whole_frames(frames);
        let settings = format!(
            "[general]\nresolution = [{width}, {height}]\nbatch_size = 1\nenable_bucket = true\n\n[[datasets]]\n\
             video_jsonl_file = \"videos.jsonl\"\ncache_directory = \"cache\"\ntarget_frames = [{frames}]\nframe_extraction = \"head\"\n\
             source_fps = {fps:?}\n"
        );
        write_file(&self.folder.join("dataset.toml"), settings.as_bytes())
    }
}

fn one_caption(clip: &Whole<'_>) -> String {
    super::one_line(&clip.clip.caption)
}

/// The name of a type in keys.
fn word(dtype: Dtype) -> Result<&'static str> {
    match dtype {
        Dtype::F32 => Ok("float32"),
        Dtype::F16 => Ok("float16"),
        Dtype::BF16 => Ok("bfloat16"),
        other => Err(TrainerError(format!("musubi-tuner's caches know no {other:?}"))),
    }
}

pub(crate) fn samples(spool: &Spool, folder: &Path) -> Result<Report> {
    if spool.header.architecture != Architecture::Hunyuan {
        let name = spool.header.architecture.name();
        return Err(TrainerError(format!("the spool is of {name}; the cache of musubi-tuner is known for hunyuan only")));
    }
    let exported = each_sample(spool, |sample, name| {
        let (latent, mask) = (tensor(sample, "latent")?, tensor(sample, "mask")?);
        let (embed, pooled) = (padded(sample)?, tensor(sample, "pooled")?);
        let &[_, frames, high, wide] = &latent.shape[..] else {
            return Err(TrainerError(format!("clip `{}`: its latent has not four sides", sample.info.id)));
        };
        let (width, height) = (wide as u64 * PIXELS_PER_LATENT, high as u64 * PIXELS_PER_LATENT);
        let pictures = (frames.max(1) - 1) * 4 + 1;
        let of = |key: String, tensor: &OwnedTensor| (key, tensor.clone());
        let text = vec![
            of(format!("llm_{}", word(embed.dtype)?), &embed),
            of("llm_mask".into(), mask),
            of(format!("clipL_{}", word(pooled.dtype)?), pooled),
        ];
        let latents = vec![of(format!("latents_{frames}x{high}x{wide}_{}", word(latent.dtype)?), latent)];
        let latents_file = format!("{name}_00000-{pictures:03}_{width:04}x{height:04}_hv.safetensors");
        write_file(&folder.join(latents_file), &cache(&latents, width, height)?)?;
        write_file(&folder.join(format!("{name}_hv_te.safetensors")), &cache(&text, width, height)?)
    })?;
    Ok(Report { exported, ..Report::default() })
}

/// Metadata in a fixed order, unlike those of the library: equal samples are equal files.
fn cache(tensors: &[(String, OwnedTensor)], width: u64, height: u64) -> Result<Vec<u8>> {
    let failed = |e: safetensors::SafeTensorError| TrainerError(format!("cannot make a cache: {e}"));
    let views = tensors.iter().map(|(key, t)| TensorView::new(t.dtype, t.shape.clone(), &t.bytes).map(|v| (key.as_str(), v)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
    let plain = safetensors::serialize(views, None::<HashMap<String, String>>).map_err(failed)?;
    let metadata = [
        ("architecture", "hunyuan_video".to_owned()),
        ("width", width.to_string()),
        ("height", height.to_string()),
        ("format_version", FORMAT_VERSION.to_owned()),
    ];
    with_metadata(&plain, &metadata)
}

/// Puts metadata into the header of a file that has none.
fn with_metadata(plain: &[u8], metadata: &[(&str, String)]) -> Result<Vec<u8>> {
    let broken = || TrainerError::new("cannot make a cache: its header is not as expected");
    let (size, rest) = plain.split_first_chunk::<8>().ok_or_else(broken)?;
    let size = usize::try_from(u64::from_le_bytes(*size)).map_err(|_| broken())?;
    let (header, data) = rest.split_at_checked(size).ok_or_else(broken)?;
    let mut tensors: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).map_err(|_| broken())?;
    let mut all = serde_json::Map::new();
    let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    all.insert("__metadata__".into(), serde_json::Value::Object(metadata));
    all.append(&mut tensors);
    let mut header = serde_json::to_vec(&all).map_err(|_| broken())?;
    // Numbers begin at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
}
