//! The verb `refilter`: what other thresholds would keep, decided again from the scores that are stored, before a new version is run.
//!
//! A sink behind the measuring steps (`scores` in `pipelines/medvideocap.toml`) holds the scores of kept and dropped rows. The `filter` steps
//! between that sink's input and the target are decided twice for each of its rows: as the plan of the table had them, and as the new pipeline
//! has them. Nothing is decoded, no model runs, nothing is written. Committing is the run's: with `--new-version` it takes what was measured
//! from the kept answers.
//!
//! What can go wrong: a step that measures has changed, so the stored scores are not those of the new pipeline; that is refused. A condition over a
//! column that the table does not hold cannot be decided; its rows are counted as open. Steps that are no filters are taken to let every row
//! pass.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use curette_engine::commit::{Folder, Table};
use curette_engine::graph::{Graph, OnUnmeasured, meaning_diff};
use curette_engine::plan::{PlanHash, PlanStore};
use curette_engine::predicate::{Predicate, referenced_columns};
use serde::Serialize;
use serde_json::{Value, json};

use crate::tables::cast;

/// Rows of a batch.
const BATCH_ROWS: usize = 1 << 14;
/// Ids of a group that the text shows; JSON has all.
const IDS_SHOWN: usize = 10;
/// Columns that name a row, the first that there is.
pub(crate) const ID_COLUMNS: [&str; 3] = ["clip_id", "shot_id", "video_id"];

/// Where a row ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It passes every filter.
    Kept,
    /// This filter drops it.
    Dropped(String),
    /// This filter cannot decide, because a value is missing, and rows without an answer do not go on.
    Unmeasured(String),
    /// This filter reads a column that is not stored.
    Open(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Kept => f.write_str("kept"),
            End::Dropped(step) => write!(f, "dropped by `{step}`"),
            End::Unmeasured(step) => write!(f, "unmeasured at `{step}`"),
            End::Open(step) => write!(f, "open at `{step}`"),
        }
    }
}

/// Rows that end elsewhere than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    /// Where they ended.
    pub from: End,
    /// Where they would end.
    pub to: End,
    /// Their ids.
    pub ids: Vec<String>,
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The step.
    pub step: String,
    /// Its condition.
    pub keep_if: String,
    /// Columns that it reads and the table does not hold.
    pub not_stored: Vec<String>,
    on_unmeasured: OnUnmeasured,
}

/// The difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Rows of the table.
    pub rows: usize,
    /// Kept by the plan of the table.
    pub kept_before: usize,
    /// Kept by the new pipeline.
    pub kept_now: usize,
    /// The sink that is decided about.
    pub target: String,
    /// The filters of the plan of the table, in order.
    pub before: Vec<Rule>,
    /// The filters of the new pipeline.
    pub now: Vec<Rule>,
    /// Other steps on the way, which are taken to let every row pass.
    pub passed_over: Vec<String>,
    /// What changes, by where rows ended and would end.
    pub moved: Vec<Moved>,
}

/// The filters on the way from a sink's input to another sink, and the other steps on it.
struct Way {
    rules: Vec<Rule>,
    others: Vec<String>,
    /// The step whose rows the table holds.
    measured: String,
}

