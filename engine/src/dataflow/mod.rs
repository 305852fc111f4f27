//! The dataflow: runs a program over the splits of a plan on timely workers.
//!
//! | file | does |
//! |---|---|
//! | `compile` | a graph becomes started operators and edges with just the columns that are read |
//! | `time` | splits as timestamps, in lanes that do not wait for each other |
//! | `batch` | Arrow batches as containers, on the wire, and their routes |
//! | `source` | opens splits within the window and reads them |
//! | `offload` | calls measures, filters and expanding operators on pools |
//! | `task`, `apply` | one call, and what becomes of its rows |
//! | `ledger` | counts, and the proof that no row is lost |
//! | `collect` | gathers a split's results and closes it when progress tracking says so |
//! | `writer` | rows become shards |
//! | `commit_step` | shards become true |
//! | `give_way` | removes what a run wrote that another one was faster than |
//! | `intent` | all tables of a split, or none |
//! | `progress` | what a run is doing, and whether it is being stopped |
//! | `tables` | the `rejects`, `errors` and `stages` tables |
//! | `stop` | ends the process when going on would be wrong |
//!
//! Every worker builds the same dataflow; only the sources differ in which splits they open.

mod apply;
mod batch;
mod collect;
mod commit_step;
pub mod compile;
mod give_way;
pub mod intent;
pub mod ledger;
mod offload;
mod progress;
mod source;
mod stop;
pub mod tables;
pub mod task;
mod time;
mod writer;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use timely::dataflow::Scope;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::{Concatenate, Probe};
use timely::worker::Worker;

use self::batch::Batch;
use self::collect::{WriterLink, collect};
pub use self::commit_step::{Committed, finish_group};
use self::compile::{Compiled, Program, Work, select};
use self::intent::Intents;
use self::offload::Rows;
pub use self::progress::{ERROR_RATE_MIN_ROWS, RunProgress, Stopping, share_done, too_many_errors};
pub use self::stop::Stop;
use self::task::TaskContext;
use self::time::SplitTime;
#[cfg(test)]
pub(crate) use self::writer::Finished;
use self::writer::{FromWriter, ToWriter};
pub use self::writer::{Settings as WriterSettings, Target};
use crate::budget::{DEFAULT_ROW_BYTES, MemoryLimit};
use crate::cluster::{ClusterError, Workers, workers};
use crate::commit::{PlanStamp, SplitSet};
use crate::exit::Exit;
use crate::graph::{Graph, PoolSettings, Provider, Step};
use crate::operator::Pool;
use crate::plan::Plan;
use crate::pool::{DEFAULT_GPU_THREADS, DEFAULT_NET_THREADS, MAX_NET_THREADS, Pools};
use crate::resources::Resources;

/// A worker looks after its sources at least this often.
const PARK: Duration = Duration::from_millis(200);

/// What all workers of a process share.
pub struct Shared {
    program: Program,
    plan: Arc<Plan>,
    pools: Arc<Pools>,
    context: TaskContext,
    stop: Stop,
    tables: Vec<Committed>,
    stamp: PlanStamp,
    intents: Intents,
    /// ULID of this attempt of this process.
    attempt: String,
    /// Held while commits are carried out: the splits that this process has tried to commit.
    settling: Mutex<SplitSet>,
    progress: Arc<RunProgress>,
    /// Rows that wait or are worked on in this process, by step.
    waiting: Vec<AtomicU64>,
    /// The transforms behind each step.
    behind: Vec<Vec<usize>>,
    /// The only process of the run.
    alone: bool,
}

impl Shared {
    /// True when no row waits for a step behind this one: whatever it makes now is not added to a heap.
    fn is_clear_behind(&self, step: usize) -> bool {
        self.behind[step].iter().all(|&s| self.waiting[s].load(Ordering::Relaxed) == 0)
    }

    fn tell_writer(&self, writer: &Sender<ToWriter>, message: ToWriter) {
        if writer.send(message).is_err() {
            self.stop.end(Exit::Internal, "the writer thread is gone");
        }
    }
}

/// Everything that a run of the dataflow needs.
pub struct Job {
    /// The checked pipeline.
    pub graph: Arc<Graph>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Splits to do, ascending.
    pub todo: Vec<u32>,
    /// The started operators.
    pub program: Program,
    /// Shared things of the operators.
    pub resources: Arc<Resources>,
    /// Where each sink's rows go, then the system tables.
    pub targets: Vec<Target>,
    /// The same as the committer sees it.
    pub tables: Vec<Committed>,
    /// Names the plan in every commit.
    pub stamp: PlanStamp,
    /// Where commits are announced.
    pub intents: Intents,
    /// Answers of earlier runs.
    pub kept: Option<Arc<crate::reuse::Kept>>,
    /// ULID of this attempt of this process.
    pub attempt: String,
    /// Worker threads of this process.
    pub threads: usize,
    /// Workers of all processes.
    pub peers: usize,
}

