//! Files that are there as a whole or not at all, also after a crash, and their hashes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes that are hashed at once.
const PIECE_BYTES: usize = 1 << 20;

/// Something about a file or a process went wrong: what, where, why, and what to do as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TrainerError(pub String);

/// Result of this crate.
pub type Result<T> = std::result::Result<T, TrainerError>;

impl TrainerError {
    /// With the text.
    pub fn new(text: impl Into<String>) -> TrainerError {
        TrainerError(text.into())
    }
    /// `action` at `path` failed.
    pub fn at(action: &str, path: &Path, why: impl std::fmt::Display) -> TrainerError {
        TrainerError(format!("cannot {action} {}: {why}", path.display()))
    }
}

/// Writes a file through a temporary one beside it, synced, and syncs the folder.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: io::Error| TrainerError::at("write", path, e);
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let half = Path::new(&name);
    let mut file = File::create(half).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    drop(file);
    fs::rename(half, path).map_err(failed)?;
    sync_parent(path)
}

/// Makes the names in the folder of `path` durable.
pub fn sync_parent(path: &Path) -> Result<()> {
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) => sync_folder(folder),
        None => sync_folder(Path::new(".")),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| TrainerError::at("sync", folder, e))
}

/// Makes a folder and those above it.
pub fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| TrainerError::at("make folder", folder, e))
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| TrainerError::at("read", path, e))
}

/// Hash of bytes, hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hash of a file, hex; in bounded memory.
pub fn sha256_of(path: &Path) -> Result<String> {
    let failed = |e: io::Error| TrainerError::at("read", path, e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut piece) = (Sha256::new(), vec![0_u8; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(n) => hasher.update(&piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes that may still be written to the disk of a folder that exists.
pub fn free_bytes(folder: &Path) -> Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(folder.as_os_str().as_bytes()).map_err(|e| TrainerError::at("look at", folder, e))?;
    // SAFETY: `name` ends with a zero and outlives the call, which fills the struct that it is given.
    let (code, stat) = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &mut stat), stat)
    };
    if code != 0 {
        return Err(TrainerError::at("look at the disk of", folder, io::Error::last_os_error()));
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Held while one process works on a folder; the system lets go of it when the process ends.
#[derive(Debug)]
pub struct FolderLock(#[allow(dead_code, reason = "holds the lock")] File);

/// Locks a folder, or says that another process works on it.
pub fn lock(folder: &Path) -> Result<FolderLock> {
    make_folder(folder)?;
    let path = folder.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(|e| TrainerError::at("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock(file)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(TrainerError(format!("another process works on {}; wait for its end", folder.display())))
        }
        Err(fs::TryLockError::Error(e)) => Err(TrainerError::at("lock", &path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_known_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        write_whole(&path, b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((sha256(b"abc").as_str(), sha256_of(&path).unwrap().as_str()), (known, known));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
        assert!(free_bytes(folder.path()).unwrap() > 0);
    }

    #[test]
    fn two_do_not_work_on_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).is_err_and(|e| e.0.starts_with("another process works on")));
        drop(held);
        lock(folder.path()).unwrap();
    }
}
