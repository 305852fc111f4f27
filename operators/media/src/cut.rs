//! A clip of `[start, end)`, checked against the source. Which way it is made is [`CutMode`]; how, is in [`super::exact`] and [`super::copying`].
//!
//! Every way ends in the same checks ([`super::verify`]): the finished file is decoded, its frames counted and timed, and pictures of it held
//! against the source's. The same input gives the same bytes on the same software.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::copying::{Stop, copying};
use super::encoders::Encoder;
use super::exact::exact;
use super::input::{Input, localize};
use super::limits::MAX_CLIP_US;
use super::packets::{Packets, packets};
use super::resize::TargetSize;
use super::sniff::{Kind, sniff};
use super::splice::Ends;
use super::verify::{Written, verify, verify_packets};
use super::{MediaContext, MediaError, mp4};

/// How a clip is made.
#[derive(Debug, Clone, PartialEq)]
pub struct CutSettings {
    /// What is encoded again and what is copied.
    pub mode: CutMode,
    /// Another size; the clip is then encoded as a whole.
    pub size: Option<TargetSize>,
    /// Another frame rate; the clip is then encoded as a whole.
    pub fps: Option<f64>,
    /// Which encoder.
    pub encoder: Encoder,
    /// Constant quality, 1 (best) to 50.
    pub quality: u8,
    /// Speed against size.
    pub speed_preset: SpeedPreset,
    /// Keep the audio, as AAC.
    pub audio: bool,
    /// How a clip of copied packets is checked.
    pub verify: VerifyCopies,
    /// Larger clips are refused (`clip_too_large`).
    pub max_bytes: u64,
}

/// How a clip of copied packets alone is checked. Clips with encoded pictures are always decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyCopies {
    /// The clip is decoded, and its first and last picture must be those of the source.
    #[default]
    Decode,
    /// The clip is read back, and its packets and their times must be those of the source. Nothing is decoded, which takes a tenth of the time;
    /// damage that is in the source stays unseen, and is copied.
    Packets,
}

/// What is encoded again and what is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CutMode {
    /// Everything is encoded: exactly the frames of the span.
    #[default]
    Exact,
    /// Exactly the frames of the span too, but only those before its first key frame, and the last few that cannot be copied, are encoded.
    Smart,
    /// Nothing is encoded: the span is widened to the key frame at or before its start, and behind its end to where a copy can end.
    Keyframe,
}

impl CutMode {
    /// As in settings.
    pub fn name(self) -> &'static str {
        match self {
            CutMode::Exact => "exact",
            CutMode::Smart => "smart",
            CutMode::Keyframe => "keyframe",
        }
    }
}

/// x264's presets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum SpeedPreset {
    Ultrafast,
    Superfast,
    #[default]
    Veryfast,
    Faster,
    Fast,
    Medium,
    Slow,
}

impl SpeedPreset {
    pub(crate) fn name(self) -> &'static str {
        match self {
            SpeedPreset::Ultrafast => "ultrafast",
            SpeedPreset::Superfast => "superfast",
            SpeedPreset::Veryfast => "veryfast",
            SpeedPreset::Faster => "faster",
            SpeedPreset::Fast => "fast",
            SpeedPreset::Medium => "medium",
            SpeedPreset::Slow => "slow",
        }
    }
}

/// A finished clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// The mp4 file.
    pub bytes: Vec<u8>,
    /// Size of the mp4 file in bytes.
    pub size: u64,
    /// blake3 of the bytes, hex.
    pub blake3: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Mean frame rate.
    pub fps: f64,
    /// From the first frame to the end of the last.
    pub duration_us: i64,
    /// Frames, counted by decoding the clip.
    pub frames: u32,
    /// Frames that were copied, not encoded.
    pub copied_frames: u32,
    /// True if the clip has audio.
    pub has_audio: bool,
    /// Time of the first frame in the source.
    pub start_us: i64,
    /// End of the last frame in the source.
    pub end_us: i64,
    /// The way it was made.
    pub mode: CutMode,
    /// Why it was not made the way that was asked for, if it was not.
    pub fallback: Option<&'static str>,
}

/// A span of a local file, and what is known of the file.
pub(crate) struct Source<'a> {
    pub input: &'a Input,
    pub kind: Kind,
    pub packets: &'a Packets,
    pub start_ns: i64,
    pub end_ns: i64,
    pub deadline: Instant,
    pub context: &'a MediaContext<'a>,
}

impl Source<'_> {
    /// Times of the frames of a span, by the packets.
    pub fn times_ns(&self, from_ns: i64, until_ns: i64) -> &[i64] {
        let times = &self.packets.times_ns;
        let from = times.partition_point(|&t| t < from_ns);
        let to = times.partition_point(|&t| t < until_ns).max(from);
        &times[from..to]
    }

    /// Why there is nothing to cut.
    pub fn no_frames(&self) -> MediaError {
        let (from, to) = (self.start_ns / 1000, self.end_ns / 1000);
        MediaError::new("no_frames", format!("{}: no frame in [{from}, {to}) us", self.input.display()))
    }
}

