//! Which encoder made an embedding: a name and, where it is a file, the file's SHA-256.
//!
//! Why the hash: a head trained on the 32-bit file of an encoder gives plausible nonsense on its 8-bit sibling of the same name. The text form,
//! `NAME` or `NAME@sha256:HEX`, is what the column `embedding_model` holds, so one comparison of text decides whether a head fits.

use std::fmt;
use std::str::FromStr;

/// Between name and hash.
const MARK: &str = "@sha256:";

/// An encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    /// Its name, as the model manifest or the built-in descriptor has it.
    pub name: String,
    /// SHA-256 of its file in lower-case hexadecimal; absent for built-in ones.
    pub sha256: Option<String>,
}

impl Encoder {
    /// One that is not a file.
    pub fn built_in(name: &str) -> Encoder {
        Encoder { name: name.to_owned(), sha256: None }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sha256 {
            Some(hash) => write!(f, "{}{MARK}{hash}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for Encoder {
    type Err = String;

    fn from_str(text: &str) -> Result<Encoder, String> {
        let (name, sha256) = match text.split_once(MARK) {
            Some((name, hash)) => (name, Some(hash.to_ascii_lowercase())),
            None => (text, None),
        };
        if name.trim().is_empty() {
            return Err("the encoder has no name; expected NAME or NAME@sha256:HEX".into());
        }
        if let Some(hash) = &sha256
            && (hash.len() != 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return Err(format!("`{hash}` is not a SHA-256, which has 64 hexadecimal digits"));
        }
        Ok(Encoder { name: name.to_owned(), sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let hash = "ab".repeat(32);
        for text in ["curette/builtin-1".to_owned(), format!("clip@sha256:{hash}")] {
            assert_eq!(text.parse::<Encoder>().unwrap().to_string(), text);
        }
        assert_eq!(format!("a@sha256:{}", hash.to_uppercase()).parse::<Encoder>().unwrap().sha256, Some(hash));
        for bad in ["", "@sha256:00", "a@sha256:00", "a@sha256:"] {
            assert!(bad.parse::<Encoder>().is_err(), "{bad}");
        }
    }
}
