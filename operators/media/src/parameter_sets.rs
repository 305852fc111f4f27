//! The H.264 parameter sets of a stream that is to be joined with another one: what both must agree on, and how the second one's set is made to say
//! the same about colour and reordering as the first one's (H.264 7.3.2.1.1, E.1.1).
//!
//! Why rewrite: a player asks the sequence parameter set how many frames may wait for their turn, and what the numbers of a pixel mean. Where a
//! clip is partly copied and partly encoded, both must stay as they are over the joint. Only the usability information at the set's end changes; no
//! slice depends on it.

use super::sps::{Bits, beginning, unescaped};

/// A sequence parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceSet {
    pub profile: u32,
    pub level: u8,
    pub id: u32,
    /// 8 bits, 4:2:0, frames only. All that can be copied.
    pub plain: bool,
    /// No pictures of fields.
    pub frames_only: bool,
    /// Width and height in macroblocks.
    pub macroblocks: (u32, u32),
    /// Left, right, top, bottom; in steps of two pixels.
    pub crop: [u32; 4],
    pub usability: Usability,
    /// Without the bytes that keep start codes out, without the header.
    bytes: Vec<u8>,
    /// The bit that says whether there is usability information.
    usability_at: usize,
}

/// What is kept of the usability information.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usability {
    /// Width to height of a pixel, if it is not 1 and not left open.
    pub pixel_aspect: Option<(u32, u32)>,
    /// Format, full range, colour description.
    pub signal: Option<(u32, u32, Option<u32>)>,
    /// Place of chroma samples, by field.
    pub chroma_place: Option<(u32, u32)>,
    pub limits: Option<Limits>,
}

/// Limits on what the stream uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub over_edges: u32,
    pub bytes_denominator: u32,
    pub bits_denominator: u32,
    pub log2_motion: (u32, u32),
    /// Frames that may precede a frame in decoding order and follow it in display.
    pub reorder: u32,
    /// Frames that a decoder must hold.
    pub held: u32,
}

impl SequenceSet {
    /// Reads a unit of type 7, header included.
    pub fn parse(unit: &[u8]) -> Option<SequenceSet> {
        let (header, body) = unit.split_first()?;
        if header & 0x1F != 7 {
            return None;
        }
        let bytes = unescaped(body);
        let mut bits = Bits { bytes: &bytes, at: 0 };
        let start = beginning(&mut bits)?;
        bits.take(if start.frames_only { 1 } else { 2 })?; // adaptive fields, direct inference
        let mut crop = [0; 4];
        if bits.take(1)? == 1 {
            for side in &mut crop {
                *side = bits.golomb()?;
            }
        }
        let usability_at = bits.at;
        let usability = if bits.take(1)? == 1 { usability(&mut bits)? } else { Usability::default() };
        Some(SequenceSet {
            profile: start.profile,
            level: *bytes.get(2)?,
            id: start.id,
            plain: start.chroma == 1 && start.extra_depth == 0 && start.frames_only,
            frames_only: start.frames_only,
            macroblocks: (start.columns, start.rows),
            crop,
            usability,
            bytes,
            usability_at,
        })
    }

    /// This set with the other's word on colour and level, and with as much reordering: the unit, header included.
    pub fn speaking_as(&self, other: &SequenceSet) -> Vec<u8> {
        let mut out = Bitstring::default();
        let mut bits = Bits { bytes: &self.bytes, at: 0 };
        (0..self.usability_at).for_each(|_| out.put(bits.take(1).unwrap_or(0), 1));
        let ours = self.usability.limits;
        let limits = match (ours, other.usability.limits) {
            (Some(a), Some(b)) => Some(Limits { reorder: a.reorder.max(b.reorder), held: a.held.max(b.held), ..a }),
            (a, _) => a,
        };
        out.put(1, 1);
        write_usability(&mut out, &Usability { limits, ..other.usability.clone() });
        let mut body = out.closed();
        if let Some(level) = body.get_mut(2) {
            *level = self.level.max(other.level);
        }
        [&[0x67][..], &escaped(&body)].concat()
    }
}

