//! One object from its start to its end, as a plain reader: for model files, which are hashed as they come.
//!
//! It is fetched in pieces, each of which has the whole budget of retries, so an hour's download does not begin again. What can go wrong: the object is
//! replaced meanwhile; every piece asks for the version of the first.

use std::io::{Error, Read};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::runtime::Runtime;

use crate::{open, root, words};

/// Bytes that are asked for at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// See the module's documentation. Blocking: not for async contexts.
pub struct Reader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    etag: Option<String>,
    bytes: u64,
    at: u64,
    piece: Bytes,
}

impl Reader {
    /// Opens the object that a URL names; its key is what the store calls it, not percent-encoded.
    pub fn open(url: &str) -> Result<Reader, String> {
        let key = url[root(url).len()..].trim_start_matches('/');
        let path = Path::parse(key).map_err(|e| e.to_string())?;
        let store = open(url).map_err(|e| e.to_string())?;
        let found = runtime()?.block_on(async { store.head(&path).await }).map_err(|e| words(&e))?;
        Ok(Reader { store, path, etag: found.e_tag, bytes: found.size, at: 0, piece: Bytes::new() })
    }

    /// The object's size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.piece.is_empty() && self.at < self.bytes {
            let range = GetRange::Bounded(self.at..(self.at + PIECE_BYTES).min(self.bytes));
            let options = GetOptions { range: Some(range), if_match: self.etag.clone(), ..GetOptions::default() };
            let got = async { self.store.get_opts(&self.path, options).await?.bytes().await };
            self.piece = runtime().map_err(Error::other)?.block_on(got).map_err(|e| Error::other(words(&e)))?;
            if self.piece.is_empty() {
                return Err(Error::other(format!("{} ends at byte {} of {}", self.path, self.at, self.bytes)));
            }
            self.at += self.piece.len() as u64;
        }
        let taken = self.piece.split_to(out.len().min(self.piece.len()));
        out[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let built = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("store-reader").enable_all().build().map_err(|e| e.to_string())
    };
    RUNTIME.get_or_init(built).as_ref().map_err(Clone::clone)
}
