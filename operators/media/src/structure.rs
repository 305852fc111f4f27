//! What a compressed packet is, from its first bytes: does it decode alone, does decoding restart there, does anything refer to it.
//!
//! This is all that sampling needs to know of a codec to leave packets out without changing a single pixel of the others. Sources: H.264 7.3.1 and
//! 7.4.1 (`nal_ref_idc`, `nal_unit_type`), H.265 7.4.2.2 (sub-layer non-reference pictures), VP9 6.2, AV1 5.9.2, RFC 6386 9.1 (VP8), H.262 6.2.2 and
//! 6.2.3, MPEG-4 part 2 6.2.4 and 6.2.5.
//!
//! What can go wrong: a layout that is not known here (field pairs, layered or partitioned streams, several pictures in a packet). The answer is then
//! `None`, and the whole stream is decoded.

use gstreamer as gst;

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
    /// Temporal layer, 0 the lowest; higher layers may refer to lower ones.
    pub layer: u8,
}

impl Shape {
    /// A packet on which everything up to the next restart may depend.
    const fn chained(sync: bool, shown: bool) -> Self {
        Shape { key: sync, alone: sync, sync, reference: true, shown, layer: 0 }
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
            "video/x-h264" if text("alignment") == Some("au") && !interlaced => Some(Syntax::H264(framing(4)?)),
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

    /// What a packet is; `flagged` if the container calls it a key frame.
    pub fn shape(self, packet: &[u8], flagged: bool) -> Option<Shape> {
        match self {
            Syntax::H264(framing) => h264(units(packet, framing)?, flagged),
            Syntax::Hevc(framing) => hevc(units(packet, framing)?),
            Syntax::Vp8 => vp8(packet),
            Syntax::Vp9 => vp9(packet),
            Syntax::Av1 => av1(packet),
            Syntax::Mpeg2 => mpeg2(packet),
            Syntax::Mpeg4 => mpeg4(packet),
        }
    }
}

/// The units of a packet, headers included; `None` if the lengths do not add up.
fn units(packet: &[u8], framing: Framing) -> Option<Vec<&[u8]>> {
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

fn h264(units: Vec<&[u8]>, flagged: bool) -> Option<Shape> {
    let (mut pictures, mut idr, mut intra, mut reference) = (0, false, true, false);
    for unit in units {
        let (header, body) = unit.split_first()?;
        match header & 0x1F {
            1 | 5 => {
                let mut bits = Bits { bytes: body, at: 0 };
                pictures += u32::from(bits.golomb()? == 0); // the slice with macroblock 0
                intra &= matches!(bits.golomb()? % 5, 2 | 4);
                idr |= header & 0x1F == 5;
                reference |= header & 0x60 != 0;
            }
            // Partitioned slices, and the extensions of scalable and multiview streams.
            2..=4 | 14 | 15 | 20 | 21 => return None,
            _ => {}
        }
    }
    match pictures {
        0 => Some(Shape::chained(false, false)),
        1 => Some(Shape { key: idr || (flagged && intra), alone: idr, sync: idr, reference, shown: true, layer: 0 }),
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
                found = Some(Shape { key, alone: key, sync, reference: key || kind % 2 == 1, shown: true, layer });
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
            Some(Shape { key, alone: key, sync: key && closed, reference: kind != both_ways, shown: true, layer: 0 })
        }
        _ => None,
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number.
    fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 24 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|u| [&(u.len() as u32).to_be_bytes()[..], u].concat()).collect()
    }