/// Its own number and that of its sequence parameter set; of a unit of type 8, header included.
pub(crate) fn picture_set_ids(unit: &[u8]) -> Option<(u32, u32)> {
    let (header, body) = unit.split_first()?;
    let bytes = unescaped(body);
    let mut bits = Bits { bytes: &bytes, at: 0 };
    (header & 0x1F == 8).then_some(())?;
    Some((bits.golomb()?, bits.golomb()?))
}

fn usability(bits: &mut Bits) -> Option<Usability> {
    const OTHER_ASPECT: u32 = 255;
    let mut u = Usability::default();
    if bits.take(1)? == 1 {
        u.pixel_aspect = match bits.take(8)? {
            0 | 1 => None,
            OTHER_ASPECT => Some((bits.take(16)?, bits.take(16)?)).filter(|(w, h)| w != h && *w > 0 && *h > 0),
            listed => Some((listed, 0)),
        };
    }
    if bits.take(1)? == 1 {
        bits.take(1)?; // overscan
    }
    if bits.take(1)? == 1 {
        let (format, full) = (bits.take(3)?, bits.take(1)?);
        let described = bits.take(1)? == 1;
        u.signal = Some((format, full, if described { Some(bits.take(24)?) } else { None }));
    }
    if bits.take(1)? == 1 {
        u.chroma_place = Some((bits.golomb()?, bits.golomb()?));
    }
    if bits.take(1)? == 1 {
        bits.take(32)?;
        bits.take(32)?;
        bits.take(1)?; // timing
    }
    let (mut buffered, mut rest) = (false, 2);
    while rest > 0 {
        if bits.take(1)? == 1 {
            buffered = true;
            skip_buffer_model(bits)?;
        }
        rest -= 1;
    }
    if buffered {
        bits.take(1)?; // low delay
    }
    bits.take(1)?; // picture structure in messages
    if bits.take(1)? == 1 {
        u.limits = Some(Limits {
            over_edges: bits.take(1)?,
            bytes_denominator: bits.golomb()?,
            bits_denominator: bits.golomb()?,
            log2_motion: (bits.golomb()?, bits.golomb()?),
            reorder: bits.golomb()?,
            held: bits.golomb()?,
        });
    }
    Some(u)
}

fn skip_buffer_model(bits: &mut Bits) -> Option<()> {
    const MOST_BUFFERS: u32 = 32;
    let count = bits.golomb()?.saturating_add(1);
    if count > MOST_BUFFERS {
        return None;
    }
    bits.take(8)?;
    for _ in 0..count {
        bits.golomb_of(31)?;
        bits.golomb_of(31)?;
        bits.take(1)?;
    }
    bits.take(20).map(drop)
}

fn write_usability(out: &mut Bitstring, u: &Usability) {
    out.put(0, 1); // pixel aspect: joined streams have square pixels
    out.put(0, 1); // overscan
    out.put(u32::from(u.signal.is_some()), 1);
    if let Some((format, full, description)) = u.signal {
        out.put(format, 3);
        out.put(full, 1);
        out.put(u32::from(description.is_some()), 1);
        if let Some(description) = description {
            out.put(description, 24);
        }
    }
    out.put(u32::from(u.chroma_place.is_some()), 1);
    if let Some((top, bottom)) = u.chroma_place {
        out.golomb(top);
        out.golomb(bottom);
    }
    out.put(0, 4); // timing, both buffer models, picture structure
    out.put(u32::from(u.limits.is_some()), 1);
    if let Some(l) = u.limits {
        out.put(l.over_edges, 1);
        for value in [l.bytes_denominator, l.bits_denominator, l.log2_motion.0, l.log2_motion.1, l.reorder, l.held] {
            out.golomb(value);
        }
    }
}

/// Bits being written, first bit first.
#[derive(Default)]
struct Bitstring {
    bytes: Vec<u8>,
    used: usize,
}

impl Bitstring {
    fn put(&mut self, value: u32, count: u32) {
        for shift in (0..count).rev() {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(byte) = self.bytes.last_mut() {
                *byte |= ((value >> shift & 1) as u8) << (7 - self.used % 8);
            }
            self.used += 1;
        }
    }

    fn golomb(&mut self, value: u32) {
        let code = value.saturating_add(1);
        let bits = 32 - code.leading_zeros();
        self.put(0, bits - 1);
        self.put(code, bits);
    }

