//! Every metric of curette in one table: name, kind, unit, labels, meaning.
//!
//! Why a table: dashboards and alerts are written against these names, so they change only on purpose, and whoever adds one says what it
//! means. What can go wrong: a label with unbounded values (an id, a path) makes one time series per value; labels here are step names, pool
//! names, table names and stable codes only.

use metrics::Unit;

/// What a metric measures over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values in buckets.
    Histogram,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Name as scraped.
    pub name: &'static str,
    /// What it measures over time.
    pub kind: Kind,
    /// Unit of its values.
    pub unit: Unit,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, for people.
    pub help: &'static str,
}

/// Rows that entered a step.
pub const ROWS_IN: &str = "curette_step_rows_in_total";
/// Rows that a step passed on.
pub const ROWS_OUT: &str = "curette_step_rows_out_total";
/// Rows that a step rejected.
pub const ROWS_REJECTED: &str = "curette_step_rows_rejected_total";
/// Rows that ended in an error.
pub const ROWS_ERRORS: &str = "curette_step_rows_errors_total";
/// Rows whose answer was kept from an earlier run.
pub const ROWS_REUSED: &str = "curette_step_rows_reused_total";
/// Seconds of one job.
pub const JOB_SECONDS: &str = "curette_step_job_seconds";
/// Jobs that a pool works on.
pub const POOL_ACTIVE: &str = "curette_pool_active_jobs";
/// Jobs that wait for a pool.
pub const POOL_QUEUED: &str = "curette_pool_queued_jobs";
/// Threads of a pool.
pub const POOL_THREADS: &str = "curette_pool_threads";
/// Splits of the plan.
pub const SPLITS_TOTAL: &str = "curette_splits";
/// Splits that are committed.
pub const SPLITS_DONE: &str = "curette_splits_done";
/// Splits that were committed when this process began.
pub const SPLITS_AT_START: &str = "curette_splits_done_at_start";
/// When this process began.
pub const STARTED: &str = "process_start_time_seconds";
/// When the last commit of this process ended.
pub const LAST_COMMIT: &str = "curette_last_commit_timestamp_seconds";
/// Bytes of batches between source and commit.
pub const BYTES_IN_FLIGHT: &str = "curette_in_flight_bytes";
/// Limit of the above.
pub const BYTES_IN_FLIGHT_LIMIT: &str = "curette_in_flight_limit_bytes";
/// Seconds of one commit.
pub const COMMIT_SECONDS: &str = "curette_commit_seconds";
/// Commits that met another writer and were tried again.
pub const COMMIT_RETRIES: &str = "curette_commit_retries_total";
/// Bytes of committed shards.
pub const SHARD_BYTES: &str = "curette_shard_bytes_total";
/// Rows of committed shards.
pub const SHARD_ROWS: &str = "curette_shard_rows_total";
/// Calls of remote services.
pub const REMOTE_CALLS: &str = "curette_remote_calls_total";
/// Tokens that a language model charged.
pub const REMOTE_TOKENS: &str = "curette_remote_tokens_total";
/// Money that language models charged.
pub const REMOTE_COST: &str = "curette_remote_cost_usd";
/// Requests that remote services are working on.
pub const REMOTE_IN_FLIGHT: &str = "curette_remote_in_flight_requests";
/// Look-ups in the result cache.
pub const CACHE_LOOKUPS: &str = "curette_cache_lookups_total";
/// Bytes in the frame store.
pub const FRAME_STORE_BYTES: &str = "curette_frame_store_bytes";
/// Decodes of a span of a video.
pub const SPAN_DECODES: &str = "curette_media_span_decodes_total";
/// Decoding passes over whole videos.
pub const GRID_DECODES: &str = "curette_media_grid_decodes_total";
/// Decoders that did not stop when they were told to.
pub const STUCK_PIPELINES: &str = "curette_media_stuck_pipelines_total";
/// Bytes of remote videos that were fetched.
pub const REMOTE_VIDEO_BYTES: &str = "curette_media_remote_bytes_total";
/// Ranges of remote videos that were fetched.
pub const REMOTE_VIDEO_REQUESTS: &str = "curette_media_remote_requests_total";
/// Decoder processes that crashed, were killed or did not answer.
pub const DECODERS_LOST: &str = "curette_decoder_processes_lost_total";
/// Calls of a model.
pub const MODEL_RUNS: &str = "curette_model_runs_total";
/// Rows that a model was given.
pub const MODEL_ROWS: &str = "curette_model_rows_total";
/// Calls of a model that failed.
pub const MODEL_ERRORS: &str = "curette_model_errors_total";
/// Seconds of one call of a model.
pub const MODEL_SECONDS: &str = "curette_model_run_seconds";
/// Resident memory.
pub const RESIDENT_BYTES: &str = "process_resident_memory_bytes";

