//! The verb `why`: the whole story of a video or clip across the versions of an output's tables.
//!
//! Each generation is a chapter: what its plan changed, where the item was dropped or failed (with the numbers of then), and in which tables it
//! stands. Older versions are read by Delta's time travel; nothing is computed again. What can go wrong: a clip of one version need not exist in
//! the next, because its video was cut elsewhere; then the other clips of the video are named. Ids of clips and shots are `VIDEO#START-END`, which
//! is how a clip's video is known.
//!
//! | file | does |
//! |---|---|
//! | `rows` | finds the item in the tables of one version |
//! | `text` | the story as text |

mod rows;
mod text;

use curette_engine::commit::{Edition, Folder, Table};
use curette_engine::dataflow::tables::{ERRORS, REJECTS, STAGES};
use curette_engine::graph::meaning_diff;
use curette_engine::plan::{PlanHash, PlanStore};
use curette_engine::predicate::referenced_columns;
use serde::Serialize;
use serde_json::Value;

use crate::meaning::{self, PlanStep, Sink};
use crate::report::utc;
use crate::stats::{open, open_if_there, places};

/// Events and rows of one chapter that are told one by one.
pub const MAX_TOLD: usize = 500;

/// An item and how it is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// As given.
    pub id: String,
    /// The video, if the id is that of a clip or shot.
    pub video: Option<String>,
}

/// What became of the item in one output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Story {
    /// The item.
    pub id: String,
    /// The output.
    pub output: String,
    /// One for each generation, the oldest first.
    pub chapters: Vec<Chapter>,
    /// Why older generations are missing, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// What became of it in one generation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chapter {
    /// Number of the generation.
    pub generation: u64,
    /// Its plan.
    pub plan: String,
    /// When its last version was committed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed: Option<String>,
    /// Splits that were committed.
    pub splits: u64,
    /// What the pipeline meant otherwise than in the generation before.
    pub changed: Vec<String>,
    /// Whether the item, or its video, is an input of the plan; unknown if the plan's list cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_input: Option<bool>,
    /// Where it was dropped or failed, in the order of the pipeline.
    pub events: Vec<Event>,
    /// The tables that it stands in.
    pub tables: Vec<Standing>,
    /// Other rows of its video in these tables, if the item itself is not to be found.
    pub relatives: Vec<String>,
    /// Events and rows beyond [`MAX_TOLD`].
    pub untold: u64,
    /// What could not be looked at.
    pub notes: Vec<String>,
}

/// A step dropped it, or could not measure it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// The row: the item, a clip of it, or its video.
    pub row: String,
    /// `rejected`, `error`, `error_kept`.
    pub outcome: &'static str,
    /// The step.
    pub step: String,
    /// Its operator.
    pub operator: String,
    /// The reason.
    pub code: String,
    /// What was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    /// What it was compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// In a sentence.
    pub message: String,
}

/// It stands in a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The row.
    pub row: String,
    /// The table's step.
    pub table: String,
    /// Numbers and short texts of the row.
    pub values: Vec<(String, String)>,
    /// The conditions and limits that it passed, as they were then.
    pub passed: Vec<String>,
}

impl Item {
    /// Of an id as it stands in a table.
    pub fn of(id: &str) -> Item {
        let span = |span: &str| {
            let (start, end) = span.split_once('-')?;
            Some((start.parse::<i64>().ok()?, end.parse::<i64>().ok()?))
        };
        let video = id.rsplit_once('#').filter(|(_, tail)| span(tail).is_some()).map(|(video, _)| video.to_owned());
        Item { id: id.to_owned(), video }
    }
}

/// The story of an id in an output folder or URL (or a table in one).
pub fn why(id: &str, given: &str) -> Result<Story, String> {
    let item = Item::of(id);
    let (output, _) = places(given)?;
    let system = |name: &str| open(&format!("{output}/{name}"));
    let (stages, rejects, errors) = (system(STAGES)?, system(REJECTS)?, system(ERRORS)?);
    let history = stages.history().map_err(|e| e.to_string())?;
    let plans = PlanStore::new(Folder::open(&output).map_err(|e| e.to_string())?);
    let logs = [
        (rejects.history().map_err(|e| e.to_string())?.editions, &rejects),
        (errors.history().map_err(|e| e.to_string())?.editions, &errors),
    ];
    let mut chapters = Vec::new();
    let mut before: Option<Value> = None;
    for edition in &history.editions {
        let plan = PlanHash::from_hex(edition.state.plan_hash.clone().unwrap_or_default());
        let meaning = plans.meaning(&plan).unwrap_or_default();
        let mut chapter = Chapter {
            generation: edition.state.generation,
            plan: plan.to_string(),
            committed: edition.committed_ms.map(utc),
            splits: edition.state.done.len(),
            changed: before.as_ref().filter(|_| meaning.is_object()).map(|old| meaning_diff(old, &meaning)).unwrap_or_default(),
            is_input: is_input(&plans, &plan, &item),
            events: Vec::new(),
            tables: Vec::new(),
            relatives: Vec::new(),
            untold: 0,
            notes: Vec::new(),
        };
        if !meaning.is_object() {
            chapter.notes.push("the plan of this generation cannot be read, so its tables are not known".into());
        }
        for (editions, table) in &logs {
            if let Some(version) = version_of(editions, chapter.generation) {
                rows::events(table, version, &item, &mut chapter)?;
            }
        }
        let steps = meaning::steps(&meaning);
        chapter.events.sort_by_key(|e| steps.iter().position(|s| s.name == e.step));
        for sink in meaning::sinks(&meaning, &output) {
            in_table(&sink, &meaning, &item, &mut chapter)?;
        }
        before = meaning.is_object().then_some(meaning);
        chapters.push(chapter);
    }
    Ok(Story { id: id.to_owned(), output, chapters, unreadable: history.unreadable })
}

