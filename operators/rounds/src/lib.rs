//! Decisions that need all rows of a key, made in rounds over what is committed.
//!
//! Why a crate of its own: a row alone cannot say whether its channel has enough medical videos, nor whether another row has its content. Such a
//! decision is made by sets over committed tables, never by arrival, so that order, splits and the number of workers cannot change it. Each round is
//! the difference to the rounds before.
//!
//! | file | does |
//! |---|---|
//! | `rule` | when a channel qualifies |
//! | `ids` | ids as 64-bit numbers |
//! | `expand` | the differential dataflow: records and medical videos in, channels and videos that are new in each round out |
//! | `ledger`, `rows` | the committed table of rounds, and its rows |
//! | `dedup` | which of several equal rows stays |
//! | `oracle` | the same by plain sets, slow and obvious; for tests |
//!
//! What can go wrong: memory. The dataflow holds about [`BYTES_PER_RECORD`] for each record that a round looks at: in the first round the whole
//! catalogue, so callers limit their number first.

pub mod dedup;
pub mod expand;
pub mod ids;
pub mod ledger;
pub mod oracle;
mod rows;
pub mod rule;

pub use expand::{Batch, Expansion, Outcome, Record, Work};
pub use rule::{Counts, Rule};

/// What a record of the catalogue takes in the arrangement, about; while a round is being read up to twice as much. A rule with a share takes it
/// twice.
pub const BYTES_PER_RECORD: u64 = 23;
