//! `models.lock`: the hashes of files that a manifest leaves open because they are made on the user's machine.
//!
//! Commit it with the pipeline: then a colleague's run stops when a converted file differs. It is replaced as a whole, by rename.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::blobs::{io, replace};
use crate::manifest::{FileRole, is_sha256};
use crate::{ErrorKind, ModelError, Result};

/// A pinned file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The manifest's name.
    pub model: String,
    /// The manifest's version.
    pub version: String,
    /// Which file.
    pub role: FileRole,
    /// SHA-256.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// The lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Pins, sorted.
    #[serde(default)]
    pub pin: Vec<Pin>,
}

impl Lock {
    /// Reads it; a missing file has no pins.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
            Err(e) => return Err(io(path, &e)),
        };
        let broken = |why: &str| {
            ModelError::new(ErrorKind::Manifest, format!("{}: {why}", path.display()))
                .help("`curette models add` writes this file; take it back from version control")
        };
        let lock: Lock = toml::from_str(&text).map_err(|e| broken(e.message()))?;
        match lock.pin.iter().find(|p| !is_sha256(&p.sha256)) {
            Some(pin) => Err(broken(&format!("the sha256 of `{}` is not one", pin.model))),
            None => Ok(lock),
        }
    }

    /// The pin of a file.
    pub fn pin(&self, model: &str, version: &str, role: FileRole) -> Option<&Pin> {
        self.pin.iter().find(|p| p.model == model && p.version == version && p.role == role)
    }

    /// Adds a pin in the place of an older one for the same file.
    pub fn set(&mut self, pin: Pin) {
        self.pin.retain(|p| (&p.model, &p.version, p.role) != (&pin.model, &pin.version, pin.role));
        self.pin.push(pin);
        self.pin.sort();
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).map_err(|e| ModelError::new(ErrorKind::Store, format!("{}: {e}", path.display())))?;
        let head = "# Hashes of model files, written by `curette models add`. Commit this file with your pipelines.\n\n";
        replace(path, format!("{head}{text}").as_bytes())
    }
}