fn version_of(editions: &[Edition], generation: u64) -> Option<u64> {
    editions.iter().find(|e| e.state.generation == generation).map(|e| e.state.version)
}

fn is_input(plans: &PlanStore, plan: &PlanHash, item: &Item) -> Option<bool> {
    let keys = [Some(&item.id), item.video.as_ref()].into_iter().flatten().cloned().collect();
    plans.payloads(plan, &keys).ok().map(|found| !found.is_empty())
}

/// Looks for the item in one table of a generation.
fn in_table(sink: &Sink, meaning: &Value, item: &Item, chapter: &mut Chapter) -> Result<(), String> {
    if sink.is_jsonl {
        chapter.notes.push(format!("`{}` is JSON Lines, which has no versions, and was not looked at", sink.step));
        return Ok(());
    }
    let Some(table) = open_if_there(&sink.place)? else {
        chapter.notes.push(format!("the table of `{}` is not there any more", sink.step));
        return Ok(());
    };
    let history = table.history().map_err(|e| e.to_string())?;
    let Some(version) = version_of(&history.editions, chapter.generation) else { return Ok(()) };
    let steps = meaning::before(meaning, &sink.step);
    rows::standings(&table, version, sink, item, chapter, &|values| passed(&steps, values))
}

/// The conditions and limits of the steps before a table, beside what the row has for them.
fn passed(steps: &[PlanStep], values: &[(String, String)]) -> Vec<String> {
    let value = |name: &str| values.iter().find(|(column, _)| column == name).map(|(_, value)| value.as_str());
    let mut out = Vec::new();
    for step in steps {
        if let Some(condition) = step.parameters["keep_if"].as_str() {
            let columns = referenced_columns(condition).unwrap_or_default();
            let here: Vec<String> = columns.iter().filter_map(|c| Some(format!("{c} {}", value(c)?))).collect();
            let beside = if here.is_empty() { String::new() } else { format!(" ({})", here.join(", ")) };
            out.push(format!("{}: {condition}{beside}", step.name));
            continue;
        }
        let is_limit = |key: &str| ["min_", "max_", "threshold"].iter().any(|start| key.starts_with(start));
        // Settings of services are limits of another kind.
        if ["captioner", "transcript"].contains(&step.operator) {
            continue;
        }
        let limits = step.parameters.as_object().into_iter().flatten().filter(|(key, v)| is_limit(key) && v.is_number());
        let limits: Vec<String> = limits.map(|(key, v)| format!("{key} = {v}")).collect();
        if !limits.is_empty() {
            out.push(format!("{}: {}", step.name, limits.join(", ")));
        }
    }
    out
}

impl Story {
    /// Whether anything at all is known of the item.
    pub fn is_known(&self) -> bool {
        self.chapters.iter().any(|c| c.is_input == Some(true) || !c.events.is_empty() || !c.tables.is_empty())
    }

    /// For people.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

/// For [`rows`]: the table as it was.
fn schema_at(table: &Table, version: u64) -> Result<arrow::datatypes::SchemaRef, String> {
    table.schema_at(version).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_clip_knows_its_video_and_a_file_name_stays_one() {
        assert_eq!(Item::of("a#b.mp4#0-6000000").video.as_deref(), Some("a#b.mp4"));
        for id in ["a.mp4", "a#b.mp4", "a#1-x"] {
            assert_eq!(Item::of(id).video, None, "{id}");
        }
    }

    #[test]
    fn conditions_are_told_with_the_values_that_met_them() {
        let meaning = json!({"steps": {
            "a": {"type": "freeze", "inputs": [], "parameters": {"max_share": 0.9, "max_longest_seconds": null, "frames": 32}},
            "b": {"type": "filter", "inputs": ["a"], "parameters": {"keep_if": "x > 1 and y < 2"}},
            "c": {"type": "captioner", "inputs": ["b"], "parameters": {"max_tokens": 3}},
            "t": {"type": "parquet", "inputs": ["c"], "parameters": {}},
        }});
        let values = [("x".to_owned(), "3".to_owned())];
        assert_eq!(passed(&meaning::before(&meaning, "t"), &values), ["a: max_share = 0.9", "b: x > 1 and y < 2 (x 3)"]);
    }
}
