//! Channel expansion as a differential dataflow: each round costs its difference.
//!
//! ```text
//! medical videos -> distinct -> counts by channel -\
//! all records ---> distinct -> counts by channel --- judged at the end of a round -> channels, latched -\
//!            \-> by channel -------------------------------------------------------------------- semijoin -> distinct -> videos
//! ```
//!
//! The second line exists only where the rule has a share. A timestamp is `round << 32 | batch`: batches pass one by one, so no sort holds a whole
//! catalogue, and counts are judged at the round's last timestamp, so what is judged is the round as a whole and never a part of it that happened to
//! come first. A channel that falls below a share again stays in: its retraction is dropped before the semijoin.
//!
//! What can go wrong: memory (see [`crate::BYTES_PER_RECORD`]). Rows only move as numbers, 24 bytes each; a worker that is ahead waits for the
//! others, so no more than [`WINDOW_BATCHES`] batches are on their way.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};
use curette_engine::cluster::{ClusterError, Workers, workers};
use differential_dataflow::AsCollection;
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::ThresholdTotal;
use timely::WorkerConfig;
use timely::dataflow::operators::probe::Handle;
use timely::dataflow::operators::vec::Map;
use timely::worker::Worker;

use crate::rule::{Counts, Rule};

/// Batches that are taken but have not passed.
pub const WINDOW_BATCHES: u64 = 4;
/// Batches that wait for a worker.
pub const QUEUE_BATCHES: usize = 4;
/// Records of a batch, about: large enough that a timestamp costs nothing, small enough that it is sorted in the cache.
pub const BATCH_RECORDS: usize = 1 << 17;
/// A worker looks for work at least this often.
const PARK: Duration = Duration::from_millis(1);

/// A row of the catalogue or of the medical videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// Number of its channel.
    pub channel: u64,
    /// Number of its video.
    pub video: u64,
    /// It is one of the medical videos.
    pub medical: bool,
}

/// Some records of one round. Rounds must come in ascending order; what comes first in a round does not matter.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The round, from 0.
    pub round: u32,
    /// The records.
    pub records: Vec<Record>,
}

/// A channel that qualified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Qualified {
    /// Its number.
    pub channel: u64,
    /// What it qualified with.
    pub counts: Counts,
}

/// What a round adds to those before it, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Channels that qualified in it.
    pub channels: Vec<Qualified>,
    /// Channel and video of what is now listed and was not.
    pub videos: Vec<(u64, u64)>,
}

/// What a round cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Records that came in.
    pub records: u64,
    /// Pairs that the join of channels and records gave.
    pub joined: u64,
}

/// What became of all rounds.
#[derive(Debug, Clone, Default)]
pub struct Expansion {
    /// By round.
    pub rounds: Vec<Outcome>,
    /// By round.
    pub work: Vec<Work>,
}

#[derive(Default)]
struct Gathered {
    rises: Vec<(u32, u64, Counts)>,
    videos: BTreeMap<u32, Vec<Pair>>,
    work: BTreeMap<u32, Work>,
}

impl Gathered {
    fn work(&mut self, round: u32) -> &mut Work {
        self.work.entry(round).or_default()
    }

    fn finish(mut self, latched: &[u64]) -> Expansion {
        let Some((&last, _)) = self.work.last_key_value() else { return Expansion::default() };
        let mut out = Expansion { rounds: vec![Outcome::default(); last as usize + 1], work: Vec::new() };
        let mut seen: HashSet<u64> = latched.iter().copied().collect();
        self.rises.sort_unstable();
        for (round, channel, counts) in self.rises {
            // One that rises again after a fall had qualified when it rose first.
            if seen.insert(channel) {
                out.rounds[round as usize].channels.push(Qualified { channel, counts });
            }
        }
        for (round, mut videos) in self.videos {
            videos.sort_unstable();
            out.rounds[round as usize].videos = videos;
        }
        out.work = (0..=last).map(|round| self.work.remove(&round).unwrap_or_default()).collect();
        out
    }
}

fn lock(gathered: &Mutex<Gathered>) -> std::sync::MutexGuard<'_, Gathered> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

fn round_of(time: u64) -> u32 {
    (time >> 32) as u32
}

/// The last timestamp of the same round.
fn round_end(time: u64) -> u64 {
    time | u64::from(u32::MAX)
}

/// Takes batches until their senders are gone. `latched` are channels that qualified in rounds that are not given again.
pub fn expand(kind: Workers, rule: Rule, latched: Vec<u64>, batches: Receiver<Batch>) -> Result<Expansion, ClusterError> {
    let gathered = Arc::new(Mutex::new(Gathered::default()));
    let (shared, seed) = (Arc::clone(&gathered), latched.clone());
    let next = Mutex::new((batches, 0u64));
    workers(kind, WorkerConfig::default(), move |worker| work(worker, rule, &seed, &next, &shared))?;
    let gathered = std::mem::take(&mut *lock(&gathered));
    Ok(gathered.finish(&latched))
}

