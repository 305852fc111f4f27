//! Which character each class of the recogniser stands for. Class 0 is the blank of CTC.
//!
//! Three places where it comes from: the model's metadata key `character` (PP-OCR exports), a file with one character a line (PaddleOCR's keys), or an EasyOCR
//! manifest (YAML with `character_list`). The first two leave out the space, which is the last class; EasyOCR's list has it in its place.

/// The characters of a recogniser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dictionary {
    characters: Vec<String>,
}

/// Larger dictionary files are refused: 4 MiB. The largest known one has 20,000 characters.
pub const MAX_FILE_BYTES: usize = 4 << 20;

/// Why a file is no dictionary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DictionaryError {
    /// There is nothing in it.
    #[error("the dictionary is empty")]
    Empty,
    /// Too long.
    #[error("the dictionary has {0} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLarge(usize),
    /// An EasyOCR manifest whose list cannot be read.
    #[error("`character_list` of the manifest must be one text on the line of its key, plain or in quotes")]
    Manifest,
}

impl Dictionary {
    /// One character a line, as in the metadata of PP-OCR models; a space is added as the last one.
    pub fn from_lines(lines: &str) -> Self {
        let mut characters: Vec<String> = lines.lines().map(str::to_owned).collect();
        characters.push(" ".to_owned());
        Dictionary { characters }
    }

    /// Every character of a text is a class, in order, as in EasyOCR.
    pub fn from_characters(text: &str) -> Self {
        Dictionary { characters: text.chars().map(String::from).collect() }
    }

    /// A dictionary file: an EasyOCR manifest if one of its lines begins with `character_list:`, else one character a line.
    pub fn from_file(text: &str) -> Result<Self, DictionaryError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.len() > MAX_FILE_BYTES {
            return Err(DictionaryError::TooLarge(text.len()));
        }
        let list = text.lines().find_map(|line| line.strip_prefix("character_list:"));
        let dictionary = match list {
            Some(value) => Self::from_characters(&scalar(value.trim()).ok_or(DictionaryError::Manifest)?),
            None if text.trim().is_empty() => return Err(DictionaryError::Empty),
            None => Self::from_lines(text),
        };
        if dictionary.characters.is_empty() { Err(DictionaryError::Empty) } else { Ok(dictionary) }
    }

    /// Classes of the recogniser: all characters and the blank.
    pub fn classes(&self) -> usize {
        self.characters.len() + 1
    }

    /// The character of a class; nothing for the blank and for classes that do not exist.
    pub fn character(&self, class: usize) -> &str {
        class.checked_sub(1).and_then(|i| self.characters.get(i)).map_or("", String::as_str)
    }

    /// Number of characters.
    pub fn len(&self) -> usize {
        self.characters.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }
}

/// A YAML text on one line. A quoted one keeps its spaces.
fn scalar(value: &str) -> Option<String> {
    match value.chars().next()? {
        '\'' => value[1..].strip_suffix('\'').map(|inner| inner.replace("''", "'")),
        '"' => {
            let (mut out, mut characters) = (String::new(), value[1..].strip_suffix('"')?.chars());
            while let Some(c) = characters.next() {
                match (c, c == '\\') {
                    (_, false) => out.push(c),
                    (_, true) => out.push(characters.next().filter(|e| matches!(e, '"' | '\\' | '/' | ' '))?),
                }
            }
            Some(out)
        }
        '|' | '>' | '[' | '{' | '&' | '*' => None,
        _ => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_a_space_and_the_blank_comes_first() {
        let d = Dictionary::from_lines("a\nb\n");
        assert_eq!((d.classes(), d.character(0), d.character(1), d.character(3), d.character(4)), (4, "", "a", " ", ""));
        assert_eq!(Dictionary::from_file("\u{feff}x\r\ny").unwrap(), Dictionary::from_lines("x\ny"));
        // PaddleOCR's Chinese keys hold the ideographic space as a line of its own.
        assert_eq!(Dictionary::from_file("a\n\u{3000}\nb").unwrap().character(2), "\u{3000}");
    }

    #[test]
    fn a_manifest_of_easyocr_is_read() {
        let file = |value: &str| format!("imgH: 64\nlang_list:\n    - 'en'\ncharacter_list: {value}\n");
        assert_eq!(Dictionary::from_file(&file("01!\"#$ €Az")).unwrap(), Dictionary::from_characters("01!\"#$ €Az"));
        assert_eq!(Dictionary::from_file(&file("'0''1 '")).unwrap(), Dictionary::from_characters("0'1 "));
        assert_eq!(Dictionary::from_file(&file(r#""0\"\\ 1""#)).unwrap(), Dictionary::from_characters("0\"\\ 1"));
        for bad in ["", "|", "'abc", "\"", r#""\q""#, "[a, b]"] {
            assert_eq!(Dictionary::from_file(&file(bad)), Err(DictionaryError::Manifest), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        assert_eq!(Dictionary::from_file(" \n"), Err(DictionaryError::Empty));
        assert_eq!(Dictionary::from_file("character_list: ''"), Err(DictionaryError::Empty));
        assert!(matches!(Dictionary::from_file(&"x".repeat(MAX_FILE_BYTES + 1)), Err(DictionaryError::TooLarge(_))));
    }
}
