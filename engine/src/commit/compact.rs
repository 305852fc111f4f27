//! Small shards become large ones: one log entry removes the old files and adds the new, and says that no data changed (Delta's OPTIMIZE).
//!
//! Readers see the old files or the new ones, never both or none. Older versions of the table keep the old files, so the folder holds both: read it by
//! its log. Other writers may commit meanwhile: the entry is put like any commit, create if absent, and before each try the newest version is read
//! again. Which splits are done is taken over from it, so nothing that was committed in between is lost.
//!
//! New files are called `compact-ULID-NUMBER.parquet`: the collection at the end of a run, which takes `part-` files that the log does not name, must not
//! take one that is about to be named.
//!
//! What can go wrong: a new generation, or another compaction, removes files that are being joined; then nothing is committed and what was written goes. A
//! process that is killed leaves files that `gc` finds.

use std::collections::BTreeSet;

use arrow::datatypes::SchemaRef;
use delta_kernel::snapshot::SnapshotRef;
use futures::{StreamExt, stream};
use object_store::{ObjectStoreExt, PutMode};
use serde::Serialize;
use serde_json::{Value, json};

use super::PlanStamp;
use super::error::CommitError;
use super::generation::LiveFile;
use super::killpoint::kill_point;
use super::location::block_on;
use super::record::{DOMAIN, Record};
use super::shard::{Shard, ShardWriter};
use super::table::{ENGINE_INFO, Outcome, Step, Table, new_commit_id};
use crate::telemetry::now_ms;

/// How the names of joined files begin.
pub(crate) const PREFIX: &str = "compact-";
/// A file of this share of the target, in percent, is large enough as it is.
const LARGE_PERCENT: u64 = 75;
/// Rows that are read at a time: they may hold videos.
const BATCH_ROWS: usize = 16;
/// Deletions in flight at once.
const REQUESTS_IN_FLIGHT: usize = 16;

/// What a compaction did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Files that are joined.
    pub files_before: u64,
    /// What becomes of them; 0 if it was only looked.
    pub files_after: u64,
    /// Bytes of the former.
    pub bytes_before: u64,
    /// Bytes of the latter.
    pub bytes_after: u64,
    /// Rows in them.
    pub rows: u64,
    /// The version that has the new files.
    pub version: Option<u64>,
}

/// Large files that are written, and what they stand for.
pub(crate) struct Joined {
    stamp: PlanStamp,
    removed: Vec<LiveFile>,
    shards: Vec<Shard>,
}

/// Files that become one, by their place in `sizes`: neighbours in the order of names whose sum is at most the target. Single files stay.
pub(crate) fn groups(sizes: &[u64], target: u64) -> Vec<Vec<usize>> {
    let large = target / 100 * LARGE_PERCENT + target % 100 * LARGE_PERCENT / 100;
    let (mut all, mut open, mut sum) = (Vec::new(), Vec::new(), 0u64);
    for (at, &bytes) in sizes.iter().enumerate().filter(|(_, bytes)| **bytes < large) {
        if sum.saturating_add(bytes) > target && !open.is_empty() {
            all.push(std::mem::take(&mut open));
            sum = 0;
        }
        open.push(at);
        sum = sum.saturating_add(bytes);
    }
    all.push(open);
    all.retain(|group| group.len() > 1);
    all
}

impl Table {
    /// What [`Table::compact`] would join.
    pub fn plan_compaction(&self, target_bytes: u64) -> Result<Compaction, CommitError> {
        let (snapshot, _) = self.load()?;
        let files = self.live_files(&snapshot)?;
        Ok(before(groups(&sizes(&files), target_bytes).iter().flatten().map(|&at| &files[at])))
    }

    /// Joins small files to ones of about `target_bytes`. Safe while others read and commit.
    pub fn compact(&self, target_bytes: u64) -> Result<Compaction, CommitError> {
        match self.join_small(target_bytes)? {
            Some(joined) => self.commit_joined(&joined),
            None => Ok(Compaction::default()),
        }
    }

