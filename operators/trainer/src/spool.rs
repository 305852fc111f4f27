//! The spool: encoded clips as shards of tensors, and an append-only manifest that says which of them count.
//!
//! A shard is written aside, synced and renamed before its line is added to `manifest.jsonl`; `{"sealed":true}` is the last line. So a reader may
//! follow the manifest while it grows, and a killed writer leaves at most a half line and a shard without a line, both of which the next writer
//! removes. Clips that could not be encoded are lines of `refused.jsonl`: every clip is in one of the two files, or still to do.
//!
//! Tensors of sample number `i` of a shard: `i.latent` [channels, frames, height / 8, width / 8] as the VAE draws them, not scaled; `i.embed`
//! [tokens, width], valid tokens only; `i.mask` [longest], 1 for valid ones; `i.pooled` where the model has one. What can go wrong: a file that
//! changed or vanished; it is found by its hash when the spool is opened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::disk::{self, FolderLock, Result, TrainerError};
use crate::job::{Shape, pretty};

/// The lines of the shards.
pub const MANIFEST: &str = "manifest.jsonl";
/// The lines of the clips that could not be encoded.
pub const REFUSED: &str = "refused.jsonl";
/// What the spool is of.
pub const HEADER: &str = "spool.json";
/// Metadata key of a shard's samples.
const SAMPLES_KEY: &str = "samples";

/// What all samples of a spool have in common; another header is another spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Whose VAE and text encoders.
    pub architecture: Architecture,
    /// What encoded: names and hashes of models, or the trainer's command.
    pub encoder: String,
    /// The size of the clips.
    pub shape: Shape,
}

/// What is kept of a clip besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleInfo {
    /// The clip.
    pub id: String,
    /// Its caption.
    pub caption: String,
    /// Frames that were encoded.
    pub frames: u64,
    /// Pixels.
    pub height: u64,
    /// Pixels.
    pub width: u64,
    /// Frames per second.
    pub fps: f64,
}

/// A tensor of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedTensor {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its sides.
    pub shape: Vec<usize>,
    /// Numbers, little-endian.
    pub bytes: Vec<u8>,
}

/// An encoded clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What it is of.
    pub info: SampleInfo,
    /// `latent`, `embed`, `mask` and perhaps `pooled`.
    pub tensors: BTreeMap<String, OwnedTensor>,
}

/// A clip that could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The clip.
    pub id: String,
    /// A word for the reason.
    pub code: String,
    /// Details.
    pub message: String,
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardLine {
    /// File name.
    pub shard: String,
    /// Samples in it.
    pub n: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Hash of the file.
    pub sha256: String,
    /// Its clips, in order.
    pub ids: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Shard(ShardLine),
    Sealed { sealed: bool },
}

/// What a manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Shards in order.
    pub shards: Vec<ShardLine>,
    /// Nothing will be added.
    pub sealed: bool,
    /// Bytes of whole lines; what comes behind them is torn.
    pub whole_bytes: u64,
}

impl Manifest {
    /// Reads the text. A last line without an end, or one that is no line of ours, was torn by a kill and does not count; one in the middle is
    /// damage.
    pub fn parse(text: &[u8]) -> Result<Manifest> {
        let mut out = Manifest::default();
        let mut rest = text;
        let mut number = 0;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            number += 1;
            match serde_json::from_slice(line) {
                Ok(_) if out.sealed => return Err(TrainerError(format!("line {number} of the manifest comes after its seal"))),
                Ok(Line::Shard(shard)) if shard.n == shard.ids.len() as u64 => out.shards.push(shard),
                Ok(Line::Sealed { sealed: true }) => out.sealed = true,
                Ok(_) => return Err(TrainerError(format!("line {number} of the manifest contradicts itself"))),
                Err(_) if after.is_empty() => break,
                Err(e) => return Err(TrainerError(format!("line {number} of the manifest is damaged: {e}"))),
            }
            out.whole_bytes += end as u64 + 1;
            rest = after;
        }
        let mut seen = BTreeSet::new();
        match out.shards.iter().flat_map(|s| &s.ids).find(|id| !seen.insert(id.as_str())) {
            Some(id) => Err(TrainerError(format!("clip `{id}` is in the manifest twice"))),
            None => Ok(out),
        }
    }

    /// Samples in all shards.
    pub fn samples(&self) -> u64 {
        self.shards.iter().map(|s| s.n).sum()
    }
}

/// A spool that is read.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    /// See [`Header`].
    pub header: Header,
    /// See [`Manifest`].
    pub manifest: Manifest,
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = if path.exists() { disk::read(&path)? } else { Vec::new() };
    Manifest::parse(&text).map_err(|e| TrainerError(format!("{}: {e}; remove the spool and prepare again", path.display())))
}

