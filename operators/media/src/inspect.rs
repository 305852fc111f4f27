//! All that this plane can tell of a file, for people: what [`super::probe`] says, its streams, how its packets depend on one another, and whether it decodes
//! whole.

use std::time::Instant;

use super::every::decode_whole;
use super::grid::WHOLE_NS;
use super::info::codec_name;
use super::input::localize;
use super::packets::packets;
use super::plan::plan;
use super::{GridStats, MediaContext, MediaError, Sampling, VideoInfo, probe};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// What the `probe` step sees.
    pub info: VideoInfo,
    /// Each stream: its kind and codec, such as `video h264`.
    pub streams: Vec<String>,
    /// How packets depend on one another; `None` where that is not known, so that every frame is decoded.
    pub structure: Option<Structure>,
    /// Of a remote file, how much of it was fetched for this.
    pub bytes_read: Option<u64>,
    /// What a full decode gave; `None` if it was not asked for.
    pub decoded: Option<GridStats>,
}

/// How the packets of a stream depend on one another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Structure {
    /// Pictures that need no other.
    pub key_frames: usize,
    /// Packets to which others may refer.
    pub reference_frames: usize,
    /// Longest time without a key frame, to the end.
    pub longest_group_us: i64,
    /// Share of the packets that sampling one frame per second decodes, 0 to 1.
    pub sampled_share: f64,
}

/// Inspects a file; `decode` decodes it from its first frame to its last.
pub fn inspect(uri: &str, decode: bool, context: &MediaContext) -> Result<Inspection, MediaError> {
    let info = probe(uri, context)?;
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let packets = packets(&local.input, &local.identity, deadline, context)?;
    let streams = packets.streams.iter().map(|caps| {
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        let kind = name.split('/').next().filter(|k| ["video", "audio", "text", "image"].contains(k)).unwrap_or("other");
        let version = caps.structure(0).and_then(|s| s.get::<i32>("mpegversion").ok());
        let codec = match (name, version) {
            ("audio/mpeg", Some(2 | 4)) => "aac".into(),
            ("audio/mpeg", _) => "mp3".into(),
            (name, _) if kind == "audio" => name.trim_start_matches("audio/").trim_start_matches("x-").to_owned(),
            _ => codec_name(caps).unwrap_or_else(|| name.to_owned()),
        };
        format!("{kind} {codec}")
    });
    let structure = (!packets.units.is_empty()).then(|| {
        let count = |of: fn(&super::plan::Unit) -> bool| packets.units.iter().filter(|u| of(u)).count();
        let mut keys: Vec<i64> = packets.units.iter().filter(|u| u.key).filter_map(|u| u.time_ns).collect();
        keys.sort_unstable();
        keys.push(packets.end_ns);
        let plan = plan(&packets.units, WHOLE_NS, 1.0, packets.period_ns(), Sampling::Exact);
        let kept = plan.map_or(packets.units.len(), |p| p.keep.iter().filter(|k| **k).count());
        Structure {
            key_frames: count(|u| u.key),
            reference_frames: count(|u| u.reference),
            longest_group_us: keys.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0) / 1000,
            sampled_share: kept as f64 / packets.units.len() as f64,
        }
    });
    let decoded = decode.then(|| decode_whole(uri, context)).transpose()?;
    let bytes_read = local.input.remote().map(|remote| remote.bytes_read());
    Ok(Inspection { info, streams: streams.collect(), structure, bytes_read, decoded })
}
