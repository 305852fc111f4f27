//! The command line of curette: thin verbs over the engine and the operators.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: [`curette_engine::exit`].

mod calibrate_quantile;
mod calibrate_tau;
mod eval;
mod frames;
mod head;
mod label;
mod models;
mod ops;
mod pipeline;
mod plan;
mod probe;
mod refilter;
mod report;
mod run;
mod stats;
mod sweep;
mod train_head;
mod why;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use curette_engine::exit::Exit;
use curette_engine::telemetry::{LogFormat, LogOptions, init_logs};

/// Turns raw videos into training data: TOML pipelines on a timely dataflow, committed Parquet tables out.
#[derive(Parser)]
#[command(name = "curette", version, about, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    logs: LogArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args, Clone)]
struct LogArgs {
    /// How log lines are written (to stderr).
    #[arg(long, global = true, value_enum, default_value_t = LogStyle::Human)]
    log: LogStyle,
    /// error, warn, info, debug, trace, or a filter such as info,curette_engine::commit=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum LogStyle {
    Human,
    Json,
}

/// How results are printed (to stdout).
#[derive(ValueEnum, Clone, Copy, PartialEq)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Verb {
    /// Check a pipeline: every mistake at once, nothing is read.
    Check(CheckArgs),
    /// Run a pipeline, or continue it.
    Run(run::RunArgs),
    /// Show the splits, their cost, what is done already, and what a change would redo and why.
    Plan(plan::PlanArgs),
    /// Show counts, reasons and histograms of each step, from the tables of an output.
    Stats(stats::StatsArgs),
    /// Draw a pipeline.
    Graph(GraphArgs),
    /// List the operators, or explain one.
    Ops(ops::OpsArgs),
    /// Show what curette sees of videos: streams, picture, times, structure, damage, or why a file cannot be used. Exit 1 if one is broken or damaged.
    Probe(probe::ProbeArgs),
    /// Write the frames that are on screen at given times as pictures. Exit 1 if a time has none.
    Frames(frames::FramesArgs),
    /// Work for a run with `decoder_processes`; nothing for people.
    #[command(name = "decoder-process", hide = true)]
    DecoderProcess,
    /// Print the JSON Schema of pipeline files, for editors.
    Schema,
    /// Explain an error code such as E0103.
    Explain {
        /// The code.
        code: String,
    },
    /// List, fetch, verify and carry models.
    Models(models::ModelsArgs),
    /// Show what this machine has: ONNX Runtime, processor, models.
    Doctor(models::DoctorArgs),
    /// Choose frames or records to label, or read the labels back.
    Label(label::LabelArgs),
    /// Train a head on labelled embeddings.
    TrainHead(train_head::TrainHeadArgs),
    /// Show heads, import those of others, export ours as ONNX.
    Head(head::HeadArgs),
    /// Choose the similarity above which `temporal_split` joins neighbouring samples, from labelled cuts.
    CalibrateTau(calibrate_tau::CalibrateTauArgs),
    /// Choose the limit of a score that drops a given share of the rows of a table.
    CalibrateQuantile(calibrate_quantile::CalibrateQuantileArgs),
    /// Evaluate generated videos from CSV files: totals, agreement of raters, votes, macro scores, paired tests.
    Eval(eval::EvalArgs),
    /// Show what thresholds on stored scores would keep, alone and together, and which threshold keeps a wanted share.
    Sweep(sweep::SweepArgs),
    /// Decide the filters of a pipeline again from stored scores, and show which rows would be gained and lost. Writes nothing.
    Refilter(refilter::RefilterArgs),
    /// Write a page about a table (funnel, distributions, examples with pictures, provenance, cost) and a dataset card.
    Report(report::ReportArgs),
    /// Tell the whole story of a video or clip: what became of it in each version of the tables, and why.
    Why(why::WhyArgs),
}

/// Which pipeline, and how strictly it is checked.
#[derive(Args, Clone)]
pub(crate) struct CheckArgs {
    /// The pipeline file.
    pub(crate) pipeline: PathBuf,
    /// Do not look for the software that operators need on this machine.
    #[arg(long)]
    pub(crate) no_environment: bool,
    /// ONNX Runtime's shared library, in the place of [runtime] onnxruntime.
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Args)]
struct GraphArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// The kind of picture.
    #[arg(long, value_enum, default_value_t = Picture::Mermaid)]
    to: Picture,
}

#[derive(ValueEnum, Clone, Copy)]
enum Picture {
    Mermaid,
    Dot,
    Svg,
}

fn main() -> ExitCode {
    curette_engine::memory::one_heap_per_core();
    a_file_too_large_is_an_error();
    let cli = Cli::parse();
    let format = if cli.logs.log == LogStyle::Json { LogFormat::Json } else { LogFormat::Human };
    if let Err(e) = init_logs(&LogOptions { format, filter: cli.logs.log_level.clone(), color: true }) {
        return fail(Exit::Mistake, &e);
    }
    let exit = match cli.verb {
        Verb::Check(args) => pipeline::check(&args),
        Verb::Run(args) => return run::run(&args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Stats(args) => stats::show(&args),
        Verb::Graph(args) => graph(&args),
        Verb::Ops(args) => ops::ops(&args),
        Verb::Probe(args) => probe::probe(&args),
        Verb::Frames(args) => frames::frames(&args),
        Verb::DecoderProcess => curette_engine::isolation::child::serve(curette_operators::registry::ALL),
        Verb::Schema => ops::schema(),
        Verb::Explain { code } => ops::explain(&code),
        Verb::Models(args) => models::models(&args),
        Verb::Doctor(args) => models::doctor(&args),
        Verb::Label(args) => label::label(&args),
        Verb::TrainHead(args) => train_head::train(&args),
        Verb::Head(args) => head::head(&args),
        Verb::CalibrateTau(args) => calibrate_tau::calibrate(&args),
        Verb::CalibrateQuantile(args) => calibrate_quantile::calibrate(&args),
        Verb::Eval(args) => eval::eval(&args),
        Verb::Sweep(args) => sweep::show(&args),
        Verb::Refilter(args) => refilter::show(&args),
        Verb::Report(args) => report::write(&args),
        Verb::Why(args) => why::show(&args),
    };
    exit.into()
}

/// Beyond a limit on file sizes (`ulimit -f`) a write ends the process without a word, unless the signal is ignored: then it fails, and what failed is said.
fn a_file_too_large_is_an_error() {
    // SAFETY: to ignore a signal installs no handler and touches no memory of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn graph(args: &GraphArgs) -> Exit {
    let graph = match pipeline::load(&args.check) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    let text = match args.to {
        Picture::Mermaid => curette_engine::draw::mermaid(&graph),
        Picture::Dot => curette_engine::draw::dot(&graph),
        Picture::Svg => curette_engine::draw::svg(&graph),
    };
    print(&text)
}

/// Writes to stdout. A reader that went away (`curette ops | head`) is no failure.
pub(crate) fn print(text: &str) -> Exit {
    let mut out = std::io::stdout().lock();
    let line = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{line}").and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Exit::Done,
        Err(_) => Exit::Failed,
    }
}

/// Writes `error: ...` to stderr.
pub(crate) fn fail(exit: Exit, why: &dyn std::fmt::Display) -> ExitCode {
    complain(why);
    exit.into()
}

/// Writes `error: ...` to stderr.
pub(crate) fn complain(why: &dyn std::fmt::Display) {
    // Nothing is left to do if stderr is closed.
    let _ = writeln!(std::io::stderr(), "error: {why}");
}
