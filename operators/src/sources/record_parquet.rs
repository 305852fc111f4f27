//! Records in Parquet: parts of row groups, the columns that are read and no others.
//!
//! Types are cast where they mean the same (text of any layout, numbers of any width, numbers in text); what cannot be cast is unknown.
//!
//! What can go wrong: a writer that makes one huge row group. Parts are cut inside of it too, and pages before a part are skipped where the file has
//! an index of them; where it has none they are decompressed for each part.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, NullArray, RecordBatch, StringArray, new_null_array};
use arrow::compute::{concat_batches, kernels::zip::zip};
use arrow::datatypes::DataType;
use curette_engine::verdict::{Problem, Verdict};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelector};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

use super::files::{FileError, Files, is_url};
use super::ranged::{Ask, InStore, Ranged};
use super::record_columns::{Column, Holds, ID, Wanted, date};
use super::record_kept as kept;
use crate::filters::filter::Condition;

/// Rows of a part at most: with texts of a few hundred bytes some 50 MB.
pub const PART_ROWS: u64 = 131_072;
/// A footer above this is refused.
const MAX_FOOTER_BYTES: usize = 256 << 20;

/// Rows `from..from + rows` of a row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Row group, from 0.
    pub group: usize,
    /// First row in the group.
    pub from: u64,
    /// How many.
    pub rows: u64,
    /// Rows of the file before it.
    pub before: u64,
    /// Its share of the group's bytes in memory.
    pub bytes: u64,
}

fn open(files: &Arc<Files>, uri: &str, bytes: u64) -> Result<ParquetRecordBatchReaderBuilder<Ranged>, ParquetError> {
    refuse_long_footers(files, uri, bytes)?;
    ParquetRecordBatchReaderBuilder::try_new_with_options(Ranged::new(files, uri, bytes), options())
}

fn refuse_long_footers(files: &Arc<Files>, uri: &str, bytes: u64) -> Result<(), ParquetError> {
    let tail = Ranged::new(files, uri, bytes).range(bytes - bytes.min(8), bytes)?;
    let size = tail.get(..4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
    match size > MAX_FOOTER_BYTES {
        true => Err(ParquetError::General(format!("a footer of {size} bytes; the limit is {MAX_FOOTER_BYTES}"))),
        false => Ok(()),
    }
}

/// The plain types of the columns, not those of the writer's own library.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_offset_index_policy(PageIndexPolicy::Optional)
}

/// The parts of a file.
pub fn parts(files: &Arc<Files>, uri: &str, bytes: u64) -> Result<Vec<Part>, FileError> {
    let unreadable = |e: ParquetError| FileError::Unreadable { uri: uri.into(), reason: e.to_string() };
    let builder = open(files, uri, bytes).map_err(unreadable)?;
    let mut parts = Vec::new();
    let mut before = 0;
    for (group, meta) in builder.metadata().row_groups().iter().enumerate() {
        let rows = u64::try_from(meta.num_rows()).unwrap_or_default();
        let bytes = u64::try_from(meta.total_byte_size()).unwrap_or_default();
        for from in (0..rows).step_by(PART_ROWS as usize) {
            let here = PART_ROWS.min(rows - from);
            parts.push(Part {
                group,
                from,
                rows: here,
                before: before + from,
                bytes: (bytes as f64 * here as f64 / rows as f64) as u64,
            });
        }
        before += rows;
    }
    Ok(parts)
}

/// A file to read from.
pub struct File<'a> {
    /// What reads.
    pub files: &'a Arc<Files>,
    /// Where it is.
    pub uri: &'a str,
    /// Its name for people.
    pub name: &'a str,
    /// The input's key: the id of what cannot be read.
    pub key: &'a str,
    /// Its size.
    pub bytes: u64,
}

