//! Where in a text can a term begin? Nowhere, for most texts of a broad crawl; so this is asked before a costlier search, which then looks at these
//! places only.
//!
//! A hit is not touched by letters or digits, so the first run of letters and digits of a term is a whole word of the text. One look at each word in
//! a small table of bits tells whether some term may begin so. Words are found with a bit per byte, because a branch per byte is guessed wrong at
//! each end of a word.
//!
//! What can go wrong: two words with one bit are taken for each other, which costs time and no hit. With a million terms most bits are set and the
//! question is idle.

use super::fold::is_alphanumeric;

/// 2 to this power bits at least: 8 KiB stay in the fastest cache.
const MIN_BITS_LOG2: u32 = 16;
/// As many bits for each word, so that few are set.
const BITS_PER_WORD: usize = 16;
const MAX_BITS_LOG2: u32 = 24;
/// Bytes of a word that are looked at, besides its length.
const PREFIX: usize = 8;

/// The first words of all terms.
pub(super) struct FirstWords {
    bits: Vec<u64>,
    shift: u32,
    /// Bytes before the first word of a term: 0, and what terms such as `-itis` have.
    before: Vec<usize>,
}

impl FirstWords {
    pub(super) fn of<'a>(terms: impl Iterator<Item = &'a str> + Clone) -> FirstWords {
        let wanted = (terms.clone().count() * BITS_PER_WORD).next_power_of_two().ilog2();
        let log2 = wanted.clamp(MIN_BITS_LOG2, MAX_BITS_LOG2);
        let mut all = FirstWords { bits: vec![0; 1 << (log2 - 6)], shift: 64 - log2, before: Vec::new() };
        let mut words = Words::default();
        for term in terms {
            words.look(term);
            let Some(&(from, to)) = words.found.first() else { continue };
            let bit = all.bit(term.as_bytes(), from, to);
            all.bits[bit / 64] |= 1 << (bit % 64);
            all.before.push(from);
        }
        all.before.sort_unstable();
        all.before.dedup();
        all
    }

    /// Appends the places of a folded text where a term may begin: whatever term is in it begins at one of them. Ascending but for terms that do not
    /// begin with a letter or digit.
    pub(super) fn places(&self, folded: &str, words: &mut Words, places: &mut Vec<usize>) {
        words.look(folded);
        for &(from, to) in &words.found {
            let bit = self.bit(folded.as_bytes(), from, to);
            if self.bits[bit / 64] >> (bit % 64) & 1 == 1 {
                places.extend(self.before.iter().filter_map(|before| from.checked_sub(*before)));
            }
        }
    }

    /// The bit of a word: of its first bytes and its length.
    #[inline]
    fn bit(&self, bytes: &[u8], from: usize, to: usize) -> usize {
        let length = to - from;
        let prefix = match bytes.get(from..from + PREFIX).and_then(|b| <[u8; PREFIX]>::try_from(b).ok()) {
            Some(eight) => u64::from_le_bytes(eight),
            None => {
                let mut eight = [0; PREFIX];
                let rest = bytes.len().min(from + PREFIX) - from;
                eight[..rest].copy_from_slice(&bytes[from..from + rest]);
                u64::from_le_bytes(eight)
            }
        };
        let prefix = if length < PREFIX { prefix & ((1 << (8 * length)) - 1) } else { prefix };
        let mixed = (prefix ^ (length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

/// The words of a text: runs of letters and digits, as byte ranges. Used again from text to text.
#[derive(Default)]
pub(super) struct Words {
    /// A bit for each byte: part of a letter or digit.
    mask: Vec<u64>,
    found: Vec<(usize, usize)>,
}

const ALPHANUMERIC: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    table
};

impl Words {
    fn look(&mut self, text: &str) {
        self.mask.clear();
        self.found.clear();
        for chunk in text.as_bytes().chunks(64) {
            let bits = chunk.iter().enumerate().map(|(at, &b)| u64::from(ALPHANUMERIC[b as usize]) << at);
            self.mask.push(bits.fold(0, |all, bit| all | bit));
        }
        // A word at the very end ends before a bit that is not set.
        self.mask.push(0);
        for (index, chunk) in text.as_bytes().chunks(64).enumerate().filter(|(_, chunk)| !chunk.is_ascii()) {
            for at in (0..chunk.len()).filter(|&at| chunk[at] >= 0xC0).map(|at| index * 64 + at) {
                let Some(c) = text[at..].chars().next().filter(|c| is_alphanumeric(*c)) else { continue };
                (at..at + c.len_utf8()).for_each(|byte| self.mask[byte / 64] |= 1 << (byte % 64));
            }
        }
        let (mut last, mut from, mut inside) = (0, 0, false);
        for (index, &word) in self.mask.iter().enumerate() {
            // Set where a byte differs from the one before: words begin and end in turn.
            let mut turns = word ^ (word << 1 | last);
            last = word >> 63;
            while turns != 0 {
                let at = index * 64 + turns.trailing_zeros() as usize;
                if inside {
                    self.found.push((from, at));
                } else {
                    from = at;
                }
                inside = !inside;
                turns &= turns - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let mut words = Words::default();
        words.look("something else before");
        words.look(text);
        words.found.iter().map(|&(from, to)| &text[from..to]).collect()
    }

    fn places(terms: &[&str], text: &str) -> Vec<usize> {
        let mut places = Vec::new();
        FirstWords::of(terms.iter().copied()).places(text, &mut Words::default(), &mut places);
        places.sort_unstable();
        places
    }

    #[test]
    fn places_where_a_term_may_begin() {
        let terms = ["heart failure", "x-ray", "-itis"];
        for (text, expected) in
            [("a heart", &[1, 2][..]), ("failure ray", &[]), ("x", &[0]), ("hearts", &[]), ("x-itis", &[0, 1, 2]), ("", &[])]
        {
            assert_eq!(places(&terms, text), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn words_are_runs_of_letters_and_digits(text in "[a-c9 .,é中-]{0,200}") {
            let expected: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            prop_assert_eq!(words(&text), expected);
        }

        #[test]
        fn no_place_of_a_term_is_missed(
            terms in prop::collection::vec("[ -.]{0,2}[a-cé中]{1,12}[ -.a]{0,3}", 1..5),
            pick in 0usize..5, before in "[ .a]{0,4}", after in "[ .a]{0,9}",
        ) {
            let term = &terms[pick % terms.len()];
            let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            let touched_behind = word(term.chars().next_back()) && word(after.chars().next());
            prop_assume!(!touched_behind);
            // What touches a term's first word makes another word of it.
            prop_assume!(!(word(before.chars().next_back()) && word(term.chars().next())));
            let text = format!("{before}{term}{after}");
            let all: Vec<&str> = terms.iter().map(String::as_str).collect();
            prop_assert!(places(&all, &text).contains(&before.len()), "{:?} in {:?}", term, text);
        }
    }
}
