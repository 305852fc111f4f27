//! A file on another machine, read by ranges: never whole, never copied to disk.
//!
//! Why blocks: demuxers read a few kilobytes here and there. What a reader asks for is fetched in blocks of [`REMOTE_BLOCK_BYTES`], the more of them
//! at once the longer it goes forward, and the last of all files, up to a number of bytes, are kept for the next reader of the same bytes.
//!
//! A file is one version of it: what the first answer says of length, etag and time of last change is held against every later one, and the server is
//! asked to refuse another version (`If-Match`). What can go wrong: a server that tells neither etag nor time of last change; only a change of length
//! is then noticed.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::fetch::{runtime, shown};
use super::limits::{MAX_FILE_BYTES, MAX_REMOTE_FILES, POLL, REMOTE_BLOCK_BYTES, REMOTE_READ_AHEAD_BLOCKS, REMOTE_READ_WAIT};
use super::store::Store;
use super::transfer::{Place, Version};
use super::{MediaError, locked};

/// Why a wait must end, if it must.
pub(crate) type Interrupt<'a> = &'a dyn Fn() -> Option<MediaError>;

/// The remote files of a process, and the blocks of them that are kept.
pub(crate) struct Remotes {
    open: Mutex<VecDeque<Arc<Remote>>>,
    blocks: Arc<Store<Vec<u8>>>,
    bytes: Arc<AtomicU64>,
}

impl Remotes {
    /// That keeps so many bytes of blocks.
    pub fn of_bytes(blocks: usize) -> Self {
        Remotes { open: Mutex::default(), blocks: Arc::new(Store::new(blocks)), bytes: Arc::default() }
    }

    /// The file at a URL; its length and version are asked for once.
    pub fn open(&self, uri: &str, interrupt: Interrupt) -> Result<Arc<Remote>, MediaError> {
        let known = |open: &VecDeque<Arc<Remote>>| open.iter().find(|r| r.uri == uri).cloned();
        {
            let mut open = locked(&self.open);
            open.retain(|r| !r.changed.load(Ordering::Relaxed));
            if let Some(remote) = known(&open) {
                return Ok(remote);
            }
        }
        let remote = Arc::new(Remote::open(uri, Arc::clone(&self.blocks), Arc::clone(&self.bytes), interrupt)?);
        let mut open = locked(&self.open);
        if let Some(other) = known(&open).filter(|other| other.identity == remote.identity) {
            return Ok(other); // two came at the same time
        }
        open.push_back(Arc::clone(&remote));
        let surplus = open.len().saturating_sub(MAX_REMOTE_FILES);
        open.drain(..surplus);
        Ok(remote)
    }

    /// Bytes that were fetched so far, of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// One version of one file.
pub(crate) struct Remote {
    uri: String,
    /// As messages may name it.
    pub shown: String,
    /// Length in bytes.
    pub len: u64,
    /// Changes when the content changes, as far as the server tells.
    pub identity: String,
    place: Arc<Place>,
    version: Version,
    blocks: Arc<Store<Vec<u8>>>,
    bytes: Arc<AtomicU64>,
    all_bytes: Arc<AtomicU64>,
    changed: AtomicBool,
}

/// How far a reader has come: what goes forward gets more at once.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    next_block: u64,
    ahead: u64,
}

impl Cursor {
    /// How many blocks to ask for from `block` on.
    fn blocks(&mut self, block: u64) -> u64 {
        self.ahead = match block == self.next_block {
            true => (self.ahead * 2).clamp(1, REMOTE_READ_AHEAD_BLOCKS),
            false => 1,
        };
        self.ahead
    }
}

impl Remote {
    fn open(
        uri: &str,
        blocks: Arc<Store<Vec<u8>>>,
        all_bytes: Arc<AtomicU64>,
        interrupt: Interrupt,
    ) -> Result<Remote, MediaError> {
        let place = Arc::new(Place::of(uri)?);
        let asked = Arc::clone(&place);
        let (version, head) = wait(uri, async move { asked.first(REMOTE_BLOCK_BYTES).await }, interrupt)?;
        let name = shown(uri);
        if version.len == 0 {
            return Err(MediaError::new("empty_file", format!("{name} has 0 bytes: upload it again")));
        }
        if version.len > MAX_FILE_BYTES {
            let message = format!("{name} has {} bytes, the limit is {MAX_FILE_BYTES}", version.len);
            return Err(MediaError::new("too_large", message));
        }
        let remote = Remote {
            uri: uri.to_owned(),
            shown: name,
            len: version.len,
            identity: format!("{uri}|{}|{}", version.len, version.name()),
            place,
            version,
            blocks,
            bytes: Arc::default(),
            all_bytes,
            changed: AtomicBool::new(false),
        };
        remote.count(head.len());
        if !head.is_empty() {
            remote.keep(0, head);
        }
        Ok(remote)
    }

