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
//! | [`local`] | `--processes N`: the parent that starts, watches and restarts a cluster on this machine |
//! | `abort` | makes a panic end the process instead of hanging it |
//!
//! Why not leave it to timely: its own start-up prints on stdout, waits for ever, and trusts whoever connects. Why everything ends when one
//! member does: membership of a timely computation is fixed for its life. Committed splits are never redone, so starting again is cheap.

mod abort;
mod error;
mod frame;
mod handshake;
mod hosts;
pub mod local;
mod places;
mod sockets;
mod workers;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::TcpListener;

pub use abort::abort_on_panic;
pub use error::ClusterError;
pub use handshake::Mismatch;
pub use hosts::{HostsError, MAX_PROCESSES, parse_hosts, read_hosts};
pub use sockets::{CONNECT_LIMIT, connect};
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
    /// If given, members prove that they know it; it never travels.
    pub secret: Option<Secret>,
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

/// A shared secret. Never printed.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// 256 bits from the operating system.
    fn random() -> std::io::Result<Secret> {
        let mut bytes = [0u8; 32];
        std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
        Ok(Secret(blake3::Hash::from_bytes(bytes).to_hex().to_string()))
    }

    fn key(&self) -> [u8; 32] {
        blake3::derive_key("curette cluster handshake 1", self.0.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*********")
    }
}
