//! What a compressed packet is, from its first bytes: does it decode alone, does decoding restart there, does anything refer to it.
//!
//! This is all that sampling needs to know of a codec to leave packets out without changing a single pixel of the others. Sources: H.264 7.3.1 and
//! 7.4.1 (`nal_ref_idc`, `nal_unit_type`), H.265 7.4.2.2 (sub-layer non-reference pictures), VP9 6.2, AV1 5.9.2, RFC 6386 9.1 (VP8), H.262 6.2.2 and
//! 6.2.3, MPEG-4 part 2 6.2.4 and 6.2.5.
//!
//! What can go wrong: a layout that is not known here (field pairs, layered or partitioned streams, several pictures in a packet). The answer is then
//! `None`, and the whole stream is decoded.

use gstreamer as gst;

use super::sps::{Bits, frames_only, is_recovery_point};

/// How the units of a H.264 or H.265 packet are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each follows `00 00 01`.
    StartCodes,
    /// Each follows its length in this many bytes.
    Lengths(usize),
}

/// The syntax of a stream's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Syntax {
    H264(Framing),
    Hevc(Framing),
    Vp8,
    Vp9,
    Av1,
    /// MPEG-1 and MPEG-2.
    Mpeg2,
    /// MPEG-4 part 2.
    Mpeg4,
}

/// What one packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// A key frame: a picture made from this packet only.
    pub key: bool,
    /// A decoder gives that picture when it gets nothing before it and nothing after it. H.264 recovery points do not: their place in the numbering of
    /// references is lost.
    pub alone: bool,
    /// Nothing from here on, in decoding order, refers to anything before.
    pub sync: bool,
    /// A later packet may refer to it. In a stream of temporal layers this holds for its own layer only: see [`Shape::layer`].
    pub reference: bool,
    /// It gives a picture.
    pub shown: bool,
    /// Its picture may be built from a later one, which then comes first.
    pub both_ways: bool,
    /// Temporal layer, 0 the lowest; higher layers may refer to lower ones.
    pub layer: u8,
}

impl Shape {
    /// A packet on which everything up to the next restart may depend.
    pub const fn chained(sync: bool, shown: bool) -> Self {
        Shape { key: sync, alone: sync, sync, reference: true, shown, both_ways: false, layer: 0 }
    }
}

impl Syntax {
    /// By the caps of the parsed stream; `None` where the structure of packets is unknown.
    pub fn of(caps: &gst::CapsRef) -> Option<Syntax> {
        let s = caps.structure(0)?;
        let text = |name: &str| s.get::<&str>(name).ok();
        let interlaced = text("interlace-mode").is_some_and(|m| m != "progressive");
        let framing = |length_byte: usize| match text("stream-format")? {
            "byte-stream" => Some(Framing::StartCodes),
            _ => {
                let data = s.get::<gst::Buffer>("codec_data").ok()?;
                let data = data.map_readable().ok()?;
                Some(Framing::Lengths(usize::from(data.get(length_byte)? & 3) + 1))
            }
        };
        match s.name().as_str() {
            "video/x-h264" if text("alignment") == Some("au") && !interlaced => {
                let framing = framing(4)?;
                (framing == Framing::StartCodes || stored_sets_are_progressive(s)?).then_some(Syntax::H264(framing))
            }
            "video/x-h265" if text("alignment") == Some("au") && !interlaced => Some(Syntax::Hevc(framing(21)?)),
            "video/x-vp8" | "video/x-vp9" if s.get::<bool>("codec-alpha").unwrap_or(false) => None,
            "video/x-vp8" => Some(Syntax::Vp8),
            "video/x-vp9" if text("alignment") != Some("frame") => Some(Syntax::Vp9),
            "video/x-av1" if text("alignment").is_none_or(|a| a == "tu") => Some(Syntax::Av1),
            "video/mpeg" => match s.get::<i32>("mpegversion").ok()? {
                1 | 2 => Some(Syntax::Mpeg2),
                4 => Some(Syntax::Mpeg4),
                _ => None,
            },
            "video/x-divx" | "video/x-xvid" => Some(Syntax::Mpeg4),
            _ => None,
        }
    }

    /// What a packet is.
    pub fn shape(self, packet: &[u8]) -> Option<Shape> {
        match self {
            Syntax::H264(framing) => h264(units(packet, framing)?),
            Syntax::Hevc(framing) => hevc(units(packet, framing)?),
            Syntax::Vp8 => vp8(packet),
            Syntax::Vp9 => vp9(packet),
            Syntax::Av1 => av1(packet),
            Syntax::Mpeg2 => mpeg2(packet),
            Syntax::Mpeg4 => mpeg4(packet),
        }
    }
}

