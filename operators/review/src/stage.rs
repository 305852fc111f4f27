//! Which rows a step of a pipeline kept and which it dropped, from the tables of its output.
//!
//! Only sinks hold rows. A sink right behind the step holds what the step kept. A sink before it holds more: the rows that no step up to this one dropped are
//! those that it kept, since every dropped row is in `rejects` or `errors`. A sink behind it holds the survivors of later steps, which would be a biased
//! sample, unless none was lost. What is counted so is held against the sums in `stages`. What can go wrong: no such sink; the error says where to put one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arrow::array::{Array, AsArray, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use curette_engine::commit::{Folder, Table};
use curette_engine::dataflow::tables::{ERRORS, REJECTS, STAGES};
use curette_engine::operator::Kind;
use curette_engine::plan::{PlanHash, PlanStore};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ReviewError;
use crate::draw::Draw;

/// Columns that name a row, the first that there is.
const ID_COLUMNS: [&str; 3] = ["clip_id", "shot_id", "video_id"];
/// More dropped rows than this are not held in memory.
const MAX_DROPPED: usize = 20_000_000;
/// Rows of a batch.
const BATCH_ROWS: usize = 1 << 14;

/// Why a row was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// Reason as the funnel groups by it.
    pub code: String,
    /// What was measured.
    pub measured: Option<f64>,
    /// What it was held against.
    pub threshold: Option<f64>,
    /// For people.
    pub message: String,
}

/// A table of rows.
pub struct Sink {
    /// Its step.
    pub step: String,
    /// The step whose rows it holds.
    pub input: String,
    /// The table.
    pub table: Table,
    /// Where it is.
    pub location: String,
    /// The column that names its rows.
    pub id: Option<&'static str>,
}

/// An output folder and what made it.
pub struct Output {
    /// Folder or URL.
    pub location: String,
    /// The plan whose rows are in it.
    pub plan_hash: PlanHash,
    /// The version of the tables.
    pub generation: u64,
    /// Its tables of rows.
    pub sinks: Vec<Sink>,
    meaning: Value,
}

/// What is drawn of a stage.
pub struct Sample {
    /// The column that names the rows.
    pub id_column: &'static str,
    /// Rows that the stage kept.
    pub kept: Vec<String>,
    /// How many it kept.
    pub kept_of: u64,
    /// Rows that it dropped.
    pub rejected: Vec<(String, Reason)>,
    /// How many it dropped.
    pub rejected_of: u64,
    /// What people should know.
    pub notes: Vec<String>,
}

/// What is asked of a stage.
pub struct Wish<'a> {
    /// The step.
    pub stage: &'a str,
    /// Draws.
    pub seed: u64,
    /// Kept rows.
    pub kept: usize,
    /// Dropped rows.
    pub rejected: usize,
    /// The rows whose value in this column is nearest to that number come first.
    pub nearest: Option<(&'a str, f64)>,
    /// What the operators of the registry do to rows, by their names.
    pub kind: &'a dyn Fn(&str) -> Option<Kind>,
}

impl Output {
    /// Opens the output folder of a pipeline, or that of one of its tables; also gives the step whose rows that table holds.
    pub fn open(given: &str) -> Result<(Output, Option<String>), ReviewError> {
        let err = |what: String| ReviewError::at(given, what);
        let place = absolute(given).map_err(err)?;
        let stages_in = |folder: &str| Table::open_existing(STAGES, &format!("{folder}/{STAGES}"));
        let parent = place.rsplit_once('/').map(|(parent, _)| parent.to_owned()).filter(|p| !p.is_empty() && !p.ends_with(":/"));
        let (location, stages, named) = match (stages_in(&place).map_err(|e| err(e.to_string()))?, parent) {
            (Some(stages), _) => (place.clone(), stages, None),
            (None, Some(parent)) => match stages_in(&parent).map_err(|e| err(e.to_string()))? {
                Some(stages) => (parent, stages, Some(place.clone())),
                None => {
                    return Err(err(format!(
                        "is no output of a pipeline and no table in one: there is no `{STAGES}` in or beside it"
                    )));
                }
            },
            (None, None) => return Err(err("is no output of a pipeline".into())),
        };
        let state = stages.state().map_err(|e| err(e.to_string()))?;
        let hash = state.plan_hash.filter(|_| !state.done.is_empty());
        let plan_hash = PlanHash::from_hex(hash.ok_or_else(|| err("holds no rows yet: run the pipeline first".into()))?);
        let folder = Folder::open(&location).map_err(|e| err(e.to_string()))?;
        let meaning = PlanStore::new(folder).meaning(&plan_hash).map_err(|e| err(e.to_string()))?;
        let mut output = Output { location, plan_hash, generation: state.generation, sinks: Vec::new(), meaning };
        output.sinks = output.open_sinks().map_err(err)?;
        let step = named.and_then(|named| output.sinks.iter().find(|s| s.location == named)).map(|s| s.input.clone());
        Ok((output, step))
    }

