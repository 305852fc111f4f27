//! The operator behind every measure, filter and expanding step: rows wait here, work on a pool, and come back as rows and ledger entries.
//!
//! Capabilities stay on the worker and are found again by task number; threads only get numbers and rows. A task's answer is sent first and
//! the worker is woken after, so no wake-up is lost. No capability is ever dropped before its answer was sent on: that would let a split look complete.
//!
//! What can go wrong: an operator that never answers holds its split for ever (operators have deadlines of their own), as a cancelled one does; rows that
//! wait are bounded by the source's window and by the byte budget, which stops new splits and holds each step to one task at a time while it is exceeded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use crossbeam_channel::{Receiver, Sender, unbounded};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::Shared;
use super::batch::{Batch, Route};
use super::compile::{Compiled, select};
use super::ledger::Entry;
use super::task::{self, Done, TaskContext};
use super::time::SplitTime;
use crate::operator::{OperatorError, Pool};

/// How soon a step looks again when the byte budget was exceeded.
pub const BUDGET_RETRY: Duration = Duration::from_millis(20);
/// Batches are put together up to this size, far below what 32-bit offsets can address.
pub const MAX_TASK_BYTES: u64 = 256 << 20;

/// A stream of rows.
pub type Rows<'s> = Stream<'s, SplitTime, Batch>;
/// A stream of ledger entries.
pub type Ledger<'s> = Stream<'s, SplitTime, Vec<Entry>>;
/// Builds the rows output.
pub type RowsOutput = OutputBuilder<SplitTime, CapacityContainerBuilder<Batch>>;
/// Builds the ledger output.
pub type LedgerOutput = OutputBuilder<SplitTime, CapacityContainerBuilder<Vec<Entry>>>;

/// Allows rows and ledger entries of one split.
pub type Capabilities = (Capability<SplitTime>, Capability<SplitTime>);

struct Waiting {
    capabilities: Capabilities,
    split: u32,
    rows: RecordBatch,
    bytes: u64,
}

/// Tasks on their way: capabilities by task number.
pub struct InFlight {
    next: u64,
    held: HashMap<u64, (Capabilities, u64)>,
    answers: Receiver<(u64, Result<Done, OperatorError>)>,
    answer: Sender<(u64, Result<Done, OperatorError>)>,
}

impl Default for InFlight {
    fn default() -> Self {
        let (answer, answers) = unbounded();
        InFlight { next: 0, held: HashMap::new(), answers, answer }
    }
}

impl InFlight {
    /// Tasks that have not been answered.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Starts a task on a pool; `wake` is called after its answer was sent.
    pub fn start(
        &mut self,
        shared: &Shared,
        pool: Pool,
        capabilities: Capabilities,
        bytes: u64,
        wake: impl FnOnce() + Send + 'static,
        work: impl FnOnce(&TaskContext) -> Result<Done, OperatorError> + Send + 'static,
    ) {
        let number = self.hold(capabilities, bytes);
        let (answer, context, progress) = (self.answer.clone(), shared.context.clone(), Arc::clone(&shared.progress));
        shared.pools.spawn(pool, move || {
            // A cancelled task is never answered: its capabilities are held to the end of the process, so its split never looks complete.
            let Some(done) = progress.unless_cancelled(|| work(&context)) else { return };
            // The receiver is gone only when the worker is: then nobody waits for the answer.
            if answer.send((number, done)).is_ok() {
                wake();
            }
        });
    }

    /// Keeps the capabilities of a task under its number.
    fn hold(&mut self, capabilities: Capabilities, bytes: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        self.held.insert(number, (capabilities, bytes));
        number
    }

    /// Sends on everything that has been answered. Ends the process on an operator error: its rows cannot be accounted for.
    /// Gives the rows that the answered tasks had taken.
    pub fn deliver(&mut self, shared: &Shared, rows: &mut RowsOutput, ledger: &mut LedgerOutput) -> u64 {
        let mut answered = 0;
        while let Ok((number, answer)) = self.answers.try_recv() {
            let Some(((rows_cap, ledger_cap), bytes)) = self.held.remove(&number) else { panic!("task {number} answered twice") };
            let (out, entry) = answer.unwrap_or_else(|e| shared.stop.operator_failed(&e));
            for out in out {
                rows.activate().session(&rows_cap).give_container(&mut Batch::new(out, entry.split));
            }
            answered += entry.rows_in;
            ledger.activate().session(&ledger_cap).give(entry);
            shared.pools.release(bytes);
        }
        answered
    }
}

/// Bytes of a batch's rows. Not of its buffers: slices share them, and rows from another process all lie in one received message.
pub fn bytes_of(rows: &RecordBatch) -> u64 {
    rows.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0) as u64).sum()
}

