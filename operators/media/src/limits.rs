//! Every limit of the media plane in one place, so that "nothing unbounded" can be checked by reading one file.

use std::time::Duration;

/// Larger pictures are refused (`too_large`): 8192 x 8192.
pub const MAX_PIXELS: u64 = 8192 * 8192;
/// Longer videos are refused (`too_long`): 24 hours.
pub const MAX_DURATION_NS: i64 = 24 * 3600 * 1_000_000_000;
/// More frames than this are refused (`too_long`): 24 hours at 60 fps.
pub const MAX_FRAMES: usize = 24 * 3600 * 60;
/// Key frames of a video that are told; of more, every second (third, ...) one: a video of key frames alone would give millions.
pub const MAX_KEY_FRAMES: usize = 100_000;
/// Larger local files are refused (`too_large`): 256 GiB.
pub const MAX_FILE_BYTES: u64 = 256 << 30;
/// Remote files are read and kept in blocks of this size.
pub const REMOTE_BLOCK_BYTES: u64 = 64 << 10;
/// A reader that goes forward asks for at most this many blocks at once: 4 MiB.
pub const REMOTE_READ_AHEAD_BLOCKS: u64 = 64;
/// Blocks of remote files that are kept, per process.
pub const REMOTE_CACHE_BYTES: usize = 256 << 20;
/// Remote files whose length and version are remembered, per process.
pub const MAX_REMOTE_FILES: usize = 256;
/// How often one range is asked for before the error is the file's (`fetch_failed`).
pub const REMOTE_ATTEMPTS: u32 = 3;
/// A server that sends nothing for this long has failed one attempt.
pub const REMOTE_IDLE: Duration = Duration::from_secs(15);
/// One range arrives within this time, attempts included (`fetch_failed`).
pub const REMOTE_READ_WAIT: Duration = Duration::from_secs(60);
/// The index of a remote mp4 that is read to leave samples out; with a larger one the file is read whole.
pub const MAX_INDEX_BYTES: u64 = 64 << 20;
/// One object is written within this time, retries included (`write_failed`).
pub const UPLOAD_WAIT: Duration = Duration::from_secs(600);
/// Decoded frames waiting between decoder and caller.
pub const QUEUED_FRAMES: u32 = 2;
/// Decoded audio buffers waiting between decoder and caller.
pub const QUEUED_AUDIO_BUFFERS: u32 = 64;
/// Packets waiting between demuxer and caller.
pub const QUEUED_PACKETS: u32 = 64;
/// How long one wait for the pipeline takes before the deadline, the bus and the cancel flag are looked at.
pub const POLL: Duration = Duration::from_millis(50);
/// No buffer and no message for this long is a stall (`stalled`).
pub const NO_PROGRESS: Duration = Duration::from_secs(20);
/// When the container has been read to its end and there is still no decoder, nothing will come any more: waited for this long, then `no_frames`.
pub const END_WAIT: Duration = Duration::from_secs(3);
/// A seek that has not finished after this long is given up; the file is then decoded from its start.
pub const SEEK_WAIT: Duration = Duration::from_secs(10);
/// A span that starts earlier than this is decoded from the start of the file instead of seeking.
pub const SEEK_FROM_US: i64 = 1_500_000;
/// Longer side of the frames that a detector of cuts gets: what PySceneDetect scales down to by itself.
pub const DETECTION_SIDE_PX: u32 = 256;
/// Frames kept for other operators of the same process.
pub const FRAME_STORE_BYTES: usize = 256 << 20;
/// One request for frames whose native pictures are larger than this is scaled while decoding.
pub const NATIVE_REQUEST_BYTES: usize = 64 << 20;
/// One request for frames may not need more than this (`too_large`).
pub const MAX_REQUEST_BYTES: usize = 1 << 30;
/// Packet times kept for other calls of the same process.
pub const PACKET_STORE_BYTES: usize = 64 << 20;
/// Delivered less than promised: tolerated up to this, or [`TRUNCATION_SHARE`] of the duration if that is more.
pub const TRUNCATION_NS: i64 = 1_000_000_000;
/// See [`TRUNCATION_NS`].
pub const TRUNCATION_SHARE: f64 = 0.02;
/// Longer clips are not cut (`too_long`): 10 minutes. Bounds the memory for decoded audio.
pub const MAX_CLIP_US: i64 = 600 * 1_000_000;
/// Frames waiting before the encoder of a cut.
pub const ENCODER_QUEUED_FRAMES: u64 = 4;
/// How long the feeder of a cut sleeps when the encoder is busy.
pub const ENCODER_POLL: Duration = Duration::from_millis(4);
/// A pipeline that has not stopped after this long is left behind.
pub const TEARDOWN_WAIT: Duration = Duration::from_secs(15);
/// With this many pipelines left behind, no new ones are started (`decoder_stuck`).
pub const MAX_STUCK: usize = 8;
/// Samples per second of sound for speech recognition: what Whisper works on.
pub const SPEECH_RATE: u32 = 16_000;
/// One request for such sound may not span more than this (`too_long`): 1 hour, 110 MiB.
pub const MAX_SPEECH_US: i64 = 3600 * 1_000_000;
