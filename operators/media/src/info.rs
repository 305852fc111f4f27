//! What a video is: sniff, packet times, the first decoded frame, and the hash of its content.

use std::io::Read;
use std::time::Instant;

use gst_video::VideoOrientationMethod as Orientation;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::fetch::shown;
use super::grid::microseconds;
use super::input::{Local, interrupted, localize};
use super::limits::MAX_KEY_FRAMES;
use super::outline::timed_packets;
use super::picture::Geometry;
use super::plan::Unit;
use super::reader::Reader;
use super::sniff::sniff;
use super::track::Track;
use super::{MediaContext, MediaError};

/// Stands before what names a remote file, so that no file's content hashes to the same.
const REMOTE_HASH: &str = "curette remote file 1";

/// What [`probe`] finds out.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoInfo {
    /// `mp4`, `matroska`, `webm`, `avi`, `mpegts`, ...
    pub container: &'static str,
    /// `h264`, `hevc`, `vp9`, `av1`, `mpeg2video`, ...
    pub codec: String,
    /// GStreamer's name in lower case: `i420`, `i420_10le`, `y42b`, `nv12`, ...
    pub pixel_format: String,
    /// Pixels as displayed, after rotation and pixel aspect.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Clockwise turn that the file asks for: 0, 90, 180 or 270.
    pub rotation_degrees: i32,
    /// Mean frame rate: (frames - 1) / (time of the last - time of the first).
    pub fps: f64,
    /// Number of frames that the container holds.
    pub frames: u64,
    /// Where the last frame ends, in stream time: what is there, not what the header says.
    pub duration_us: i64,
    /// What the header says, if it says.
    pub stated_duration_us: Option<i64>,
    /// True if there is audio too.
    pub has_audio: bool,
    /// True when the data ends clearly before the stated end.
    pub truncated: bool,
    /// Times of the frames at which decoding can restart, ascending, in stream time; of more than [`MAX_KEY_FRAMES`] every second (third, ...) one.
    /// `None` where the structure of the packets is unknown.
    pub key_frame_times_us: Option<Vec<i64>>,
    /// blake3 of the whole file, hex; of a remote file, of its URL, length and etag (or time of last change).
    pub content_blake3: String,
}

/// Reads all packets and decodes one frame. What cannot be decoded at all is an error with the reason as its code.
pub fn probe(uri: &str, context: &MediaContext) -> Result<VideoInfo, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let shown = shown(uri);
    // Decode first: it names an unsupported codec better than the packets do.
    let (codec, pixel_format, geometry, fallback_fps) = {
        let mut reader = Reader::open(&local.input, Track::Video, deadline, context)?;
        let sample = reader.preroll()?;
        let caps = sample.caps().ok_or_else(|| MediaError::new("damaged", format!("{shown}: a frame without a format")))?;
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| MediaError::new("damaged", format!("{shown}: {e}")))?;
        let geometry = Geometry::of(&info, reader.orientation())?;
        let codec = reader.codec().unwrap_or_else(|| "unknown".into());
        let fps = f64::from(info.fps().numer()) / f64::from(info.fps().denom().max(1));
        (codec, info.format().to_str().to_lowercase(), geometry, fps)
    };
    let packets = timed_packets(&local.input, &local.identity, kind, deadline, context)?;
    let duration_ns = packets.end_ns;
    let frames = packets.times_ns.len() as u64;
    let fps = match packets.times_ns.as_slice() {
        [first, .., last] => (frames - 1) as f64 * 1e9 / (last - first).max(1) as f64,
        _ => fallback_fps,
    };
    let (width, height) = geometry.displayed();
    Ok(VideoInfo {
        container: kind.name(),
        codec,
        pixel_format,
        width,
        height,
        rotation_degrees: degrees(geometry.orientation),
        fps,
        frames,
        duration_us: microseconds(duration_ns),
        stated_duration_us: packets.stated_ns.map(|n| n / 1000),
        has_audio: packets.has_audio,
        truncated: packets.truncated(),
        key_frame_times_us: key_frame_times_us(&packets.units, MAX_KEY_FRAMES),
        content_blake3: content_hash(&local, deadline, context)?,
    })
}

fn key_frame_times_us(units: &[Unit], most: usize) -> Option<Vec<i64>> {
    if units.is_empty() {
        return None;
    }
    let mut times: Vec<i64> = units.iter().filter(|u| u.sync).filter_map(|u| u.time_ns).map(|t| t / 1000).collect();
    times.sort_unstable();
    times.dedup();
    let step = times.len().div_ceil(most).max(1);
    Some(times.into_iter().step_by(step).collect())
}

fn degrees(orientation: Orientation) -> i32 {
    match orientation {
        Orientation::_90r | Orientation::UrLl => 90,
        Orientation::_180 | Orientation::Vert => 180,
        Orientation::_90l | Orientation::UlLr => 270,
        _ => 0,
    }
}

/// The codec's usual name, from the caps of the compressed stream.
pub(crate) fn codec_name(caps: &gst::Caps) -> Option<String> {
    let s = caps.structure(0)?;
    let version = s.get::<i32>("mpegversion").unwrap_or(0);
    let name = match (s.name().as_str(), version) {
        ("video/x-h264", _) => "h264",
        ("video/x-h265", _) => "hevc",
        ("video/mpeg", 1) => "mpeg1video",
        ("video/mpeg", 2) => "mpeg2video",
        ("video/mpeg", 4) => "mpeg4",
        ("video/x-divx" | "video/x-xvid", _) => "mpeg4",
        ("image/jpeg", _) => "mjpeg",
        (other, _) => return Some(other.trim_start_matches("video/").trim_start_matches("x-").to_owned()),
    };
    Some(name.to_owned())
}

/// The hash of a file's bytes; of a remote file, which would have to be read whole for that, the hash of what names its version.
fn content_hash(local: &Local, deadline: Instant, context: &MediaContext) -> Result<String, MediaError> {
    const BLOCK: usize = 1 << 20;
    if local.input.remote().is_some() {
        let named = format!("{REMOTE_HASH}|{}", local.identity);
        return Ok(blake3::hash(named.as_bytes()).to_hex().to_string());
    }
    let (mut file, _) = local.input.open(deadline, context)?;
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0u8; BLOCK];
    loop {
        if let Some(why) = interrupted(deadline, context) {
            return Err(MediaError { message: format!("{}: {}", local.input.display(), why.message), ..why });
        }
        match file.read(&mut block).map_err(|e| local.input.unreadable(e))? {
            0 => return Ok(hasher.finalize().to_hex().to_string()),
            n => hasher.update(&block[..n]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_thinned_to_the_limit() {
        let unit = |k: i64| Unit {
            time_ns: Some(k * 40_000_000),
            raw_pts: None,
            size: 1,
            key: true,
            alone: true,
            sync: k % 2 == 0,
            reference: true,
        };
        let units: Vec<Unit> = (0..20).map(unit).collect();
        assert_eq!(key_frame_times_us(&units, 10).map(|k| (k.len(), k[1])), Some((10, 80_000)));
        assert_eq!(key_frame_times_us(&units, 4), Some(vec![0, 240_000, 480_000, 720_000]));
        assert_eq!(key_frame_times_us(&[], 4), None);
    }
}
