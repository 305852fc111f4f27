//! The verb `compact`: small files of a table become large ones.

use clap::Args;
use curette_engine::commit::Table;
use curette_engine::exit::Exit;

use crate::{Format, complain, place, print};

#[derive(Args)]
pub(crate) struct CompactArgs {
    /// The folder or URL of a table. Read it by its log afterwards (`polars.read_delta`): the old files stay beside the new ones, for older versions.
    table: String,
    /// About how large the new files become.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    target_mib: u64,
    /// Only show what would be joined.
    #[arg(long)]
    dry_run: bool,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn compact(args: &CompactArgs) -> Exit {
    let opened = place::absolute(&args.table).and_then(|place| {
        let name = place.rsplit('/').next().unwrap_or(&place).to_owned();
        let table = Table::open_existing(&name, &place).map_err(|e| e.to_string())?;
        table.ok_or_else(|| format!("{} is no table: it has no log", args.table))
    });
    let table = match opened {
        Ok(table) => table,
        Err(e) => {
            complain(&e);
            return Exit::Mistake;
        }
    };
    let target = args.target_mib << 20;
    let done = if args.dry_run { table.plan_compaction(target) } else { table.compact(target) };
    let done = match done {
        Ok(done) => done,
        Err(e) => {
            complain(&e);
            return Exit::Failed;
        }
    };
    print(&match args.format {
        Format::Json => serde_json::json!(done).to_string(),
        Format::Text if done.files_before == 0 => "nothing to do: no two small files".to_owned(),
        Format::Text => match done.version {
            Some(version) => format!(
                "version {version}: {} files ({} bytes) became {} ({} bytes) with the same {} rows; older versions keep the old files",
                done.files_before, done.bytes_before, done.files_after, done.bytes_after, done.rows
            ),
            None => format!("{} files ({} bytes, {} rows) would be joined", done.files_before, done.bytes_before, done.rows),
        },
    })
}
