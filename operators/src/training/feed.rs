//! Clips of a committed table to the trainer's `prepare`, shard by shard.
//!
//! Ids and captions are read ahead; the bytes of a clip become a file only while its shard is encoded, so the disk holds the files of one shard. What
//! can go wrong: a row without a clip, or whose file is gone; it is refused with the reason, like a clip that cannot be encoded.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use curette_trainer::command_encoder::CommandEncoder;
use curette_trainer::disk::{self, Result, TrainerError};
use curette_trainer::prepare::{Clip, Encoded, Encoder};
use curette_trainer::spool::Refusal;

use super::rows::{ClipTable, Content, NoClip, Place};
use crate::sources::files::is_url;

/// Rows whose captions are read at once.
const CHUNK: usize = 1024;

/// The rows of a table as clips whose files are still to be made.
pub fn clips<'a>(table: &'a ClipTable, places: &'a [Place]) -> impl Iterator<Item = Result<Clip>> + 'a {
    places.chunks(CHUNK).flat_map(move |chunk| -> Box<dyn Iterator<Item = Result<Clip>>> {
        match table.rows(chunk) {
            Ok(rows) => Box::new(
                rows.into_iter().map(|row| Ok(Clip { id: row.id, path: PathBuf::new(), caption: row.caption, facts: row.facts })),
            ),
            Err(e) => Box::new(std::iter::once(Err(TrainerError(e)))),
        }
    })
}

/// The trainer's `prepare`, given files of the clips.
pub struct FromTable<'a> {
    /// Where the clips are.
    pub table: &'a ClipTable,
    /// All rows, by id.
    pub places: &'a [Place],
    /// Encodes.
    pub inner: CommandEncoder,
    /// Folder for the files of a shard.
    pub folder: PathBuf,
    /// Clips that were handed to it.
    pub handed: u64,
}

impl FromTable<'_> {
    /// The path of a file with this clip.
    fn file(&self, clip: &Clip, number: usize) -> Result<std::result::Result<PathBuf, NoClip>> {
        let found = self.places.binary_search_by(|place| place.id.as_str().cmp(&clip.id));
        let place = found.map(|at| &self.places[at]).map_err(|_| TrainerError(format!("clip `{}` is in no row", clip.id)))?;
        let bytes = match self.table.content(place).map_err(TrainerError)? {
            Content::Nothing => return Ok(Err(self.table.nothing())),
            // A file on this machine is used where it is.
            Content::File(uri) if !is_url(&uri) => {
                let path = PathBuf::from(uri.strip_prefix("file://").unwrap_or(&uri));
                let missing = || ("file_missing".to_owned(), format!("its clip {} does not exist", path.display()));
                return Ok(if path.is_file() { Ok(path) } else { Err(missing()) });
            }
            Content::File(uri) => match self.table.file(&uri) {
                Ok(bytes) => bytes,
                Err(refused) => return Ok(Err(refused)),
            },
            Content::Bytes(bytes) => bytes,
        };
        let path = self.folder.join(format!("{number:05}.mp4"));
        std::fs::write(&path, bytes).map_err(|e| TrainerError::at("write", &path, e))?;
        Ok(Ok(path))
    }

    fn clear(&self) -> Result<()> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).map_err(|e| TrainerError::at("remove", &self.folder, e))?;
        }
        Ok(())
    }
}

impl Encoder for FromTable<'_> {
    fn identity(&self) -> String {
        self.inner.identity()
    }

    fn encode(&mut self, clips: &[Clip], cancel: &AtomicBool) -> Result<Vec<Encoded>> {
        // A killed run may have left some.
        self.clear()?;
        disk::make_folder(&self.folder)?;
        let mut refused: Vec<Option<Refusal>> = Vec::with_capacity(clips.len());
        let mut there = Vec::new();
        for (number, clip) in clips.iter().enumerate() {
            if cancel.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            refused.push(match self.file(clip, number)? {
                Ok(path) => {
                    there.push(Clip { path, ..clip.clone() });
                    None
                }
                Err((code, message)) => Some(Refusal { id: clip.id.clone(), code, message }),
            });
        }
        let encoded = if there.is_empty() { Vec::new() } else { self.inner.encode(&there, cancel)? };
        let mut encoded = encoded.into_iter();
        self.clear()?;
        self.handed += clips.len() as u64;
        tracing::info!(clips = self.handed, of = self.places.len(), "Clips encoded or refused by this run");
        // When it was cancelled there are too few, and nobody looks at them.
        Ok(refused.into_iter().map_while(|refusal| refusal.map_or_else(|| encoded.next(), |r| Some(Err(r)))).collect())
    }
}
