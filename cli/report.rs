//! The verb `report`: a page about a table, and a dataset card.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::report::card::{self, CardOptions};
use curette_operators::report::{MAX_EXAMPLES, Options, report};

use crate::{complain, print};

#[derive(Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["out", "card"]))]
pub(crate) struct ReportArgs {
    /// A table below the output folder or URL of a pipeline, or the output where it has only one table of clips.
    table: String,
    /// Write the page here: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a dataset card into this folder: `README.md` for Hugging Face and `croissant.json`. The table's files are named where they lie
    /// if they are below the folder, else linked into its `data/`.
    #[arg(long, value_name = "DIR")]
    card: Option<PathBuf>,
    /// Title of both; that of the output folder if not given.
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Licence of the dataset in the card, by its id at Hugging Face, such as cc-by-4.0.
    #[arg(long, value_name = "ID", requires = "card")]
    licence: Option<String>,
    /// Examples of kept rows, and of each reason for which rows were dropped (0 to 60).
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(0..=MAX_EXAMPLES as i64))]
    examples: u8,
    /// Which examples are drawn.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Look at no video: examples are shown without pictures.
    #[arg(long)]
    no_pictures: bool,
}

pub(crate) fn write(args: &ReportArgs) -> Exit {
    match made(args) {
        Ok(said) => print(said.trim_end()),
        Err(e) => {
            complain(&format!("{}: {e}", args.table));
            Exit::Mistake
        }
    }
}

fn made(args: &ReportArgs) -> Result<String, String> {
    let options = Options {
        title: args.title.clone(),
        examples: usize::from(args.examples),
        seed: args.seed,
        pictures: args.out.is_some() && !args.no_pictures,
    };
    let report = report(&args.table, &options)?;
    let mut said = String::new();
    if let Some(out) = &args.out {
        let page = report.html();
        card::replace(out, page.as_bytes())?;
        said += &format!("{}: {} rows, {} KiB\n", out.display(), report.rows, page.len().div_ceil(1024));
        report.left_out.iter().for_each(|note| said += &format!("{note}\n"));
    }
    if let Some(folder) = &args.card {
        let written = card::write(&report, &CardOptions { folder: folder.clone(), licence: args.licence.clone() })?;
        said += &format!("{}: README.md and croissant.json name {} files\n", folder.display(), written.files);
        if written.strangers > 0 {
            said +=
                &format!("{} other files in {} are no part of this version\n", written.strangers, folder.join("data").display());
        }
    }
    Ok(said)
}
