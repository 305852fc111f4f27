//! What can go wrong between processes, each with its exit code.

use crate::exit::Exit;

/// A cluster that does not come up, or that came down.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A worker thread of this process panicked, and no panic hook ended the process.
    #[error("worker {worker} of this process panicked: {message}")]
    WorkerPanicked {
        /// Index among the workers of this process.
        worker: usize,
        /// What the panic said.
        message: String,
    },
    /// A network thread of timely panicked: a peer is gone.
    #[error(
        "the connection to another process was lost while the dataflow ran; restart the whole cluster, finished splits are kept"
    )]
    PeerLost,
    /// The dataflow could not be started.
    #[error("cannot start the workers: {0}")]
    Start(String),
}

impl ClusterError {
    /// The exit code of a process that ends for this reason.
    pub fn exit(&self) -> Exit {
        match self {
            ClusterError::WorkerPanicked { .. } => Exit::Internal,
            ClusterError::PeerLost => Exit::PeerLost,
            ClusterError::Start(_) => Exit::Failed,
        }
    }
}
