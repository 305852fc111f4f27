//! The bytes behind [`Media`]: a file that is read where it is asked for, or a clip out of a table, kept in memory for a while.
//!
//! What is served is decided by the sample alone; a request names a number, never a path. What can go wrong: the file is gone, is no plain file, or lies in a store.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::ReviewError;
use crate::rows::{Media, clip_bytes};

/// Clips out of tables that are kept in memory, in bytes.
const MAX_CACHED_BYTES: usize = 256 << 20;

/// Clips that were read out of tables lately.
#[derive(Debug, Default)]
pub struct Cache(Mutex<VecDeque<(Media, Bytes)>>);

impl Cache {
    fn get(&self, media: &Media) -> Option<Bytes> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = all.iter().position(|(of, _)| of == media)?;
        let found = all.remove(at)?;
        let bytes = found.1.clone();
        all.push_back(found);
        Some(bytes)
    }

    fn put(&self, media: &Media, bytes: &Bytes) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(of, _)| of != media);
        all.push_back((media.clone(), bytes.clone()));
        while all.iter().map(|(_, b)| b.len()).sum::<usize>() > MAX_CACHED_BYTES && all.len() > 1 {
            all.pop_front();
        }
    }
}

/// Something to send.
#[derive(Debug)]
pub struct Open {
    /// Where its bytes are.
    pub body: Body,
    /// How many there are.
    pub length: u64,
    /// What it is.
    pub content_type: &'static str,
    /// Changes when the bytes do.
    pub tag: String,
}

/// Bytes of an [`Open`].
#[derive(Debug)]
pub enum Body {
    /// In a file.
    File(File),
    /// In memory.
    Bytes(Bytes),
}

/// Opens it. Blocking.
pub fn open(media: &Media, cache: &Cache) -> Result<Open, ReviewError> {
    match media {
        Media::Row { table, file, row } => {
            let bytes = match cache.get(media) {
                Some(bytes) => bytes,
                None => {
                    let bytes = clip_bytes(table, file, *row)?.ok_or_else(|| ReviewError::at(table, "the row holds no clip"))?;
                    cache.put(media, &bytes);
                    bytes
                }
            };
            let tag = tag(&[table, file, &row.to_string()]);
            Ok(Open { length: bytes.len() as u64, content_type: content_type(&bytes), body: Body::Bytes(bytes), tag })
        }
        Media::File { path, .. } => file(path),
    }
}

fn file(path: &str) -> Result<Open, ReviewError> {
    let local = path.strip_prefix("file://").unwrap_or(path);
    let err = |what: &dyn std::fmt::Display| ReviewError::at(path, what);
    if local.contains("://") {
        return Err(err(&"lies in a store, which the page cannot play; copy it to a disk"));
    }
    let about = std::fs::metadata(local).map_err(|e| err(&e))?;
    if !about.is_file() {
        return Err(err(&"is no plain file"));
    }
    let mut file = File::open(local).map_err(|e| err(&e))?;
    let mut head = [0; 64];
    let read = file.read(&mut head).map_err(|e| err(&e))?;
    let changed = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let tag = tag(&[local, &about.len().to_string(), &changed.as_nanos().to_string()]);
    Ok(Open { body: Body::File(file), length: about.len(), content_type: content_type(&head[..read]), tag })
}

fn tag(parts: &[&str]) -> String {
    let hash = blake3::Hash::from_bytes(crate::key(0, parts));
    format!("\"{}\"", &hash.to_hex()[..32])
}

/// What it is, by its first bytes; a name says nothing.
pub fn content_type(head: &[u8]) -> &'static str {
    match head {
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0x1a, 0x45, 0xdf, 0xa3, ..] if head.windows(4).any(|w| w == b"webm") => "video/webm",
        // Chromium plays Matroska under this name.
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "video/x-matroska",
        [b'O', b'g', b'g', b'S', ..] => "video/ogg",
        [_, _, _, _, b'f', b't', b'y', b'p', b'q', b't', ..] => "video/quicktime",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "video/mp4",
        _ => "application/octet-stream",
    }
}

/// Whether a page shows it as a picture.
pub fn is_picture(media: &Media) -> bool {
    let Media::File { path, .. } = media else { return false };
    let extension = Path::new(path).extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    ["jpg", "jpeg", "png"].contains(&extension.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_forgets_what_was_not_asked_for() {
        let cache = Cache::default();
        let media = |row: u64| Media::Row { table: "t".into(), file: "f".into(), row };
        let large = Bytes::from(vec![0; MAX_CACHED_BYTES / 2 - 1]);
        cache.put(&media(0), &large);
        cache.put(&media(1), &large);
        assert!(cache.get(&media(0)).is_some());
        cache.put(&media(2), &large);
        assert!(cache.get(&media(1)).is_none() && cache.get(&media(0)).is_some() && cache.get(&media(2)).is_some());
    }

    #[test]
    fn files_that_cannot_be_played_say_why() {
        let dir = tempfile::tempdir().unwrap();
        let media = |path: &str| Media::File { path: path.into(), start_us: None, end_us: None };
        for path in [dir.path().to_str().unwrap(), "/no/such/file", "s3://bucket/clip.mp4"] {
            open(&media(path), &Cache::default()).unwrap_err();
        }
        assert_eq!(content_type(b"\0\0\0\x18ftypmp42"), "video/mp4");
        assert_eq!(content_type(b"<html>"), "application/octet-stream", "never a page");
        assert!(is_picture(&media("a/B.JPG")) && !is_picture(&media("a.mp4")));
    }
}
