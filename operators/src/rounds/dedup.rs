//! The `dedup` source: the rows of a table without those that repeat another one.
//!
//! Which row stays is a question over all rows, so it is answered while the plan is made (see [`curette_rounds::dedup`]). What can go wrong: see the
//! codes of [`Dedup`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, StringArray};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, InputItem, Kind, Operator, OperatorError, Pool, Runtime, Source, StepCheck, Task,
};
use curette_engine::verdict::{Processed, Verdict};
use curette_rounds::dedup::{Fate, Row, content_number, decide};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{self, Carried, carry};
use super::places::{Place, Reader, payload};
use crate::sources::files::{Files, is_url};
use crate::sources::videos::absolute;
use crate::tables::cast;
use crate::tables::parts::Parts;

/// Rows of a batch of ids.
const BATCH_ROWS: usize = 1 << 14;
/// A row of text, about, for the cost of a split.
const COST_OF_A_ROW: u64 = 1024;
/// Stands between the parts of a key.
const SEPARATOR: char = '\u{1f}';

/// Lists the rows of a table, without those that repeat another one: first by id, then by content.
///
/// Of rows with one id, the one whose carried columns, written as JSON, sort first stays. Of the rows that are left, those with one content (equal
/// values in all `content_columns`, none of them null) are one, and the smallest id stays. Neither the order of rows, nor files, nor the number of
/// workers can change that.
///
/// `table` must be there before the run: an output table of another pipeline (`content_blake3` of `probe` tells equal files), a Parquet file or a
/// folder of Parquet files, on a disk or in a store (`s3://bucket/prefix`). Rows without an id are left out, and the run says how many were. What
/// repeats is recorded in `rejects`; of rows with one id, those that go are named `ID (again N)` there.
///
/// A split reads the pages of the tables that hold its rows, so few large splits are best: set `split_max_items` in `[pipeline]` to some 50,000 (the
/// default, 64, suits videos).
///
/// Memory while planning: the ids and about 100 bytes for each row, and about 300 bytes for each row in the plan; `max_rows` is the limit.
///
/// Reject codes: `duplicate_id`, `duplicate_content`. Unmeasured codes: `file_missing`, `input_changed`, `file_unreadable` (a file of the table is
/// gone, is another one, or is damaged since the plan was made: run again).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedup {
    /// Folder or URL of the table. Relative paths start at the pipeline file.
    pub table: String,
    /// The column that identifies rows; it keeps its name.
    #[serde(default = "video_id")]
    pub id_column: String,
    /// The columns that tell equal content, such as `["content_blake3"]`. Empty: only ids are compared.
    #[serde(default)]
    pub content_columns: Vec<String>,
    /// Columns to carry over from the table, with their types: `text`, `texts`, `integer`, `number` or `boolean`.
    #[serde(default = "columns::usual")]
    pub columns: Carried,
    /// More rows are refused.
    #[serde(default = "ten_million")]
    #[schemars(range(min = 1))]
    pub max_rows: u64,
}

fn video_id() -> String {
    "video_id".into()
}

fn ten_million() -> u64 {
    10_000_000
}

impl Operator for Dedup {
    const NAME: &'static str = "dedup";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.unique]\ntype = \"dedup\"\ntable = \"corpus/probed.parquet\"\ncontent_columns = [\"content_blake3\"]\n";

    fn columns(&self) -> Columns {
        columns::declare(&self.columns, Columns::none().add_id(&self.id_column, "Id of the row, as in the table."))
    }

    fn pool(&self) -> Pool {
        if is_url(&self.table) { Pool::Net } else { Pool::Cpu }
    }

    fn rows_per_task(&self) -> usize {
        32_768 // a task reads the pages of the tables that hold its rows: many small ones would read everything over and over
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        columns::validate(&self.columns, &[&self.id_column], check);
        if self.id_column.trim().is_empty() {
            check.error(
                Some("id_column"),
                Code::OutOfRange,
                "`id_column` is empty".into(),
                Some("name the column that identifies rows".into()),
            );
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        let full = check.paths().resolve(&self.table);
        if !is_url(&self.table) && !full.exists() {
            let message = format!("`{}` does not exist", full.display());
            let help = "run the pipeline that makes this table first; relative paths start at the pipeline file";
            check.error(Some("table"), Code::NoInput, message, Some(help.into()));
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["table", "max_rows"]
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Source(Box::new(DedupSource {
            step: context.step.to_owned(),
            place: absolute(context.paths, &self.table)?,
            config: self.clone(),
            files: context.resources.get(Files::default),
            notes: Mutex::default(),
        })))
    }
}

/// What reading an item needs besides its key.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    fate: Said,
    place: Place,
}

/// A fate as the plan keeps it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Stays,
    SameId(String),
    SameContent(String),
}

struct DedupSource {
    step: String,
    place: String,
    config: Dedup,
    files: Arc<Files>,
    notes: Mutex<Vec<String>>,
}

impl DedupSource {
    fn error(&self, message: impl std::fmt::Display) -> OperatorError {
        OperatorError::new(format!("step {}: `table` {}: {message}", self.step, self.place))
    }

