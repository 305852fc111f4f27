//! What sampling needs of H.264 beyond unit headers: whether every picture is a frame, never a field (sequence parameter sets, 7.3.2.1.1), and whether
//! a picture is a recovery point (supplemental messages, 7.3.2.3.1 and D.2.8).

/// Bits of a byte string, first bit first.
pub(crate) struct Bits<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Bits<'_> {
    /// The next `count` bits (at most 32) as a number.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number of at most 24 bits.
    pub fn golomb(&mut self) -> Option<u32> {
        self.golomb_of(24)
    }

    /// One of at most `bits` bits (31 or less).
    pub fn golomb_of(&mut self, bits: u32) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > bits {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// Past `count` such numbers.
    pub fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.golomb().map(drop))
    }

    /// A signed one.
    fn signed(&mut self) -> Option<i32> {
        let code = self.golomb()? as i32;
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -code / 2 })
    }
}

/// The first half of a sequence parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub profile: u32,
    pub id: u32,
    /// 1: 4:2:0.
    pub chroma: u32,
    /// Bits beyond 8 of luma and chroma.
    pub extra_depth: u32,
    /// Width in macroblocks.
    pub columns: u32,
    /// Height in macroblocks, or in pairs of them.
    pub rows: u32,
    pub frames_only: bool,
}

/// Reads a set (unescaped, without its one-byte header) up to and with the flag for frames; `None` if it cannot be read.
pub(crate) fn beginning(bits: &mut Bits) -> Option<Beginning> {
    const MOST_OFFSETS: u32 = 255;
    let profile = bits.take(8)?;
    bits.take(16)?; // constraints, level
    let id = bits.golomb()?;
    let (mut chroma, mut extra_depth) = (1, 0);
    if [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244].contains(&profile) {
        chroma = bits.golomb()?;
        if chroma == 3 {
            bits.take(1)?;
        }
        extra_depth = bits.golomb()?.saturating_add(bits.golomb()?);
        bits.take(1)?; // transform bypass
        if bits.take(1)? == 1 {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.take(1)? == 1 {
                    skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.golomb()?; // size of frame numbers
    match bits.golomb()? {
        0 => drop(bits.golomb()?),
        1 => {
            bits.take(1)?;
            bits.skip(2)?;
            let offsets = bits.golomb().filter(|n| *n <= MOST_OFFSETS)?;
            bits.skip(offsets)?;
        }
        _ => {}
    }
    bits.skip(1)?; // references
    bits.take(1)?; // gaps
    let (columns, rows) = (bits.golomb()?.saturating_add(1), bits.golomb()?.saturating_add(1));
    let frames_only = bits.take(1)? == 1;
    Some(Beginning { profile, id, chroma, extra_depth, columns, rows, frames_only })
}

/// True if the set (without its one-byte header) allows whole frames only; `None` if it cannot be read.
pub(crate) fn frames_only(set: &[u8]) -> Option<bool> {
    let bytes = unescaped(set);
    beginning(&mut Bits { bytes: &bytes, at: 0 }).map(|b| b.frames_only)
}

fn skip_scaling_list(bits: &mut Bits, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.signed()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}

/// True if one of the messages says that decoding may begin here.
pub(crate) fn is_recovery_point(messages: &[u8]) -> bool {
    const RECOVERY_POINT: usize = 6;
    let bytes = unescaped(messages);
    let mut rest = bytes.as_slice();
    while let (Some(kind), Some(size)) = (number(&mut rest), number(&mut rest)) {
        if kind == RECOVERY_POINT {
            return true;
        }
        rest = rest.get(size..).unwrap_or_default();
    }
    false
}

/// A number in whole bytes: 255 as often as it fits, then the rest.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    loop {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value += usize::from(*byte);
        if *byte != 0xFF {
            return Some(value);
        }
    }
}

/// Without the bytes that keep start codes out of the data.
pub(crate) fn unescaped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
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

    #[test]
    fn frames_and_fields_are_told_apart() {
        // Baseline 1280x720, as written out by hand: profile 66, set 0, frame numbers of 4 bits, order type 2, 1 reference, 80 x 45 macroblocks.
        let set = |frames_only: &str| {
            let bits = format!(
                "{:08b}{:016b}1{}{}{}{}{}{}{frames_only}1",
                66, 0x001F, "1", "011", "010", "0", "0000001010000", "00000101101"
            );
            let mut bytes: Vec<u8> = Vec::new();
            for chunk in bits.as_bytes().chunks(8) {
                let text = format!("{:0<8}", std::str::from_utf8(chunk).unwrap());
                bytes.push(u8::from_str_radix(&text, 2).unwrap());
            }
            bytes
        };
        assert_eq!((frames_only(&set("1")), frames_only(&set("0"))), (Some(true), Some(false)));
        assert_eq!(frames_only(&set("1")[..4]), None);
        assert_eq!(unescaped(&[0, 0, 3, 1, 0, 0, 3, 0, 3]), [0, 0, 1, 0, 0, 0, 3]);
    }

    #[test]
    fn recovery_points_are_found_among_other_messages() {
        assert!(is_recovery_point(&[6, 1, 0xC4, 0x80]));
        assert!(is_recovery_point(&[5, 2, 9, 9, 6, 1, 0xC4, 0x80]));
        assert!(!is_recovery_point(&[5, 3, 6, 1, 6, 0x80]));
        assert!(!is_recovery_point(&[0xFF]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = (frames_only(&bytes), is_recovery_point(&bytes));
            let _ = frames_only(&[&[100, 0, 31][..], &bytes].concat());
        }
    }
}
