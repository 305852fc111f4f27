//! One tar file with models, for machines without a network: manifests first, then the lock's pins, then blobs named by their hash.
//!
//! What can go wrong: a tar from elsewhere may hold anything. Only known entry names are read, blobs are hashed as they come in, and nothing is unpacked by
//! the path that the archive gives.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::blobs::{MAX_BLOB_BYTES, Put, hash_file, io, replace};
use super::{Known, Lock, Pin, Store, known_hash, licence_gate};
use crate::manifest::{Manifest, is_sha256};
use crate::{ErrorKind, ModelError, Result};

/// Largest manifest or lock in an archive, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Most entries of an archive.
const MAX_ENTRIES: usize = 10_000;

/// What an import brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Names of the models in the archive.
    pub models: Vec<String>,
    /// Blobs written.
    pub blobs: usize,
    /// Blobs that were there.
    pub already: usize,
}

impl Store {
    /// Writes the models and their files to a tar file. Every file must be on this machine.
    pub fn export(&self, models: &[Known], to: &Path) -> Result<()> {
        let lock = Lock::read(&self.lock_file)?;
        let (mut pins, mut blobs) = (Lock::default(), Vec::new());
        for known in models {
            for file in &known.manifest.files {
                let located = self.locate_file(known, file, &lock)?;
                let (have, bytes) = hash_file(&located.path)?;
                if let Some(want) = known_hash(&known.manifest, file, &lock).filter(|want| *want != have) {
                    return Err(super::blobs::wrong_hash(&known.manifest.name, &located.path, &want, &have, bytes));
                }
                let (model, version) = (known.manifest.name.clone(), known.manifest.version.clone());
                pins.set(Pin { model, version, role: file.role, sha256: have.clone(), bytes });
                blobs.push((have, located.path));
            }
        }
        blobs.sort();
        blobs.dedup_by(|a, b| a.0 == b.0);

        let part = to.with_extension("tar.part");
        let mut archive = tar::Builder::new(File::create(&part).map_err(|e| io(&part, &e))?);
        let written = (|| {
            for known in models {
                let text = toml::to_string(&known.manifest).map_err(std::io::Error::other)?;
                append(&mut archive, &format!("manifests/{}.toml", known.manifest.name), text.as_bytes(), text.len() as u64)?;
            }
            let text = toml::to_string(&pins).map_err(std::io::Error::other)?;
            append(&mut archive, "models.lock", text.as_bytes(), text.len() as u64)?;
            for (sha256, path) in &blobs {
                let file = File::open(path)?;
                let size = file.metadata()?.len();
                append(&mut archive, &format!("blobs/{sha256}"), file, size)?;
            }
            archive.into_inner()?.sync_all()
        })();
        written.and_then(|()| std::fs::rename(&part, to)).map_err(|e| {
            // The error itself matters more than a leftover.
            let _ = std::fs::remove_file(&part);
            io(to, &e)
        })
    }

    /// Reads a tar file that [`Store::export`] wrote. Manifests that are not built in are written to the folder of manifests.
    pub fn import(&self, from: &Path, accept_licence: bool) -> Result<Imported> {
        let odd = |what: String| {
            ModelError::new(ErrorKind::Store, format!("{}: {what}", from.display()))
                .help("it must be a file that `curette models export` wrote")
        };
        let mut archive = tar::Archive::new(File::open(from).map_err(|e| io(from, &e))?);
        let mut out = Imported::default();
        let mut known = self.known()?;
        let _alone = super::blobs::lock_folder_of(&self.lock_file)?;
        let mut lock = Lock::read(&self.lock_file)?;
        let mut pinned: Vec<String> = Vec::new();
        for (number, entry) in archive.entries().map_err(|e| io(from, &e))?.enumerate() {
            if number >= MAX_ENTRIES {
                return Err(odd(format!("it holds more than {MAX_ENTRIES} files")));
            }
            let mut entry = entry.map_err(|e| odd(e.to_string()))?;
            if !entry.header().entry_type().is_file() {
                return Err(odd("it holds something that is no plain file".into()));
            }
            let name = entry.path().map_err(|e| odd(e.to_string()))?.to_string_lossy().into_owned();
            if let Some(file) = name.strip_prefix("manifests/") {
                let text = text(&mut entry).map_err(|e| odd(format!("{name}: {e}")))?;
                let manifest = Manifest::parse(&text, &from.join(file))?;
                licence_gate(&manifest, accept_licence)?;
                let new = match known.get(&manifest.name) {
                    Some(have) if have.manifest == manifest => false,
                    Some(_) => return Err(odd(format!("its manifest of `{}` differs from the one here", manifest.name))),
                    None => true,
                };
                if new {
                    let folder = self.manifests.as_ref().ok_or_else(|| {
                        odd(format!("the manifest of `{}` is not built in and has no place here", manifest.name))
                            .help("name a folder with --models or CURETTE_MODELS")
                    })?;
                    let path = folder.join(format!("{}.toml", manifest.name));
                    if path.exists() {
                        return Err(odd(format!("{} describes another model; move it away", path.display())));
                    }
                    replace(&path, text.as_bytes())?;
                    known.insert(manifest.name.clone(), Known { manifest: manifest.clone(), path: Some(path) });
                }
                out.models.push(manifest.name);
            } else if name == "models.lock" {
                let text = text(&mut entry).map_err(|e| odd(format!("{name}: {e}")))?;
                let pins: Lock = toml::from_str(&text).map_err(|e| odd(format!("{name}: {}", e.message())))?;
                for pin in pins.pin {
                    let open = known.get(&pin.model).and_then(|k| k.manifest.file(pin.role)).is_some_and(|f| f.sha256.is_none());
                    if open && is_sha256(&pin.sha256) && out.models.contains(&pin.model) {
                        if lock.pin(&pin.model, &pin.version, pin.role).is_some_and(|have| have.sha256 != pin.sha256) {
                            let what =
                                format!("its {} of `{}` is another one than models.lock has here", pin.role.name(), pin.model);
                            return Err(odd(what).help("run `curette models add` if the other one is wanted"));
                        }
                        pinned.push(pin.sha256.clone());
                        lock.set(pin);
                    }
                }
            } else if let Some(sha256) = name.strip_prefix("blobs/").filter(|h| is_sha256(h)) {
                if self.blobs.has(sha256) {
                    out.already += 1;
                    continue;
                }
                let size = entry.size();
                if size > MAX_BLOB_BYTES {
                    return Err(odd(format!("{name} says that it has {size} bytes")));
                }
                match self.blobs.put_from(sha256, &name, size, &mut entry)? {
                    Put::Already => out.already += 1,
                    Put::Brought(_) => out.blobs += 1,
                }
            } else {
                return Err(odd(format!("it holds `{name}`")));
            }
        }
        if out.models.is_empty() {
            return Err(odd("it holds no model".into()));
        }
        // A file that was cut short ends like a whole one.
        if let Some(missing) = pinned.iter().find(|sha256| !self.blobs.has(sha256)) {
            return Err(odd(format!("blob {missing} is named in it and not there; it was cut short")));
        }
        lock.write(&self.lock_file)?;
        Ok(out)
    }
}

fn append(archive: &mut tar::Builder<File>, name: &str, content: impl Read, size: u64) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, content)
}

fn text(entry: &mut impl Read) -> std::io::Result<String> {
    let mut out = String::new();
    entry.take(MAX_TEXT_BYTES).read_to_string(&mut out)?;
    Ok(out)
}
