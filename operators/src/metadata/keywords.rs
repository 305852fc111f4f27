//! Finds dictionary terms in text: all at once, whole words only, however they are spelt in Unicode.
//!
//! Text and terms are brought to one form first ([`super::fold`]), and a hit counts when no letter or digit touches it on either side. One pass over
//! the words of a text ([`super::first_words`]) gives the few places where any term can begin; from each of them an Aho-Corasick automaton finds all
//! terms that do, at once and however many terms there are.
//!
//! Besides terms there are exclusions, which cancel the terms inside of them ("surgical strike" has no "surgical"), and vetoes.
//!
//! What can go wrong: languages that write without spaces have no word borders to find, so terms in them match only where punctuation or a
//! space surrounds them. The dictionary is meant for languages with spaces.

use std::collections::BTreeMap;

use aho_corasick::automaton::OverlappingState;
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};

use super::first_words::{FirstWords, Words};
use super::fold::{fold, fold_into, is_alphanumeric};

/// More terms than this are refused: the automaton would take gigabytes.
pub const MAX_TERMS: usize = 1_000_000;
/// A longer term is a mistake, such as a paragraph without line breaks.
pub const MAX_TERM_BYTES: usize = 256;
/// Dictionaries of one step: a set of them is a bit each.
pub const MAX_DICTIONARIES: usize = 64;

/// What finding an entry means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A hit.
    Term,
    /// Hits that lie inside of it do not count.
    Exclude,
    /// The text is not wanted, whatever else is in it.
    Veto,
}

/// One entry of a dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Line of the file, or number in a list, from 1.
    pub line: usize,
    /// As written.
    pub text: &'a str,
    /// What finding it means.
    pub role: Role,
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
    /// One entry that is wanted and not wanted.
    #[error("line {line}: `{term}` is both a term and an exclusion or a veto")]
    Contradiction {
        /// Line, from 1.
        line: usize,
        /// The term.
        term: String,
    },
    /// Far too many terms.
    #[error("{0} terms; the limit is {MAX_TERMS}")]
    TooMany(usize),
    /// The automaton does not fit.
    #[error("the terms are too many or too long to search for: {0}")]
    Automaton(String),
}

/// The entries of a dictionary file: one per line; `#` starts a comment, `!` an exclusion, `!!` a veto; blank lines mean nothing.
pub fn entries(dictionary: &str) -> impl Iterator<Item = Entry<'_>> {
    let lines = dictionary.trim_start_matches('\u{feff}').lines().enumerate();
    lines.map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim())).filter(|(_, text)| !text.is_empty()).map(
        |(line, text)| {
            let (text, role) = match (text.strip_prefix("!!"), text.strip_prefix('!')) {
                (Some(veto), _) => (veto.trim(), Role::Veto),
                (None, Some(exclusion)) => (exclusion.trim(), Role::Exclude),
                (None, None) => (text, Role::Term),
            };
            Entry { line, text, role }
        },
    )
}

/// The folded form of an entry, unless it can match nothing.
pub fn folded(entry: &Entry) -> Result<String, KeywordsError> {
    if entry.text.len() > MAX_TERM_BYTES {
        return Err(KeywordsError::TooLong { line: entry.line, bytes: entry.text.len() });
    }
    let text = fold(entry.text);
    match text.contains(char::is_alphanumeric) {
        true => Ok(text),
        false => Err(KeywordsError::NoWord { line: entry.line, term: entry.text.into() }),
    }
}

/// A distinct entry of all dictionaries together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Folded.
    pub text: String,
    /// What finding it means.
    pub role: Role,
    /// A bit for each dictionary that holds it.
    pub dictionaries: u64,
}

/// Collects the entries of dictionaries; doubles are joined.
#[derive(Debug, Default)]
pub struct Collected(BTreeMap<String, (Role, u64)>);

