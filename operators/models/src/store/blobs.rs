//! Files by their content: `blobs/<sha256>`, complete or not there at all.
//!
//! A file is written to `<sha256>.part`, hashed while it streams, synced, renamed. Two processes that want the same blob wait for each other on a lock
//! file. What can go wrong: a `.part` of a killed process stays; the next one overwrites it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::{ErrorKind, ModelError, Result};

/// Longest wait for another process that brings in the same blob.
pub const LOCK_LIMIT: Duration = Duration::from_secs(30 * 60);
/// Pause between looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Largest blob in bytes.
pub const MAX_BLOB_BYTES: u64 = 64 << 30;
const CHUNK: usize = 1 << 20;

/// The folder of blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
}

impl Blobs {
    /// Below a cache folder; touches nothing yet.
    pub fn new(cache: &Path) -> Self {
        Blobs { folder: cache.join("blobs") }
    }

    /// Where the blob of a hash is.
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    /// True if it is there.
    pub fn has(&self, sha256: &str) -> bool {
        self.path(sha256).is_file()
    }

    /// Brings in what `open` gives, unless it is there. `name` is told in messages.
    pub fn put<'a>(
        &self,
        sha256: &str,
        name: &str,
        bytes: Option<u64>,
        open: impl FnOnce() -> Result<Box<dyn Read + 'a>>,
    ) -> Result<Put> {
        let place = self.path(sha256);
        if place.is_file() {
            return Ok(Put::Already);
        }
        std::fs::create_dir_all(&self.folder).map_err(|e| io(&self.folder, &e))?;
        let _lock = self.lock(sha256)?;
        if place.is_file() {
            return Ok(Put::Already);
        }
        let part = self.folder.join(format!("{sha256}.part"));
        let done = fill(&part, open, bytes.unwrap_or(MAX_BLOB_BYTES))
            .and_then(|(have, size)| if have == sha256 { Ok(size) } else { Err(wrong_hash(name, &part, sha256, &have, size)) });
        match done {
            Ok(size) => {
                std::fs::rename(&part, &place).map_err(|e| io(&place, &e))?;
                sync_folder(&self.folder)?;
                Ok(Put::Brought(size))
            }
            Err(e) => {
                // The error itself matters more than a leftover.
                let _ = std::fs::remove_file(&part);
                Err(e)
            }
        }
    }

    /// As [`Blobs::put`], from an open reader.
    pub fn put_from(&self, sha256: &str, name: &str, bytes: u64, source: &mut dyn Read) -> Result<Put> {
        self.put(sha256, name, Some(bytes), || Ok(Box::new(source)))
    }

    /// Removes a blob that is damaged, so that it can be brought in again.
    pub fn remove(&self, sha256: &str) -> Result<()> {
        let place = self.path(sha256);
        std::fs::remove_file(&place).map_err(|e| io(&place, &e))
    }

    fn lock(&self, sha256: &str) -> Result<File> {
        let path = self.folder.join(format!("{sha256}.lock"));
        let file = File::create(&path).map_err(|e| io(&path, &e))?;
        wait_for(file, &path)
    }
}

/// Waits until no other process holds a lock on the folder of `file`. A folder, because the file itself is replaced by rename.
pub(super) fn lock_folder_of(file: &Path) -> Result<File> {
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| io(folder, &e))?;
    wait_for(File::open(folder).map_err(|e| io(folder, &e))?, folder)
}

/// The locked file; at most [`LOCK_LIMIT`].
fn wait_for(file: File, path: &Path) -> Result<File> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if started.elapsed() < LOCK_LIMIT => std::thread::sleep(LOCK_PAUSE),
            Err(std::fs::TryLockError::WouldBlock) => {
                let message = format!("another process has held {} for {} minutes", path.display(), LOCK_LIMIT.as_secs() / 60);
                return Err(ModelError::new(ErrorKind::Store, message).help("end it, or wait for its download"));
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(io(path, &e)),
        }
    }
}

/// What [`Blobs::put`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was there.
    Already,
    /// It was written; its size in bytes.
    Brought(u64),
}

fn fill<'a>(part: &Path, open: impl FnOnce() -> Result<Box<dyn Read + 'a>>, limit: u64) -> Result<(String, u64)> {
    let source = open()?;
    let mut file = File::create(part).map_err(|e| io(part, &e))?;
    let mut write = |chunk: &[u8]| file.write_all(chunk).map_err(|e| io(part, &e));
    let done = hash_stream(source.take(limit.saturating_add(1)), part, &mut write)?;
    if done.1 > limit {
        return Err(ModelError::new(ErrorKind::WrongHash, format!("{} is longer than {limit} bytes", part.display()))
            .help("the source has another file than the manifest names"));
    }
    file.sync_all().map_err(|e| io(part, &e))?;
    Ok(done)
}

fn hash_stream(mut source: impl Read, place: &Path, write: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<(String, u64)> {
    let (mut hasher, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; CHUNK]);
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(io(place, &e)),
        };
        hasher.update(&buffer[..n]);
        write(&buffer[..n])?;
        bytes += n as u64;
    }
    let hex = hasher.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok((hex, bytes))
}

/// SHA-256 and size of a file.
pub fn hash_file(path: &Path) -> Result<(String, u64)> {
    let file = File::open(path).map_err(|e| io(path, &e))?;
    hash_stream(file, path, &mut |_| Ok(()))
}

/// Replaces a file as a whole.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|e| io(folder, &e))?;
    let part = path.with_extension("part");
    let mut file = File::create(&part).map_err(|e| io(&part, &e))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| io(&part, &e))?;
    std::fs::rename(&part, path).map_err(|e| io(path, &e))?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(folder, &e))
}

pub(crate) fn io(path: &Path, e: &std::io::Error) -> ModelError {
    ModelError::new(ErrorKind::Store, format!("{}: {e}", path.display()))
}

pub(crate) fn wrong_hash(model: &str, path: &Path, want: &str, have: &str, bytes: u64) -> ModelError {
    let message =
        format!("{} is not the file of model `{model}`: sha256 {have} ({bytes} bytes), expected {want}", path.display());
    ModelError::new(ErrorKind::WrongHash, message).help("it is damaged or another version; bring it in again")
}
