//! The ledger of planning rounds: a committed table in which each round is one atomic entry.
//!
//! A round says which files it saw for the first time and which were gone, the records of the new files as numbers, the channels that qualified and
//! the videos that were listed. So a later round reads only new files of the catalogue, and a run that is killed finds a round whole or not at all.
//! The rows of all of this share one table, told apart by `part`, because one table is what one log entry can make true:
//!
//! | part | file | row | channel, video | medical, all | name | identity |
//! |---|---|---|---|---|---|---|
//! | `file` | its number | its rows | | | role and path | what tells its content |
//! | `gone` | its number | | | | | |
//! | `record` | where | where | numbers of the ids | | | |
//! | `channel` | | | number | what it qualified with | | |
//! | `video` | where | where | numbers | | its id | |
//!
//! A run that is killed may leave a file in the folder that no log entry names. It is not deleted here, since another run may be about to name it:
//! read the ledger as a Delta table.
//!
//! What can go wrong: two runs that plan the same round at once; the second is told to run again. Another rule than the ledger's: refused, since
//! qualification stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use curette_engine::commit::{CommitError, Outcome as Committed, PlanStamp, Shard, ShardWriter, SplitSet, Table, TableSpec};

use crate::expand::{Qualified, Record};

/// Rows of a batch that is written or read.
const BATCH_ROWS: usize = 1 << 16;

/// Where a round is stored failed.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The table.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// It is of another rule.
    #[error(
        "the ledger at {place} was begun under another rule ({found}) than this one ({mine}), and a channel that has qualified stays so; \
         give the step another `ledger`, or delete that folder to begin anew"
    )]
    OtherRule {
        /// Where it is.
        place: String,
        /// The rule that it was begun under.
        found: String,
        /// The present one.
        mine: String,
    },
    /// A round was committed meanwhile.
    #[error("another run has committed round {round} of the ledger at {place} meanwhile; run the same command again")]
    LostTo {
        /// Where it is.
        place: String,
        /// The round.
        round: u32,
    },
    /// Its rows say what this program would not write.
    #[error("the ledger at {place} is damaged: {reason}; delete that folder to begin anew")]
    Damaged {
        /// Where it is.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// A file that a round saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its number in the ledger.
    pub number: i32,
    /// Role and path, see the caller.
    pub name: String,
    /// What tells its content.
    pub identity: String,
    /// Its rows.
    pub rows: u64,
}

/// Where a row is: number of the file, row in it.
pub type Place = (i32, u64);

/// A listed video.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// The round that listed it.
    pub round: u32,
    /// Rows that are of it, ascending.
    pub places: Vec<Place>,
}

/// What all committed rounds say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Rounds that are committed: the number of the next.
    pub rounds: u32,
    /// Files of the last round, by number.
    pub files: BTreeMap<i32, FileEntry>,
    /// The number of the next file.
    pub next_file: i32,
    /// Channels that have qualified.
    pub channels: BTreeSet<u64>,
    /// Channel and video of what is listed.
    pub videos: BTreeMap<(u64, u64), Listed>,
}

/// What one round adds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Files that it saw first; their numbers follow on [`State::next_file`].
    pub files: Vec<FileEntry>,
    /// Files that are not there any more.
    pub gone: Vec<i32>,
    /// Channels that qualified.
    pub channels: Vec<Qualified>,
    /// Videos that are listed, or found in further rows.
    pub videos: BTreeMap<(u64, u64), Listed>,
}

impl State {
    /// The state after a round, whether it was committed or not.
    pub fn after(mut self, round: &Round) -> State {
        for file in &round.files {
            self.next_file = self.next_file.max(file.number + 1);
            self.files.insert(file.number, file.clone());
        }
        for number in &round.gone {
            self.files.remove(number);
        }
        self.channels.extend(round.channels.iter().map(|c| c.channel));
        for (pair, listed) in &round.videos {
            let there = self.videos.entry(*pair).or_insert_with(|| Listed {
                id: listed.id.clone(),
                round: self.rounds,
                places: Vec::new(),
            });
            there.places.extend(&listed.places);
        }
        for listed in self.videos.values_mut() {
            listed.places.retain(|(file, _)| self.files.contains_key(file));
            listed.places.sort_unstable();
            listed.places.dedup();
        }
        self.rounds += 1;
        self
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
struct Line<'a> {
    part: &'a str,
    file: Option<i32>,
    row: Option<u64>,
    channel: Option<u64>,
    video: Option<u64>,
    counts: Option<(u64, u64)>,
    name: Option<&'a str>,
    identity: Option<&'a str>,
}

/// Rows on their way into a shard.
struct Lines<'a> {
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
}