/// Reads a part. A file that breaks off gives the rows before, and then a row with the reason whose id is the file's key. With a condition its
/// columns are read first, and the others for those rows that go on.
pub fn read(file: &File, part: &Part, wanted: &Wanted, condition: Option<&Condition>) -> (Vec<Verdict>, Vec<ArrayRef>) {
    let decides = |name: &str| condition.is_none_or(|c| name == ID.name || c.columns().contains(&name));
    let first = wanted.those(decides);
    let (batch, mut broken) = batch(file, part, &first, None);
    let rows = batch.as_ref().map_or(0, RecordBatch::num_rows);
    let mut columns = arrays(batch.as_ref(), &first, rows);
    let mut verdicts = vec![Verdict::Pass; rows];
    let ids = place_ids(file, part, &columns[0], &mut verdicts);
    columns[0] = ids;
    if let Some(condition) = condition {
        kept::judge(condition, &first, &columns, &mut verdicts);
        let late = wanted.those(|name| !decides(name));
        let going: Vec<usize> = (0..rows).filter(|row| matches!(verdicts[*row], Verdict::Pass)).collect();
        let (found, why) = match late.is_any_read() && !going.is_empty() {
            true => self::batch(file, part, &late, Some(&going)),
            false => (None, None),
        };
        let got = found.as_ref().map_or(0, RecordBatch::num_rows);
        if late.is_any_read() && got < going.len() {
            broken = why.or(broken).or_else(|| Some("fewer rows than before".into()));
            verdicts.truncate(going[got]);
            columns.iter_mut().for_each(|column| *column = column.slice(0, going[got]));
        }
        let spread = kept::spread(&arrays(found.as_ref(), &late, got), &going[..got.min(going.len())], verdicts.len());
        let places = columns.iter_mut().zip(late.columns()).zip(spread);
        places.filter(|((_, (_, read)), _)| *read).for_each(|((column, _), array)| *column = array);
    }
    if let Some(reason) = broken {
        let File { uri, key, .. } = file;
        let message = format!("{uri}: row {} and what follows in this part: {reason}", part.before + verdicts.len() as u64 + 1);
        verdicts.push(Verdict::unmeasured("file_unreadable", message));
        columns = columns.iter().enumerate().map(|(at, column)| with_one_more(column, (at == 0).then_some(key))).collect();
    }
    (verdicts, columns)
}

/// The wanted columns of a batch; nothing in those that are not read.
fn arrays(batch: Option<&RecordBatch>, wanted: &Wanted, rows: usize) -> Vec<ArrayRef> {
    let array = |(column, read): (&Column, bool)| match (batch, read) {
        (Some(batch), true) => values(batch, column),
        (None, true) => new_null_array(&column.holds.data_type(), rows),
        (_, false) => Arc::new(NullArray::new(rows)) as ArrayRef,
    };
    wanted.columns().map(array).collect()
}

/// The ids. Rows that have none get their place as id, and a verdict.
fn place_ids(file: &File, part: &Part, ids: &ArrayRef, verdicts: &mut [Verdict]) -> ArrayRef {
    if ids.null_count() == 0 {
        return Arc::clone(ids);
    }
    let ids = ids.as_string::<i32>();
    let placed = verdicts.iter_mut().enumerate().map(|(row, verdict)| match ids.is_valid(row) {
        true => ids.value(row).to_owned(),
        false => {
            let place = format!("{}:{}", file.name, part.before + row as u64 + 1);
            *verdict = Verdict::Unmeasured(Problem::new("no_id", format!("{place}: the record has no `id`")));
            place
        }
    });
    Arc::new(StringArray::from_iter_values(placed))
}

/// The column and a last row: this text, or nothing.
fn with_one_more(column: &ArrayRef, text: Option<&str>) -> ArrayRef {
    let last: ArrayRef = match text {
        Some(text) => Arc::new(StringArray::from(vec![text])),
        None => new_null_array(column.data_type(), 1),
    };
    // Both have one type.
    arrow::compute::concat(&[column.as_ref(), last.as_ref()]).unwrap_or(last)
}

