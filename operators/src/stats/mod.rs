//! The verb `stats`: what a finished or running pipeline's tables say of it: counts and reasons of each step, and how measured values are spread.
//!
//! Counts come from the `stages` table, which holds the sums of each split as it was committed: the question costs splits, not rows. Histograms come
//! from the measured values in `rejects`, and from the number columns of an output table if one is asked for. Where the pipeline names the counts of
//! another run, they stand beside ours. What can go wrong: a folder that is no output.
//!
//! | file | does |
//! |---|---|
//! | `histogram` | values into bins, a batch at a time |
//! | `svg` | the picture |

pub mod histogram;
pub mod svg;

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, RecordBatch};
use curette_engine::commit::{Folder, Table};
use curette_engine::dataflow::ledger::Counts;
use curette_engine::dataflow::tables::{REJECTS, STAGES, SYSTEM_TABLES, add_stages};
use curette_engine::plan::PlanStore;
use curette_engine::run::Funnel;
use curette_engine::run::funnel::Stage;
use serde::Serialize;

use self::histogram::{Histogram, Range};
use crate::sources::files::{is_url, split_name};
use crate::tables::cast;

/// Rows of a batch that is read.
pub(crate) const BATCH_ROWS: usize = 1 << 14;
/// Characters of the longest bar in text.
const BAR_CHARS: u64 = 40;

/// What the tables say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// Splits that are committed.
    pub splits: u64,
    /// Counts of each step.
    #[serde(flatten)]
    pub funnel: Funnel,
    /// How values are spread.
    pub histograms: Vec<Spread>,
}

/// How the values of one thing are spread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// The step that rejected, or the table.
    pub of: String,
    /// The reason of the reject, or the column.
    pub what: String,
    /// The threshold that the values missed, if it was always the same.
    pub threshold: Option<f64>,
    /// The bins.
    #[serde(flatten)]
    pub histogram: Histogram,
}

/// The output folder or URL, and the table in it if one was named: a folder with `stages` is an output, one beside it is one of its tables.
pub(crate) fn places(given: &str) -> Result<(String, Option<String>), String> {
    let place = absolute(given)?;
    if has_stages(&place)? {
        return Ok((place, None));
    }
    if let Some((parent, name)) = place.rsplit_once('/').filter(|(parent, _)| !parent.is_empty() && !parent.ends_with(":/"))
        && has_stages(parent)?
    {
        let table = (!SYSTEM_TABLES.contains(&name)).then(|| place.clone());
        return Ok((parent.to_owned(), table));
    }
    Err(format!("is neither the output folder of a pipeline nor a table in one: there is no table `{STAGES}` in or beside it"))
}

fn has_stages(folder: &str) -> Result<bool, String> {
    Ok(open_if_there(&format!("{folder}/{STAGES}"))?.is_some())
}

/// Without a `/` at its end; of a folder on a disk, the folder itself and not a link to it.
fn absolute(given: &str) -> Result<String, String> {
    if is_url(given) {
        return Ok(given.trim_end_matches('/').to_owned());
    }
    let path = Path::new(given.strip_prefix("file://").unwrap_or(given)).canonicalize().map_err(|e| e.to_string())?;
    path.to_str().map(str::to_owned).ok_or_else(|| "its name is not UTF-8".into())
}

/// The statistics of an output folder or URL, or of one of its tables.
pub fn stats(given: &str) -> Result<Stats, String> {
    let (output, table) = places(given)?;
    let (splits, funnel) = funnel(&open(&format!("{output}/{STAGES}"))?)?;
    let reference = Folder::open(&output).ok().and_then(|folder| PlanStore::new(folder).reference());
    let funnel = funnel.beside(reference.as_ref());
    let mut histograms = rejects(&open(&format!("{output}/{REJECTS}"))?)?;
    let order: BTreeMap<String, usize> = funnel.stages.iter().enumerate().map(|(at, s)| (s.step.clone(), at)).collect();
    histograms.sort_by_key(|spread| order.get(&spread.of).copied());
    if let Some(table) = table {
        histograms.extend(columns(&table)?);
    }
    Ok(Stats { splits, funnel, histograms })
}

pub(crate) fn open_if_there(place: &str) -> Result<Option<Table>, String> {
    Table::open_existing(split_name(place).1, place).map_err(|e| e.to_string())
}

pub(crate) fn open(place: &str) -> Result<Table, String> {
    open_if_there(place)?.ok_or_else(|| format!("there is no table at {place}"))
}

/// Puts the steps of one split among those known: each behind the one that it follows. Every split names its steps in the order of the pipeline.
pub(crate) fn merge(order: &mut Vec<String>, split: &[String]) {
    let mut at = 0;
    for step in split {
        match order.iter().position(|s| s == step) {
            Some(there) => at = there + 1,
            None => {
                order.insert(at, step.clone());
                at += 1;
            }
        }
    }
}

