//! How far a run is, from what lies below its output: the log of `stages`, the plan, and the files of the processes that run.
//!
//! Reads, writes nothing. What can go wrong: an output that nobody has run into yet; it has no table.

use serde::Serialize;

use super::presence::{Life, RunRecord, presences};
use crate::commit::{CommitError, Folder, Table};
use crate::dataflow::tables::STAGES;
use crate::plan::{PlanHash, PlanStore};
use crate::telemetry::now_ms;

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// What it said last.
    #[serde(flatten)]
    pub record: RunRecord,
    /// Whether it lives.
    pub life: Life,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Hash of the plan that the tables belong to; `None`: nothing was committed yet.
    pub plan_hash: Option<String>,
    /// Generation of the tables.
    pub generation: u64,
    /// Splits that are committed.
    pub splits_done: u64,
    /// Splits of the plan, if that is known.
    pub splits: Option<u64>,
    /// The newest version of `stages`.
    pub version: u64,
    /// When it was committed, in milliseconds since 1970.
    pub last_commit_ms: Option<i64>,
    /// Processes that have not ended in order, first those that live.
    pub processes: Vec<Process>,
    /// Seconds until all splits are committed, if somebody runs and has committed some.
    pub seconds_left: Option<u64>,
}

/// Looks at an output folder or URL.
pub fn status(output: &str) -> Result<Status, CommitError> {
    let folder = Folder::open(output)?;
    let stages = Table::open_existing(STAGES, &format!("{output}/{STAGES}"))?.ok_or_else(|| CommitError::Location {
        location: curette_stores::shown(output),
        reason: format!("there is no table `{STAGES}`"),
        help: "give the `output` of a pipeline that was run, or the http:// address of a running one's metrics".into(),
    })?;
    let state = stages.state()?;
    let found = presences(&folder).map_err(|e| folder.error("list", "_curette/runs", &curette_stores::words(&e)))?;
    let mut processes: Vec<Process> = found.into_iter().map(|(record, life)| Process { record, life }).collect();
    processes.sort_by_key(|p| (p.life != Life::Alive, p.record.process, p.record.attempt.clone()));
    let of_plan = |p: &&Process| Some(&p.record.plan_hash) == state.plan_hash.as_ref();
    let splits = match processes.iter().find(of_plan) {
        Some(process) => Some(process.record.splits),
        None => state.plan_hash.as_ref().and_then(|hash| {
            let store = PlanStore::new(folder.clone());
            store.split_count(&PlanHash::from_hex(hash.clone())).ok()
        }),
    };
    let seconds_left =
        processes.iter().find(|p| p.life == Life::Alive && p.record.process == 0).and_then(|p| left(&p.record, now_ms()));
    Ok(Status {
        generation: state.generation,
        splits_done: state.done.len(),
        splits,
        version: state.version,
        last_commit_ms: stages.last_commit_ms()?,
        processes,
        seconds_left,
        plan_hash: state.plan_hash,
    })
}

/// By the speed of the run so far: splits are cut by cost, so they take about the same time.
fn left(record: &RunRecord, now_ms: u64) -> Option<u64> {
    let todo = record.splits.saturating_sub(record.splits_before + record.splits_committed);
    let elapsed = now_ms.saturating_sub(record.started_ms) as f64 / 1000.0;
    (record.splits_committed > 0).then(|| (elapsed * todo as f64 / record.splits_committed as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_speed_of_this_run() {
        let record = RunRecord { splits: 100, splits_before: 40, splits_committed: 20, started_ms: 0, ..RunRecord::default() };
        assert_eq!(left(&record, 60_000), Some(120), "20 splits a minute, 40 are left");
        assert_eq!(left(&RunRecord { splits_committed: 0, ..record.clone() }, 60_000), None);
        assert_eq!(left(&RunRecord { splits_committed: 60, ..record }, 60_000), Some(0));
    }
}
