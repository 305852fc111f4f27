//! Answers of expensive steps, kept from version to version: a changed splitting rule or one more video must not decode a million videos again.
//!
//! An operator that says which columns decide its answer ([`Operator::decided_by`](crate::operator::Operator::decided_by)) has the answer for
//! each row kept below the output, under a hash of operator, version, parameters, model files and the values of those columns. A later run of
//! another plan that meets the same row finds the answer. Rows that could not be measured are never kept: a new version tries them again. One object
//! per answer in a folder per operator and parameters, so any number of processes and machines share them and no index has to fit in memory.
//!
//! A limit that is a parameter of the measuring step itself makes other answers: measure without a limit and decide in a `filter` step to change
//! limits freely. The device that a model runs on is not part of the hash.
//!
//! What can go wrong: nothing that costs more than time. An answer that is damaged (checksum) or of other columns is a miss; a store that fails is
//! one warning, and then neither read nor written. Near `reuse_max_bytes` folders that the present pipeline does not use go; large answers
//! (clips) are kept only while less than half is taken, so that they never crowd out the many small ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array};
use arrow::compute::{concat, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};

use crate::commit::location::{Location, block_on};
use crate::graph::Step;
use crate::operator::Pool;
use crate::verdict::{Processed, Reject, Verdict};

/// Raised when the form of kept answers changes.
const FORMAT: u32 = 1;
/// Folder of kept answers below the output.
pub const FOLDER: &str = "_curette/kept";
/// An answer of more bytes than this is not kept.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// An answer of more bytes than this is large: kept only while less than half of the limit is taken.
const LARGE_BYTES: u64 = 64 << 10;
/// Above this part of the limit, in percent, unused folders are removed ...
const TIDY_ABOVE_PERCENT: u64 = 90;
/// ... until no more than this part is taken.
const TIDY_UNTIL_PERCENT: u64 = 50;
/// blake3 of the rest of the object, in front of it.
const CHECKSUM_BYTES: usize = 32;
/// Metadata key of the verdict in an answer's schema.
const VERDICT: &str = "curette.verdict";

/// What a step needs to find its answers.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Hash of operator, version, parameters and files: the folder's name.
    pub folder: String,
    /// The columns that decide the answer and must not be null.
    pub columns: Vec<String>,
    /// Further columns that decide it, null or not.
    pub nullable: Vec<String>,
    /// The columns of an answer.
    pub answer: SchemaRef,
}

impl Recipe {
    /// The recipe of a step, if its operator has one and its input has all the columns.
    pub fn of(step: &Step) -> Option<Recipe> {
        let columns: Vec<String> = step.operator.decided_by()?.iter().map(|c| (*c).to_string()).collect();
        let mut nullable = step.operator.also_decided_by();
        nullable.retain(|c| step.input.column_with_name(c).is_some());
        // Looking an answer up may block, which the worker itself never does.
        if step.operator.pool() == Pool::Inline
            || (columns.is_empty() && nullable.is_empty())
            || !columns.iter().all(|c| step.input.column_with_name(c).is_some())
        {
            return None;
        }
        let types: Vec<String> = columns
            .iter()
            .chain(&nullable)
            .filter_map(|c| step.input.field_with_name(c).ok())
            .map(|f| f.data_type().to_string())
            .collect();
        let fields: Vec<Field> = step.operator.columns().adds.into_iter().map(|a| a.field.with_nullable(true)).collect();
        let mut made_of = serde_json::json!({
            "format": FORMAT, "operator": step.meaning(), "columns": columns, "types": types,
            "answer": fields.iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>(),
        });
        if !nullable.is_empty() {
            made_of["nullable"] = serde_json::json!(nullable);
        }
        let folder = format!("{}-{}", step.operator.name(), &blake3::hash(made_of.to_string().as_bytes()).to_hex()[..24]);
        Some(Recipe { folder, columns, nullable, answer: Arc::new(Schema::new(fields)) })
    }

