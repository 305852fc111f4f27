//! A committed table: open or create, what is done, commit.
//!
//! Every commit is one log entry that adds shards AND says which splits are done (`record`). The entry is one create-if-absent put, so of
//! two writers one wins, and the other reads the table again and decides anew (`decide`). An answer that is not a clear yes is settled by
//! reading the entry back: the commit id in it tells whose it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use backon::{BackoffBuilder, ExponentialBuilder};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::{TryIntoArrow as _, TryIntoKernel as _};
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use serde::{Deserialize, Serialize};

use super::actions;
use super::decide::{Decision, Fate, decide, fate};
use super::error::CommitError;
use super::killpoint::kill_point;
use super::location::{Location, block_on, runtime};
use super::record::{DOMAIN, Record, state};
use super::schema::{difference, table_schema};
use super::shard::{Shard, ShardOptions, ShardWriter};
use super::split_set::SplitSet;

/// What we call ourselves in the log.
pub(crate) const ENGINE_INFO: &str = concat!("curette/", env!("CARGO_PKG_VERSION"));

/// The application id of our Delta transaction identifiers.
const APPLICATION: &str = "curette";

/// Table features, the same for every table, so that a new version may have any columns: our record needs the first, and columns that are
/// never null make readers expect the second.
pub(crate) const PROPERTIES: [(&str, &str); 2] =
    [("delta.feature.domainMetadata", "supported"), ("delta.feature.invariants", "supported")];

/// A commit gives up after other writers were faster these many times in a row.
const MAX_CONFLICTS: usize = 200;

/// A commit gives up after the store failed these many times (each failure comes after the store client's own retries).
const MAX_FAILURES: usize = 5;

/// Shortest and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// Every these many versions the log is summed up in a checkpoint, so that opening a table stays fast.
const CHECKPOINT_INTERVAL: u64 = 20;

/// A table to write.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// Name for messages: the sink's step.
    pub name: String,
    /// Absolute path or URL of its folder.
    pub location: String,
    /// Columns of the rows that will be written.
    pub schema: SchemaRef,
    /// See [`ShardWriter::is_full`].
    pub target_shard_bytes: u64,
    /// A row group closes at about this many bytes; it is also what a shard in the making takes in memory.
    pub row_group_bytes: u64,
    /// zstd level, 1 to 22.
    pub zstd_level: i32,
    /// String columns that get a dictionary whatever their length: ids that repeat.
    pub dictionary_columns: Vec<String>,
    /// A page closes at about these many rows (in steps of 1,024), for tables that are asked for few rows by sorted columns (see
    /// [`Table::pages`]); `None`: by bytes alone.
    pub page_rows: Option<usize>,
}

/// Which plan rows belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStamp {
    /// Hash of the plan.
    pub plan_hash: String,
    /// Grows by one with each `--new-version`.
    pub generation: u64,
}

/// What a table says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableState {
    /// Version of the table.
    pub version: u64,
    /// Plan that its rows belong to; `None`: nothing was committed yet.
    pub plan_hash: Option<String>,
    /// Generation of that plan.
    pub generation: u64,
    /// Splits whose rows are in the table.
    pub done: SplitSet,
    /// Unique id of the call that committed last.
    pub commit: Option<String>,
}

/// How a commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The shards are part of the table since this version.
    Committed {
        /// Version of the table.
        version: u64,
    },
    /// Another attempt had committed all of these splits. The shards of this call are not part of the table.
    AlreadyDone,
    /// Another attempt had committed some of these splits. Nothing was committed: make shards without the rows of these.
    PartlyDone {
        /// The splits of this call that the table has already.
        done: SplitSet,
    },
}

pub(crate) type Engine = DefaultEngine<TokioMultiThreadExecutor>;

/// A committed table. Blocking; may be shared between threads.
pub struct Table {
    pub(crate) name: String,
    pub(crate) location: Location,
    pub(crate) engine: Arc<Engine>,
    /// Columns as readers see them.
    pub(crate) schema: SchemaRef,
    options: ShardOptions,
    /// The newest version that was seen; the next look reads only what came after.
    snapshot: Mutex<Option<SnapshotRef>>,
    /// One commit at a time per process: threads would only race each other.
    committing: Mutex<()>,
    /// True when this process must write no more shards.
    pub(crate) closed: Arc<RwLock<bool>>,
    next_shard: AtomicU64,
}

/// How one attempt to write a log entry ended.
pub(crate) enum Step {
    /// No entry is needed, or none is allowed.
    Stop(Outcome),
    /// The store confirmed the entry.
    Wrote { version: u64 },
    /// It did not: somebody has that version, or the answer is not clear.
    Unconfirmed { version: u64, reason: String },
}

