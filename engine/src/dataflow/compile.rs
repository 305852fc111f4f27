//! From a checked graph to what runs: started operators, and edges that carry only the columns somebody still reads.
//!
//! Why columns are dropped: an expanding step repeats all columns of its row for each child, and a video's embeddings repeated for each of
//! its clips would fill the memory. A column lives on an edge as long as a step behind it reads it or a sink writes it.
//!
//! What can go wrong: an operator that reads a column it does not declare in `columns()`; it is missing then, in every run alike.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use super::ledger::Shape;
use crate::graph::{Graph, OnUnmeasured};
use crate::isolation::{Children, Isolated};
use crate::operator::{
    BuildContext, FollowUp, ID_METADATA, Kind, OperatorError, Pool, ROOT_ID_METADATA, Runtime, SinkSpec, Source, Transform,
};
use crate::resources::{OutputPlace, Resources};
use crate::reuse::Recipe;

/// What a step does when rows reach it.
#[derive(Clone)]
pub enum Work {
    /// Reads splits.
    Source(Arc<dyn Source>),
    /// Answers for rows.
    Transform(Arc<dyn Transform>),
    /// Writes rows; the number counts the sinks of the graph.
    Sink(u32),
}

/// A step, started.
#[derive(Clone)]
pub struct Compiled {
    /// Its index in the graph.
    pub index: usize,
    /// Its name.
    pub name: Arc<str>,
    /// Its operator's name.
    pub operator: &'static str,
    /// What it does to rows.
    pub kind: Kind,
    /// Where its work runs.
    pub pool: Pool,
    /// A source whose inputs hold any number of rows.
    pub records: bool,
    /// Rows per task.
    pub rows_per_task: usize,
    /// Spread its input over all workers.
    pub balance: bool,
    /// What happens to unmeasured rows.
    pub on_unmeasured: OnUnmeasured,
    /// The steps that feed it.
    pub inputs: Vec<usize>,
    /// Columns that identify a received row: its own id and the source's.
    pub id: Option<(String, String)>,
    /// The columns that it (or a step behind it) reads: received rows are cut down to these.
    pub received: SchemaRef,
    /// The columns that it sends on (for sinks: that it writes).
    pub output: SchemaRef,
    /// Names of the columns that it makes, as in `Processed::columns`.
    pub added: Vec<String>,
    /// How its kept answers are found, if it has any.
    pub reuse: Option<Arc<Recipe>>,
    /// What it does.
    pub work: Work,
}

/// A graph, started.
pub struct Program {
    /// Its steps, in the graph's order.
    pub steps: Vec<Compiled>,
    /// Sinks by number: step index, and what it writes.
    pub sinks: Vec<(usize, SinkSpec)>,
    /// Sinks with work after the last commit, by number, in the graph's order.
    pub follow_ups: Vec<(usize, Arc<dyn FollowUp>)>,
    /// For counting.
    pub shape: Shape,
}