    /// The name of a row's answer; `None` if a deciding value is missing, for then nothing is known.
    fn key(&self, rows: &RecordBatch, row: usize) -> Option<String> {
        let names = || self.columns.iter().chain(&self.nullable);
        let columns: Option<Vec<ArrayRef>> = names().map(|c| rows.column_by_name(c).cloned()).collect();
        let columns = columns?;
        if columns.iter().take(self.columns.len()).any(|c| c.is_null(row)) {
            return None;
        }
        let fields: Vec<Field> = names().zip(&columns).map(|(n, c)| Field::new(n, c.data_type().clone(), true)).collect();
        let one = take_row(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).ok()?, row)?;
        Some(blake3::hash(&encode(&one).ok()?).to_hex().to_string())
    }
}

/// A row of its own, with buffers of its own: the bytes of a slice would depend on its neighbours.
fn take_row(rows: &RecordBatch, row: usize) -> Option<RecordBatch> {
    take_record_batch(rows, &UInt32Array::from(vec![row as u32])).ok()
}

fn encode(rows: &RecordBatch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
    writer.write(rows)?;
    writer.into_inner()
}

/// What is kept of a verdict. Numbers as bits: text would change the last one.
#[derive(Serialize, Deserialize)]
enum KeptVerdict {
    Pass,
    Fail { code: String, measured: Option<u64>, threshold: Option<u64>, message: String },
}

impl KeptVerdict {
    fn of(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Pass => Some(KeptVerdict::Pass),
            Verdict::Fail(r) => Some(KeptVerdict::Fail {
                code: r.code.clone().into_owned(),
                measured: r.measured.map(f64::to_bits),
                threshold: r.threshold.map(f64::to_bits),
                message: r.message.clone(),
            }),
            Verdict::Unmeasured(_) => None,
        }
    }

    fn verdict(self) -> Verdict {
        match self {
            KeptVerdict::Pass => Verdict::Pass,
            KeptVerdict::Fail { code, measured, threshold, message } => Verdict::Fail(Reject {
                code: code.into(),
                measured: measured.map(f64::from_bits),
                threshold: threshold.map(f64::from_bits),
                message,
            }),
        }
    }
}

/// One answer: the verdict, and the new columns (one row, or the children).
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    verdict: Verdict,
    columns: RecordBatch,
}

/// The kept answers of an output.
pub struct Kept {
    store: Arc<dyn ObjectStore>,
    base: Path,
    shown: String,
    max_bytes: u64,
    /// Processes that share the room.
    processes: u64,
    /// What was there when the folder was looked through.
    found: AtomicU64,
    /// What this process has added.
    added: AtomicU64,
    /// The store failed: neither read nor written any more.
    broken: AtomicBool,
    /// It was said that there is no room.
    told: AtomicBool,
}

