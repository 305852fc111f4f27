//! Who runs: each process of a run keeps a small file below the output, and removes it at its end.
//!
//! Why: `curette status` shows it, and `curette gc` must not touch the files of a process that lives. The file is written anew every
//! [`BEAT_SECONDS`]; one that was killed leaves it behind. Whether its process lives is asked of the system on the same machine (process number and the
//! moment at which it began), and taken from the last beat elsewhere.
//!
//! What can go wrong: the file cannot be written; that is said once and the run goes on, since no row depends on it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::commit::Folder;
use crate::dataflow::RunProgress;
use crate::telemetry::now_ms;

/// Where the files are, below the pipeline's output.
const FOLDER: &str = "_curette/runs";
/// Seconds between two beats.
pub const BEAT_SECONDS: u64 = 30;
/// A process on another machine counts as alive for so many seconds after its last beat.
pub const ALIVE_SECONDS: u64 = 600;

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// Part of the names of all files that it writes.
    pub attempt: String,
    /// The version of curette.
    pub curette: String,
    /// Its machine.
    pub host: String,
    /// Its number there.
    pub pid: u32,
    /// What makes the number unique there: the system's name for the process's namespace, and when the process began, in ticks since the system did.
    pub born: String,
    /// Which process of the run, from 0.
    pub process: usize,
    /// Processes of the run.
    pub processes: usize,
    /// The plan.
    pub plan_hash: String,
    /// Generation of the tables.
    pub generation: u64,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// The last beat, in milliseconds since 1970.
    pub beat_ms: u64,
    /// Splits of the plan.
    pub splits: u64,
    /// Splits that were committed before it began.
    pub splits_before: u64,
    /// Splits that it has committed.
    pub splits_committed: u64,
    /// Where its metrics are, if anywhere.
    pub metrics_address: String,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// It does, as far as can be known.
    Alive,
    /// It is on another machine and silent for long.
    Silent,
    /// It was on this machine and is gone.
    Gone,
}

