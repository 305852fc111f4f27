//! The ledger of planning rounds: a committed table in which each round is one atomic entry.
//!
//! A round says which files it saw for the first time and which were gone, the records of the new files as numbers, the channels that qualified and
//! the videos that were listed. So a later round reads only new files of the catalogue, and of the records that are known only those whose channel it
//! asks about; and a run that is killed finds a round whole or not at all. The rows of all of this share one table, told apart by `part`, because one
//! table is what one log entry can make true:
//!
//! | part | file | row | channel, video | medical, all | name | identity |
//! |---|---|---|---|---|---|---|
//! | `file` | its number | its rows | | | role and path | what tells its content |
//! | `gone` | its number | | | | | |
//! | `record` | where | where | numbers of the ids | | | |
//! | `channel` | | | number | what it qualified with | | |
//! | `video` | where | where | numbers | | its id | |
//! | `work` | | | | | what it looked at, as JSON ([`Touched`]) | |
//!
//! Records are sorted by channel (see [`super::rows`]), so looking some channels up decodes the pages that they may be in and no others.
//!
//! A run that is killed may leave a file in the folder that no log entry names. The name says for which round it was made; when that round is
//! committed, by whomever, nobody can name the file any more, and it is deleted.
//!
//! What can go wrong: two runs that plan the same round at once; the second is told to run again. Another rule than the ledger's: refused, since
//! qualification stays.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{Int32Type, Int64Type};
use curette_engine::commit::{CommitError, Outcome as Committed, Pages, PlanStamp, RowSelection, SplitSet, Table};
use serde::{Deserialize, Serialize};

use crate::expand::{Qualified, Record};
use crate::rows::{BATCH_ROWS, Columns, Line, Lines, spec};

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

/// What a round looked at, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Touched {
    /// Records of files that no round had seen, read from the tables.
    pub new_records: u64,
    /// Rows of these files that have no id, left out.
    pub without_id: u64,
    /// Records of files that are known and still there.
    pub known_records: u64,
    /// Channels whose known records were asked for.
    pub channels_asked: u64,
    /// Known records that came back: those of these channels.
    pub loaded_records: u64,
    /// Rows of the ledger that were decoded to find them.
    pub decoded_rows: u64,
    /// Pairs of channel and video that the join gave.
    pub joined_pairs: u64,
}

