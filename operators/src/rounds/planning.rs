//! One planning round of channel expansion: what the tables hold now against what the ledger knows.
//!
//! New files are read for their ids only. Of the records that are known, only those come back from the ledger, as numbers, whose channel this round
//! may let in: one that is not in yet and has new medical records. Why no other can matter: records that are not medical only lower a share, and of a
//! channel that is in every video is listed already. (Where a share is asked, a channel that lost records to a file that is gone may rise, so it is
//! looked up, too.) Both go through the dataflow, a second pass finds where the listed videos stand. Nothing is written before [`Planner::settle`],
//! and the listing is the same before and after it.
//!
//! What can go wrong: tables that change while they are read (a file that vanishes ends the listing with its name), and more records or videos than
//! the limits.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use curette_engine::cluster::Workers;
use curette_engine::commit::kill_point;
use curette_engine::operator::OperatorError;
use curette_rounds::expand::{BATCH_RECORDS, Batch, Expansion, QUEUE_BATCHES, Record, expand};
use curette_rounds::ledger::{FileEntry, Ledger, LedgerError, Listed, Place, Round, State, Touched, Which};
use curette_rounds::{BYTES_PER_RECORD, Rule, ids};

use super::ids::FirstOf;
use crate::sources::files::Files;
use crate::tables::parts::{Part, Parts};

/// A channel and a video, as hashed.
type Pair = (u64, u64);

/// Rows of a batch of ids.
const BATCH_ROWS: usize = 1 << 14;
/// Of the tables: the first one is the catalogue.
pub const ROLES: [&str; 2] = ["catalogue", "medical"];

/// What a planner must know.
pub struct Planner {
    /// Catalogue and medical videos, absolute paths or URLs.
    pub places: [String; 2],
    /// Where rounds are kept.
    pub ledger: Ledger,
    /// When a channel qualifies.
    pub rule: Rule,
    /// Medical videos are listed whether their channel qualifies or not.
    pub keep_medical: bool,
    /// Names of the id columns.
    pub video_columns: Vec<String>,
    /// Names of the channel columns.
    pub channel_columns: Vec<String>,
    /// More records are refused.
    pub max_records: u64,
    /// More listed videos are refused.
    pub max_videos: u64,
    /// Threads of the dataflow.
    pub workers: usize,
}

/// What a look at the tables gave.
pub struct Looked {
    /// What the ledger would say if the pending round were in it.
    pub state: State,
    /// The round that is not committed yet, if the tables differ from the last one.
    pub pending: Option<Round>,
    /// For people.
    pub touched: Touched,
}

fn failed(e: impl std::fmt::Display) -> OperatorError {
    OperatorError::new(e.to_string())
}

/// Errors of reading while the ledger writes.
enum Failed {
    Ledger(LedgerError),
    Other(OperatorError),
}

impl From<LedgerError> for Failed {
    fn from(e: LedgerError) -> Failed {
        Failed::Ledger(e)
    }
}

impl From<Failed> for OperatorError {
    fn from(e: Failed) -> OperatorError {
        match e {
            Failed::Ledger(e) => failed(e),
            Failed::Other(e) => e,
        }
    }
}

/// What was given to the dataflow, besides the new records.
#[derive(Default)]
struct Fed {
    /// Pairs of new medical rows, where they are kept in any case.
    medical: HashSet<Pair>,
    /// Records that came from the ledger: 32 bytes each, of the channels that were asked for.
    loaded: Vec<(Pair, Place)>,
    touched: Touched,
}

/// A row of a table as the planner sees it.
struct Seen<'a> {
    place: Place,
    record: Record,
    id: &'a str,
}

impl Planner {
    /// The tables, each by itself, so that one that is missing can be named.
    pub fn tables(&self, files: &Files) -> [Result<Parts, String>; 2] {
        self.places.each_ref().map(|place| Parts::open(place, files))
    }

    fn opened(&self, files: &Files) -> Result<[Parts; 2], OperatorError> {
        let named = |role: usize, parts: Result<Parts, String>| {
            parts.map_err(|e| OperatorError::new(format!("`{}` {}: {e}", ROLES[role], self.places[role])))
        };
        let [catalogue, medical] = self.tables(files);
        Ok([named(0, catalogue)?, named(1, medical)?])
    }