    fn open_sinks(&self) -> Result<Vec<Sink>, String> {
        let mut out = Vec::new();
        for (step, meaning) in self.steps().filter(|(_, meaning)| meaning["type"] == "parquet") {
            let below = meaning["parameters"]["location"].as_str().unwrap_or(step).trim_end_matches('/');
            let location = if below.contains("://") || below.starts_with('/') {
                below.to_owned()
            } else {
                format!("{}/{below}", self.location.trim_end_matches('/'))
            };
            let Some(table) = Table::open_existing(step, &location).map_err(|e| e.to_string())? else { continue };
            let id = ID_COLUMNS
                .into_iter()
                .find(|c| table.schema().field_with_name(c).is_ok_and(|field| *field.data_type() == DataType::Utf8));
            let input = inputs(meaning).first().copied().unwrap_or_default().to_owned();
            out.push(Sink { step: step.clone(), input, table, location, id });
        }
        Ok(out)
    }

    fn steps(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.meaning["steps"].as_object().into_iter().flatten()
    }

    /// Steps of an operator, with their parameters and the step that each reads from.
    pub fn steps_of(&self, operator: &str) -> Vec<(String, Value, String)> {
        let of = self.steps().filter(|(_, meaning)| meaning["type"] == operator);
        let read = |meaning: &Value| inputs(meaning).first().copied().unwrap_or_default().to_owned();
        of.map(|(name, meaning)| (name.clone(), meaning["parameters"].clone(), read(meaning))).collect()
    }

    /// The step and all that it reads from.
    fn before(&self, step: &str) -> BTreeSet<&str> {
        let mut out = BTreeSet::new();
        let mut todo: Vec<&str> = self.steps().filter(|(name, _)| *name == step).map(|(name, _)| name.as_str()).collect();
        while let Some(at) = todo.pop() {
            if out.insert(at) {
                todo.extend(inputs(&self.meaning["steps"][at]));
            }
        }
        out
    }

    /// The steps that a row passes behind `from` up to `to`; `None` if `to` is not behind it.
    fn way(&self, from: &str, to: &str) -> Option<BTreeSet<&str>> {
        let before = self.before(to);
        before.contains(from).then(|| before.into_iter().filter(|s| *s != from && self.before(s).contains(from)).collect())
    }