type Pair = (u64, u64);
type Input<D> = InputSession<u64, D, isize>;

struct Inputs {
    records: Input<Pair>,
    medical: Input<Pair>,
    latched: Input<u64>,
}

impl Inputs {
    fn advance_to(&mut self, time: u64) {
        self.records.advance_to(time);
        self.medical.advance_to(time);
        self.latched.advance_to(time);
        self.records.flush();
        self.medical.flush();
        self.latched.flush();
    }
}

/// One worker: takes whatever batch is next, so that how records are shared out is decided by chance and must not matter.
fn work(
    worker: &mut Worker,
    rule: Rule,
    latched: &[u64],
    batches: &Mutex<(Receiver<Batch>, u64)>,
    gathered: &Arc<Mutex<Gathered>>,
) {
    let (mut inputs, probe) = build(worker, rule, gathered);
    if worker.index() == 0 {
        latched.iter().for_each(|channel| inputs.latched.update(*channel, 1));
    }
    loop {
        match take(batches) {
            Ok((batch, number)) => {
                let time = u64::from(batch.round) << 32 | number;
                inputs.advance_to(time);
                for record in &batch.records {
                    let pair = (record.channel, record.video);
                    inputs.records.update(pair, 1);
                    if record.medical {
                        inputs.medical.update(pair, 1);
                    }
                }
                lock(gathered).work(batch.round).records += batch.records.len() as u64;
                inputs.advance_to(time + 1);
                // A worker that is behind takes the next batches meanwhile, or learns that there are none.
                while probe.less_than(&time.saturating_sub(WINDOW_BATCHES)) {
                    worker.step_or_park(Some(PARK));
                }
            }
            Err(TryRecvError::Empty) => {
                worker.step_or_park(Some(PARK));
            }
            Err(TryRecvError::Disconnected) => break,
        }
    }
    drop(inputs);
    while !probe.done() {
        worker.step_or_park(None);
    }
}

/// The next batch and its number. Both under one lock: the batches of a worker then have ascending numbers.
fn take(batches: &Mutex<(Receiver<Batch>, u64)>) -> Result<(Batch, u64), TryRecvError> {
    let mut next = batches.lock().unwrap_or_else(PoisonError::into_inner);
    let batch = next.0.try_recv()?;
    next.1 += 1;
    Ok((batch, next.1))
}

fn build(worker: &mut Worker, rule: Rule, gathered: &Arc<Mutex<Gathered>>) -> (Inputs, Handle<u64>) {
    let mut inputs = Inputs { records: InputSession::new(), medical: InputSession::new(), latched: InputSession::new() };
    let probe = worker.dataflow::<u64, _, _>(|scope| {
        let records = inputs.records.to_collection(scope);
        let medical = inputs.medical.to_collection(scope);
        let latched = inputs.latched.to_collection(scope);

        let medical = medical.distinct_total().explode(|(channel, _)| Some((channel, (1isize, 0isize))));
        let counts = if rule.counts_all() {
            let all = records.clone().distinct_total().explode(|(channel, _)| Some((channel, (0isize, 1isize))));
            medical.concat(all)
        } else {
            medical
        };
        let count = |(medical, all): (isize, isize)| Counts { medical: medical.max(0) as u64, all: all.max(0) as u64 };
        // The difference is what a channel qualifies with. Nothing is given for a fall: that is the latch.
        let rises = counts.delay(|time| round_end(*time)).threshold_semigroup(move |_, new, old| {
            let before = old.is_some_and(|old| rule.qualifies(count(*old)));
            (rule.qualifies(count(*new)) && !before).then_some(*new)
        });
        let to = Arc::clone(gathered);
        let rises = rises.inspect_batch(move |_, rises| {
            let mut to = lock(&to);
            to.rises.extend(rises.iter().map(|(channel, time, counts)| (round_of(*time), *channel, count(*counts))));
        });
        let rises = rises.inner.map(|(channel, time, _)| (channel, time, 1isize)).as_collection();
        let good = rises.concat(latched).distinct_total();

        let to = Arc::clone(gathered);
        let joined = records.semijoin(good).inspect_batch(move |_, pairs| {
            let mut to = lock(&to);
            pairs.iter().for_each(|(_, time, _)| to.work(round_of(*time)).joined += 1);
        });
        let to = Arc::clone(gathered);
        let listed = joined.distinct_total().inspect_batch(move |_, pairs| {
            let mut to = lock(&to);
            pairs.iter().for_each(|(pair, time, _)| to.videos.entry(round_of(*time)).or_default().push(*pair));
        });
        listed.probe().0
    });
    (inputs, probe)
}
