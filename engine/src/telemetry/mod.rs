//! What a person or a machine can see of a running process: logs, progress, metrics.
//!
//! | file | does |
//! |---|---|
//! | `logs` | `tracing` events to stderr, for people or as JSON |
//! | `progress` | a bar on a terminal, one line every ten seconds elsewhere |
//! | `rate` | speed and estimated time left, from samples |
//! | `server` | `/metrics` and `/healthz` on an opt-in address |
//! | [`names`] | every metric: name, kind, unit, labels, meaning |
//!
//! Why stderr only: stdout belongs to data. This is the only part of the engine that reads a clock for people; nothing from here may reach a
//! row, a plan or a file name.

mod logs;
pub mod names;
mod progress;
mod rate;
mod server;
#[cfg(test)]
mod tests;

pub use logs::{LogFormat, LogOptions, init_logs};
pub use progress::{Progress, ProgressMode, Snapshot, Total};
pub use server::{Health, MetricsFile, MetricsServer};

/// The time in milliseconds since 1970: for people, and for what dead processes left; never for rows, plans or names.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// Telemetry that cannot start. None of these touches data.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error("the log filter `{filter}` is not understood: {reason}; write for example `info` or `warn,curette_engine=debug`")]
    BadFilter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logs or metrics were set up before in this process.
    #[error("{0} are set up already in this process; set them up once, at the start")]
    AlreadySet(&'static str),
    /// The address of the metrics server does not parse or resolve.
    #[error("`{address}` is not an address to listen on ({reason}); write host:port, for example 127.0.0.1:9464")]
    BadAddress {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The metrics server cannot listen.
    #[error("cannot serve metrics on {address}: {source}; choose another port, or port 0 for any free one")]
    Listen {
        /// As resolved.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A thread or runtime could not be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// Which one.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}
