//! The operator that makes finished splits true: one per run, on the first worker.
//!
//! Commits happen on a thread of their own; groups that wait meanwhile are committed together. It also watches the error rate, because it
//! hears of every task.
//!
//! What can go wrong: another run writes to the same tables. The commit finds out (`Delta` versions are put-if-absent), this run deletes what it wrote for
//! nothing (`give_way`) and stops; whatever the other one committed stays valid.

use std::sync::{Arc, PoisonError};

use crossbeam_channel::{Receiver, Sender, unbounded};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::Shared;
use super::collect::ToCommitter;
use super::give_way::{self, Announced};
use super::time::SplitTime;
use super::writer::Finished;
use crate::commit::{CommitError, Outcome, PlanStamp, SplitSet, Table, kill_point};
use crate::telemetry::names;

/// Why a group could not be committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitStepError {
    /// A table could not be committed.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// Somebody else did these splits.
    #[error(
        "another run has committed splits {splits} to table `{table}` meanwhile; let one of them end before the other is started"
    )]
    OtherRun {
        /// The table that has them.
        table: String,
        /// The splits.
        splits: SplitSet,
    },
}

impl CommitStepError {
    /// Whether the group can never be committed any more. After a failure of the store it is: the next run carries it out.
    fn is_final(&self) -> bool {
        matches!(self, CommitStepError::OtherRun { .. } | CommitStepError::Commit(CommitError::ChangedPlan { .. }))
    }
}

/// A table as the committer sees it, in the order of the writer's targets; `None` for targets that are not tables.
pub type Committed = Option<(Arc<Table>, SplitSet)>;

/// Adds the committer. Its output never carries anything: it is there to be probed.
pub fn commit<'s>(
    scope: Scope<'s, SplitTime>,
    input: Stream<'s, SplitTime, Vec<ToCommitter>>,
    shared: Arc<Shared>,
) -> Stream<'s, SplitTime, Vec<u8>> {
    let mut builder = OperatorBuilder::new("Commit".into(), scope);
    let mut input = builder.new_input(input, Exchange::new(|_: &ToCommitter| 0));
    let (_out, stream) = builder.new_output::<Vec<u8>>();
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let first = scope.index() == 0;
    builder.build(move |mut initial| {
        let mut alive = initial.pop().filter(|_| first).map(|cap| cap.delayed(&SplitTime::COMMIT));
        let mut outstanding = 0usize;
        let (jobs, queue) = unbounded::<Finished>();
        let (ack, acks) = unbounded::<usize>();
        if first {
            let shared = Arc::clone(&shared);
            shared.stop.or_die("start the commit thread", {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new().name("commit".into()).spawn(move || {
                    commit_all(&shared, &queue, &ack, &|| {
                        let _ = wake.activate();
                    })
                })
            });
        }
        move |frontiers| {
            let _keep = &_out;
            input.for_each(|_cap, messages| {
                for message in messages.drain(..) {
                    match message {
                        ToCommitter::Did(counts) => shared.progress.did(&counts, &shared),
                        ToCommitter::Complete(split) => {
                            shared.progress.complete(shared.plan.splits[split as usize].items.len() as u64)
                        }
                        ToCommitter::Finished(group) => {
                            outstanding += 1;
                            // Fails only when the commit thread is gone, and it only ends with the process or with this channel.
                            drop(jobs.send(group));
                        }
                    }
                }
            });
            while let Ok(groups) = acks.try_recv() {
                outstanding -= groups;
            }
            if frontiers.iter().all(|f| f.is_empty()) && outstanding == 0 {
                alive = None;
            }
            let _ = &alive;
        }
    });
    stream
}

fn commit_all(shared: &Shared, queue: &Receiver<Finished>, ack: &Sender<usize>, wake: &dyn Fn()) {
    while let Ok(first) = queue.recv() {
        let groups: Vec<Finished> = std::iter::once(first).chain(queue.try_iter()).collect();
        let mut all = Finished { splits: SplitSet::new(), shards: Default::default() };
        for group in &groups {
            all.splits = all.splits.union(&group.splits);
            for (target, shards) in &group.shards {
                all.shards.entry(*target).or_default().extend(shards.iter().cloned());
            }
        }
        let mut tried = shared.settling.lock().unwrap_or_else(PoisonError::into_inner);
        *tried = tried.union(&all.splits);
        let carried_out = shared.intents.write(&shared.stamp, &all).map_err(CommitStepError::from).and_then(|name| {
            commit_group(&shared.tables, &shared.stamp, &all).inspect_err(|e| {
                if e.is_final() {
                    give_way::clear(shared, Some(Announced { intent: &name, group: &all }));
                }
            })?;
            Ok(shared.intents.remove(&name)?)
        });
        if let Err(e) = carried_out {
            shared.stop.commit_failed(&e);
        }
        drop(tried);
        shared.progress.committed(all.splits.len());
        tracing::info!(splits = all.splits.len(), "Committed");
        if ack.send(groups.len()).is_ok() {
            wake();
        }
    }
}

/// Commits a group to each table in order; the last one, `stages`, is what makes the splits done.
fn commit_group(tables: &[Committed], stamp: &PlanStamp, group: &Finished) -> Result<(), CommitStepError> {
    for (target, entry) in tables.iter().enumerate() {
        let Some((table, done)) = entry else { continue };
        let splits = group.splits.difference(done);
        if splits.is_empty() {
            continue;
        }
        kill_point("between_tables");
        let shards = group.shards.get(&(target as u32)).map(Vec::as_slice).unwrap_or_default();
        let started = std::time::Instant::now();
        match table.commit(stamp, &splits, shards)? {
            Outcome::Committed { version } => {
                let name = || table.name().to_owned();
                metrics::histogram!(names::COMMIT_SECONDS, "table" => name()).record(started.elapsed().as_secs_f64());
                metrics::counter!(names::SHARD_BYTES, "table" => name()).increment(shards.iter().map(|s| s.bytes).sum());
                metrics::counter!(names::SHARD_ROWS, "table" => name()).increment(shards.iter().map(|s| s.rows).sum());
                tracing::debug!(table = table.name(), version, splits = %splits, shards = shards.len(), "Table committed")
            }
            Outcome::AlreadyDone => return Err(CommitStepError::OtherRun { table: table.name().into(), splits }),
            Outcome::PartlyDone { done } => return Err(CommitStepError::OtherRun { table: table.name().into(), splits: done }),
        }
    }
    Ok(())
}

/// Finishes the commits that a killed run had begun: like [`commit_group`], but splits that a table has already are no surprise.
pub fn finish_group(tables: &[Option<Arc<Table>>], stamp: &PlanStamp, group: &Finished) -> Result<(), CommitError> {
    for (target, table) in tables.iter().enumerate() {
        let Some(table) = table else { continue };
        let shards = group.shards.get(&(target as u32)).map(Vec::as_slice).unwrap_or_default();
        // A commit is all or nothing, so a table with a part of the group has it from another run, which also cut the rest otherwise. The first table
        // tells: tables are committed in order, so none after it has anything of this group.
        if let Outcome::PartlyDone { done } = table.commit(stamp, &group.splits, shards)? {
            tracing::warn!(table = table.name(), splits = %done, "Another run has committed a part of these splits: what a killed run had begun is dropped");
            return Ok(());
        }
    }
    Ok(())
}