impl<'a> Lines<'a> {
    fn new(round: u32, table: &'a Table) -> Self {
        let attempt = ulid::Ulid::generate().to_string();
        Lines {
            round: round as i32,
            table,
            shard: table.shard_writer(&attempt),
            attempt,
            full: Vec::new(),
            parts: StringBuilder::new(),
            files: Int32Builder::new(),
            numbers: Default::default(),
            texts: Default::default(),
            rows: 0,
        }
    }

    fn finish(mut self) -> Result<Vec<Shard>, CommitError> {
        self.flush()?;
        self.full.push(self.shard.finish()?);
        Ok(self.full)
    }

    fn push(&mut self, line: Line) -> Result<(), CommitError> {
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

/// The ledger in a folder or store.
pub struct Ledger {
    place: String,
    rule: String,
}

impl Ledger {
    /// At an absolute path or URL, for a rule by its meaning. Nothing is made before the first commit.
    pub fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Ledger { place: place.into(), rule: rule.into() }
    }

    fn open(&self) -> Result<Option<(Table, u32)>, LedgerError> {
        let Some(table) = Table::open_existing("ledger", &self.place)? else { return Ok(None) };
        let state = table.state()?;
        if let Some(found) = state.plan_hash.filter(|found| *found != self.rule) {
            return Err(LedgerError::OtherRule { place: self.place.clone(), found, mine: self.rule.clone() });
        }
        Ok(Some((table, state.done.len() as u32)))
    }

    fn damaged(&self, reason: impl Into<String>) -> LedgerError {
        LedgerError::Damaged { place: self.place.clone(), reason: reason.into() }
    }

    /// What the committed rounds say.
    pub fn state(&self) -> Result<State, LedgerError> {
        let Some((table, committed)) = self.open()? else { return Ok(State::default()) };
        let mut rounds: BTreeMap<u32, Round> = (0..committed).map(|round| (round, Round::default())).collect();
        for batch in table.read_batches(None)?.with_batch_rows(BATCH_ROWS) {
            self.add(&Columns::of(&batch?).ok_or_else(|| self.damaged("it has other columns"))?, &mut rounds)?;
        }
        Ok(rounds.into_values().fold(State::default(), |state, round| state.after(&round)))
    }

    fn add(&self, columns: &Columns, rounds: &mut BTreeMap<u32, Round>) -> Result<(), LedgerError> {
        for row in 0..columns.part.len() {
            let part = columns.part.value(row);
            if part == "record" {
                continue;
            }
            let round = u32::try_from(columns.round.value(row)).ok().and_then(|n| rounds.get_mut(&n));
            let round = round.ok_or_else(|| self.damaged("a row belongs to a round that was not committed"))?;
            let missing = || self.damaged(format!("a row of part `{part}` lacks a value"));
            let file = || columns.file.is_valid(row).then(|| columns.file.value(row)).ok_or_else(missing);
            let number = |at: &Int64Array| at.is_valid(row).then(|| at.value(row) as u64).ok_or_else(missing);
            let text = |at: &StringArray| at.is_valid(row).then(|| at.value(row).to_owned()).ok_or_else(missing);
            let n = &columns.numbers;
            match part {
                "file" => round.files.push(FileEntry {
                    number: file()?,
                    rows: number(&n[0])?,
                    name: text(&columns.texts[0])?,
                    identity: text(&columns.texts[1])?,
                }),
                "gone" => round.gone.push(file()?),
                "channel" => round.channels.push(Qualified {
                    channel: number(&n[1])?,
                    counts: crate::Counts { medical: number(&n[3])?, all: number(&n[4])? },
                }),
                "video" => {
                    let listed = round.videos.entry((number(&n[1])?, number(&n[2])?)).or_default();
                    listed.id = text(&columns.texts[0])?;
                    listed.places.push((file()?, number(&n[0])?));
                }
                other => return Err(self.damaged(format!("it has rows of an unknown part `{other}`"))),
            }
        }
        Ok(())
    }

    /// Calls `each` for every record of the files that are in `live`, with its place. A record of a medical file is one.
    pub fn records<E: From<LedgerError>>(
        &self,
        live: &BTreeSet<i32>,
        mut each: impl FnMut(Place, u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((table, _)) = self.open()? else { return Ok(()) };
        let columns = ["round", "part", "file", "row", "channel", "video"];
        let batches = table.read_batches(Some(&columns)).map_err(LedgerError::from)?.with_batch_rows(BATCH_ROWS);
        for batch in batches {
            let batch = batch.map_err(LedgerError::from)?;
            let column = |name: &str| batch.column_by_name(name);
            let long = |name: &str| column(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
            let file = column("file").and_then(|c| c.as_primitive_opt::<Int32Type>());
            let part = column("part").and_then(|c| c.as_string_opt::<i32>());
            let (Some(part), Some(file), Some(row), Some(channel), Some(video)) =
                (part, file, long("row"), long("channel"), long("video"))
            else {
                return Err(self.damaged("it has other columns").into());
            };
            for at in 0..batch.num_rows() {
                if part.value(at) == "record" && live.contains(&file.value(at)) {
                    each((file.value(at), row.value(at) as u64), channel.value(at) as u64, video.value(at) as u64)?;
                }
            }
        }
        Ok(())
    }

    /// Commits a round: all of it or nothing. `records` gives those of the round's new files, a place and two numbers each, to the function that it
    /// is given.
    pub fn commit<E: From<LedgerError>>(
        &self,
        number: u32,
        round: &Round,
        records: impl FnOnce(&mut dyn FnMut(Place, Record) -> Result<(), LedgerError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = Table::open_or_create(&TableSpec {
            name: "ledger".into(),
            location: self.place.clone(),
            schema: schema(),
            target_shard_bytes: 256 << 20,
            row_group_bytes: 16 << 20,
            zstd_level: 3,
            dictionary_columns: vec!["part".into()],
        })
        .map_err(LedgerError::from)?;
        let mut lines = Lines::new(number, &table);
        self.write_small(&mut lines, round).map_err(LedgerError::from)?;
        records(&mut |place, record| {
            let (file, row) = (Some(place.0), Some(place.1));
            let line =
                Line { part: "record", file, row, channel: Some(record.channel), video: Some(record.video), ..Line::default() };
            lines.push(line).map_err(LedgerError::from)
        })?;
        let shards = lines.finish().map_err(LedgerError::from)?;
        let stamp = PlanStamp { plan_hash: self.rule.clone(), generation: 0 };
        let mut splits = SplitSet::new();
        splits.insert(number);
        match table.commit(&stamp, &splits, &shards).map_err(LedgerError::from)? {
            Committed::Committed { .. } => Ok(()),
            Committed::AlreadyDone | Committed::PartlyDone { .. } => {
                Err(LedgerError::LostTo { place: self.place.clone(), round: number }.into())
            }
        }
    }

    fn write_small(&self, lines: &mut Lines, round: &Round) -> Result<(), CommitError> {
        for f in &round.files {
            let (name, identity) = (Some(&*f.name), Some(&*f.identity));
            lines.push(Line { part: "file", file: Some(f.number), row: Some(f.rows), name, identity, ..Line::default() })?;
        }
        for number in &round.gone {
            lines.push(Line { part: "gone", file: Some(*number), ..Line::default() })?;
        }
        for c in &round.channels {
            let counts = Some((c.counts.medical, c.counts.all));
            lines.push(Line { part: "channel", channel: Some(c.channel), counts, ..Line::default() })?;
        }
        for ((channel, video), listed) in &round.videos {
            for place in &listed.places {
                lines.push(Line {
                    part: "video",
                    file: Some(place.0),
                    row: Some(place.1),
                    channel: Some(*channel),
                    video: Some(*video),
                    name: Some(&listed.id),
                    ..Line::default()
                })?;
            }
        }
        Ok(())
    }
}

struct Columns {
    round: Int32Array,
    part: StringArray,
    file: Int32Array,
    numbers: [Int64Array; 5],
    texts: [StringArray; 2],
}

impl Columns {
    fn of(batch: &RecordBatch) -> Option<Columns> {
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
