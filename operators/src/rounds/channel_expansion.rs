//! The `channel_expansion` source: all videos of the channels that have enough medical ones.
//!
//! Decided in planning rounds over committed tables (see [`super::planning`]), so that neither the order of records nor the number of workers
//! matters, and a later crawl costs its difference. What can go wrong: see the codes of [`ChannelExpansion`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, Int32Array, StringArray};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, InputItem, Kind, Operator, OperatorError, Pool, Runtime, Source, StepCheck, Task,
};
use curette_engine::resources::OutputPlace;
use curette_engine::verdict::{Processed, Verdict};
use curette_rounds::Rule;
use curette_rounds::ledger::{Ledger, Round, State, Touched};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{self, Carried};
use super::ids::{channel_columns, video_columns};
use super::places::{Place, Reader, payload};
use super::planning::{Looked, Planner, ROLES, is_medical, split};
use crate::sources::files::{Files, is_url};
use crate::sources::videos::absolute;

/// Columns that the step makes itself.
const OWN: [&str; 4] = ["video_id", "channel_id", "is_medical", "expansion_round"];
/// Most threads that a round takes by itself.
const MAX_WORKERS: usize = 64;
/// A row of text, about, for the cost of a split.
const COST_OF_A_ROW: u64 = 1024;

/// Lists all videos of the channels that have at least `min_videos` medical videos: the paper's way from 37,000 to 140,000 videos.
///
/// Reads two tables that are there before the run: `catalogue` (every record) and `medical` (the records that were found medical, say by
/// `keyword_filter` and `text_classifier` in another pipeline). Each may be an output table of a pipeline, a Parquet file or a folder of Parquet
/// files, on a disk or in a store (`s3://bucket/prefix`), of which only the ends of files and the columns that are used are fetched. A video counts
/// once, however many crawls have it; rows of `medical` count as records of the catalogue. A record without a channel is a channel of its own; one
/// without an id is left out, and the run says how many were.
///
/// The decision is made in rounds. A round is whatever files are new in the two tables (or gone from them) since the round before, taken together:
/// neither the order of files and records nor the number of workers can change its result. What it decided is kept in `ledger` by one atomic commit
/// when the run begins, so a run that is killed goes on with the same plan, and a later crawl reads its own files only; of earlier records those come
/// back from the ledger, as numbers, whose channel has new medical videos and is not in yet. What a round looked at stands in the ledger as JSON (the
/// row with `part = 'work'`). A channel that has qualified stays so, also when later records bring it below `min_share`: what was downloaded cannot
/// be taken back. The ledger belongs to one rule; give another rule another ledger.
///
/// New videos are another plan: run with `--new-version`; kept answers make it cost about the difference. Where a video stands in several rows, the
/// one whose carried columns, written as JSON, sort first is taken.
///
/// A split reads the pages of the tables that hold its rows, so few large splits are best: set `split_max_items` in `[pipeline]` to some 50,000 (the
/// default, 64, suits videos).
///
/// Memory while planning: about 23 bytes for each record that a round looks at (in the first round all), up to twice that while a round is read, and
/// twice again with `min_share`; `max_records` is the limit of all. The plan holds about 300 bytes for each listed video; `max_videos` is the limit.
/// Each process of a cluster plans by itself.
///
/// Unmeasured codes: `file_missing`, `input_changed`, `file_unreadable` (a file of the tables is gone, is another one, or is damaged since the plan
/// was made: run again).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelExpansion {
    /// The table of all records. Relative paths start at the pipeline file.
    pub catalogue: String,
    /// The table of medical records.
    pub medical: String,
    /// A channel needs at least so many different medical videos.
    #[serde(default = "one")]
    #[schemars(range(min = 1))]
    pub min_videos: u64,
    /// And at least this share of its different videos must be medical, 0 to 1. With 0 (the default) only `min_videos` counts, and planning takes
    /// half the memory.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_share: f64,
    /// List every video of `medical`, also where its channel does not qualify.
    #[serde(default = "yes")]
    pub keep_medical: bool,
    /// Columns that may hold the id of the video; of each row the first that says something is taken.
    #[serde(default = "video_columns")]
    pub video_columns: Vec<String>,
    /// Columns that may hold the id of the channel, in the same way.
    #[serde(default = "channel_columns")]
    pub channel_columns: Vec<String>,
    /// Columns to carry over from the tables, with their types: `text`, `texts`, `integer`, `number` or `boolean`. Of both tables the same names are
    /// read.
    #[serde(default = "columns::usual")]
    pub columns: Carried,
    /// Folder or URL where rounds are kept, as a table that any reader of Delta tables can read. Default: `_curette/rounds/STEP` in the pipeline's
    /// output.
    #[serde(default)]
    pub ledger: Option<String>,
    /// More records in the two tables are refused.
    #[serde(default = "hundred_million")]
    #[schemars(range(min = 1))]
    pub max_records: u64,
    /// More listed videos are refused.
    #[serde(default = "five_million")]
    #[schemars(range(min = 1))]
    pub max_videos: u64,
    /// Threads that plan; 0: as many as there are cores.
    #[serde(default)]
    #[schemars(range(max = 64))]
    pub workers: usize,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn hundred_million() -> u64 {
    100_000_000
}

