//! What the calls of one process share: frames and packet times that the next operator on the same clip asks for, blocks of remote files, and the
//! folder for temporary files.
//!
//! One value per process is enough; a second one only decodes again what the first one knows. Everything in it is bounded by [`super::limits`], and
//! files are removed when it is dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Frame;
use super::limits::{FRAME_STORE_BYTES, PACKET_STORE_BYTES, REMOTE_CACHE_BYTES};
use super::packets::Packets;
use super::remote::Remotes;
use super::scratch::Scratch;
use super::store::Store;

/// See the module's documentation.
pub struct MediaPlane {
    pub(crate) frames: Store<Vec<Frame>>,
    pub(crate) packets: Store<Packets>,
    /// Requests that the frame store could not answer.
    pub(crate) span_decodes: AtomicU64,
    pub(crate) remotes: Remotes,
    pub(crate) scratch: Scratch,
}

impl Default for MediaPlane {
    fn default() -> Self {
        MediaPlane::of_bytes(FRAME_STORE_BYTES, PACKET_STORE_BYTES, REMOTE_CACHE_BYTES)
    }
}

impl MediaPlane {
    /// That keeps so many bytes of frames, of packet times and of blocks of remote files.
    pub fn of_bytes(frames: usize, packets: usize, blocks: usize) -> Self {
        MediaPlane {
            frames: Store::new(frames),
            packets: Store::new(packets),
            span_decodes: AtomicU64::new(0),
            remotes: Remotes::of_bytes(blocks),
            scratch: Scratch::default(),
        }
    }

    /// How often a span was decoded for [`uniform_frames`](super::uniform_frames), because its frames were not kept.
    pub fn span_decodes(&self) -> u64 {
        self.span_decodes.load(Ordering::Relaxed)
    }

    /// Bytes of remote files that were fetched so far.
    pub fn remote_bytes(&self) -> u64 {
        self.remotes.bytes()
    }
}
