//! The verb `label`: lays out frames or records for a human, and reads the labels back.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::label::collect::collect;
use curette_operators::label::source::Table;
use curette_operators::label::{LabelError, MAX_COUNT, MAX_PICTURES, Settings, frames, records};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct LabelArgs {
    /// Folder of the videos whose frames are labelled.
    #[arg(long, conflicts_with = "table")]
    videos: Option<PathBuf>,
    /// Table whose rows are labelled: the folder of an output table such as OUTPUT/clips, or a CSV, JSONL or Parquet file.
    #[arg(long)]
    table: Option<PathBuf>,
    /// Column of --table that tells rows apart; `clip_id` if the table has it, else `video_id`.
    #[arg(long, requires = "table")]
    id: Option<String>,
    /// Column of --table whose values take turns, and stay together when a head is trained.
    #[arg(long, requires = "table")]
    group: Option<String>,
    /// Columns of --table to show, with commas between; `title` if the table has it.
    #[arg(long, value_delimiter = ',', requires = "table")]
    show: Option<Vec<String>>,
    /// Frames in a picture of each clip of --table (0 to 16; 0 = no picture), from `video_uri` and `start_us`, `end_us`, or from the clip's own file or bytes.
    #[arg(long, requires = "table", default_value_t = 0)]
    pictures: usize,
    /// How many to lay out; a larger number later adds to them.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// The labels that may be given, the negative one first, with commas between.
    #[arg(long, value_delimiter = ',', default_value = "non_medical,medical")]
    classes: Vec<String>,
    /// Draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Read the labels of this folder back instead.
    #[arg(long, conflicts_with_all = ["videos", "table"])]
    collect: Option<PathBuf>,
    /// With --collect: leave out rows that have no label.
    #[arg(long, requires = "collect")]
    allow_empty: bool,
    /// Folder to lay out; with --collect, the label table to write (Parquet).
    #[arg(long)]
    out: PathBuf,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn label(args: &LabelArgs) -> Exit {
    match answer(args) {
        Ok(Some(text)) => print(&text),
        Ok(None) => {
            complain(&"give --videos FOLDER or --table FILE to lay out, or --collect FOLDER to read back");
            Exit::Mistake
        }
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}

fn answer(args: &LabelArgs) -> Result<Option<String>, LabelError> {
    if let Some(folder) = &args.collect {
        let done = collect(folder, &args.out, args.allow_empty)?;
        if args.format == Format::Json {
            return Ok(Some(serde_json::to_string(&done).unwrap_or_default()));
        }
        let counts: Vec<String> = done.per_class.iter().map(|(class, n)| format!("{n} {class}")).collect();
        return Ok(Some(format!("{}: {}; {} without a label left out", args.out.display(), counts.join(", "), done.unlabelled)));
    }
    let Some(source) = args.videos.as_ref().or(args.table.as_ref()) else { return Ok(None) };
    if args.count > MAX_COUNT || args.classes.len() < 2 || args.pictures > MAX_PICTURES {
        let what = format!(
            "--count may be at most {MAX_COUNT}, --pictures at most {MAX_PICTURES}, and --classes needs two names or more"
        );
        return Err(LabelError { path: args.out.clone(), what });
    }
    let mut settings = Settings {
        source: source.clone(),
        classes: args.classes.clone(),
        seed: args.seed,
        id: None,
        group: args.group.clone(),
        pictures: args.pictures,
    };
    let done = match &args.table {
        None => frames(&settings, args.count, &args.out)?,
        Some(path) => {
            let id = args.id.clone().map_or_else(|| Table::usual_id(path).map(str::to_owned), Ok)?;
            let show = args.show.clone().map_or_else(|| Table::usual_show(path), Ok)?;
            settings.id = Some(id.clone());
            let table = Table { path: path.clone(), id, group: args.group.clone(), show, pictures: args.pictures };
            records(&settings, &table, args.count, &args.out)?
        }
    };
    if args.format == Format::Json {
        return Ok(Some(serde_json::to_string(&done).unwrap_or_default()));
    }
    let mut text = format!(
        "{}: {} rows, {} of them new, {} labelled\nfill in the column `label` of labels.csv with {}, then run\n  curette label --collect {} --out labels.parquet\n",
        args.out.display(),
        done.rows,
        done.new,
        done.labelled,
        args.classes.join(" or "),
        args.out.display()
    );
    done.skipped.iter().for_each(|s| text.push_str(&format!("skipped {s}\n")));
    Ok(Some(text))
}
