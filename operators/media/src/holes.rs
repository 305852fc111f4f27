//! What is left out when a remote file is read: samples that nobody will decode are made up instead of fetched.
//!
//! Why: a demuxer reads every sample, also those that the planner takes out behind it. In place of a left-out video sample it gets one unit of the
//! same length that decoders ignore (filler data) with [`MARK`] in it; of other tracks, zeros. Times and sizes come from the index, so they are the
//! same as ever.
//!
//! What can go wrong: a made-up sample reaches a decoder. Nothing lets it: the feed takes out whatever the plan does not keep, and a plan keeps what
//! was looked at.

use std::ops::Range;

use super::MediaError;

/// Tells a made-up sample from a real one.
const MARK: &[u8; 16] = b"curette left out";
/// Bytes of a unit's length, of its header (two in H.265), and the mark.
pub(crate) const LEAST_BYTES: u32 = 4 + 2 + 16;

/// Header of a filler data unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filler {
    H264,
    Hevc,
}

impl Filler {
    fn header(self) -> &'static [u8] {
        match self {
            Filler::H264 => &[12],
            Filler::Hevc => &[38 << 1, 1],
        }
    }
}

/// True for a made-up sample.
pub(crate) fn is_left_out(sample: &[u8]) -> bool {
    [5, 6].iter().any(|at| sample.get(*at..at + MARK.len()) == Some(MARK))
}

/// Gives the bytes from a place on.
pub(crate) type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> Result<(), MediaError> + 'a;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Holes {
    /// What is read as it is: ascending, apart from each other.
    real: Vec<Range<u64>>,
    /// Samples that are made up, by offset; they do not overlap.
    made_up: Vec<(u64, u32)>,
    filler: Filler,
}

impl Holes {
    /// Reads `real` only; everything else is made up.
    pub fn new(mut real: Vec<Range<u64>>, mut made_up: Vec<(u64, u32)>, filler: Filler) -> Self {
        real.retain(|r| !r.is_empty());
        real.sort_unstable_by_key(|r| r.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(real.len());
        for range in real {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        made_up.sort_unstable();
        Holes { real: merged, made_up, filler }
    }

    /// Bytes that are not made up.
    pub fn real_bytes(&self) -> u64 {
        self.real.iter().map(|r| r.end - r.start).sum()
    }

    /// Fills `out` with the bytes from `offset` on; `read` gives real ones.
    pub fn read(&self, offset: u64, out: &mut [u8], read: &mut ReadAt) -> Result<(), MediaError> {
        let end = offset + out.len() as u64;
        out.fill(0);
        let first = self.made_up.partition_point(|(at, size)| at + u64::from(*size) <= offset);
        for (at, size) in self.made_up[first..].iter().take_while(|(at, _)| *at < end) {
            let length = (size - 4).to_be_bytes();
            let head = length.iter().chain(self.filler.header()).chain(MARK);
            for (place, byte) in (*at..).zip(head) {
                if (offset..end).contains(&place) {
                    out[(place - offset) as usize] = *byte;
                }
            }
        }
        let first = self.real.partition_point(|r| r.end <= offset);
        for range in self.real[first..].iter().take_while(|r| r.start < end) {
            let (from, to) = (range.start.max(offset), range.end.min(end));
            read(from, &mut out[(from - offset) as usize..(to - offset) as usize])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_file_with_holes_is_the_same_file() {
        let file: Vec<u8> = (0..400u32).map(|i| (i % 251) as u8 + 1).collect();
        let holes = Holes::new(vec![300..400, 0..10, 5..40, 100..130], vec![(200, 60), (130, 40)], Filler::Hevc);
        assert_eq!(holes.real_bytes(), 170);
        let read = |from: u64, to: u64| {
            let mut out = vec![7; (to - from) as usize];
            let mut real = |at: u64, out: &mut [u8]| {
                out.copy_from_slice(&file[at as usize..at as usize + out.len()]);
                Ok(())
            };
            holes.read(from, &mut out, &mut real).unwrap();
            out
        };
        let whole = read(0, 400);
        for range in [0..40, 100..130, 300..400] {
            assert_eq!(whole[range.clone()], file[range]);
        }
        for (at, size) in [(130usize, 40usize), (200, 60)] {
            let sample = &whole[at..at + size];
            assert_eq!(sample[..4], (size as u32 - 4).to_be_bytes());
            assert!(is_left_out(sample) && !is_left_out(&file[at..at + size]));
        }
        for from in 0..400 {
            for to in (from..=400).step_by(7) {
                assert_eq!(read(from, to), whole[from as usize..to as usize], "{from}..{to}");
            }
        }
        assert!(!is_left_out(b"") && !is_left_out(&[0; 22]));
    }
}