    /// Looks at the tables and plans what is new. Writes nothing.
    pub fn look(&self, files: &Arc<Files>) -> Result<Looked, OperatorError> {
        let tables = self.opened(files)?;
        let state = self.ledger.state().map_err(failed)?;
        let mut now: BTreeMap<String, Part> = BTreeMap::new();
        for (role, table) in tables.iter().enumerate() {
            let parts =
                table.list(files).map_err(|e| OperatorError::new(format!("`{}` {}: {e}", ROLES[role], self.places[role])))?;
            now.extend(parts.into_iter().map(|part| (format!("{}/{}", ROLES[role], part.name), part)));
        }
        let all: u64 = now.values().map(|p| p.rows).sum();
        if all > self.max_records {
            let gib = (all * BYTES_PER_RECORD).div_ceil(1 << 30);
            return Err(OperatorError::new(format!(
                "the tables hold {all} records, more than max_records = {}",
                self.max_records
            ))
            .help(format!(
                "raise max_records if there is memory: each record takes about {BYTES_PER_RECORD} bytes, these about {gib} GiB"
            )));
        }
        let old: HashSet<(&str, &str)> = state.files.values().map(|f| (&*f.name, &*f.identity)).collect();
        let is_known = |name: &str, part: &Part| old.contains(&(name, &*part.identity));
        let known: HashSet<String> =
            now.iter().filter(|(name, part)| is_known(name, part)).map(|(name, _)| name.clone()).collect();
        let stays = |f: &FileEntry| known.contains(&f.name) && now.get(&f.name).is_some_and(|part| part.identity == f.identity);
        let gone: Vec<i32> = state.files.values().filter(|f| !stays(f)).map(|f| f.number).collect();
        let new: Vec<FileEntry> = now
            .iter()
            .filter(|(name, _)| !known.contains(*name))
            .zip(state.next_file..)
            .map(|((name, part), number)| FileEntry {
                number,
                name: name.clone(),
                identity: part.identity.clone(),
                rows: part.rows,
            })
            .collect();
        let known_records = state.files.values().filter(|f| stays(f)).map(|f| f.rows).sum();
        if new.is_empty() && gone.is_empty() {
            return Ok(Looked { state, pending: None, touched: Touched { known_records, ..Touched::default() } });
        }
        let mut round = Round { files: new, gone, ..Round::default() };
        round.touched.known_records = known_records;
        self.plan(files, &tables, &state, &mut round)?;
        let after = state.after(&round);
        if after.videos.len() as u64 > self.max_videos {
            let message = format!("{} videos would be listed, more than max_videos = {}", after.videos.len(), self.max_videos);
            return Err(
                OperatorError::new(message).help("raise min_videos or min_share, or max_videos if the plan may be that large")
            );
        }
        let touched = round.touched.clone();
        Ok(Looked { state: after, pending: Some(round), touched })
    }

    /// Files of the state that the round does not lose.
    fn live(state: &State, round: &Round) -> BTreeSet<i32> {
        state.files.keys().copied().filter(|number| !round.gone.contains(number)).collect()
    }

    fn plan(&self, files: &Arc<Files>, tables: &[Parts; 2], state: &State, round: &mut Round) -> Result<(), OperatorError> {
        let (expansion, fed) = self.expand(files, tables, state, round)?;
        let Fed { medical: mut wanted, loaded, touched } = fed;
        round.touched = touched;
        round.touched.joined_pairs = expansion.work.iter().map(|w| w.joined).sum();
        let outcome = expansion.rounds.into_iter().next().unwrap_or_default();
        round.channels = outcome.channels;
        wanted.extend(outcome.videos);
        wanted.retain(|pair| !state.videos.contains_key(pair));
        let mut videos: BTreeMap<Pair, Listed> = BTreeMap::new();
        for file in &round.files {
            self.rows_of(files, tables, file, |seen| {
                let pair = (seen.record.channel, seen.record.video);
                if wanted.contains(&pair) || state.videos.contains_key(&pair) {
                    let listed = videos.entry(pair).or_default();
                    listed.id = seen.id.to_owned();
                    listed.places.push(seen.place);
                }
                Ok(())
            })?;
        }
        for (pair, place) in loaded.into_iter().filter(|(pair, _)| wanted.contains(pair)) {
            videos.entry(pair).or_default().places.push(place);
        }
        self.name(files, tables, state, &mut videos)?;
        videos.values_mut().for_each(|listed| {
            listed.round = state.rounds;
            listed.places.sort_unstable();
        });
        round.videos = videos;
        Ok(())
    }

