//! Small pictures of examples, as `data:` addresses inside the page.
//!
//! Three frames side by side of a clip, one from the middle of a whole video. What can go wrong: videos that have moved, that are broken or that
//! take long; each gives a sentence in the place of a picture, and number, bytes and time of all pictures are bounded.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use base64::Engine;

use super::samples::Group;
use crate::label::contact::sheet_of;
use crate::media::{Frame, MediaContext, MediaError, MediaPlane, probe, shown, to_jpeg, uniform_frames};

/// Pictures of a page.
pub const MAX_PICTURES: usize = 300;
/// Bytes of all of them, before they are written as text.
pub const MAX_BYTES: usize = 8 << 20;
/// Time for all of them.
pub const MAX_TIME: Duration = Duration::from_secs(300);
/// Time for one.
const PICTURE_TIME: Duration = Duration::from_secs(20);
/// Longest side of a frame, in pixels.
const LONGEST_SIDE_PX: u32 = 160;
/// Frames of a clip.
const FRAMES: usize = 3;
/// JPEG quality.
const QUALITY: u8 = 62;
/// Of a whole video, this much of its middle is looked at.
const MIDDLE_US: i64 = 1_000_000;

/// A picture, or why there is none.
pub type Picture = Result<String, String>;

/// Takes the pictures of groups of examples: one of the first of each, then of the second, so that a limit leaves no group without any. The second
/// value says what the limits left out.
pub fn take(groups: &[Group]) -> (Vec<Vec<Picture>>, Option<String>) {
    let mut camera =
        Camera { plane: MediaPlane::default(), running: AtomicBool::new(false), began: Instant::now(), taken: 0, bytes: 0 };
    let mut out: Vec<Vec<Picture>> =
        groups.iter().map(|group| group.examples.iter().map(|_| Err("left out".to_owned())).collect()).collect();
    let most = groups.iter().map(|group| group.examples.len()).max().unwrap_or(0);
    let (mut left_out, mut why) = (0, None);
    for at in 0..most {
        for (group, pictures) in groups.iter().zip(&mut out) {
            let Some(example) = group.examples.get(at) else { continue };
            let places =
                [example.uri.as_deref().map(|uri| (uri, example.span)), example.clip_uri.as_deref().map(|uri| (uri, None))];
            let mut places = places.into_iter().flatten().peekable();
            if places.peek().is_none() {
                pictures[at] = Err("no video is known for this row".into());
            } else if let Some(limit) = camera.spent() {
                left_out += 1;
                why = Some(limit);
            } else {
                // The first that can be read; of none, what is wrong with the last.
                for (uri, span) in places {
                    pictures[at] = camera.take(uri, span).map_err(|e| format!("no picture: {}", e.code));
                    if pictures[at].is_ok() {
                        break;
                    }
                }
            }
        }
    }
    (out, why.map(|why| format!("{left_out} pictures were left out, because a page has {why}")))
}

struct Camera {
    plane: MediaPlane,
    running: AtomicBool,
    began: Instant,
    taken: usize,
    bytes: usize,
}

impl Camera {
    fn spent(&self) -> Option<String> {
        match () {
            () if self.taken >= MAX_PICTURES => Some(format!("at most {MAX_PICTURES}")),
            () if self.bytes >= MAX_BYTES => Some(format!("at most {} MiB of them", MAX_BYTES >> 20)),
            () if self.began.elapsed() >= MAX_TIME => Some(format!("{} s for all of them", MAX_TIME.as_secs())),
            () => None,
        }
    }

    fn take(&mut self, uri: &str, span: Option<(i64, i64)>) -> Result<String, MediaError> {
        let context = MediaContext { cancelled: &self.running, plane: &self.plane, timeout: PICTURE_TIME };
        let (start, end, count) = match span {
            Some((start, end)) => (start, end, FRAMES),
            None => {
                let half = probe(uri, &context)?.duration_us / 2;
                ((half - MIDDLE_US / 2).max(0), half + MIDDLE_US / 2, 1)
            }
        };
        let frames = uniform_frames(uri, start, end, count, Some(LONGEST_SIDE_PX), &context)?;
        let sheet: Option<Frame> = sheet_of(&frames);
        let none = || MediaError { code: "no_frames", message: format!("{}: no frame in the span", shown(uri)) };
        let jpeg = to_jpeg(&sheet.ok_or_else(none)?, QUALITY)?;
        self.taken += 1;
        self.bytes += jpeg.len();
        Ok(format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg)))
    }
}
