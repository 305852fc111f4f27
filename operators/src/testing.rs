//! What tests of operators need: build one from TOML text and run it on rows, without an engine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, DynOperator, Entry, ID_METADATA, OperatorError, Paths, Runtime, StepCheck, Task};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Processed, Verdict};

use crate::registry::ALL;

/// Keys that the engine takes out before an operator sees its table.
const COMMON_KEYS: &[&str] = &["type", "inputs", "on_unmeasured", "balance"];

/// The operator of a step's table (the lines below `[step.NAME]`).
pub fn operator(toml: &str) -> Result<Box<dyn DynOperator>, String> {
    let mut table: toml::Table = toml.parse().map_err(|e| format!("{e}"))?;
    let name = table.get("type").and_then(|t| t.as_str()).ok_or("no type")?.to_string();
    let entry: &Entry = ALL.iter().find(|e| e.name == name).ok_or(format!("`{name}` is not registered"))?;
    COMMON_KEYS.iter().for_each(|key| drop(table.remove(*key)));
    let text = toml::to_string(&table).map_err(|e| e.to_string())?;
    let document = toml::de::DeTable::parse(&text).map_err(|e| e.to_string())?;
    (entry.parse)(toml::de::ValueDeserializer::from(toml::Spanned::new(
        document.span(),
        toml::de::DeValue::Table(document.into_inner()),
    )))
    .map_err(|e| e.to_string())
}

/// Starts the operator of a step without input, with the current folder as base.
pub fn build(toml: &str) -> Result<Runtime, OperatorError> {
    build_in(Path::new("."), toml, Arc::new(Schema::empty()))
}

/// Starts the operator of a step.
pub fn build_in(base: &Path, toml: &str, input: SchemaRef) -> Result<Runtime, OperatorError> {
    let operator = operator(toml).map_err(OperatorError::new)?;
    let id_column = input.metadata().get(ID_METADATA).cloned().unwrap_or_default();
    operator.build(&BuildContext {
        step: "test",
        input,
        id_column,
        paths: &Paths { base: base.to_path_buf() },
        resources: &Arc::new(Resources::default()),
    })
}

/// Calls `f` with a task that is not cancelled.
pub fn with_task<R>(f: impl FnOnce(&Task) -> R) -> R {
    let resources = Arc::new(Resources::default());
    f(&Task { step: "test", resources: &resources, cancelled: &AtomicBool::new(false) })
}

/// Runs a measure, filter or expand on rows and checks that it accounts for each and that its columns have the declared types.
pub fn run_in(base: &Path, toml: &str, rows: &RecordBatch) -> Processed {
    let Runtime::Transform(transform) = build_in(base, toml, rows.schema()).unwrap() else { panic!("not a transform: {toml}") };
    let processed = with_task(|task| transform.process(rows, task)).unwrap();
    check(&*operator(toml).unwrap(), &processed, rows.num_rows());
    processed
}

/// As [`run_in`] with the current folder as base.
pub fn run(toml: &str, rows: &RecordBatch) -> Processed {
    run_in(Path::new("."), toml, rows)
}

/// Panics if rows are lost, or columns differ from what the operator declares.
pub fn check(operator: &dyn DynOperator, processed: &Processed, rows: usize) {
    processed.check(rows).unwrap();
    let declared: Vec<DataType> = operator.columns().adds.iter().map(|a| a.field.data_type().clone()).collect();
    let made: Vec<DataType> = processed.columns.iter().map(|c| c.data_type().clone()).collect();
    assert_eq!(made, declared);
}

/// `pass`, or the code of the fail or problem.
pub fn codes(processed: &Processed) -> Vec<String> {
    processed
        .verdicts
        .iter()
        .map(|v| match v {
            Verdict::Pass => "pass".into(),
            Verdict::Fail(reject) => reject.code.to_string(),
            Verdict::Unmeasured(problem) => format!("unmeasured {}", problem.code),
        })
        .collect()
}

/// What the operator finds wrong with its parameters and its input, as `key E-Code: message`; `-` for the step as a whole.
pub fn mistakes(toml: &str, input: &[(&str, DataType)]) -> Vec<String> {
    let fields: Vec<Field> = input.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
    let operator = operator(toml).unwrap();
    let mut found = Mistakes { paths: Paths { base: ".".into() }, lines: Vec::new() };
    operator.validate(&mut found);
    operator.check_input(&Arc::new(Schema::new(fields)), &mut found);
    found.lines
}

/// Collects mistakes as text.
pub struct Mistakes {
    /// Base of relative paths.
    pub paths: Paths,
    /// What was found.
    pub lines: Vec<String>,
}

impl StepCheck for Mistakes {
    fn error(&mut self, key: Option<&str>, code: Code, message: String, _help: Option<String>) {
        self.lines.push(format!("{} E-{code:?}: {message}", key.unwrap_or("-")));
    }
    fn error_in(&mut self, key: &str, range: Option<std::ops::Range<usize>>, code: Code, message: String, help: Option<String>) {
        let place = range.map(|r| format!("{key}[{}..{}]", r.start, r.end)).unwrap_or(key.to_string());
        self.error(Some(&place), code, message, help);
    }
    fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// Every registered example is TOML that its own operator understands and finds nothing wrong with.
#[test]
fn examples_are_understood() {
    for entry in ALL {
        let document: toml::Table = entry.example.parse().unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        let steps = document["step"].as_table().unwrap();
        for (_, step) in steps {
            let text = toml::to_string(step).unwrap();
            let operator = operator(&text).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
            assert_eq!(operator.name(), entry.name);
            let mut found = Mistakes { paths: Paths { base: ".".into() }, lines: Vec::new() };
            operator.validate(&mut found);
            assert_eq!(found.lines, Vec::<String>::new(), "{}", entry.name);
        }
    }
}