/// False if a parameter set of the container allows fields.
fn stored_sets_are_progressive(s: &gst::StructureRef) -> Option<bool> {
    let data = s.get::<gst::Buffer>("codec_data").ok()?;
    let data = data.map_readable().ok()?;
    let (count, mut rest) = data.get(5..)?.split_first()?;
    for _ in 0..count & 0x1F {
        let (length, tail) = rest.split_at_checked(2)?;
        let (set, tail) = tail.split_at_checked(usize::from(length[0]) << 8 | usize::from(length[1]))?;
        if !frames_only(set.get(1..)?)? {
            return Some(false);
        }
        rest = tail;
    }
    Some(true)
}

/// The units of a packet, headers included; `None` if the lengths do not add up.
pub(crate) fn units(packet: &[u8], framing: Framing) -> Option<Vec<&[u8]>> {
    match framing {
        Framing::StartCodes => Some(start_codes(packet).collect()),
        Framing::Lengths(width) => {
            let (mut rest, mut found) = (packet, Vec::new());
            while !rest.is_empty() {
                let (length, tail) = rest.split_at_checked(width)?;
                let length = length.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
                let (unit, tail) = tail.split_at_checked(length)?;
                found.push(unit);
                rest = tail;
            }
            Some(found)
        }
    }
}

/// What follows each `00 00 01`, up to the next one.
fn start_codes(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = next_start(packet);
    std::iter::from_fn(move || {
        let unit = rest?;
        rest = next_start(unit);
        Some(&unit[..unit.len() - rest.map_or(0, |r| r.len() + 3)])
    })
}

fn next_start(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(3).position(|w| w == [0, 0, 1])?;
    Some(&bytes[at + 3..])
}

fn h264(units: Vec<&[u8]>) -> Option<Shape> {
    let (mut pictures, mut idr, mut intra, mut reference, mut both_ways) = (0, false, true, false, false);
    let mut recovery = false;
    for unit in units {
        let (header, body) = unit.split_first()?;
        match header & 0x1F {
            1 | 5 => {
                let mut bits = Bits { bytes: body, at: 0 };
                pictures += u32::from(bits.golomb()? == 0); // the slice with macroblock 0
                let kind = bits.golomb()? % 5;
                intra &= matches!(kind, 2 | 4);
                both_ways |= kind == 1;
                idr |= header & 0x1F == 5;
                reference |= header & 0x60 != 0;
            }
            6 => recovery |= is_recovery_point(body),
            // Fields: two packets may make one picture.
            7 if !frames_only(body)? => return None,
            // Partitioned slices, and the extensions of scalable and multiview streams.
            2..=4 | 14 | 15 | 20 | 21 => return None,
            _ => {}
        }
    }
    match pictures {
        0 => Some(Shape::chained(false, false)),
        1 => Some(Shape { key: idr || (recovery && intra), alone: idr, sync: idr, reference, shown: true, both_ways, layer: 0 }),
        _ => None, // a pair of fields, or redundant pictures
    }
}

fn hevc(units: Vec<&[u8]>) -> Option<Shape> {
    let (mut pictures, mut found) = (0, None);
    for unit in units {
        let [a, b, rest @ ..] = unit else { return None };
        let (kind, layer_id, layer) = (a >> 1 & 0x3F, (a & 1) << 5 | b >> 3, (b & 7).checked_sub(1)?);
        if layer_id != 0 {
            return None;
        }
        match kind {
            0..=9 | 16..=21 => {
                pictures += u32::from(rest.first()? >> 7); // the first slice of a picture
                let key = kind >= 16;
                // 16 to 20: broken links and instantaneous refreshes. After a clean random access (21) leading pictures still look back.
                let sync = (16..=20).contains(&kind);
                found =
                    Some(Shape { key, alone: key, sync, reference: key || kind % 2 == 1, shown: true, both_ways: false, layer });
            }
            10..=15 | 22..=31 => return None, // reserved
            _ => {}
        }
    }
    match pictures {
        0 => Some(Shape::chained(false, false)),
        1 => found,
        _ => None,
    }
}

fn vp8(packet: &[u8]) -> Option<Shape> {
    let first = *packet.first()?;
    Some(Shape::chained(first & 1 == 0, first & 0x10 != 0))
}