/// Starts all operators. `resources` is shared by all operators of the process.
pub fn compile(graph: &Graph, resources: &Arc<Resources>) -> Result<Program, OperatorError> {
    // First, so that an operator that asks finds the pipeline's own settings.
    resources.get(|| graph.runtime.clone());
    let (mut runtimes, mut follow_ups) = (Vec::new(), Vec::new());
    let mut sink = 0;
    for step in &graph.steps {
        let context = BuildContext {
            step: &step.name,
            input: Arc::clone(&step.input),
            id_column: step.input.metadata().get(ID_METADATA).cloned().unwrap_or_default(),
            paths: &graph.paths,
            resources,
        };
        let named = |e: OperatorError| OperatorError { message: format!("step `{}`: {}", step.name, e.message), help: e.help };
        let runtime = step.operator.build(&context).map_err(named)?;
        if matches!(runtime, Runtime::Sink(_)) {
            follow_ups.extend(step.operator.follow_up(&context).map_err(named)?.map(|work| (sink, Arc::from(work))));
            sink += 1;
        }
        runtimes.push(runtime);
    }
    let specs: Vec<Option<&SinkSpec>> =
        runtimes.iter().map(|r| if let Runtime::Sink(spec) = r { Some(spec) } else { None }).collect();
    let (live, wanted) = live_columns(graph, &specs);
    for (runtime, live) in runtimes.iter_mut().zip(&live) {
        if let Runtime::Source(source) = runtime {
            source.only(live);
        }
    }
    let children = match graph.engine.decoder_processes {
        0 => None,
        most => {
            let children = Children::new(most, Duration::from_secs(graph.engine.decoder_task_seconds));
            let children = children.map_err(|e| OperatorError::new(format!("this program does not find itself: {e}")))?;
            Some(Arc::new(children))
        }
    };
    let mut steps = Vec::new();
    let mut sinks = Vec::new();
    for (index, (step, runtime)) in graph.steps.iter().zip(runtimes).enumerate() {
        let columns = step.operator.columns();
        let metadata = step.input.metadata();
        let id = metadata.get(ID_METADATA).map(|id| (id.clone(), metadata.get(ROOT_ID_METADATA).unwrap_or(id).clone()));
        let (output, work) = match runtime {
            Runtime::Source(s) => (project(&step.output, &live[index]), Work::Source(s.into())),
            Runtime::Transform(t) => {
                let work: Arc<dyn Transform> = match children.as_ref().filter(|_| step.operator.pool() == Pool::Decode) {
                    Some(children) => {
                        let output = resources.get(OutputPlace::default);
                        Arc::new(Isolated::new(step, graph, &output, children)?)
                    }
                    None => t.into(),
                };
                (project(&step.output, &live[index]), Work::Transform(work))
            }
            Runtime::Sink(spec) => {
                let output = sink_schema(&step.input, &spec);
                let number = sinks.len() as u32;
                sinks.push((index, spec));
                (output, Work::Sink(number))
            }
        };
        steps.push(Compiled {
            index,
            name: step.name.as_str().into(),
            operator: step.operator.name(),
            kind: step.kind(),
            pool: step.operator.pool(),
            records: step.operator.records(),
            rows_per_task: step.operator.rows_per_task().max(1),
            balance: step.balance,
            on_unmeasured: step.on_unmeasured,
            inputs: step.inputs.clone(),
            id,
            received: project(&step.input, &wanted[index]),
            output,
            added: columns.adds.iter().map(|a| a.field.name().clone()).collect(),
            reuse: Some(step).filter(|_| graph.engine.reuse).and_then(Recipe::of).map(Arc::new),
            work,
        });
    }
    let shape = Shape {
        steps: graph.steps.iter().map(|s| (s.name.clone(), s.inputs.clone())).collect(),
        sources: of_kind(graph, Kind::Source),
        records: (0..graph.steps.len()).filter(|&i| graph.steps[i].operator.records()).collect(),
        expanding: of_kind(graph, Kind::Expand),
    };
    Ok(Program { steps, sinks, follow_ups, shape })
}

fn of_kind(graph: &Graph, kind: Kind) -> Vec<usize> {
    (0..graph.steps.len()).filter(|&i| graph.steps[i].kind() == kind).collect()
}

/// The columns that a sink writes, in its order. Names that are not there were refused by `check`.
pub fn sink_schema(input: &Schema, spec: &SinkSpec) -> SchemaRef {
    let names: Vec<&String> = match &spec.columns {
        Some(columns) => columns.iter().collect(),
        None => input.fields().iter().map(|f| f.name()).collect(),
    };
    let fields: Vec<_> = names
        .into_iter()
        .filter(|name| !spec.exclude.contains(name))
        .filter_map(|name| input.column_with_name(name).map(|(_, f)| f.clone()))
        .collect();
    Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
}

fn project(schema: &Schema, live: &BTreeSet<String>) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().filter(|f| live.contains(f.name())).cloned().collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// For each step the columns of its output that are still read, and the columns of its input that it or a step behind it reads; ids included.
fn live_columns(graph: &Graph, specs: &[Option<&SinkSpec>]) -> (Vec<BTreeSet<String>>, Vec<BTreeSet<String>>) {
    let mut live: Vec<BTreeSet<String>> = vec![BTreeSet::new(); graph.steps.len()];
    let mut all_wanted = live.clone();
    for index in (0..graph.steps.len()).rev() {
        let step = &graph.steps[index];
        let mut wanted: BTreeSet<String> = match specs[index] {
            Some(spec) => sink_schema(&step.input, spec).fields().iter().map(|f| f.name().clone()).collect(),
            None => {
                let columns = step.operator.columns();
                let added: BTreeSet<&String> = columns.adds.iter().map(|a| a.field.name()).collect();
                let own = live[index].iter().filter(|c| !added.contains(c)).cloned();
                own.chain(columns.needs.iter().map(|n| n.name.clone())).collect()
            }
        };
        for key in [ID_METADATA, ROOT_ID_METADATA] {
            wanted.extend(step.input.metadata().get(key).cloned());
        }
        for &input in &step.inputs {
            let there: Vec<String> =
                wanted.iter().filter(|c| graph.steps[input].output.column_with_name(c).is_some()).cloned().collect();
            live[input].extend(there);
        }
        all_wanted[index] = wanted;
    }
    (live, all_wanted)
}

/// The same rows with just these columns, found by name.
pub fn select(rows: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let columns = schema
        .fields()
        .iter()
        .map(|f| rows.column_by_name(f.name()).cloned().unwrap_or_else(|| panic!("column `{}` is missing on an edge", f.name())))
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .unwrap_or_else(|e| panic!("columns of an edge do not fit: {e}"))
}
