//! The verb `export`: clips with captions, or encoded ones, in the form of another trainer.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::training::export::{Columns, Report, Target, export};
use serde_json::json;

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// A table of clips: the folder or URL of an output table (such as OUTPUT/clips), a Parquet file or a folder of them; or a spool of encoded
    /// clips that `lora_trainer` made.
    #[arg(value_name = "FILE_OR_DIR")]
    input: String,
    /// Whose form.
    #[arg(long, value_enum)]
    to: Form,
    /// The folder to make; it must not be there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Column that names the clips; `clip_id` if the table has it, else `video_id`, else `id`.
    #[arg(long, value_name = "COLUMN")]
    id: Option<String>,
    /// Column with the captions.
    #[arg(long, value_name = "COLUMN", default_value = "caption")]
    caption: String,
    /// Column with the clips: bytes, or a struct of `bytes` and `path`. Where it holds none, `clip_uri` names the file.
    #[arg(long, value_name = "COLUMN", default_value = "clip")]
    clip: String,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Form {
    /// FastVideo of July 2025: a list of clips, or tensors as torch.save writes them.
    FastvideoV0,
    /// FastVideo of today: clips and a list, or tables of encoded clips.
    Fastvideo,
    /// finetrainers: clips, lists and its dataset file.
    Finetrainers,
    /// musubi-tuner: clips with its TOML, or its caches.
    Musubi,
    /// WebDataset: tar files.
    Webdataset,
    /// Hugging Face datasets: a videofolder.
    Hf,
}

impl From<Form> for Target {
    fn from(form: Form) -> Target {
        match form {
            Form::FastvideoV0 => Target::FastvideoV0,
            Form::Fastvideo => Target::Fastvideo,
            Form::Finetrainers => Target::Finetrainers,
            Form::Musubi => Target::Musubi,
            Form::Webdataset => Target::Webdataset,
            Form::Hf => Target::Hf,
        }
    }
}

pub(crate) fn show(args: &ExportArgs) -> Exit {
    let columns = Columns { id: args.id.clone(), caption: args.caption.clone(), clip: args.clip.clone() };
    let target = Target::from(args.to);
    match export(&args.input, target, &columns, &args.out) {
        Ok(report) => print(&text(args, target, &report)),
        Err(e) => {
            complain(&e);
            Exit::Mistake
        }
    }
}

fn text(args: &ExportArgs, target: Target, report: &Report) -> String {
    let Report { exported, left_out, left_out_why, warnings } = report;
    if args.format == Format::Json {
        let out = json!({
            "out": args.out.display().to_string(), "to": target.name(), "exported": exported,
            "left_out": left_out, "left_out_why": left_out_why, "warnings": warnings,
        });
        return out.to_string();
    }
    let mut out = format!("{}: {exported} clips in the form of {}", args.out.display(), target.name());
    // Writing to a string cannot fail.
    if *left_out > 0 {
        let _ = write!(out, "; {left_out} left out:");
        for why in left_out_why {
            let _ = write!(out, "\n  {why}");
        }
        if (left_out_why.len() as u64) < *left_out {
            let _ = write!(out, "\n  ... and {} more", left_out - left_out_why.len() as u64);
        }
    }
    for (what, clips) in warnings {
        let _ = write!(out, "\n{clips} clips: {what}");
    }
    out
}