    /// Bytes of this file that were fetched so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.all_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        metrics::counter!("curette_media_remote_bytes_total").increment(bytes as u64);
        metrics::counter!("curette_media_remote_requests_total").increment(1);
    }

    fn key(&self, block: u64) -> String {
        format!("{block}|{}", self.identity)
    }

    fn keep(&self, block: u64, bytes: Vec<u8>) -> Arc<Vec<u8>> {
        let (size, bytes) = (bytes.len(), Arc::new(bytes));
        self.blocks.put(&self.key(block), Arc::clone(&bytes), size);
        bytes
    }

    /// Fills `out` with the bytes from `offset` on, all of which must be inside of the file.
    pub fn read_at(&self, offset: u64, out: &mut [u8], cursor: &mut Cursor, interrupt: Interrupt) -> Result<(), MediaError> {
        let (mut at, end) = (offset, offset + out.len() as u64);
        while at < end {
            let block = at / REMOTE_BLOCK_BYTES;
            let bytes = match self.blocks.get(&self.key(block)) {
                Some(known) => known,
                None => self.fetch(block, end, cursor, interrupt)?,
            };
            let from = (at - block * REMOTE_BLOCK_BYTES) as usize;
            let to = (from as u64 + end - at).min(bytes.len() as u64) as usize;
            if to <= from {
                let message = format!("{}: byte {at} is behind the end, at {}", self.shown, self.len);
                return Err(MediaError::new("fetch_failed", message));
            }
            let target = (at - offset) as usize;
            out[target..target + to - from].copy_from_slice(&bytes[from..to]);
            at += (to - from) as u64;
            cursor.next_block = block + 1;
        }
        Ok(())
    }

    /// Fetches `block`, and those behind it that are wanted up to `end` or will be soon; gives the first.
    fn fetch(&self, block: u64, end: u64, cursor: &mut Cursor, interrupt: Interrupt) -> Result<Arc<Vec<u8>>, MediaError> {
        let last = self.len.div_ceil(REMOTE_BLOCK_BYTES);
        let wanted = end.div_ceil(REMOTE_BLOCK_BYTES).max(block + cursor.blocks(block));
        let wanted = wanted.min(block + REMOTE_READ_AHEAD_BLOCKS).min(last);
        let until = (block + 1..wanted).find(|b| self.blocks.get(&self.key(*b)).is_some()).unwrap_or(wanted);
        let range = block * REMOTE_BLOCK_BYTES..(until * REMOTE_BLOCK_BYTES).min(self.len);
        let bytes = self.fetch_range(range, interrupt)?;
        let mut first = None;
        for (number, part) in (block..).zip(bytes.chunks(REMOTE_BLOCK_BYTES as usize)) {
            let kept = self.keep(number, part.to_vec());
            first.get_or_insert(kept);
        }
        first.ok_or_else(|| MediaError::new("fetch_failed", format!("{}: an empty range came", self.shown)))
    }

    fn fetch_range(&self, range: Range<u64>, interrupt: Interrupt) -> Result<Vec<u8>, MediaError> {
        let (place, version) = (Arc::clone(&self.place), self.version.clone());
        let fetched = wait(&self.uri, async move { place.range(range, &version).await }, interrupt);
        if fetched.as_ref().is_err_and(|e| e.code == "input_changed") {
            self.changed.store(true, Ordering::Relaxed);
        }
        let bytes = fetched?;
        self.count(bytes.len());
        Ok(bytes)
    }
}

/// What a server tells of a file without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Length in bytes.
    pub bytes: u64,
    /// Its etag, else its time of last change; empty if the server tells neither.
    pub version: String,
}

/// Looks at a remote file by its URL; the answer comes within a minute, or an error.
pub fn remote_file(uri: &str) -> Result<RemoteFile, MediaError> {
    let place = Place::of(uri)?;
    let (version, _) = wait(uri, async move { place.first(1).await }, &|| None)?;
    Ok(RemoteFile { bytes: version.len, version: version.name().trim_matches('"').to_owned() })
}

/// Runs a request on the transfer threads while this thread looks at `interrupt`; the request ends with the wait.
fn wait<T: Send + 'static>(
    uri: &str,
    request: impl Future<Output = Result<T, MediaError>> + Send + 'static,
    interrupt: Interrupt,
) -> Result<T, MediaError> {
    let failed = |why: String| MediaError::new("fetch_failed", format!("{}: {why}", shown(uri)));
    let (answer, answers) = mpsc::sync_channel(1);
    let task = runtime().map_err(failed)?.spawn(async move {
        let _ = answer.send(tokio::time::timeout(REMOTE_READ_WAIT, request).await);
    });
    loop {
        match answers.recv_timeout(POLL) {
            Ok(Ok(done)) => return done,
            Ok(Err(_)) => return Err(failed(format!("not read after {} s", REMOTE_READ_WAIT.as_secs()))),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(failed("the request was abandoned".into())),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if let Some(why) = interrupt() {
            task.abort();
            return Err(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_forward_gets_more_at_once_up_to_the_limit() {
        let mut cursor = Cursor { next_block: 0, ahead: 0 };
        let forward: Vec<u64> = (0..9)
            .map(|_| {
                let blocks = cursor.blocks(cursor.next_block);
                cursor.next_block += blocks;
                blocks
            })
            .collect();
        assert_eq!(forward, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(cursor.blocks(5000), 1, "a jump begins anew");
    }
}