    /// All rows that have an id, with their places, and the number of those that have none.
    fn rows(&self, table: &Parts) -> Result<(Vec<Row>, Vec<Place>, u64), OperatorError> {
        let parts = table.list(&self.files).map_err(|e| self.error(e))?;
        let all: u64 = parts.iter().map(|p| p.rows).sum();
        if all > self.config.max_rows {
            let e = self.error(format!("it has {all} rows, more than max_rows = {}", self.config.max_rows));
            return Err(e.help("raise max_rows if there is memory: each row takes about 400 bytes"));
        }
        let names: Vec<&str> =
            std::iter::once(&self.config.id_column).chain(&self.config.content_columns).map(String::as_str).collect();
        let (mut rows, mut places, mut nameless) = (Vec::new(), Vec::new(), 0);
        for part in &parts {
            let batches = table.read(&self.files, (&part.name, &part.identity), &names, BATCH_ROWS, None);
            let mut at = 0;
            for batch in batches.map_err(|e| self.error(e.message))? {
                let batch = batch.map_err(|e| self.error(e))?;
                let column = |name: &str| cast::need_text(&batch, name).map_err(|e| self.error(format!("{}: {e}", part.name)));
                let ids = column(&self.config.id_column)?;
                let content = self.config.content_columns.iter().map(|c| column(c)).collect::<Result<Vec<_>, _>>()?;
                for row in 0..batch.num_rows() {
                    match cast::cell(&ids, row) {
                        Some(id) => {
                            let cells: Option<Vec<&str>> = content.iter().map(|c| cast::cell(c, row)).collect();
                            let content =
                                cells.filter(|c| !c.is_empty()).map(|c| content_number(&c.join(&SEPARATOR.to_string())));
                            rows.push(Row { id: id.to_owned(), content, whole: Vec::new() });
                            places.push(Place(0, part.name.clone(), part.identity.clone(), at));
                        }
                        None => nameless += 1,
                    }
                    at += 1;
                }
            }
        }
        Ok((rows, places, nameless))
    }

    /// Looks into the rows whose id is not theirs alone: only these need to be compared as a whole.
    fn tell_apart(&self, tables: &[Result<Parts, String>], rows: &mut [Row], places: &[Place]) -> Result<(), OperatorError> {
        let mut times: HashMap<&str, u32> = HashMap::with_capacity(rows.len());
        rows.iter().for_each(|row| *times.entry(&row.id).or_default() += 1);
        let shared: Vec<usize> = (0..rows.len()).filter(|&i| times[rows[i].id.as_str()] > 1).collect();
        let reader = Reader { tables, files: &self.files, carried: &self.config.columns, channel_columns: &[] };
        let Some(Ok(table)) = tables.first() else { return Ok(()) };
        let names: Vec<&str> = self.config.columns.keys().map(String::as_str).collect();
        for group in shared.chunk_by(|&a, &b| places[a].1 == places[b].1) {
            for some in group.chunks(BATCH_ROWS) {
                let Place(_, name, identity, _) = &places[some[0]];
                let wanted: Vec<u64> = some.iter().map(|&i| places[i].3).collect();
                let batch = table.rows(&self.files, (name, identity), &names, &wanted).map_err(|e| self.error(e.message))?;
                let columns = carry(&self.config.columns, &batch);
                for (at, &i) in some.iter().enumerate() {
                    rows[i].whole = reader.json(&columns, at);
                    // Rows that carry the same may still differ in their content.
                    rows[i].whole.extend(rows[i].content.map_or([0; 16], u128::to_be_bytes));
                }
            }
        }
        Ok(())
    }
}

impl Source for DedupSource {
    fn list(&self) -> Result<Vec<InputItem>, OperatorError> {
        let tables = [Ok(Parts::open(&self.place, &self.files).map_err(|e| self.error(e))?)];
        let (mut rows, places, nameless) = match &tables[0] {
            Ok(table) => self.rows(table)?,
            Err::<_, String>(e) => return Err(self.error(e)),
        };
        self.tell_apart(&tables, &mut rows, &places)?;
        let fates = decide(&rows);
        let mut notes = Vec::new();
        if nameless > 0 {
            notes.push(format!("{nameless} rows have no `{}` and were left out", self.config.id_column));
        }
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;
        let item = |((row, place), fate): ((Row, Place), Fate)| {
            let (key, fate) = match fate {
                Fate::Stays => (row.id, Said::Stays),
                Fate::SameId(n) => (format!("{} (again {n})", row.id), Said::SameId(row.id)),
                Fate::SameContent(of) => (row.id, Said::SameContent(of)),
            };
            let payload = serde_json::to_string(&Payload { fate, place }).map_err(|e| self.error(e))?;
            Ok(InputItem { key, identity: "row".into(), cost: COST_OF_A_ROW, payload })
        };
        rows.into_iter().zip(places).zip(fates).map(item).collect()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, items: &[InputItem], task: &Task) -> Result<Processed, OperatorError> {
        let payloads = items.iter().map(|item| payload::<Payload>(&self.step, item)).collect::<Result<Vec<_>, _>>()?;
        let tables = [Parts::open(&self.place, &self.files)];
        let reader = Reader { tables: &tables, files: &self.files, carried: &self.config.columns, channel_columns: &[] };
        let stays = |p: &Payload| matches!(p.fate, Said::Stays).then(|| p.place.clone());
        let found = reader.read(&payloads.iter().map(|p| stays(p).into_iter().collect()).collect::<Vec<_>>(), task)?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from_iter_values(items.iter().map(|item| &item.key)))];
        columns.extend(found.columns);
        let verdict = |(payload, problem): (Payload, Option<_>)| match payload.fate {
            Said::SameId(id) => {
                Verdict::fail_because("duplicate_id", format!("another row has the id `{id}` and comes first by its columns"))
            }
            Said::SameContent(of) => {
                let what = self.config.content_columns.join(", ");
                Verdict::fail_because("duplicate_content", format!("`{of}`, whose id is smaller, has the same {what}"))
            }
            Said::Stays => problem.map_or(Verdict::Pass, Verdict::Unmeasured),
        };
        Ok(Processed::rows(payloads.into_iter().zip(found.problems).map(verdict).collect(), columns))
    }
}
