//! Several workers, processes or machines that run one dataflow.
//!
//! | file | does |
//! |---|---|
//! | `workers` | runs a closure on every worker of this process |
//! | `sockets` | binds, dials and accepts until every process is connected with every other, or a deadline passes |
//! | `places` | who is connected already |
//! | `handshake` | what two processes tell each other before they trust a connection |
//! | `frame` | the bytes of that, each with a magic, a version, a size limit and a deadline |
//! | `hosts` | the file of `--hosts` |
//! | `secret`, `build` | what members must share besides the plan |
//! | `tls` | what timely gets: connections as they are, or secured |
//! | [`local`] | the parent that starts, watches and restarts a cluster on this machine, or its process of a larger one |
//! | `abort` | makes a panic end the process instead of hanging it |
//!
//! Why not leave it to timely: its own start-up prints on stdout, waits for ever, and trusts whoever connects. Why everything ends when one
//! member does: membership of a timely computation is fixed for its life. Committed splits are never redone, so starting again is cheap.

mod abort;
mod build;
mod error;
mod frame;
mod handshake;
mod hosts;
pub mod local;
mod places;
mod secret;
mod sockets;
mod tls;
mod workers;

#[cfg(test)]
mod tests;

use std::net::TcpListener;
use std::time::Duration;

pub use abort::abort_on_panic;
pub use build::this_build;
pub use error::ClusterError;
pub use handshake::Mismatch;
pub use hosts::{HostsError, MAX_PROCESSES, is_loopback, parse_hosts, read_hosts};
pub use secret::{MIN_SECRET_CHARACTERS, Secret};
pub use sockets::connect;
pub use tls::{Tls, TlsFiles, Wire, secure};
pub use workers::{Workers, workers};

/// One process's view of the cluster. All members must agree on everything but `index` and `listen`; names may resolve differently.
#[derive(Debug)]
pub struct Members {
    /// Which of `addresses` is this process.
    pub index: usize,
    /// `host:port` of every process.
    pub addresses: Vec<String>,
    /// Worker threads of each process.
    pub threads: usize,
    /// Same for all processes of one run, different for any other run; empty where nobody can tell.
    pub run_id: String,
    /// Hash of what all processes are about to do.
    pub plan_hash: String,
    /// Which build of the program this is, as of [`this_build`].
    pub build: String,
    /// A connection on which nothing arrives for this long is lost, though nobody closed it.
    pub silence: Duration,
    /// If given, members prove that they know it; it never travels.
    pub secret: Option<Secret>,
    /// If given, connections are secured before anything but the handshake goes over them.
    pub tls: Option<Tls>,
    /// Where this process listens.
    pub listen: Listen,
}

/// Where a process waits for others.
#[derive(Debug, Default)]
pub enum Listen {
    /// On its own entry of the addresses.
    #[default]
    OwnAddress,
    /// Elsewhere, for example `0.0.0.0:2101` where the entry is a name that only others can resolve.
    At(String),
    /// On a socket that listens already.
    Ready(TcpListener),
}
