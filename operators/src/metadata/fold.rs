//! One form for all spellings of a text, so that a dictionary's terms can be compared byte by byte.
//!
//! [`fold`] is the definition; [`fold_into`] gives the same text without normalising what is normal already, because most of a catalogue is ASCII and
//! the rest is ASCII with a few signs in it. It may cut a text before any ASCII character: none of them joins what stands before it.
//!
//! What can go wrong: a text in another script is folded character by character and takes several times as long.

use std::sync::LazyLock;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// NFKC, case-folded, blanks collapsed, typographic hyphens and apostrophes made plain.
///
/// Case is folded by upper- then lower-casing each character, which joins `ß` with `ss` and `ς` with `σ` as Unicode's full folding does.
pub fn fold(text: &str) -> String {
    letters(text).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As [`fold`], before blanks are collapsed.
fn letters(text: &str) -> impl Iterator<Item = char> {
    text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().map(plain)
}

fn plain(c: char) -> char {
    match c {
        '\u{2010}' | '\u{2011}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        other => other,
    }
}

/// A set of the characters below U+10000.
pub(super) struct Bits(Vec<u64>);

impl Bits {
    fn of(test: impl Fn(char) -> bool) -> Bits {
        let mut bits = vec![0u64; 0x1_0000 / 64];
        for code in (0..0x1_0000u32).filter(|&code| char::from_u32(code).is_some_and(&test)) {
            bits[code as usize / 64] |= 1 << (code % 64);
        }
        Bits(bits)
    }

    /// `None`: the character is not below U+10000.
    pub(super) fn has(&self, c: char) -> Option<bool> {
        self.0.get(c as usize / 64).map(|word| word >> (c as u32 % 64) & 1 == 1)
    }
}

/// Characters that change no case and are no blank: in a normal text they stay.
static STAYS: LazyLock<Bits> = LazyLock::new(|| {
    let same = |c: char| c.to_uppercase().flat_map(char::to_lowercase).map(plain).eq([c]);
    Bits::of(|c| same(c) && !c.is_whitespace())
});
static ALPHANUMERIC: LazyLock<Bits> = LazyLock::new(|| Bits::of(char::is_alphanumeric));

/// As [`char::is_alphanumeric`], faster.
pub(super) fn is_alphanumeric(c: char) -> bool {
    ALPHANUMERIC.has(c).unwrap_or_else(|| c.is_alphanumeric())
}

/// Appends a character, and a blank only behind something else.
fn push(out: &mut Vec<u8>, c: char) {
    if !c.is_whitespace() {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else if !is_behind_blank(out) {
        out.push(b' ');
    }
}

/// At the start or behind a blank no further blank is kept.
fn is_behind_blank(out: &[u8]) -> bool {
    out.last().is_none_or(|&b| b == b' ')
}

/// Replaces `out` by the folded text.
pub fn fold_into(text: &str, out: &mut String) {
    let mut bytes = std::mem::take(out).into_bytes();
    bytes.clear();
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = first_other(rest);
        // The last ASCII character may join what follows: `e` and an accent.
        let alone = if ascii < rest.len() { ascii.saturating_sub(1) } else { ascii };
        push_ascii(&rest.as_bytes()[..alone], &mut bytes);
        rest = &rest[alone..];
        let other = rest.bytes().skip(1).position(|b| b < 0x80).map_or(rest.len(), |at| at + 1);
        push_run(&rest[..other], &mut bytes);
        rest = &rest[other..];
    }
    if bytes.ends_with(b" ") {
        bytes.pop();
    }
    // Only whole characters were appended.
    *out = String::from_utf8(bytes).unwrap_or_default();
}

/// Where the first byte is that is not ASCII.
fn first_other(text: &str) -> usize {
    const STEP: usize = 32;
    let bytes = text.as_bytes();
    let skipped = bytes.chunks(STEP).take_while(|chunk| chunk.is_ascii()).map(<[u8]>::len).sum::<usize>();
    skipped + bytes[skipped..].iter().take_while(|b| b.is_ascii()).count()
}

/// Lower case, and every blank the same.
const PLAIN_ASCII: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        table[b] = if matches!(byte, 9..=13) { b' ' } else { byte.to_ascii_lowercase() };
        b += 1;
    }
    table
};

/// Appends text that is ASCII throughout. Without a branch for each byte: most of the time of a run over a catalogue would be spent on wrong guesses.
fn push_ascii(text: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    let mut behind_blank = is_behind_blank(out);
    out.resize(from + text.len(), 0);
    let free = &mut out[from..];
    let mut used = 0;
    for &b in text {
        let plain = PLAIN_ASCII[b as usize];
        let blank = plain == b' ';
        free[used] = plain;
        used += usize::from(!(blank & behind_blank));
        behind_blank = blank;
    }
    out.truncate(from + used);
}

/// Appends one character of any kind and what is not ASCII behind it.
fn push_run(run: &str, out: &mut Vec<u8>) {
    let from = out.len();
    if is_nfkc_quick(run.chars()) == IsNormalized::Yes {
        let mut moved = false;
        for c in run.chars() {
            if STAYS.has(c).unwrap_or(false) {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                moved |= !c.is_ascii();
                c.to_uppercase().flat_map(char::to_lowercase).map(plain).for_each(|c| push(out, c));
            }
        }
        // Another case may be no normal form; blanks are none of its business.
        let normal = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|t| is_nfkc_quick(t.chars()) == IsNormalized::Yes);
        if !moved || normal(&out[from..]) {
            return;
        }
        out.truncate(from);
    }
    letters(run).for_each(|c| push(out, c));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fast(text: &str) -> String {
        let mut out = "old".to_owned();
        fold_into(text, &mut out);
        out
    }

    #[test]
    fn the_fast_way_folds_as_the_definition_does() {
        for text in [
            "",
            " ",
            "  a  B ",
            "a\tb\n\nc\u{b}d",
            "plain text",
            " x",
            "x ",
            "CAFE\u{301} straße ΣΊΣΥΦΟΣ",
            "a\u{a0}\u{2003}b",
            "ﬁ ﬀ ½ ™ … ｜",
            "\u{ff28}\u{ff25}",
            "İstanbul ı",
            "\u{2011}x\u{2019}s",
            "\u{301}",
            "e\u{323}\u{301}",
            "각 \u{1100}\u{1161}\u{11a8}",
            "\u{2028}x\u{85}",
            "𝐇𝐞𝐚𝐫𝐭 🫀 \u{fe0f}",
            "ŉ ǰ ΐ",
            "a \u{301}b",
            "\u{345}α\u{345}",
            "ẞ",
            "\u{1c}a\u{1f}b",
        ] {
            assert_eq!(fast(text), fold(text), "{text:?}");
        }
    }

    #[test]
    fn every_character_alone_and_among_others() {
        for c in (0..0x2_0000).chain(0xE_0000..0xE_0200).filter_map(char::from_u32) {
            let text = format!("A {c} b{c}c");
            assert_eq!(fast(&text), fold(&text), "U+{:04X}", c as u32);
            assert_eq!(is_alphanumeric(c), c.is_alphanumeric(), "U+{:04X}", c as u32);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_folded_alike(text in "(\\PC|[a-zA-Z \\t]|[\u{300}-\u{345}]|[ßİıΣςﬁ…｜\u{a0}\u{2019}\u{1100}-\u{11ff}]){0,24}") {
            prop_assert_eq!(fast(&text), fold(&text));
        }

        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
