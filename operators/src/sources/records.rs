//! The `metadata` source: one row per record of a catalogue, from Parquet, JSON Lines, CSV or single `.info.json` files.
//!
//! Why not the `videos` source: there the input is the video and its file decides what is done again. Here are millions of records in a few files,
//! most of which are dropped before anything is fetched. An input is a part of a file ([`super::record_files`]), so a plan has hundreds of inputs and
//! not millions.
//!
//! What can go wrong: files of others. A record that is none becomes an error row with file and line; a file that breaks off gives what stands
//! before.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{Field, Schema, SchemaRef};
use curette_engine::diag::{Code, did_you_mean};
use curette_engine::operator::{
    BuildContext, Columns, InputItem, Kind, Operator, OperatorError, Pool, Runtime, Source, StepCheck, Task,
};
use curette_engine::predicate;
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{FileError, Files, is_url};
use super::info_json::MAX_INFO_JSON_BYTES;
use super::listing::{self, Wanted as What};
use super::record_columns::{COLUMNS, Column, ID, Wanted};
use super::record_files::{Compression, EXTENSIONS, Format, Part, from_byte, kind_of, parts, whole};
use super::record_kept as kept;
use super::record_lines::{Rows, csv, json_lines, next_line};
use super::record_parquet;
use super::videos::absolute;
use crate::filters::filter::Condition;

/// Files in a store whose ends are read at once while the plan is made.
const LOOKS_AT_ONCE: usize = 16;

const CATALOGUE: What = What {
    one: "file of records",
    help: "set `path` to a file, a folder or a pattern of .parquet, .jsonl, .ndjson, .json or .csv files (text also as .gz or .zst)",
};

/// Reads records of videos, such as yt-dlp's, from a catalogue: Parquet, JSON Lines, CSV, or a `.json` file per record.
///
/// Text files may be compressed (`.gz`, `.zst`). Every field but the id is optional: what is absent, null or of another type is null, and so are
/// empty ids, dates and addresses. Numbers may be text. Columns that no later step reads are not read from Parquet either.
///
/// `keep_if` drops records while they are read. In Parquet the columns that it names are looked at first, and of the other columns only what the
/// records that go on need: a `filter` behind this step says the same and reads everything.
///
/// Parquet is read in parts of at most 131,072 rows, JSON Lines in ranges of 32 MiB; a compressed or CSV file is one part and may hold 1 GiB. A split
/// takes as many parts as
/// `split_max_cost_bytes` allows. A file that was changed since the plan was made is not read.
///
/// Reject code: `condition_false`, as of `filter`. Unmeasured codes: `condition_is_null` and `condition_failed`, as of `filter`; `bad_record` (a line
/// that is no JSON object, a CSV record with too many cells), `no_id`; both name file and line (in Parquet: row). Of a part as a whole:
/// `file_missing`, `input_changed`, `file_unreadable` (what was read before stays), `file_too_large`, `not_a_file`, `bad_address`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetadataRecords {
    /// A file, a folder (taken with all folders below it), a pattern (`catalogue/**/*.parquet`) or a URL (`s3://bucket/prefix`, also with a pattern).
    /// Relative paths start at the pipeline file. Names that start with `.` are left out.
    pub path: String,
    /// The columns to have besides `video_id`. Default: all that `curette ops metadata` lists.
    #[serde(default)]
    pub columns: Vec<String>,
    /// SQL boolean expression over the columns of a record, as after `WHERE`: `duration_seconds >= 6 and language = 'en'`. Default: all go on.
    #[serde(default)]
    pub keep_if: Option<String>,
}

impl MetadataRecords {
    /// What a condition can be about.
    fn schema(&self) -> SchemaRef {
        let field = |(column, _): (&Column, bool)| Field::new(column.name, column.holds.data_type(), true);
        Arc::new(Schema::new(Wanted::of(&self.columns).columns().map(field).collect::<Vec<_>>()))
    }
}

impl Operator for MetadataRecords {
    const NAME: &'static str = "metadata";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.records]\ntype = \"metadata\"\npath = \"catalogue\"\n";

