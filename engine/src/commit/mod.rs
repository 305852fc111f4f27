//! Delta tables that are right after any kill.
//!
//! # What it promises
//!
//! A row is true only when an entry of the table's log names its file, and the same entry says which splits are done. So a process may
//! die at any moment: what was committed stays and is never redone, what was not committed was never visible.
//!
//! # How
//!
//! | file | what |
//! |---|---|
//! | `split_set` | which splits, as ranges: `0-41,43` |
//! | `location` | a path or URL becomes an object store; the async runtime that all blocking calls here share |
//! | `synced` | the local store, with log entries flushed to disk before they become visible |
//! | `folder` | small whole files: plans |
//! | `schema` | Arrow types to what Delta can hold, and the difference between two schemas |
//! | `shard`, `upload`, `stats` | rows to one Parquet file under a name that no other attempt can have |
//! | `record` | the JSON that says which splits are done |
//! | `decide` | pure: given what the table says, may I commit, did my commit land |
//! | `table`, `actions` | open, create, state, commit; the retry loop |
//! | `generation` | a new version of the table: old rows removed logically, old versions still readable |
//! | `history` | older versions: which there are, and their rows |
//! | `orphans` | deletes files that no log entry ever named |
//! | `read` | reads tables back, from stores only the columns that are asked for |
//! | `store_file` | a Parquet file in a store: its end, then the ranges that are read |
//! | `pages` | where in a file the values of a column may be |
//! | `jsonl` | the other format: one file per split, replaced as a whole |
//! | `killpoint` | where tests kill the process |
//!
//! # What can go wrong
//!
//! * Everything here blocks. Call it from plain threads (a writer thread, `main`), never inside an async context or on a dataflow worker.
//! * A store must support "create if absent". S3, GCS, Azure and local disks do; the commit is one such put. A response that got lost
//!   is settled by reading the log entry back and comparing commit ids.
//! * An upload that was cut off on S3 leaves an incomplete multipart upload that no listing shows: give the bucket a lifecycle rule.

mod actions;
mod decide;
mod error;
mod folder;
mod generation;
mod history;
mod jsonl;
pub mod killpoint;
pub(crate) mod location;
mod orphans;
mod pages;
mod read;
mod record;
mod schema;
mod shard;
mod split_set;
mod stats;
mod store_file;
mod synced;
mod table;
mod upload;

#[cfg(test)]
mod tests;

pub use error::CommitError;
pub use folder::Folder;
pub use history::{Edition, History};
pub use jsonl::{JsonlDir, SplitFile};
pub use killpoint::kill_point;
pub use orphans::Orphans;
pub use pages::Pages;
pub use parquet::arrow::arrow_reader::RowSelection;
pub use read::{Batches, TableFile, parquet_reader};
pub use schema::table_schema;
pub use shard::{Shard, ShardWriter};
pub use split_set::{SplitSet, SplitSetError};
pub use store_file::StoreFile;
pub use table::{Outcome, PlanStamp, Table, TableSpec, TableState};
