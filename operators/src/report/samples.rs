//! Examples for a report: some kept rows, and some of each reason for which rows were dropped.
//!
//! Chosen by a hash of the id and a seed, so the choice is fair, the same every time, and needs no more memory than the examples. What can go
//! wrong: a dropped row is not in any table but `rejects`; where its video lies is taken from the plan's list of inputs, and its span from its id.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use curette_engine::commit::Table;
use curette_engine::dataflow::tables::REJECTS;
use curette_engine::plan::PlanHash;
use curette_engine::run::Funnel;
use serde_json::Value;

use super::charts::number;
use super::escape::{SHOWN_CHARS, short};
use super::subject::Subject;
use crate::refilter::ID_COLUMNS;
use crate::stats::{BATCH_ROWS, open};
use crate::tables::cast;

/// Reasons of which examples are shown; those with the most rows.
pub const MAX_REASONS: usize = 40;
/// Numbers that are shown of a kept row, those of them that the table has.
const FACTS: [&str; 8] = [
    "aesthetic_score",
    "dover_overall",
    "words_on_screen",
    "sharpness_laplacian",
    "freeze_share",
    "min_similarity",
    "mean_frame_score",
    "category_score",
];

/// Texts of a kept row.
const TEXTS: [&str; 7] = ["video_uri", "clip_uri", "title", "caption", "brief_caption", "category", "camera_motion"];

/// A row that stands for others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// Its id at the step that dropped it, or in the table.
    pub id: String,
    /// Where the video lies.
    pub uri: Option<String>,
    /// Where the clip itself lies, if it is a file of its own.
    pub clip_uri: Option<String>,
    /// Microseconds; the whole video without.
    pub span: Option<(i64, i64)>,
    /// Of the video.
    pub title: Option<String>,
    /// What was written about it, or why it was dropped.
    pub text: Option<String>,
    /// What was measured, and the threshold.
    pub facts: Vec<(String, String)>,
}

/// Examples of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The step and the reason; kept rows have none.
    pub reason: Option<(String, String)>,
    /// Rows of this kind.
    pub rows: u64,
    /// Some of them.
    pub examples: Vec<Example>,
}

/// The few with the smallest hashes.
struct Draw<T> {
    limit: usize,
    seed: u64,
    held: BTreeMap<([u8; 8], String), T>,
}

impl<T> Draw<T> {
    fn new(limit: usize, seed: u64) -> Draw<T> {
        Draw { limit, seed, held: BTreeMap::new() }
    }

    /// Whether an id is among the few so far, and its place.
    fn place(&self, id: &str) -> Option<[u8; 8]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(id.as_bytes());
        let mut hash = [0; 8];
        hash.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let full = self.held.len() >= self.limit;
        let last = self.held.last_key_value().map(|((last, _), _)| *last);
        (self.limit > 0 && (!full || last.is_some_and(|last| hash <= last))).then_some(hash)
    }

    fn offer(&mut self, id: &str, make: impl FnOnce() -> T) {
        if let Some(hash) = self.place(id) {
            self.held.insert((hash, id.to_owned()), make());
            if self.held.len() > self.limit {
                self.held.pop_last();
            }
        }
    }

    fn into_vec(self) -> Vec<T> {
        self.held.into_values().collect()
    }
}