    /// Runs the dataflow over what is new and what is known of the channels that this may let in, together: the round is judged as a whole.
    fn expand(
        &self,
        files: &Arc<Files>,
        tables: &[Parts; 2],
        state: &State,
        round: &Round,
    ) -> Result<(Expansion, Fed), OperatorError> {
        let (to, from) = bounded(QUEUE_BATCHES);
        std::thread::scope(|scope| {
            let feed = scope.spawn(move || self.feed(files, tables, state, round, to));
            let latched = state.channels.iter().copied().collect();
            let expansion = expand(Workers::Threads(self.workers), self.rule, latched, from);
            let fed = feed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let fed = fed?;
            Ok((expansion.map_err(failed)?, fed))
        })
    }

    fn feed(
        &self,
        files: &Arc<Files>,
        tables: &[Parts; 2],
        state: &State,
        round: &Round,
        to: Sender<Batch>,
    ) -> Result<Fed, OperatorError> {
        let mut feeder = Feeder { to, records: Vec::with_capacity(BATCH_RECORDS) };
        let mut fed = Fed { touched: round.touched.clone(), ..Fed::default() };
        let mut asked: BTreeSet<u64> = BTreeSet::new();
        for file in &round.files {
            let mut named = 0;
            self.rows_of(files, tables, file, |seen| {
                named += 1;
                let Record { channel, video, medical } = seen.record;
                if medical && self.keep_medical {
                    fed.medical.insert((channel, video));
                }
                if medical && !state.channels.contains(&channel) {
                    asked.insert(channel);
                }
                feeder.push(seen.record);
                Ok(())
            })?;
            fed.touched.new_records += named;
            fed.touched.without_id += file.rows.saturating_sub(named);
        }
        let live = Planner::live(state, round);
        if self.rule.counts_all() && !round.gone.is_empty() {
            let gone: BTreeSet<i32> = round.gone.iter().copied().collect();
            let lost = |_: Place, channel: u64, _: u64| {
                if !state.channels.contains(&channel) {
                    asked.insert(channel);
                }
                Ok::<(), LedgerError>(())
            };
            fed.touched.decoded_rows += self.ledger.records(&gone, Which::Files(&gone), lost).map_err(failed)?;
        }
        fed.touched.channels_asked = asked.len() as u64;
        if !asked.is_empty() && !live.is_empty() {
            let known = |place: Place, channel: u64, video: u64| {
                let medical = state.files.get(&place.0).is_some_and(|f| is_medical(&f.name));
                feeder.push(Record { channel, video, medical });
                fed.loaded.push(((channel, video), place));
                Ok::<(), LedgerError>(())
            };
            fed.touched.decoded_rows += self.ledger.records(&live, Which::Channels(&asked), known).map_err(failed)?;
        }
        fed.touched.loaded_records = fed.loaded.len() as u64;
        feeder.flush();
        Ok(fed)
    }

