//! The verb `gc`: files of dead attempts.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use curette_engine::commit::Table;
use curette_engine::commit::gc::{Collection, Fate};
use curette_engine::exit::Exit;
use curette_engine::run::gc::collect;

use crate::{Format, complain, place, print};

/// Orphans of a table that are named; the rest are counted.
const NAMED: usize = 20;

#[derive(Args)]
pub(crate) struct GcArgs {
    /// The output folder or URL of a pipeline, or one of its tables.
    place: String,
    /// Delete what was found. Without it nothing is changed.
    #[arg(long)]
    delete: bool,
    /// Files that are younger stay, in hours. 0 only if surely no process writes to the output, on any machine.
    #[arg(long, value_name = "HOURS", default_value_t = 24.0, value_parser = hours)]
    older_than_hours: f64,
    /// The pipeline's output, for a table that lies elsewhere.
    #[arg(long, value_name = "PLACE")]
    output: Option<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if (0.0..=87_600.0).contains(&hours) => Ok(hours),
        _ => Err("give hours from 0 to 87600".into()),
    }
}

pub(crate) fn gc(args: &GcArgs) -> Exit {
    let place = match place::of(&args.place, args.output.as_deref()) {
        Ok(place) => place,
        Err(e) => {
            complain(&e);
            return Exit::Mistake;
        }
    };
    let min_age = Duration::from_secs_f64(args.older_than_hours * 3600.0);
    let mut all = BTreeMap::new();
    for (name, location) in &place.tables {
        let looked = Table::open_existing(name, location).and_then(|table| match table {
            Some(table) => collect(&place.output, &table, min_age, args.delete),
            None => Ok(Collection::default()),
        });
        match looked {
            Ok(found) => drop(all.insert(name.clone(), found)),
            Err(e) => {
                complain(&e);
                return Exit::Failed;
            }
        }
    }
    print(&match args.format {
        Format::Json => serde_json::json!({"deleted": args.delete, "tables": all}).to_string(),
        Format::Text => text(args, &all),
    })
}

fn text(args: &GcArgs, all: &BTreeMap<String, Collection>) -> String {
    let mut out = String::new();
    let (mut files, mut bytes) = (0, 0);
    for (name, found) in all {
        let kept = |fate| found.files.get(&fate).copied().unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{name}: {} orphans; {} files in versions, {} to be committed by the next run, {} of processes that live, {} too young",
            found.orphans.len(),
            kept(Fate::Named),
            kept(Fate::Pending),
            kept(Fate::Live),
            kept(Fate::Young)
        );
        for orphan in found.orphans.iter().take(NAMED) {
            let _ =
                writeln!(out, "  {}  {} bytes, {:.1} hours old", orphan.file, orphan.bytes, orphan.age_seconds as f64 / 3600.0);
        }
        if found.orphans.len() > NAMED {
            let _ = writeln!(out, "  ... and {} more", found.orphans.len() - NAMED);
        }
        files += found.orphans.len();
        bytes += found.orphans.iter().map(|orphan| orphan.bytes).sum::<u64>();
    }
    let done = match args.delete {
        true => "deleted",
        false => "could be deleted (--delete does it)",
    };
    let _ = writeln!(out, "{files} files of killed attempts, {bytes} bytes, {done}");
    out
}
