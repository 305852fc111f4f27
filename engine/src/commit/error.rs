//! What can go wrong between finished rows and a committed table. Each text says what, where, why and what to do.

/// A table could not be opened, written or committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The location is no absolute path and no URL of a store that is built in.
    #[error("table location `{location}`: {reason} ({help})")]
    Location {
        /// As given.
        location: String,
        /// Why it cannot be used.
        reason: String,
        /// What to do.
        help: String,
    },
    /// Two writers could both believe that they committed.
    #[error("`{location}` cannot hold tables: {reason} ({help})")]
    UnsafeStore {
        /// The place.
        location: String,
        /// What it does.
        reason: String,
        /// What to do.
        help: &'static str,
    },
    /// The store or the disk refused.
    #[error("table `{table}`: cannot {action} `{object}`: {reason}")]
    Storage {
        /// Name of the table.
        table: String,
        /// A verb: read, write, list.
        action: &'static str,
        /// Path or URL.
        object: String,
        /// The store's words.
        reason: String,
    },
    /// Delta has no type for a column.
    #[error("table `{table}`: column `{column}` of type {data_type} cannot be stored in a Delta table ({help})")]
    UnsupportedColumn {
        /// Name of the table.
        table: String,
        /// The column, with the path inside it for nested types.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// What to do.
        help: &'static str,
    },
    /// The table that is there has other columns.
    #[error(
        "table `{table}` at `{location}` has other columns than this pipeline makes: {} (run with --new-version to replace its rows, or write to another output)",
        .difference.join("; ")
    )]
    SchemaMismatch {
        /// Name of the table.
        table: String,
        /// Where it is.
        location: String,
        /// One sentence per difference.
        difference: Vec<String>,
    },
    /// The rows that are there belong to another plan.
    #[error(
        "table `{table}` holds rows of plan {found} (generation {found_generation}), but this run is plan {mine} (generation {my_generation}): run with --new-version to replace them, or write to another output"
    )]
    ChangedPlan {
        /// Name of the table.
        table: String,
        /// Plan hash in the table.
        found: String,
        /// Generation in the table.
        found_generation: u64,
        /// Plan hash of this run.
        mine: String,
        /// Generation of this run.
        my_generation: u64,
    },
    /// Other writers were faster, again and again, or the store failed again and again.
    #[error(
        "table `{table}`: gave up committing after {attempts} attempts, the last one: {last} (run the same command again: nothing that was committed is redone)"
    )]
    GaveUp {
        /// Name of the table.
        table: String,
        /// How many attempts.
        attempts: usize,
        /// What the last one met.
        last: String,
    },
    /// A commit without splits would lose its rows: nobody could tell whether they are there. A bug of the caller.
    #[error("table `{table}`: a commit must name the splits that it finishes; this is a bug of this program (please report it)")]
    NoSplits {
        /// Name of the table.
        table: String,
    },
    /// The log says something that cannot be understood. Nothing is changed then.
    #[error(
        "table `{table}`: its log cannot be trusted: {reason} (nothing was changed; if another program writes to this table, stop it or use another output)"
    )]
    Log {
        /// Name of the table.
        table: String,
        /// What was found.
        reason: String,
    },
    /// Rows could not be written to a shard.
    #[error("table `{table}`: cannot write shard `{file}`: {reason}")]
    Shard {
        /// Name of the table.
        table: String,
        /// File name.
        file: String,
        /// Why.
        reason: String,
    },
    /// The Delta library refused.
    #[error("table `{table}`: cannot {action}: {reason}")]
    Delta {
        /// Name of the table.
        table: String,
        /// What was being done.
        action: &'static str,
        /// The library's words.
        reason: String,
    },
}