/// Adds a transform step to the dataflow.
pub fn transform<'s>(
    scope: Scope<'s, SplitTime>,
    step: Arc<Compiled>,
    input: Rows<'s>,
    shared: Arc<Shared>,
) -> (Rows<'s>, Ledger<'s>) {
    let mut builder = OperatorBuilder::new(step.name.to_string(), scope);
    let mut pipeline = None;
    let mut exchanged = None;
    match (&step.id, step.balance && scope.peers() > 1) {
        (Some((id, _)), true) => {
            let route = Route::ByRow(id.clone());
            exchanged = Some(builder.new_input(input, DistributorPact(move |_| route)));
        }
        (None, _) | (_, false) => pipeline = Some(builder.new_input(input, Pipeline)),
    }
    let (rows_out, rows_stream) = builder.new_output::<Batch>();
    let (ledger_out, ledger_stream) = builder.new_output::<Vec<Entry>>();
    let address = std::rc::Rc::clone(&builder.operator_info().address);
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let again = scope.activator_for(address);
    builder.build(move |_initial| {
        let mut rows_out: RowsOutput = OutputBuilder::from(rows_out);
        let mut ledger_out: LedgerOutput = OutputBuilder::from(ledger_out);
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut tasks = InFlight::default();
        let limit = shared.pools.tasks_per_worker(step.pool);
        move |_frontiers| {
            let mut receive = |cap: timely::dataflow::operators::InputCapability<SplitTime>, batch: &mut Batch| {
                let Some((split, _, rows)) = std::mem::take(batch).into_parts() else { return };
                let Some(time) = cap.stamp().as_singleton() else { panic!("a batch must have exactly one time") };
                let rows = select(&rows, &step.received);
                let chunk = step.rows_per_task;
                for offset in (0..rows.num_rows()).step_by(chunk) {
                    let rows = rows.slice(offset, chunk.min(rows.num_rows() - offset));
                    let bytes = bytes_of(&rows);
                    shared.pools.hold(bytes);
                    shared.waiting[step.index].fetch_add(rows.num_rows() as u64, Ordering::Relaxed);
                    waiting.push_back(Waiting { capabilities: (cap.delayed(time, 0), cap.delayed(time, 1)), split, rows, bytes });
                }
            };
            if let Some(input) = &mut pipeline {
                input.for_each(&mut receive);
            }
            if let Some(input) = &mut exchanged {
                input.for_each(&mut receive);
            }
            let answered = tasks.deliver(&shared, &mut rows_out, &mut ledger_out);
            shared.waiting[step.index].fetch_sub(answered, Ordering::Relaxed);
            loop {
                // Over the budget only the last steps with rows work, and one task at a time: what is in flight shrinks before more is made.
                let allowed = match shared.pools.has_room() {
                    true => limit,
                    false => usize::from(shared.is_clear_behind(step.index)),
                };
                if tasks.len() >= allowed {
                    if allowed < limit && !waiting.is_empty() {
                        again.activate_after(BUDGET_RETRY);
                    }
                    break;
                }
                let Some(next) = gather(&mut waiting, step.rows_per_task) else { break };
                let Waiting { capabilities, split, rows, bytes } = next;
                if step.pool == Pool::Inline {
                    let work = || task::transform(&step, split, &rows, &shared.context);
                    let Some(answer) = shared.progress.unless_cancelled(work) else {
                        tasks.hold(capabilities, bytes);
                        continue;
                    };
                    let (out, entry) = answer.unwrap_or_else(|e| shared.stop.operator_failed(&e));
                    for out in out {
                        rows_out.activate().session(&capabilities.0).give_container(&mut Batch::new(out, split));
                    }
                    shared.waiting[step.index].fetch_sub(entry.rows_in, Ordering::Relaxed);
                    ledger_out.activate().session(&capabilities.1).give(entry);
                    shared.pools.release(bytes);
                    continue;
                }
                let (step, wake) = (Arc::clone(&step), wake.clone());
                let wake = move || {
                    let _ = wake.activate();
                };
                let pool = step.pool;
                tasks.start(&shared, pool, capabilities, bytes, wake, move |context| {
                    task::transform(&step, split, &rows, context)
                });
            }
        }
    });
    (rows_stream, ledger_stream)
}

/// The next task: the first waiting rows, with later ones of the same split added while they fit one task.
fn gather(waiting: &mut VecDeque<Waiting>, rows_per_task: usize) -> Option<Waiting> {
    let mut first = waiting.pop_front()?;
    let mut parts = Vec::new();
    let mut count = first.rows.num_rows();
    while let Some(next) = waiting.front() {
        if next.split != first.split
            || next.capabilities.0.time() != first.capabilities.0.time()
            || count + next.rows.num_rows() > rows_per_task
            || first.bytes + next.bytes > MAX_TASK_BYTES
        {
            break;
        }
        let Some(next) = waiting.pop_front() else { break };
        count += next.rows.num_rows();
        first.bytes += next.bytes;
        parts.push(next.rows);
    }
    if !parts.is_empty() {
        parts.insert(0, first.rows);
        let schema = parts[0].schema();
        first.rows = match concat_batches(&schema, parts.iter()) {
            Ok(rows) => rows,
            Err(e) => panic!("cannot put rows of one step together: {e}"),
        };
    }
    Some(first)
}
