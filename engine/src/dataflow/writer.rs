//! The thread that turns rows into shards: one per process, fed by the collectors of its workers.
//!
//! Rows of an unfinished split wait here, counted by the byte budget, and move into a shard of their own when they grow beyond a row group, so that memory stays bounded however
//! large a split is. Rows of finished splits share shards until these reach their target size. A group of finished splits is handed on for
//! commit when a shard is full, when the oldest of them has waited for the commit interval, or at the end.
//!
//! What can go wrong: a shard that cannot be written. Then the run stops; nothing was promised yet, and the next run redoes the splits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

use crate::commit::{CommitError, JsonlDir, Shard, ShardWriter, SplitFile, SplitSet, Table, kill_point};
use crate::pool::Pools;

/// How often the thread looks at the clock while nothing arrives.
const TICK: Duration = Duration::from_millis(200);

/// Where rows of one sink (or system table) go.
pub enum Target {
    /// A committed table; splits in `done` stand there already.
    Table {
        /// The table.
        table: Arc<Table>,
        /// Its finished splits when the run began.
        done: SplitSet,
        /// Rows of an unfinished split that take more than this get a shard of their own.
        spill_bytes: u64,
        /// Rows of a split are sorted by this column.
        sort_by: Option<String>,
    },
    /// A file per split.
    Jsonl {
        /// The folder.
        dir: Arc<JsonlDir>,
        /// Rows of an unfinished split that take more than this go to its file early.
        spill_bytes: u64,
        /// Rows of a split are sorted by this column, unless they had to go early.
        sort_by: Option<String>,
    },
}

/// Where the rows of one large, unfinished split go.
enum Own {
    Shard(Box<ShardWriter>),
    File(Box<SplitFile>),
}

impl Own {
    fn start(target: &Target, split: u32, attempt: &str) -> Result<Self, CommitError> {
        Ok(match target {
            Target::Table { table, .. } => Own::Shard(Box::new(table.shard_writer(attempt))),
            Target::Jsonl { dir, .. } => Own::File(Box::new(dir.split_file(split)?)),
        })
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), CommitError> {
        match self {
            Own::Shard(shard) => shard.write(rows),
            Own::File(file) => file.write(rows),
        }
    }
}

/// What collectors tell the writer.
pub enum ToWriter {
    /// Rows of a split for a target; they count as in flight until written.
    Rows {
        /// Index of the target.
        target: usize,
        /// The split.
        split: u32,
        /// The rows.
        rows: RecordBatch,
        /// As counted by the byte budget.
        bytes: u64,
    },
    /// Nothing more of this split will come.
    Complete {
        /// The split.
        split: u32,
    },
    /// This worker has nothing more.
    WorkerDone,
}

/// A group of finished splits and the shards that hold their rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// The splits.
    pub splits: SplitSet,
    /// Shards by target.
    pub shards: BTreeMap<u32, Vec<Shard>>,
}

/// What the writer answers.
pub enum FromWriter {
    /// A group is ready to be committed.
    Finished(Finished),
    /// All workers are done and everything was handed on.
    End,
}

/// How the writer works.
pub struct Settings {
    /// Hand finished splits on at least this often.
    pub commit_interval: Duration,
    /// Part of the names of all files of this attempt.
    pub attempt: String,
    /// Workers that will say that they are done.
    pub workers: usize,
}

#[derive(Default)]
struct Buffer {
    rows: Vec<RecordBatch>,
    bytes: u64,
}

#[derive(Default)]
struct Slot {
    waiting: HashMap<u32, Buffer>,
    own: HashMap<u32, Own>,
    shared: Option<ShardWriter>,
    closed: Vec<Shard>,
}

struct Writer {
    targets: Vec<Target>,
    slots: Vec<Slot>,
    settings: Settings,
    pools: Arc<Pools>,
    finished: SplitSet,
    oldest: Option<Instant>,
    full: bool,
}

