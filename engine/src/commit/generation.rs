//! A new version of a table: all rows of the version before are removed logically and the set of finished splits starts empty.
//!
//! It is one log entry, so readers see the old rows or none, and a kill leaves one or the other. The files stay, and with them every older
//! version of the table (time travel). The columns may change with it. The Delta library can remove files but not replace the columns of a
//! table, so this entry is written here, action by action as the Delta protocol spells them, and put like any commit: create if absent.
//!
//! What can go wrong: a late process of the old generation; its commits are refused, since the record names the new one.

use std::sync::Arc;

use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryIntoKernel as _;
use delta_kernel::scan::state::ScanFile;
use delta_kernel::schema::StructType;
use delta_kernel::snapshot::SnapshotRef;
use delta_kernel::transaction::create_table::create_table;
use delta_kernel_default_engine::DefaultEngineBuilder;
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use serde_json::{Value, json};

use super::decide::{Beginning, begin};
use super::error::CommitError;
use super::location::{block_on, runtime};
use super::record::{DOMAIN, Record};
use super::schema::difference;
use super::split_set::SplitSet;
use super::table::{ENGINE_INFO, Outcome, PROPERTIES, PlanStamp, Step, Table, new_commit_id};
use crate::telemetry::now_ms;

/// A file of a version of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiveFile {
    /// As the log has it.
    pub path: String,
    pub bytes: i64,
    /// As the log has it; absent only if another program wrote the file.
    pub rows: Option<u64>,
}

impl Table {
    /// Begins a generation: removes all rows logically and forgets which splits are done. Its generation must be larger than the table's.
    /// `AlreadyDone` if the table is in this generation already: a second call, or one after a kill, changes nothing.
    pub fn begin_generation(&self, stamp: &PlanStamp) -> Result<Outcome, CommitError> {
        let id = new_commit_id();
        self.attempts(&id, |snapshot, state| match begin(state, stamp) {
            Beginning::Create => self.write_beginning(snapshot, &Record::new(stamp, SplitSet::new(), &id)),
            Beginning::AlreadyBegun if state.commit.as_deref() == Some(&id) => {
                Ok(Step::Stop(Outcome::Committed { version: state.version }))
            }
            Beginning::AlreadyBegun => Ok(Step::Stop(Outcome::AlreadyDone)),
            Beginning::Refuse => Err(self.changed_plan(state, stamp)),
        })
    }

    fn write_beginning(&self, snapshot: SnapshotRef, record: &Record) -> Result<Step, CommitError> {
        let version = snapshot.version() + 1;
        let now = now_ms();
        let mut actions = vec![json!({"commitInfo": {
            "timestamp": now, "operation": "WRITE", "operationParameters": {"mode": "Overwrite"}, "engineInfo": ENGINE_INFO,
            "isBlindAppend": false,
        }})];
        if !difference(&*self.schema_of(&snapshot)?, &self.schema).is_empty() {
            actions.push(self.new_columns()?);
        }
        for file in self.live_files(&snapshot)? {
            actions.push(json!({"remove": {
                "path": file.path, "deletionTimestamp": now, "dataChange": true, "extendedFileMetadata": true, "partitionValues": {},
                "size": file.bytes,
            }}));
        }
        actions.push(json!({"domainMetadata": {"domain": DOMAIN, "configuration": record.to_json(), "removed": false}}));
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        let path = self.location.file(&format!("_delta_log/{version:020}.json"));
        Ok(match block_on(self.location.store.put_opts(&path, text.into(), PutMode::Create.into())) {
            Ok(_) => Step::Wrote { version },
            Err(error) => Step::Unconfirmed { version, reason: error.to_string() },
        })
    }

    /// The action that gives the table this pipeline's columns, under the identity that it was created with.
    fn new_columns(&self) -> Result<Value, CommitError> {
        let unreadable = |reason: String| CommitError::Log { table: self.name.clone(), reason };
        // What the library would write for a new table of these columns.
        let error = |e: delta_kernel::KernelError| self.delta_error("describe the new columns", &e);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime().clone()));
        let engine = DefaultEngineBuilder::new(Arc::clone(&store)).with_task_executor(executor).build();
        let schema: StructType = self.schema.as_ref().try_into_kernel().map_err(|e| error(e.into()))?;
        let _created = create_table("memory:///t/", Arc::new(schema), ENGINE_INFO, false)
            .with_table_properties(PROPERTIES)
            .build(&engine, Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.commit(&engine))
            .map_err(error)?;
        let path = Path::from("t/_delta_log/00000000000000000000.json");
        let made = block_on(async { store.get(&path).await?.bytes().await })
            .map_err(|e| self.storage_error("read", path.as_ref(), &e))?;
        let mut action = metadata(&String::from_utf8_lossy(&made))
            .ok_or_else(|| unreadable("a new table would have no `metaData` action".into()))?;
        let first = self.log_entry(0)?.ok_or_else(|| unreadable("its first entry is missing".into()))?;
        let there = metadata(&first).ok_or_else(|| unreadable("its first entry has no `metaData` action".into()))?;
        action["metaData"]["id"] = there["metaData"]["id"].clone();
        action["metaData"]["createdTime"] = there["metaData"]["createdTime"].clone();
        Ok(action)
    }

    /// The files of a version, by name.
    pub(crate) fn live_files(&self, snapshot: &SnapshotRef) -> Result<Vec<LiveFile>, CommitError> {
        fn collect(found: &mut (Vec<LiveFile>, bool), file: ScanFile) {
            found.1 |= file.dv_info.has_vector();
            found.0.push(LiveFile { path: file.path, bytes: file.size, rows: file.stats.map(|s| s.num_records) });
        }
        let list = || {
            let scan = Arc::clone(snapshot).scan_builder().build()?;
            let mut found = (Vec::new(), false);
            for part in scan.scan_metadata(&*self.engine)? {
                found = part?.visit_scan_files(found, collect)?;
            }
            Ok(found)
        };
        let (mut files, deletions): (Vec<LiveFile>, bool) = list().map_err(|e| self.delta_error("list the table's files", &e))?;
        if deletions {
            // We never write such; to ignore them would bring deleted rows back.
            return Err(CommitError::Log {
                table: self.name.clone(),
                reason: "another program deleted single rows of it".into(),
            });
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }
}

fn metadata(entry: &str) -> Option<Value> {
    entry.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|action| action.get("metaData").is_some())
}
