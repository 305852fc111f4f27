//! What can be labelled: frames of the videos below a folder, or the rows of a table.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::choose::Candidate;
use super::{LabelError, failed};
use crate::media::{Frame, MediaContext, MediaError, MediaPlane, probe, uniform_frames};

mod table;
pub use table::{Clip, Row, Table, picture_of};

/// More candidates than this are refused.
pub const MAX_CANDIDATES: usize = 20_000_000;
/// File names that are videos.
const EXTENSIONS: [&str; 8] = ["mp4", "m4v", "mkv", "webm", "mov", "avi", "ts", "mpg"];
/// Longest side of a picture in pixels; of one of several in a picture.
const LONGEST_SIDE: u32 = 768;
const LONGEST_SIDE_OF_SEVERAL: u32 = 480;
/// Time for one probe or picture.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The videos below a folder.
pub struct Videos {
    folder: PathBuf,
    plane: MediaPlane,
    running: AtomicBool,
}

/// A frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameId {
    /// Path below the folder.
    pub video: String,
    /// The second that was drawn; the picture is the first frame from there on.
    pub second: i64,
}

/// A frame, as something that can be chosen.
pub type FrameCandidate = (FrameId, Candidate);

impl Videos {
    /// Of this folder.
    pub fn of(folder: &Path) -> Videos {
        Videos { folder: folder.to_owned(), plane: MediaPlane::default(), running: AtomicBool::new(false) }
    }

    fn context(&self) -> MediaContext<'_> {
        MediaContext { cancelled: &self.running, plane: &self.plane, timeout: TIMEOUT }
    }

    /// One candidate per whole second of each video. The group is the first folder below the root (a channel, say), for videos directly in it the video.
    /// The second list names videos that cannot be read.
    pub fn candidates(&self) -> Result<(Vec<FrameCandidate>, Vec<String>), LabelError> {
        let (mut out, mut skipped) = (Vec::new(), Vec::new());
        for video in videos_below(&self.folder).map_err(|e| failed(&self.folder, e))? {
            let uri = self.folder.join(&video).to_string_lossy().into_owned();
            let seconds = match probe(&uri, &self.context()).map(|info| info.duration_us) {
                Ok(us) => (us / 1_000_000).max(1),
                Err(e) => {
                    skipped.push(format!("{video}: {e}"));
                    continue;
                }
            };
            let group = video.split_once('/').map_or(video.as_str(), |(first, _)| first);
            for second in 0..seconds {
                let candidate = Candidate { id: format!("{video}@{second}"), group: group.to_owned() };
                out.push((FrameId { video: video.clone(), second }, candidate));
            }
            if out.len() > MAX_CANDIDATES {
                return Err(failed(&self.folder, format!("more than {MAX_CANDIDATES} seconds of video; label a part of it")));
            }
        }
        Ok((out, skipped))
    }

    /// The picture of a candidate.
    pub fn picture(&self, id: &FrameId) -> Result<Frame, MediaError> {
        let uri = self.folder.join(&id.video).to_string_lossy().into_owned();
        let start_us = id.second * 1_000_000;
        let frames = uniform_frames(&uri, start_us, start_us + 1_000_000, 1, Some(LONGEST_SIDE), &self.context())?;
        let frame = frames.first().cloned();
        frame.ok_or_else(|| MediaError { code: "no_frames", message: format!("{} has no frame at {} s", id.video, id.second) })
    }
}

/// Paths below the folder with `/` between, in order. Links are not followed.
fn videos_below(folder: &Path) -> std::io::Result<Vec<String>> {
    let (mut out, mut open) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(folder.join(&at))? {
            let (entry, path) = entry.map(|e| (e.file_type(), at.join(e.file_name())))?;
            let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
            match entry? {
                kind if kind.is_dir() => open.push(path),
                kind if kind.is_file() && EXTENSIONS.contains(&extension.as_str()) => {
                    out.push(path.to_string_lossy().replace('\\', "/"));
                }
                _ => {}
            }
        }
    }
    out.sort();
    Ok(out)
}