/// Which records are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Those of these channels.
    Channels(&'a BTreeSet<u64>),
    /// Those of these files.
    Files(&'a BTreeSet<i32>),
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
    /// What it looked at.
    pub touched: Touched,
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
        let all: Vec<String> = table.schema().fields().iter().map(|f| f.name().clone()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        for file in table.files()? {
            let pages = table.pages(&file.name, "part")?;
            let (mins, maxes) = (pages.mins.as_string_opt::<i32>().cloned(), pages.maxes.as_string_opt::<i32>().cloned());
            let only_records = |bounds: &Option<StringArray>, at: usize| {
                bounds.as_ref().is_some_and(|b| b.is_valid(at) && b.value(at) == "record")
            };
            let (rows, some) = pages.select(|at| !(only_records(&mins, at) && only_records(&maxes, at)));
            if some > 0 {
                for batch in table.read_file(&file.name, &all, BATCH_ROWS, Some(rows))? {
                    self.add(&Columns::of(&batch?).ok_or_else(|| self.damaged("it has other columns"))?, &mut rounds)?;
                }
            }
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
                "work" => {
                    let text = text(&columns.texts[0])?;
                    let damaged = |e: serde_json::Error| self.damaged(format!("a row of part `work` is no JSON: {e}"));
                    round.touched = serde_json::from_str(&text).map_err(damaged)?;
                }
                other => return Err(self.damaged(format!("it has rows of an unknown part `{other}`"))),
            }
        }
        Ok(())
    }

    /// Calls `each` for every record that is asked for and whose file is in `live`, with its place. A record of a medical file is one. Gives the
    /// number of rows that were decoded for it.
    pub fn records<E: From<LedgerError>>(
        &self,
        live: &BTreeSet<i32>,
        which: Which,
        mut each: impl FnMut(Place, u64, u64) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Some((table, _)) = self.open()? else { return Ok(0) };
        let (by, wanted): (&str, BTreeSet<i64>) = match which {
            Which::Channels(channels) => ("channel", channels.iter().map(|c| *c as i64).collect()),
            Which::Files(files) => ("file", files.iter().map(|f| i64::from(*f)).collect()),
        };
        let columns = ["part", "file", "row", "channel", "video"];
        let mut decoded = 0;
        for file in table.files().map_err(LedgerError::from)? {
            let pages = table.pages(&file.name, by).map_err(LedgerError::from)?;
            let (rows, some) = where_it_may_be(&pages, &wanted);
            decoded += some;
            if some == 0 {
                continue;
            }
            for batch in table.read_file(&file.name, &columns, BATCH_ROWS, Some(rows)).map_err(LedgerError::from)? {
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
                    let key = if by == "file" { i64::from(file.value(at)) } else { channel.value(at) };
                    if part.value(at) == "record" && wanted.contains(&key) && live.contains(&file.value(at)) {
                        each((file.value(at), row.value(at) as u64), channel.value(at) as u64, video.value(at) as u64)?;
                    }
                }
            }
        }
        Ok(decoded)
    }

    /// Commits a round: all of it or nothing. `records` gives those of the round's new files, a place and two numbers each, to the function that it
    /// is given.
    pub fn commit<E: From<LedgerError>>(
        &self,
        number: u32,
        round: &Round,
        records: impl FnOnce(&mut dyn FnMut(Place, Record) -> Result<(), LedgerError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let table = Table::open_or_create(&spec(&self.place)).map_err(LedgerError::from)?;
        let mut lines = Lines::new(number, &table, &attempt_of(number));
        self.write_small(&mut lines, round).map_err(LedgerError::from)?;
        records(&mut |place, record| lines.record(place, record).map_err(LedgerError::from))?;
        let shards = lines.finish().map_err(LedgerError::from)?;
        let stamp = PlanStamp { plan_hash: self.rule.clone(), generation: 0 };
        let mut splits = SplitSet::new();
        splits.insert(number);
        let outcome = table.commit(&stamp, &splits, &shards).map_err(LedgerError::from)?;
        // Whoever has won: files for this round or an earlier one, unnamed by now, can never be named.
        match table.give_up(|name| round_of_file(name).is_some_and(|round| round <= number)) {
            Ok(swept) if swept.files > 0 => tracing::info!(files = swept.files, "Removed what killed runs left in the ledger"),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "What killed runs left in the ledger could not be removed"),
        }
        match outcome {
            Committed::Committed { .. } => Ok(()),
            Committed::AlreadyDone | Committed::PartlyDone { .. } => {
                Err(LedgerError::LostTo { place: self.place.clone(), round: number }.into())
            }
        }
    }

    fn write_small(&self, lines: &mut Lines, round: &Round) -> Result<(), CommitError> {
        let touched = serde_json::to_string(&round.touched).unwrap_or_default();
        lines.push(Line { part: "work", name: Some(&touched), ..Line::default() })?;
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

/// The rows of pages whose bounds leave room for a wanted number.
fn where_it_may_be(pages: &Pages, wanted: &BTreeSet<i64>) -> (RowSelection, u64) {
    let number = |bounds: &ArrayRef, at: usize| -> Option<i64> {
        let int = bounds.as_primitive_opt::<Int32Type>().filter(|b| b.is_valid(at)).map(|b| i64::from(b.value(at)));
        int.or_else(|| bounds.as_primitive_opt::<Int64Type>().filter(|b: &&Int64Array| b.is_valid(at)).map(|b| b.value(at)))
    };
    pages.select(|at| match (number(&pages.mins, at), number(&pages.maxes, at)) {
        (Some(min), Some(max)) => wanted.range(min..=max).next().is_some(),
        _ => !wanted.is_empty(),
    })
}

/// Bits of an attempt's random part below the round.
const RANDOM_BITS: u32 = 48;

/// A unique name for the files of a round, which says of which.
fn attempt_of(round: u32) -> String {
    let unique = ulid::Ulid::generate();
    let random = unique.random() & ((1 << RANDOM_BITS) - 1);
    ulid::Ulid::from_parts(unique.timestamp_ms(), (u128::from(round) << RANDOM_BITS) | random).to_string()
}

/// The round that a file was made for.
fn round_of_file(name: &str) -> Option<u32> {
    let attempt = name.strip_prefix("part-")?.split('-').next()?;
    u32::try_from(ulid::Ulid::from_string(attempt).ok()?.random() >> RANDOM_BITS).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_its_round() {
        for round in [0, 1, 77, u32::MAX] {
            let names = [attempt_of(round), attempt_of(round)];
            assert_ne!(names[0], names[1]);
            assert_eq!(round_of_file(&format!("part-{}-00003.parquet", names[0])), Some(round));
        }
        assert_eq!(round_of_file("part-x-00000.parquet"), None);
    }
}