fn funnel(table: &Table) -> Result<(u64, Funnel), String> {
    let batches = || -> Result<Vec<RecordBatch>, String> {
        let read = table.read_batches(None).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        read.collect::<Result<_, _>>().map_err(|e| e.to_string())
    };
    let batches = batches()?;
    let (mut splits, mut operators): (BTreeMap<i64, Vec<String>>, BTreeMap<String, String>) = Default::default();
    for batch in &batches {
        let (step, operator) = (cast::need_text(batch, "step")?, cast::need_text(batch, "operator")?);
        let split = cast::integers(batch, "split")?.ok_or("the table `stages` has no column `split`")?;
        for row in 0..batch.num_rows() {
            splits.entry(split.value(row)).or_default().push(step.value(row).to_owned());
            operators.entry(step.value(row).to_owned()).or_insert_with(|| operator.value(row).to_owned());
        }
    }
    let mut order = Vec::new();
    splits.values().for_each(|steps| merge(&mut order, steps));
    let mut counts = vec![Counts::default(); order.len()];
    batches.iter().try_for_each(|batch| add_stages(&order, batch, &mut counts))?;
    let stage = |(step, counts): (String, Counts)| {
        let operator = operators.get(&step).cloned().unwrap_or_default();
        Stage { step, operator, counts, reference_out: None }
    };
    let done = table.state().map_err(|e| e.to_string())?.done.len();
    Ok((done, Funnel { stages: order.into_iter().zip(counts).map(stage).collect(), reference: None }))
}

/// The measured values of rejects, by step and reason, in two passes: the range, then the bins.
fn rejects(table: &Table) -> Result<Vec<Spread>, String> {
    type Key = (String, String);
    let wanted = ["step", "code", "measured", "threshold"];
    let each = |f: &mut dyn FnMut(Key, f64, Option<f64>)| -> Result<(), String> {
        let read = table.read_batches(Some(&wanted)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        for batch in read {
            let batch = batch.map_err(|e| e.to_string())?;
            let (step, code) = (cast::need_text(&batch, "step")?, cast::need_text(&batch, "code")?);
            let number = |name: &str| cast::numbers(&batch, name)?.ok_or_else(|| format!("no column `{name}`"));
            let (measured, threshold) = (number("measured")?, number("threshold")?);
            for row in (0..batch.num_rows()).filter(|&row| measured.is_valid(row)) {
                let limit = threshold.is_valid(row).then(|| threshold.value(row));
                f((step.value(row).to_owned(), code.value(row).to_owned()), measured.value(row), limit);
            }
        }
        Ok(())
    };
    let mut ranges: BTreeMap<Key, (Range, Option<f64>, bool)> = BTreeMap::new();
    each(&mut |key, value, limit| {
        let (range, first, same) = ranges.entry(key).or_insert_with(|| (Range::default(), limit, true));
        range.add(value);
        *same &= *first == limit;
    })?;
    let mut bins: BTreeMap<Key, Histogram> =
        ranges.iter().map(|(key, (range, ..))| (key.clone(), Histogram::over(range))).collect();
    each(&mut |key, value, _| {
        if let Some(histogram) = bins.get_mut(&key) {
            histogram.add(value);
        }
    })?;
    let spread = |((of, what), histogram): (Key, Histogram)| {
        let threshold = ranges.get(&(of.clone(), what.clone())).filter(|r| r.2).and_then(|r| r.1);
        Spread { of, what, threshold, histogram }
    };
    Ok(bins.into_iter().map(spread).collect())
}

/// The number columns of an output table.
fn columns(place: &str) -> Result<Vec<Spread>, String> {
    let table = open(place)?;
    let names: Vec<String> =
        table.schema().fields().iter().filter(|f| f.data_type().is_numeric()).map(|f| f.name().clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let each = |f: &mut dyn FnMut(usize, f64)| -> Result<(), String> {
        if wanted.is_empty() {
            return Ok(());
        }
        let read = table.read_batches(Some(&wanted)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        for batch in read {
            let batch = batch.map_err(|e| e.to_string())?;
            for (at, name) in wanted.iter().enumerate() {
                let numbers = cast::numbers(&batch, name)?.ok_or_else(|| format!("no column `{name}`"))?;
                numbers.iter().flatten().for_each(|value| f(at, value));
            }
        }
        Ok(())
    };
    let mut ranges = vec![Range::default(); names.len()];
    each(&mut |at, value| ranges[at].add(value))?;
    let mut bins: Vec<Histogram> = ranges.iter().map(Histogram::over).collect();
    each(&mut |at, value| bins[at].add(value))?;
    let of = split_name(place).1.to_owned();
    let spread = |(what, histogram)| Spread { of: of.clone(), what, threshold: None, histogram };
    Ok(names.into_iter().zip(bins).filter(|(_, h)| h.values > 0).map(spread).collect())
}

impl Stats {
    /// For people.
    pub fn text(&self) -> String {
        let mut out = format!("{} splits are committed\n\n{}", self.splits, self.funnel.text());
        for spread in &self.histograms {
            let limit = spread.threshold.map(|t| format!(", threshold {t}")).unwrap_or_default();
            let h = &spread.histogram;
            out += &format!("\n{}: {} ({} values{limit})\n", spread.of, spread.what, h.values);
            let most = h.bins.iter().copied().max().unwrap_or(0).max(1);
            for (at, count) in h.bins.iter().enumerate() {
                let bar = "#".repeat((count * BAR_CHARS).div_ceil(most) as usize);
                out += format!("  {:>12.4} .. {:>12.4}  {count:>9}  {bar}", h.edge(at), h.edge(at + 1)).trim_end();
                out.push('\n');
            }
            if h.not_finite > 0 {
                out += &format!("  {} values are no finite numbers\n", h.not_finite);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_the_order_of_the_pipeline_though_no_split_has_them_all() {
        let names = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let mut order = Vec::new();
        for split in ["ace", "abe", "cde"] {
            merge(&mut order, &names(split));
        }
        let at = |step: &str| order.iter().position(|s| s == step).unwrap();
        assert_eq!(order.len(), 5);
        for pair in ["ac", "ce", "ab", "be", "cd", "de"] {
            let pair = names(pair);
            assert!(at(&pair[0]) < at(&pair[1]), "{order:?}");
        }
    }
}