    /// Rows out of each step, and rows that it lost.
    fn sums(&self) -> Result<BTreeMap<String, (u64, u64)>, String> {
        let mut out: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for batch in
            self.system(STAGES)?.read_batches(Some(&["step", "rows_in", "passed", "rows_out"])).map_err(|e| e.to_string())?
        {
            let batch = batch.map_err(|e| e.to_string())?;
            let steps = text(&batch, "step")?;
            let number = |name: &str| {
                let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).cloned();
                column.ok_or_else(|| format!("the table `{STAGES}` has no numbers `{name}`"))
            };
            let (rows_in, passed, rows_out) = (number("rows_in")?, number("passed")?, number("rows_out")?);
            for row in 0..batch.num_rows() {
                let sum = out.entry(steps.value(row).to_owned()).or_default();
                sum.0 += u64::try_from(rows_out.value(row)).unwrap_or(0);
                sum.1 += u64::try_from(rows_in.value(row) - passed.value(row)).unwrap_or(0);
            }
        }
        Ok(out)
    }

    fn system(&self, name: &str) -> Result<Table, String> {
        let table = Table::open_existing(name, &format!("{}/{name}", self.location)).map_err(|e| e.to_string())?;
        table.ok_or_else(|| format!("there is no table `{name}`"))
    }

    /// Draws from what a stage kept and dropped.
    pub fn draw(&self, wish: &Wish) -> Result<Sample, ReviewError> {
        self.sample(wish).map_err(|what| ReviewError::at(&self.location, what))
    }

    fn sample(&self, wish: &Wish) -> Result<Sample, String> {
        let stage = wish.stage;
        if self.meaning["steps"][stage].is_null() {
            let names: Vec<&str> = self.steps().map(|(name, _)| name.as_str()).collect();
            return Err(format!("there is no step `{stage}`; the steps are {}", names.join(", ")));
        }
        let sums = self.sums()?;
        let kept_of = sums.get(stage).map_or(0, |sum| sum.0);
        let (sink, dropping) = self.source(wish, &sums)?;
        let id_column = sink.id.unwrap_or_default();
        let dropped = self.dropped(&dropping)?;
        let mut draw = Draw::new(wish.kept, wish.seed);
        let mut columns = vec![id_column];
        columns.extend(wish.nearest.map(|(column, _)| column));
        if let Some((column, _)) = wish.nearest
            && sink.table.schema().field_with_name(column).is_err()
        {
            return Err(format!("the table `{}` has no column `{column}`", sink.step));
        }
        for batch in sink.table.read_batches(Some(&columns)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS) {
            let batch = batch.map_err(|e| e.to_string())?;
            let ids = text(&batch, id_column)?;
            let values = wish.nearest.map(|(column, target)| numbers(&batch, column).map(|v| (v, target))).transpose()?;
            for row in (0..ids.len()).filter(|&row| ids.is_valid(row) && !dropped.contains(ids.value(row))) {
                match &values {
                    Some((values, target)) => {
                        draw.offer_by(values[row].map_or(f64::NAN, |v| (v - target).abs()), ids.value(row), ());
                    }
                    None => draw.offer(ids.value(row), ()),
                }
            }
        }
        if draw.seen() != kept_of {
            return Err(format!(
                "the tables hold {} rows that `{stage}` kept, the sums say {kept_of}: if a run is going on, wait for its end",
                draw.seen()
            ));
        }
        let mut notes = Vec::new();
        let (rejected, rejected_of) = self.rejected(wish, id_column, &mut notes)?;
        let kept = draw.done().into_iter().map(|(id, ())| id).collect();
        Ok(Sample { id_column, kept, kept_of, rejected, rejected_of, notes })
    }

    /// The table that the kept rows are read from, and the steps whose dropped rows are not among them.
    fn source(&self, wish: &Wish, sums: &BTreeMap<String, (u64, u64)>) -> Result<(&Sink, BTreeSet<&str>), String> {
        let makes_rows = |step: &&str| {
            let operator = self.meaning["steps"][*step]["type"].as_str().unwrap_or_default();
            (wish.kind)(operator) == Some(Kind::Expand)
        };
        let mut best: Option<(usize, &Sink, BTreeSet<&str>)> = None;
        for sink in self.sinks.iter().filter(|sink| sink.id.is_some()) {
            let found = match (self.way(&sink.input, wish.stage), self.way(wish.stage, &sink.input)) {
                (Some(way), _) if !way.iter().any(|s| makes_rows(s)) => (way.len(), sink, way),
                (_, Some(later)) => {
                    let lost = later.iter().any(|s| makes_rows(s) || sums.get(*s).is_some_and(|sum| sum.1 > 0));
                    if lost {
                        continue;
                    }
                    (later.len() + self.steps().count(), sink, BTreeSet::new())
                }
                _ => continue,
            };
            if best.as_ref().is_none_or(|best| found.0 < best.0) {
                best = Some(found);
            }
        }
        let (_, sink, way) = best.ok_or_else(|| {
            format!(
                "no table holds all rows that `{0}` kept: tables behind it hold only what later steps left. Add a step of type \"parquet\" with \
                 inputs = [\"{0}\"], or one before `{0}` to see dropped rows too, and run again",
                wish.stage
            )
        })?;
        Ok((sink, way))
    }

    /// Ids of the rows that these steps dropped.
    fn dropped(&self, steps: &BTreeSet<&str>) -> Result<HashSet<String>, String> {
        let mut out = HashSet::new();
        if steps.is_empty() {
            return Ok(out);
        }
        for table in [REJECTS, ERRORS] {
            let names: &[&str] = if table == ERRORS { &["item_id", "step", "kept"] } else { &["item_id", "step"] };
            for batch in self.system(table)?.read_batches(Some(names)).map_err(|e| e.to_string())? {
                let batch = batch.map_err(|e| e.to_string())?;
                let (ids, of) = (text(&batch, "item_id")?, text(&batch, "step")?);
                let kept: Option<BooleanArray> = batch.column_by_name("kept").and_then(|c| c.as_boolean_opt()).cloned();
                let went_on = |row: usize| kept.as_ref().is_some_and(|kept| kept.is_valid(row) && kept.value(row));
                let rows = (0..batch.num_rows()).filter(|&row| steps.contains(of.value(row)) && !went_on(row));
                out.extend(rows.map(|row| ids.value(row).to_owned()));
                if out.len() > MAX_DROPPED {
                    return Err(format!(
                        "more than {MAX_DROPPED} rows were dropped; put a `parquet` sink right behind the stage"
                    ));
                }
            }
        }
        Ok(out)
    }

    /// Draws from what the stage itself dropped, where a table before it holds the rows.
    fn rejected(&self, wish: &Wish, id_column: &str, notes: &mut Vec<String>) -> Result<(Vec<(String, Reason)>, u64), String> {
        let mut draw = Draw::new(wish.rejected, wish.seed);
        for batch in self.system(REJECTS)?.read_batches(None).map_err(|e| e.to_string())? {
            let batch = batch.map_err(|e| e.to_string())?;
            let (ids, of, codes, messages) =
                (text(&batch, "item_id")?, text(&batch, "step")?, text(&batch, "code")?, text(&batch, "message")?);
            let (measured, threshold) = (numbers(&batch, "measured")?, numbers(&batch, "threshold")?);
            for row in (0..batch.num_rows()).filter(|&row| of.value(row) == wish.stage) {
                let (code, message) = (codes.value(row).to_owned(), messages.value(row).to_owned());
                draw.offer(ids.value(row), Reason { code, measured: measured[row], threshold: threshold[row], message });
            }
        }
        let of = draw.seen();
        let before =
            |sink: &&Sink| sink.id == Some(id_column) && sink.input != wish.stage && self.way(&sink.input, wish.stage).is_some();
        if wish.rejected > 0 && of > 0 && !self.sinks.iter().any(|sink| before(&sink)) {
            notes.push(format!(
                "{of} rows that `{}` dropped are not shown: no table before it holds them. A step of type \"parquet\" before it would",
                wish.stage
            ));
            return Ok((Vec::new(), of));
        }
        Ok((draw.done(), of))
    }
}