    /// Writes the large files, which no entry names yet. `None`: nothing is to be joined.
    pub(crate) fn join_small(&self, target_bytes: u64) -> Result<Option<Joined>, CommitError> {
        let (snapshot, state) = self.load()?;
        let files = self.live_files(&snapshot)?;
        let groups = groups(&sizes(&files), target_bytes);
        if groups.is_empty() {
            return Ok(None);
        }
        let untrusted = |reason: &str| CommitError::Log { table: self.name.clone(), reason: reason.to_owned() };
        let Some(plan_hash) = state.plan_hash.clone() else {
            return Err(untrusted("it does not say which splits are done, so another program wrote it"));
        };
        let schema = self.schema_of(&snapshot)?;
        let attempt = ulid::Ulid::generate();
        let mut shards = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let file = format!("{PREFIX}{attempt}-{number:05}.parquet");
            match self.join_files(&schema, file, group.iter().map(|&at| &files[at])) {
                Ok(shard) => shards.push(shard),
                Err(error) => return Err(self.without(&shards, error)),
            }
        }
        let removed = groups.iter().flatten().map(|&at| files[at].clone()).collect();
        Ok(Some(Joined { stamp: PlanStamp { plan_hash, generation: state.generation }, removed, shards }))
    }

    /// Puts them in the place of the small ones.
    pub(crate) fn commit_joined(&self, joined: &Joined) -> Result<Compaction, CommitError> {
        let Joined { stamp: mine, removed, shards } = joined;
        let untrusted = |reason: &str| CommitError::Log { table: self.name.clone(), reason: reason.to_owned() };
        let id = new_commit_id();
        kill_point("before_compaction");
        let outcome = self.attempts(&id, |snapshot, state| {
            let live: BTreeSet<String> = self.live_files(&snapshot)?.into_iter().map(|file| file.path).collect();
            // An entry of ours that landed late.
            if shards.iter().all(|shard| live.contains(&shard.file)) {
                return Ok(Step::Stop(Outcome::Committed { version: state.version }));
            }
            let same_plan = state.plan_hash.as_ref() == Some(&mine.plan_hash) && state.generation == mine.generation;
            if !same_plan || !removed.iter().all(|file| live.contains(&file.path)) {
                return Ok(Step::Stop(Outcome::AlreadyDone));
            }
            self.write_optimize(&snapshot, &Record::new(mine, state.done.clone(), &id), removed, shards)
        });
        match outcome {
            Ok(Outcome::Committed { version }) => {
                kill_point("after_compaction");
                self.sum_up(version);
                let after = shards.iter().fold((0, 0), |(files, bytes), shard| (files + 1, bytes + shard.bytes));
                Ok(Compaction { files_after: after.0, bytes_after: after.1, version: Some(version), ..before(removed.iter()) })
            }
            Ok(Outcome::AlreadyDone | Outcome::PartlyDone { .. }) => Err(self.without(
                shards,
                untrusted("its files were replaced meanwhile, by a new version or another compaction; run again"),
            )),
            // The entry may have landed all the same: the files stay, and `gc` takes them if it has not.
            Err(error) => Err(error),
        }
    }

    fn join_files<'a>(
        &self,
        schema: &SchemaRef,
        file: String,
        group: impl Iterator<Item = &'a LiveFile>,
    ) -> Result<Shard, CommitError> {
        let group: Vec<&LiveFile> = group.collect();
        let expected: Option<u64> = group.iter().map(|file| file.rows).sum();
        let mut writer: ShardWriter = self.named_shard_writer(file, SchemaRef::clone(schema));
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        for file in group {
            for batch in self.read_file(&file.path, &columns, BATCH_ROWS, None)? {
                writer.write(&batch?)?;
            }
        }
        let rows = writer.rows();
        if expected.is_some_and(|expected| expected != rows) {
            writer.abort();
            let reason = format!("its files hold {rows} rows and not those that it says ({expected:?})");
            return Err(CommitError::Log { table: self.name.clone(), reason });
        }
        writer.finish()
    }

    fn write_optimize(
        &self,
        snapshot: &SnapshotRef,
        record: &Record,
        removed: &[LiveFile],
        added: &[Shard],
    ) -> Result<Step, CommitError> {
        let version = snapshot.version() + 1;
        let now = now_ms();
        let mut actions = vec![json!({"commitInfo": {
            "timestamp": now, "operation": "OPTIMIZE", "operationParameters": {"predicate": "[]"}, "engineInfo": ENGINE_INFO, "isBlindAppend": false,
        }})];
        actions.extend(removed.iter().map(|file| {
            json!({"remove": {
                "path": file.path, "deletionTimestamp": now, "dataChange": false, "extendedFileMetadata": true, "partitionValues": {}, "size": file.bytes,
            }})
        }));
        actions.extend(added.iter().map(|shard| {
            let stats = shard.stats.clone().unwrap_or_else(|| json!({"numRecords": shard.rows}).to_string());
            json!({"add": {
                "path": shard.file, "partitionValues": {}, "size": shard.bytes, "modificationTime": shard.modified_ms, "dataChange": false, "stats": stats,
            }})
        }));
        actions.push(json!({"domainMetadata": {"domain": DOMAIN, "configuration": record.to_json(), "removed": false}}));
        let text: String = actions.iter().map(|action: &Value| format!("{action}\n")).collect();
        let path = self.location.file(&format!("_delta_log/{version:020}.json"));
        Ok(match block_on(self.location.store.put_opts(&path, text.into(), PutMode::Create.into())) {
            Ok(_) => Step::Wrote { version },
            Err(error) => Step::Unconfirmed { version, reason: curette_stores::words(&error) },
        })
    }

    /// Takes files back that no entry names; gives the error that made it necessary. Where the log cannot be read, they stay.
    fn without(&self, shards: &[Shard], error: CommitError) -> CommitError {
        let Ok(named) = self.named_files() else { return error };
        let unnamed = shards.iter().filter(|shard| !named.contains(&shard.file));
        let paths: Vec<_> = unnamed.map(|shard| self.location.file(&shard.file)).collect();
        let deletions = stream::iter(paths.iter().map(|path| self.location.store.delete(path)));
        for failed in
            block_on(deletions.buffer_unordered(REQUESTS_IN_FLIGHT).collect::<Vec<_>>()).into_iter().filter_map(Result::err)
        {
            tracing::warn!(table = self.name, "A joined file that is of no use stays; `curette gc` takes it later: {failed}");
        }
        error
    }
}

