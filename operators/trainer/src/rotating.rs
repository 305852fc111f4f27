//! A log of limited size: when a file is full it is renamed to `NAME.1`, that to `NAME.2`, and so on; the oldest goes.
//!
//! What can go wrong: the disk is full, or the folder is gone. A trainer must not wait for that, so what cannot be written is counted and dropped.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A log of at most `files` × `max_bytes`.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    max_bytes: u64,
    files: u32,
    open: Option<(File, u64)>,
    dropped_bytes: u64,
}

impl RotatingLog {
    /// Appends to what is there. `max_bytes` and `files` are at least 1.
    pub fn new(path: &Path, max_bytes: u64, files: u32) -> RotatingLog {
        RotatingLog { path: path.to_owned(), max_bytes: max_bytes.max(1), files: files.max(1), open: None, dropped_bytes: 0 }
    }

    /// Writes all of it, or counts it as dropped. Pieces are not torn between files, unless one is larger than a file.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(usize::try_from(self.max_bytes).unwrap_or(usize::MAX)) {
            if self.try_write(piece).is_err() {
                self.open = None;
                self.dropped_bytes += piece.len() as u64;
            }
        }
    }

    /// Bytes that could not be written.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    fn try_write(&mut self, piece: &[u8]) -> std::io::Result<()> {
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.append()?,
        };
        if size > 0 && size + piece.len() as u64 > self.max_bytes {
            drop(file);
            self.rotate()?;
            (file, size) = self.append()?;
        }
        file.write_all(piece)?;
        self.open = Some((file, size + piece.len() as u64));
        Ok(())
    }

    fn append(&self) -> std::io::Result<(File, u64)> {
        let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    fn rotate(&self) -> std::io::Result<()> {
        if self.files == 1 {
            return std::fs::remove_file(&self.path);
        }
        for age in (0..self.files - 1).rev() {
            match std::fs::rename(self.name(age), self.name(age + 1)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    fn name(&self, age: u32) -> PathBuf {
        match age {
            0 => self.path.clone(),
            _ => {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{age}"));
                name.into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_its_limit_and_the_newest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RotatingLog::new(&path, 100, 3);
        for line in 0..100 {
            log.write(format!("line {line:04}\n").as_bytes());
        }
        drop(log);
        let mut log = RotatingLog::new(&path, 100, 3);
        log.write(b"line again\n");
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let all = format!("{}{}{}", read("log.2"), read("log.1"), read("log"));
        assert!(all.len() <= 300 && std::fs::read_dir(folder.path()).unwrap().count() == 3, "{}", all.len());
        assert!(all.ends_with("line 0099\nline again\n"));
        let numbers: Vec<&str> = all.lines().collect();
        assert!(numbers.windows(2).all(|w| w[0] < w[1]), "in order: {numbers:?}");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_does_not_stop_anybody() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = RotatingLog::new(&folder.path().join("none/log"), 10, 2);
        log.write(&[b'x'; 25]);
        assert_eq!(log.dropped_bytes(), 25);
        std::fs::create_dir(folder.path().join("none")).unwrap();
        log.write(b"now");
        assert_eq!(log.dropped_bytes(), 25);
        assert_eq!(std::fs::read(folder.path().join("none/log")).unwrap(), b"now");
    }
}
