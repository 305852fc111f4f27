//! Older versions of a table: which there are, and their rows.
//!
//! A generation ends with the version that holds all that was committed of it. Generations only grow from version to version, so the last version
//! of each is found by halving: a few looks at the log, however many commits it has. What can go wrong: another program has shortened the log or
//! deleted files that only older versions name; then what can still be read is given, and what cannot is said.

use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use serde_json::Value;

use super::error::CommitError;
use super::read::Batches;
use super::table::{Table, TableState};

/// More generations than this are not looked for.
const MAX_EDITIONS: usize = 1000;

/// What was committed of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edition {
    /// Its last version.
    pub state: TableState,
    /// When that was committed, in milliseconds since 1970, as the log says; for people.
    pub committed_ms: Option<i64>,
}

/// The generations of a table, the newest last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Those that can be read.
    pub editions: Vec<Edition>,
    /// Why there may be older ones that cannot be.
    pub unreadable: Option<String>,
}

impl Table {
    /// The generations that anything was committed of.
    pub fn history(&self) -> Result<History, CommitError> {
        let mut last = self.state()?;
        let mut found = History::default();
        while found.editions.len() < MAX_EDITIONS {
            let generation = last.generation;
            let first = self.first_of(generation, last.version);
            if last.plan_hash.is_some() {
                let committed_ms = self.committed_ms(last.version)?;
                found.editions.push(Edition { state: last, committed_ms });
            }
            let Some(before) = first.checked_sub(1) else { break };
            match self.state_at(before) {
                Ok(state) => last = state,
                Err(e) => {
                    found.unreadable = Some(format!("version {before} cannot be read any more: {e}"));
                    break;
                }
            }
        }
        found.editions.reverse();
        Ok(found)
    }

    /// The first readable version of the generation that `last` belongs to.
    fn first_of(&self, generation: u64, last: u64) -> u64 {
        let (mut low, mut high) = (0, last);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.state_at(middle) {
                Ok(state) if state.generation == generation => high = middle,
                _ => low = middle + 1,
            }
        }
        low
    }

    fn snapshot_at(&self, version: u64) -> Result<SnapshotRef, CommitError> {
        let build = Snapshot::builder_for(self.location.url.as_str()).at_version(version).build(&*self.engine);
        build.map_err(|e| self.delta_error("read an older version from the log", &e))
    }

    /// What the table said about itself at a version.
    pub fn state_at(&self, version: u64) -> Result<TableState, CommitError> {
        self.state_of(&self.snapshot_at(version)?)
    }

    /// The rows of a version: those of `columns` that it has, in the order of its columns.
    pub fn read_batches_at(&self, version: u64, columns: &[&str]) -> Result<Batches<'_>, CommitError> {
        let snapshot = self.snapshot_at(version)?;
        let schema = self.schema_of(&snapshot)?;
        let there = columns.iter().filter(|name| schema.field_with_name(name).is_ok());
        Ok(Batches::of(self, Some(there.map(|name| (*name).to_owned()).collect()), self.live_files(&snapshot)?))
    }

    /// The columns of a version.
    pub fn schema_at(&self, version: u64) -> Result<arrow::datatypes::SchemaRef, CommitError> {
        self.schema_of(&self.snapshot_at(version)?)
    }

    /// As the log says; a log entry that is gone or silent says nothing.
    fn committed_ms(&self, version: u64) -> Result<Option<i64>, CommitError> {
        let Some(entry) = self.log_entry(version)? else { return Ok(None) };
        let actions = entry.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(actions.filter_map(|action| action["commitInfo"]["timestamp"].as_i64()).next())
    }
}
