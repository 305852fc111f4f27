//! The plain format: one JSON Lines file per split, `split-00000042.jsonl`, replaced as a whole.
//!
//! There is no log here, so the rule is simpler and weaker than a table's: a file is complete or absent, and writing a split again gives the
//! same file. Which splits are done is for the committed tables to say. A split without rows has no file; one that is there goes. Binary
//! values are base64, nulls are written out so that every line has every key, and NaN becomes null.
//!
//! `_plan.json` says which plan the files belong to, so that two plans never mix. What can go wrong: a reader in the middle of a run sees
//! some splits and not others.

use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;
use arrow_json::writer::{Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::error::CommitError;
use super::killpoint::kill_point;
use super::location::{Location, block_on};
use super::table::{PlanStamp, new_commit_id};
use super::upload::{TEMPORARY, Upload};

/// The file that says which plan the others belong to.
const PLAN_FILE: &str = "_plan.json";

/// Deletions in flight at once.
const DELETES_IN_FLIGHT: usize = 16;

/// A folder of JSON Lines files. Blocking.
#[derive(Debug)]
pub struct JsonlDir {
    name: String,
    location: Location,
}

impl JsonlDir {
    /// A folder, made if it is local and absent. `name` is for messages.
    pub fn open(name: &str, location: &str) -> Result<Self, CommitError> {
        Ok(JsonlDir { name: name.to_owned(), location: Location::parse(location)? })
    }

    /// Claims the folder for a plan; refused if it belongs to another one.
    pub fn claim(&self, stamp: &PlanStamp) -> Result<(), CommitError> {
        match self.plan()? {
            Some(found) if found == *stamp => Ok(()),
            Some(found) => Err(self.changed_plan(&found, stamp)),
            None => self.write_plan(stamp),
        }
    }

    /// Removes half-made files of killed processes; gives their number and bytes. To be called when a run is finished and nobody writes any more.
    pub fn remove_half_made(&self) -> Result<(u64, u64), CommitError> {
        let base = &self.location.base;
        let listed =
            block_on(self.location.store.list_with_delimiter(Some(base))).map_err(|e| self.storage_error("list", base, &e))?;
        let half = listed.objects.iter().filter(|o| o.location.filename().is_some_and(|n| is_ours(n) && n.ends_with(TEMPORARY)));
        let found = half.fold((0, 0), |(files, bytes), object| (files + 1, bytes + object.size));
        self.delete(|name| name.ends_with(TEMPORARY))?;
        Ok(found)
    }

    /// Begins a generation: removes the files of the plan before. Calling it again for the same stamp changes nothing.
    pub fn begin_generation(&self, stamp: &PlanStamp) -> Result<(), CommitError> {
        match self.plan()? {
            Some(found) if found == *stamp => return Ok(()),
            Some(found) if found.generation >= stamp.generation => return Err(self.changed_plan(&found, stamp)),
            Some(_) | None => {}
        }
        // The plan last: after a kill in between, the files that are left are still known as old.
        self.delete(|_| true)?;
        self.write_plan(stamp)
    }

    /// Writes all rows of a split, in place of what was there.
    pub fn write_split(&self, split: u32, batches: &[RecordBatch]) -> Result<(), CommitError> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            let path = self.location.file(&file_name(split));
            return match block_on(self.location.store.delete(&path)) {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(e) => Err(self.storage_error("delete", &path, &e)),
            };
        }
        let mut file = self.split_file(split)?;
        for batch in batches {
            file.write(batch)?;
        }
        file.finish()
    }

    /// Begins the file of a split, which takes the place of what was there when it is finished. For splits that are too large to wait in memory.
    pub fn split_file(&self, split: u32) -> Result<SplitFile, CommitError> {
        let name = file_name(split);
        let aside = format!("{name}.{}{TEMPORARY}", new_commit_id());
        let upload = Upload::start_aside(&self.location, &name, &aside).map_err(|e| CommitError::Shard {
            table: self.name.clone(),
            file: name.clone(),
            reason: e.to_string(),
        })?;
        let writer = WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_encoder_factory(Arc::new(Base64))
            .build::<_, LineDelimited>(BufWriter::with_capacity(1 << 16, upload));
        Ok(SplitFile { table: self.name.clone(), file: name, writer })
    }

    /// Lines of all complete files: what the sums are held against at the end of a run. Reads them once, a piece at a time.
    pub fn row_count(&self) -> Result<u64, CommitError> {
        let base = &self.location.base;
        let listed =
            block_on(self.location.store.list_with_delimiter(Some(base))).map_err(|e| self.storage_error("list", base, &e))?;
        let complete = |path: &Path| path.filename().is_some_and(|name| is_ours(name) && !name.ends_with(TEMPORARY));
        let mut rows = 0;
        for path in listed.objects.into_iter().map(|object| object.location).filter(complete) {
            let lines = block_on(async {
                let mut pieces = self.location.store.get(&path).await?.into_stream();
                let mut lines = 0u64;
                while let Some(piece) = pieces.try_next().await? {
                    lines += piece.iter().filter(|&&byte| byte == b'\n').count() as u64;
                }
                Ok::<_, object_store::Error>(lines)
            });
            rows += lines.map_err(|e| self.storage_error("read", &path, &e))?;
        }
        Ok(rows)
    }

    /// The plan that the files belong to.
    pub fn plan(&self) -> Result<Option<PlanStamp>, CommitError> {
        let path = self.location.file(PLAN_FILE);
        let bytes = match block_on(async { self.location.store.get(&path).await?.bytes().await }) {
            Ok(bytes) => bytes,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.storage_error("read", &path, &error)),
        };
        let stamp = serde_json::from_slice(&bytes);
        stamp
            .map(Some)
            .map_err(|e| CommitError::Log { table: self.name.clone(), reason: format!("{PLAN_FILE} is not understood: {e}") })
    }

    fn write_plan(&self, stamp: &PlanStamp) -> Result<(), CommitError> {
        let path = self.location.file(PLAN_FILE);
        let text = serde_json::to_string(stamp).unwrap_or_default();
        block_on(self.location.store.put(&path, text.into())).map_err(|e| self.storage_error("write", &path, &e))?;
        Ok(())
    }

    /// Deletes those of our files (complete or not) that `which` names.
    fn delete(&self, which: impl Fn(&str) -> bool) -> Result<(), CommitError> {
        let base = &self.location.base;
        let listed =
            block_on(self.location.store.list_with_delimiter(Some(base))).map_err(|e| self.storage_error("list", base, &e))?;
        let names = listed.objects.into_iter().map(|object| object.location);
        let doomed: Vec<Path> = names.filter(|path| path.filename().is_some_and(|name| is_ours(name) && which(name))).collect();
        let deleted = block_on(
            stream::iter(doomed.iter().map(|path| self.location.store.delete(path)))
                .buffer_unordered(DELETES_IN_FLIGHT)
                .filter(|done| std::future::ready(!matches!(done, Err(object_store::Error::NotFound { .. }))))
                .try_collect::<Vec<()>>(),
        );
        deleted.map(|_| ()).map_err(|e| self.storage_error("delete files in", base, &e))
    }

    fn storage_error(&self, action: &'static str, path: &Path, error: &object_store::Error) -> CommitError {
        CommitError::Storage { table: self.name.clone(), action, object: path.to_string(), reason: curette_stores::words(error) }
    }

    fn changed_plan(&self, found: &PlanStamp, mine: &PlanStamp) -> CommitError {
        CommitError::ChangedPlan {
            table: self.name.clone(),
            found: found.plan_hash.clone(),
            found_generation: found.generation,
            mine: mine.plan_hash.clone(),
            my_generation: mine.generation,
        }
    }
}

