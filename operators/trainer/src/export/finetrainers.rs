//! finetrainers: `videos.txt` and `prompt.txt`, line by line, and the JSON that its `--dataset_config` reads. Its own cache is rebuilt by the tool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ClipSink, ListFile, Report, VIDEOS, Whole, one_line, write_file, write_video};
use crate::architecture::Architecture;
use crate::disk::{self, Result};

/// More kinds of clips than this need no bucket of their own.
const MAX_BUCKETS: usize = 64;

pub(crate) struct Clips {
    folder: PathBuf,
    videos: ListFile,
    prompts: ListFile,
    buckets: BTreeSet<[u64; 3]>,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Result<Clips> {
        disk::make_folder(&folder.join(VIDEOS))?;
        let list = |name: &str| ListFile::new(&folder.join(name));
        Ok(Clips {
            videos: list("videos.txt")?,
            prompts: list("prompt.txt")?,
            folder: folder.to_owned(),
            buckets: BTreeSet::new(),
        })
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, report: &mut Report) -> Result<()> {
        let path = write_video(&self.folder, clip)?;
        let bucket = [Architecture::Hunyuan.whole_frames(clip.frames), clip.height, clip.width];
        if self.buckets.len() < MAX_BUCKETS || self.buckets.contains(&bucket) {
            self.buckets.insert(bucket);
        } else {
            report.warn("more kinds of sizes than buckets (64): finetrainers brings these to another size");
        }
        self.videos.text(&format!("{path}\n"))?;
        self.prompts.text(&format!("{}\n", one_line(&clip.clip.caption)))
    }
    fn finish(&mut self) -> Result<()> {
        self.videos.end()?;
        self.prompts.end()?;
        let buckets: Vec<_> = self.buckets.iter().collect();
        let dataset = json!({"data_root": ".", "dataset_type": "video", "id_token": "", "video_resolution_buckets": buckets});
        write_file(&self.folder.join("training.json"), format!("{:#}\n", json!({"datasets": [dataset]})).as_bytes())
    }
}