    fn columns(&self) -> Columns {
        let wanted = Wanted::of(&self.columns);
        let more = wanted.columns().skip(1);
        more.fold(Columns::none().add_id(ID.name, ID.doc), |columns, (column, _)| {
            columns.add(column.name, column.holds.data_type(), column.doc)
        })
    }

    fn pool(&self) -> Pool {
        // Parts of files in a store wait for it as well, but what takes the time is decoding them.
        Pool::Cpu
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn records(&self) -> bool {
        true
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if let Some((scheme, _)) = self.path.split_once("://").filter(|(scheme, _)| !matches!(*scheme, "s3" | "file")) {
            let message = format!("records cannot be listed at `{scheme}://`");
            check.error(Some("path"), Code::OutOfRange, message, Some("known are local paths, file:// and s3://".into()));
        } else if self.path.trim().is_empty() {
            let help = "`.` is the folder of the pipeline file".to_owned();
            check.error(Some("path"), Code::OutOfRange, "`path` is empty".into(), Some(help));
        }
        for (index, name) in self.columns.iter().enumerate() {
            if !COLUMNS.iter().any(|column| column.name == name) {
                let near = did_you_mean(name, COLUMNS.iter().map(|column| column.name));
                let all = || format!("there are: {}", COLUMNS.iter().map(|c| c.name).collect::<Vec<_>>().join(", "));
                let help = near.map_or_else(all, |near| format!("did you mean `{near}`?"));
                check.error(Some("columns"), Code::OutOfRange, format!("records have no column `{name}`"), Some(help));
            } else if self.columns[..index].contains(name) {
                check.error(Some("columns"), Code::Contradiction, format!("column `{name}` is named twice"), None);
            }
        }
        if let Some(sql) = &self.keep_if {
            predicate::check("keep_if", sql, &self.schema(), check);
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        if is_url(&self.path) {
            return;
        }
        let full = check.paths().resolve(self.path.strip_prefix("file://").unwrap_or(&self.path));
        if !full.exists() && !self.path.contains(['*', '?', '[']) {
            let message = format!("`{}` does not exist", full.display());
            check.error(Some("path"), Code::NoInput, message, Some("relative paths start at the pipeline file".into()));
        } else if let Some(problem) = (!full.exists()).then(|| listing::pattern_problem(&self.path)).flatten() {
            check.error(Some("path"), Code::OutOfRange, problem, None);
        }
    }

    /// The list of inputs is in the plan hash by itself: names, parts and identities.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["path"]
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let condition = self.keep_if.as_ref().map(|sql| Condition::compile(context.step, sql, &self.schema())).transpose()?;
        Ok(Runtime::Source(Box::new(Catalogue {
            condition,
            step: context.step.to_string(),
            location: absolute(context.paths, &self.path)?,
            wanted: Wanted::of(&self.columns),
            files: context.resources.get(Files::default),
            notes: Mutex::default(),
            lines: Mutex::default(),
        })))
    }
}

/// What reading a part needs besides its file's identity.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    uri: String,
    /// The name below the listed folder.
    name: String,
    part: Part,
}

struct Catalogue {
    /// `keep_if`.
    condition: Option<Condition>,
    step: String,
    /// `path`, absolute.
    location: String,
    wanted: Wanted,
    files: Arc<Files>,
    /// Of the last listing.
    notes: Mutex<Vec<String>>,
    /// Lines before some bytes of some files: counted when one of them is bad, and then from the nearest that is known.
    lines: Mutex<BTreeMap<(String, u64), u64>>,
}

