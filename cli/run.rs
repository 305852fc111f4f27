//! The verb `run`: one process, a local cluster that this process starts and watches, or one process of several machines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use curette_engine::cluster::local::{Local, Seat, supervise};
use curette_engine::cluster::{self, CONNECT_LIMIT, ClusterError, Listen, Members, Secret, abort_on_panic, read_hosts};
use curette_engine::dataflow::{RunProgress, Stopping, share_done};
use curette_engine::exit::Exit;
use curette_engine::gate::Held;
use curette_engine::graph::Graph;
use curette_engine::operator::Kind;
use curette_engine::run::{self, Place, PrepareOptions, Prepared, Report, RunError};
use curette_engine::telemetry::{Health, MetricsFile, MetricsServer, Progress, ProgressMode, Snapshot, Total};
use serde_json::json;

use crate::{CheckArgs, Format, complain, fail, pipeline, print};

/// Pause before a local cluster is started again for the first time.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// `/healthz` says that a run is stuck when no task has ended for this long.
const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(15 * 60);
/// A cancelled run waits so long at most for its tasks to end.
const CANCEL_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);
/// How often a cancelled run looks whether its tasks have ended.
const CANCEL_POLL: std::time::Duration = std::time::Duration::from_millis(20);
/// Environment variable with a name of the run, the same for all machines of a cluster.
const RUN_ID_VARIABLE: &str = "CURETTE_RUN_ID";
/// Environment variable with the secret that the machines of a cluster share.
const SECRET_VARIABLE: &str = "CURETTE_CLUSTER_SECRET";

#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// Worker threads of each process (default: [engine] workers, else the cores).
    #[arg(short = 'w', long, value_parser = clap::value_parser!(u64).range(1..=1024))]
    workers: Option<u64>,
    /// Start this many processes on this machine, watch them, and start them again if one dies.
    #[arg(long, conflicts_with_all = ["hosts", "process"], value_parser = clap::value_parser!(u64).range(1..=256))]
    processes: Option<u64>,
    /// Be one process of a cluster: a file with one host:port per line, the same on every machine. Processes of different pipelines end at once and
    /// say so. To keep apart runs of the same pipeline (a process left over from an earlier one, say), set CURETTE_RUN_ID alike for all processes of
    /// a run, for example to the job's number; CURETTE_CLUSTER_SECRET is a secret that all must know.
    #[arg(long, requires = "process")]
    hosts: Option<PathBuf>,
    /// Which line of the hosts file this process is (from 0).
    #[arg(long, requires = "hosts")]
    process: Option<usize>,
    /// Begin a new version of the tables, if the plan has changed or everything is done; older versions of tables stay readable, files of JSON Lines
    /// are replaced. Over an unchanged plan the answers that were kept are used, so only rows with errors and what is not kept are worked out again.
    /// A new version that is not finished is continued.
    #[arg(long)]
    new_version: bool,
    /// Let rows pass `gate` steps whose audit is missing or has failed; the tables say so of each row. Needed again for each new version.
    #[arg(long)]
    accept_unaudited: bool,
    /// Write all metrics to this file when the run has ended, in the text form of Prometheus. Not written where everything was done already.
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// No progress.
    #[arg(short, long)]
    quiet: bool,
    /// Serialise everything between threads, as between processes.
    #[arg(long, hide = true)]
    binary: bool,
}