    /// Calls `each` for the rows of a file that have an id. One without a channel is a channel of its own.
    fn rows_of(
        &self,
        files: &Arc<Files>,
        tables: &[Parts; 2],
        file: &FileEntry,
        mut each: impl FnMut(Seen) -> Result<(), Failed>,
    ) -> Result<(), OperatorError> {
        let columns: Vec<&str> = self.video_columns.iter().chain(&self.channel_columns).map(String::as_str).collect();
        let (role, name) = split(&file.name);
        let error = |e: String| OperatorError::new(format!("`{}` {}: {e}", ROLES[role], self.places[role]));
        let batches =
            tables[role].read(files, (name, &file.identity), &columns, BATCH_ROWS, None).map_err(|e| error(e.message))?;
        let mut row = 0;
        for batch in batches {
            let batch = batch.map_err(error)?;
            let names = |columns: &[String]| FirstOf::of(&batch, columns).map_err(|e| error(format!("{name}: {e}")));
            let (ids, channels) = (names(&self.video_columns)?, names(&self.channel_columns)?);
            if ids.is_empty() && batch.num_rows() > 0 {
                let message = error(format!("{name}: has none of the columns {}", self.video_columns.join(", ")));
                return Err(message.help("`video_columns` says which column holds the id of the video"));
            }
            for at in 0..batch.num_rows() {
                if let Some(id) = ids.get(at) {
                    let channel = channels.get(at).map_or_else(|| ids::number(&format!("alone:{id}")), ids::number);
                    let record = Record { channel, video: ids::number(id), medical: role == 1 };
                    each(Seen { place: (file.number, row), record, id })?;
                }
                row += 1;
            }
        }
        Ok(())
    }

    /// Reads the ids of videos that were found in known files only.
    fn name(
        &self,
        files: &Arc<Files>,
        tables: &[Parts; 2],
        state: &State,
        videos: &mut BTreeMap<(u64, u64), Listed>,
    ) -> Result<(), OperatorError> {
        let mut by_file: BTreeMap<i32, Vec<(u64, Pair)>> = BTreeMap::new();
        for (pair, listed) in videos.iter().filter(|(_, listed)| listed.id.is_empty()) {
            if let Some((file, row)) = listed.places.first() {
                by_file.entry(*file).or_default().push((*row, *pair));
            }
        }
        let columns: Vec<&str> = self.video_columns.iter().map(String::as_str).collect();
        for (number, mut wanted) in by_file {
            let Some(file) = state.files.get(&number) else { continue };
            wanted.sort_unstable();
            let rows: Vec<u64> = wanted.iter().map(|(row, _)| *row).collect();
            let (role, name) = split(&file.name);
            let error = |e: String| OperatorError::new(format!("`{}` {}: {e}", ROLES[role], self.places[role]));
            let batch = tables[role].rows(files, (name, &file.identity), &columns, &rows).map_err(|e| error(e.message))?;
            let ids = FirstOf::of(&batch, &self.video_columns).map_err(error)?;
            for (at, (_, pair)) in wanted.iter().enumerate() {
                let id = ids.get(at).ok_or_else(|| error(format!("{name}: a row that had an id has none any more")))?;
                videos.entry(*pair).or_default().id = id.to_owned();
            }
        }
        Ok(())
    }

    /// Commits the pending round of a look: all of it or nothing.
    pub fn settle(&self, files: &Arc<Files>, number: u32, round: &Round) -> Result<(), OperatorError> {
        let tables = self.opened(files)?;
        kill_point("before_round");
        self.ledger.commit(number, round, |push| {
            for file in &round.files {
                self.rows_of(files, &tables, file, |seen| push(seen.place, seen.record).map_err(Failed::Ledger))
                    .map_err(Failed::Other)?;
            }
            kill_point("in_round");
            Ok::<(), Failed>(())
        })?;
        kill_point("after_round");
        Ok(())
    }
}

/// The number of the role, and the name in its table.
pub fn split(name: &str) -> (usize, &str) {
    let (role, name) = name.split_once('/').unwrap_or(("", name));
    (usize::from(role == ROLES[1]), name)
}

/// A file of medical videos.
pub fn is_medical(name: &str) -> bool {
    split(name).0 == 1
}

/// Fills batches. When nobody takes them any more, the dataflow has failed, which its caller tells.
struct Feeder {
    to: Sender<Batch>,
    records: Vec<Record>,
}

impl Feeder {
    fn push(&mut self, record: Record) {
        self.records.push(record);
        if self.records.len() >= BATCH_RECORDS {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let records = std::mem::replace(&mut self.records, Vec::with_capacity(BATCH_RECORDS));
        drop(self.to.send(Batch { round: 0, records }));
    }
}
