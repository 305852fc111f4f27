//! A clip of exactly `[start, end)`, decoded and encoded again, then checked: against the source's packets, and by decoding it.
//!
//! Every frame of the source whose time lies in the span is in the clip, with its distance to its neighbours kept (variable frame rates too); the first
//! frame is at zero. Rotation and pixel aspect are baked in, the picture is 8-bit 4:2:0, odd sides lose their last line. Encoder and muxer run
//! single-threaded and creation times are zeroed: the same input gives the same bytes on the same software.

use std::path::Path;
use std::time::Instant;

use gstreamer as gst;
use gstreamer_video as gst_video;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::encode::{Audio, AudioBlock, Encoder, Encoding};
use super::fetch::localize;
use super::info::codec_name;
use super::limits::MAX_CLIP_US;
use super::packets::packets;
use super::picture::Geometry;
use super::reader::{Decoded, Reader, Track};
use super::sniff::{Kind, sniff};
use super::uniform::{open_at, open_track_at};
use super::{MediaContext, MediaError, mp4};

/// How a clip is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct CutSettings {
    /// Which encoder.
    pub encoder: Encoder,
    /// Constant quality, 1 (best) to 50.
    pub quality: u8,
    /// Speed against size.
    pub speed_preset: SpeedPreset,
    /// Keep the audio, as AAC.
    pub audio: bool,
    /// Larger clips are refused (`clip_too_large`).
    pub max_bytes: u64,
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
    /// True if the clip has audio.
    pub has_audio: bool,
    /// Time of the first frame in the source.
    pub start_us: i64,
    /// End of the last frame in the source.
    pub end_us: i64,
}

/// Cuts `[start_us, end_us)` out of a video.
pub fn cut(uri: &str, start_us: i64, end_us: i64, settings: &CutSettings, context: &MediaContext) -> Result<Clip, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.path)?;
    let packets = packets(&local.path, &local.identity, deadline, context)?;
    let (start_ns, end_ns) = (start_us.saturating_mul(1000), end_us.saturating_mul(1000));
    let length_us = end_ns.min(packets.end_ns) / 1000 - start_us;
    if length_us > MAX_CLIP_US {
        return Err(MediaError::new(
            "too_long",
            format!("a clip of {} s; the limit is {} s", length_us / 1_000_000, MAX_CLIP_US / 1_000_000),
        ));
    }
    let from = packets.times_ns.partition_point(|&t| t < start_ns);
    let to = packets.times_ns.partition_point(|&t| t < end_ns).max(from);
    // Elsewhere a packet need not be a frame: field pairs, hidden VP8 frames, containers without presentation times.
    let codec = packets.caps.as_ref().and_then(codec_name);
    let one_packet_one_frame =
        kind.seeks_exactly() && codec.is_some_and(|c| ["h264", "hevc", "vp9", "av1"].contains(&c.as_str()));
    let span = Span {
        path: &local.path,
        kind,
        start_ns,
        end_ns,
        expected_ns: one_packet_one_frame.then(|| &packets.times_ns[from..to]),
        period_ns: packets.period_ns(),
        deadline,
        context,
    };
    let file = context.plane.scratch.file("clip-", ".mp4");
    let file = file.map_err(|e| MediaError::new("encode_failed", format!("no temporary file for the clip: {e}; set TMPDIR")))?;
    let written = span.encode(file.path(), settings, packets.has_audio && settings.audio)?;
    let size = file.path().metadata().map_or(0, |m| m.len());
    if size > settings.max_bytes {
        return Err(MediaError::new(
            "clip_too_large",
            format!("the clip takes {size} bytes; the limit is {}", settings.max_bytes),
        ));
    }
    let mut bytes =
        std::fs::read(file.path()).map_err(|e| MediaError::new("encode_failed", format!("the clip cannot be read back: {e}")))?;
    mp4::erase_times(&mut bytes);
    std::fs::write(file.path(), &bytes)
        .map_err(|e| MediaError::new("encode_failed", format!("the clip cannot be written: {e}")))?;
    verify(file.path(), &written, deadline, context)?;
    let (first, last) = (written.times_ns[0], written.times_ns[written.times_ns.len() - 1]);
    let frames = written.times_ns.len();
    let fps = match frames {
        1 => 1e9 / written.last_duration_ns.max(1) as f64,
        n => (n - 1) as f64 * 1e9 / (last - first).max(1) as f64,
    };
    let end = last + written.last_duration_ns;
    Ok(Clip {
        size: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
        bytes,
        width: written.size.0,
        height: written.size.1,
        fps,
        duration_us: (end - first + 500) / 1000,
        frames: frames as u32,
        has_audio: written.has_audio,
        start_us: first / 1000,
        end_us: (end + 500) / 1000,
    })
}