fn five_million() -> u64 {
    5_000_000
}

impl Operator for ChannelExpansion {
    const NAME: &'static str = "channel_expansion";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.expanded]\ntype = \"channel_expansion\"\ncatalogue = \"corpus/catalogue.parquet\"\n\
         medical = \"corpus/medical.parquet\"\nmin_videos = 1\n";

    fn columns(&self) -> Columns {
        let columns = Columns::none()
            .add_id("video_id", "Id of the video, as in the tables.")
            .add("channel_id", DataType::Utf8, "Id of its channel; null where the row has none.")
            .add("is_medical", DataType::Boolean, "It is one of the medical videos, not only of their channel.")
            .add("expansion_round", DataType::Int32, "The planning round that listed it first, from 0.");
        columns::declare(&self.columns, columns)
    }

    fn pool(&self) -> Pool {
        if is_url(&self.catalogue) || is_url(&self.medical) { Pool::Net } else { Pool::Cpu }
    }

    fn rows_per_task(&self) -> usize {
        32_768 // a task reads the pages of the tables that hold its rows: many small ones would read everything over and over
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        columns::validate(&self.columns, &OWN, check);
        for (key, given) in [("video_columns", &self.video_columns), ("channel_columns", &self.channel_columns)] {
            if given.is_empty() {
                check.error(
                    Some(key),
                    Code::OutOfRange,
                    format!("`{key}` is empty"),
                    Some("name at least one column, or leave the key out".into()),
                );
            }
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        for (key, given) in ROLES.iter().zip([&self.catalogue, &self.medical]).filter(|(_, given)| !is_url(given)) {
            let full = check.paths().resolve(given);
            if !full.exists() {
                let message = format!("`{}` does not exist", full.display());
                let help = "run the pipeline that makes this table first; relative paths start at the pipeline file";
                check.error(Some(key), Code::NoInput, message, Some(help.into()));
            }
        }
    }

    /// What is listed is in the plan hash by itself: ids, and where the rows are.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["catalogue", "medical", "ledger", "max_records", "max_videos", "workers"]
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let output = context.resources.get(OutputPlace::default);
        let ledger = match &self.ledger {
            Some(given) => absolute(context.paths, given)?,
            None if output.0.is_empty() => absolute(context.paths, &format!("_curette/rounds/{}", context.step))?,
            None => format!("{}/_curette/rounds/{}", output.0.trim_end_matches('/'), context.step),
        };
        let rule = Rule { min_videos: self.min_videos, min_share: self.min_share };
        let ids = format!("{} / {}", self.video_columns.join(", "), self.channel_columns.join(", "));
        let medical = if self.keep_medical { ", and all medical videos" } else { "" };
        let meaning = format!("{}{medical}, by the columns {ids}", rule.meaning());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Runtime::Source(Box::new(ExpansionSource {
            step: context.step.to_owned(),
            planner: Planner {
                places: [absolute(context.paths, &self.catalogue)?, absolute(context.paths, &self.medical)?],
                ledger: Ledger::new(ledger, meaning),
                rule,
                keep_medical: self.keep_medical,
                video_columns: self.video_columns.clone(),
                channel_columns: self.channel_columns.clone(),
                max_records: self.max_records,
                max_videos: self.max_videos,
                workers: if self.workers == 0 { cores } else { self.workers }.clamp(1, MAX_WORKERS),
            },
            columns: self.columns.clone(),
            files: context.resources.get(Files::default),
            pending: Mutex::default(),
            notes: Mutex::default(),
        })))
    }
}

/// What reading an item needs besides its key.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    round: u32,
    medical: bool,
    places: Vec<Place>,
}

