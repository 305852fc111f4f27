//! The verb `stats`: what the tables of an output say of the run, as text, JSON or a picture.

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::stats::{stats, svg};

use crate::{complain, print};

#[derive(Args)]
pub(crate) struct StatsArgs {
    /// The output folder or URL of a pipeline, or one of its tables: then its number columns are counted, too.
    table: String,
    /// How the statistics are printed.
    #[arg(long, value_enum, default_value_t = Picture::Text)]
    format: Picture,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq)]
enum Picture {
    Text,
    Json,
    Svg,
}

pub(crate) fn show(args: &StatsArgs) -> Exit {
    match stats(&args.table) {
        Ok(found) => match args.format {
            Picture::Text => print(found.text().trim_end()),
            Picture::Json => print(&serde_json::to_string_pretty(&found).unwrap_or_default()),
            Picture::Svg => print(svg::svg(&found).trim_end()),
        },
        Err(e) => {
            complain(&format!("{}: {e}", args.table));
            Exit::Mistake
        }
    }
}