/// The file of a split that is being written.
pub struct SplitFile {
    table: String,
    file: String,
    writer: arrow_json::Writer<BufWriter<Upload>, LineDelimited>,
}

impl SplitFile {
    fn error(&self, reason: &dyn ToString) -> CommitError {
        CommitError::Shard { table: self.table.clone(), file: self.file.clone(), reason: reason.to_string() }
    }

    /// Adds rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<(), CommitError> {
        self.writer.write(rows).map_err(|e| self.error(&e))
    }

    /// Puts the file in its place.
    pub fn finish(mut self) -> Result<(), CommitError> {
        kill_point("before_shard_finish");
        self.writer.finish().map_err(|e| self.error(&e))?;
        let buffered = self.writer.get_mut();
        let done = buffered.flush().and_then(|()| buffered.get_mut().finish());
        done.map_err(|e| self.error(&e))?;
        kill_point("after_shard_finish");
        Ok(())
    }
}

fn file_name(split: u32) -> String {
    format!("split-{split:08}.jsonl")
}

/// `split-00000042.jsonl`, or `split-00000042.jsonl.ULID.tmp`.
fn is_ours(name: &str) -> bool {
    let Some((number, ending)) = name.strip_prefix("split-").and_then(|rest| rest.split_once('.')) else { return false };
    let complete = ending == "jsonl" || (ending.starts_with("jsonl.") && ending.ends_with(TEMPORARY));
    complete && number.len() >= 8 && number.bytes().all(|b| b.is_ascii_digit())
}