fn sizes(files: &[LiveFile]) -> Vec<u64> {
    files.iter().map(|file| u64::try_from(file.bytes).unwrap_or(0)).collect()
}

fn before<'a>(files: impl Iterator<Item = &'a LiveFile>) -> Compaction {
    files.fold(Compaction::default(), |sum, file| Compaction {
        files_before: sum.files_before + 1,
        bytes_before: sum.bytes_before + u64::try_from(file.bytes).unwrap_or(0),
        rows: sum.rows + file.rows.unwrap_or(0),
        ..sum
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_neighbours_become_one() {
        assert_eq!(groups(&[10, 10, 10, 10], 100), [vec![0, 1, 2, 3]]);
        assert_eq!(groups(&[40, 40, 40, 40], 100), [vec![0, 1], vec![2, 3]]);
        assert_eq!(groups(&[80, 10, 90, 10], 100), [vec![1, 3]], "large ones stay as they are");
        assert_eq!(groups(&[80, 10], 100), Vec::<Vec<usize>>::new(), "one alone is not written again");
        assert_eq!(groups(&[], 100), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&[60, 60, 60], 100), Vec::<Vec<usize>>::new());
    }

    proptest! {
        #[test]
        fn groups_are_small_enough_and_take_each_file_once(sizes in prop::collection::vec(0u64..200, 0..40), target in 1u64..300) {
            let groups = groups(&sizes, target);
            let all: Vec<usize> = groups.iter().flatten().copied().collect();
            prop_assert!(all.is_sorted_by(|a, b| a < b));
            for group in &groups {
                prop_assert!(group.len() > 1 && group.iter().map(|&at| sizes[at]).sum::<u64>() <= target);
            }
        }
    }
}
