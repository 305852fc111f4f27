//! The frames of a clip as JPEG, for services that look at pictures.
//!
//! Why a limit here: the `net` pool has many threads because they wait, but decoding does not wait; so no more calls decode at once than there are cores.
//! What can go wrong: see [`crate::media::MediaError`]; its codes are passed on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use curette_engine::operator::Task;
use curette_engine::verdict::Problem;

use crate::media::{MediaContext, plane_of, problem, to_jpeg, uniform_frames};

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

/// As many places as there are cores.
struct Slots {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Default for Slots {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Slots { free: Mutex::new(cores), returned: Condvar::new() }
    }
}

struct Slot<'a>(&'a Slots);

impl Slots {
    /// Waits for a place; `None` when the run is being stopped.
    fn take(&self, cancelled: &AtomicBool) -> Option<Slot<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            let waited = self.returned.wait_timeout(free, Duration::from_millis(100));
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Slot(self))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}
