//! Publishing an adapter: a folder that appears as a whole, with the hashes of its files and where it comes from.
//!
//! Why by key: the folder's name is a hash of the job, the data and the software, so that publishing twice is publishing once, and an adapter of
//! other data never takes the place of this one. `latest.json` names the newest. What can go wrong: a folder of that name whose files have changed;
//! it is reported and left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::disk::{self, Result, TrainerError};
use crate::gates::{ADAPTER_FILE, Expected};
use crate::job::{Job, pretty};
use crate::policy::State;

/// The average of the adapter, in a checkpoint of a job that keeps one.
pub const EMA_FILE: &str = "ema_lora_weights.safetensors";
/// The hashes of the published files.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Where the adapter comes from.
pub const PROVENANCE_FILE: &str = "provenance.json";
/// Names the newest published folder.
pub const LATEST_FILE: &str = "latest.json";
/// Characters of the key in a folder's name.
const KEY_CHARACTERS: usize = 16;

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Hash of job, data and software: names the publication.
    pub key: String,
    /// Hash of the job.
    pub job_sha256: String,
    /// The job itself.
    pub job: Job,
    /// Versions that the trainer reported, and ours.
    pub versions: BTreeMap<String, String>,
    /// The step of the checkpoint.
    pub step: u64,
    /// What the gates saw.
    pub gates: Expected,
    /// What restarts have changed: samples and batches left out, the form of the batch.
    pub state: State,
}

/// A published adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its folder.
    pub folder: PathBuf,
    /// It was there already.
    pub already: bool,
}

/// What `latest.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latest {
    /// Folder beside it.
    pub folder: String,
    /// Hash of the job that it is of.
    pub job_sha256: String,
    /// Hash of the data's manifest.
    pub manifest_sha256: String,
}

/// The versions that count: text and numbers of the trainer's `env`, and this crate's.
pub fn version_lock(env: &Map<String, Value>) -> BTreeMap<String, String> {
    let of_protocol = ["v", "run", "attempt", "ts", "seq"];
    let named = env.iter().filter(|(name, _)| !of_protocol.contains(&name.as_str()));
    let mut lock: BTreeMap<String, String> = named
        .filter_map(|(name, value)| match value {
            Value::String(text) => Some((name.clone(), text.clone())),
            Value::Number(number) => Some((name.clone(), number.to_string())),
            Value::Bool(flag) => Some((name.clone(), flag.to_string())),
            _ => None,
        })
        .collect();
    lock.insert("curette".into(), env!("CARGO_PKG_VERSION").into());
    lock
}

/// Hash of what decides the adapter.
pub fn key(job_sha256: &str, manifest_sha256: &str, versions: &BTreeMap<String, String>) -> String {
    let mut text = format!("{job_sha256}\n{manifest_sha256}\n");
    for (name, version) in versions {
        text.push_str(&format!("{name}={version}\n"));
    }
    disk::sha256(text.as_bytes())
}

/// Publishes the adapter of a checkpoint below `to`.
pub fn publish(checkpoint: &Path, to: &Path, provenance: &Provenance) -> Result<Published> {
    let name = format!("adapter-{}", provenance.key.get(..KEY_CHARACTERS).unwrap_or(&provenance.key));
    let folder = to.join(&name);
    disk::make_folder(to)?;
    let already = folder.exists();
    if already {
        verify(&folder)?;
    } else {
        let half = to.join(format!(".{name}.tmp"));
        if half.exists() {
            fs::remove_dir_all(&half).map_err(|e| TrainerError::at("remove the half-made", &half, e))?;
        }
        disk::make_folder(&half)?;
        let mut files = vec![ADAPTER_FILE];
        files.extend(provenance.job.settings.ema.map(|_| EMA_FILE));
        for file in files {
            disk::write_whole(&half.join(file), &disk::read(&checkpoint.join(file))?)?;
        }
        disk::write_whole(&half.join(PROVENANCE_FILE), &pretty(provenance)?)?;
        let sums = sums(&half)?;
        disk::write_whole(&half.join(MANIFEST_FILE), &pretty(&sums)?)?;
        fs::rename(&half, &folder).map_err(|e| TrainerError::at("publish", &folder, e))?;
        disk::sync_folder(to)?;
    }
    let latest = Latest {
        folder: name,
        job_sha256: provenance.job_sha256.clone(),
        manifest_sha256: provenance.job.data.manifest_sha256.clone(),
    };
    disk::write_whole(&to.join(LATEST_FILE), &pretty(&latest)?)?;
    Ok(Published { folder, already })
}

/// The newest publication, if it is of this job and this data, and whole.
pub fn published(to: &Path, job_sha256: &str, manifest_sha256: &str) -> Result<Option<PathBuf>> {
    let path = to.join(LATEST_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let latest: Latest = serde_json::from_slice(&disk::read(&path)?).map_err(|e| TrainerError::at("read", &path, e))?;
    if latest.job_sha256 != job_sha256 || latest.manifest_sha256 != manifest_sha256 {
        return Ok(None);
    }
    let folder = to.join(latest.folder);
    verify(&folder)?;
    Ok(Some(folder))
}

fn sums(folder: &Path) -> Result<BTreeMap<String, String>> {
    let failed = |e: std::io::Error| TrainerError::at("read", folder, e);
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name != MANIFEST_FILE {
            out.insert(name.clone(), disk::sha256_of(&folder.join(name))?);
        }
    }
    Ok(out)
}

/// The files of a published folder are those that were published.
pub fn verify(folder: &Path) -> Result<()> {
    let path = folder.join(MANIFEST_FILE);
    let wanted: BTreeMap<String, String> =
        serde_json::from_slice(&disk::read(&path)?).map_err(|e| TrainerError::at("read", &path, e))?;
    for (name, sum) in &wanted {
        if disk::sha256_of(&folder.join(name))? != *sum {
            let what =
                format!("{} is not the file that was published; move the folder away and run again", folder.join(name).display());
            return Err(TrainerError(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_twice_is_publishing_once_and_changed_files_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let (checkpoint, to) = (folder.path().join("ckpt"), folder.path().join("out"));
        fs::create_dir(&checkpoint).unwrap();
        fs::write(checkpoint.join(ADAPTER_FILE), b"weights").unwrap();
        let job = crate::job::tests::job(folder.path());
        let versions = version_lock(serde_json::json!({"torch": "2.15.0", "cuda": false, "v": 1}).as_object().unwrap());
        assert_eq!(versions.keys().collect::<Vec<_>>(), ["cuda", "curette", "torch"]);
        let provenance = Provenance {
            key: key("j", "m", &versions),
            job_sha256: "j".into(),
            job,
            versions,
            step: 5,
            gates: Expected::default(),
            state: State::new(1, 1),
        };
        let first = publish(&checkpoint, &to, &provenance).unwrap();
        let second = publish(&checkpoint, &to, &provenance).unwrap();
        assert_eq!((first.already, second.already, &first.folder), (false, true, &second.folder));
        assert_eq!(published(&to, "j", "00").unwrap(), Some(first.folder.clone()));
        assert_eq!(published(&to, "other", "00").unwrap(), None);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 2, "the folder and latest.json");
        fs::write(first.folder.join(ADAPTER_FILE), b"changed").unwrap();
        assert!(published(&to, "j", "00").is_err_and(|e| e.0.contains("is not the file that was published")));
    }
}
