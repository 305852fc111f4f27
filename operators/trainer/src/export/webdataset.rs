//! WebDataset: tar files in which `KEY.mp4`, `KEY.txt` and `KEY.json` follow each other. Times and owners are fixed: equal clips are equal files.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::{ClipSink, Report, Whole};
use crate::disk::{Result, TrainerError};

/// A tar file is closed at this size, in bytes, or with so many clips.
const MAX_BYTES: u64 = 1 << 30;
const MAX_CLIPS: u64 = 1000;

pub(crate) struct Clips {
    folder: PathBuf,
    shards: u64,
    open: Option<Shard>,
}

struct Shard {
    path: PathBuf,
    tar: Builder<BufWriter<File>>,
    bytes: u64,
    clips: u64,
}

impl Clips {
    pub(crate) fn new(folder: &Path) -> Clips {
        Clips { folder: folder.to_owned(), shards: 0, open: None }
    }

    fn close(&mut self) -> Result<()> {
        let Some(shard) = self.open.take() else { return Ok(()) };
        let written = shard.tar.into_inner().and_then(|file| file.into_inner().map_err(std::io::IntoInnerError::into_error));
        written.map(drop).map_err(|e| TrainerError::at("write", &shard.path, e))
    }

    fn shard(&mut self) -> Result<&mut Shard> {
        if self.open.as_ref().is_some_and(|s| s.bytes >= MAX_BYTES || s.clips >= MAX_CLIPS) {
            self.close()?;
        }
        if self.open.is_none() {
            let path = self.folder.join(format!("{:06}.tar", self.shards));
            self.shards += 1;
            let file = File::create(&path).map_err(|e| TrainerError::at("write", &path, e))?;
            self.open = Some(Shard { path, tar: Builder::new(BufWriter::new(file)), bytes: 0, clips: 0 });
        }
        self.open.as_mut().ok_or_else(|| TrainerError::new("no tar file is open"))
    }
}

impl ClipSink for Clips {
    fn add(&mut self, clip: &Whole<'_>, _report: &mut Report) -> Result<()> {
        let details = json!({"clip_id": clip.clip.id, "width": clip.width, "height": clip.height, "fps": clip.fps, "num_frames": clip.frames,
            "duration_s": clip.duration_s})
        .to_string();
        let shard = self.shard()?;
        for (extension, bytes) in
            [("mp4", &clip.clip.bytes[..]), ("txt", clip.clip.caption.as_bytes()), ("json", details.as_bytes())]
        {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            let name = format!("{}.{extension}", clip.name);
            shard.tar.append_data(&mut header, &name, bytes).map_err(|e| TrainerError::at("write", &shard.path, e))?;
            shard.bytes += bytes.len() as u64;
        }
        shard.clips += 1;
        Ok(())
    }
    fn finish(&mut self) -> Result<()> {
        self.close()
    }
}