struct ExpansionSource {
    step: String,
    planner: Planner,
    columns: Carried,
    files: Arc<Files>,
    /// The round of the last listing that is not committed, and its number.
    pending: Mutex<Option<(u32, Round)>>,
    notes: Mutex<Vec<String>>,
}

fn set<T>(cell: &Mutex<T>, value: T) -> T {
    std::mem::replace(&mut *cell.lock().unwrap_or_else(PoisonError::into_inner), value)
}

/// One item per video, whatever order rounds came in.
fn items(state: &State) -> Result<Vec<InputItem>, OperatorError> {
    let mut by_id: BTreeMap<&str, Payload> = BTreeMap::new();
    for listed in state.videos.values().filter(|listed| !listed.places.is_empty()) {
        let payload =
            by_id.entry(&listed.id).or_insert_with(|| Payload { round: listed.round, medical: false, places: Vec::new() });
        payload.round = payload.round.min(listed.round);
        for (number, row) in &listed.places {
            if let Some(file) = state.files.get(number) {
                let (role, name) = split(&file.name);
                payload.medical |= is_medical(&file.name);
                payload.places.push(Place(role, name.to_owned(), file.identity.clone(), *row));
            }
        }
    }
    let item = |(id, mut payload): (&str, Payload)| {
        payload.places.sort_unstable();
        let cost = COST_OF_A_ROW * payload.places.len() as u64;
        let text = serde_json::to_string(&payload).map_err(|e| OperatorError::new(format!("`{id}`: {e}")))?;
        // What the rows are is in the payload: file names and identities.
        Ok(InputItem { key: id.to_owned(), identity: "row".into(), cost, payload: text })
    };
    by_id.into_iter().map(item).collect()
}

fn notes(state: &State, touched: &Touched) -> Vec<String> {
    let Touched { new_records, without_id, known_records, channels_asked, loaded_records, joined_pairs, .. } = touched;
    let gone = state.videos.values().filter(|v| v.places.is_empty()).count();
    let mut notes = vec![format!(
        "{} channels qualify and {} videos are listed by {} planning round(s); {new_records} records were new ({joined_pairs} pairs joined), \
         {loaded_records} of {known_records} known ones were looked up, those of {channels_asked} channels",
        state.channels.len(),
        state.videos.len() - gone,
        state.rounds
    )];
    if *without_id > 0 {
        notes.push(format!("{without_id} new records have no id and were left out"));
    }
    if gone > 0 {
        notes.push(format!("{gone} videos that were listed are in no file of the tables any more"));
    }
    notes
}

impl Source for ExpansionSource {
    fn list(&self) -> Result<Vec<InputItem>, OperatorError> {
        let named = |e: OperatorError| OperatorError { message: format!("step {}: {}", self.step, e.message), help: e.help };
        let Looked { state, pending, touched } = self.planner.look(&self.files).map_err(named)?;
        set(&self.notes, notes(&state, &touched));
        let items = items(&state).map_err(named)?;
        set(&self.pending, pending.map(|round| (state.rounds - 1, round)));
        Ok(items)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn settle(&self) -> Result<(), OperatorError> {
        match set(&self.pending, None) {
            Some((number, round)) => self.planner.settle(&self.files, number, &round),
            None => Ok(()),
        }
    }

    fn read(&self, items: &[InputItem], task: &Task) -> Result<Processed, OperatorError> {
        let payloads = items.iter().map(|item| payload::<Payload>(&self.step, item)).collect::<Result<Vec<_>, _>>()?;
        let places: Vec<Vec<Place>> = payloads.iter().map(|p| p.places.clone()).collect();
        let tables = self.planner.tables(&self.files);
        let reader = Reader {
            tables: &tables,
            files: &self.files,
            carried: &self.columns,
            channel_columns: &self.planner.channel_columns,
        };
        let found = reader.read(&places, task)?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(items.iter().map(|item| &item.key))),
            Arc::new(StringArray::from_iter(found.channels)),
            Arc::new(BooleanArray::from_iter(payloads.iter().map(|p| Some(p.medical)))),
            Arc::new(Int32Array::from_iter_values(payloads.iter().map(|p| p.round as i32))),
        ];
        columns.extend(found.columns);
        let verdict = |problem: Option<_>| problem.map_or(Verdict::Pass, Verdict::Unmeasured);
        Ok(Processed::rows(found.problems.into_iter().map(verdict).collect(), columns))
    }
}
