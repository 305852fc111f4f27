//! The operator that gathers what became of each split: rows for the sinks and the ledger, until progress tracking says that nothing is left.
//!
//! A split has one owner among the workers, so its sums are checked in one place. Complete splits go to the process's writer; what the writer
//! finishes is sent to the committer by the first worker of the process, under a capability of the commit lane that keeps the dataflow alive.
//!
//! What can go wrong: sums that do not add up (see [`super::ledger`]); the run fails rather than commit a loss.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Exchange};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::SyncActivator;

use super::Shared;
use super::batch::{Route, owner, stable_hash};
use super::compile::Work;
use super::ledger::{Counts, Entry, balance};
use super::offload::{Ledger, Rows, bytes_of};
use super::tables;
use super::time::SplitTime;
use super::writer::{Finished, FromWriter, ToWriter};

/// What collectors tell the committer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToCommitter {
    /// What steps did since the last message, by step; for people who watch.
    Did(Vec<(u32, Counts)>),
    /// This split is complete and adds up.
    Complete(u32),
    /// A group of splits may be committed.
    Finished(Finished),
}

/// A split that is being worked on.
#[derive(Default)]
struct Open {
    entries: Vec<Entry>,
    /// Rows received by each sink.
    sinks: Vec<u64>,
}

/// The ends of the channels between this worker and the process's writer.
pub struct WriterLink {
    /// To the writer.
    pub commands: Sender<ToWriter>,
    /// From the writer: only at the first worker of the process.
    pub answers: Option<Receiver<FromWriter>>,
}

/// Adds the collector. The activator wakes it when the writer has answered.
pub fn collect<'s>(
    scope: Scope<'s, SplitTime>,
    rows: Rows<'s>,
    ledger: Ledger<'s>,
    link: WriterLink,
    shared: Arc<Shared>,
) -> (Stream<'s, SplitTime, Vec<ToCommitter>>, SyncActivator) {
    let mut builder = OperatorBuilder::new("Collect".into(), scope);
    let mut rows_in = builder.new_input(rows, DistributorPact(|_| Route::BySplit));
    let mut ledger_in = builder.new_input(ledger, Exchange::new(|e: &Entry| stable_hash(&e.split.to_le_bytes())));
    let (out, stream) = builder.new_output::<Vec<ToCommitter>>();
    let wake = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let (index, peers) = (scope.index(), scope.peers());
    builder.build(move |mut initial| {
        let mut out: OutputBuilder<SplitTime, CapacityContainerBuilder<Vec<ToCommitter>>> = OutputBuilder::from(out);
        // Held until the writer has handed on everything.
        let mut alive = initial.pop().map(|cap| cap.delayed(&SplitTime::COMMIT));
        let mut open: HashMap<(SplitTime, u32), Open> = HashMap::new();
        let mut told = false;
        let sinks = shared.program.sinks.len();
        move |frontiers| {
            let mut did: BTreeMap<u32, Counts> = BTreeMap::new();
            let time_of = |stamp: &timely::progress::Stamp<SplitTime>| match stamp.as_singleton() {
                Some(time) => *time,
                None => panic!("a message must have exactly one time"),
            };
            rows_in.for_each(|cap, batch| {
                let time = time_of(cap.stamp());
                let Some((split, sink, rows)) = std::mem::take(batch).into_parts() else { return };
                debug_assert_eq!(owner(split, peers), index);
                let state = open.entry((time, split)).or_insert_with(|| Open { entries: Vec::new(), sinks: vec![0; sinks] });
                let count = rows.num_rows() as u64;
                state.sinks[sink as usize] += count;
                did.entry(shared.program.sinks[sink as usize].0 as u32).or_default().merge(&sunk(count));
                let bytes = bytes_of(&rows);
                shared.pools.hold(bytes);
                shared.tell_writer(&link.commands, ToWriter::Rows { target: sink as usize, split, rows, bytes });
            });
            ledger_in.for_each(|cap, entries| {
                let time = time_of(cap.stamp());
                for entry in entries.drain(..) {
                    let state =
                        open.entry((time, entry.split)).or_insert_with(|| Open { entries: Vec::new(), sinks: vec![0; sinks] });
                    did.entry(entry.step).or_default().add(&entry);
                    state.entries.push(entry);
                }
            });
            if let (Some(cap), false) = (&alive, did.is_empty()) {
                out.activate().session(cap).give(ToCommitter::Did(did.into_iter().collect()));
            }
            let passed = |time: &SplitTime| frontiers.iter().all(|f: &MutableAntichain<SplitTime>| !f.less_equal(time));
            let complete: Vec<_> = open.keys().filter(|(time, _)| passed(time)).copied().collect();
            for key in complete {
                let Some(state) = open.remove(&key) else { continue };
                close(&shared, &link.commands, key.1, state);
                if let Some(cap) = &alive {
                    out.activate().session(cap).give(ToCommitter::Complete(key.1));
                }
            }
            if !told && frontiers.iter().all(|f| f.is_empty()) && open.is_empty() {
                told = true;
                shared.tell_writer(&link.commands, ToWriter::WorkerDone);
                if link.answers.is_none() {
                    alive = None;
                }
            }
            let Some(answers) = &link.answers else { return };
            while let Ok(answer) = answers.try_recv() {
                match (answer, &alive) {
                    (FromWriter::Finished(group), Some(cap)) => {
                        out.activate().session(cap).give(ToCommitter::Finished(group));
                    }
                    (FromWriter::Finished(_), None) => panic!("the writer finished a group after its end"),
                    (FromWriter::End, _) => alive = None,
                }
            }
        }
    });
    (stream, wake)
}

/// The sums of a sink that received this many rows.
fn sunk(rows: u64) -> Counts {
    Counts { rows_in: rows, passed: rows, rows_out: rows, ..Counts::default() }
}

/// Checks a complete split and gives it to the writer.
fn close(shared: &Shared, writer: &Sender<ToWriter>, split: u32, state: Open) {
    let program = &shared.program;
    let mut counts = vec![Counts::default(); program.steps.len()];
    for entry in &state.entries {
        counts[entry.step as usize].add(entry);
    }
    for step in &program.steps {
        if let Work::Sink(sink) = step.work {
            counts[step.index] = sunk(state.sinks[sink as usize]);
        }
    }
    let plan = &shared.plan.splits[split as usize];
    if let Err(what) = balance(&program.shape, plan.source, plan.items.len() as u64, &counts) {
        shared.stop.rows_lost(split, &what);
    }
    for (at, rows) in tables::batches(program, split, &state.entries, &counts).into_iter().enumerate() {
        if rows.num_rows() > 0 {
            let bytes = bytes_of(&rows);
            shared.pools.hold(bytes);
            shared.tell_writer(writer, ToWriter::Rows { target: program.sinks.len() + at, split, rows, bytes });
        }
    }
    shared.tell_writer(writer, ToWriter::Complete { split });
}
