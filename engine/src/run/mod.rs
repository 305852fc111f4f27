//! The verb `run`: what is left of a plan is done and committed. Running it again continues.
//!
//! | file | does |
//! |---|---|
//! | `prepare` | plan, tables, what is done, refusal of a changed plan |
//! | `versions` | which generation of the tables a run belongs to |
//! | `begun` | a note of the generation that has not come to its verdict |
//! | `difference` | what a changed plan differs in, for people |
//! | `effort` | how long steps worked, for reports |
//! | `finish` | checks the sums of the whole plan and removes what killed attempts left behind |
//! | `funnel` | the report: in, kept, rejected by reason, for each step |
//!
//! What can go wrong: anything, at any moment; nothing is true before it is committed, and everything that is committed stays.

pub mod begun;
pub mod difference;
pub mod effort;
pub mod finish;
pub mod funnel;
pub mod prepare;
pub mod versions;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::{ClusterError, Workers};
use crate::commit::{CommitError, PlanStamp};
use crate::dataflow::{self, RunProgress, Stopping};
use crate::exit::Exit;
use crate::graph::Graph;
use crate::operator::OperatorError;
use crate::plan::{PlanError, StoreError};
use crate::telemetry::names;

pub use funnel::Funnel;
pub use prepare::{PrepareOptions, Prepared, prepare};

