//! A toy pipeline without video: numbers that are read, measured, filtered and expanded, and what must come out, worked out the obvious way.

// Test code: what cannot be had is a failed test.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use curette_engine::commit::Table;
use curette_engine::graph::{EngineSettings, Graph, OnUnmeasured, PipelineSettings, Step};
use curette_engine::operator::*;
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Lists `count` numbers; reading one of 13 gives a problem.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    pub count: u64,
}

impl Operator for Numbers {
    const NAME: &'static str = "numbers";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "";
    fn columns(&self) -> Columns {
        Columns::none().add_id("id", "").add("n", DataType::Int64, "").add("ballast", DataType::Utf8, "")
    }
    fn rows_per_task(&self) -> usize {
        5
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Source(Box::new(self.clone())))
    }
}

impl Source for Numbers {
    fn list(&self) -> Result<Vec<InputItem>, OperatorError> {
        let item = |n: u64| InputItem { key: format!("{n:06}"), identity: "1".into(), cost: n % 7 + 1, payload: String::new() };
        Ok((0..self.count).rev().map(item).collect())
    }
    fn read(&self, items: &[InputItem], _: &Task) -> Result<Processed, OperatorError> {
        let numbers: Vec<i64> = items.iter().map(|i| i.key.parse().unwrap()).collect();
        let verdicts =
            numbers.iter().map(|n| if n % 13 == 12 { Verdict::unmeasured("bad_luck", "twelve") } else { Verdict::Pass });
        Ok(Processed::rows(
            verdicts.collect(),
            vec![
                Arc::new(StringArray::from_iter_values(items.iter().map(|i| &i.key))),
                Arc::new(Int64Array::from(numbers)),
                Arc::new(StringArray::from_iter_values(items.iter().map(|_| "x".repeat(100)))),
            ],
        ))
    }
}

fn numbers(rows: &RecordBatch, column: &str) -> Int64Array {
    rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().clone()
}

macro_rules! toy {
    ($(#[$doc:meta])* $name:ident, $text:literal, $kind:ident, $pool:ident, $per_task:literal, $columns:expr, $process:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        pub struct $name {}
        impl Operator for $name {
            const NAME: &'static str = $text;
            const KIND: Kind = Kind::$kind;
            const VERSION: u32 = 1;
            const EXAMPLE: &'static str = "";
            fn columns(&self) -> Columns {
                $columns
            }
            fn pool(&self) -> Pool {
                Pool::$pool
            }
            fn rows_per_task(&self) -> usize {
                $per_task
            }
            fn decided_by(&self) -> Option<Vec<&'static str>> {
                match $text {
                    "square" => Some(vec!["n"]),
                    "divide" => Some(vec!["n", "id"]),
                    _ => None,
                }
            }
            fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
                Ok(Runtime::Transform(Box::new(self.clone())))
            }
        }
        impl Transform for $name {
            fn process(&self, rows: &RecordBatch, _: &Task) -> Result<Processed, OperatorError> {
                let process: fn(&RecordBatch) -> Processed = $process;
                Ok(process(rows))
            }
        }
    };
}

toy!(
    /// Adds the square; one of 11 cannot be measured.
    Square, "square", Measure, Decode, 1,
    Columns::none().need("n", &[DataType::Int64]).add("square", DataType::Int64, ""),
    |rows| {
        let n = numbers(rows, "n");
        // Some rows take longer, so that answers overtake each other.
        std::thread::sleep(std::time::Duration::from_micros((n.value(0) as u64 * 7919) % 1500));
        let bad = |n: i64| n % 11 == 3;
        let verdicts = n.values().iter().map(|n| if bad(*n) { Verdict::unmeasured("odd_one", "three") } else { Verdict::Pass }).collect();
        let square = n.values().iter().map(|n| (!bad(*n)).then_some(n * n));
        Processed::rows(verdicts, vec![Arc::new(Int64Array::from_iter(square))])
    }
);

/// As [`Square`], but whoever comes after the first split waits until he is told to end, as one does who waits for a service; then he says what no table
/// must hold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Waiting {}

