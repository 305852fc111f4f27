//! Temporary files of this process, in one folder that is removed with the plane.
//!
//! Why a folder with a lock: a killed process removes nothing. Its folder stays behind, but the lock in it is free, so that the next process that
//! makes temporary files can tell it from a living one and removes it. Only a folder whose lock says [`MARK`] is ours: a name can be anyone's, and so can a
//! file named `lock`. Everything else in the temporary folder stays, whatever it is called.
//! What can go wrong: a temporary folder on a file system without locks keeps the folders of killed processes.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::NamedTempFile;

const PREFIX: &str = "curette-media-";
const LOCK: &str = "lock";
/// The content of our locks.
const MARK: &[u8] = b"curette-media scratch folder 8f1c5d1e: removed when its process is gone\n";

/// The folder, made on first use.
#[derive(Default)]
pub(crate) struct Scratch(OnceLock<Result<Folder, String>>);

struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Scratch {
    /// A new temporary file, removed when dropped.
    pub fn file(&self, prefix: &str, suffix: &str) -> Result<NamedTempFile, String> {
        let folder = self.0.get_or_init(|| {
            let parent = std::env::temp_dir();
            sweep(&parent);
            create(&parent).map_err(|e| format!("no folder in {}: {e}", parent.display()))
        });
        let folder = folder.as_ref().map_err(Clone::clone)?;
        let file = tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile_in(&folder.path);
        file.map_err(|e| format!("no file in {}: {e}", folder.path.display()))
    }
}

fn create(parent: &Path) -> std::io::Result<Folder> {
    // Locked before it has the name that sweepers look for.
    let new = tempfile::Builder::new().prefix(".curette-new-").tempdir_in(parent)?;
    let mut lock = File::create(new.path().join(LOCK))?;
    lock.lock()?;
    lock.write_all(MARK)?;
    let name = new.path().file_name().map(|n| n.to_string_lossy().replace(".curette-new-", "")).unwrap_or_default();
    let path = parent.join(format!("{PREFIX}{}-{name}", std::process::id()));
    std::fs::rename(new.path(), &path)?;
    let _ = new.keep(); // it has another name now
    Ok(Folder { path, _lock: lock })
}

/// Removes a folder, the lock last: a sweeper that is killed halfway leaves what the next one still knows.
fn remove(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.file_name() != LOCK) {
        let _ = std::fs::remove_file(entry.path());
    }
    let _ = std::fs::remove_dir_all(folder);
}

/// The lock of a folder, if it is one of ours.
fn lock_of_ours(folder: &Path) -> Option<File> {
    let path = folder.join(LOCK);
    if !path.symlink_metadata().ok()?.is_file() {
        return None; // a pipe would block, a link belongs to someone else
    }
    let mut lock = File::open(path).ok()?;
    let mut said = Vec::with_capacity(MARK.len() + 1);
    Read::by_ref(&mut lock).take(MARK.len() as u64 + 1).read_to_end(&mut said).ok()?;
    (said == MARK).then_some(lock)
}

/// Removes the folders of processes that are gone.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) || !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let path = entry.path();
        let Some(lock) = lock_of_ours(&path) else { continue };
        let dead = match lock.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        };
        if dead {
            tracing::info!(folder = %path.display(), "Removing temporary files of a process that is gone");
            remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_dead_processes_are_removed_and_those_of_living_ones_kept() {
        let parent = tempfile::tempdir().unwrap();
        let living = create(parent.path()).unwrap();
        std::fs::write(living.path.join("clip.mp4"), "x").unwrap();
        let dead = parent.path().join(format!("{PREFIX}1-abc"));
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(LOCK), MARK).unwrap();
        std::fs::write(dead.join("clip.mp4"), "x").unwrap();
        let foreign = parent.path().join("other");
        std::fs::create_dir(&foreign).unwrap();
        let somebodys = parent.path().join(format!("{PREFIX}notes"));
        std::fs::create_dir(&somebodys).unwrap();
        std::fs::write(somebodys.join("thesis.txt"), "x").unwrap();
        // Someone else's folder that looks like ours, with a free lock in it: empty, another text, ours with more behind it.
        let others: Vec<PathBuf> = [&b""[..], b"pid 1\n", &[MARK, b"and more"].concat()]
            .iter()
            .enumerate()
            .map(|(i, lock)| {
                let folder = parent.path().join(format!("{PREFIX}2-{i}"));
                std::fs::create_dir(&folder).unwrap();
                std::fs::write(folder.join(LOCK), lock).unwrap();
                std::fs::write(folder.join("film.mp4"), "x").unwrap();
                folder
            })
            .collect();
        sweep(parent.path());
        assert!(others.iter().all(|f| f.join("film.mp4").exists()), "a lock without our mark makes no folder ours");
        assert!(living.path.join("clip.mp4").exists() && foreign.exists() && !dead.exists());
        assert!(somebodys.join("thesis.txt").exists(), "a name alone makes no folder ours");
        let path = living.path.clone();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn files_lie_in_the_folder_of_their_plane() {
        let scratch = Scratch::default();
        let (a, b) = (scratch.file("clip-", ".mp4").unwrap(), scratch.file("clip-", ".mp4").unwrap());
        assert_eq!(a.path().parent(), b.path().parent());
        let folder = a.path().parent().unwrap().to_owned();
        drop((a, b));
        drop(scratch);
        assert!(!folder.exists());
    }
}