/// Runs until all workers are done. `out` is called for each answer.
pub fn run(
    targets: Vec<Target>,
    settings: Settings,
    pools: Arc<Pools>,
    commands: &Receiver<ToWriter>,
    out: &Sender<FromWriter>,
    wake: &dyn Fn(),
) -> Result<(), CommitError> {
    let slots = targets.iter().map(|_| Slot::default()).collect();
    let mut left = settings.workers;
    let mut writer = Writer { targets, slots, settings, pools, finished: SplitSet::new(), oldest: None, full: false };
    while left > 0 {
        match commands.recv_timeout(TICK) {
            Ok(ToWriter::Rows { target, split, rows, bytes }) => {
                writer.rows(target, split, rows, bytes)?;
            }
            Ok(ToWriter::Complete { split }) => writer.complete(split)?,
            Ok(ToWriter::WorkerDone) => left -= 1,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if writer.due()
            && let Some(group) = writer.hand_on()?
        {
            drop(out.send(FromWriter::Finished(group)));
            wake();
            crate::memory::give_back();
        }
    }
    if let Some(group) = writer.hand_on()? {
        drop(out.send(FromWriter::Finished(group)));
    }
    drop(out.send(FromWriter::End));
    wake();
    Ok(())
}

impl Writer {
    fn rows(&mut self, target: usize, split: u32, rows: RecordBatch, bytes: u64) -> Result<(), CommitError> {
        let slot = &mut self.slots[target];
        let spill = match &self.targets[target] {
            Target::Table { done, .. } if done.contains(split) => {
                self.pools.release(bytes);
                return Ok(());
            }
            Target::Table { spill_bytes, .. } | Target::Jsonl { spill_bytes, .. } => *spill_bytes,
        };
        if let Some(own) = slot.own.get_mut(&split) {
            own.write(&rows)?;
            self.pools.release(bytes);
            return Ok(());
        }
        let buffer = slot.waiting.entry(split).or_default();
        buffer.bytes += bytes;
        buffer.rows.push(rows);
        if buffer.bytes > spill {
            let mut own = Own::start(&self.targets[target], split, &self.settings.attempt)?;
            let buffer = slot.waiting.remove(&split).unwrap_or_default();
            for rows in buffer.rows {
                own.write(&rows)?;
            }
            self.pools.release(buffer.bytes);
            slot.own.insert(split, own);
        }
        Ok(())
    }

    fn complete(&mut self, split: u32) -> Result<(), CommitError> {
        kill_point("split_complete");
        for (target, slot) in self.targets.iter().zip(&mut self.slots) {
            let Buffer { rows, bytes } = slot.waiting.remove(&split).unwrap_or_default();
            match target {
                Target::Jsonl { dir, sort_by, .. } => {
                    match slot.own.remove(&split) {
                        Some(Own::File(file)) => file.finish()?,
                        _ if rows.is_empty() => dir.write_split(split, &[])?,
                        _ => dir.write_split(split, &[sorted(&rows, sort_by.as_deref())?])?,
                    }
                    self.pools.release(bytes);
                }
                Target::Table { table, sort_by, .. } => {
                    if let Some(Own::Shard(own)) = slot.own.remove(&split) {
                        slot.closed.push(own.finish()?);
                    }
                    if rows.is_empty() {
                        continue;
                    }
                    let rows = sorted(&rows, sort_by.as_deref())?;
                    if slot.shared.is_none() {
                        slot.shared = Some(table.shard_writer(&self.settings.attempt));
                    }
                    if let Some(shared) = &mut slot.shared {
                        shared.write(&rows)?;
                        self.full |= shared.is_full();
                    }
                    self.pools.release(bytes);
                }
            }
        }
        self.finished.insert(split);
        self.oldest.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn due(&self) -> bool {
        self.oldest.is_some_and(|t| self.full || t.elapsed() >= self.settings.commit_interval)
    }

    fn hand_on(&mut self) -> Result<Option<Finished>, CommitError> {
        if self.finished.is_empty() {
            return Ok(None);
        }
        let mut shards = BTreeMap::new();
        for (target, slot) in self.slots.iter_mut().enumerate() {
            let mut closed = std::mem::take(&mut slot.closed);
            if let Some(shared) = slot.shared.take() {
                closed.push(shared.finish()?);
            }
            if !closed.is_empty() {
                shards.insert(target as u32, closed);
            }
        }
        self.oldest = None;
        self.full = false;
        Ok(Some(Finished { splits: std::mem::replace(&mut self.finished, SplitSet::new()), shards }))
    }
}

fn sorted(rows: &[RecordBatch], column: Option<&str>) -> Result<RecordBatch, CommitError> {
    let bug = |e: arrow::error::ArrowError| -> RecordBatch { panic!("rows of one sink cannot be put together: {e}") };
    let all = match rows {
        [one] => one.clone(),
        many => concat_batches(&many[0].schema(), many).unwrap_or_else(bug),
    };
    let key = column.and_then(|name| all.column_by_name(name)).filter(|c| c.as_string_opt::<i32>().is_some());
    Ok(match key {
        None => all.clone(),
        Some(key) => sort_to_indices(key, None, None).and_then(|order| take_record_batch(&all, &order)).unwrap_or_else(bug),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};

    use super::*;
    use crate::graph::PoolSettings;

    fn rows(ids: &[&str]) -> RecordBatch {
        RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(ids.to_vec())) as ArrayRef)]).unwrap()
    }

    #[test]
    fn a_split_too_large_for_memory_goes_to_its_file_early_and_a_small_one_is_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(JsonlDir::open("out", dir.path().to_str().unwrap()).unwrap());
        let target = Target::Jsonl { dir: Arc::clone(&folder), spill_bytes: 100, sort_by: Some("id".into()) };
        let pools = Arc::new(Pools::start(&PoolSettings::default(), 1, 1 << 20).unwrap());
        let (commands, from) = crossbeam_channel::unbounded();
        let (to, answers) = crossbeam_channel::unbounded();
        for (split, ids, bytes) in [(0, ["c", "d"], 60), (1, ["y", "x"], 60), (0, ["a", "b"], 60), (0, ["e", "f"], 60)] {
            pools.hold(bytes);
            commands.send(ToWriter::Rows { target: 0, split, rows: rows(&ids), bytes }).unwrap();
        }
        for split in [0, 1] {
            commands.send(ToWriter::Complete { split }).unwrap();
        }
        commands.send(ToWriter::WorkerDone).unwrap();
        let settings = Settings { commit_interval: Duration::from_secs(60), attempt: "a".into(), workers: 1 };
        run(vec![target], settings, Arc::clone(&pools), &from, &to, &|| ()).unwrap();
        let text =
            |split: u32| std::fs::read_to_string(dir.path().join(format!("split-{split:08}.jsonl"))).unwrap().replace('\n', " ");
        assert_eq!(text(0), r#"{"id":"c"} {"id":"d"} {"id":"a"} {"id":"b"} {"id":"e"} {"id":"f"} "#);
        assert_eq!(text(1), r#"{"id":"x"} {"id":"y"} "#);
        assert_eq!(folder.row_count().unwrap(), 8);
        assert_eq!(pools.in_flight(), 0);
        let all: Vec<_> = answers.try_iter().collect();
        assert!(
            matches!(&all[..], [FromWriter::Finished(group), FromWriter::End] if group.splits.len() == 2 && group.shards.is_empty())
        );
    }
}
