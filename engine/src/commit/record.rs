//! What a table says about itself beside its rows: the value of the domain `curette.splits`, written by every commit.

use serde::{Deserialize, Serialize};

use super::split_set::SplitSet;
use super::table::{PlanStamp, TableState};

/// The Delta metadata domain that holds the record.
pub(crate) const DOMAIN: &str = "curette.splits";

/// The record, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Plan that the rows belong to.
    pub plan_hash: String,
    /// Generation of the table: grows with every `--new-version`.
    pub generation: u64,
    /// Splits whose rows are in the table.
    pub done: SplitSet,
    /// Unique id of the commit call that wrote this record, to tell one's own commit after a lost response.
    pub commit: String,
}

impl Record {
    pub fn new(stamp: &PlanStamp, done: SplitSet, commit: &str) -> Self {
        Record { plan_hash: stamp.plan_hash.clone(), generation: stamp.generation, done, commit: commit.to_owned() }
    }

    /// JSON text. Cannot fail: the record has only strings and numbers.
    pub fn to_json(&self) -> String {
        serde_json::to_value(self).map(|value| value.to_string()).unwrap_or_default()
    }
}

/// The state of a table at a version with this record (`None`: nothing was ever committed).
pub(crate) fn state(version: u64, record: Option<Record>) -> TableState {
    match record {
        None => TableState { version, plan_hash: None, generation: 0, done: SplitSet::new(), commit: None },
        Some(r) => {
            TableState { version, plan_hash: Some(r.plan_hash), generation: r.generation, done: r.done, commit: Some(r.commit) }
        }
    }
}