/// Cuts `[start_us, end_us)` out of a video.
pub fn cut(uri: &str, start_us: i64, end_us: i64, settings: &CutSettings, context: &MediaContext) -> Result<Clip, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let packets = packets(&local.input, &local.identity, deadline, context)?;
    let (start_ns, end_ns) = (start_us.saturating_mul(1000), end_us.saturating_mul(1000));
    let length_us = end_ns.min(packets.end_ns) / 1000 - start_us;
    if length_us > MAX_CLIP_US {
        return Err(MediaError::new(
            "too_long",
            format!("a clip of {} s; the limit is {} s", length_us / 1_000_000, MAX_CLIP_US / 1_000_000),
        ));
    }
    let source = Source { input: &local.input, kind, packets: &packets, start_ns, end_ns, deadline, context };
    let copied = match settings.mode {
        CutMode::Exact => Err(Stop::Fallback(None)),
        _ if settings.size.is_some() => Err("resized".into()),
        _ if settings.fps.is_some() => Err("frame_rate".into()),
        CutMode::Smart => copied(&source, settings, Ends::Inside),
        CutMode::Keyframe => copied(&source, settings, Ends::Around),
    };
    let why = match copied {
        Ok(clip) => return Ok(clip),
        Err(Stop::Failed(e)) if e.is_final() => return Err(e),
        Err(Stop::Failed(e)) => {
            tracing::warn!(file = %local.input.display(), error = %e, "Packets cannot be copied; encoding the clip");
            Some("copy_failed")
        }
        Err(Stop::Fallback(why)) => why,
    };
    if let Some(why) = why {
        tracing::debug!(file = %local.input.display(), start_us, end_us, why, "Encoding the whole clip instead of copying packets");
    }
    let file = clip_file(context)?;
    let written = exact(&source, file.path(), settings)?;
    let size = file.path().metadata().map_or(0, |m| m.len());
    refuse_larger(size, settings)?;
    let mut bytes =
        std::fs::read(file.path()).map_err(|e| MediaError::new("encode_failed", format!("the clip cannot be read back: {e}")))?;
    mp4::erase_times(&mut bytes);
    write_clip(file.path(), &bytes)?;
    verify(file.path(), &written, deadline, context)?;
    Ok(Clip { fallback: why, ..finished(bytes, &written, CutMode::Exact) })
}

/// Makes and checks a clip of copied packets. A clip that does not pass is no answer: the caller encodes instead.
fn copied(source: &Source, settings: &CutSettings, ends: Ends) -> Result<Clip, Stop> {
    let (bytes, written, packets) = copying(source, settings, ends)?;
    refuse_larger(bytes.len() as u64, settings)?;
    let file = clip_file(source.context)?;
    write_clip(file.path(), &bytes)?;
    let checked = match written.looks.is_empty() {
        true => verify_packets(file.path(), &packets, source.deadline, source.context),
        false => verify(file.path(), &written, source.deadline, source.context),
    };
    match checked {
        Ok(()) => Ok(finished(bytes, &written, settings.mode)),
        Err(e) if e.code == "cut_mismatch" => {
            tracing::warn!(file = %source.input.display(), error = %e, "A clip of copied packets does not hold what the source holds; encoding it");
            Err(Stop::Fallback(Some("not_verified")))
        }
        Err(e) => Err(Stop::Failed(e)),
    }
}

fn clip_file(context: &MediaContext) -> Result<tempfile::NamedTempFile, MediaError> {
    let file = context.plane.scratch.file("clip-", ".mp4");
    file.map_err(|e| MediaError::new("encode_failed", format!("no temporary file for the clip: {e}; set TMPDIR")))
}

fn write_clip(path: &std::path::Path, bytes: &[u8]) -> Result<(), MediaError> {
    std::fs::write(path, bytes).map_err(|e| MediaError::new("encode_failed", format!("the clip cannot be written: {e}")))
}

pub(crate) fn refuse_larger(size: u64, settings: &CutSettings) -> Result<(), MediaError> {
    match size > settings.max_bytes {
        true => {
            let message = format!("the clip takes {size} bytes; the limit is {}", settings.max_bytes);
            Err(MediaError::new("clip_too_large", message))
        }
        false => Ok(()),
    }
}

fn finished(bytes: Vec<u8>, written: &Written, mode: CutMode) -> Clip {
    let times = &written.times_ns;
    let (first, last) = (times.first().copied().unwrap_or(0), times.last().copied().unwrap_or(0));
    let fps = match times.len() {
        0 | 1 => 1e9 / written.last_duration_ns.max(1) as f64,
        n => (n - 1) as f64 * 1e9 / (last - first).max(1) as f64,
    };
    let end = last + written.last_duration_ns;
    Clip {
        size: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
        bytes,
        width: written.size.0,
        height: written.size.1,
        fps,
        duration_us: (end - first + 500) / 1000,
        frames: times.len() as u32,
        copied_frames: written.copied as u32,
        has_audio: written.has_audio,
        start_us: first / 1000,
        end_us: (end + 500) / 1000,
        mode,
        fallback: None,
    }
}
