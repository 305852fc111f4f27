//! Whether encoded packets can stand beside a stream's own ones in one track, and the parameter sets of both.
//!
//! A track of an mp4 has one size, one depth, one way to be shown; what a clip would have to bake in (rotation, pixel aspect) or a player could not
//! follow (fields, other depths) cannot be copied. Each answer is a word that ends in the column `clip_fallback`.

use std::collections::BTreeSet;

use gstreamer as gst;

use super::avcc::Avcc;
use super::cut::Source;
use super::parameter_sets::{SequenceSet, picture_set_ids};
use super::sniff::Kind;

/// An H.264 stream that can be copied.
pub(crate) struct Stream {
    pub avcc: Avcc,
    codec_data: Vec<u8>,
    pub set: SequenceSet,
    pub size: (u32, u32),
}

/// x264 numbers its sets from 0 to this.
const MOST_SET_ID: u32 = 31;
/// Profiles of 8-bit 4:2:0 frames that every decoder knows: Baseline, Main, High.
const PROFILES: [u32; 3] = [66, 77, 100];

impl Stream {
    /// The source's stream, or why its packets cannot be copied.
    pub fn of(source: &Source) -> Result<Stream, &'static str> {
        let packets = source.packets;
        if source.kind != Kind::Mp4 {
            return Err("container");
        }
        if packets.video_streams != 1 {
            return Err("several_video_streams");
        }
        let s = packets.caps.as_ref().and_then(|c| c.structure(0)).ok_or("structure_unknown")?;
        let text = |name: &str| s.get::<&str>(name).ok();
        if s.name() != "video/x-h264" {
            return Err("codec");
        }
        if text("interlace-mode").is_some_and(|m| m != "progressive") {
            return Err("interlaced");
        }
        if packets.turned {
            return Err("rotation");
        }
        if text("stream-format") != Some("avc") || text("alignment") != Some("au") {
            return Err("framing");
        }
        let data = s.get::<gst::Buffer>("codec_data").map_err(|_| "parameter_sets")?;
        let codec_data = data.map_readable().map_err(|_| "parameter_sets")?.to_vec();
        let avcc = Avcc::parse(&codec_data).ok_or("parameter_sets")?;
        if avcc.length_bytes != 4 {
            return Err("framing");
        }
        let [set] = avcc.sequence_sets.as_slice() else { return Err("parameter_sets") };
        let set = SequenceSet::parse(set).ok_or("parameter_sets")?;
        let square = s.get::<gst::Fraction>("pixel-aspect-ratio").is_ok_and(|p| p.numer() != p.denom());
        if square || set.usability.pixel_aspect.is_some() {
            return Err("pixel_aspect");
        }
        if !set.frames_only {
            return Err("interlaced"); // caps do not say so of every such file
        }
        if !set.plain {
            return Err("pixel_format");
        }
        if !PROFILES.contains(&set.profile) {
            return Err("profile");
        }
        if packets.units.is_empty() {
            return Err("structure_unknown");
        }
        let side = |name: &str| s.get::<i32>(name).ok().and_then(|v| u16::try_from(v).ok()).map(u32::from);
        let size = side("width").zip(side("height")).ok_or("structure_unknown")?;
        if size.0 % 2 == 1 || size.1 % 2 == 1 {
            return Err("odd_size");
        }
        Ok(Stream { avcc, codec_data, set, size })
    }

    /// A number for parameter sets that the stream does not use.
    pub fn free_set_id(&self) -> Result<u32, &'static str> {
        let pictures: Option<Vec<(u32, u32)>> = self.avcc.picture_sets.iter().map(|p| picture_set_ids(p)).collect();
        let used: BTreeSet<u32> = pictures.ok_or("parameter_sets")?.iter().map(|p| p.0).chain([self.set.id]).collect();
        (1..=MOST_SET_ID).find(|id| !used.contains(id)).ok_or("parameter_sets")
    }

    /// Both streams' sets; those of the encoded one speak of colour and reordering as the source's do.
    pub fn joined(&self, encoded: &Avcc) -> Result<Avcc, &'static str> {
        let [set] = encoded.sequence_sets.as_slice() else { return Err("parameter_sets") };
        let ours = SequenceSet::parse(set).ok_or("parameter_sets")?;
        if !ours.plain || ours.macroblocks != self.set.macroblocks || ours.crop != self.set.crop {
            return Err("picture_size");
        }
        let other = Avcc { sequence_sets: vec![ours.speaking_as(&self.set)], ..encoded.clone() };
        let both = self.avcc.joined(&other).ok_or("parameter_sets")?;
        let all: Option<BTreeSet<(u32, u32)>> = both.picture_sets.iter().map(|p| picture_set_ids(p)).collect();
        let numbers: BTreeSet<u32> = all.iter().flatten().map(|p| p.0).collect();
        let distinct = ours.id != self.set.id && numbers.len() == both.picture_sets.len();
        if distinct { Ok(both) } else { Err("parameter_sets") }
    }

    /// True if the caps of a packet name this stream's parameter sets.
    pub fn described_by(&self, caps: Option<&gst::CapsRef>) -> bool {
        let data = caps.and_then(|c| c.structure(0)?.get::<gst::Buffer>("codec_data").ok());
        data.is_some_and(|d| d.map_readable().is_ok_and(|d| *d == *self.codec_data))
    }

    /// False if a packet holds a parameter set that the stream's header does not have.
    pub fn covers(&self, packet: &[u8]) -> bool {
        let mut rest = packet;
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let Some((unit, tail)) = tail.split_at_checked(u32::from_be_bytes(*length) as usize) else { return false };
            let known = match unit.first().map(|header| header & 0x1F) {
                Some(7) => self.avcc.sequence_sets.iter().any(|s| s == unit),
                Some(8) => self.avcc.picture_sets.iter().any(|s| s == unit),
                Some(13 | 15) | None => false,
                Some(_) => true,
            };
            if !known {
                return false;
            }
            rest = tail;
        }
        rest.is_empty()
    }
}