pub(crate) fn run(args: &RunArgs) -> ExitCode {
    let graph = match pipeline::load(&args.check) {
        Ok(graph) => graph,
        Err(exit) => return exit.into(),
    };
    let seat = match Seat::from_environment() {
        Ok(seat) => seat,
        Err(e) => return fail(e.exit(), &e),
    };
    let threads = threads(args, &graph);
    let done = match (seat, args.processes) {
        (Some((seat, listener)), _) => {
            let mut graph = graph;
            if seat.index > 0 {
                // One address, one server: the first process's.
                graph.engine.metrics_address.clear();
            }
            let quiet = args.quiet || seat.index > 0;
            member(args, graph, threads, quiet, |hash| Ok(seat.members(listener, threads, hash)))
        }
        (None, Some(processes)) => return parent(args, graph, threads, processes as usize),
        (None, None) => match (&args.hosts, args.process) {
            (Some(hosts), Some(process)) => member(args, graph, threads, args.quiet || process > 0, |hash| {
                let addresses = read_hosts(hosts, process).map_err(|e| ClusterError::BadMembers(e.to_string()))?;
                let secret = std::env::var(SECRET_VARIABLE).ok().filter(|s| !s.is_empty()).map(Secret::new);
                Ok(Members {
                    index: process,
                    addresses,
                    threads,
                    // Two runs of one plan look alike unless somebody names them.
                    run_id: std::env::var(RUN_ID_VARIABLE).unwrap_or_default(),
                    plan_hash: hash,
                    secret,
                    listen: Listen::OwnAddress,
                })
            }),
            _ => alone(args, graph, threads),
        },
    };
    match done {
        Ok(report) => match report {
            Some(report) => match print(&text(args, &report)) {
                Exit::Done if !report.0.held.is_empty() => {
                    report.0.held.iter().for_each(|held| complain(&waits(held)));
                    Exit::Held.into()
                }
                other => other.into(),
            },
            None => Exit::Done.into(),
        },
        Err(e) => fail(e.exit(), &e),
    }
}

fn threads(args: &RunArgs, graph: &Graph) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match (args.workers, graph.engine.workers) {
        (Some(n), _) => n as usize,
        (None, 0) => cores.div_ceil(args.processes.unwrap_or(1) as usize).max(1),
        (None, n) => n,
    }
}

fn options(args: &RunArgs) -> PrepareOptions {
    PrepareOptions { new_version: args.new_version, accept_unaudited: args.accept_unaudited, ..PrepareOptions::default() }
}

/// What a closed gate says at the end of a run.
fn waits(held: &Held) -> String {
    let Held { step, rows, message, .. } = held;
    format!(
        "the gate `{step}` holds back {rows} rows: {message}. What is before it is committed. When the audit has passed, the same command goes on in a new \
         version of the tables; --accept-unaudited goes on without it"
    )
}

type Done = Result<Option<(Report, Vec<(String, String)>)>, RunError>;

fn alone(args: &RunArgs, graph: Graph, threads: usize) -> Done {
    abort_on_panic();
    let prepared = run::prepare(graph, options(args))?;
    go(args.quiet, args.metrics_file.as_deref(), prepared, Place::Alone { binary: args.binary }, threads)
}

fn member(
    args: &RunArgs,
    graph: Graph,
    threads: usize,
    quiet: bool,
    members: impl FnOnce(String) -> Result<Members, ClusterError>,
) -> Done {
    abort_on_panic();
    // Only one member of a cluster decides; of a local one its parent has.
    let follows = args.process.is_some_and(|p| p > 0);
    let gates_decided = args.process.is_none();
    let mut prepared = run::prepare(graph, PrepareOptions { follows, gates_decided, ..options(args) })?;
    let members = members(prepared.plan.hash.as_str().to_string())?;
    let (index, processes) = (members.index, members.addresses.len());
    let sockets = cluster::connect(&members, CONNECT_LIMIT)?;
    if index > 0 {
        prepared.follow()?;
    }
    let metrics_file = args.metrics_file.as_deref().filter(|_| index == 0);
    go(quiet, metrics_file, prepared, Place::Member { index, processes, sockets }, threads)
}

fn go(quiet: bool, metrics_file: Option<&Path>, prepared: Prepared, place: Place, threads: usize) -> Done {
    let locations = prepared.tables.all.iter().map(|t| (t.name.clone(), t.location.clone())).collect();
    let first = place.is_first();
    let report =
        run::run(prepared, place, threads, |prepared, progress| watch(prepared, progress, quiet || !first, metrics_file))?;
    Ok(report.map(|report| (report, locations)))
}