impl Kept {
    /// Below an output folder or URL, shared by so many processes.
    pub fn open(output: &str, max_bytes: u64, processes: usize) -> Result<Self, crate::commit::CommitError> {
        let location = Location::parse(output)?;
        // Losing an answer in a power cut costs time only: no flush per file, unlike tables.
        let store: Arc<dyn ObjectStore> =
            if location.local.is_some() { Arc::new(LocalFileSystem::new()) } else { Arc::clone(&location.store) };
        let base = location.file(FOLDER);
        let shown = format!("{}/{FOLDER}", output.trim_end_matches('/'));
        let (found, added) = (AtomicU64::new(0), AtomicU64::new(0));
        let (broken, told) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Kept { store, base, shown, max_bytes, processes: processes.max(1) as u64, found, added, broken, told })
    }

    fn path(&self, recipe: &Recipe, key: &str) -> Path {
        [recipe.folder.as_str(), &key[..2], key].into_iter().fold(self.base.clone(), |path, part| path.join(part))
    }

    fn get(&self, recipe: &Recipe, key: &str) -> Option<Answer> {
        if self.broken.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.path(recipe, key);
        let bytes = match block_on(async { self.store.get(&path).await?.bytes().await }) {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return None,
            Err(e) => {
                self.give_up(&e);
                return None;
            }
        };
        let answer = decode(&bytes, &recipe.answer);
        if answer.is_none() {
            tracing::warn!(file = %path, "A kept answer is damaged; it is worked out again");
        }
        answer
    }

    fn put(&self, recipe: &Recipe, key: &str, answer: &Answer) {
        let Some(verdict) = KeptVerdict::of(&answer.verdict) else { return };
        if self.broken.load(Ordering::Relaxed) || answer.columns.get_array_memory_size() > MAX_ANSWER_BYTES {
            return;
        }
        let metadata = HashMap::from([(VERDICT.to_string(), serde_json::to_string(&verdict).unwrap_or_default())]);
        let schema = Arc::new(Schema::new_with_metadata(recipe.answer.fields().clone(), metadata));
        let Ok(rows) = answer.columns.clone().with_schema(schema) else { return };
        let Ok(body) = encode(&rows) else { return };
        let checksum = blake3::hash(&body).as_bytes().to_vec();
        let size = (checksum.len() + body.len()) as u64;
        if !self.take_room(size) {
            return;
        }
        let path = self.path(recipe, key);
        let payload = PutPayload::from_iter([bytes::Bytes::from(checksum), bytes::Bytes::from(body)]);
        if let Err(e) = block_on(async { self.store.put(&path, payload).await }) {
            self.give_up(&e);
        }
    }

    /// Counts the bytes of an answer, unless there is no room for it.
    fn take_room(&self, size: u64) -> bool {
        let limit = if size > LARGE_BYTES { self.max_bytes / 2 } else { self.max_bytes };
        let room = limit.saturating_sub(self.found.load(Ordering::Relaxed)) / self.processes;
        if self.added.fetch_add(size, Ordering::Relaxed) + size <= room {
            return true;
        }
        self.added.fetch_sub(size, Ordering::Relaxed);
        if !self.told.swap(true, Ordering::Relaxed) {
            let what = if size > LARGE_BYTES { "large answers" } else { "answers" };
            tracing::warn!(folder = %self.shown, "No room to keep more {what} for later versions: reuse_max_bytes = {}", self.max_bytes);
        }
        false
    }

    fn give_up(&self, why: &object_store::Error) {
        if !self.broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(folder = %self.shown, "Kept answers are not used for the rest of the run, because their store fails: {why}");
        }
    }

    /// True if there is an answer of this recipe.
    pub fn holds(&self, recipe: &Recipe) -> bool {
        let mut listed = self.store.list(Some(&self.base.clone().join(recipe.folder.as_str())));
        block_on(async { matches!(listed.try_next().await, Ok(Some(_))) })
    }

    /// Answers for rows: those that are kept, and `work`'s for the others, which are kept then. Gives the number that were found.
    pub fn answer<E>(
        &self,
        recipe: &Recipe,
        rows: &RecordBatch,
        expands: bool,
        work: impl FnOnce(&RecordBatch) -> Result<Processed, E>,
    ) -> Result<(Processed, u64), E> {
        let keys: Vec<Option<String>> = (0..rows.num_rows()).map(|row| recipe.key(rows, row)).collect();
        let mut answers: Vec<Option<Answer>> = keys.iter().map(|key| self.get(recipe, key.as_deref()?)).collect();
        let missing: Vec<u32> = (0..rows.num_rows() as u32).filter(|&row| answers[row as usize].is_none()).collect();
        let found = (rows.num_rows() - missing.len()) as u64;
        if missing.is_empty() {
            return Ok((assemble(&recipe.answer, answers.into_iter().flatten().collect(), expands), found));
        }
        let some;
        let batch = if found == 0 {
            rows
        } else {
            some = take_record_batch(rows, &UInt32Array::from(missing.clone()))
                .unwrap_or_else(|e| panic!("rows of a batch cannot be taken: {e}"));
            &some
        };
        let processed = work(batch)?;
        if processed.check(missing.len()).is_err() || processed.columns.len() != recipe.answer.fields().len() {
            // A bug of the operator: told where all answers are checked.
            return Ok((processed, 0));
        }
        for (nth, row) in missing.iter().enumerate() {
            let answer = piece(&recipe.answer, &processed, nth);
            if let Some(key) = &keys[*row as usize] {
                self.put(recipe, key, &answer);
            }
            answers[*row as usize] = Some(answer);
        }
        if found == 0 {
            return Ok((processed, 0));
        }
        Ok((assemble(&recipe.answer, answers.into_iter().flatten().collect(), expands), found))
    }

    /// Counts what is there. Near the limit it removes the folders that none of these recipes uses: call it with `Some` in one process only. Blocks;
    /// streams the listing.
    pub fn tidy(&self, used: Option<&BTreeSet<String>>) -> Result<(), object_store::Error> {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        block_on(async {
            let mut listed = self.store.list(Some(&self.base));
            while let Some(object) = listed.try_next().await? {
                let folder = object
                    .location
                    .prefix_match(&self.base)
                    .and_then(|mut parts| parts.next().map(|part| part.as_ref().to_string()));
                *sizes.entry(folder.unwrap_or_default()).or_default() += object.size;
            }
            Ok::<_, object_store::Error>(())
        })?;
        let mut total: u64 = sizes.values().sum();
        self.found.store(total, Ordering::Relaxed);
        let Some(used) = used.filter(|_| total > self.max_bytes / 100 * TIDY_ABOVE_PERCENT) else { return Ok(()) };
        for (folder, size) in sizes.iter().filter(|(folder, _)| !used.contains(*folder)) {
            if total <= self.max_bytes / 100 * TIDY_UNTIL_PERCENT {
                break;
            }
            tracing::info!(folder, bytes = size, "Removing kept answers that this pipeline does not use");
            block_on(async {
                let mut listed = self.store.list(Some(&self.base.clone().join(folder.as_str())));
                while let Some(object) = listed.try_next().await? {
                    match self.store.delete(&object.location).await {
                        Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                        Err(e) => return Err(e),
                    }
                }
                Ok(())
            })?;
            total -= size;
            self.found.store(total, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn decode(bytes: &[u8], wanted: &SchemaRef) -> Option<Answer> {
    let (checksum, body) = bytes.split_at_checked(CHECKSUM_BYTES)?;
    if blake3::hash(body).as_bytes() != checksum {
        return None;
    }
    let mut reader = StreamReader::try_new(body, None).ok()?;
    let schema = reader.schema();
    let verdict = serde_json::from_str::<KeptVerdict>(schema.metadata().get(VERDICT)?).ok()?.verdict();
    if schema.fields() != wanted.fields() {
        return None;
    }
    let columns = match reader.next() {
        Some(rows) => rows.ok()?,
        None => RecordBatch::new_empty(Arc::clone(&schema)),
    };
    let options = RecordBatchOptions::new().with_row_count(Some(columns.num_rows()));
    let columns = RecordBatch::try_new_with_options(Arc::clone(wanted), columns.columns().to_vec(), &options).ok()?;
    Some(Answer { verdict, columns })
}

/// The answer for one input row out of those for many.
fn piece(schema: &SchemaRef, processed: &Processed, row: usize) -> Answer {
    let range = match &processed.parents {
        None => row..row + 1,
        Some(parents) => {
            let row = row as u32;
            parents.partition_point(|&p| p < row)..parents.partition_point(|&p| p <= row)
        }
    };
    let indices = UInt32Array::from_iter_values(range.clone().map(|i| i as u32));
    let taken: Result<Vec<ArrayRef>, _> = processed.columns.iter().map(|c| arrow::compute::take(c, &indices, None)).collect();
    let taken = taken.unwrap_or_else(|e| panic!("values of a new column cannot be taken: {e}"));
    Answer { verdict: processed.verdicts[row].clone(), columns: batch(schema, taken, range.len()) }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .unwrap_or_else(|e| panic!("new columns are not as the operator declared them: {e}"))
}

/// Answers for single rows, put together as an operator would give them.
fn assemble(schema: &SchemaRef, answers: Vec<Answer>, expands: bool) -> Processed {
    let parents = expands
        .then(|| answers.iter().enumerate().flat_map(|(row, a)| std::iter::repeat_n(row as u32, a.columns.num_rows())).collect());
    let columns = (0..schema.fields().len())
        .map(|c| {
            let parts: Vec<&dyn Array> = answers.iter().map(|a| a.columns.column(c).as_ref()).collect();
            match parts.as_slice() {
                [] => new_empty_array(schema.field(c).data_type()),
                parts => concat(parts).unwrap_or_else(|e| panic!("values of a column cannot be put together: {e}")),
            }
        })
        .collect();
    Processed { verdicts: answers.into_iter().map(|a| a.verdict).collect(), columns, parents }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Int64Type};

    use super::*;

    fn recipe(expands: bool) -> Recipe {
        let answer = Arc::new(Schema::new(vec![Field::new("twice", DataType::Int64, true)]));
        Recipe {
            folder: if expands { "x" } else { "m" }.into(),
            columns: vec!["n".into(), "name".into()],
            nullable: vec![],
            answer,
        }
    }

    fn rows(numbers: &[Option<i64>]) -> RecordBatch {
        let n = Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef;
        let name = Arc::new(StringArray::from_iter_values(numbers.iter().map(|n| format!("{n:?}")))) as ArrayRef;
        let other = Arc::new(Int64Array::from_iter_values(0..numbers.len() as i64)) as ArrayRef;
        RecordBatch::try_from_iter([("other", other), ("n", n), ("name", name)]).unwrap()
    }

    /// 7 fails, 13 cannot be measured, the rest doubles (or has n % 3 + 1 children).
    fn work(rows: &RecordBatch, expands: bool, seen: &mut Vec<i64>) -> Processed {
        let n = rows.column_by_name("n").unwrap().as_primitive::<Int64Type>();
        let (mut verdicts, mut values, mut parents) = (vec![], vec![], vec![]);
        for (row, n) in n.iter().map(|n| n.unwrap_or(0)).enumerate() {
            seen.push(n);
            verdicts.push(match n {
                7 => Verdict::fail("seven", 7.0, 8.0, "seven"),
                13 => Verdict::unmeasured("odd", "thirteen"),
                _ => Verdict::Pass,
            });
            let passes = matches!(verdicts[row], Verdict::Pass);
            let children = if !expands {
                1
            } else if passes {
                n % 3 + 1
            } else {
                0
            };
            for _ in 0..children {
                parents.push(row as u32);
                values.push((n != 13).then_some(n * 2));
            }
        }
        let columns = vec![Arc::new(Int64Array::from(values)) as ArrayRef];
        if expands { Processed::children(verdicts, parents, columns) } else { Processed::rows(verdicts, columns) }
    }

    fn same(a: &Processed, b: &Processed) {
        assert_eq!((&a.verdicts, &a.parents), (&b.verdicts, &b.parents));
        assert_eq!(format!("{:?}", a.columns), format!("{:?}", b.columns));
    }

    fn ask(kept: &Kept, expands: bool, numbers: &[Option<i64>]) -> (u64, Vec<i64>) {
        let rows = rows(numbers);
        let mut seen = Vec::new();
        let (got, found) =
            kept.answer(&recipe(expands), &rows, expands, |rows| Ok::<_, Infallible>(work(rows, expands, &mut seen))).unwrap();
        got.check(numbers.len()).unwrap();
        same(&got, &work(&rows, expands, &mut Vec::new()));
        (found, seen)
    }

    #[test]
    fn an_answer_is_worked_out_once_and_reads_as_if_it_had_been_worked_out_again() {
        for expands in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let kept = Kept::open(dir.path().to_str().unwrap(), 1 << 20, 1).unwrap();
            assert_eq!(ask(&kept, expands, &[Some(1), Some(7), Some(13), None]), (0, vec![1, 7, 13, 0]));
            // Rows in another order among others; what is not known and what failed is asked again.
            assert_eq!(ask(&kept, expands, &[None, Some(4), Some(7), Some(1), Some(13)]), (2, vec![0, 4, 13]));
            assert_eq!(ask(&kept, expands, &[Some(1), Some(4)]), (2, vec![]));
        }
    }

    #[test]
    fn a_null_is_a_value_only_where_the_operator_says_so() {
        let recipe = Recipe { columns: vec!["other".into()], nullable: vec!["n".into()], ..recipe(false) };
        let key = |n: Option<i64>| recipe.key(&rows(&[n]), 0);
        assert!(key(None).is_some() && key(None) == key(None));
        assert_ne!(key(None), key(Some(0)));
        let strict = Recipe { columns: vec!["other".into(), "n".into()], nullable: vec![], ..recipe.clone() };
        assert_eq!(strict.key(&rows(&[None]), 0), None);
        assert_ne!(strict.key(&rows(&[Some(0)]), 0), None);
    }

    #[test]
    fn damaged_answers_are_misses() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path().to_str().unwrap(), 1 << 20, 1).unwrap();
        ask(&kept, false, &[Some(1), Some(2)]);
        let recipe = recipe(false);
        let files: Vec<_> = [1, 2]
            .map(|n| {
                dir.path().join(FOLDER).join(
                    kept.path(&recipe, &recipe.key(&rows(&[Some(n)]), 0).unwrap())
                        .as_ref()
                        .split(FOLDER)
                        .nth(1)
                        .unwrap()
                        .trim_start_matches('/'),
                )
            })
            .into();
        std::fs::write(&files[0], "").unwrap();
        let mut bytes = std::fs::read(&files[1]).unwrap();
        let last = bytes.len() - 20;
        bytes[last] ^= 1;
        std::fs::write(&files[1], bytes).unwrap();
        assert_eq!(ask(&kept, false, &[Some(1), Some(2)]), (0, vec![1, 2]));
        assert_eq!(ask(&kept, false, &[Some(1), Some(2)]), (2, vec![]));
    }

    #[test]
    fn near_the_limit_folders_that_nobody_uses_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let location = dir.path().to_str().unwrap();
        let kept = Kept::open(location, 1 << 20, 1).unwrap();
        ask(&kept, false, &[Some(1)]);
        ask(&kept, true, &[Some(1)]);
        let all = kept.added.load(Ordering::Relaxed);
        // The same limit again, which is full now.
        let full = Kept::open(location, all, 1).unwrap();
        full.tidy(None).unwrap();
        assert_eq!(full.found.load(Ordering::Relaxed), all, "only one process removes anything");
        assert_eq!(ask(&full, false, &[Some(2)]), (0, vec![2]));
        assert_eq!(ask(&full, false, &[Some(2)]), (0, vec![2]), "there was no room to keep it");
        assert_eq!(ask(&full, false, &[Some(1)]), (1, vec![]), "what is there is still found");
        full.tidy(Some(&BTreeSet::from(["x".to_string()]))).unwrap();
        assert!(full.found.load(Ordering::Relaxed) < all);
        assert_eq!(ask(&full, true, &[Some(1)]), (1, vec![]));
        assert_eq!(ask(&full, false, &[Some(1)]), (0, vec![1]));
        assert_eq!(ask(&full, false, &[Some(1)]), (1, vec![]), "now there is");
        assert!(full.holds(&recipe(true)) && full.holds(&recipe(false)));
    }

    #[test]
    fn large_answers_leave_half_of_the_room_to_small_ones_and_processes_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path().to_str().unwrap(), 1 << 20, 2).unwrap();
        assert!(kept.take_room(200_000) && !kept.take_room(200_000), "a quarter of the limit is the share of one of two");
        assert!(kept.take_room(60_000) && kept.take_room(60_000));
        assert!((0..100).filter(|_| kept.take_room(60_000)).count() <= 5);
        assert!(kept.added.load(Ordering::Relaxed) <= 1 << 19);
    }

    #[test]
    fn a_store_that_fails_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path().to_str().unwrap(), 1 << 20, 1).unwrap();
        std::fs::create_dir_all(dir.path().join("_curette")).unwrap();
        std::fs::write(dir.path().join(FOLDER), "a file where the folder should be").unwrap();
        assert_eq!(ask(&kept, false, &[Some(1)]), (0, vec![1]));
        assert!(kept.broken.load(Ordering::Relaxed));
        assert_eq!(ask(&kept, false, &[Some(1)]), (0, vec![1]));
    }
}
