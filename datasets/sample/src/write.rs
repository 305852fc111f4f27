//! Writes the whole corpus into a folder, once: a second call with the same version and seed does nothing.
//!
//! What can go wrong: a folder that was made by another version or seed is brought up to date; files that are no longer part of the corpus are
//! removed, but only those that a former call wrote itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use crate::generate::{video_seed, write_video, write_whole};
use crate::spec::{Damage, Video};
use crate::truth::{LABEL_HEADER, label_lines, truth};
use crate::{GENERATOR_VERSION, SampleError, corpus};

/// At most this many videos are drawn at once; more would only take memory.
const MAX_THREADS: usize = 8;
const STAMP: &str = "stamp.json";

/// What was written, by which version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    generator_version: u32,
    seed: u64,
    /// Path below the folder and size in bytes.
    files: BTreeMap<String, u64>,
}

/// What [`write_corpus`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was there already.
    UpToDate { files: usize },
    /// Written anew.
    Written { files: usize, bytes: u64 },
}

/// Makes the corpus in `out`: `videos/`, `train/`, `truth.jsonl`, `train/labels.csv`, `video-labels.csv` (of `videos/`).
pub fn write_corpus(out: &Path, seed: u64, force: bool) -> Result<Outcome, SampleError> {
    let old = read_stamp(out);
    if !force && old.generator_version == GENERATOR_VERSION && old.seed == seed && all_there(out, &old) {
        return Ok(Outcome::UpToDate { files: old.files.len() });
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SampleError::Io { path, source }
    };
    for folder in ["videos", "train"] {
        fs::create_dir_all(out.join(folder)).map_err(io(&out.join(folder)))?;
    }
    // Without a stamp, a call that is killed half way is not taken for a whole corpus.
    match fs::remove_file(out.join(STAMP)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(&out.join(STAMP))(e)),
        _ => {}
    }
    gstreamer::init().map_err(|e| SampleError::Gstreamer(e.to_string()))?;
    let (videos, training) = (corpus::videos(), corpus::training());
    let jobs: Vec<(&str, &Video)> = videos.iter().map(|v| ("videos", v)).chain(training.iter().map(|v| ("train", v))).collect();
    let mut names = write_all(&jobs, out, seed)?;
    let truths: String = videos.iter().map(|v| serde_json::json!(truth(v, video_seed(seed, v))).to_string() + "\n").collect();
    let labels = |list: &[Video]| {
        let lines: String =
            list.iter().filter(|v| v.damage == Damage::None).map(|v| label_lines(v, video_seed(seed, v))).collect();
        LABEL_HEADER.to_owned() + &lines
    };
    write_whole(out, "truth.jsonl", truths.as_bytes())?;
    write_whole(out, "video-labels.csv", labels(&videos).as_bytes())?;
    write_whole(&out.join("train"), "labels.csv", labels(&training).as_bytes())?;
    names.extend(["truth.jsonl", "video-labels.csv", "train/labels.csv"].map(str::to_owned));
    let mut stamp = Stamp { generator_version: GENERATOR_VERSION, seed, files: BTreeMap::new() };
    for name in names {
        let size = fs::metadata(out.join(&name)).map_err(io(&out.join(&name)))?.len();
        stamp.files.insert(name, size);
    }
    for gone in old.files.keys().filter(|f| !stamp.files.contains_key(*f)) {
        // Best effort: a file that is gone already is what we want.
        let _ = fs::remove_file(out.join(gone));
    }
    write_whole(out, STAMP, format!("{:#}\n", serde_json::json!(stamp)).as_bytes())?;
    Ok(Outcome::Written { files: stamp.files.len(), bytes: stamp.files.values().sum() })
}

fn write_all(jobs: &[(&str, &Video)], out: &Path, seed: u64) -> Result<Vec<String>, SampleError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let (next, done, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((folder, video)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match write_video(video, seed, &out.join(folder)) {
                        Ok(files) => lock(&done).extend(files.into_iter().map(|f| format!("{folder}/{f}"))),
                        Err(error) => {
                            next.store(jobs.len(), Ordering::Relaxed);
                            lock(&failed).get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        Ok(None) => Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
        Ok(Some(error)) => Err(error),
        Err(poisoned) => poisoned.into_inner().map_or_else(|| Ok(Vec::new()), Err),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// An unreadable stamp counts as none: the corpus is made anew.
fn read_stamp(out: &Path) -> Stamp {
    fs::read(out.join(STAMP)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn all_there(out: &Path, stamp: &Stamp) -> bool {
    stamp.files.iter().all(|(name, size)| fs::metadata(out.join(name)).is_ok_and(|m| m.len() == *size))
}
