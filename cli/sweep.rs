//! The verb `sweep`: what thresholds on stored scores would keep.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::sweep::{Question, sweep};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct SweepArgs {
    /// A table with the scores of kept and dropped rows: the folder of an output table, or a Parquet, JSON Lines or CSV file.
    table: PathBuf,
    /// A score to look at; may be given several times.
    #[arg(long = "column", value_name = "COLUMN")]
    columns: Vec<String>,
    /// Thresholds to try (default: those that keep 100, 95, ... 5 percent).
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_hyphen_values = true, requires = "columns")]
    at: Vec<f64>,
    /// A score is kept up to its threshold, not from it on.
    #[arg(long)]
    lower_is_better: bool,
    /// SQL condition as in a `filter` step; may be given several times, in the order of the steps: their joint effect is counted.
    #[arg(long, value_name = "SQL")]
    keep: Vec<String>,
    /// Share of the measured rows to keep (above 0, at most 1): which threshold does it, all conditions together?
    #[arg(long, value_name = "SHARE", requires = "columns")]
    share: Option<f64>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn show(args: &SweepArgs) -> Exit {
    let question = Question {
        columns: args.columns.clone(),
        at: args.at.clone(),
        lower_is_better: args.lower_is_better,
        keep: args.keep.clone(),
        share: args.share,
    };
    match sweep(&args.table, &question) {
        Ok(found) => match args.format {
            Format::Text => print(found.to_string().trim_end()),
            Format::Json => print(&serde_json::to_string_pretty(&found).unwrap_or_default()),
        },
        Err(e) => {
            complain(&e);
            Exit::Mistake
        }
    }
}
