//! How many words stand on screen: pure counting over the lines that were read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What counts as a word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Whatever stands between spaces.
    #[default]
    Words,
    /// The larger of that and a fifth of all letters and digits, rounded down: recognisers lose spaces, not letters. Long words count for more.
    WordsOrChars,
}

/// Letters and digits of one word in [`Count::WordsOrChars`].
const CHARACTERS_PER_WORD: usize = 5;
/// Longest text that is kept of all lines together, in characters.
const MAX_TEXT: usize = 1000;

/// Adds up lines of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    words: usize,
    characters: usize,
    text: String,
    length: usize,
}

impl Tally {
    /// Adds a line.
    pub fn add(&mut self, line: &str) {
        self.words += line.split_whitespace().count();
        self.characters += line.chars().filter(|c| c.is_alphanumeric()).count();
        let separator = if self.text.is_empty() { "" } else { "\n" };
        for c in separator.chars().chain(line.trim().chars()).take(MAX_TEXT - self.length) {
            self.text.push(c);
            self.length += 1;
        }
    }

    /// Words so far.
    pub fn count(&self, count: Count) -> usize {
        match count {
            Count::Words => self.words,
            Count::WordsOrChars => self.words.max(self.characters / CHARACTERS_PER_WORD),
        }
    }

    /// The beginning of what was read, one line each.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(line));
        tally
    }

    #[test]
    fn words_stand_between_spaces() {
        let t = tally(&[" The left  ventricle", "8 mm - polyp"]);
        assert_eq!((t.count(Count::Words), t.text()), (7, "The left  ventricle\n8 mm - polyp"));
        assert_eq!(tally(&[]).count(Count::WordsOrChars), 0);
    }

    #[test]
    fn lost_spaces_are_made_up_for_by_letters() {
        let t = tally(&["theleftventriclefills", "duringdiastole"]);
        assert_eq!((t.count(Count::Words), t.count(Count::WordsOrChars)), (2, 7));
        let t = tally(&["心脏超声检查显示左心室"]);
        assert_eq!((t.count(Count::Words), t.count(Count::WordsOrChars)), (1, 2));
        assert_eq!(tally(&["a b c"]).count(Count::WordsOrChars), 3, "the larger of both");
    }

    #[test]
    fn the_kept_text_is_bounded() {
        let long = "é".repeat(700);
        let t = tally(&[&long, &long, &long]);
        assert_eq!(t.text().chars().count(), MAX_TEXT);
        assert_eq!(t.count(Count::WordsOrChars), 420);
    }
}