impl Source for Catalogue {
    fn list(&self) -> Result<Vec<InputItem>, OperatorError> {
        let fail = |e: OperatorError| OperatorError { message: format!("step {}: {}", self.step, e.message), help: e.help };
        let extensions: Vec<String> = EXTENSIONS.iter().map(|e| (*e).to_owned()).collect();
        let mut listing = listing::list_of(&self.files, &self.location, &extensions, &CATALOGUE).map_err(fail)?;
        if let [only] = listing.keys.as_slice()
            && kind_of(only).is_none()
        {
            let message = format!("{}/{only}: its format is not known from its name", listing.root);
            return Err(fail(OperatorError::new(message).help(CATALOGUE.help)));
        }
        // Such as `archive.tar.gz` in a folder.
        let (known, strange) = std::mem::take(&mut listing.keys).into_iter().partition(|key| kind_of(key).is_some());
        listing.keys = known;
        let strange: Vec<String> = strange;
        let left_out = listing.note().map(|note| note.replace(" (`extensions` says which are taken)", ""));
        let mut notes: Vec<String> = left_out.into_iter().collect();
        notes.extend(
            strange
                .first()
                .map(|first| format!("{} compressed files hold no records by their names, such as {first}", strange.len())),
        );
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = notes;

        let look = |key: &String| self.items_of(&listing, key);
        if !is_url(&listing.root) {
            return Ok(listing.keys.iter().flat_map(look).collect());
        }
        let mut items = Vec::new();
        for some in listing.keys.chunks(LOOKS_AT_ONCE) {
            let looked: Vec<Vec<InputItem>> = std::thread::scope(|scope| {
                let threads: Vec<_> = some.iter().map(|key| scope.spawn(move || look(key))).collect();
                threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            });
            items.extend(looked.into_iter().flatten());
        }
        Ok(items)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn only(&mut self, columns: &BTreeSet<String>) {
        let decides = self.condition.iter().flat_map(|condition| condition.columns().into_iter().map(str::to_owned));
        self.wanted.only(&columns.iter().cloned().chain(decides).collect());
    }

    fn read(&self, items: &[InputItem], task: &Task) -> Result<Processed, OperatorError> {
        let mut verdicts = Vec::new();
        let mut columns: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.wanted.columns().count()];
        for item in items {
            let payload: Payload = serde_json::from_str(&item.payload).map_err(|e| {
                OperatorError::new(format!("step {}: the plan's entry for `{}` is damaged: {e}", self.step, item.key))
            })?;
            let (made, arrays) = match task.is_cancelled() {
                true => self.nothing(&item.key, Problem::new("cancelled", "the run is being stopped")),
                false => self.read_part(item, &payload, task),
            };
            verdicts.extend(made);
            columns.iter_mut().zip(arrays).for_each(|(all, array)| all.push(array));
        }
        let joined = columns.iter().map(|parts| {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            arrow::compute::concat(&parts).map_err(|e| OperatorError::new(format!("step {}: {e}", self.step)))
        });
        let columns = match items.len() {
            1 => columns.iter_mut().filter_map(Vec::pop).collect(),
            _ => joined.collect::<Result<Vec<_>, _>>()?,
        };
        Ok(Processed::rows(verdicts, columns))
    }
}

impl Catalogue {
    /// The parts of one file.
    fn items_of(&self, listing: &listing::Listing, key: &str) -> Vec<InputItem> {
        let uri = format!("{}/{key}", listing.root);
        let stat = listing.files.get(key).cloned().unwrap_or_else(|| self.files.stat(&uri));
        let kind = kind_of(key).unwrap_or((Format::Lines, Compression::Plain));
        let (identity, parts) = match stat {
            Ok(stat) => (stat.identity, parts(&self.files, &uri, stat.bytes, kind)),
            Err(error) => (error.code().to_owned(), vec![(Part::Whole, 1)]),
        };
        let item = |(number, (part, cost)): (usize, (Part, u64))| InputItem {
            key: if part == Part::Whole { key.to_owned() } else { format!("{key}#{number:06}") },
            identity: identity.clone(),
            cost,
            payload: serde_json::to_string(&Payload { uri: uri.clone(), name: key.to_owned(), part }).unwrap_or_default(),
        };
        parts.into_iter().enumerate().map(item).collect()
    }

    /// A row that says what is wrong with an input.
    fn nothing(&self, key: &str, problem: Problem) -> (Vec<Verdict>, Vec<ArrayRef>) {
        let mut rows = Rows::new(&self.wanted);
        rows.broken(key, problem);
        rows.finish(&|_| String::new())
    }