impl Spool {
    /// Opens one; files are not looked at yet.
    pub fn open(folder: &Path) -> Result<Spool> {
        let path = folder.join(HEADER);
        if !path.is_file() {
            return Err(TrainerError(format!("{} is no spool: it has no {HEADER}", folder.display())));
        }
        let header = serde_json::from_slice(&disk::read(&path)?).map_err(|e| TrainerError::at("read", &path, e))?;
        Ok(Spool { folder: folder.to_owned(), header, manifest: read_manifest(folder)? })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Hash of the lines that count: names the data.
    pub fn digest(&self) -> Result<String> {
        let text = disk::read(&self.folder.join(MANIFEST))?;
        let whole = usize::try_from(self.manifest.whole_bytes).unwrap_or(usize::MAX);
        Ok(disk::sha256(&text[..whole.min(text.len())]))
    }

    /// Every shard is there and is what the manifest says.
    pub fn verify(&self) -> Result<()> {
        self.manifest.shards.iter().try_for_each(|line| self.shard_bytes(line).map(|_| ()))
    }

    /// The samples of a shard. Its hash is checked.
    pub fn shard(&self, line: &ShardLine) -> Result<Vec<Sample>> {
        let bytes = self.shard_bytes(line)?;
        let path = self.folder.join(&line.shard);
        let samples = read_shard(&bytes).map_err(|e| TrainerError::at("read", &path, e))?;
        match samples.iter().map(|s| &s.info.id).eq(&line.ids) {
            true => Ok(samples),
            false => Err(TrainerError::at("read", &path, "it does not hold the clips that the manifest names")),
        }
    }

    fn shard_bytes(&self, line: &ShardLine) -> Result<Vec<u8>> {
        let path = self.folder.join(&line.shard);
        let bytes = disk::read(&path)?;
        if bytes.len() as u64 != line.bytes || disk::sha256(&bytes) != line.sha256 {
            let what = "it is not the file that was written (its hash differs); remove the spool and prepare again";
            return Err(TrainerError::at("use", &path, what));
        }
        Ok(bytes)
    }
}

fn shard_name(number: usize) -> String {
    format!("{number:06}.safetensors")
}

fn write_shard(samples: &[Sample]) -> Result<Vec<u8>> {
    let infos: Vec<&SampleInfo> = samples.iter().map(|s| &s.info).collect();
    let infos = serde_json::to_string(&infos).map_err(|e| TrainerError::new(e.to_string()))?;
    let mut views = Vec::new();
    for (number, sample) in samples.iter().enumerate() {
        for (name, tensor) in &sample.tensors {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            let view = view.map_err(|e| TrainerError(format!("tensor `{name}` of clip `{}`: {e}", sample.info.id)))?;
            views.push((format!("{number:05}.{name}"), view));
        }
    }
    let metadata = HashMap::from([(SAMPLES_KEY.to_owned(), infos)]);
    safetensors::serialize(views, Some(metadata)).map_err(|e| TrainerError::new(e.to_string()))
}

/// Reads the samples of a shard, ours or a trainer's.
pub fn read_shard(bytes: &[u8]) -> std::result::Result<Vec<Sample>, String> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let infos = metadata.metadata().as_ref().and_then(|m| m.get(SAMPLES_KEY)).ok_or("its metadata lack `samples`")?;
    let infos: Vec<SampleInfo> = serde_json::from_str(infos).map_err(|e| format!("its metadata `samples`: {e}"))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut samples: Vec<Sample> = infos.into_iter().map(|info| Sample { info, tensors: BTreeMap::new() }).collect();
    for (name, view) in tensors.tensors() {
        let (number, what) = name.split_once('.').ok_or_else(|| format!("tensor `{name}` has no number"))?;
        let sample = number.parse().ok().and_then(|n: usize| samples.get_mut(n));
        let sample = sample.ok_or_else(|| format!("tensor `{name}` is of a sample that is not there"))?;
        let tensor = OwnedTensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
        sample.tensors.insert(what.to_owned(), tensor);
    }
    Ok(samples)
}

/// A spool that is written, by one process at a time.
#[derive(Debug)]
pub struct SpoolWriter {
    folder: PathBuf,
    manifest: Manifest,
    done: BTreeSet<String>,
    refused: BTreeMap<String, Refusal>,
    _lock: FolderLock,
}

