//! The one error of this crate: what is wrong, where, and what to do.
//!
//! Why a struct with a kind: callers decide by [`ErrorKind`] whether a row or the run is at fault; people read the text.

/// Which sort of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A manifest cannot be read or contradicts itself.
    Manifest,
    /// No manifest has this name.
    UnknownModel,
    /// A file of the model is not on this machine.
    MissingFile,
    /// A file is not the one that the manifest or the lock file names.
    WrongHash,
    /// ONNX Runtime's library is missing, something else, damaged or too old.
    Library,
    /// A provider is not in this library or does not start.
    Provider,
    /// ONNX Runtime refuses the file: damaged, or no model.
    Session,
    /// Names, types or shapes are not those of the manifest.
    Contract,
    /// The output has NaN or infinite values.
    NotFinite,
    /// The licence needs consent.
    Licence,
    /// A download failed.
    Download,
    /// The store's folder cannot be read or written.
    Store,
    /// No session became free in time.
    Busy,
    /// The run is being stopped.
    Cancelled,
    /// ONNX Runtime failed while computing.
    Run,
    /// The tokenizer cannot be read or does not fit the model.
    Tokenizer,
    /// The caller's tensors or pictures do not fit the model.
    BadInput,
}

impl ErrorKind {
    /// True if the fault is in what was given to one call: other rows may be fine.
    pub fn is_of_the_input(self) -> bool {
        matches!(self, ErrorKind::BadInput | ErrorKind::NotFinite)
    }
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The sort.
    pub kind: ErrorKind,
    /// What is wrong, with its place.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl ModelError {
    /// An error without a remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ModelError { kind, message: message.into(), help: None }
    }
    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
    /// Message and remedy in one line.
    pub fn full(&self) -> String {
        match &self.help {
            Some(help) => format!("{}; {help}", self.message),
            None => self.message.clone(),
        }
    }
}