struct Span<'a> {
    path: &'a Path,
    kind: Kind,
    start_ns: i64,
    end_ns: i64,
    /// Times of the span's frames by the packets, where these can be trusted.
    expected_ns: Option<&'a [i64]>,
    period_ns: i64,
    deadline: Instant,
    context: &'a MediaContext<'a>,
}

struct Written {
    /// Source times of the frames; never empty.
    times_ns: Vec<i64>,
    last_duration_ns: i64,
    size: (u32, u32),
    has_audio: bool,
}

impl Span<'_> {
    fn encode(&self, target: &Path, settings: &CutSettings, audio: bool) -> Result<Written, MediaError> {
        let mut reader = open_at(self.path, self.kind, self.start_ns, self.deadline, self.context)?;
        let Some(first) = self.next(&mut reader, None)? else {
            let (from, to) = (self.start_ns / 1000, self.end_ns / 1000);
            return Err(MediaError::new("no_frames", format!("{}: no frame in [{from}, {to}) us", self.path.display())));
        };
        let audio = if audio { self.audio(first.pts_ns)? } else { None };
        let has_audio = audio.is_some();
        let unknown = || MediaError::new("damaged", format!("{}: a decoded frame of unknown format", self.path.display()));
        let caps = first.sample.caps_owned().ok_or_else(unknown)?;
        let info = gst_video::VideoInfo::from_caps(&caps).map_err(|_| unknown())?;
        let geometry = Geometry::of(&info, reader.orientation())?;
        let encoding = Encoding::start(target, geometry, &caps, audio, settings, self.deadline, self.context)?;
        let zero = first.pts_ns;
        let mut times_ns = Vec::new();
        let mut current = first;
        let last_duration_ns = loop {
            if current.sample.caps() != Some(caps.as_ref()) {
                let message = format!("{}: the picture changes its format inside the clip", self.path.display());
                return Err(MediaError::new("format_change", message));
            }
            let next = self.next(&mut reader, Some(current.pts_ns))?;
            let duration_ns = match &next {
                Some(next) => next.pts_ns - current.pts_ns,
                None => current.duration_ns.unwrap_or(self.period_ns).max(1),
            };
            let buffer = current.sample.buffer_owned().ok_or_else(unknown)?;
            encoding.push(buffer, current.pts_ns - zero, duration_ns)?;
            times_ns.push(current.pts_ns);
            match next {
                Some(next) => current = next,
                None => break duration_ns,
            }
        };
        if let Some(e) = reader.ended_by.take() {
            return Err(MediaError::new(e.code, format!("{} (inside the clip)", e.message)));
        }
        let errors = reader.decode_errors();
        if errors > 0 {
            let message =
                format!("{}: the source decodes with {errors} errors inside the clip; fetch it again", self.path.display());
            return Err(MediaError::new("cut_mismatch", message));
        }
        if let Some(difference) = self.expected_ns.and_then(|expected| difference(&times_ns, expected)) {
            return Err(MediaError::new("cut_mismatch", format!("{}: {difference}", self.path.display())));
        }
        let size = encoding.size;
        encoding.finish()?;
        Ok(Written { times_ns, last_duration_ns, size, has_audio })
    }

    /// The next frame of the span; frames that do not move forward in time are dropped, as players do.
    fn next(&self, reader: &mut Reader, after_ns: Option<i64>) -> Result<Option<Decoded>, MediaError> {
        while let Some(frame) = reader.next()? {
            if frame.pts_ns >= self.end_ns {
                return Ok(None);
            }
            if frame.pts_ns >= self.start_ns && after_ns.is_none_or(|t| frame.pts_ns > t) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The audio from the first frame's time to the end of the span. Audio that cannot be decoded gives a clip without audio, and says so.
    fn audio(&self, zero_ns: i64) -> Result<Option<Audio>, MediaError> {
        match self.read_audio(zero_ns) {
            Err(e) if !matches!(e.code, "cancelled" | "timeout" | "stalled") => {
                tracing::warn!(file = %self.path.display(), error = %e, "Audio cannot be decoded; the clip has none");
                Ok(None)
            }
            other => other,
        }
    }

    fn read_audio(&self, zero_ns: i64) -> Result<Option<Audio>, MediaError> {
        let mut reader = open_track_at(self.path, Track::Audio, self.kind, zero_ns, self.deadline, self.context)?;
        let mut audio: Option<Audio> = None;
        while let Some(block) = reader.next()? {
            if block.pts_ns >= self.end_ns {
                break;
            }
            let Some(caps) = block.sample.caps_owned() else { continue };
            if audio.as_ref().is_some_and(|a| a.caps != caps) {
                break; // the format changes: what came before is kept
            }
            if let Some(trimmed) = trim(&block, &caps, zero_ns, self.end_ns) {
                audio.get_or_insert_with(|| Audio { caps, blocks: Vec::new() }).blocks.push(trimmed);
            }
        }
        Ok(audio)
    }
}

/// The samples of a block that lie in `[from, to)`, at their time after `from`.
fn trim(block: &Decoded, caps: &gst::Caps, from_ns: i64, to_ns: i64) -> Option<AudioBlock> {
    let s = caps.structure(0)?;
    let (rate, channels) = (i128::from(s.get::<i32>("rate").ok()?), s.get::<i32>("channels").ok()? as usize);
    let data = block.sample.buffer()?.map_readable().ok()?;
    let width = channels * 2;
    let samples = (data.len() / width) as i128;
    let index = |ns: i64| ((i128::from(ns - block.pts_ns) * rate + 500_000_000) / 1_000_000_000).clamp(0, samples);
    let (first, last) = (index(from_ns), index(to_ns));
    let time = |samples: i128| (samples * 1_000_000_000 / rate) as i64;
    (last > first).then(|| AudioBlock {
        pts_ns: (block.pts_ns - from_ns + time(first)).max(0),
        duration_ns: time(last - first),
        samples: data[first as usize * width..last as usize * width].to_vec(),
    })
}

/// Two ticks of the clip's time base: what rounding may cost.
const TIME_TOLERANCE_NS: i64 = 25_000;

/// How decoded times differ from the times of the packets, if they do.
fn difference(decoded_ns: &[i64], expected_ns: &[i64]) -> Option<String> {
    let shown = |times: &[i64], at: usize| times.get(at).map_or("nothing".into(), |t| format!("{} us", t / 1000));
    let same = |(a, b): (&i64, &i64)| a.abs_diff(*b) <= TIME_TOLERANCE_NS as u64;
    let agree = decoded_ns.iter().zip(expected_ns).take_while(|pair| same(*pair)).count();
    (agree < decoded_ns.len().max(expected_ns.len())).then(|| {
        format!(
            "the span has {} frames, {} were decoded; frame {agree} is at {}, decoded is {}",
            expected_ns.len(),
            decoded_ns.len(),
            shown(expected_ns, agree),
            shown(decoded_ns, agree)
        )
    })
}

/// Decodes the clip and holds its frames against those that went in.
fn verify(path: &Path, written: &Written, deadline: Instant, context: &MediaContext) -> Result<(), MediaError> {
    let mut reader = Reader::open(path, Track::Video, deadline, context)?;
    reader.play()?;
    let mut count = 0;
    while let Some(frame) = reader.next()? {
        let wanted = written.times_ns.get(count).map(|t| t - written.times_ns[0]);
        if wanted.is_none_or(|w| (w - frame.pts_ns).abs() > TIME_TOLERANCE_NS) {
            let message = format!(
                "frame {count} of the clip is at {} us, in the source at {:?} us",
                frame.pts_ns / 1000,
                wanted.map(|w| w / 1000)
            );
            return Err(MediaError::new("cut_mismatch", message));
        }
        count += 1;
    }
    if count != written.times_ns.len() || reader.decode_errors() > 0 || reader.ended_by.is_some() {
        let message =
            format!("{count} of {} frames of the clip decode, with {} errors", written.times_ns.len(), reader.decode_errors());
        return Err(MediaError::new("cut_mismatch", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_the_decoder_did_not_give_is_named() {
        assert_eq!(difference(&[0, 40, 80], &[0, 40, 80]), None);
        assert_eq!(difference(&[1_000_000, 2_010_000], &[1_010_000, 2_000_000]), None);
        let message = difference(&[0, 2_000_000], &[0, 1_000_000, 2_000_000]);
        assert_eq!(message.as_deref(), Some("the span has 3 frames, 2 were decoded; frame 1 is at 1000 us, decoded is 2000 us"));
        assert!(difference(&[0], &[]).is_some_and(|m| m.contains("frame 0 is at nothing")));
    }
}
