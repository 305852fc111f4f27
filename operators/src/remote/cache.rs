//! Answers of services, kept by what was asked: a split that is redone costs lookups, not money.
//!
//! The key is a hash of everything that shaped the answer, so an entry is never wrong, only unused; one folder can serve all pipelines and processes
//! of a machine, or of a cluster on a shared file system. One small JSON file per entry, written beside its place and renamed into it.
//!
//! Answers were paid for, so the limit is a guard against a full disk and nothing to live with: above it those go that nobody has used for longest,
//! and the log says so. Who shares a folder shares its limit, which is the largest that anybody gave it (kept in the file [`LIMIT_FILE`]).
//!
//! What can go wrong: a full or read-only disk costs a warning, never an answer. A damaged entry is a miss. An entry counts as the blocks that it
//! takes on a disk, so the same limit bounds how many there are. What other processes write is seen when the folder is looked through, which each
//! process does whenever it has itself written a small part of the limit. Looking takes minutes in a large folder on a network, so one thread does it
//! and the others write on meanwhile, up to [`WHILE_LOOKING_PERCENT`] of the limit; so much may the folder be over it. When an entry was used is known to
//! [`TOUCH_AFTER`].

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a cache of answers may take if nobody says: about nine million clips with two answers each.
pub const DEFAULT_MAX_BYTES: u64 = 100 << 30;

/// Holds the folder's limit in bytes: the largest that a process gave it.
pub const LIMIT_FILE: &str = "limit.bytes";

/// An entry that is used says so at most this often, in its time of change.
pub const TOUCH_AFTER: Duration = Duration::from_secs(6 * 3600);

/// An entry of more bytes than this is neither written nor read.
const MAX_ENTRY_BYTES: u64 = 1 << 20;

/// Digits of a key, which names begin with.
const KEY_DIGITS: usize = 64;

/// What files take on disks: whole blocks of this many bytes.
const BLOCK_BYTES: u64 = 4096;

/// A process looks through the folder again when it has written this part of the limit, in percent.
const LOOK_AGAIN_PERCENT: u64 = 5;

/// While one thread looks through the folder, the others of its process write at most this part of the limit, in percent; then they wait for it.
const WHILE_LOOKING_PERCENT: u64 = 5;

/// Unfinished files of killed processes are removed when they are this old.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// After the oldest entries went, the cache is this full, in percent: so that not every write has to make room.
const FULL_AFTER_EVICTION_PERCENT: u64 = 90;

/// What can be kept.
pub trait Keyed: Serialize + DeserializeOwned {
    /// Its own key, 64 hex digits: an entry that was copied to another name is a miss.
    fn key(&self) -> &str;
}

/// A folder of answers.
pub struct Cache {
    folder: PathBuf,
    max_bytes: u64,
    size: Mutex<Size>,
    /// Somebody has looked through the folder.
    looked: Condvar,
    written: AtomicU64,
    warned: AtomicBool,
    warned_of_eviction: AtomicBool,
    /// Called while the folder is looked through.
    #[cfg(test)]
    while_looking: std::sync::OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// What is known of the folder's size.
#[derive(Default)]
struct Size {
    /// The folder's limit; `None`: not read yet.
    limit: Option<u64>,
    /// Bytes on disk when the folder was last looked through; `None`: never yet.
    found: Option<u64>,
    /// Bytes that this process has written since it began to look.
    added: u64,
    /// A thread looks through the folder right now.
    looking: bool,
}

impl Size {
    /// Must the folder be looked through before `len` more bytes are written? While it is, the answer stays yes.
    fn is_due(&self, len: u64, max_bytes: u64) -> bool {
        let known = self.found.filter(|_| !self.looking).map(|found| found + self.added + len);
        known.is_none_or(|known| known > max_bytes) || self.added >= max_bytes / 100 * LOOK_AGAIN_PERCENT
    }
}

impl Cache {
    /// A cache in `folder`, which is made on the first write.
    pub fn new(folder: PathBuf, max_bytes: u64) -> Self {
        let no = || AtomicBool::new(false);
        Cache {
            folder,
            max_bytes,
            size: Mutex::default(),
            looked: Condvar::new(),
            written: AtomicU64::new(0),
            warned: no(),
            warned_of_eviction: no(),
            #[cfg(test)]
            while_looking: std::sync::OnceLock::new(),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        // 256 folders: no folder gets too large to list.
        self.folder.join(key.get(..2).unwrap_or("00")).join(format!("{key}.json"))
    }

    /// The answer, if it is there and whole.
    pub fn get<T: Keyed>(&self, key: &str) -> Option<T> {
        let path = self.path(key);
        let metadata = std::fs::metadata(&path).ok()?;
        if metadata.len() > MAX_ENTRY_BYTES {
            return None;
        }
        let entry: T = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
        if entry.key() != key {
            return None;
        }
        if metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > TOUCH_AFTER)) {
            // Whoever may only read the folder cannot say that he used it.
            let _ = std::fs::File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Some(entry)
    }

    /// Keeps an answer. A failure is logged once and otherwise ignored.
    pub fn put(&self, entry: &impl Keyed) {
        if let Err(e) = self.try_put(entry)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(folder = %self.folder.display(), error = %e, "Answers are not cached");
        }
    }

