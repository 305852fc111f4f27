//! A note of the generation that was begun last, until a run over it comes to its verdict.
//!
//! Why: when all splits are committed, the tables alone cannot tell a run that has ended from one that was killed while it looked at the sums. A
//! supervisor that repeats `--new-version` would begin a generation each time. What can go wrong: a note that names an older generation says nothing.

use crate::commit::{CommitError, Folder};

/// The generation that `--new-version` began and that no run has brought to its verdict yet: the same command over it continues, also when all splits are
/// committed. So a supervisor that repeats the command begins one generation.
#[derive(Clone)]
pub struct Begun(Folder);

impl Begun {
    /// In the pipeline's output.
    pub fn of(output: Folder) -> Begun {
        Begun(output)
    }

    /// The pipeline's output.
    pub fn folder(&self) -> &Folder {
        &self.0
    }

    const NAME: &str = "_curette/begun-generation";

    /// The generation, if one is noted.
    pub fn generation(&self) -> Result<Option<u64>, CommitError> {
        match self.0.get(Self::NAME) {
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.0.error("read", Self::NAME, &e)),
        }
    }

    /// Notes it, before the first table learns of it.
    pub fn note(&self, generation: u64) -> Result<(), CommitError> {
        self.0.put(Self::NAME, format!("{generation}\n").into_bytes()).map_err(|e| self.0.error("write", Self::NAME, &e))
    }

    /// The run has come to its verdict.
    pub fn forget(&self) -> Result<(), CommitError> {
        match self.0.delete(Self::NAME) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.0.error("delete", Self::NAME, &e)),
        }
    }
}
