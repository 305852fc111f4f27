//! The media plane: where pixels live. Operators ask it what a file is, for frames, and for cuts; it knows nothing of rows.
//!
//! Why a plane of its own: decoding is where curation breaks, by hangs, by files that end early without a word, by times that are off by an
//! edit list. Everything here has a deadline, a watchdog and a limit, and every failure is a [`MediaError`] with a stable code.
//! All times are stream time: what a player shows, with edit lists applied and the first presented frame near zero.
//!
//! What can go wrong: a decoder library can crash the process, which only a process of its own contains (`[engine] decoder_processes`);
//! concealed bit errors carry no flag, only [`GridStats::decode_errors`] counts them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

mod at;
mod avcc;
mod clip_audio;
mod copying;
mod cut;
mod encode;
mod encode_packets;
mod encoders;
mod every;
mod exact;
mod feed;
mod fetch;
mod grid;
mod holes;
mod info;
mod input;
mod inspect;
mod joint;
mod jpeg;
pub mod limits;
mod matrix;
mod mp4;
mod mp4_index;
mod mux;
mod outline;
mod packets;
mod parameter_sets;
mod picture;
mod plan;
mod plane;
mod ranged_source;
mod reader;
mod remote;
mod resize;
mod runtime;
mod scratch;
mod small;
mod sniff;
mod speech;
mod splice;
mod sps;
mod store;
mod structure;
mod teardown;
mod track;
mod transfer;
mod uniform;
mod verify;
mod watch;

pub use at::{NotShown, Shown, frames_at};
pub use cut::{Clip, CutMode, CutSettings, SpeedPreset, VerifyCopies, cut};
pub use encoders::{Encoder, missing_encoders};
pub use every::every_frame;
pub use fetch::{put_object, shown};
pub use grid::{GridSettings, GridStats, WHOLE_NS, sample, sample_grid};
pub use info::{VideoInfo, probe};
pub use inspect::{Inspection, Structure, inspect};
pub use jpeg::{to_jpeg, to_png};
pub use plan::Sampling;
pub use plane::MediaPlane;
pub use reader::decoded_times;
pub use remote::{RemoteFile, remote_file};
pub use resize::{Resize, TargetSize};
pub use runtime::{Missing, missing_software};
pub use sniff::Kind;
pub use speech::{Sound, speech, wav};
pub use uniform::{chosen_frames, uniform_frames};

#[cfg(test)]
mod containment_tests;
#[cfg(test)]
mod copying_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod sampling_tests;
#[cfg(test)]
mod structure_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;

/// Ticks per second of every presentation time that leaves this plane.
pub const PTS_TIMESCALE: i64 = 1_000_000_000;

/// RGB24, rows tight, as displayed: rotation and pixel aspect applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Stream time in nanoseconds.
    pub pts_ns: i64,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `3 * width * height` bytes.
    pub rgb: Vec<u8>,
}

/// Why a file could not be read, decoded or cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct MediaError {
    /// Stable snake_case code: `empty_file`, `not_a_video`, `no_video_stream`, `no_index`, `unsupported_codec`, `damaged`, `truncated`, `timeout`,
    /// `stalled`, `cancelled`, `file_missing`, `file_unreadable`, `no_frames`, `too_large`, `too_long`, `fetch_failed`, `clip_too_large`, `cut_mismatch`,
    /// `encode_failed`, `decoder_stuck`, `no_audio`, `access_denied`, `input_changed`, `ranges_refused`.
    pub code: &'static str,
    /// What, where, why, what to do.
    pub message: String,
}

impl MediaError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        MediaError { code, message: message.into() }
    }

    /// True if its bytes did not come: nothing is known of the file's content, least of all that it is damaged.
    fn is_of_transfer(&self) -> bool {
        matches!(self.code, "fetch_failed" | "access_denied" | "input_changed" | "ranges_refused")
    }

    /// True for errors that another way of doing the same would not change.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.code, "cancelled" | "timeout" | "stalled" | "decoder_stuck") || self.is_of_transfer()
    }
}

/// What a lock guards, whatever became of a thread that held it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a call into the plane may use, and how long it may take.
pub struct MediaContext<'a> {
    /// Turns true when the run is being stopped; the call then ends with code `cancelled`.
    pub cancelled: &'a AtomicBool,
    /// What the calls of this process share: frames, packet times, fetched files, temporary files.
    pub plane: &'a MediaPlane,
    /// Total time of one call; a file that takes longer ends with code `timeout`.
    pub timeout: Duration,
}

impl MediaContext<'_> {
    /// Ends a loop over frames when the run is being stopped.
    pub fn check_cancelled(&self) -> Result<(), MediaError> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(MediaError::new("cancelled", "the run is being stopped")),
            false => Ok(()),
        }
    }
}
