//! The `avcC` box: how the units of an H.264 track are framed, and its parameter sets (ISO/IEC 14496-15, 5.3.3.1).
//!
//! Why one box for two encoders' sets: a track with several sample descriptions, or with sets inside its packets, is legal and yet read differently
//! by demuxers and browsers. Sets of different numbers in one box are the common case of the standard; a decoder takes the set that a slice names.

/// An `avcC` box's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Avcc {
    pub profile: u8,
    pub compatibility: u8,
    pub level: u8,
    /// Bytes of the length before each unit.
    pub length_bytes: usize,
    /// Sequence parameter sets, headers included.
    pub sequence_sets: Vec<Vec<u8>>,
    /// Picture parameter sets, headers included.
    pub picture_sets: Vec<Vec<u8>>,
}

impl Avcc {
    pub fn parse(bytes: &[u8]) -> Option<Avcc> {
        let [1, profile, compatibility, level, lengths, count, rest @ ..] = bytes else { return None };
        let (sequence_sets, rest) = sets(rest, count & 0x1F)?;
        let (count, rest) = rest.split_first()?;
        let (picture_sets, _) = sets(rest, *count)?;
        let length_bytes = usize::from(lengths & 3) + 1;
        Some(Avcc { profile: *profile, compatibility: *compatibility, level: *level, length_bytes, sequence_sets, picture_sets })
    }

    /// Both streams' sets in one box. `None` if there are more than fit.
    pub fn joined(&self, other: &Avcc) -> Option<Avcc> {
        let mut both = self.clone();
        both.profile = self.profile.max(other.profile);
        both.level = self.level.max(other.level);
        both.compatibility = self.compatibility & other.compatibility;
        both.sequence_sets.extend(other.sequence_sets.iter().cloned());
        both.picture_sets.extend(other.picture_sets.iter().cloned());
        (both.sequence_sets.len() <= 31 && both.picture_sets.len() <= 255).then_some(both)
    }

    /// For 8-bit 4:2:0 streams.
    pub fn bytes(&self) -> Vec<u8> {
        let lengths = 0xFC | (self.length_bytes.clamp(1, 4) - 1) as u8;
        let mut out = vec![1, self.profile, self.compatibility, self.level, lengths, 0xE0 | self.sequence_sets.len() as u8];
        let put = |out: &mut Vec<u8>, set: &Vec<u8>| {
            out.extend((set.len() as u16).to_be_bytes());
            out.extend(set);
        };
        self.sequence_sets.iter().for_each(|set| put(&mut out, set));
        out.push(self.picture_sets.len() as u8);
        self.picture_sets.iter().for_each(|set| put(&mut out, set));
        if [100, 110, 122, 144].contains(&self.profile) {
            out.extend([0xFC | 1, 0xF8, 0xF8, 0]); // 4:2:0, 8 bits, 8 bits, no extensions
        }
        out
    }
}

fn sets(mut rest: &[u8], count: u8) -> Option<(Vec<Vec<u8>>, &[u8])> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (set, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        found.push(set.to_vec());
        rest = tail;
    }
    Some((found, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn joined_sets_are_read_back() {
        let one = |profile, set: u8| Avcc {
            profile,
            compatibility: 0x40,
            level: 30,
            length_bytes: 4,
            sequence_sets: vec![vec![0x67, set]],
            picture_sets: vec![vec![0x68, set, 9]],
        };
        let both = one(66, 1).joined(&one(100, 2)).unwrap();
        assert_eq!((both.profile, both.sequence_sets.len(), both.picture_sets.len()), (100, 2, 2));
        assert_eq!(Avcc::parse(&both.bytes()), Some(both));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
            let _ = Avcc::parse(&[&[1, 100, 0, 31, 0xFF, 0xE1][..], &bytes].concat());
            let _ = Avcc::parse(&bytes);
        }
    }
}