    fn read_part(&self, item: &InputItem, payload: &Payload, task: &Task) -> (Vec<Verdict>, Vec<ArrayRef>) {
        let Payload { uri, name, part } = payload;
        let refuse = |error: &FileError| self.nothing(&item.key, Problem::new(error.code(), error.to_string()));
        let stat = match self.files.stat(uri) {
            Ok(stat) => stat,
            Err(error) => return refuse(&error),
        };
        if stat.identity != item.identity {
            let message = format!(
                "{uri} was changed since the plan was made (it was {}, it is {}): plan again",
                item.identity, stat.identity
            );
            return self.nothing(&item.key, Problem::new("input_changed", message));
        }
        let kind = kind_of(name).unwrap_or((Format::Lines, Compression::Plain));
        let mut rows = Rows::new(&self.wanted);
        let stopped = || task.is_cancelled();
        let mut first_line = 0;
        let done: Result<(), String> = match (*part, kind) {
            (Part::Rows { group, from, rows, before }, _) => {
                let part = record_parquet::Part { group, from, rows, before, bytes: 0 };
                let file = record_parquet::File { files: &self.files, uri, name, key: &item.key, bytes: stat.bytes };
                return record_parquet::read(&file, &part, &self.wanted, self.condition.as_ref());
            }
            (Part::Whole, (Format::Parquet, _)) => match record_parquet::parts(&self.files, uri, stat.bytes) {
                Err(error) => return refuse(&error),
                Ok(_) => Err("its end could not be read when the plan was made, and now can: plan again".into()),
            },
            (Part::Bytes { from, to }, _) => {
                let mut reader = from_byte(&self.files, uri, from.saturating_sub(1), stat.bytes);
                let skipped = if from == 0 {
                    Ok(0)
                } else {
                    next_line(&mut reader, &mut Vec::new()).map(|(taken, _)| taken.saturating_sub(1))
                };
                skipped.map_err(|e| e.to_string()).and_then(|skipped| {
                    first_line = from + skipped;
                    json_lines(&mut reader, Some(to.saturating_sub(first_line)), &mut rows, &stopped).map_err(|e| e.to_string())
                })
            }
            (Part::Whole, (format, compression)) => match whole(&self.files, uri, compression) {
                Err(error) => return refuse(&error),
                Ok(mut reader) => match format {
                    Format::Csv => csv(&mut reader, &mut rows, &stopped),
                    Format::Lines => json_lines(&mut BufReader::with_capacity(256 << 10, reader), None, &mut rows, &stopped)
                        .map_err(|e| e.to_string()),
                    Format::Json | Format::Parquet => one_object(reader, &mut rows),
                },
            },
        };
        if let Err(reason) = done {
            rows.broken(&item.key, Problem::new("file_unreadable", format!("{uri}: {reason}")));
        }
        let before = if rows.needs_places() { self.lines_before(uri, first_line) } else { 0 };
        let (mut verdicts, columns) = rows.finish(&|number| format!("{name}:{}", before + number));
        if let Some(condition) = &self.condition {
            kept::judge(condition, &self.wanted, &columns, &mut verdicts);
        }
        (verdicts, columns)
    }

    /// Line ends in the first bytes of a file. Only asked when a line is bad.
    fn lines_before(&self, uri: &str, end: u64) -> u64 {
        let mut known = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let nearest = known.range((uri.to_owned(), 0)..=(uri.to_owned(), end)).next_back().map(|((_, at), lines)| (*at, *lines));
        let (from, mut lines) = nearest.unwrap_or_default();
        let mut block = vec![0; 256 << 10];
        let mut reader = from_byte(&self.files, uri, from, end);
        // A file that cannot be read any more has said so already.
        while let Ok(taken @ 1..) = reader.read(&mut block) {
            lines += block[..taken].iter().filter(|b| **b == b'\n').count() as u64;
        }
        known.insert((uri.to_owned(), end), lines);
        lines
    }
}

/// A file that is one record.
fn one_object(reader: impl Read, rows: &mut Rows) -> Result<(), String> {
    let mut bytes = Vec::new();
    reader.take(MAX_INFO_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_INFO_JSON_BYTES {
        return Err(format!("more than {MAX_INFO_JSON_BYTES} bytes, the limit for one record"));
    }
    rows.json(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes), 1);
    Ok(())
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