/// Shows progress, serves metrics and listens for signals while the run goes on.
fn watch(
    prepared: &Prepared,
    progress: Arc<RunProgress>,
    quiet: bool,
    metrics_file: Option<&Path>,
) -> (Option<MetricsFile>, Option<MetricsServer>, Option<Progress>) {
    stop_on_signals(Arc::clone(&progress));
    let health = Arc::clone(&progress);
    let address = &prepared.graph.engine.metrics_address;
    let server = if address.is_empty() {
        None
    } else {
        MetricsServer::start(address, move || match health.silent_for() {
            silent if silent < STALE_AFTER => Health::Fine,
            silent => Health::Failing(format!("no task has ended for {} s", silent.as_secs())),
        })
        .inspect_err(|e| tracing::warn!("The run goes on without metrics: {e}"))
        .ok()
    };
    let file = metrics_file.and_then(|path| {
        let file = MetricsFile::start(path.to_path_buf(), server.as_ref());
        file.inspect_err(|e| tracing::warn!("The run goes on without a file of metrics: {e}")).ok()
    });
    let sources: Vec<usize> = steps_of(&prepared.graph, Kind::Source);
    let sinks: Vec<usize> = steps_of(&prepared.graph, Kind::Sink);
    let (splits, done) = (prepared.plan.splits.len() as u64, prepared.done.len());
    let items_done: u64 =
        prepared.plan.splits.iter().filter(|s| prepared.done.contains(s.id)).map(|s| s.items.len() as u64).sum();
    let total = Total { splits, items: prepared.plan.items() as u64 };
    let steps = &prepared.graph.steps;
    let inputs: Vec<Vec<usize>> = steps.iter().map(|s| s.inputs.clone()).collect();
    let sinks: Vec<(usize, String)> = sinks.into_iter().map(|i| (i, steps[i].name.clone())).collect();
    let left = |&source: &usize| -> u64 {
        let todo = prepared.todo.iter().map(|&s| &prepared.plan.splits[s as usize]);
        todo.filter(|s| s.source == source).map(|s| s.items.len() as u64).sum()
    };
    let to_do: BTreeMap<usize, u64> = sources.iter().map(|source| (*source, left(source))).collect();
    let all: u64 = to_do.values().sum();
    // How many rows are in a file of records is not known before it was read.
    let countable = !steps.iter().any(|step| step.operator.records());
    let look = move || {
        let counts = progress.totals();
        let complete = progress.items_done();
        let share = if countable { share_done(&inputs, &to_do, &counts) } else { None }.map(|share| share * all as f64);
        Snapshot {
            splits: done + progress.splits_committed(),
            items: items_done + complete,
            // What is complete is done, whatever the tasks seem to say.
            work: share.or((complete > 0).then_some(0.0)).map(|work| work.max(complete as f64)),
            to_do: all,
            kept: sinks.iter().map(|(sink, name)| (name.clone(), counts[*sink].rows_in)).collect(),
            rejected: counts.iter().map(|c| c.rejected_total()).sum(),
            errors: counts.iter().map(|c| c.errors_total()).sum(),
        }
    };
    let mode = if quiet { ProgressMode::Off } else { ProgressMode::Auto };
    (file, server, Some(Progress::start(total, mode, look)))
}

/// The first Ctrl-C or SIGTERM lets open splits end and be committed. The second cancels what is open, so that requests on their way are booked, and ends
/// the process when all tasks have ended, after [`CANCEL_LIMIT`] at the latest; a third ends it at once.
fn stop_on_signals(progress: Arc<RunProgress>) {
    let listen = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let mut next =
                async || tokio::select! { _ = interrupt.recv() => libc::SIGINT, _ = terminate.recv() => libc::SIGTERM };
            let first = next().await;
            tracing::info!("Stopping: open splits are finished and committed; a second signal cancels them");
            progress.stop(Stopping::Signal(first));
            let second = next().await;
            tracing::info!("Cancelling: what is not committed is done again by the next run");
            progress.cancel();
            let ended = async {
                while progress.tasks_running() > 0 {
                    tokio::time::sleep(CANCEL_POLL).await;
                }
            };
            tokio::select! { _ = tokio::time::timeout(CANCEL_LIMIT, ended) => {}, _ = next() => {} }
            // SAFETY: `_exit` takes no pointers and does not return. What is not committed is done again by the next run.
            unsafe { libc::_exit(128 + second) }
        });
    };
    // Without the thread a signal ends the process at once, which is safe, too.
    if let Err(e) = std::thread::Builder::new().name("signals".into()).spawn(listen) {
        tracing::warn!("Signals end the run at once: {e}");
    }
}

