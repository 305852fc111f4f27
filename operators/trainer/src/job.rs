//! `job.json`: all that a training is, with every value resolved. `attempt.json`: what one start of the processes is told besides.
//!
//! Why two files: the job never changes, so its hash names the training and its checkpoints; restarts change what is left out and how a batch is
//! dealt out. What can go wrong: a job of another version of this crate; the number in it is checked.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::architecture::Architecture;
use crate::disk::{self, Result, TrainerError};
use crate::policy::State;
use crate::preset::Settings;

/// The version of these files.
pub const JOB_VERSION: u32 = 1;

/// A training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// See [`JOB_VERSION`].
    pub version: u32,
    /// What is trained.
    pub model: Model,
    /// What it is trained on.
    pub data: Data,
    /// Size of the clips.
    pub shape: Shape,
    /// How it is trained.
    pub settings: Settings,
    /// Processes.
    pub ranks: u32,
    /// Where checkpoints go. No part of the hash.
    pub out: PathBuf,
    /// Keys that only the trainer knows.
    #[serde(default)]
    pub trainer: Map<String, Value>,
}

/// The frozen model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its family.
    pub architecture: Architecture,
    /// Folder, or the name that the trainer knows it by.
    pub weights: String,
    /// Which revision of that name.
    #[serde(default)]
    pub revision: String,
}

/// The samples.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Folder of the spool. No part of the hash: the digest tells what is in it.
    pub spool: PathBuf,
    /// Hash of the spool's manifest.
    pub manifest_sha256: String,
    /// Samples in it.
    pub samples: u64,
    /// The table that the clips are from. Like the next two no part of the hash: the same samples are the same work, whichever table they are from.
    pub table: String,
    /// Its version.
    pub table_version: u64,
    /// Hash of the plan that made it; empty if that is not known.
    #[serde(default)]
    pub plan_hash: String,
}

/// The size of each clip that is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Frames.
    pub frames: u64,
    /// Pixels.
    pub height: u64,
    /// Pixels.
    pub width: u64,
    /// Frames per second.
    pub fps: f64,
}

impl Job {
    /// Names the training: equal for equal work, wherever its files are.
    pub fn hash(&self) -> Result<String> {
        let mut job = self.clone();
        job.out = PathBuf::new();
        job.data = Data { manifest_sha256: job.data.manifest_sha256, samples: job.data.samples, ..Data::default() };
        let text = serde_json::to_vec(&job).map_err(|e| TrainerError::new(format!("the job has no form in JSON: {e}")))?;
        Ok(disk::sha256(&text))
    }

    /// Reads `job.json`.
    pub fn read(path: &Path) -> Result<Job> {
        let job: Job = serde_json::from_slice(&disk::read(path)?).map_err(|e| TrainerError::at("read", path, e))?;
        match job.version {
            JOB_VERSION => Ok(job),
            other => Err(TrainerError::at("use", path, format!("it is of version {other}, this program knows {JOB_VERSION}"))),
        }
    }

    /// Writes `job.json`.
    pub fn write(&self, path: &Path) -> Result<()> {
        disk::write_whole(path, &pretty(self)?)
    }
}

/// What one start of the processes is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptOrder {
    /// From 1, over all runs of the job.
    pub attempt: u32,
    /// Go on from the checkpoint before the newest one, if there is one.
    pub previous_checkpoint: bool,
    /// Samples of one forward pass on one rank.
    pub micro_batch: u32,
    /// Forward passes of a step.
    pub accumulation: u32,
    /// Samples to leave out.
    pub quarantined: Vec<String>,
    /// Batches to leave out, by the cursor at which they start.
    pub skip_cursors: Vec<u64>,
}

impl AttemptOrder {
    /// From what is known so far.
    pub fn of(attempt: u32, state: &State) -> AttemptOrder {
        AttemptOrder {
            attempt,
            previous_checkpoint: state.previous_checkpoint,
            micro_batch: state.micro_batch,
            accumulation: state.accumulation,
            quarantined: state.quarantined.iter().cloned().collect(),
            skip_cursors: state.skip_cursors.iter().copied().collect(),
        }
    }
}

/// JSON for people.
pub fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| TrainerError::new(format!("no form in JSON: {e}")))?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::preset::Preset;

    pub(crate) fn job(out: &Path) -> Job {
        Job {
            version: JOB_VERSION,
            model: Model { architecture: Architecture::Hunyuan, weights: "tiny".into(), revision: String::new() },
            data: Data {
                spool: out.join("spool"),
                manifest_sha256: "00".into(),
                samples: 8,
                table: "clips".into(),
                table_version: 3,
                plan_hash: String::new(),
            },
            shape: Shape { frames: 93, height: 480, width: 848, fps: 24.0 },
            settings: Preset::PaperCode.settings(),
            ranks: 1,
            out: out.join("run"),
            trainer: Map::new(),
        }
    }

    #[test]
    fn a_job_is_named_by_its_work_and_not_by_its_folders() {
        let (a, b) = (job(Path::new("/a")), job(Path::new("/b")));
        assert_eq!(a.hash().unwrap(), b.hash().unwrap());
        let mut other_table = b.clone();
        (other_table.data.table_version, other_table.data.plan_hash) = (4, "ff".into());
        assert_eq!(a.hash().unwrap(), other_table.hash().unwrap());
        other_table.data.manifest_sha256 = "01".into();
        assert_ne!(a.hash().unwrap(), other_table.hash().unwrap());
        let mut more = a.clone();
        more.settings.steps += 1;
        assert_ne!(a.hash().unwrap(), more.hash().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.json");
        a.write(&path).unwrap();
        assert_eq!(Job::read(&path).unwrap(), a);
        Job { version: 2, ..a }.write(&path).unwrap();
        assert!(Job::read(&path).is_err_and(|e| e.0.ends_with("it is of version 2, this program knows 1")));
    }
}