    /// With the one that ends a unit.
    fn closed(mut self) -> Vec<u8> {
        self.put(1, 1);
        self.bytes
    }
}

/// With the bytes that keep start codes out of the data.
fn escaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// High 1280x720: number `id`, frame numbers of 4 bits, order type 2, 4 references, 80 x 45 macroblocks; `rest` begins with the usability flag.
    fn set(id: u32, level: u32, rest: impl Fn(&mut Bitstring)) -> Vec<u8> {
        let mut out = Bitstring::default();
        out.put(100, 8);
        out.put(level, 16);
        [id, 1, 0, 0].into_iter().for_each(|v| out.golomb(v));
        out.put(0, 2);
        [0, 2, 4].into_iter().for_each(|v| out.golomb(v));
        out.put(0, 1);
        [79, 44].into_iter().for_each(|v| out.golomb(v));
        out.put(0b110, 3); // frames, direct inference, no cropping
        rest(&mut out);
        [&[0x67][..], &escaped(&out.closed())].concat()
    }

    fn described(limits: Option<Limits>, signal: Option<(u32, u32, Option<u32>)>) -> impl Fn(&mut Bitstring) {
        move |out| {
            out.put(1, 1);
            write_usability(out, &Usability { signal, limits, ..Usability::default() });
        }
    }

    const LIMITS: Limits =
        Limits { over_edges: 1, bytes_denominator: 0, bits_denominator: 0, log2_motion: (11, 11), reorder: 0, held: 1 };

    #[test]
    fn a_set_takes_over_colour_level_and_reordering() {
        let theirs = described(Some(Limits { reorder: 2, held: 4, ..LIMITS }), Some((5, 1, Some(0x01_01_01))));
        let theirs = SequenceSet::parse(&set(0, 40, theirs)).unwrap();
        assert_eq!((theirs.profile, theirs.level, theirs.macroblocks, theirs.plain), (100, 40, (80, 45), true));
        let ours = SequenceSet::parse(&set(7, 31, described(Some(LIMITS), None))).unwrap();
        let joined = SequenceSet::parse(&ours.speaking_as(&theirs)).unwrap();
        assert_eq!((joined.id, joined.level, joined.macroblocks), (7, 40, (80, 45)));
        assert_eq!(joined.usability.signal, theirs.usability.signal);
        assert_eq!(joined.usability.limits, Some(Limits { reorder: 2, held: 4, ..LIMITS }));
    }

    #[test]
    fn usability_information_is_read_past_buffer_models() {
        let full = |out: &mut Bitstring| {
            out.put(1, 1);
            out.put(1, 1);
            out.put(255, 8);
            out.put(4, 16);
            out.put(3, 16);
            out.put(0, 1); // overscan
            out.put(0, 1); // signal
            out.put(0, 1); // chroma
            out.put(1, 1);
            out.put(1, 32);
            out.put(60, 32);
            out.put(1, 1); // timing
            out.put(1, 1); // first buffer model
            out.golomb(0);
            out.put(0, 8);
            out.golomb(100_000);
            out.golomb(200_000);
            out.put(1, 1);
            out.put(0, 20);
            out.put(0, 1); // second
            out.put(0, 2); // delay, structure
            out.put(1, 1);
            out.put(1, 1);
            [2, 1, 9, 9, 3, 5].into_iter().for_each(|v| out.golomb(v));
        };
        let read = SequenceSet::parse(&set(0, 31, full)).unwrap().usability;
        assert_eq!(read.pixel_aspect, Some((4, 3)));
        assert_eq!(read.limits.map(|l| (l.bytes_denominator, l.reorder, l.held)), Some((2, 3, 5)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_escaping_is_undone(bytes in prop::collection::vec(0u8..5, 0..64)) {
            let _ = SequenceSet::parse(&[&[0x67, 100, 0, 31][..], &bytes].concat());
            let _ = picture_set_ids(&[&[0x68][..], &bytes].concat());
            prop_assert_eq!(unescaped(&escaped(&bytes)), bytes.clone());
            prop_assert!(escaped(&bytes).windows(3).all(|w| w[0] != 0 || w[1] != 0 || w[2] > 2));
        }
    }
}