/// What the new pipeline would keep of the rows of a table below its output. `target`: the sink that is decided about; needed where there
/// are several.
pub fn refilter(table: &Path, graph: &Graph, target: Option<&str>) -> Result<Difference, String> {
    let err = |e: String| format!("{}: {e}", table.display());
    let full = table.canonicalize().map_err(|e| err(e.to_string()))?;
    let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stored = Table::open_existing(&name, &full.to_string_lossy()).map_err(|e| err(e.to_string()))?;
    let stored = stored.ok_or_else(|| err("there is no table; give the folder of the sink that holds the scores".into()))?;
    let state = stored.state().map_err(|e| err(e.to_string()))?;
    let hash = state.plan_hash.ok_or_else(|| err("holds no rows yet: run the pipeline first".into()))?;
    let output = full.parent().ok_or_else(|| err("is not below an output folder".into()))?;
    let folder = Folder::open(&output.to_string_lossy()).map_err(|e| err(e.to_string()))?;
    let old = PlanStore::new(folder).meaning(&PlanHash::from_hex(hash)).map_err(|e| err(e.to_string()))?;
    let new = graph.meaning();
    let target = match target {
        Some(target) => target.to_owned(),
        None => only_target(&new, &name).map_err(err)?,
    };
    let (before, now) = (way(&old, &name, &target).map_err(err)?, way(&new, &name, &target).map_err(err)?);
    same_measures(&old, &new, &before, &now).map_err(err)?;
    let id = ID_COLUMNS.into_iter().find(|c| stored.schema().field_with_name(c).is_ok());
    let id = id.ok_or_else(|| err(format!("has none of the columns {}, so its rows have no names", ID_COLUMNS.join(", "))))?;
    let mut both =
        [Decider::new(before.rules, stored.schema()).map_err(err)?, Decider::new(now.rules, stored.schema()).map_err(err)?];
    let mut columns: BTreeSet<String> = both.iter().flat_map(|d| d.columns.clone()).collect();
    columns.insert(id.to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let (mut rows, mut kept) = (0, [0, 0]);
    let mut moved: BTreeMap<(End, End), Vec<String>> = BTreeMap::new();
    let read = stored.read_batches(Some(&columns)).map_err(|e| err(e.to_string()))?.with_batch_rows(BATCH_ROWS);
    for batch in read {
        let batch = batch.map_err(|e| err(e.to_string()))?;
        let ids = cast::need_text(&batch, id).map_err(err)?;
        let [old, new] = &mut both;
        let (old, new) = (old.ends(&batch).map_err(err)?, new.ends(&batch).map_err(err)?);
        rows += batch.num_rows();
        for (row, (from, to)) in old.into_iter().zip(new).enumerate() {
            kept[0] += usize::from(from == End::Kept);
            kept[1] += usize::from(to == End::Kept);
            if from != to {
                moved.entry((from, to)).or_default().push(ids.value(row).to_owned());
            }
        }
    }
    let moved = moved.into_iter().map(|((from, to), mut ids)| {
        ids.sort();
        Moved { from, to, ids }
    });
    let [before, after] = both.map(|d| d.rules);
    let mut passed_over = now.others;
    passed_over.sort();
    let [kept_before, kept_now] = kept;
    Ok(Difference { rows, kept_before, kept_now, target, before, now: after, passed_over, moved: moved.collect() })
}

fn steps(meaning: &Value) -> impl Iterator<Item = (&String, &Value)> {
    meaning["steps"].as_object().into_iter().flatten()
}

fn inputs(step: &Value) -> Vec<&str> {
    step["inputs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The sink that writes into the folder of this name.
fn sink_of<'a>(meaning: &'a Value, folder: &str) -> Result<(&'a str, &'a Value), String> {
    let writes = |(name, step): &(&String, &Value)| {
        let location = step["parameters"]["location"].as_str().unwrap_or(name);
        step["type"] == "parquet" && location.trim_matches('/') == folder
    };
    let found = steps(meaning).find(writes).map(|(name, step)| (name.as_str(), step));
    found.ok_or_else(|| format!("no step of type `parquet` writes the table `{folder}`"))
}

/// The only other sink behind the step that the table's sink reads.
fn only_target(meaning: &Value, folder: &str) -> Result<String, String> {
    let (own, sink) = sink_of(meaning, folder)?;
    let from = inputs(sink).first().copied().unwrap_or_default();
    let behind = |name: &str| {
        let mut todo = vec![name];
        while let Some(step) = todo.pop() {
            if step == from {
                return true;
            }
            todo.extend(inputs(&meaning["steps"][step]));
        }
        false
    };
    let is_sink = |name: &str| !steps(meaning).any(|(_, other)| inputs(other).contains(&name));
    let others: Vec<&str> =
        steps(meaning).map(|(name, _)| name.as_str()).filter(|name| *name != own && is_sink(name) && behind(name)).collect();
    match others.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(format!(
            "no other sink is behind `{from}`, the step whose rows the table `{folder}` holds: there is nothing to decide"
        )),
        several => Err(format!("several sinks are behind `{from}`: name one with --to: {}", several.join(", "))),
    }
}

/// From the target back to the step whose rows the table holds.
fn way(meaning: &Value, folder: &str, target: &str) -> Result<Way, String> {
    let (_, sink) = sink_of(meaning, folder)?;
    let measured = inputs(sink).first().copied().unwrap_or_default().to_owned();
    if meaning["steps"][target].is_null() {
        return Err(format!("there is no step `{target}`"));
    }
    let (mut rules, mut others, mut at) = (Vec::new(), Vec::new(), target);
    loop {
        let before = inputs(&meaning["steps"][at]);
        let [before] = before.as_slice() else {
            return Err(match before.len() {
                0 => format!("the sink `{target}` is not behind `{measured}`, the step whose rows the table `{folder}` holds"),
                _ => format!("step `{at}` has several inputs, so its rows do not all come from `{measured}`"),
            });
        };
        if *before == measured {
            break;
        }
        at = *before;
        let step = &meaning["steps"][at];
        match step["parameters"]["keep_if"].as_str().filter(|_| step["type"] == "filter") {
            Some(keep_if) => rules.push(Rule {
                step: at.to_owned(),
                keep_if: keep_if.to_owned(),
                not_stored: Vec::new(),
                on_unmeasured: serde_json::from_value(step["on_unmeasured"].clone()).map_err(|e| e.to_string())?,
            }),
            None => others.push(at.to_owned()),
        }
    }
    rules.reverse();
    Ok(Way { rules, others, measured })
}

/// Refuses when a step up to the stored rows is another one: then the scores would be others, too.
fn same_measures(old: &Value, new: &Value, before: &Way, now: &Way) -> Result<(), String> {
    if before.measured != now.measured {
        return Err(format!("holds the rows of `{}`, in the new pipeline those of `{}`", before.measured, now.measured));
    }
    let mut todo = vec![now.measured.as_str()];
    let mut changed = Vec::new();
    while let Some(step) = todo.pop() {
        let (was, is) = (&old["steps"][step], &new["steps"][step]);
        if was != is {
            changed.extend(meaning_diff(&json!({"steps": {step: was}}), &json!({"steps": {step: is}})));
        }
        todo.extend(inputs(is));
    }
    changed.sort();
    changed.dedup();
    match changed.as_slice() {
        [] => Ok(()),
        lines => Err(format!(
            "the stored scores are not those of the new pipeline, because a step before them differs ({}); \
             `curette run --new-version` measures again",
            lines.join("; ")
        )),
    }
}

/// Filters, compiled for the columns that are stored.
struct Decider {
    rules: Vec<Rule>,
    predicates: Vec<Option<Predicate>>,
    columns: Vec<String>,
    compiled_for: Option<SchemaRef>,
}

impl Decider {
    fn new(mut rules: Vec<Rule>, schema: &SchemaRef) -> Result<Decider, String> {
        let mut columns = Vec::new();
        for rule in &mut rules {
            let named = |e: &dyn fmt::Display| format!("step `{}`: `{}`: {e}", rule.step, rule.keep_if);
            let reads = referenced_columns(&rule.keep_if).map_err(|e| named(&e))?;
            let missing: Vec<String> = reads.iter().filter(|c| schema.field_with_name(c).is_err()).cloned().collect();
            if missing.is_empty() {
                columns.extend(reads);
            }
            rule.not_stored = missing;
        }
        Ok(Decider { rules, predicates: Vec::new(), columns, compiled_for: None })
    }

    fn compile(&mut self, schema: &SchemaRef) -> Result<(), String> {
        if self.compiled_for.as_ref() == Some(schema) {
            return Ok(());
        }
        let one = |rule: &Rule| match rule.not_stored.is_empty() {
            false => Ok(None),
            true => {
                let named = |e: &dyn fmt::Display| format!("step `{}`: `{}`: {e}", rule.step, rule.keep_if);
                Predicate::compile(&rule.keep_if, schema).map(Some).map_err(|e| named(&e))
            }
        };
        self.predicates = self.rules.iter().map(one).collect::<Result<_, _>>()?;
        self.compiled_for = Some(SchemaRef::clone(schema));
        Ok(())
    }

    /// Where each row ends.
    fn ends(&mut self, batch: &RecordBatch) -> Result<Vec<End>, String> {
        self.compile(&batch.schema())?;
        let mut ends = vec![End::Kept; batch.num_rows()];
        for (rule, predicate) in self.rules.iter().zip(&self.predicates) {
            let answers = match predicate {
                // What fails for a row leaves it unmeasured, as in a run.
                Some(predicate) => predicate.answers(batch).into_iter().map(|answer| answer.ok().flatten()).collect(),
                None => vec![None; batch.num_rows()],
            };
            for (end, answer) in ends.iter_mut().zip(answers).filter(|(end, _)| **end == End::Kept) {
                match (answer, predicate.is_some(), rule.on_unmeasured) {
                    (Some(true), ..) | (None, true, OnUnmeasured::Keep) => {}
                    (Some(false), ..) => *end = End::Dropped(rule.step.clone()),
                    (None, true, _) => *end = End::Unmeasured(rule.step.clone()),
                    (None, false, _) => *end = End::Open(rule.step.clone()),
                }
            }
        }
        Ok(ends)
    }
}

impl Difference {
    /// Rows that would be kept and were not.
    pub fn gained(&self) -> impl Iterator<Item = &Moved> {
        self.moved.iter().filter(|m| m.to == End::Kept)
    }

    /// Rows that were kept and would not be.
    pub fn lost(&self) -> impl Iterator<Item = &Moved> {
        self.moved.iter().filter(|m| m.from == End::Kept)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |moved: &mut dyn Iterator<Item = &Moved>| moved.map(|m| m.ids.len()).sum::<usize>();
        let (gained, lost) = (count(&mut self.gained()), count(&mut self.lost()));
        writeln!(
            f,
            "{} rows; `{}` gets {} instead of {}: {gained} gained, {lost} lost",
            self.rows, self.target, self.kept_now, self.kept_before
        )?;
        for rule in &self.now {
            match self.before.iter().find(|old| old.step == rule.step) {
                None => writeln!(f, "  new     {}: {}", rule.step, rule.keep_if)?,
                Some(old) if old.keep_if != rule.keep_if => {
                    writeln!(f, "  changed {}: {}  (was: {})", rule.step, rule.keep_if, old.keep_if)?
                }
                Some(_) => writeln!(f, "  as was  {}: {}", rule.step, rule.keep_if)?,
            }
            if !rule.not_stored.is_empty() {
                writeln!(
                    f,
                    "          not stored: {}; the next run measures it for the rows that come so far",
                    rule.not_stored.join(", ")
                )?;
            }
        }
        for old in self.before.iter().filter(|old| !self.now.iter().any(|rule| rule.step == old.step)) {
            writeln!(f, "  gone    {}: {}", old.step, old.keep_if)?;
        }
        for moved in &self.moved {
            let more = if moved.ids.len() > IDS_SHOWN { ", ..." } else { "" };
            let shown = moved.ids[..moved.ids.len().min(IDS_SHOWN)].join(", ");
            writeln!(f, "\n{}, was {}: {} rows\n  {shown}{more}", moved.to, moved.from, moved.ids.len())?;
        }
        if !self.passed_over.is_empty() {
            writeln!(f, "\ntaken to let every row pass, as they are no filters: {}", self.passed_over.join(", "))?;
        }
        Ok(())
    }
}
