//! A file per rater and session: a rating stands in it, flushed to the disk, before the page is told that it is kept.
//!
//! A line is a rating as JSON. A line that a killed process had begun is cut off when the file is opened again: nobody was told that it is kept. What can go
//! wrong: two servers for one rater; the second is refused by a lock. A write that failed may have left part of a line, and nobody knows what a disk holds after a
//! failed flush, so a journal takes nothing more until it is opened again.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::ReviewError;
use crate::rating::Rating;

/// A journal of more bytes is not read.
const MAX_BYTES: u64 = 256 << 20;

/// An open journal; this process alone writes to it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    next: i64,
    failed: bool,
}

impl Journal {
    /// Opens or begins it, and reads what it holds.
    pub fn open(folder: &Path, rater: &str) -> Result<(Journal, Vec<Rating>), ReviewError> {
        let path = folder.join(format!("{rater}.jsonl"));
        let err = |e: std::io::Error| ReviewError::at(path.display(), e);
        let new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(err)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = format!("another process serves this session to `{rater}`: use its page, or stop it first");
                return Err(ReviewError::at(path.display(), what));
            }
            Err(TryLockError::Error(e)) => return Err(err(e)),
        }
        let (ratings, whole) = read(&path, &mut file)?;
        file.set_len(whole).map_err(err)?;
        if new {
            // The name must be there after a power cut, too.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(err)?;
        }
        let next = ratings.iter().map(|r| r.sequence + 1).max().unwrap_or(0);
        Ok((Journal { path, file, next, failed: false }, ratings))
    }

    /// Adds a rating and gives its number; it is on the disk when this returns.
    pub fn add(&mut self, rating: &mut Rating) -> Result<(), ReviewError> {
        if self.failed {
            let what = "an earlier write failed, so it is not known what the disk holds: stop the review and start it again";
            return Err(ReviewError::at(self.path.display(), what));
        }
        rating.sequence = self.next;
        let line = serde_json::to_string(rating).map_err(|e| ReviewError::at(self.path.display(), e))? + "\n";
        if let Err(e) = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()) {
            self.failed = true;
            return Err(ReviewError::at(
                self.path.display(),
                format!("the rating is not kept: {e}; free the disk, then start the review again"),
            ));
        }
        self.next += 1;
        Ok(())
    }
}

/// All whole lines of a journal, also of one that another process writes to.
pub fn look(path: &Path) -> Result<Vec<Rating>, ReviewError> {
    let mut file = File::open(path).map_err(|e| ReviewError::at(path.display(), e))?;
    Ok(read(path, &mut file)?.0)
}

/// Ratings, and how many bytes are whole lines.
fn read(path: &Path, file: &mut File) -> Result<(Vec<Rating>, u64), ReviewError> {
    let err = |e: &dyn std::fmt::Display| ReviewError::at(path.display(), e);
    let bytes = file.metadata().map_err(|e| err(&e))?.len();
    if bytes > MAX_BYTES {
        return Err(err(&format!("has {bytes} bytes; journals of more than {MAX_BYTES} are not read")));
    }
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text)).map_err(|e| err(&e))?;
    let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let lines = text[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let one = |(at, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|e| err(&format!("line {}: {e}; move the file away to begin anew", at + 1)))
    };
    Ok((lines.map(one).collect::<Result<_, _>>()?, whole as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::tests::rating;

    #[test]
    fn a_journal_that_was_cut_anywhere_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("A.jsonl");
        let (mut journal, _) = Journal::open(dir.path(), "A").unwrap();
        for item in ["a", "b", "c"] {
            journal.add(&mut rating(item, "A", "clean")).unwrap();
        }
        assert!(Journal::open(dir.path(), "A").unwrap_err().what.contains("another process"), "one writer at a time");
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let kept = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(look(&path).unwrap().len(), kept);
            let (mut journal, before) = Journal::open(dir.path(), "A").unwrap();
            assert_eq!(before.len(), kept);
            journal.add(&mut rating("d", "A", "noisy")).unwrap();
            drop(journal);
            let now = look(&path).unwrap();
            assert_eq!((now.len(), now[kept].sequence, now[kept].item_id.as_str()), (kept + 1, kept as i64, "d"));
        }
    }
}
