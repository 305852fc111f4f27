//! Reading and checking pipeline files; the verb `check`.

use std::io::{IsTerminal, Write};

use curette_engine::check::{Options, check as check_text};
use curette_engine::diag::{render, render_json};
use curette_engine::exit::Exit;
use curette_engine::graph::Graph;
use curette_operators::registry::ALL;

use crate::{CheckArgs, Format, complain, print};

/// Reads and checks; mistakes are printed.
pub(crate) fn load(args: &CheckArgs) -> Result<Graph, Exit> {
    let file = args.pipeline.display().to_string();
    let text = std::fs::read_to_string(&args.pipeline).map_err(|e| {
        complain(&format!("cannot read the pipeline `{file}`: {e}"));
        Exit::Mistake
    })?;
    let options = Options { environment: !args.no_environment, onnxruntime: args.onnxruntime.clone(), ..Options::default() };
    check_text(&args.pipeline, &text, ALL, &options).map_err(|mistakes| {
        match args.format {
            Format::Json => drop(print(&render_json(&file, &text, &mistakes))),
            Format::Text => {
                let color = std::io::stderr().is_terminal();
                let count = mistakes.len();
                // Nothing is left to do if stderr is closed.
                let _ = write!(std::io::stderr(), "{}", render(&file, &text, &mistakes, color));
                complain(&format!(
                    "{file}: {count} mistake{}; `curette explain CODE` says more",
                    if count == 1 { "" } else { "s" }
                ));
            }
        }
        Exit::Mistake
    })
}

/// The verb `check`.
pub(crate) fn check(args: &CheckArgs) -> Exit {
    let graph = match load(args) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    match args.format {
        Format::Json => print("[]"),
        Format::Text => {
            let sinks = graph.steps.iter().filter(|s| s.kind() == curette_engine::operator::Kind::Sink).count();
            print(&format!("{}: fine ({} steps, {sinks} of them sinks)", args.pipeline.display(), graph.steps.len()))
        }
    }
}
