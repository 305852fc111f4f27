//! The verb `gc`: what dead attempts left in the tables of an output.
//!
//! It gathers what speaks for a file (see [`crate::commit::gc`]): intents of stopped runs, processes that live, the store's time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::presence::{Life, presences};
use crate::commit::gc::{Collection, Surroundings};
use crate::commit::{CommitError, Folder, Table};
use crate::dataflow::intent::Intents;
use crate::telemetry::now_ms;

/// Looks through a table of an output; deletes what may go if `delete`.
pub fn collect(output: &str, table: &Table, min_age: Duration, delete: bool) -> Result<Collection, CommitError> {
    let folder = Folder::open(output)?;
    // Ages count by the clock that stamps the files; a mere look writes nothing and takes this machine's.
    let now_ms = if delete { table.store_time_ms()? } else { i64::try_from(now_ms()).unwrap_or(i64::MAX) };
    let found = table.look_for_orphans(|| {
        let live = presences(&folder).map_err(|e| folder.error("list", "_curette/runs", &curette_stores::words(&e)))?;
        let live: BTreeSet<String> =
            live.into_iter().filter(|(_, life)| *life == Life::Alive).map(|(record, _)| record.attempt).collect();
        let pending = Intents::new(folder.clone()).pending_files()?;
        Ok(Surroundings { now_ms, min_age, live, pending })
    })?;
    if delete {
        table.delete_orphans(&found.orphans)?;
    }
    Ok(found)
}