impl Collected {
    /// Adds one dictionary's entries, the dictionary being the `number`th.
    pub fn add<'a>(&mut self, number: usize, entries: impl Iterator<Item = Entry<'a>>) -> Result<(), KeywordsError> {
        for entry in entries {
            let (role, dictionaries) = self.0.entry(folded(&entry)?).or_insert((entry.role, 0));
            if (*role == Role::Term) != (entry.role == Role::Term) {
                return Err(KeywordsError::Contradiction { line: entry.line, term: entry.text.into() });
            }
            *role = entry.role.max(*role);
            *dictionaries |= 1 << number;
        }
        Ok(())
    }

    /// Ready to search.
    pub fn build(self) -> Result<Keywords, KeywordsError> {
        if !self.0.values().any(|(role, _)| *role == Role::Term) {
            return Err(KeywordsError::Empty);
        }
        if self.0.len() > MAX_TERMS {
            return Err(KeywordsError::TooMany(self.0.len()));
        }
        let patterns: Vec<Pattern> =
            self.0.into_iter().map(|(text, (role, dictionaries))| Pattern { text, role, dictionaries }).collect();
        let texts = || patterns.iter().map(|p| p.text.as_str());
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .start_kind(StartKind::Anchored)
            .build(texts())
            .map_err(|e| KeywordsError::Automaton(e.to_string()))?;
        Ok(Keywords { automaton, first_words: FirstWords::of(texts()), patterns })
    }
}

/// Dictionaries, ready to search.
pub struct Keywords {
    automaton: AhoCorasick,
    first_words: FirstWords,
    patterns: Vec<Pattern>,
}

/// What is used again from text to text.
#[derive(Default)]
pub struct Scratch {
    folded: String,
    words: Words,
    places: Vec<usize>,
    hits: Vec<(usize, usize, usize)>,
    exclusions: Vec<(usize, usize)>,
}

impl Keywords {
    /// Terms alone, of one dictionary.
    pub fn new<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Result<Keywords, KeywordsError> {
        let mut collected = Collected::default();
        collected.add(0, entries)?;
        collected.build()
    }

    /// All distinct entries, sorted by their text: the numbers that [`Keywords::find`] gives.
    pub fn patterns(&self) -> &[Pattern] {
        &self.patterns
    }

    /// Appends the numbers of the terms and vetoes that are whole words of `text`, each once, ascending; also those inside longer ones ("heart" in
    /// "heart failure"), but not those inside an exclusion.
    pub fn find(&self, text: &str, scratch: &mut Scratch, found: &mut Vec<usize>) {
        let Scratch { folded, words, places, hits, exclusions } = scratch;
        fold_into(text, folded);
        places.clear();
        self.first_words.places(folded, words, places);
        if places.is_empty() {
            return;
        }
        hits.clear();
        exclusions.clear();
        for &place in places.iter() {
            let input = Input::new(folded.as_str()).range(place..).anchored(Anchored::Yes);
            let mut state = OverlappingState::start();
            loop {
                self.automaton.find_overlapping(input.clone(), &mut state);
                let Some(hit) = state.get_match() else { break };
                let before = folded[..hit.start()].chars().next_back();
                let after = folded[hit.end()..].chars().next();
                if before.is_some_and(is_alphanumeric) || after.is_some_and(is_alphanumeric) {
                    continue;
                }
                let number = hit.pattern().as_usize();
                match self.patterns[number].role {
                    Role::Exclude => exclusions.push((hit.start(), hit.end())),
                    Role::Term | Role::Veto => hits.push((hit.start(), hit.end(), number)),
                }
            }
        }
        let first = found.len();
        reach(exclusions);
        let counts = |number: usize, from, to| self.patterns[number].role == Role::Veto || !is_inside(exclusions, from, to);
        found.extend(hits.iter().filter(|&&(from, to, number)| counts(number, from, to)).map(|hit| hit.2));
        found[first..].sort_unstable();
        dedup_from(found, first);
    }

    /// The terms that [`Keywords::find`] finds in one text.
    pub fn hits(&self, text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        self.find(text, &mut Scratch::default(), &mut found);
        found.into_iter().map(|number| self.patterns[number].text.as_str()).collect()
    }
}

/// Makes each span end where the farthest of it and those before it ends.
fn reach(spans: &mut [(usize, usize)]) {
    spans.sort_unstable();
    let mut farthest = 0;
    for span in spans {
        farthest = farthest.max(span.1);
        span.1 = farthest;
    }
}

/// Whether `from..to` lies inside one of the spans, which [`reach`] has seen.
fn is_inside(spans: &[(usize, usize)], from: usize, to: usize) -> bool {
    let begun = spans.partition_point(|span| span.0 <= from);
    begun > 0 && to <= spans[begun - 1].1
}

/// Removes repetitions from the sorted end of a list.
fn dedup_from(list: &mut Vec<usize>, first: usize) {
    let mut kept = first;
    for at in first..list.len() {
        if at == first || list[at] != list[kept - 1] {
            list[kept] = list[at];
            kept += 1;
        }
    }
    list.truncate(kept);
}

#[cfg(test)]
#[path = "keywords_tests.rs"]
mod tests;