/// Contexts, segment maps and motion vectors pass from each frame to the next one, referred to or not: only key frames are a restart.
fn vp9(packet: &[u8]) -> Option<Shape> {
    let mut bits = Bits { bytes: packet, at: 0 };
    if bits.take(2)? != 2 {
        return None;
    }
    if bits.take(2)? == 3 {
        bits.take(1)?;
    }
    if bits.take(1)? == 1 {
        return Some(Shape::chained(false, true)); // shows a frame again
    }
    let (key, shown) = (bits.take(1)? == 0, bits.take(1)? == 1);
    let several = packet.last()? & 0xE0 == 0xC0; // a superframe: hidden frames and the one that is shown
    Some(Shape::chained(key, shown || several))
}

fn av1(packet: &[u8]) -> Option<Shape> {
    let (mut rest, mut shown, mut sync, mut first) = (packet, 0, false, true);
    while let Some((header, tail)) = rest.split_first() {
        let (kind, extended, sized) = (header >> 3 & 15, header & 4 != 0, header & 2 != 0);
        rest = tail;
        if extended {
            let (extension, tail) = rest.split_first()?;
            if extension >> 3 & 3 != 0 {
                return None; // spatial layers
            }
            rest = tail;
        }
        let length = if sized { leb128(&mut rest)? } else { rest.len() };
        let (body, tail) = rest.split_at_checked(length)?;
        rest = tail;
        let mut bits = Bits { bytes: body, at: 0 };
        match kind {
            1 if body.first()? & 8 != 0 => return None, // still pictures have another frame header
            3 | 6 => {
                let (again, kind, visible) = (bits.take(1)? == 1, bits.take(2)?, bits.take(1)? == 1);
                shown += u32::from(again || visible);
                sync |= first && !again && kind == 0 && visible;
                first = false;
            }
            _ => {}
        }
    }
    (shown <= 1).then(|| Shape::chained(sync, shown == 1))
}

fn leb128(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for i in 0..8 {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn mpeg2(packet: &[u8]) -> Option<Shape> {
    let (mut pictures, mut kind, mut closed) = (0, 0, false);
    for unit in start_codes(packet) {
        match unit {
            [0x00, _, b, ..] => {
                pictures += 1;
                kind = b >> 3 & 7;
            }
            [0xB8, _, _, _, b, ..] => closed = b & 0x40 != 0,
            // A picture of one field.
            [0xB5, a, _, b, ..] if a >> 4 == 8 && b & 3 != 3 => return None,
            _ => {}
        }
    }
    coded(pictures, kind, 1, 3, closed)
}

fn mpeg4(packet: &[u8]) -> Option<Shape> {
    let (mut pictures, mut kind, mut closed) = (0, 0, false);
    for unit in start_codes(packet) {
        match unit {
            [0xB6, b, ..] => {
                pictures += 1;
                kind = b >> 6;
            }
            [0xB3, _, _, b, ..] => closed = b & 0x20 != 0,
            _ => {}
        }
    }
    coded(pictures, kind, 0, 2, closed)
}

/// Nothing refers to B pictures; in an open group they look back over the I picture.
fn coded(pictures: u32, kind: u8, intra: u8, both_ways: u8, closed: bool) -> Option<Shape> {
    match pictures {
        0 => Some(Shape::chained(false, false)),
        1 => {
            let key = kind == intra;
            let both_ways = kind == both_ways;
            Some(Shape { key, alone: key, sync: key && closed, reference: !both_ways, shown: true, both_ways, layer: 0 })
        }
        _ => None,
    }
}

/// False if the presentation times cannot be those of the pictures, because the decoder would have to show a picture before it can be built.
/// Demuxers make such times up where a container has none; what a decoder then calls a frame's time depends on everything before it.
pub(crate) fn orderly(syntax: Syntax, packets: impl Iterator<Item = (Shape, u64)> + Clone) -> bool {
    match syntax {
        // With pictures built from later ones, times in decoding order are made up.
        Syntax::H264(_) => {
            let forward = packets.clone().zip(packets.clone().skip(1)).all(|((_, a), (_, b))| a < b);
            !(forward && packets.clone().any(|(shape, _)| shape.both_ways))
        }
        Syntax::Mpeg2 | Syntax::Mpeg4 => {
            let (mut before, mut after, mut last) = (None, None, None);
            packets.clone().all(|(shape, time)| {
                if shape.both_ways {
                    let fits = before.is_none_or(|t| t < time) && after.is_none_or(|t| time < t) && last.is_none_or(|t| t < time);
                    last = Some(time);
                    return fits;
                }
                let fits = after.is_none_or(|t| t < time) && last.is_none_or(|t| t < time);
                (before, after, last) = (after, Some(time), None);
                fits
            })
        }
        Syntax::Hevc(_) | Syntax::Vp8 | Syntax::Vp9 | Syntax::Av1 => true,
    }
}
