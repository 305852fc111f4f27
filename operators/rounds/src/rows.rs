//! The rows of the ledger's table: how they are written, and how their columns are found.
//!
//! Records are written sorted by channel, in runs of [`RUN_RECORDS`] and pages of [`PAGE_ROWS`] rows, so that a round finds those of few channels by
//! the bounds of pages. What can go wrong: see [`super::ledger`].

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Int32Array, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use curette_engine::commit::{CommitError, Shard, ShardWriter, Table, TableSpec};

use crate::expand::Record;
use crate::ledger::Place;

/// Rows of a batch that is written or read.
pub(crate) const BATCH_ROWS: usize = 1 << 16;
/// Rows of a page: what must be decoded to find the records of one channel in a run.
pub(crate) const PAGE_ROWS: usize = 1024;
/// Records that are sorted at once, 32 bytes each.
pub(crate) const RUN_RECORDS: usize = 1 << 22;

/// The table of a ledger.
pub(crate) fn spec(place: &str) -> TableSpec {
    TableSpec {
        name: "ledger".into(),
        location: place.to_owned(),
        schema: schema(),
        target_shard_bytes: 256 << 20,
        row_group_bytes: 16 << 20,
        zstd_level: 3,
        dictionary_columns: vec!["part".into()],
        page_rows: Some(PAGE_ROWS),
    }
}

fn schema() -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        Field::new("round", DataType::Int32, false),
        Field::new("part", DataType::Utf8, false),
        Field::new("file", DataType::Int32, true),
        number("row"),
        number("channel"),
        number("video"),
        number("medical"),
        number("all"),
        Field::new("name", DataType::Utf8, true),
        Field::new("identity", DataType::Utf8, true),
    ]))
}

/// One row of the table, before it is one.
#[derive(Default)]
pub(crate) struct Line<'a> {
    pub part: &'a str,
    pub file: Option<i32>,
    pub row: Option<u64>,
    pub channel: Option<u64>,
    pub video: Option<u64>,
    pub counts: Option<(u64, u64)>,
    pub name: Option<&'a str>,
    pub identity: Option<&'a str>,
}

/// Rows on their way into a shard.
pub(crate) struct Lines<'a> {
    round: i32,
    table: &'a Table,
    attempt: String,
    shard: ShardWriter,
    full: Vec<Shard>,
    parts: StringBuilder,
    files: Int32Builder,
    numbers: [Int64Builder; 5],
    texts: [StringBuilder; 2],
    rows: usize,
    /// Channel and video as the table has them, and the place.
    run: Vec<(i64, i64, Place)>,
}

impl<'a> Lines<'a> {
    /// For a round of the table; `attempt` names its files.
    pub fn new(round: u32, table: &'a Table, attempt: &str) -> Self {
        Lines {
            round: round as i32,
            table,
            shard: table.shard_writer(attempt),
            attempt: attempt.to_owned(),
            full: Vec::new(),
            parts: StringBuilder::new(),
            files: Int32Builder::new(),
            numbers: Default::default(),
            texts: Default::default(),
            rows: 0,
            run: Vec::new(),
        }
    }

    /// The last of the shards is complete.
    pub fn finish(mut self) -> Result<Vec<Shard>, CommitError> {
        self.sort()?;
        self.flush()?;
        self.full.push(self.shard.finish()?);
        Ok(self.full)
    }

    /// Adds a record; it is written when the run is sorted.
    pub fn record(&mut self, place: Place, record: Record) -> Result<(), CommitError> {
        self.run.push((record.channel as i64, record.video as i64, place));
        if self.run.len() >= RUN_RECORDS { self.sort() } else { Ok(()) }
    }

    fn sort(&mut self) -> Result<(), CommitError> {
        let mut run = std::mem::take(&mut self.run);
        run.sort_unstable();
        for (channel, video, place) in &run {
            self.push(Line {
                part: "record",
                file: Some(place.0),
                row: Some(place.1),
                channel: Some(*channel as u64),
                video: Some(*video as u64),
                ..Line::default()
            })?;
        }
        run.clear();
        self.run = run;
        Ok(())
    }

    /// Adds a row.
    pub fn push(&mut self, line: Line) -> Result<(), CommitError> {
        self.parts.append_value(line.part);
        self.files.append_option(line.file);
        // Numbers of ids use all 64 bits; the table has signed ones.
        let signed = |n: u64| n as i64;
        let numbers = [line.row, line.channel, line.video, line.counts.map(|c| c.0), line.counts.map(|c| c.1)];
        self.numbers.iter_mut().zip(numbers).for_each(|(to, n)| to.append_option(n.map(signed)));
        self.texts.iter_mut().zip([line.name, line.identity]).for_each(|(to, text)| to.append_option(text));
        self.rows += 1;
        if self.rows >= BATCH_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CommitError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from_value(self.round, self.rows)),
            Arc::new(self.parts.finish()),
            Arc::new(self.files.finish()),
        ];
        columns.extend(self.numbers.iter_mut().map(|n| Arc::new(n.finish()) as ArrayRef));
        columns.extend(self.texts.iter_mut().map(|t| Arc::new(t.finish()) as ArrayRef));
        self.rows = 0;
        let batch = RecordBatch::try_new(schema(), columns).unwrap_or_else(|e| panic!("the columns of a ledger do not fit: {e}"));
        self.shard.write(&batch)?;
        if self.shard.is_full() {
            let next = self.table.shard_writer(&self.attempt);
            self.full.push(std::mem::replace(&mut self.shard, next).finish()?);
        }
        Ok(())
    }
}

/// The columns of a batch.
pub(crate) struct Columns {
    pub round: Int32Array,
    pub part: StringArray,
    pub file: Int32Array,
    pub numbers: [Int64Array; 5],
    pub texts: [StringArray; 2],
}

impl Columns {
    /// `None`: they are others.
    pub fn of(batch: &RecordBatch) -> Option<Columns> {
        let column = |name: &str| batch.column_by_name(name);
        let int = |name: &str| column(name)?.as_primitive_opt::<Int32Type>().cloned();
        let long = |name: &str| column(name)?.as_primitive_opt::<Int64Type>().cloned();
        let text = |name: &str| column(name)?.as_string_opt::<i32>().cloned();
        Some(Columns {
            round: int("round")?,
            part: text("part")?,
            file: int("file")?,
            numbers: [long("row")?, long("channel")?, long("video")?, long("medical")?, long("all")?],
            texts: [text("name")?, text("identity")?],
        })
    }
}
