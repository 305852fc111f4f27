//! What a group of commits was about to do, written down first: all tables of a split, or none.
//!
//! Each table is committed by itself. A process killed between two of them would leave splits that one table has and the next has not; doing
//! them again could give other rows (captions are not repeatable), and the tables would contradict each other for ever. So the shards of all
//! tables are named in one file first, and whoever finds that file finishes the commits instead of doing the splits again.
//!
//! Who carries out what another run wrote down says so in a file first: that run may be alive, and must then not delete the shards (see `give_way`).
//!
//! What can go wrong: the file of a run of another version; it is of no use and removed, its shards are orphans.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::writer::Finished;
use crate::commit::{CommitError, Folder, PlanStamp};

/// Where the files are, below the pipeline's output.
const FOLDER: &str = "_curette/pending";
/// Ending of an intent.
const INTENT: &str = ".json";
/// Ending of the file that says that somebody reads intents.
const READER: &str = ".reader";

/// The intents below an output.
#[derive(Debug, Clone)]
pub struct Intents {
    folder: Folder,
}

#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    stamp: PlanStamp,
    group: Finished,
}

impl Intents {
    /// Those below `output`.
    pub fn new(output: Folder) -> Self {
        Intents { folder: output }
    }

    /// Writes an intent down and gives its name.
    pub fn write(&self, stamp: &PlanStamp, group: &Finished) -> Result<String, CommitError> {
        let name = format!("{FOLDER}/{}{INTENT}", ulid::Ulid::generate());
        let intent = Intent { stamp: stamp.clone(), group: group.clone() };
        let text = serde_json::to_vec(&intent).map_err(|e| self.folder.error("write", &name, &e))?;
        self.folder.put(&name, text).map_err(|e| self.folder.error("write", &name, &e))?;
        Ok(name)
    }

    /// Forgets an intent that was carried out.
    pub fn remove(&self, name: &str) -> Result<(), CommitError> {
        self.folder.delete(name).map_err(|e| self.folder.error("remove", name, &e))
    }

    /// Carries out what a killed run had written down: calls `commit` for each group of this stamp. Gives the number of groups.
    pub fn finish(&self, stamp: &PlanStamp, commit: impl Fn(&Finished) -> Result<(), CommitError>) -> Result<usize, CommitError> {
        if !self.list()?.iter().any(|name| name.ends_with(INTENT)) {
            return Ok(0);
        }
        let reader = format!("{FOLDER}/{}{READER}", ulid::Ulid::generate());
        self.folder.put(&reader, Vec::new()).map_err(|e| self.folder.error("write", &reader, &e))?;
        let mut finished = 0;
        // Again: what was listed before somebody could know of this reader may be gone.
        for name in self.list()?.into_iter().filter(|name| name.ends_with(INTENT)) {
            let bytes = match self.folder.get(&name) {
                Ok(bytes) => bytes,
                // Another process of the cluster was faster.
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(e) => return Err(self.folder.error("read", &name, &e)),
            };
            // A file cut off by a kill was never acted upon: the commits come after it.
            if let Ok(intent) = serde_json::from_slice::<Intent>(&bytes)
                && intent.stamp == *stamp
            {
                commit(&intent.group)?;
                finished += 1;
            }
            self.remove(&name)?;
        }
        self.remove(&reader)?;
        Ok(finished)
    }

    /// Names of the files that intents name: the next run will commit them. One that is cut off was never acted upon.
    pub fn pending_files(&self) -> Result<BTreeSet<String>, CommitError> {
        let mut files = BTreeSet::new();
        for name in self.list()?.into_iter().filter(|name| name.ends_with(INTENT)) {
            match self.folder.get(&name) {
                Ok(bytes) => {
                    if let Ok(intent) = serde_json::from_slice::<Intent>(&bytes) {
                        files.extend(intent.group.shards.into_values().flatten().map(|shard| shard.file));
                    }
                }
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.folder.error("read", &name, &e)),
            }
        }
        Ok(files)
    }

    /// Whether somebody may be carrying out intents. One that was killed at it counts until a run is finished.
    pub fn has_readers(&self) -> Result<bool, CommitError> {
        Ok(self.list()?.iter().any(|name| name.ends_with(READER)))
    }

    /// Forgets readers that were killed. To be called when a run is finished: nothing is pending any more.
    pub fn forget_readers(&self) -> Result<(), CommitError> {
        let names = self.list()?;
        names.iter().filter(|name| name.ends_with(READER)).try_for_each(|name| self.remove(name))
    }

    fn list(&self) -> Result<Vec<String>, CommitError> {
        self.folder.list(FOLDER).map_err(|e| self.folder.error("list", FOLDER, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::SplitSet;

    #[test]
    fn only_this_runs_intents_are_carried_out_and_none_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let intents = Intents::new(Folder::open(dir.path().to_str().unwrap()).unwrap());
        let stamp = |generation| PlanStamp { plan_hash: "p".into(), generation };
        let group = |split| Finished { splits: SplitSet::from_iter([split]), shards: Default::default() };
        intents.write(&stamp(1), &group(1)).unwrap();
        intents.write(&stamp(0), &group(2)).unwrap();
        std::fs::write(dir.path().join(FOLDER).join("cut-off.json"), "{\"stamp\":").unwrap();
        let seen = std::cell::RefCell::new(Vec::new());
        let count = intents.finish(&stamp(1), |g| {
            seen.borrow_mut().push(g.splits.to_string());
            assert!(intents.has_readers().unwrap(), "while intents are carried out, a run that is alive can know");
            Ok(())
        });
        assert_eq!((count.unwrap(), seen.into_inner()), (1, vec!["1".to_string()]));
        assert_eq!(std::fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 0);
        assert_eq!(intents.finish(&stamp(1), |_| panic!("nothing is left")).unwrap(), 0);
        std::fs::write(dir.path().join(FOLDER).join("killed.reader"), "").unwrap();
        assert_eq!(intents.finish(&stamp(1), |_| panic!("a reader is no intent")).unwrap(), 0);
        assert!(intents.has_readers().unwrap());
        intents.forget_readers().unwrap();
        assert!(!intents.has_readers().unwrap());
    }
}
