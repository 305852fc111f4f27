//! Hugging Face `datasets`: `load_dataset("videofolder", data_dir=...)` reads it, with the caption of each video.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ClipSink, ListFile, Report, Whole, write_file};
use crate::disk::{self, Result};

/// The folder of the only split.
const SPLIT: &str = "train";

pub(crate) struct Clips {
    folder: PathBuf,
    list: ListFile,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Result<Clips> {
        let folder = folder.join(SPLIT);
        disk::make_folder(&folder)?;
        Ok(Clips { list: ListFile::new(&folder.join("metadata.jsonl"))?, folder })
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, _report: &mut Report) -> Result<()> {
        let file = format!("{}.mp4", clip.name);
        write_file(&self.folder.join(&file), &clip.clip.bytes)?;
        let row = json!({
            "file_name": file,
            "clip_id": clip.clip.id,
            "caption": clip.clip.caption,
            "width": clip.width,
            "height": clip.height,
            "fps": clip.fps,
            "num_frames": clip.frames,
            "duration_s": clip.duration_s,
        });
        self.list.text(&format!("{row}\n"))
    }
    fn finish(&mut self) -> Result<()> {
        self.list.end()
    }
}
