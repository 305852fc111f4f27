//! What a run does that another one was faster than: it deletes the files that it wrote for nothing, so that programs which read all `*.parquet` files of a
//! folder do not count its rows beside those of the other run.
//!
//! What can go wrong: somebody carries out this run's intent at this very moment (see [`super::intent`]); then its shards are somebody's rows and stay, and so does the
//! intent. A store that fails here leaves files behind, which the end of any finished run of this output removes.

use std::sync::PoisonError;

use super::Shared;
use super::commit_step::CommitStepError;
use super::writer::Finished;
use crate::commit::{CommitError, Orphans, SplitSet};

/// The group that could not be committed, and the name of its intent.
pub struct Announced<'a> {
    /// As [`super::intent::Intents::write`] gave it.
    pub intent: &'a str,
    /// The group.
    pub group: &'a Finished,
}

/// Deletes what this process (and, for the group, its peers) wrote and no commit names. The process must end after it: its tables take no more shards.
pub fn clear(shared: &Shared, announced: Option<Announced>) {
    match try_clear(shared, announced) {
        Ok(Some(Orphans { files, bytes })) => tracing::info!(files, bytes, "Deleted what this run wrote for nothing"),
        Ok(None) => tracing::warn!("Files of this run stay, because another run is just committing them"),
        Err(error) => tracing::warn!(%error, "Files that this run wrote for nothing stay; the end of the other run removes them"),
    }
}

fn try_clear(shared: &Shared, announced: Option<Announced>) -> Result<Option<Orphans>, CommitError> {
    if let Some(Announced { intent, group }) = &announced {
        if shared.intents.has_readers()? {
            return Ok(None);
        }
        shared.intents.remove(intent)?;
        // Who read it before it was gone can still be at it, and may be killed in the midst of it.
        if shared.intents.has_readers()? {
            shared.intents.write(&shared.stamp, group)?;
            return Ok(None);
        }
    }
    let own = format!("part-{}-", shared.attempt);
    let mut all = Orphans::default();
    for (target, entry) in shared.tables.iter().enumerate() {
        let Some((table, _)) = entry else { continue };
        let shards = announced.as_ref().and_then(|a| a.group.shards.get(&(target as u32)));
        let of_group = |name: &str| shards.is_some_and(|all| all.iter().any(|shard| shard.file == name));
        let found = table.give_up(|name| name.starts_with(&own) || of_group(name))?;
        all = Orphans { files: all.files + found.files, bytes: all.bytes + found.bytes };
    }
    Ok(Some(all))
}

/// Ends the process after a shard could not be written. The end of another run deletes half-made files of this one, so that may be the cause.
pub fn writer_failed(shared: &Shared, error: &CommitError) -> ! {
    // No commit of this process may be in the midst of naming files that are deleted here; it is never let go.
    let tried = shared.settling.lock().unwrap_or_else(PoisonError::into_inner);
    match other_run(shared, &tried) {
        Some(other) => {
            clear(shared, None);
            shared.stop.commit_failed(&other)
        }
        None => shared.stop.commit_failed(error),
    }
}

/// The splits that were committed by neither this run nor those before it. Only told in a process that is alone: others commit through the first one.
fn other_run(shared: &Shared, tried: &SplitSet) -> Option<CommitStepError> {
    let (table, done) = shared.tables.iter().flatten().next_back().filter(|_| shared.alone)?;
    let state = table.state().ok()?;
    if state.plan_hash.as_ref() != Some(&shared.stamp.plan_hash) || state.generation != shared.stamp.generation {
        return state.plan_hash.is_some().then(|| table.changed_plan(&state, &shared.stamp).into());
    }
    let splits = state.done.difference(done).difference(tried);
    (!splits.is_empty()).then(|| CommitStepError::OtherRun { table: table.name().into(), splits })
}