/// For each step the transforms that its rows can reach.
fn transforms_behind(program: &Program) -> Vec<Vec<usize>> {
    let mut behind: Vec<std::collections::BTreeSet<usize>> = vec![Default::default(); program.steps.len()];
    for step in program.steps.iter().rev() {
        for &input in &step.inputs {
            let mut all = behind[step.index].clone();
            if matches!(step.work, Work::Transform(_)) {
                all.insert(step.index);
            }
            behind[input].extend(all);
        }
    }
    behind.into_iter().map(|set| set.into_iter().collect()).collect()
}

/// Threads of the `net` pool: as set, else enough for every step that waits.
fn net_threads(graph: &Graph) -> usize {
    let set = graph.engine.pools.net;
    let wanted = |step: &Step| match step.operator.pool() {
        Pool::Net => step.operator.threads_wanted(),
        _ => 0,
    };
    let sum = graph.steps.iter().map(wanted).sum::<usize>();
    if set == 0 { sum.clamp(DEFAULT_NET_THREADS, MAX_NET_THREADS) } else { set }
}

/// Threads of the `gpu` pool: as set; else one per core where models run on the processor, and one where a device queues them anyway.
fn gpu_threads(graph: &Graph) -> usize {
    let on_processor = graph.runtime.providers.iter().all(|p| *p == Provider::Cpu);
    match graph.engine.pools.gpu {
        0 if on_processor => std::thread::available_parallelism().map_or(1, usize::from),
        0 => DEFAULT_GPU_THREADS,
        set => set,
    }
}

/// Runs the job on the workers of this process until everything is committed.
pub fn run(job: Job, kind: Workers, progress: Arc<RunProgress>) -> Result<(), ClusterError> {
    let processes = (job.peers / job.threads.max(1)).max(1) as u64;
    let settings = &job.graph.engine;
    let MemoryLimit(shares) = *job.resources.get(MemoryLimit::default);
    let decode = match (settings.pools.decode, shares) {
        (0, Some(shares)) => shares.decode_threads,
        (set, _) => set,
    };
    let pools = PoolSettings { net: net_threads(&job.graph), gpu: gpu_threads(&job.graph), decode, ..settings.pools.clone() };
    let row_bytes = match (settings.max_bytes_in_flight, shares) {
        (0, Some(shares)) => shares.rows,
        (0, None) => DEFAULT_ROW_BYTES / processes,
        (set, _) => set / processes,
    };
    let starting = |e: std::io::Error| ClusterError::Start(format!("cannot start the pool threads: {e}"));
    let pools = Pools::start(&pools, job.threads, row_bytes).map_err(starting)?;
    let pools = Arc::new(match shares {
        Some(shares) => pools.below(shares.limit),
        None => pools,
    });
    if matches!(kind, Workers::Cluster { .. }) {
        watch_for_hangs(&job, &pools).map_err(starting)?;
    }
    let window = if settings.window_splits == 0 { 2 * job.peers } else { settings.window_splits };
    let lanes = (window / job.peers).max(1) as u32;
    let writer_settings = WriterSettings {
        commit_interval: Duration::from_secs(settings.commit_interval_seconds),
        attempt: job.attempt.clone(),
        workers: job.threads,
    };
    let steps = job.program.steps.len();
    let behind = transforms_behind(&job.program);
    let shared = Arc::new(Shared {
        program: job.program,
        plan: job.plan,
        pools: Arc::clone(&pools),
        context: TaskContext { resources: job.resources, cancelled: progress.cancelled(), kept: job.kept },
        stop: Stop,
        tables: job.tables,
        stamp: job.stamp,
        intents: job.intents,
        attempt: job.attempt,
        settling: Mutex::default(),
        progress,
        waiting: (0..steps).map(|_| AtomicU64::new(0)).collect(),
        behind,
        alone: job.peers == job.threads,
    });
    // Unbounded, but what is in it counts for the byte budget, which stops the sources.
    let (commands, queue) = unbounded::<ToWriter>();
    let start = Mutex::new(Some((job.targets, writer_settings, queue)));
    let todo = Arc::new(job.todo);
    let threads = job.threads;
    workers(kind, timely::WorkerConfig::default(), move |worker| {
        let first_here = worker.index() % threads == 0;
        let (answer, answers) = unbounded::<FromWriter>();
        let link = WriterLink { commands: commands.clone(), answers: first_here.then_some(answers) };
        let (probe, sources, wake_collector) = build(worker, link, lanes, &todo, &shared);
        if first_here && let Some((targets, settings, queue)) = start.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let (shared, pools) = (Arc::clone(&shared), Arc::clone(&pools));
            let thread = std::thread::Builder::new().name("writer".into());
            let spawned = thread.spawn(move || {
                write(&shared, targets, settings, pools, &queue, &answer, &|| {
                    let _ = wake_collector.activate();
                })
            });
            shared_or_die(spawned);
        }
        let mut seen = Vec::new();
        while !probe.done() {
            worker.step_or_park(Some(PARK));
            let now = probe.with_frontier(|f| f.to_vec());
            if now != seen {
                seen = now;
                sources.iter().for_each(|s| s.activate());
            }
        }
    })
    .map(|_: Vec<()>| ())
}

