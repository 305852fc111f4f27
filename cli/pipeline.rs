//! Reading and checking pipeline files; the verb `check`.

use std::io::{IsTerminal, Write};
use std::path::Path;

use curette_engine::check::{Options, check as check_text};
use curette_engine::diag::{Code, Diagnostic, render, render_json};
use curette_engine::exit::Exit;
use curette_engine::graph::Graph;
use curette_operators::registry::ALL;

use crate::{CheckArgs, Format, complain, print};

/// Reads and checks; mistakes are printed.
pub(crate) fn load(args: &CheckArgs) -> Result<Graph, Exit> {
    let file = args.pipeline.display().to_string();
    let text = read(&args.pipeline).map_err(|why| {
        let message = format!("cannot read the pipeline `{file}`: {why}");
        match args.format {
            Format::Json => {
                let help = Some("name the TOML file of a pipeline, in UTF-8".to_owned());
                let mistake = Diagnostic { code: Code::MissingFile, message, labels: Vec::new(), help };
                let _ = print(&render_json(&file, "", &[mistake]));
            }
            Format::Text => complain(&message),
        }
        Exit::Mistake
    })?;
    let options = Options { environment: !args.no_environment, onnxruntime: args.onnxruntime.clone(), ..Options::default() };
    check_text(&args.pipeline, &text, ALL, &options).map_err(|mistakes| {
        match args.format {
            Format::Json => drop(print(&render_json(&file, &text, &mistakes))),
            Format::Text => {
                let color = std::io::stderr().is_terminal();
                // Nothing is left to do if stderr is closed.
                let _ = write!(std::io::stderr(), "{}", render(&file, &text, &mistakes, color));
            }
        }
        Exit::Mistake
    })
}

fn read(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        format!("line {} is not UTF-8 text", good.iter().filter(|b| **b == b'\n').count() + 1)
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
            let mut out = format!("{}: fine ({} steps, {sinks} of them sinks)", args.pipeline.display(), graph.steps.len());
            for step in &graph.steps {
                step.operator.remarks().iter().for_each(|line| out.push_str(&format!("\n{}: {line}", step.name)));
            }
            print(&out)
        }
    }
}