/// Some rows of the table.
pub fn kept(table: &Table, per_group: usize, seed: u64) -> Result<Group, String> {
    let schema = table.schema();
    let id = ID_COLUMNS.into_iter().find(|c| schema.field_with_name(c).is_ok());
    let mut columns = vec!["start_us", "end_us"];
    columns.extend(TEXTS);
    columns.extend(FACTS);
    columns.extend(id);
    columns.retain(|c| schema.field_with_name(c).is_ok());
    let rows = table.row_count().map_err(|e| e.to_string())?;
    let mut draw = Draw::new(if id.is_some() { per_group } else { 0 }, seed);
    if let Some(id) = id.filter(|_| rows > 0 && per_group > 0) {
        let read = table.read_batches(Some(&columns)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        for batch in read {
            let batch = batch.map_err(|e| e.to_string())?;
            let of = Columns::of(&batch, id)?;
            for row in 0..batch.num_rows() {
                draw.offer(of.ids.value(row), || of.example(row));
            }
        }
    }
    Ok(Group { reason: None, rows, examples: draw.into_vec() })
}

/// The columns of a batch that examples are made of.
struct Columns {
    ids: StringArray,
    texts: BTreeMap<&'static str, StringArray>,
    span: Option<(Int64Array, Int64Array)>,
    facts: Vec<(&'static str, Float64Array)>,
}

impl Columns {
    fn of(batch: &RecordBatch, id: &str) -> Result<Columns, String> {
        let mut texts = BTreeMap::new();
        for name in TEXTS {
            // A column of this name and another type is another thing.
            if let Ok(Some(column)) = cast::text(batch, name) {
                texts.insert(name, column);
            }
        }
        let mut facts = Vec::new();
        for name in FACTS {
            if let Ok(Some(column)) = cast::numbers(batch, name) {
                facts.push((name, column));
            }
        }
        let span = cast::integers(batch, "start_us")?.zip(cast::integers(batch, "end_us")?);
        Ok(Columns { ids: cast::need_text(batch, id)?, texts, span, facts })
    }

    fn example(&self, row: usize) -> Example {
        let text = |name: &str| self.texts.get(name).and_then(|c| cast::cell(c, row)).map(|t| short(t, SHOWN_CHARS).into_owned());
        let measured = |(name, column): &(&'static str, Float64Array)| {
            column.is_valid(row).then(|| ((*name).to_owned(), number(column.value(row))))
        };
        let words = ["category", "camera_motion"].into_iter().filter_map(|name| Some((name.to_owned(), text(name)?)));
        let span = self.span.as_ref().filter(|(a, b)| a.is_valid(row) && b.is_valid(row));
        Example {
            id: self.ids.value(row).to_owned(),
            uri: text_whole(self.texts.get("video_uri"), row),
            clip_uri: text_whole(self.texts.get("clip_uri"), row),
            span: span.map(|(a, b)| (a.value(row), b.value(row))),
            title: text("title"),
            text: text("brief_caption").or_else(|| text("caption")),
            facts: words.chain(self.facts.iter().filter_map(measured)).collect(),
        }
    }
}

fn text_whole(column: Option<&StringArray>, row: usize) -> Option<String> {
    column.and_then(|c| cast::cell(c, row)).map(str::to_owned)
}

/// Some dropped rows of each reason, the reasons in the order of the pipeline; and how many reasons were left out.
pub fn dropped(subject: &Subject, funnel: &Funnel, per_group: usize, seed: u64) -> Result<(Vec<Group>, usize), String> {
    let mut reasons: Vec<(&str, &str, u64)> = Vec::new();
    for stage in &funnel.stages {
        reasons.extend(stage.counts.rejected.iter().map(|(code, rows)| (stage.step.as_str(), code.as_str(), *rows)));
    }
    let left_out = reasons.len().saturating_sub(MAX_REASONS);
    if left_out > 0 {
        let mut sizes: Vec<u64> = reasons.iter().map(|r| r.2).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let least = sizes[MAX_REASONS - 1];
        reasons.retain(|r| r.2 >= least);
        reasons.truncate(MAX_REASONS);
    }
    let mut draws: Vec<Draw<(String, Example)>> = reasons.iter().map(|_| Draw::new(per_group, seed)).collect();
    let table = open(&format!("{}/{REJECTS}", subject.output))?;
    let wanted = ["item_id", "root_id", "step", "code", "measured", "threshold", "message"];
    let read = table.read_batches(Some(&wanted)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
    for batch in read {
        let batch = batch.map_err(|e| e.to_string())?;
        let text = |name: &str| cast::need_text(&batch, name);
        let (items, roots, steps, codes, messages) =
            (text("item_id")?, text("root_id")?, text("step")?, text("code")?, text("message")?);
        let (measured, threshold) = (cast::numbers(&batch, "measured")?, cast::numbers(&batch, "threshold")?);
        for row in 0..batch.num_rows() {
            let at = reasons.iter().position(|r| r.0 == steps.value(row) && r.1 == codes.value(row));
            let Some(draw) = at.map(|at| &mut draws[at]) else { continue };
            let id = items.value(row);
            draw.offer(id, || {
                let fact = |name: &str, column: &Option<Float64Array>| {
                    let column = column.as_ref().filter(|c| c.is_valid(row))?;
                    Some((name.to_owned(), number(column.value(row))))
                };
                let example = Example {
                    id: id.to_owned(),
                    span: span_of(id),
                    text: cast::cell(&messages, row).map(|m| short(m, SHOWN_CHARS).into_owned()),
                    facts: fact("measured", &measured).into_iter().chain(fact("threshold", &threshold)).collect(),
                    ..Example::default()
                };
                (roots.value(row).to_owned(), example)
            });
        }
    }
    let mut found: Vec<Vec<(String, Example)>> = draws.into_iter().map(Draw::into_vec).collect();
    find_videos(subject, &mut found);
    let groups = reasons.into_iter().zip(found).map(|((step, code, rows), examples)| Group {
        reason: Some((step.to_owned(), code.to_owned())),
        rows,
        examples: examples.into_iter().map(|(_, example)| example).collect(),
    });
    Ok((groups.collect(), left_out))
}

/// Where their videos lie and what they are called, as the plan's list of inputs has it. Without the list there is no picture, and no more is lost.
fn find_videos(subject: &Subject, groups: &mut [Vec<(String, Example)>]) {
    let Some(plan) = &subject.state.plan_hash else { return };
    let roots: BTreeSet<String> = groups.iter().flatten().map(|(root, _)| root.clone()).collect();
    let Ok(payloads) = subject.plans().payloads(&PlanHash::from_hex(plan.as_str()), &roots) else { return };
    for (root, example) in groups.iter_mut().flatten() {
        let payload: Value = payloads.get(root.as_str()).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        example.uri = payload["uri"].as_str().map(str::to_owned);
        example.title = payload["metadata"]["title"].as_str().map(|title| short(title, SHOWN_CHARS).into_owned());
    }
}

/// The span in an id of a clip or shot: `VIDEO#START-END`, in microseconds.
fn span_of(id: &str) -> Option<(i64, i64)> {
    let (start, end) = id.rsplit_once('#')?.1.split_once('-')?;
    let (start, end) = (start.parse().ok()?, end.parse().ok()?);
    (0 <= start && start < end).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draw_is_that_of_sorting_all_by_hash() {
        let ids: Vec<String> = (0..300).map(|i| format!("v{i}")).collect();
        for seed in [0, 7] {
            let mut draw = Draw::new(5, seed);
            ids.iter().for_each(|id| draw.offer(id, || id.clone()));
            let hash = |id: &str| {
                let bytes = [&seed.to_le_bytes()[..], id.as_bytes()].concat();
                blake3::hash(&bytes).as_bytes()[..8].to_vec()
            };
            let mut all = ids.clone();
            all.sort_by_key(|id| hash(id));
            assert_eq!(draw.into_vec(), all[..5]);
        }
        let mut none: Draw<String> = Draw::new(0, 1);
        none.offer("x", || "nothing is wanted".into());
        assert!(none.into_vec().is_empty());
    }

    #[test]
    fn a_span_is_read_from_an_id_that_has_one() {
        assert_eq!(span_of("a#b/c.mp4#1000000-3000000"), Some((1_000_000, 3_000_000)));
        for id in ["c.mp4", "c.mp4#3-1", "c.mp4#-1-4", "c.mp4#a-b", "c#d"] {
            assert_eq!(span_of(id), None, "{id}");
        }
    }
}