/// In a cluster, whose processes somebody starts again: a decoder that hangs for good ends its process, and the next start contains it. Steps
/// have deadlines of their own, which come long before.
fn watch_for_hangs(job: &Job, pools: &Pools) -> std::io::Result<()> {
    let engine = &job.graph.engine;
    let of_tasks = job.program.steps.iter().filter(|s| s.pool == Pool::Decode).map(|s| s.rows_per_task).max();
    let Some(rows) = of_tasks.filter(|_| engine.contain_after_crash && engine.max_restarts > 0 && engine.decoder_processes == 0)
    else {
        return Ok(());
    };
    // Each row has the time that it has in a decoder process, and the deadline of its step comes first.
    let limit = Duration::from_secs(engine.decoder_task_seconds)
        .saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX).saturating_add(1));
    pools.watch(Pool::Decode, limit, |long| {
        let seconds = long.as_secs();
        Stop.end(Exit::Internal, &format!("A decoder has not ended for {seconds} s (decoder_task_seconds); this process stops"))
    })
}

fn shared_or_die<T>(spawned: std::io::Result<T>) {
    Stop.or_die("start the writer thread", spawned);
}

fn write(
    shared: &Shared,
    targets: Vec<Target>,
    settings: WriterSettings,
    pools: Arc<Pools>,
    queue: &Receiver<ToWriter>,
    answer: &Sender<FromWriter>,
    wake: &dyn Fn(),
) {
    if let Err(e) = writer::run(targets, settings, pools, queue, answer, wake) {
        give_way::writer_failed(shared, &e);
    }
}

type Built = (Handle<SplitTime>, Vec<timely::scheduling::Activator>, timely::scheduling::SyncActivator);

fn build(worker: &mut Worker, link: WriterLink, lanes: u32, todo: &[u32], shared: &Arc<Shared>) -> Built {
    let (index, peers) = (worker.index(), worker.peers());
    let probe = Handle::new();
    let (activators, wake) = worker.dataflow::<SplitTime, _, _>(|scope: Scope<SplitTime>| {
        let mut outputs: Vec<Option<Rows>> = Vec::new();
        let mut ledgers = Vec::new();
        let mut to_sinks = Vec::new();
        let mut activators = Vec::new();
        for step in &shared.program.steps {
            let step = Arc::new(step.clone());
            let input = || -> Rows {
                let streams: Vec<_> = step.inputs.iter().filter_map(|&i| outputs[i].clone()).collect();
                scope.concatenate(streams)
            };
            match step.work {
                Work::Source(_) => {
                    let mine: Vec<u32> = mine(todo, shared, &step, index, peers);
                    let ordinal = activators.len() as u32;
                    let first_lane = (ordinal * peers as u32 + index as u32) * lanes;
                    let (rows, ledger, activator) =
                        source::source(scope, Arc::clone(&step), mine, first_lane, lanes, probe.clone(), Arc::clone(shared));
                    outputs.push(Some(rows));
                    ledgers.push(ledger);
                    activators.push(activator);
                }
                Work::Transform(_) => {
                    let (rows, ledger) = offload::transform(scope, Arc::clone(&step), input(), Arc::clone(shared));
                    outputs.push(Some(rows));
                    ledgers.push(ledger);
                }
                Work::Sink(sink) => {
                    to_sinks.push(address(input(), step, sink));
                    outputs.push(None);
                }
            }
        }
        let rows = scope.concatenate(to_sinks);
        let ledger = scope.concatenate(ledgers);
        let (messages, wake) = collect(scope, rows, ledger, link, Arc::clone(shared));
        commit_step::commit(scope, messages, Arc::clone(shared)).probe_with(&probe);
        (activators, wake)
    });
    (probe, activators, wake)
}

/// The splits that this worker opens, in order. In one process they are dealt out in turn; among several by their number alone: processes that read the tables at different moments, and so disagree on
/// which splits are left, still agree on whose they are.
fn mine(todo: &[u32], shared: &Shared, step: &Compiled, index: usize, peers: usize) -> Vec<u32> {
    let of_source = |s: &&u32| shared.plan.splits[**s as usize].source == step.index;
    let here = todo.iter().filter(of_source).enumerate();
    here.filter(|(at, s)| if shared.alone { at % peers == index } else { **s as usize % peers == index })
        .map(|(_, s)| *s)
        .collect()
}

/// Cuts rows down to what a sink writes and addresses them to it.
fn address<'s>(rows: Rows<'s>, step: Arc<Compiled>, sink: u32) -> Rows<'s> {
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::generic::operator::Operator;
    rows.unary::<CapacityContainerBuilder<Batch>, _, _, _>(Pipeline, &step.name.clone(), move |_, _| {
        move |input, output| {
            input.for_each(|cap, batch| {
                if let Some((split, _, rows)) = std::mem::take(batch).into_parts() {
                    let mut batch = Batch::for_sink(select(&rows, &step.output), split, sink);
                    output.session(&cap).give_container(&mut batch);
                }
            });
        }
    })
}

/// The splits of a plan that are not in `done`, ascending.
pub fn todo(plan: &Plan, done: &SplitSet) -> Vec<u32> {
    plan.splits.iter().map(|s| s.id).filter(|id| !done.contains(*id)).collect()
}