impl Operator for Waiting {
    const NAME: &'static str = Square::NAME;
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "";
    fn columns(&self) -> Columns {
        Operator::columns(&Square {})
    }
    fn pool(&self) -> Pool {
        Pool::Net
    }
    fn rows_per_task(&self) -> usize {
        1
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

impl Transform for Waiting {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        if numbers(rows, "n").values().iter().all(|n| *n < 7) {
            return Square {}.process(rows, task);
        }
        while !task.is_cancelled() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let verdicts = vec![Verdict::unmeasured("cancelled", "told to end"); rows.num_rows()];
        Ok(Processed::rows(verdicts, vec![Arc::new(Int64Array::new_null(rows.num_rows()))]))
    }
}

toy!(
    /// Drops multiples of 5.
    DropFives, "drop_fives", Filter, Inline, 64,
    Columns::none().need("n", &[DataType::Int64]),
    |rows| {
        let verdict = |n: &i64| if n % 5 == 0 { Verdict::fail("multiple_of_five", *n as f64, 5.0, "n is a multiple of five") } else { Verdict::Pass };
        Processed::rows(numbers(rows, "n").values().iter().map(verdict).collect(), vec![])
    }
);

toy!(
    /// n becomes n % 4 children.
    Divide, "divide", Expand, Cpu, 3,
    Columns::none().need("n", &[DataType::Int64]).need("id", &[DataType::Utf8]).add_id("part_id", "").add("part", DataType::Int64, ""),
    |rows| {
        let n = numbers(rows, "n");
        let ids = rows.column_by_name("id").unwrap().as_string::<i32>().clone();
        let (mut verdicts, mut parents, mut names, mut parts) = (vec![], vec![], vec![], vec![]);
        for row in 0..n.len() {
            let children = n.value(row) % 4;
            verdicts.push(if children == 0 { Verdict::fail_because("no_part", "nothing to divide") } else { Verdict::Pass });
            for part in 0..children {
                parents.push(row as u32);
                names.push(format!("{}#{part}", ids.value(row)));
                parts.push(part);
            }
        }
        Processed::children(verdicts, parents, vec![Arc::new(StringArray::from(names)) as ArrayRef, Arc::new(Int64Array::from(parts))])
    }
);

/// A sink.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Out {
    pub jsonl: bool,
}

impl Operator for Out {
    const NAME: &'static str = "out";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "";
    fn columns(&self) -> Columns {
        Columns::none()
    }
    fn build(&self, _: &BuildContext) -> Result<Runtime, OperatorError> {
        let parquet = SinkFormat::Parquet { target_shard_bytes: 1 << 20, row_group_bytes: 2048, zstd_level: 1 };
        let format = if self.jsonl { SinkFormat::Jsonl } else { parquet };
        Ok(Runtime::Sink(SinkSpec { location: None, columns: None, exclude: vec!["ballast".into()], format }))
    }
}

/// A sink that counts the rows of its table when all are committed, and adds what it was told to a file beside it. With `fail` it gives up.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    pub fail: bool,
}

impl Operator for Tally {
    const NAME: &'static str = "tally";
    const KIND: Kind = Kind::Sink;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "";
    fn columns(&self) -> Columns {
        Columns::none()
    }
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["fail"]
    }
    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Operator::build(&Out { jsonl: false }, context)
    }
    fn follow_up(&self, _: &BuildContext) -> Result<Option<Box<dyn FollowUp>>, OperatorError> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl FollowUp for Tally {
    fn run(&self, of: &Committed) -> Result<Vec<String>, FollowUpError> {
        if of.stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(FollowUpError::Stopped("was stopped at row 0".into()));
        }
        if self.fail {
            return Err(FollowUpError::Failed("it cannot count".into()));
        }
        let table = Table::open_existing(of.step, of.location).unwrap().unwrap();
        assert_eq!(table.state().unwrap().plan_hash.as_deref(), Some(of.plan_hash));
        let line = format!("{} rows of version {}", table.row_count().unwrap(), of.generation);
        let file = Path::new(of.location).with_file_name("tallies");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::write(file, format!("{before}{line}\n")).unwrap();
        Ok(vec![line])
    }
}

