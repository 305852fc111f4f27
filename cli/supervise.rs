//! The parent of other processes of this program: which ones it starts, and how stubbornly.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use curette_engine::cluster::local::{Local, supervise};
use curette_engine::exit::Exit;
use curette_engine::graph::Graph;
use curette_engine::run::{self, PrepareOptions};

use crate::fail;

/// A cluster on this machine. Tables are made and a changed plan is refused here, once, before any child starts.
pub(crate) fn cluster(graph: Graph, new_version: bool, threads: usize, processes: usize) -> ExitCode {
    let local = local(&graph, child_args(threads), processes, None);
    if let Err(e) = run::prepare(graph, PrepareOptions { new_version, follows: false }) {
        return fail(e.exit(), &e);
    }
    watch_over(local)
}

/// One process of several machines, started with this very command line.
pub(crate) fn member(graph: &Graph, index: usize) -> ExitCode {
    watch_over(local(graph, std::env::args_os().skip(1).collect(), 1, Some(index)))
}

/// What this process starts and watches; the program is not known yet.
fn local(graph: &Graph, args: Vec<OsString>, processes: usize, member: Option<usize>) -> Local {
    let engine = &graph.engine;
    Local {
        program: PathBuf::new(),
        args,
        processes,
        member,
        max_restarts: engine.max_restarts,
        first_pause: Duration::from_secs(engine.restart_pause_seconds),
        contain: engine.contain_after_crash,
    }
}

fn watch_over(local: Local) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return fail(Exit::Failed, &format!("cannot find this program to start it again: {e}")),
    };
    match supervise(&Local { program, ..local }) {
        Ok(outcome) => ExitCode::from(outcome.code),
        Err(e) => fail(e.exit(), &e),
    }
}

/// This command line without `--processes` and `-w`, which the parent has worked out.
fn child_args(threads: usize) -> Vec<OsString> {
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