/// Writes binary values as base64 instead of hexadecimal.
#[derive(Debug)]
struct Base64;

struct Base64Encoder<'a, F: Fn(usize) -> &'a [u8]>(F);

impl<'a, F: Fn(usize) -> &'a [u8]> Encoder for Base64Encoder<'a, F> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        let value = (self.0)(row);
        out.push(b'"');
        let start = out.len();
        // Four characters for three bytes, rounded up.
        out.resize(start + value.len().div_ceil(3) * 4, 0);
        let length = STANDARD.encode_slice(value, &mut out[start..]).unwrap_or(0);
        out.truncate(start + length);
        out.push(b'"');
    }
}

impl EncoderFactory for Base64 {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Binary => Box::new(Base64Encoder(|row| array.as_binary::<i32>().value(row))),
            DataType::LargeBinary => Box::new(Base64Encoder(|row| array.as_binary::<i64>().value(row))),
            DataType::FixedSizeBinary(_) => Box::new(Base64Encoder(|row| array.as_fixed_size_binary().value(row))),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Float64Array, StringArray, StructArray};
    use arrow::datatypes::Field;

    use super::*;

    fn rows() -> RecordBatch {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&b"\x00\xffvideo"[..]), None]));
        let clip = StructArray::from(vec![(Arc::new(Field::new("bytes", DataType::Binary, true)), bytes)]);
        RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
            ("x", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            ("clip", Arc::new(clip)),
        ])
        .unwrap()
    }

    fn stamp(plan: &str, generation: u64) -> PlanStamp {
        PlanStamp { plan_hash: plan.into(), generation }
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_split_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let sink = JsonlDir::open("out", dir.path().to_str().unwrap()).unwrap();
        sink.write_split(42, &[rows(), rows()]).unwrap();
        sink.write_split(42, &[rows()]).unwrap();
        let text = std::fs::read_to_string(dir.path().join("split-00000042.jsonl")).unwrap();
        insta::assert_snapshot!(text, @r#"
        {"id":"a","x":0.5,"clip":{"bytes":"AP92aWRlbw=="}}
        {"id":"b","x":null,"clip":{"bytes":null}}
        "#);
        assert_eq!(sink.row_count().unwrap(), 2);
        let mut large = sink.split_file(43).unwrap();
        large.write(&rows()).unwrap();
        assert_eq!(sink.row_count().unwrap(), 2, "what is not finished does not count");
        large.write(&rows()).unwrap();
        large.finish().unwrap();
        assert_eq!(sink.row_count().unwrap(), 6);
        sink.write_split(43, &[]).unwrap();
        sink.write_split(42, &[]).unwrap();
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn plans_never_mix() {
        let dir = tempfile::tempdir().unwrap();
        let sink = JsonlDir::open("out", dir.path().to_str().unwrap()).unwrap();
        sink.claim(&stamp("p", 1)).unwrap();
        sink.write_split(1, &[rows()]).unwrap();
        std::fs::write(dir.path().join("split-00000002.jsonl.01JD0000000000000000000000.tmp"), "half").unwrap();
        std::fs::write(dir.path().join("notes.jsonl"), "not ours").unwrap();
        sink.claim(&stamp("p", 1)).unwrap();
        assert_eq!(names(dir.path()).len(), 4, "another attempt may be writing");
        assert_eq!(sink.remove_half_made().unwrap(), (1, 4));
        assert_eq!(names(dir.path()), ["_plan.json", "notes.jsonl", "split-00000001.jsonl"]);
        assert!(matches!(sink.claim(&stamp("q", 1)), Err(CommitError::ChangedPlan { .. })));
        assert!(matches!(sink.begin_generation(&stamp("q", 1)), Err(CommitError::ChangedPlan { .. })));
        sink.begin_generation(&stamp("q", 2)).unwrap();
        assert_eq!(names(dir.path()), ["_plan.json", "notes.jsonl"]);
        sink.write_split(3, &[rows()]).unwrap();
        sink.begin_generation(&stamp("q", 2)).unwrap();
        sink.claim(&stamp("q", 2)).unwrap();
        assert_eq!(names(dir.path()), ["_plan.json", "notes.jsonl", "split-00000003.jsonl"]);
    }
}
