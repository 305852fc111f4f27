//! Files that dead attempts left in a table: found by the log, by what stopped runs will still commit, by who lives, and by age.
//!
//! Why not the collection at the end of a run (`orphans`): that one may take everything that the log does not name, since all splits are done. Here a
//! run may be going on, or may have been killed between writing its shards down and committing them; the next run would commit those shards.
//!
//! A file goes only if all of this holds: no log entry ever named it; no intent names it; its attempt is not one of a process that lives; it is older
//! than a grace period. What can go wrong: a process that lives but cannot write its beat for longer than that period; so the period is long, a day.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use serde::Serialize;

use super::compact::PREFIX as COMPACTED;
use super::error::CommitError;
use super::location::block_on;
use super::orphans::attempt_of;
use super::table::Table;
use super::upload::TEMPORARY;

/// Deletions in flight at once.
const REQUESTS_IN_FLIGHT: usize = 16;

/// What must be known before a file may go.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The store's time, in milliseconds since 1970.
    pub now_ms: i64,
    /// Younger files stay.
    pub min_age: Duration,
    /// Attempts of processes that live.
    pub live: BTreeSet<String>,
    /// Files that a stopped run has written down to be committed.
    pub pending: BTreeSet<String>,
}

/// Why a file stays, or that it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A version of the table has it.
    Named,
    /// A stopped run will commit it.
    Pending,
    /// Its process lives.
    Live,
    /// It is younger than the grace period.
    Young,
    /// Nobody will ever read it.
    Orphan,
}

/// A file that may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its name in the table's folder.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// How long ago it was written.
    pub age_seconds: u64,
}

/// What was found in a table's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collection {
    /// Files that may go, by name.
    pub orphans: Vec<Orphan>,
    /// How many files are there, by fate.
    pub files: BTreeMap<Fate, u64>,
}

/// Decides over one file.
fn fate(file: &str, modified_ms: i64, named: bool, around: &Surroundings) -> Fate {
    let complete = file.strip_suffix(TEMPORARY).unwrap_or(file);
    let age_ms = around.now_ms.saturating_sub(modified_ms);
    match () {
        () if named => Fate::Named,
        () if around.pending.contains(complete) => Fate::Pending,
        () if attempt(complete).is_some_and(|attempt| around.live.contains(attempt)) => Fate::Live,
        () if age_ms < i64::try_from(around.min_age.as_millis()).unwrap_or(i64::MAX) => Fate::Young,
        () => Fate::Orphan,
    }
}

/// The attempt in the name of a shard of a run or of a compaction; `None`: not ours.
fn attempt(file: &str) -> Option<&str> {
    attempt_of(file, "part-").or_else(|| attempt_of(file, COMPACTED))
}

impl Table {
    /// Looks for files that may go. `around` is asked after the files were listed and before the log is read, so that whatever is committed meanwhile is named
    /// there. Deletes nothing.
    pub fn look_for_orphans(
        &self,
        around: impl FnOnce() -> Result<Surroundings, CommitError>,
    ) -> Result<Collection, CommitError> {
        let listed = block_on(self.location.store.list_with_delimiter(Some(&self.location.base)));
        let listed = listed.map_err(|error| self.storage_error("list", self.location.url.as_str(), &error))?;
        let around = around()?;
        let named = self.named_files()?;
        let mut found = Collection::default();
        for object in listed.objects {
            let Some(name) = object.location.filename() else { continue };
            if attempt(name.strip_suffix(TEMPORARY).unwrap_or(name)).is_none() {
                continue;
            }
            let modified_ms = object.last_modified.timestamp_millis();
            let fate = fate(name, modified_ms, named.contains(name), &around);
            *found.files.entry(fate).or_default() += 1;
            if fate == Fate::Orphan {
                let age_seconds = u64::try_from(around.now_ms.saturating_sub(modified_ms) / 1000).unwrap_or(0);
                found.orphans.push(Orphan { file: name.to_owned(), bytes: object.size, age_seconds });
            }
        }
        found.orphans.sort_by(|a, b| a.file.cmp(&b.file));
        Ok(found)
    }

    /// Deletes what was found.
    pub fn delete_orphans(&self, orphans: &[Orphan]) -> Result<(), CommitError> {
        let paths: Vec<_> = orphans.iter().map(|orphan| self.location.file(&orphan.file)).collect();
        let deleted = block_on(
            stream::iter(paths.iter().map(|path| self.location.store.delete(path)))
                .buffer_unordered(REQUESTS_IN_FLIGHT)
                .filter(|done| std::future::ready(!matches!(done, Err(object_store::Error::NotFound { .. }))))
                .try_collect::<Vec<()>>(),
        );
        deleted.map(drop).map_err(|error| self.storage_error("delete orphans in", self.location.url.as_str(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_only_if_nothing_speaks_for_it() {
        let hour = Duration::from_secs(3600);
        let (dead, live) = ("01JD0000000000000000000000", "01JD0000000000000000000001");
        let part = |attempt: &str| format!("part-{attempt}-00000.parquet");
        let around = Surroundings {
            now_ms: 10 * 3_600_000,
            min_age: hour,
            live: BTreeSet::from([live.to_owned()]),
            pending: BTreeSet::from([format!("part-{dead}-00007.parquet")]),
        };
        let old = 8 * 3_600_000;
        assert_eq!(fate(&part(dead), old, true, &around), Fate::Named);
        assert_eq!(fate(&format!("part-{dead}-00007.parquet"), old, false, &around), Fate::Pending);
        assert_eq!(fate(&part(live), old, false, &around), Fate::Live);
        assert_eq!(fate(&format!("{}.tmp", part(live)), old, false, &around), Fate::Live);
        assert_eq!(fate(&part(dead), 10 * 3_600_000 - 1, false, &around), Fate::Young);
        // A clock that is ahead makes files from the future: young.
        assert_eq!(fate(&part(dead), 11 * 3_600_000, false, &around), Fate::Young);
        assert_eq!(fate(&part(dead), old, false, &around), Fate::Orphan);
        assert_eq!(fate(&format!("compact-{dead}-00000.parquet.tmp"), old, false, &around), Fate::Orphan);
        assert_eq!(attempt("part-0-0.parquet"), None);
    }
}