    fn codes(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|u| [&[0, 0, 1][..], u].concat()).collect()
    }

    #[test]
    fn h264_packets_are_what_their_headers_say() {
        let avc = Syntax::H264(Framing::Lengths(4));
        let annex_b = Syntax::H264(Framing::StartCodes);
        let idr: &[&[u8]] = &[&[0x67, 0x64], &[0x68, 0xEE], &[0x65, 0b1000_1000, 0x80]]; // ue 0, ue 7: an I slice
        let shape = Shape { key: true, alone: true, sync: true, reference: true, shown: true, layer: 0 };
        assert_eq!(avc.shape(&lengths(idr), true), Some(shape));
        assert_eq!(annex_b.shape(&codes(idr), false), Some(shape));
        let b: &[&[u8]] = &[&[0x01, 0b1010_0000, 0x80]]; // ue 0, ue 1: a B slice that nothing refers to
        assert_eq!(
            avc.shape(&lengths(b), false),
            Some(Shape { key: false, alone: false, sync: false, reference: false, ..shape })
        );
        let recovery: &[&[u8]] = &[&[0x41, 0b1000_1000, 0x80]];
        assert_eq!(avc.shape(&lengths(recovery), true), Some(Shape { alone: false, sync: false, ..shape }));
        assert_eq!(avc.shape(&lengths(recovery), false), Some(Shape { alone: false, sync: false, key: false, ..shape }));
        let fields: &[&[u8]] = &[b[0], b[0]];
        assert_eq!(avc.shape(&lengths(fields), false), None);
        assert_eq!(avc.shape(&lengths(&[&[0x02, 0xFF]]), false), None, "data partitions");
        assert_eq!(avc.shape(&[0, 0, 0, 9, 1], false), None, "lengths that do not add up");
    }

    #[test]
    fn hevc_layers_and_refreshes_are_seen() {
        let syntax = Syntax::Hevc(Framing::Lengths(4));
        let at = |kind: u8, layer: u8| syntax.shape(&lengths(&[&[kind << 1, layer + 1, 0x80, 0]]), false);
        let shape = Shape { key: false, alone: false, sync: false, reference: false, shown: true, layer: 0 };
        assert_eq!(at(0, 2), Some(Shape { layer: 2, ..shape }));
        assert_eq!(at(1, 0), Some(Shape { reference: true, ..shape }));
        assert_eq!(at(19, 0), Some(Shape { key: true, alone: true, sync: true, reference: true, ..shape }));
        assert_eq!(at(21, 0), Some(Shape { key: true, alone: true, reference: true, ..shape }));
        assert_eq!(at(25, 0), None);
        assert_eq!(syntax.shape(&lengths(&[&[3, 9, 0x80, 0]]), false), None, "a second layer");
    }

    #[test]
    fn the_other_codecs_say_where_they_restart() {
        assert_eq!(Syntax::Vp8.shape(&[0x10, 2, 0], true), Some(Shape::chained(true, true)));
        assert_eq!(Syntax::Vp8.shape(&[0x01, 2, 0], false), Some(Shape::chained(false, false)));
        assert_eq!(Syntax::Vp9.shape(&[0x82, 0x49, 0x83, 0x42], true), Some(Shape::chained(true, true)));
        assert_eq!(Syntax::Vp9.shape(&[0x84, 0, 0], false), Some(Shape::chained(false, false)), "hidden");
        assert_eq!(Syntax::Vp9.shape(&[0x84, 0, 0xC1], false), Some(Shape::chained(false, true)), "hidden and shown");
        let delimiter: &[u8] = &[0x12, 0];
        let frame = |first: u8| [delimiter, &[0x32, 2, first, 0]].concat();
        assert_eq!(Syntax::Av1.shape(&frame(0b0001_0000), true), Some(Shape::chained(true, true)));
        assert_eq!(Syntax::Av1.shape(&frame(0b0011_0000), false), Some(Shape::chained(false, true)));
        assert_eq!(Syntax::Av1.shape(&frame(0b0000_0000), true), Some(Shape::chained(false, false)), "shown later");
        let picture = |kind: u8| -> Vec<u8> { codes(&[&[0x00, 0, kind << 3, 0], &[0xB5, 0x80, 0, 3, 0]]) };
        let shape = Shape { key: true, alone: true, sync: false, reference: true, shown: true, layer: 0 };
        assert_eq!(Syntax::Mpeg2.shape(&picture(1), true), Some(shape));
        assert_eq!(Syntax::Mpeg2.shape(&picture(3), false), Some(Shape { key: false, alone: false, reference: false, ..shape }));
        let closed = [codes(&[&[0xB8, 0, 0, 0, 0x40]]), picture(1)].concat();
        assert_eq!(Syntax::Mpeg2.shape(&closed, true), Some(Shape { sync: true, ..shape }));
        assert_eq!(
            Syntax::Mpeg4.shape(&codes(&[&[0xB6, 0x80]]), false),
            Some(Shape { key: false, alone: false, reference: false, ..shape })
        );
        assert_eq!(Syntax::Mpeg4.shape(&codes(&[&[0xB6, 0x40], &[0xB6, 0x80]]), false), None, "packed");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), flagged in any::<bool>()) {
            for framing in [Framing::StartCodes, Framing::Lengths(1), Framing::Lengths(4)] {
                let _ = Syntax::H264(framing).shape(&bytes, flagged);
                let _ = Syntax::Hevc(framing).shape(&bytes, flagged);
            }
            for syntax in [Syntax::Vp8, Syntax::Vp9, Syntax::Av1, Syntax::Mpeg2, Syntax::Mpeg4] {
                let _ = syntax.shape(&bytes, flagged);
            }
        }
    }
}