    fn try_put(&self, entry: &impl Keyed) -> std::io::Result<()> {
        let json = serde_json::to_vec(entry)?;
        let len = json.len() as u64;
        if len > MAX_ENTRY_BYTES {
            return Ok(());
        }
        let path = self.path(entry.key());
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder)?;
        if !self.make_room(len)? {
            return Ok(());
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = folder.join(format!("{}.{}-{number}.tmp", entry.key(), std::process::id()));
        std::fs::write(&unfinished, json).and_then(|()| std::fs::rename(&unfinished, &path)).inspect_err(|_| {
            // Nothing more can be done about a file that cannot even be removed; the next look-through does it.
            let _ = std::fs::remove_file(&unfinished);
        })
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts `len` more bytes and removes what was not used for longest if that is too much; false when there is no room at all.
    fn make_room(&self, len: u64) -> std::io::Result<bool> {
        let mut size = self.size();
        let len = on_disk(len);
        let max_bytes = match size.limit {
            Some(limit) => limit,
            None => *size.limit.insert(self.shared_limit()?),
        };
        if len > max_bytes {
            return Ok(false);
        }
        while size.is_due(len, max_bytes) {
            if !size.looking {
                (size.looking, size.added) = (true, 0);
                drop(size);
                let found = self.look_and_evict(len, max_bytes);
                size = self.size();
                size.looking = false;
                self.looked.notify_all();
                // Not known if it failed: whoever comes next looks again.
                size.found = found.as_ref().ok().copied();
                found?;
                break;
            }
            if size.added + len <= max_bytes / 100 * WHILE_LOOKING_PERCENT {
                break;
            }
            size = self.looked.wait(size).unwrap_or_else(PoisonError::into_inner);
        }
        size.added += len;
        Ok(true)
    }

    /// Looks through the folder, holding up nobody, and removes what was not used for longest if `len` more bytes are too much. Gives the bytes that are
    /// left.
    fn look_and_evict(&self, len: u64, max_bytes: u64) -> std::io::Result<u64> {
        #[cfg(test)]
        self.while_looking.get().iter().for_each(|f| f());
        let mut files = self.look_through()?;
        let mut found: u64 = files.iter().map(|f| f.bytes).sum();
        // What others have written meanwhile was perhaps not seen.
        let len = len + self.size().added;
        if found + len <= max_bytes {
            return Ok(found);
        }
        files.retain(|f| f.finished);
        files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        let goal = max_bytes / 100 * FULL_AFTER_EVICTION_PERCENT;
        let before = found;
        for file in files {
            if found + len <= goal {
                break;
            }
            // Another process may have removed it already: gone is gone.
            let _ = std::fs::remove_file(&file.path);
            found -= file.bytes;
        }
        if !self.warned_of_eviction.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.folder.display(), max_bytes, removed_bytes = before - found,
                "The cache is full: answers that were paid for and not used for longest are removed; raise `cache_max_bytes`"
            );
        }
        Ok(found)
    }

    /// The largest limit that anybody gave this folder, this process included.
    fn shared_limit(&self) -> std::io::Result<u64> {
        let path = self.folder.join(LIMIT_FILE);
        let others = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
        if others > self.max_bytes {
            tracing::warn!(
                folder = %self.folder.display(), max_bytes = self.max_bytes, limit = others,
                "Another pipeline gave this cache a larger limit, which holds for both; to make it smaller, delete {LIMIT_FILE} in the folder"
            );
        } else if others < self.max_bytes {
            let unfinished = self.folder.join(format!("{LIMIT_FILE}.{}", std::process::id()));
            std::fs::write(&unfinished, self.max_bytes.to_string())?;
            std::fs::rename(&unfinished, &path)?;
        }
        Ok(others.max(self.max_bytes))
    }

    /// All entries, and what is being written.
    fn look_through(&self) -> std::io::Result<Vec<File>> {
        let mut files = Vec::new();
        let now = SystemTime::now();
        for folder in std::fs::read_dir(&self.folder)?.flatten().filter(|f| is_hex(&f.file_name(), 2)) {
            let Ok(entries) = std::fs::read_dir(folder.path()) else { continue };
            for entry in entries.flatten().filter(|e| is_hex(&e.file_name(), KEY_DIGITS)) {
                let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else { continue };
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let bytes = on_disk(metadata.len());
                match path.extension().and_then(|e| e.to_str()) {
                    Some("json") => files.push(File { path, bytes, modified, finished: true }),
                    Some("tmp") if now.duration_since(modified).is_ok_and(|age| age > STALE_AFTER) => {
                        drop(std::fs::remove_file(&path))
                    }
                    Some("tmp") => files.push(File { path, bytes, modified, finished: false }),
                    _ => {}
                }
            }
        }
        Ok(files)
    }
}

/// True for a name that begins with so many digits of a hash: whatever else lies in the folder is not the cache's to count or to remove.
fn is_hex(name: &std::ffi::OsStr, digits: usize) -> bool {
    name.to_str().and_then(|n| n.get(..digits)).is_some_and(|n| n.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Bytes in whole blocks, at least one.
fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_BYTES).max(1) * BLOCK_BYTES
}

struct File {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
    finished: bool,
}

/// Where answers are kept when the pipeline does not say: `$XDG_CACHE_HOME/curette/NAME`, else `~/.cache/curette/NAME`.
pub fn default_folder(name: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| Path::new(v).is_absolute()).map(PathBuf::from);
    let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    Some(base.join("curette").join(name))
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