/// Keeps the file of this process; removes it when dropped.
pub struct Presence {
    folder: Folder,
    name: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Presence {
    /// Begins; `record` needs what this module cannot know: attempt, place, plan, splits, address.
    pub fn start(folder: Folder, record: RunRecord, progress: Arc<RunProgress>) -> Presence {
        let (pid, me) = (std::process::id(), RunRecord { curette: env!("CARGO_PKG_VERSION").into(), host: host(), ..record });
        let me = RunRecord { pid, born: born(pid).unwrap_or_default(), started_ms: now_ms(), ..me };
        let name = format!("{FOLDER}/{}.json", me.attempt);
        forget_gone(&folder);
        let (stop, stopped) = bounded::<()>(1);
        let (place, file) = (folder.clone(), name.clone());
        let mut told = false;
        let mut beat = move || {
            let now = RunRecord { beat_ms: now_ms(), splits_committed: progress.splits_committed(), ..me.clone() };
            let text = serde_json::to_vec(&now).unwrap_or_default();
            if let Err(error) = place.put(&file, text)
                && !std::mem::replace(&mut told, true)
            {
                tracing::warn!("It cannot be written down that this run lives: {}", curette_stores::words(&error));
            }
        };
        // Before the first shard can be there.
        beat();
        let beats = move || {
            while stopped.recv_timeout(Duration::from_secs(BEAT_SECONDS)) == Err(RecvTimeoutError::Timeout) {
                beat();
            }
        };
        let thread = std::thread::Builder::new().name("presence".into()).spawn(beats);
        let thread = thread.inspect_err(|e| tracing::warn!("It cannot be written down that this run lives: {e}")).ok();
        Presence { folder, name, stop: Some(stop), thread }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Err(error) = self.folder.delete(&self.name) {
            tracing::warn!("{} stays: {}", self.name, curette_stores::words(&error));
        }
    }
}

/// What processes below an output say of themselves, and whether they live. A file that is gone or cut off is left out.
pub fn presences(folder: &Folder) -> Result<Vec<(RunRecord, Life)>, object_store::Error> {
    let mut found = Vec::new();
    for name in folder.list(FOLDER)? {
        let bytes = match folder.get(&name) {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        if let Ok(record) = serde_json::from_slice::<RunRecord>(&bytes) {
            let here = (record.host == host()).then(|| born(record.pid));
            let life = life(&record, here.as_ref().map(Option::as_deref), namespace().as_deref(), now_ms());
            found.push((record, life));
        }
    }
    Ok(found)
}

/// Decides. `here`: on the same machine, when the process of that number began, if there is one.
fn life(record: &RunRecord, here: Option<Option<&str>>, namespace: Option<&str>, now_ms: u64) -> Life {
    let comparable = namespace.is_some_and(|namespace| record.born.starts_with(&format!("{namespace} ")));
    match here.filter(|_| comparable) {
        Some(Some(born)) if born == record.born => Life::Alive,
        Some(_) => Life::Gone,
        None if now_ms.saturating_sub(record.beat_ms) < ALIVE_SECONDS * 1000 => Life::Alive,
        None => Life::Silent,
    }
}

/// Files of processes that were killed on this machine.
fn forget_gone(folder: &Folder) {
    let gone = presences(folder).unwrap_or_default().into_iter().filter(|(_, life)| *life == Life::Gone);
    for (record, _) in gone {
        let _ = folder.delete(&format!("{FOLDER}/{}.json", record.attempt));
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Processes of different namespaces have the same numbers.
fn namespace() -> Option<String> {
    Some(std::fs::read_link("/proc/self/ns/pid").ok()?.to_string_lossy().into_owned())
}

/// The namespace, and when the process began; `None`: there is none of this number, or the system does not say.
fn born(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, also parentheses; 20 fields behind it is the time.
    let ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {ticks}", namespace()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_if_its_machine_says_so_or_if_it_spoke_lately() {
        let record = RunRecord { born: "pid:[1] 77".into(), beat_ms: 1_000_000, ..RunRecord::default() };
        let late = 1_000_000 + ALIVE_SECONDS * 1000;
        assert_eq!(life(&record, Some(Some("pid:[1] 77")), Some("pid:[1]"), u64::MAX), Life::Alive, "however long it is silent");
        assert_eq!(life(&record, Some(Some("pid:[1] 78")), Some("pid:[1]"), 1_000_001), Life::Gone, "another one has its number");
        assert_eq!(life(&record, Some(None), Some("pid:[1]"), 1_000_001), Life::Gone);
        // Another container on the same machine.
        assert_eq!(life(&record, Some(None), Some("pid:[2]"), 1_000_001), Life::Alive);
        assert_eq!(life(&record, None, Some("pid:[1]"), late - 1), Life::Alive);
        assert_eq!(life(&record, None, Some("pid:[1]"), late), Life::Silent);
    }

    #[test]
    fn who_runs_is_written_down_and_removed_and_the_killed_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path().to_str().unwrap()).unwrap();
        let killed = RunRecord {
            attempt: "killed".into(),
            host: host(),
            pid: u32::MAX,
            born: format!("{} 1", namespace().unwrap()),
            ..RunRecord::default()
        };
        folder.put(&format!("{FOLDER}/killed.json"), serde_json::to_vec(&killed).unwrap()).unwrap();
        assert_eq!(presences(&folder).unwrap()[0].1, Life::Gone);
        let record = RunRecord { attempt: "mine".into(), splits: 7, ..RunRecord::default() };
        let presence = Presence::start(folder.clone(), record, Arc::new(RunProgress::new(1, 0.1)));
        let found = presences(&folder).unwrap();
        assert_eq!((found.len(), found[0].0.splits, found[0].0.pid, found[0].1), (1, 7, std::process::id(), Life::Alive));
        drop(presence);
        assert!(presences(&folder).unwrap().is_empty());
    }
}
