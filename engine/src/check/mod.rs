//! From parsed steps to a checked graph, with every mistake at once.
//!
//! The phases, each of which goes on with whatever the ones before could make sense of:
//!
//! 1. [`steps`]: types, keys, ranges, parameters that contradict each other;
//! 2. [`wiring`]: inputs, cycles, loose ends, and the order of the steps;
//! 3. [`columns`]: the schema of every edge, SQL;
//! 4. [`surroundings`]: places of sinks, files, software.
//!
//! What can go wrong: a mistake that follows from another would only confuse. A step that could not be read fully gives an unknown schema, and nothing
//! that depends on it is judged.

mod columns;
mod report;
mod settings;
mod steps;
mod surroundings;
mod wiring;

use std::path::Path;
use std::sync::Arc;

use crate::config;
use crate::diag::{self, Diagnostic};
use crate::graph::{Graph, Step};
use crate::operator::{Entry, paths_of};

pub use columns::type_name;
pub(crate) use settings::schema_of;

/// What `check` looks at besides the file.
pub struct Options<'a> {
    /// Look for the software that operators need on this machine.
    pub environment: bool,
    /// Comes before `[runtime] onnxruntime`.
    pub onnxruntime: Option<std::path::PathBuf>,
    /// Values of `${VAR}`.
    pub variables: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

impl Default for Options<'_> {
    /// This machine and the process's environment variables.
    fn default() -> Self {
        Options { environment: true, onnxruntime: None, variables: &process_variable }
    }
}

fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Checks the text of a pipeline file. `file` is where it lies: relative paths start in its folder.
pub fn check(file: &Path, text: &str, registry: &[Entry], options: &Options) -> Result<Graph, Vec<Diagnostic>> {
    let (document, mut diagnostics) = config::parse(text, options.variables);
    let config::Document { pipeline, engine, runtime, steps, complete, unknown, variables } = document;
    let paths = paths_of(file);

    let counted = settings::counted_steps(pipeline.as_ref());
    let pipeline = settings::pipeline(text, pipeline, complete, &unknown, &mut diagnostics);
    let engine = settings::engine(text, engine, &unknown, &mut diagnostics);
    let mut runtime = settings::runtime(text, runtime, &unknown, &mut diagnostics).resolved(&paths);
    if let Some(library) = &options.onnxruntime {
        runtime.onnxruntime = library.to_string_lossy().into_owned();
    }
    let steps: Vec<steps::Parsed> = steps
        .into_iter()
        .map(|raw| steps::parse(raw, registry, &steps::Surroundings { text, unknown: &unknown, paths: &paths }, &mut diagnostics))
        .collect();

    let mut checked = Vec::new();
    if complete {
        let names: Vec<&str> = steps.iter().map(|s| s.name.as_str()).collect();
        settings::steps_are_there(&counted, &names, &mut diagnostics);
        let wiring = wiring::wire(&steps, &mut diagnostics);
        let edges = columns::edges(&steps, &wiring, registry, text, &paths, &mut diagnostics);
        surroundings::locations(&steps, &mut diagnostics);
        let files = surroundings::files(&steps, &edges, text, &paths, &runtime, options.environment, &mut diagnostics);
        if diagnostics.is_empty() {
            checked = assemble(steps, &wiring, edges, files);
        }
    }

    if let (true, Some(pipeline)) = (diagnostics.is_empty(), pipeline) {
        return Ok(Graph { pipeline, engine, runtime, steps: checked, file: file.to_path_buf(), paths });
    }
    diagnostics.iter_mut().for_each(|d| variables.hide_in(d));
    diag::sort(&mut diagnostics);
    Err(diagnostics)
}

/// Puts the pieces together in topological order. Called only when there were no mistakes, so that every piece is there.
fn assemble(
    parsed: Vec<steps::Parsed>,
    wiring: &wiring::Wiring,
    edges: Vec<Option<columns::Edges>>,
    files: Vec<Vec<crate::graph::HashedFile>>,
) -> Vec<Step> {
    let mut position = vec![0; parsed.len()];
    for (at, &index) in wiring.order.iter().enumerate() {
        position[index] = at;
    }
    let feeds_rows = |index: usize| {
        use crate::operator::Kind::{Expand, Source};
        matches!(parsed[index].kind(), Some(Source | Expand))
    };
    let steps = wiring.order.iter().filter_map(|&index| {
        let step = &parsed[index];
        let edges = edges[index].as_ref()?;
        let inputs = &wiring.inputs[index];
        Some(Step {
            name: step.name.clone(),
            operator: Arc::clone(step.operator.as_ref()?),
            inputs: inputs.iter().map(|&i| position[i]).collect(),
            on_unmeasured: step.on_unmeasured.unwrap_or_default(),
            balance: step.balance.unwrap_or_else(|| inputs.iter().any(|&i| feeds_rows(i))),
            input: Arc::clone(&edges.input),
            output: Arc::clone(&edges.output),
            files: files[index].clone(),
        })
    });
    steps.collect()
}