/// What could be read of a part, and why not all; of its rows only the `chosen` ones (ascending).
fn batch(file: &File, part: &Part, wanted: &Wanted, chosen: Option<&[usize]>) -> (Option<RecordBatch>, Option<String>) {
    let (mut batches, mut broken) = (Vec::new(), None);
    let all = part.rows as usize;
    let chosen = chosen.filter(|rows| rows.len() < all);
    let reader = match is_url(file.uri) {
        true => in_store(file, part, wanted, chosen),
        false => on_disk(file, part, wanted, chosen).map_err(|e| e.to_string()),
    };
    let reader = match reader {
        Ok(reader) => reader,
        Err(e) => return (None, Some(e)),
    };
    for batch in reader {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(e) => broken = Some(e),
        }
        if broken.is_some() {
            break;
        }
    }
    match batches.len() {
        0 => (None, broken),
        1 => (batches.pop(), broken),
        _ => match concat_batches(&batches[0].schema(), &batches) {
            Ok(batch) => (Some(batch), broken),
            Err(e) => (None, Some(e.to_string())),
        },
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, String>>>;

fn on_disk(file: &File, part: &Part, wanted: &Wanted, chosen: Option<&[usize]>) -> Result<Batches, ParquetError> {
    let builder = open(file.files, file.uri, file.bytes)?;
    let schema = Arc::clone(builder.schema());
    let roots = schema.fields().iter().enumerate().filter(|(_, f)| wanted.place(f.name()).is_some()).map(|(at, _)| at);
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let builder = builder.with_projection(mask).with_row_groups(vec![part.group]);
    let reader = match chosen {
        Some(rows) => builder.with_row_selection(kept::selection(part.from as usize, rows)).with_batch_size(rows.len().max(1)),
        None => builder.with_offset(part.from as usize).with_limit(part.rows as usize).with_batch_size(part.rows as usize),
    };
    Ok(Box::new(reader.build()?.map(|batch| batch.map_err(|e| e.to_string()))))
}

fn in_store(file: &File, part: &Part, wanted: &Wanted, chosen: Option<&[usize]>) -> Result<Batches, String> {
    refuse_long_footers(file.files, file.uri, file.bytes).map_err(|e| e.to_string())?;
    let from = part.from as usize;
    let rows = match chosen {
        Some(rows) => kept::selection(from, rows),
        None => {
            let skip = (from > 0).then(|| RowSelector::skip(from));
            skip.into_iter().chain([RowSelector::select(part.rows as usize)]).collect::<Vec<_>>().into()
        }
    };
    let ask = Ask {
        column: &|name: &str| wanted.place(name).is_some(),
        batch_rows: chosen.map_or(part.rows as usize, |rows| rows.len().max(1)),
        rows: Some(rows),
        group: Some(part.group),
        options: options(),
    };
    Ok(Box::new(InStore::open(file.files, file.uri, file.bytes, ask)?))
}

/// A column from the inputs that it may come from: the first that has a value.
fn values(batch: &RecordBatch, column: &Column) -> ArrayRef {
    let unknown = || new_null_array(&column.holds.data_type(), batch.num_rows());
    let found = column.from.iter().filter_map(|name| batch.column_by_name(name)).filter_map(|array| cast(array, column.holds));
    found
        .reduce(|better, other| match better.null_count() {
            0 => better,
            _ => arrow::compute::is_not_null(&better).and_then(|known| zip(&known, &better, &other)).unwrap_or(better),
        })
        .unwrap_or_else(unknown)
}

/// The array in the type of its column; `None` where types have nothing in common.
fn cast(array: &ArrayRef, holds: Holds) -> Option<ArrayRef> {
    let to = holds.data_type();
    let nested = array.data_type().is_nested();
    let convert =
        |array: &ArrayRef| (array.data_type() == &to).then(|| Arc::clone(array)).or_else(|| arrow_cast::cast(array, &to).ok());
    match holds {
        Holds::Texts if nested => convert(array),
        Holds::Texts => split(arrow_cast::cast(array, &DataType::Utf8).ok()?.as_string_opt::<i32>()?),
        Holds::Text if !is_text(array.data_type()) => None,
        Holds::Word | Holds::Date if nested || array.data_type().is_floating() => None,
        _ if nested => None,
        Holds::Word => convert(array).map(without_blanks),
        Holds::Date => convert(array)?.as_string_opt::<i32>().map(days),
        Holds::Text | Holds::Number | Holds::Whole => convert(array),
    }
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        other => matches!(other, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary),
    }
}

fn split(texts: &StringArray) -> Option<ArrayRef> {
    let mut lists = arrow::array::ListBuilder::new(arrow::array::StringBuilder::new());
    for text in texts {
        match text.filter(|t| !t.is_empty()) {
            Some(text) => lists.append_value(text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(Some)),
            None => lists.append_null(),
        }
    }
    Some(Arc::new(lists.finish()))
}

fn days(texts: &StringArray) -> ArrayRef {
    Arc::new(texts.iter().map(|text| date(text?)).collect::<StringArray>())
}

/// Words that are blank are unknown.
fn without_blanks(words: ArrayRef) -> ArrayRef {
    let Some(texts) = words.as_string_opt::<i32>() else { return words };
    let blank = |row: usize| texts.is_valid(row) && texts.value(row).trim().is_empty();
    if !(0..texts.len()).any(blank) {
        return words;
    }
    let blanks: BooleanArray = (0..texts.len()).map(|row| Some(blank(row))).collect();
    arrow::compute::nullif(&words, &blanks).unwrap_or(words)
}
