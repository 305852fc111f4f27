//! Small whole files below a folder or URL: plans, and whatever else is written once and read back.

use std::fmt;

use object_store::{ObjectStoreExt, PutPayload};

use super::error::CommitError;
use super::location::{Location, block_on};

/// A folder in a store, by name.
#[derive(Debug, Clone)]
pub struct Folder(Location);

impl Folder {
    /// Understands an absolute path or a URL. Makes the folder if it is local.
    pub fn open(location: &str) -> Result<Self, CommitError> {
        Location::parse(location).map(Folder)
    }

    /// Writes a file, replacing one of the same name. `name` may have slashes.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), object_store::Error> {
        let path = self.0.file(name);
        block_on(async { self.0.store.put(&path, PutPayload::from(bytes)).await }).map(|_| ())
    }

    /// Names of the files directly below a folder, sorted.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, object_store::Error> {
        let path = self.0.file(folder);
        let found = block_on(async { self.0.store.list_with_delimiter(Some(&path)).await })?;
        let mut names: Vec<String> =
            found.objects.iter().filter_map(|o| o.location.filename().map(|name| format!("{folder}/{name}"))).collect();
        names.sort();
        Ok(names)
    }

    /// Names of the folders directly in it, sorted.
    pub fn folders(&self) -> Result<Vec<String>, CommitError> {
        let found = block_on(async { self.0.store.list_with_delimiter(Some(&self.0.base)).await });
        let found = found.map_err(|e| self.error("list", "", &curette_stores::words(&e)))?;
        let mut names: Vec<String> = found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes a file; harmless when it is not there.
    pub fn delete(&self, name: &str) -> Result<(), object_store::Error> {
        let path = self.0.file(name);
        match block_on(async { self.0.store.delete(&path).await }) {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    /// What failed, for people.
    pub fn error(&self, action: &'static str, name: &str, why: &dyn fmt::Display) -> CommitError {
        CommitError::Location {
            location: format!("{self}/{name}"),
            reason: format!("cannot {action} it: {why}"),
            help: "check the store and its permissions, then run the same command again".into(),
        }
    }

    /// Reads a file.
    pub fn get(&self, name: &str) -> Result<bytes::Bytes, object_store::Error> {
        let path = self.0.file(name);
        block_on(async { self.0.store.get(&path).await?.bytes().await })
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.local {
            Some(path) => write!(f, "{}", path.display()),
            None => f.write_str(self.0.url.as_str()),
        }
    }
}
