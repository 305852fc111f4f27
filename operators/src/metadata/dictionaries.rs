//! The dictionaries of one `keyword_filter` step: its files and its lists, together one search.
//!
//! What can go wrong: a file that is no list of terms, or a list that holds nothing to search for. The error says which key, and the line or entry.

use curette_engine::operator::Paths;

use super::keyword_filter::KeywordFilter;
use super::keywords::{Collected, Entry, Keywords, KeywordsError, MAX_DICTIONARIES, MAX_TERM_BYTES, Role, entries};

/// Name of the dictionary of the key `dictionary`.
pub const MAIN: &str = "dictionary";
/// Name of the dictionary of the key `terms`.
pub const INLINE: &str = "terms";
/// Larger dictionary files are refused.
pub const MAX_DICTIONARY_BYTES: u64 = 64 << 20;

/// All dictionaries of a step.
pub struct Dictionaries {
    /// Their names; a pattern's bits count from the first.
    pub names: Vec<String>,
    /// Their entries.
    pub keywords: Keywords,
}

/// The text of a dictionary file.
pub fn read(path: &std::path::Path) -> Result<String, String> {
    let bytes = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if bytes > MAX_DICTIONARY_BYTES {
        return Err(format!("{bytes} bytes; the limit for a dictionary is {MAX_DICTIONARY_BYTES}"));
    }
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

/// Reads the dictionaries of a step; else the key that is at fault, and why.
pub fn load(step: &KeywordFilter, paths: &Paths) -> Result<Dictionaries, (&'static str, String)> {
    let names = step.dictionary_names();
    if names.len() > MAX_DICTIONARIES {
        return Err(("dictionaries", format!("{} dictionaries; the limit is {MAX_DICTIONARIES}", names.len())));
    }
    let main = step.dictionary.iter().map(|file| ("dictionary", "dictionary".to_owned(), file));
    let more = step.dictionaries.iter().map(|(name, file)| ("dictionaries", format!("dictionary `{name}`:"), file));
    let mut collected = Collected::default();
    for (number, (key, who, file)) in main.chain(more).enumerate() {
        let path = paths.resolve(file);
        let text = read(&path).map_err(|e| (key, format!("{who} {}: {e}", path.display())))?;
        let is_empty = !entries(&text).any(|entry| entry.role == Role::Term);
        let added = collected.add(number, entries(&text));
        // A file of exclusions alone goes with other dictionaries, not by itself.
        let alone = names.len() == 1 && is_empty;
        if let Err(error) = added.and(if alone { Err(KeywordsError::Empty) } else { Ok(()) }) {
            return Err((key, format!("{who} `{file}`: {error}")));
        }
    }
    let inline = names.len() - usize::from(!step.terms.is_empty());
    for (key, list, role) in
        [(INLINE, &step.terms, Role::Term), ("exclude", &step.exclude, Role::Exclude), ("veto", &step.veto, Role::Veto)]
    {
        let list = list.iter().enumerate().map(|(index, text)| Entry { line: index + 1, text, role });
        // Exclusions belong to no dictionary in particular; the first will do.
        let number = if role == Role::Term { inline } else { 0 };
        collected.add(number, list).map_err(|e| (key, in_list(key, &e)))?;
    }
    let key = if step.terms.is_empty() { "dictionary" } else { INLINE };
    let keywords = collected.build().map_err(|e| (key, format!("`{key}`: {e}")))?;
    Ok(Dictionaries { names, keywords })
}

/// What is wrong with an entry of a list in the pipeline file, which has no lines.
fn in_list(key: &str, error: &KeywordsError) -> String {
    match error {
        KeywordsError::NoWord { line, term } => format!("`{key}`: entry {line}: `{term}` has no letter or digit"),
        KeywordsError::TooLong { line, bytes } => {
            format!("`{key}`: entry {line}: a term of {bytes} bytes; the limit is {MAX_TERM_BYTES}")
        }
        KeywordsError::Contradiction { line, term } => {
            format!("`{key}`: entry {line}: `{term}` is both a term and an exclusion or a veto")
        }
        e @ (KeywordsError::Empty | KeywordsError::TooMany(_) | KeywordsError::Automaton(_)) => format!("`{key}`: {e}"),
    }
}