/// Why a run did not happen or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An operator could not be started.
    #[error("{0}")]
    Operator(#[from] OperatorError),
    /// The inputs could not be listed or cut.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// The plan could not be stored or read back.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A table could not be opened, read or written.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// The cluster could not be formed or lost a member.
    #[error("{0}")]
    Cluster(#[from] ClusterError),
    /// The output was made by another plan.
    #[error("{0}")]
    PlanChanged(String),
    /// The run was stopped before its end; what was open is committed.
    #[error("stopped by a signal: {done} of {all} splits are committed; the same command continues from there")]
    Interrupted {
        /// The signal.
        signal: i32,
        /// Splits that are committed.
        done: u64,
        /// Splits of the plan.
        all: u64,
    },
    /// Too many rows could not be measured.
    #[error("{why}; what was done is committed. `curette ops` explains the codes. {}", what_to_do_about_errors(*left))]
    ErrorRate {
        /// Step, numbers and the most frequent code.
        why: String,
        /// Splits that were not begun; 0: the run is complete, and its errors are final.
        left: u64,
    },
    /// The tables do not agree with the sums.
    #[error("the run is finished but its tables do not add up, which is a bug: {0}")]
    Mismatch(String),
    /// A name or setting of the output is not possible.
    #[error("{0}")]
    Output(String),
}

fn what_to_do_about_errors(left: u64) -> String {
    match left {
        0 => "All splits are done, so running again ends like this: mend the cause and run once with --new-version, which works the rows with errors out again (answers that were kept are used), or raise max_error_rate".into(),
        left => format!("Splits that are left: {left}. Mend the cause, or raise max_error_rate; the same command goes on with them, and when all are done, one with --new-version works the rows with errors out again"),
    }
}

impl RunError {
    /// The exit code of the process.
    pub fn exit(&self) -> Exit {
        match self {
            RunError::Operator(_) | RunError::Output(_) => Exit::Mistake,
            // A listing fails when a store is away for a while, too.
            RunError::Plan(_) | RunError::Store(_) | RunError::Commit(_) => Exit::Failed,
            RunError::Cluster(e) => e.exit(),
            RunError::PlanChanged(_) => Exit::PlanChanged,
            RunError::Interrupted { signal: libc::SIGTERM, .. } => Exit::Terminated,
            RunError::Interrupted { .. } => Exit::Interrupted,
            RunError::ErrorRate { .. } => Exit::ErrorRate,
            RunError::Mismatch(_) => Exit::Internal,
        }
    }
}

/// This process among those of the run.
#[derive(Debug)]
pub enum Place {
    /// The only one.
    Alone {
        /// Serialise everything between threads, for tests.
        binary: bool,
    },
    /// One of several, connected.
    Member {
        /// Its number.
        index: usize,
        /// Number of processes.
        processes: usize,
        /// Connections, `None` at its own place.
        sockets: Vec<Option<TcpStream>>,
    },
}

impl Place {
    /// The process that commits and reports.
    pub fn is_first(&self) -> bool {
        matches!(self, Place::Alone { .. } | Place::Member { index: 0, .. })
    }

    fn processes(&self) -> usize {
        match self {
            Place::Alone { .. } => 1,
            Place::Member { processes, .. } => *processes,
        }
    }

    fn workers(self, threads: usize) -> Workers {
        match self {
            Place::Alone { binary: false } => Workers::Threads(threads),
            Place::Alone { binary: true } => Workers::Binary(threads),
            Place::Member { sockets, .. } => Workers::Cluster { sockets, threads },
        }
    }
}

/// What a finished run has to say.
#[derive(Debug)]
pub struct Report {
    /// Counts for each step over the whole plan, earlier runs included.
    pub funnel: Funnel,
    /// Splits done by this run.
    pub splits_done: u64,
    /// Splits that earlier runs had done.
    pub splits_before: u64,
    /// How many versions the tables had before this one; their files lie beside this one's.
    pub generation: u64,
    /// Files of killed attempts that were removed, and their bytes.
    pub orphans: (u64, u64),
    /// Rows of this run whose answer had been kept (from an earlier run, or of a row with the same content), by step; steps without any are left out.
    pub reused: Vec<(String, u64)>,
    /// What the sources say of their listings: files that were left out, say.
    pub notes: Vec<String>,
    /// Wall time.
    pub elapsed: Duration,
}

/// Does what is left of a prepared run. Only the first process gives a report. `watch` is called once with the progress record before work begins; what it
/// returns is dropped when the work is over.
pub fn run<W>(
    prepared: Prepared,
    place: Place,
    threads: usize,
    watch: impl FnOnce(&Prepared, Arc<RunProgress>) -> W,
) -> Result<Option<Report>, RunError> {
    let started = Instant::now();
    let first = place.is_first();
    let peers = threads * place.processes();
    let (graph, plan) = (Arc::clone(&prepared.graph), Arc::clone(&prepared.plan));
    let before = prepared.done.len();
    if first {
        plan.notes.iter().for_each(|note| tracing::info!("{note}"));
    }
    let progress = Arc::new(RunProgress::new(graph.steps.len(), graph.pipeline.max_error_rate));
    let outcome = Outcome {
        graph: Arc::clone(&graph),
        plan: Arc::clone(&plan),
        tables: prepared.tables.clone(),
        intents: prepared.intents.clone(),
        stamp: prepared.stamp.clone(),
        begun: prepared.begun.clone(),
        before,
        started,
    };
    if prepared.todo.is_empty() {
        // The rest is judged again all the same: errors are as final as rows.
        tracing::info!(splits = plan.splits.len(), "Everything is done already");
        // Members of a cluster still meet, or the others would wait for them.
        if place.processes() == 1 {
            return outcome.finish(&progress);
        }
    }
    let watching = watch(&prepared, Arc::clone(&progress));
    metrics::gauge!(names::SPLITS_TOTAL).set(plan.splits.len() as f64);
    metrics::gauge!(names::SPLITS_DONE).set(before as f64);
    let job = prepared.into_job(threads, peers, first)?;
    let ran = dataflow::run(job, place.workers(threads), Arc::clone(&progress));
    if first {
        outcome.note_effort(&progress);
    }
    ran?;
    drop(watching);
    let all = plan.splits.len() as u64;
    let done = before + progress.splits_committed();
    match progress.stopping() {
        Some(Stopping::ErrorRate(why)) if !first || done < all => {
            return Err(RunError::ErrorRate { why, left: all.saturating_sub(done) });
        }
        Some(Stopping::Signal(signal)) if !first || done < all => return Err(RunError::Interrupted { signal, done, all }),
        // Nothing was left to stop: the whole is judged below.
        Some(_) | None => {}
    }
    if !first {
        return Ok(None);
    }
    outcome.finish(&progress)
}

/// What the end of a run needs to know of it.
struct Outcome {
    graph: Arc<Graph>,
    plan: Arc<crate::plan::Plan>,
    tables: prepare::Tables,
    intents: dataflow::intent::Intents,
    stamp: PlanStamp,
    begun: begun::Begun,
    before: u64,
    started: Instant,
}

impl Outcome {
    /// For reports only: a failure is told and no more.
    fn note_effort(&self, progress: &RunProgress) {
        let steps = self.graph.steps.iter().map(|step| step.name.as_str());
        let effort = effort::Effort::of_run(steps, &progress.totals(), self.started.elapsed());
        if let Err(e) = effort::Efforts::of(self.begun.folder().clone()).add(self.stamp.generation, &effort) {
            tracing::warn!("how long the steps worked was not kept for reports: {e}");
        }
    }

    fn finish(self, progress: &RunProgress) -> Result<Option<Report>, RunError> {
        let Outcome { graph, plan, tables, intents, stamp, begun, before, started } = self;
        let funnel = finish::verify(&graph, &plan, &stamp, &tables, progress.splits_committed() > 0)?;
        let orphans = finish::collect_orphans(&tables, &stamp)?;
        intents.forget_readers()?;
        begun.forget()?;
        let limit = graph.pipeline.max_error_rate;
        let too_many = funnel.stages.iter().filter_map(|s| dataflow::too_many_errors(&s.step, &s.counts, limit));
        let too_many: Vec<String> = too_many.collect();
        if !too_many.is_empty() {
            return Err(RunError::ErrorRate { why: too_many.join("; "), left: 0 });
        }
        let reused = graph.steps.iter().zip(progress.totals()).filter(|(_, c)| c.reused > 0);
        let reused = reused.map(|(step, c)| (step.name.clone(), c.reused)).collect();
        let splits_done = progress.splits_committed();
        let notes = plan.notes.clone();
        let generation = stamp.generation;
        Ok(Some(Report {
            funnel,
            splits_done,
            splits_before: before,
            generation,
            orphans,
            reused,
            notes,
            elapsed: started.elapsed(),
        }))
    }
}
