//! The verb `refilter`: what other thresholds would keep of the rows whose scores are stored.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::refilter::refilter;

use crate::{CheckArgs, Format, complain, pipeline, print};

#[derive(Args)]
pub(crate) struct RefilterArgs {
    /// The table with the scores of kept and dropped rows: the folder of a `parquet` sink below the pipeline's output.
    table: PathBuf,
    /// The pipeline with the new conditions.
    #[arg(long = "pipeline", value_name = "FILE")]
    new: PathBuf,
    /// The sink that is decided about; needed where several are behind the scores.
    #[arg(long, value_name = "STEP")]
    to: Option<String>,
    /// How the difference is printed; JSON holds every id.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn show(args: &RefilterArgs) -> Exit {
    // Nothing is run, so nothing that a run needs has to be there.
    let check = CheckArgs { pipeline: args.new.clone(), no_environment: true, onnxruntime: None, format: Format::Text };
    let graph = match pipeline::load(&check) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    match refilter(&args.table, &graph, args.to.as_deref()) {
        Ok(found) => match args.format {
            Format::Json => print(&serde_json::to_string_pretty(&found).unwrap_or_default()),
            Format::Text => print(&format!(
                "{}\nnothing is written; to commit it: curette run {} --new-version",
                found.to_string().trim_end(),
                args.new.display()
            )),
        },
        Err(e) => {
            complain(&e);
            Exit::Mistake
        }
    }
}
