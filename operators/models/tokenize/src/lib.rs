//! Text to token ids, on the `tokenizers` library.
//!
//! Why a crate of its own: that library takes minutes to compile, and nothing else here changes it. What can go wrong: a `tokenizer.json` carries
//! its own truncation and padding, which are often those of a demo (128 and fixed); both are replaced here.

use std::path::Path;

use tokenizers::{Tokenizer as Inner, TruncationParams};

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizeError {
    /// The file cannot be read as a tokenizer.
    #[error("cannot read the tokenizer {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the library says.
        reason: String,
    },
    /// A text could not be cut into tokens.
    #[error("cannot tokenize: {0}")]
    Failed(String),
}

/// A tokenizer with the model's own limit and no padding.
pub struct Tokenizer {
    inner: Inner,
    max_length: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json`; texts are cut at `max_length` tokens, special tokens included.
    pub fn open(path: &Path, max_length: usize) -> Result<Self, TokenizeError> {
        let unreadable = |e: &dyn std::fmt::Display| TokenizeError::Unreadable {
            path: path.display().to_string(),
            reason: e.to_string().lines().next().unwrap_or_default().to_owned(),
        };
        let mut inner = Inner::from_file(path).map_err(|e| unreadable(&e))?;
        let cut = TruncationParams { max_length, ..TruncationParams::default() };
        inner.with_truncation(Some(cut)).map_err(|e| unreadable(&e))?;
        inner.with_padding(None);
        Ok(Tokenizer { inner, max_length })
    }

    /// Token ids of each text, special tokens included, at most the limit of them. No padding.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, TokenizeError> {
        // One by one: the library's batch call starts threads of its own.
        texts
            .iter()
            .map(|text| match self.inner.encode_fast(*text, true) {
                Ok(encoding) => Ok(encoding.get_ids().to_vec()),
                Err(e) => Err(TokenizeError::Failed(e.to_string())),
            })
            .collect()
    }

    /// The largest id that it can give, plus one.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The limit in tokens.
    pub fn max_length(&self) -> usize {
        self.max_length
    }
}
