//! Finds dictionary terms in text: all at once, whole words only, however they are spelt in Unicode.
//!
//! Why Aho-Corasick: thousands of terms against millions of titles in one pass, whatever their number. Text and terms are brought to one form first
//! ([`fold`]), and a hit counts when no letter or digit touches it on either side.
//!
//! What can go wrong: languages that write without spaces have no word borders to find, so terms in them match only where punctuation or a
//! space surrounds them. The dictionary is meant for languages with spaces.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use unicode_normalization::UnicodeNormalization;

/// More terms than this are refused: the automaton would take gigabytes.
pub const MAX_TERMS: usize = 1_000_000;
/// A longer term is a mistake, such as a paragraph without line breaks.
pub const MAX_TERM_BYTES: usize = 256;

/// A set of terms, ready to search.
pub struct Keywords {
    automaton: AhoCorasick,
    terms: Vec<String>,
}

/// A dictionary that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeywordsError {
    /// Nothing in it.
    #[error("it holds no term")]
    Empty,
    /// A line that can match nothing.
    #[error("line {line}: `{term}` has no letter or digit")]
    NoWord {
        /// Line, from 1.
        line: usize,
        /// The term.
        term: String,
    },
    /// A line that is far too long.
    #[error("line {line}: a term of {bytes} bytes; the limit is {MAX_TERM_BYTES}")]
    TooLong {
        /// Line, from 1.
        line: usize,
        /// Its length.
        bytes: usize,
    },
    /// Far too many terms.
    #[error("{0} terms; the limit is {MAX_TERMS}")]
    TooMany(usize),
    /// The automaton does not fit.
    #[error("the terms are too many or too long to search for: {0}")]
    Automaton(String),
}

/// One form for all spellings: NFKC, case-folded, blanks collapsed, typographic hyphens and apostrophes made plain.
///
/// Case is folded by upper- then lower-casing each character, which joins `ß` with `ss` and `ς` with `σ` as Unicode's full folding does.
pub fn fold(text: &str) -> String {
    let folded: String = text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().map(plain).collect();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn plain(c: char) -> char {
    match c {
        '\u{2010}' | '\u{2011}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        other => other,
    }
}

/// The terms of a dictionary file with their line numbers: one per line, `#` starts a comment, blank lines mean nothing.
pub fn lines(dictionary: &str) -> impl Iterator<Item = (usize, &str)> {
    dictionary
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim()))
        .filter(|(_, term)| !term.is_empty())
}

impl Keywords {
    /// Terms with their line numbers; doubles are joined.
    pub fn new<'a>(terms: impl Iterator<Item = (usize, &'a str)>) -> Result<Keywords, KeywordsError> {
        let mut unique = BTreeSet::new();
        for (line, term) in terms {
            if term.len() > MAX_TERM_BYTES {
                return Err(KeywordsError::TooLong { line, bytes: term.len() });
            }
            let folded = fold(term);
            if !folded.contains(char::is_alphanumeric) {
                return Err(KeywordsError::NoWord { line, term: term.into() });
            }
            unique.insert(folded);
        }
        if unique.is_empty() {
            return Err(KeywordsError::Empty);
        }
        if unique.len() > MAX_TERMS {
            return Err(KeywordsError::TooMany(unique.len()));
        }
        let terms: Vec<String> = unique.into_iter().collect();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&terms)
            .map_err(|e| KeywordsError::Automaton(e.to_string()))?;
        Ok(Keywords { automaton, terms })
    }

    /// How many distinct terms there are.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Never: a dictionary without terms is refused.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Adds the terms that are whole words of `text` to `hits`; also those inside longer ones ("heart" in "heart failure").
    pub fn find<'a>(&'a self, text: &str, hits: &mut BTreeSet<&'a str>) {
        let text = fold(text);
        for found in self.automaton.find_overlapping_iter(&text) {
            let before = text[..found.start()].chars().next_back();
            let after = text[found.end()..].chars().next();
            if !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric) {
                hits.insert(&self.terms[found.pattern().as_usize()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find<'a>(terms: &[&str], text: &str, keywords: &'a mut Option<Keywords>) -> Vec<&'a str> {
        let keywords = keywords.insert(Keywords::new(terms.iter().copied().enumerate()).unwrap());
        let mut hits = BTreeSet::new();
        keywords.find(text, &mut hits);
        hits.into_iter().collect()
    }

    fn hits(terms: &[&str], text: &str) -> Vec<String> {
        find(terms, text, &mut None).into_iter().map(str::to_string).collect()
    }

    #[test]
    fn only_whole_words_count_in_any_spelling() {
        let terms = ["heart", "heart failure", "x-ray", "café", "Straße", "crohn's disease", "ct"];
        assert_eq!(hits(&terms, "HEART\n  failure"), ["heart", "heart failure"]);
        assert_eq!(hits(&terms, "hearts sweetheart heart2heart"), Vec::<String>::new());
        assert_eq!(hits(&terms, "(heart)_ct."), ["ct", "heart"]);
        assert_eq!(hits(&terms, "X\u{2011}Ray of CAFE\u{301} in der STRASSE"), ["café", "strasse", "x-ray"]);
        assert_eq!(hits(&terms, "Crohn\u{2019}s Disease"), ["crohn's disease"]);
        assert_eq!(hits(&terms, "\u{ff28}\u{ff25}\u{ff21}\u{ff32}\u{ff34}"), ["heart"]);
        assert_eq!(hits(&terms, "infarct action"), Vec::<String>::new());
    }

    #[test]
    fn useless_dictionaries_are_refused_with_the_line() {
        let error = |text: &str| Keywords::new(lines(text)).err().unwrap().to_string();
        assert_eq!(error("# only\n\n  # comments"), "it holds no term");
        assert_eq!(error("ok\n--- # x"), "line 2: `---` has no letter or digit");
        assert_eq!(error(&"x".repeat(300)), "line 1: a term of 300 bytes; the limit is 256");
        assert_eq!(Keywords::new(lines("\u{feff}a b # c\nA  B\n")).unwrap().len(), 1);
    }

    /// The obvious way: look for each term at each place.
    fn oracle(terms: &[String], text: &str) -> Vec<String> {
        let text = fold(text);
        let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let mut found: Vec<String> = terms
            .iter()
            .map(|term| fold(term))
            .filter(|term| {
                text.char_indices().any(|(at, _)| {
                    text[at..].starts_with(term.as_str())
                        && !word(text[..at].chars().next_back())
                        && !word(text[at + term.len()..].chars().next())
                })
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }

    fn words() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["a", "b", "A", "ß", "ss", "é", "e\u{301}", "ς", "Σ", " ", "-", "_", "1", "中", "ﬁ", "i"]),
            1..8,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn finds_exactly_what_the_obvious_search_finds(
            terms in prop::collection::vec(words(), 1..8),
            text in prop::collection::vec(words(), 0..12).prop_map(|w| w.join(" ")),
        ) {
            let terms: Vec<String> = terms.into_iter().filter(|t| fold(t).contains(char::is_alphanumeric)).collect();
            prop_assume!(!terms.is_empty());
            let keywords = Keywords::new(terms.iter().map(|t| (1, t.as_str()))).unwrap();
            let mut hits = BTreeSet::new();
            keywords.find(&text, &mut hits);
            let hits: Vec<String> = hits.into_iter().map(str::to_string).collect();
            prop_assert_eq!(hits, oracle(&terms, &text));
        }

        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,20}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
        }
    }
}