fn steps_of(graph: &Graph, kind: Kind) -> Vec<usize> {
    (0..graph.steps.len()).filter(|&i| graph.steps[i].kind() == kind).collect()
}

/// Starts the local cluster. Tables are made and a changed plan is refused here, once, before any child starts.
fn parent(args: &RunArgs, graph: Graph, threads: usize, processes: usize) -> ExitCode {
    let max_restarts = graph.engine.max_restarts;
    if let Err(e) = run::prepare(graph, options(args)) {
        return fail(e.exit(), &e);
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return fail(Exit::Failed, &format!("cannot find this program to start it again: {e}")),
    };
    let local = Local { program, args: child_args(threads), processes, max_restarts, first_pause: FIRST_PAUSE };
    match supervise(&local) {
        Ok(outcome) => ExitCode::from(outcome.code),
        Err(e) => fail(e.exit(), &e),
    }
}

/// This command line without `--processes` and `-w`, which the parent has worked out.
fn child_args(threads: usize) -> Vec<std::ffi::OsString> {
    let mut out = Vec::new();
    let mut skip = false;
    for arg in std::env::args_os().skip(1) {
        let text = arg.to_string_lossy();
        let takes_value = ["--processes", "-w", "--workers"].contains(&&*text);
        let joined =
            text.starts_with("--processes=") || text.starts_with("--workers=") || (text.starts_with("-w") && text.len() > 2);
        if !std::mem::take(&mut skip) && !takes_value && !joined && text != "--new-version" {
            out.push(arg.clone());
        }
        skip = takes_value;
    }
    out.push(format!("--workers={threads}").into());
    out
}

/// The most memory that this process ever held.
fn peak_memory_bytes() -> u64 {
    // SAFETY: `getrusage` fills the struct that it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}

fn text(args: &RunArgs, (report, tables): &(Report, Vec<(String, String)>)) -> String {
    if args.check.format == Format::Json {
        let tables: serde_json::Map<_, _> = tables.iter().map(|(n, l)| (n.clone(), json!(l))).collect();
        return json!({
            "funnel": report.funnel.stages, "tables": tables, "splits_done": report.splits_done, "splits_before": report.splits_before,
            "orphans": {"files": report.orphans.0, "bytes": report.orphans.1}, "seconds": report.elapsed.as_secs_f64(),
            "reused": report.reused.iter().cloned().collect::<std::collections::BTreeMap<String, u64>>(),
            "held": report.held,
            "notes": report.notes,
            "peak_memory_bytes": peak_memory_bytes(),
        })
        .to_string();
    }
    let mut out = report.funnel.text();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n{} splits done in {:.1} s with at most {} MiB of memory, {} were done before{}",
        report.splits_done,
        report.elapsed.as_secs_f64(),
        peak_memory_bytes() >> 20,
        report.splits_before,
        match report.orphans {
            (0, _) => String::new(),
            (files, bytes) => format!("; {files} files of killed attempts removed ({bytes} bytes)"),
        }
    );
    for note in &report.notes {
        let _ = writeln!(out, "{note}");
    }
    if !report.reused.is_empty() {
        let reused: Vec<_> = report.reused.iter().map(|(step, rows)| format!("{step} {rows}")).collect();
        let _ = writeln!(out, "rows whose answer had been kept: {}", reused.join(", "));
    }
    let _ = writeln!(out, "\ntables:");
    for (name, location) in tables {
        let _ = writeln!(out, "  {name:<12}  {location}");
    }
    if let Some((_, location)) = tables.first() {
        let _ = writeln!(out, "\nload them with\n  polars.read_delta(\"{location}\")");
        if report.generation == 0 {
            let _ = writeln!(out, "  duckdb.sql(\"from '{location}/*.parquet'\")");
            let _ = writeln!(out, "  datasets.load_dataset(\"parquet\", data_files=\"{location}/*.parquet\")");
        } else {
            // Files of older versions lie beside the newest one's: only the log tells them apart.
            let _ = writeln!(out, "  files = deltalake.DeltaTable(\"{location}\").file_uris()   # of the newest version only");
            let _ = writeln!(out, "  duckdb.read_parquet(files)");
            let _ = writeln!(out, "  datasets.load_dataset(\"parquet\", data_files=files)");
        }
    }
    out
}
