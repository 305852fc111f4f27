//! The frames of a clip as JPEG, for services that look at pictures.
//!
//! Decoding takes one of the shared [`Slots`]. What can go wrong: see [`crate::media::MediaError`]; its codes are passed on.

use std::time::Duration;

use curette_engine::operator::Task;
use curette_engine::verdict::Problem;

use crate::media::{MediaContext, plane_of, problem, to_jpeg, uniform_frames};
use crate::slots::Slots;

/// One frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Its time in the video's stream time, microseconds.
    pub at_us: i64,
    /// Baseline JPEG.
    pub jpeg: Vec<u8>,
}

/// Which frames, and how they are shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// How many, evenly spaced.
    pub frames: usize,
    /// The longest side is scaled down to this many pixels.
    pub longest_side_px: u32,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// Limit of decoding one clip.
    pub timeout: Duration,
}

/// The frames of `[start_us, end_us)`.
pub fn pictures(uri: &str, (start_us, end_us): (i64, i64), look: &Look, task: &Task) -> Result<Vec<Picture>, Problem> {
    let slots = task.resources.get(Slots::default);
    let _slot = slots.take(task.cancelled).ok_or_else(|| Problem::new("cancelled", "the run is being stopped"))?;
    let plane = plane_of(task);
    let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout: look.timeout };
    let frames = uniform_frames(uri, start_us, end_us, look.frames, Some(look.longest_side_px), &context).map_err(problem)?;
    let picture = |frame| Ok(Picture { at_us: frame_us(frame), jpeg: to_jpeg(frame, look.jpeg_quality)? });
    frames.iter().map(picture).collect::<Result<_, _>>().map_err(problem)
}

fn frame_us(frame: &crate::media::Frame) -> i64 {
    frame.pts_ns.div_euclid(1000)
}