fn inputs(step: &Value) -> Vec<&str> {
    step["inputs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Without a `/` at its end; of a folder on a disk, the folder itself and not a link to it.
pub fn absolute(given: &str) -> Result<String, String> {
    if given.contains("://") && !given.starts_with("file://") {
        return Ok(given.trim_end_matches('/').to_owned());
    }
    let path = std::path::Path::new(given.strip_prefix("file://").unwrap_or(given)).canonicalize().map_err(|e| e.to_string())?;
    path.to_str().map(str::to_owned).ok_or_else(|| "its name is not UTF-8".into())
}

pub(crate) fn text(batch: &arrow::array::RecordBatch, name: &str) -> Result<StringArray, String> {
    let column = batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).cloned();
    column.ok_or_else(|| format!("there is no text column `{name}`"))
}

/// A column of any numbers as 64-bit floats.
pub(crate) fn numbers(batch: &arrow::array::RecordBatch, name: &str) -> Result<Vec<Option<f64>>, String> {
    use arrow::datatypes::{Float32Type, Int8Type, Int16Type, Int32Type};
    let column = batch.column_by_name(name).ok_or_else(|| format!("there is no column `{name}`"))?;
    macro_rules! of {
        ($type:ty) => {
            column.as_primitive::<$type>().iter().map(|v| v.map(|v| v as f64)).collect()
        };
    }
    Ok(match column.data_type() {
        DataType::Float64 => of!(Float64Type),
        DataType::Float32 => of!(Float32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int8 => of!(Int8Type),
        other => return Err(format!("column `{name}` is {other}, not a number")),
    })
}
