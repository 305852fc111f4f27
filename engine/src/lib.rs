//! The engine of curette: it turns a TOML pipeline into a dataflow and its results into committed tables.
//! It knows nothing of video.
//!
//! # Map of the code
//!
//! A pipeline file goes through these modules from top to bottom:
//!
//! | module | takes | gives |
//! |---|---|---|
//! | [`config`] | TOML text | steps with spans, every mistake as a [`diag::Diagnostic`] |
//! | [`check`] | steps + the operator registry | a checked [`graph::Graph`]: order, one Arrow schema per edge |
//! | [`draw`] | a graph | Mermaid, DOT, SVG |
//! | [`plan`] | a graph + the inputs that its sources list | an immutable [`plan::Plan`] of splits, and its hash |
//! | [`dataflow`] | graph + plan + tables | runs it: timely workers coordinate, [`pool`] threads work |
//! | [`isolation`] | a decoding step's rows | its answers, from child processes that may crash |
//! | [`reuse`] | rows that an expensive step has answered for before | their answers, from version to version |
//! | [`commit`] | finished splits and their shards | Delta tables that are right after any kill |
//! | [`cluster`] | several processes or machines | connected sockets for the dataflow, and a parent that restarts it |
//! | [`run`] | all of the above | the verb `run`: resume, new versions, the check of all sums, the funnel |
//!
//! What an operator is, and the only file to read before writing one: [`operator`]. What it answers for each row:
//! [`verdict`]; what operators of a process share: [`resources`]. SQL conditions: [`predicate`]. Documentation and JSON Schema from the
//! registry: [`describe`]. Logs, metrics, progress: [`telemetry`]. Exit codes: [`exit`]. What the C allocator may keep: [`memory`].
//! Children that die with their parent: `orphan`.
//!
//! # Rules that hold everywhere
//!
//! * Records are small; pixels never cross an edge.
//! * Worker threads never block; pools do the work and every pool is bounded.
//! * No row leaves without a record: in = passed + rejected + errors, for each step of each split.
//! * A split is one timestamp in a lane of its own; when progress tracking says that it is complete, it is committed: in all tables or none.
//! * A panic ends the process; data never panics.

pub mod check;
pub mod cluster;
pub mod commit;
pub mod config;
pub mod dataflow;
pub mod describe;
pub mod diag;
pub mod draw;
mod entry;
pub mod exit;
pub mod graph;
pub mod isolation;
pub mod memory;
pub mod operator;
mod orphan;
pub mod plan;
pub mod pool;
pub mod predicate;
pub mod resources;
pub mod reuse;
pub mod run;
pub mod telemetry;
pub mod verdict;
