//! Several workers, processes or machines that run one dataflow.
//!
//! | file | does |
//! |---|---|
//! | `workers` | runs a closure on every worker of this process |
//! | `abort` | makes a panic end the process instead of hanging it |
//!
//! Why not leave it to timely: its own start-up prints on stdout, waits for ever, and trusts whoever connects. Why everything ends when one
//! member does: membership of a timely computation is fixed for its life. Committed splits are never redone, so starting again is cheap.

mod abort;
mod error;
mod workers;

pub use abort::abort_on_panic;
pub use error::ClusterError;
pub use workers::{Workers, workers};
