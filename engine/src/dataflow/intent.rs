//! What a group of commits was about to do, written down first: all tables of a split, or none.
//!
//! Each table is committed by itself. A process killed between two of them would leave splits that one table has and the next has not; doing
//! them again could give other rows (captions are not repeatable), and the tables would contradict each other for ever. So the shards of all
//! tables are named in one file first, and whoever finds that file finishes the commits instead of doing the splits again.
//!
//! What can go wrong: the file of a run of another version; it is of no use and removed, its shards are orphans.

use serde::{Deserialize, Serialize};

use super::writer::Finished;
use crate::commit::{CommitError, Folder, PlanStamp};

/// Where the files are, below the pipeline's output.
const FOLDER: &str = "_curette/pending";

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
        let name = format!("{FOLDER}/{}.json", ulid::Ulid::generate());
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
        let mut finished = 0;
        for name in self.folder.list(FOLDER).map_err(|e| self.folder.error("list", FOLDER, &e))? {
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
        Ok(finished)
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
            Ok(())
        });
        assert_eq!((count.unwrap(), seen.into_inner()), (1, vec!["1".to_string()]));
        assert_eq!(std::fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 0);
        assert_eq!(intents.finish(&stamp(1), |_| panic!("nothing is left")).unwrap(), 0);
    }
}
