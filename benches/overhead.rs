//! What the engine costs: the operators of a pipeline in a plain loop, against the same pipeline through the engine with one worker.
//!
//! `cargo bench --bench overhead -- [PIPELINE] [ROUNDS]`. Rounds alternate, so that a noisy machine hits both alike; the medians and their ratio
//! are printed, for wall time and for CPU time. Both sides write the rows that reach the sinks to Parquet; the loop to one plain file, the engine to
//! committed tables. All pools have one thread, because the loop has one.

// A bench prints its result.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use arrow::array::RecordBatch;
use curette_engine::check;
use curette_engine::dataflow::compile::{Work, select};
use curette_engine::dataflow::task::{self, TaskContext};
use curette_engine::graph::Graph;
use curette_engine::resources::Resources;
use curette_engine::run::{self, Place, PrepareOptions};
use parquet::arrow::ArrowWriter;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipeline = args.next().map(PathBuf::from).unwrap_or_else(|| root.join("pipelines/quickstart.toml"));
    let rounds: usize = args.next().map(|r| r.parse()).transpose()?.unwrap_or(5);
    let scratch = tempfile::tempdir()?;
    let (mut plain, mut engine) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let graph = graph(&pipeline, &scratch.path().join(format!("loop-{round}")))?;
        plain.push(timed(|| plain_loop(&graph, &scratch.path().join(format!("rows-{round}.parquet"))))?);
        let graph = self::graph(&pipeline, &scratch.path().join(format!("engine-{round}")))?;
        engine.push(timed(|| through_the_engine(graph))?);
        let (p, e) = (&plain[round], &engine[round]);
        println!("round {round}: loop {:.2} s wall {:.2} s cpu; engine {:.2} s wall {:.2} s cpu", p.0, p.1, e.0, e.1);
    }
    let ratio = |f: fn(&(f64, f64)) -> f64| median(engine.iter().map(f).collect()) / median(plain.iter().map(f).collect());
    println!("engine / loop: wall {:.3}, cpu {:.3} (medians of {rounds} alternating rounds)", ratio(|t| t.0), ratio(|t| t.1));
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn timed(work: impl FnOnce() -> Result<(), Failure>) -> Result<(f64, f64), Failure> {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    work()?;
    Ok((wall.elapsed().as_secs_f64(), cpu_seconds() - cpu))
}

fn cpu_seconds() -> f64 {
    // SAFETY: `getrusage` fills the struct that it is given.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn graph(pipeline: &Path, output: &Path) -> Result<Graph, Failure> {
    let text = std::fs::read_to_string(pipeline)?;
    let mut graph = check::check(pipeline, &text, curette_operators::registry::ALL, &check::Options::default())
        .map_err(|d| format!("{}: {} mistakes; run `curette check`", pipeline.display(), d.len()))?;
    graph.pipeline.output = output.to_string_lossy().into_owned();
    let pools = &mut graph.engine.pools;
    (pools.decode, pools.cpu, pools.gpu, pools.net) = (1, 1, 1, 1);
    Ok(graph)
}

fn through_the_engine(graph: Graph) -> Result<(), Failure> {
    let prepared = run::prepare(graph, PrepareOptions::default())?;
    run::run(prepared, Place::Alone { binary: false }, 1, |_, _| ())?;
    Ok(())
}

fn plain_loop(graph: &Graph, file: &Path) -> Result<(), Failure> {
    let resources = Arc::new(Resources::default());
    let (program, plan) = run::prepare::plan_only(graph, &resources)?;
    let context = TaskContext { resources, cancelled: Arc::new(AtomicBool::new(false)), kept: None };
    let mut writer: Option<ArrowWriter<std::fs::File>> = None;
    for split in &plan.splits {
        let mut outputs: Vec<Vec<RecordBatch>> = Vec::new();
        for step in &program.steps {
            let received: Vec<RecordBatch> =
                step.inputs.iter().flat_map(|&i| outputs[i].iter()).map(|b| select(b, &step.received)).collect();
            let mut out = Vec::new();
            match &step.work {
                Work::Source(_) if split.source != step.index => {}
                Work::Source(_) => {
                    for items in split.items.chunks(step.rows_per_task) {
                        out.extend(task::read(step, split.id, items, &context)?.0);
                    }
                }
                Work::Transform(_) => {
                    for batch in &received {
                        for from in (0..batch.num_rows()).step_by(step.rows_per_task) {
                            let rows = batch.slice(from, step.rows_per_task.min(batch.num_rows() - from));
                            out.extend(task::transform(step, split.id, &rows, &context)?.0);
                        }
                    }
                }
                Work::Sink(_) => {
                    for batch in &received {
                        let rows = select(batch, &step.output);
                        if writer.is_none() {
                            writer = Some(ArrowWriter::try_new(std::fs::File::create(file)?, rows.schema(), None)?);
                        }
                        if let Some(writer) = &mut writer {
                            writer.write(&rows)?;
                        }
                    }
                }
            }
            outputs.push(out);
        }
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(())
}
