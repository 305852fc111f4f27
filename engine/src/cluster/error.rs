//! What can go wrong between processes, each with its exit code.

use std::io;
use std::time::Duration;

use crate::exit::Exit;

use super::handshake::Mismatch;

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
    /// What the caller or the environment says about the cluster makes no sense.
    #[error("the description of the cluster is wrong: {0}")]
    BadMembers(String),
    /// The own address cannot be listened on.
    #[error(
        "process {index} cannot listen on {address}: {source}; check that the entry is an address of this machine and that the port is free, or give another one to bind"
    )]
    Bind {
        /// This process.
        index: usize,
        /// As given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A peer is part of something else.
    #[error("process {index} and process {peer} at {address} do not fit together: {mismatch}")]
    Differs {
        /// This process.
        index: usize,
        /// The other one.
        peer: usize,
        /// Where it is.
        address: String,
        /// In what they differ.
        mismatch: Mismatch,
    },
    /// A connection could not be secured.
    #[error(
        "process {index} and process {peer} at {address} cannot secure their connection: {why}; give every process a certificate of the same authority that names its host and has not run out"
    )]
    Tls {
        /// This process.
        index: usize,
        /// The other one.
        peer: usize,
        /// Where it is.
        address: String,
        /// What TLS says.
        why: String,
    },
    /// Not all processes were there in time.
    #[error("process {index} waited {} s for the others; {}{}", limit.as_secs(), missing.join("; "), list_refused(refused))]
    Deadline {
        /// This process.
        index: usize,
        /// How long it waited.
        limit: Duration,
        /// Who is missing, and the last thing seen of each.
        missing: Vec<String>,
        /// Connections that were turned away, the last few.
        refused: Vec<String>,
    },
    /// A peer was connected and went away before the start.
    #[error("process {peer} at {address} went away before all processes were connected ({why}); start the whole cluster again")]
    LostAtStart {
        /// The other one.
        peer: usize,
        /// Where it was.
        address: String,
        /// What was seen.
        why: String,
    },
    /// The operating system refused a socket, thread or process.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

fn list_refused(refused: &[String]) -> String {
    if refused.is_empty() { String::new() } else { format!("; refused meanwhile: {}", refused.join("; ")) }
}

impl ClusterError {
    /// The exit code of a process that ends for this reason.
    pub fn exit(&self) -> Exit {
        match self {
            ClusterError::WorkerPanicked { .. } => Exit::Internal,
            ClusterError::PeerLost | ClusterError::Deadline { .. } | ClusterError::LostAtStart { .. } => Exit::PeerLost,
            ClusterError::Start(_) | ClusterError::System { .. } => Exit::Failed,
            ClusterError::BadMembers(_) | ClusterError::Tls { .. } => Exit::Mistake,
            ClusterError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Exit::PeerLost,
            ClusterError::Bind { .. } => Exit::Mistake,
            ClusterError::Differs { mismatch: Mismatch::Plan { .. }, .. } => Exit::PlanChanged,
            ClusterError::Differs { .. } => Exit::Mistake,
        }
    }

    /// For `map_err` on calls of the operating system.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> ClusterError {
        let what = what.into();
        move |source| ClusterError::System { what, source }
    }
}