/// The table.
pub const METRICS: &[Metric] = &[
    metric(ROWS_IN, Kind::Counter, Unit::Count, &["step"], "Rows that entered a step."),
    metric(ROWS_OUT, Kind::Counter, Unit::Count, &["step"], "Rows that a step passed on."),
    metric(ROWS_REJECTED, Kind::Counter, Unit::Count, &["step", "code"], "Rows that a rule of a step dropped."),
    metric(
        ROWS_ERRORS,
        Kind::Counter,
        Unit::Count,
        &["step", "code"],
        "Rows that could not be measured and ended in the errors table.",
    ),
    metric(ROWS_REUSED, Kind::Counter, Unit::Count, &["step"], "Rows whose answer was kept from an earlier run."),
    metric(JOB_SECONDS, Kind::Histogram, Unit::Seconds, &["step"], "Time that one job of a step took on its pool."),
    metric(POOL_ACTIVE, Kind::Gauge, Unit::Count, &["pool"], "Jobs that a pool works on now."),
    metric(POOL_QUEUED, Kind::Gauge, Unit::Count, &["pool"], "Jobs that wait for a thread of a pool."),
    metric(POOL_THREADS, Kind::Gauge, Unit::Count, &["pool"], "Threads of a pool."),
    metric(SPLITS_TOTAL, Kind::Gauge, Unit::Count, &[], "Splits of the plan."),
    metric(SPLITS_DONE, Kind::Gauge, Unit::Count, &[], "Splits that are committed, by earlier runs too."),
    metric(SPLITS_AT_START, Kind::Gauge, Unit::Count, &[], "Splits that were committed when this process began."),
    metric(STARTED, Kind::Gauge, Unit::Seconds, &[], "When this process began to run, in seconds since 1970."),
    metric(LAST_COMMIT, Kind::Gauge, Unit::Seconds, &[], "When the last commit of this process ended, in seconds since 1970."),
    metric(BYTES_IN_FLIGHT, Kind::Gauge, Unit::Bytes, &[], "Bytes of batches between source and commit."),
    metric(BYTES_IN_FLIGHT_LIMIT, Kind::Gauge, Unit::Bytes, &[], "Limit at which sources wait."),
    metric(COMMIT_SECONDS, Kind::Histogram, Unit::Seconds, &["table"], "Time that one commit took, retries included."),
    metric(COMMIT_RETRIES, Kind::Counter, Unit::Count, &["table"], "Commits that met another writer and were tried again."),
    metric(SHARD_BYTES, Kind::Counter, Unit::Bytes, &["table"], "Bytes of committed Parquet shards."),
    metric(SHARD_ROWS, Kind::Counter, Unit::Count, &["table"], "Rows of committed Parquet shards."),
    metric(
        REMOTE_CALLS,
        Kind::Counter,
        Unit::Count,
        &["step", "outcome"],
        "Calls of remote services; outcome is ok, retry or failed.",
    ),
    metric(
        REMOTE_TOKENS,
        Kind::Counter,
        Unit::Count,
        &["step", "direction"],
        "Tokens that a language model charged; direction is in or out.",
    ),
    metric(
        REMOTE_COST,
        Kind::Gauge,
        Unit::Count,
        &["step"],
        "US dollars that language models charged in this process, by the step's prices.",
    ),
    metric(REMOTE_IN_FLIGHT, Kind::Gauge, Unit::Count, &["endpoint"], "Requests that a remote service is working on now."),
    metric(
        CACHE_LOOKUPS,
        Kind::Counter,
        Unit::Count,
        &["step", "outcome"],
        "Look-ups in the result cache; outcome is hit or miss.",
    ),
    metric(FRAME_STORE_BYTES, Kind::Gauge, Unit::Bytes, &[], "Bytes of decoded frames that are kept for the next operator."),
    metric(
        SPAN_DECODES,
        Kind::Counter,
        Unit::Count,
        &[],
        "Times that frames of a span of a video were decoded, not found in the store.",
    ),
    metric(GRID_DECODES, Kind::Counter, Unit::Count, &[], "Decoding passes over a whole video, for frames on a regular grid."),
    metric(
        STUCK_PIPELINES,
        Kind::Counter,
        Unit::Count,
        &[],
        "Decoders that did not stop when they were told to and were left behind.",
    ),
    metric(REMOTE_VIDEO_BYTES, Kind::Counter, Unit::Bytes, &[], "Bytes of remote videos that were fetched, by ranges."),
    metric(REMOTE_VIDEO_REQUESTS, Kind::Counter, Unit::Count, &[], "Ranges of remote videos that were fetched."),
    metric(
        DECODERS_LOST,
        Kind::Counter,
        Unit::Count,
        &[],
        "Decoder processes that crashed, were killed or did not answer in time.",
    ),
    metric(MODEL_RUNS, Kind::Counter, Unit::Count, &["model"], "Calls of a model, one batch each."),
    metric(MODEL_ROWS, Kind::Counter, Unit::Count, &["model"], "Rows that a model was given."),
    metric(MODEL_ERRORS, Kind::Counter, Unit::Count, &["model"], "Calls of a model that failed."),
    metric(MODEL_SECONDS, Kind::Histogram, Unit::Seconds, &["model"], "Time that one call of a model took."),
    metric(RESIDENT_BYTES, Kind::Gauge, Unit::Bytes, &[], "Resident memory of this process."),
];

const fn metric(name: &'static str, kind: Kind, unit: Unit, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// Tells the installed recorder what each metric means.
pub(super) fn describe() {
    for m in METRICS {
        match m.kind {
            Kind::Counter => metrics::describe_counter!(m.name, m.unit, m.help),
            Kind::Gauge => metrics::describe_gauge!(m.name, m.unit, m.help),
            Kind::Histogram => metrics::describe_histogram!(m.name, m.unit, m.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_their_kind_and_unit() {
        let mut seen = HashSet::new();
        for m in METRICS {
            assert!(seen.insert(m.name), "{} twice", m.name);
            assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == Kind::Counter, "{}", m.name);
            match m.unit {
                Unit::Seconds => assert!(m.name.contains("_seconds"), "{}", m.name),
                Unit::Bytes => assert!(m.name.contains("_bytes"), "{}", m.name),
                _ => {}
            }
            assert!(m.help.ends_with('.'), "{}", m.name);
        }
    }
}