/// numbers -> square -> drop_fives -> divide -> parts, and square -> kept: a fan-out, two sinks, one of them behind an expanding step.
pub fn graph(output: &Path, count: u64) -> Graph {
    let mut steps: Vec<Step> = Vec::new();
    let mut add = |name: &str, operator: Arc<dyn DynOperator>, inputs: Vec<usize>, on_unmeasured: OnUnmeasured| {
        let input: SchemaRef = inputs.first().map_or_else(|| Arc::new(Schema::empty()), |&i| steps[i].output.clone());
        let balance = inputs.iter().any(|&i| matches!(steps[i].kind(), Kind::Source | Kind::Expand));
        let output = output_schema(&input, &operator.columns());
        steps.push(Step { name: name.into(), operator, inputs, on_unmeasured, balance, input, output, files: vec![] });
        steps.len() - 1
    };
    let source = add("numbers", Arc::new(Numbers { count }), vec![], OnUnmeasured::Error);
    let square = add("square", Arc::new(Square {}), vec![source], OnUnmeasured::Keep);
    let fives = add("fives", Arc::new(DropFives {}), vec![square], OnUnmeasured::Error);
    let divide = add("divide", Arc::new(Divide {}), vec![fives], OnUnmeasured::Reject);
    add("parts", Arc::new(Out { jsonl: false }), vec![divide], OnUnmeasured::Error);
    add("kept", Arc::new(Out { jsonl: false }), vec![square], OnUnmeasured::Error);
    Graph {
        pipeline: PipelineSettings {
            name: "toy".into(),
            description: String::new(),
            output: output.to_string_lossy().into_owned(),
            max_error_rate: 1.0,
            split_max_items: 7,
            split_max_cost_bytes: 1_000_000,
            on_new_inputs: Default::default(),
            reference: None,
        },
        engine: EngineSettings { commit_interval_seconds: 0, ..EngineSettings::default() },
        runtime: Default::default(),
        steps,
        file: PathBuf::from("toy.toml"),
        paths: Paths { base: PathBuf::from(".") },
    }
}

/// A row as text, for comparison.
pub type Row = Vec<String>;

/// What the toy pipeline must write, by table; worked out without any engine.
pub fn oracle(count: u64) -> BTreeMap<&'static str, Vec<Row>> {
    let mut out: BTreeMap<&str, Vec<Row>> =
        BTreeMap::from([("parts", vec![]), ("kept", vec![]), ("rejects", vec![]), ("errors", vec![])]);
    let mut put = |table: &'static str, row: &[String]| out.get_mut(table).unwrap().push(row.to_vec());
    for n in 0..count as i64 {
        let id = format!("{n:06}");
        let s = |text: &str| text.to_string();
        if n % 13 == 12 {
            put("errors", &[id, s("numbers"), s("bad_luck"), s("false")]);
            continue;
        }
        let square = if n % 11 == 3 {
            put("errors", &[id.clone(), s("square"), s("odd_one"), s("true")]);
            String::new()
        } else {
            (n * n).to_string()
        };
        put("kept", &[id.clone(), n.to_string(), square.clone()]);
        if n % 5 == 0 {
            put("rejects", &[id, s("fives"), s("multiple_of_five")]);
        } else if n % 4 == 0 {
            put("rejects", &[id, s("divide"), s("no_part")]);
        } else {
            for part in 0..n % 4 {
                put("parts", &[id.clone(), n.to_string(), square.clone(), format!("{id}#{part}"), part.to_string()]);
            }
        }
    }
    out.values_mut().for_each(|rows| rows.sort());
    out
}

/// What the tables below `output` hold, in the oracle's terms.
pub fn tables(output: &Path) -> BTreeMap<&'static str, Vec<Row>> {
    let columns: [(&str, &[&str]); 4] = [
        ("parts", &["id", "n", "square", "part_id", "part"]),
        ("kept", &["id", "n", "square"]),
        ("rejects", &["item_id", "step", "code"]),
        ("errors", &["item_id", "step", "code", "kept"]),
    ];
    columns.into_iter().map(|(table, columns)| (table, read(&output.join(table), columns))).collect()
}

/// Rows of a table, sorted.
pub fn read(location: &Path, columns: &[&str]) -> Vec<Row> {
    let table = Table::open_existing("test", &location.to_string_lossy()).unwrap().expect("the table exists");
    let mut rows = Vec::new();
    for batch in table.read_batches(Some(columns)).unwrap() {
        let batch = batch.unwrap();
        let texts: Vec<_> = columns
            .iter()
            .map(|c| arrow::compute::cast(batch.column_by_name(c).unwrap(), &DataType::Utf8).unwrap().as_string::<i32>().clone())
            .collect();
        rows.extend(
            (0..batch.num_rows()).map(|r| {
                texts.iter().map(|t| if t.is_null(r) { String::new() } else { t.value(r).to_string() }).collect::<Row>()
            }),
        );
    }
    rows.sort();
    rows
}
