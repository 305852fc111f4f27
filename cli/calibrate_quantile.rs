//! The verb `calibrate-quantile`: a share that a paper says was dropped becomes the limit of a score.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::calibrate::quantile::{Question, of_table};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct CalibrateQuantileArgs {
    /// A table with the score: the folder of an output table, or a Parquet, JSON Lines or CSV file.
    table: PathBuf,
    /// The column with the score.
    #[arg(long)]
    column: String,
    /// Share of the rows to drop (0 to 1): the lowest are dropped.
    #[arg(long)]
    share: f64,
    /// SQL condition: only these rows count.
    #[arg(long, value_name = "SQL")]
    among: Option<String>,
    /// SQL condition: only these rows may be dropped.
    #[arg(long, value_name = "SQL")]
    droppable: Option<String>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn calibrate(args: &CalibrateQuantileArgs) -> Exit {
    if !(0.0..=1.0).contains(&args.share) {
        complain(&"--share is from 0 to 1");
        return Exit::Mistake;
    }
    let (among, droppable) = (args.among.as_deref(), args.droppable.as_deref());
    match of_table(&args.table, &Question { column: &args.column, share: args.share, among, droppable }) {
        Ok(cut) => match args.format {
            Format::Text => print(&cut.to_string()),
            Format::Json => print(&serde_json::to_string(&cut).unwrap_or_default()),
        },
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}