impl Table {
    /// Opens the table, or creates it. A table that is there must have the same columns.
    pub fn open_or_create(spec: &TableSpec) -> Result<Self, CommitError> {
        Table::open_at(Location::parse(&spec.location)?, spec)?.check_schema()
    }

    /// As [`Table::open_or_create`], but the columns may differ: [`Table::begin_generation`] must come next and replaces them.
    pub fn open_for_new_version(spec: &TableSpec) -> Result<Self, CommitError> {
        Table::open_at(Location::parse(&spec.location)?, spec)
    }

    /// Opens a table for reading, if there is one. Creates nothing.
    pub fn open_existing(name: &str, location: &str) -> Result<Option<Self>, CommitError> {
        if !location.contains("://") && !std::path::Path::new(location).exists() {
            return Ok(None);
        }
        let mut table = Table::unopened(Location::parse(location)?, name, SchemaRef::new(Schema::empty()), reading());
        if !table.exists()? {
            return Ok(None);
        }
        table.schema = table.schema_of(&table.load()?.0)?;
        Ok(Some(table))
    }

    pub(crate) fn open_at(location: Location, spec: &TableSpec) -> Result<Self, CommitError> {
        let schema = table_schema(&spec.name, &spec.schema)?;
        let options = ShardOptions {
            target_shard_bytes: spec.target_shard_bytes,
            row_group_bytes: spec.row_group_bytes,
            zstd_level: spec.zstd_level,
            dictionary_columns: spec.dictionary_columns.clone(),
            page_rows: spec.page_rows,
        };
        let table = Table::unopened(location, &spec.name, schema, options);
        let mut last = String::new();
        for pause in pauses(MAX_FAILURES) {
            if table.exists()? {
                table.load()?;
                return Ok(table);
            }
            match table.create() {
                Ok(()) => continue,
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(pause);
        }
        match table.exists()? {
            true => Ok(table),
            false => Err(CommitError::GaveUp { table: spec.name.clone(), attempts: MAX_FAILURES, last }),
        }
    }

    fn unopened(location: Location, name: &str, schema: SchemaRef, options: ShardOptions) -> Self {
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime().clone()));
        let engine = Arc::new(DefaultEngineBuilder::new(Arc::clone(&location.store)).with_task_executor(executor).build());
        Table {
            name: name.to_owned(),
            location,
            engine,
            schema,
            options,
            snapshot: Mutex::default(),
            committing: Mutex::default(),
            closed: Arc::default(),
            next_shard: AtomicU64::new(0),
        }
    }

    /// Fails if the table that is there has other columns.
    pub(crate) fn check_schema(self) -> Result<Self, CommitError> {
        self.compare_schema(&self.load()?.0)?;
        Ok(self)
    }

    fn compare_schema(&self, snapshot: &SnapshotRef) -> Result<(), CommitError> {
        let difference = difference(&*self.schema_of(snapshot)?, &self.schema);
        match difference.is_empty() {
            true => Ok(()),
            false => {
                let (table, location) = (self.name.clone(), self.location.url.to_string());
                Err(CommitError::SchemaMismatch { table, location, difference })
            }
        }
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns, as readers see them.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The newest version and which splits it has.
    pub fn state(&self) -> Result<TableState, CommitError> {
        Ok(self.load()?.1)
    }

    /// Starts a shard. `attempt` must be unique over all processes and runs (a ULID): it makes the file's name unique.
    pub fn shard_writer(&self, attempt: &str) -> ShardWriter {
        let number = self.next_shard.fetch_add(1, Ordering::Relaxed);
        let file = format!("part-{attempt}-{number:05}.parquet");
        let (location, schema, closed) = (self.location.clone(), SchemaRef::clone(&self.schema), Arc::clone(&self.closed));
        ShardWriter::new(&self.name, file, location, schema, self.options.clone(), closed)
    }

    /// Makes shards part of the table and records their splits as done, both or neither. A split without rows is committed by being in
    /// `splits`; there may be no shards at all.
    pub fn commit(&self, stamp: &PlanStamp, splits: &SplitSet, shards: &[Shard]) -> Result<Outcome, CommitError> {
        if splits.is_empty() {
            return Err(CommitError::NoSplits { table: self.name.clone() });
        }
        kill_point("before_commit");
        let id = new_commit_id();
        let outcome = self.attempts(&id, |snapshot, state| match decide(state, stamp, splits, &id) {
            Decision::Create(done) => self.write_entry(snapshot, &Record::new(stamp, done, &id), shards),
            Decision::AlreadyDone { mine: true } => Ok(Step::Stop(Outcome::Committed { version: state.version })),
            Decision::AlreadyDone { mine: false } => Ok(Step::Stop(Outcome::AlreadyDone)),
            Decision::PartlyDone(done) => Ok(Step::Stop(Outcome::PartlyDone { done })),
            Decision::Refuse => Err(self.changed_plan(state, stamp)),
        })?;
        kill_point("after_commit");
        if let Outcome::Committed { version } = outcome {
            self.sum_up(version);
        }
        Ok(outcome)
    }

    fn write_entry(&self, snapshot: SnapshotRef, record: &Record, shards: &[Shard]) -> Result<Step, CommitError> {
        // A shard without rows would only cost readers a request.
        let shards: Vec<&Shard> = shards.iter().filter(|shard| shard.rows > 0).collect();
        let version = snapshot.version() + 1;
        self.compare_schema(&snapshot)?;
        let mut builder = snapshot
            .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
            .with_transaction_id(APPLICATION, i64::try_from(version).unwrap_or(i64::MAX))
            .with_domain_metadata(DOMAIN, record.to_json());
        if !shards.is_empty() {
            builder = builder.with_blind_append();
        }
        let error = |e: delta_kernel::KernelError| self.delta_error("prepare a commit", &e);
        let mut transaction = builder.build(&*self.engine, Box::new(FileSystemCommitter::new())).map_err(error)?;
        if !shards.is_empty() {
            let stats: Schema =
                transaction.stats_schema().map_err(error)?.as_ref().try_into_arrow().map_err(|e| error(e.into()))?;
            transaction.add_files(actions::add_files(&shards, stats).map_err(|e| error(e.into()))?);
        }
        Ok(match transaction.commit(&*self.engine) {
            Ok(CommitResult::Committed(committed)) => Step::Wrote { version: committed.commit_version() },
            Ok(CommitResult::Conflicted(_)) => Step::Unconfirmed { version, reason: format!("version {version} is taken") },
            Ok(CommitResult::Retryable(failed)) => Step::Unconfirmed { version, reason: failed.error.to_string() },
            Err(error) => Step::Unconfirmed { version, reason: error.to_string() },
        })
    }

    /// Repeats a step until it is settled. `id` is in every entry that the step writes.
    pub(crate) fn attempts(
        &self,
        id: &str,
        step: impl Fn(SnapshotRef, &TableState) -> Result<Step, CommitError>,
    ) -> Result<Outcome, CommitError> {
        let _one_at_a_time = lock(&self.committing);
        let (mut failures, mut attempts, mut last) = (0, 0, String::new());
        for pause in pauses(MAX_CONFLICTS) {
            let (snapshot, state) = self.load()?;
            let (version, reason) = match step(snapshot, &state)? {
                Step::Stop(outcome) => return Ok(outcome),
                Step::Wrote { version } => return Ok(Outcome::Committed { version }),
                Step::Unconfirmed { version, reason } => (version, reason),
            };
            attempts += 1;
            match fate(self.log_entry(version)?.as_deref(), id) {
                Fate::Mine => return Ok(Outcome::Committed { version }),
                Fate::LostTo(winner) => {
                    tracing::debug!(table = self.name, version, winner, "Another writer was faster");
                    last = format!("version {version} was taken by another writer");
                }
                Fate::Retry => {
                    tracing::warn!(table = self.name, version, reason, "A commit was not accepted; trying again");
                    failures += 1;
                    last = reason;
                }
            }
            if failures == MAX_FAILURES {
                break;
            }
            metrics::counter!(crate::telemetry::names::COMMIT_RETRIES, "table" => self.name.clone()).increment(1);
            std::thread::sleep(pause);
        }
        Err(CommitError::GaveUp { table: self.name.clone(), attempts, last })
    }

    /// The newest version of the table and its state.
    pub(crate) fn load(&self) -> Result<(SnapshotRef, TableState), CommitError> {
        let mut newest = lock(&self.snapshot);
        let error = |e: delta_kernel::KernelError| self.delta_error("read the log", &e);
        // Only what is new is read; whatever is wrong with that shows again, or not, when everything is.
        let newer = newest.take().and_then(|known| Snapshot::builder_from(known).build(&*self.engine).ok());
        let snapshot = match newer {
            Some(snapshot) => snapshot,
            None => Snapshot::builder_for(self.location.url.as_str()).build(&*self.engine).map_err(error)?,
        };
        *newest = Some(Arc::clone(&snapshot));
        let state = self.state_of(&snapshot)?;
        Ok((snapshot, state))
    }

    /// What the table says about itself at a version.
    pub(crate) fn state_of(&self, snapshot: &SnapshotRef) -> Result<TableState, CommitError> {
        let record = snapshot.get_domain_metadata(DOMAIN, &*self.engine).map_err(|e| self.delta_error("read the log", &e))?;
        let record: Option<Record> =
            record.map(|text| serde_json::from_str(&text)).transpose().map_err(|e| CommitError::Log {
                table: self.name.clone(),
                reason: format!("the value of `{DOMAIN}` at version {} is not understood: {e}", snapshot.version()),
            })?;
        Ok(state(snapshot.version(), record))
    }

    /// The text of a log entry, if there is one.
    pub(crate) fn log_entry(&self, version: u64) -> Result<Option<String>, CommitError> {
        let path = self.location.file(&format!("_delta_log/{version:020}.json"));
        let read = block_on(async { self.location.store.get(&path).await?.bytes().await });
        match read {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.storage_error("read", path.as_ref(), &error)),
        }
    }

    fn create(&self) -> Result<(), CommitError> {
        let error = |e: delta_kernel::KernelError| self.delta_error("create the table", &e);
        let schema: StructType = self.schema.as_ref().try_into_kernel().map_err(|e| error(e.into()))?;
        let result = create_table(self.location.url.as_str(), Arc::new(schema), ENGINE_INFO, false)
            .with_table_properties(PROPERTIES)
            .build(&*self.engine, Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.commit(&*self.engine))
            .map_err(error)?;
        match result {
            // If another process created it in the meantime, its columns are compared like those of any table that is there.
            CommitResult::Committed(_) | CommitResult::Conflicted(_) => Ok(()),
            CommitResult::Retryable(failed) => Err(error(failed.error)),
        }
    }

    fn exists(&self) -> Result<bool, CommitError> {
        let log = self.location.file("_delta_log");
        let first = block_on(async {
            let mut entries = self.location.store.list(Some(&log));
            while let Some(entry) = entries.next().await {
                if is_log_entry(entry?.location.filename()) {
                    return Ok(true);
                }
            }
            Ok(false)
        });
        first.map_err(|error: object_store::Error| self.storage_error("list", log.as_ref(), &error))
    }

    /// The columns of a version.
    pub(crate) fn schema_of(&self, snapshot: &SnapshotRef) -> Result<SchemaRef, CommitError> {
        let schema: Result<Schema, _> = snapshot.schema().as_ref().try_into_arrow();
        Ok(Arc::new(schema.map_err(|e| self.delta_error("read the table's columns", &e.into()))?))
    }

    /// Sums the log up now and then. Readers and we only get slower without it, so a failure is told and no more.
    fn sum_up(&self, version: u64) {
        if !version.is_multiple_of(CHECKPOINT_INTERVAL) {
            return;
        }
        let done = self.load().map(|(snapshot, _)| snapshot.checkpoint(&*self.engine, None));
        match done {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(table = self.name, version, %error, "The log could not be summed up"),
            Err(error) => tracing::warn!(table = self.name, version, %error, "The log could not be summed up"),
        }
    }

    pub(crate) fn changed_plan(&self, state: &TableState, stamp: &PlanStamp) -> CommitError {
        CommitError::ChangedPlan {
            table: self.name.clone(),
            found: state.plan_hash.clone().unwrap_or_default(),
            found_generation: state.generation,
            mine: stamp.plan_hash.clone(),
            my_generation: stamp.generation,
        }
    }

    pub(crate) fn delta_error(&self, action: &'static str, error: &delta_kernel::KernelError) -> CommitError {
        CommitError::Delta { table: self.name.clone(), action, reason: error.to_string() }
    }

    pub(crate) fn storage_error(&self, action: &'static str, object: &str, error: &object_store::Error) -> CommitError {
        CommitError::Storage { table: self.name.clone(), action, object: object.to_owned(), reason: error.to_string() }
    }
}

/// `00000000000000000007.json`, or a checkpoint.
fn is_log_entry(name: Option<&str>) -> bool {
    name.is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_digit()) && (name.ends_with(".json") || name.ends_with(".parquet"))
    })
}

/// Unique over all calls of all processes.
pub(crate) fn new_commit_id() -> String {
    ulid::Ulid::generate().to_string()
}

fn pauses(times: usize) -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_jitter().with_min_delay(PAUSE.0).with_max_delay(PAUSE.1).with_max_times(times).build()
}

fn reading() -> ShardOptions {
    ShardOptions {
        target_shard_bytes: 1 << 28,
        row_group_bytes: 1 << 25,
        zstd_level: 3,
        dictionary_columns: Vec::new(),
        page_rows: None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
