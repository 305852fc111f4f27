//! The operator behind every source: opens splits while the window and the byte budget allow, and reads them on a pool.
//!
//! The window is a number of lanes (see [`super::time`]). A lane works on one split; when the probe behind the sinks says that nothing of that
//! split is left, the lane takes the next one. Nothing in timely slows a source down, so this is the flow control of the whole dataflow.
//!
//! What can go wrong: a lane that is not closed keeps the run alive; a lane is closed when the list of splits
//! is empty or the run is being stopped.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe::Handle;
use timely::scheduling::Activator;

use super::Shared;
use super::batch::Batch;
use super::compile::Compiled;
use super::ledger::Entry;
use super::offload::{BUDGET_RETRY, InFlight, Ledger, LedgerOutput, Rows, RowsOutput};
use super::task;
use super::time::SplitTime;
use crate::operator::Pool;
use crate::plan::Split;

/// Inputs of one task.
struct Chunk {
    split: u32,
    from: usize,
    to: usize,
    capabilities: (Capability<SplitTime>, Capability<SplitTime>),
}

struct Lane {
    /// Allows the splits that this lane has not opened yet.
    future: Option<(Capability<SplitTime>, Capability<SplitTime>)>,
    /// The split that is open.
    open: Option<SplitTime>,
}

/// Adds a source to the dataflow. `splits` are those that this worker opens, `first_lane` the number of its first lane. The activator must be
/// called when `probe` moves.
pub fn source<'s>(
    scope: Scope<'s, SplitTime>,
    step: Arc<Compiled>,
    splits: Vec<u32>,
    first_lane: u32,
    lanes: u32,
    probe: Handle<SplitTime>,
    shared: Arc<Shared>,
) -> (Rows<'s>, Ledger<'s>, Activator) {
    let mut builder = OperatorBuilder::new(step.name.to_string(), scope);
    let (rows_out, rows_stream) = builder.new_output::<Batch>();
    let (ledger_out, ledger_stream) = builder.new_output::<Vec<Entry>>();
    let address: Rc<[usize]> = Rc::clone(&builder.operator_info().address);
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let activator = scope.activator_for(Rc::clone(&address));
    let again = scope.activator_for(address);
    builder.build(move |mut initial| {
        let (ledger_cap, rows_cap) = (initial.pop(), initial.pop());
        let mut rows_out: RowsOutput = OutputBuilder::from(rows_out);
        let mut ledger_out: LedgerOutput = OutputBuilder::from(ledger_out);
        let mut todo: VecDeque<u32> = splits.into();
        let mut all: Vec<Lane> = match (rows_cap, ledger_cap) {
            (Some(rows), Some(ledger)) if !todo.is_empty() => (0..lanes)
                .map(|i| {
                    let time = SplitTime::first(first_lane + i);
                    Lane { future: Some((rows.delayed(&time), ledger.delayed(&time))), open: None }
                })
                .collect(),
            _ => Vec::new(),
        };
        let mut chunks: VecDeque<Chunk> = VecDeque::new();
        let mut tasks = InFlight::default();
        // A source that may block is not read on the worker itself.
        let pool = if step.pool == Pool::Inline { Pool::Cpu } else { step.pool };
        let limit = shared.pools.tasks_per_worker(pool);
        move |_frontiers| {
            tasks.deliver(&shared, &mut rows_out, &mut ledger_out);
            for lane in &mut all {
                if lane.open.is_some_and(|time| !probe.less_equal(&time)) {
                    lane.open = None;
                }
            }
            let mut open = all.iter().filter(|lane| lane.open.is_some()).count();
            for lane in &mut all {
                if lane.open.is_some() {
                    continue;
                }
                let Some((rows_cap, ledger_cap)) = &mut lane.future else { continue };
                if todo.is_empty() || shared.progress.is_draining() {
                    lane.future = None;
                    continue;
                }
                // One split may always be open, or a budget below the size of one split would stop the run for ever.
                if open > 0 && !shared.pools.has_room() {
                    again.activate_after(BUDGET_RETRY);
                    continue;
                }
                let Some(id) = todo.pop_front() else { continue };
                let split = &shared.plan.splits[id as usize];
                tracing::debug!(split = id, step = %step.name, inputs = split.items.len(), "Split opened");
                crate::commit::kill_point("split_opened");
                let time = *rows_cap.time();
                for from in (0..split.items.len()).step_by(step.rows_per_task) {
                    let to = (from + step.rows_per_task).min(split.items.len());
                    chunks.push_back(Chunk { split: id, from, to, capabilities: (rows_cap.clone(), ledger_cap.clone()) });
                }
                rows_cap.downgrade(&time.next());
                ledger_cap.downgrade(&time.next());
                lane.open = Some(time);
                open += 1;
            }
            while tasks.len() < limit {
                let Some(chunk) = chunks.pop_front() else { break };
                let (step, plan, wake) = (Arc::clone(&step), Arc::clone(&shared.plan), wake.clone());
                tasks.start(
                    &shared,
                    pool,
                    chunk.capabilities,
                    0,
                    move || {
                        let _ = wake.activate();
                    },
                    move |context| {
                        let Split { id, items, .. } = &plan.splits[chunk.split as usize];
                        task::read(&step, *id, &items[chunk.from..chunk.to], context)
                    },
                );
            }
        }
    });
    (rows_stream, ledger_stream, activator)
}