impl SpoolWriter {
    /// Opens or makes a spool, and removes what a killed writer left behind.
    pub fn open(folder: &Path, header: &Header) -> Result<SpoolWriter> {
        let lock = disk::lock(folder)?;
        let path = folder.join(HEADER);
        if path.exists() {
            let there: Header = serde_json::from_slice(&disk::read(&path)?).map_err(|e| TrainerError::at("read", &path, e))?;
            if there != *header {
                let why =
                    "it was made by other encoders, for another model or another size of clips; name another folder or remove it";
                return Err(TrainerError::at("go on with the spool", folder, why));
            }
        } else {
            disk::write_whole(&path, &pretty(header)?)?;
        }
        let manifest = read_manifest(folder)?;
        cut(&folder.join(MANIFEST), manifest.whole_bytes)?;
        let (refused, whole) = read_refused(&folder.join(REFUSED))?;
        cut(&folder.join(REFUSED), whole)?;
        let named: BTreeSet<&str> = manifest.shards.iter().map(|s| s.shard.as_str()).collect();
        let failed = |e: std::io::Error| TrainerError::at("read", folder, e);
        for entry in fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            let torn = name.ends_with(".safetensors.tmp") || name.ends_with(".safetensors") && !named.contains(name.as_str());
            if torn {
                let path = folder.join(name);
                fs::remove_file(&path).map_err(|e| TrainerError::at("remove", &path, e))?;
            }
        }
        let done = manifest.shards.iter().flat_map(|s| s.ids.iter().cloned()).collect();
        let writer = SpoolWriter { folder: folder.to_owned(), manifest, done, refused, _lock: lock };
        // The last one is what a crash of the machine can have torn although its line is there.
        if let Some(last) = writer.manifest.shards.last() {
            Spool { folder: folder.to_owned(), header: header.clone(), manifest: Manifest::default() }.shard_bytes(last)?;
        }
        Ok(writer)
    }

    /// True for clips that are encoded or refused already.
    pub fn knows(&self, id: &str) -> bool {
        self.done.contains(id) || self.refused.contains_key(id)
    }

    /// Nothing may be added.
    pub fn is_sealed(&self) -> bool {
        self.manifest.sealed
    }

    /// Samples so far.
    pub fn samples(&self) -> u64 {
        self.manifest.samples()
    }

    /// Clips that could not be encoded.
    pub fn refused(&self) -> &BTreeMap<String, Refusal> {
        &self.refused
    }

    /// Bytes of all shards.
    pub fn bytes(&self) -> u64 {
        self.manifest.shards.iter().map(|s| s.bytes).sum()
    }

    /// Adds a shard; an empty one is nothing. Clips that are there already are an error: whoever encodes asks [`SpoolWriter::knows`] first.
    pub fn add(&mut self, samples: &[Sample]) -> Result<()> {
        if samples.is_empty() {
            return Ok(());
        }
        if self.manifest.sealed {
            return Err(TrainerError(format!("the spool {} is sealed", self.folder.display())));
        }
        let ids: Vec<String> = samples.iter().map(|s| s.info.id.clone()).collect();
        let distinct: BTreeSet<&String> = ids.iter().collect();
        if let Some(id) = ids.iter().find(|id| self.knows(id)).or((distinct.len() < ids.len()).then(|| &ids[0])) {
            return Err(TrainerError(format!("clip `{id}` comes to the spool twice")));
        }
        let bytes = write_shard(samples)?;
        let name = shard_name(self.manifest.shards.len());
        disk::write_whole(&self.folder.join(&name), &bytes)?;
        let sha256 = disk::sha256(&bytes);
        let line = ShardLine { shard: name, n: ids.len() as u64, bytes: bytes.len() as u64, sha256, ids };
        self.append(MANIFEST, &line)?;
        self.done.extend(line.ids.iter().cloned());
        self.manifest.shards.push(line);
        Ok(())
    }

    /// Records clips that cannot be encoded.
    pub fn refuse(&mut self, refusals: Vec<Refusal>) -> Result<()> {
        for refusal in refusals {
            if !self.knows(&refusal.id) {
                self.append(REFUSED, &refusal)?;
                self.refused.insert(refusal.id.clone(), refusal);
            }
        }
        Ok(())
    }

    /// Nothing will be added.
    pub fn seal(&mut self) -> Result<()> {
        if !self.manifest.sealed {
            self.append(MANIFEST, &Line::Sealed { sealed: true })?;
            self.manifest.sealed = true;
        }
        Ok(())
    }

    fn append(&self, file: &str, line: &impl Serialize) -> Result<()> {
        let path = self.folder.join(file);
        let failed = |e: std::io::Error| TrainerError::at("write", &path, e);
        let mut text = serde_json::to_vec(line).map_err(|e| TrainerError::new(e.to_string()))?;
        text.push(b'\n');
        let is_new = !path.exists();
        let mut open = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        open.write_all(&text).and_then(|()| open.sync_all()).map_err(failed)?;
        if is_new { disk::sync_folder(&self.folder) } else { Ok(()) }
    }
}

fn read_refused(path: &Path) -> Result<(BTreeMap<String, Refusal>, u64)> {
    let (mut out, mut whole) = (BTreeMap::new(), 0);
    if !path.exists() {
        return Ok((out, 0));
    }
    for line in disk::read(path)?.split_inclusive(|b| *b == b'\n') {
        match serde_json::from_slice::<Refusal>(line) {
            Ok(refusal) if line.ends_with(b"\n") => drop(out.insert(refusal.id.clone(), refusal)),
            // Torn; the clip is tried again.
            _ => break,
        }
        whole += line.len() as u64;
    }
    Ok((out, whole))
}

fn cut(path: &Path, whole: u64) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let failed = |e: std::io::Error| TrainerError::at("repair", path, e);
    let file = File::options().write(true).open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > whole {
        tracing::warn!(file = %path.display(), "The last line was torn by a kill and is removed");
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "spool_tests.rs"]
pub(crate) mod tests;
