//! The verb `train-head`: labelled frames become the linear head that `frame_classifier` reads.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_operators::train_head::folder::FolderEmbedder;
use curette_operators::train_head::{Settings, ThresholdRule, run};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct TrainHeadArgs {
    /// Label table (CSV, JSONL or Parquet): video_id, label, and time_us or start_seconds and end_seconds.
    #[arg(long)]
    labels: PathBuf,
    /// Folder of the videos; `video_id` is the path below it.
    #[arg(long)]
    videos: PathBuf,
    /// Head to write (safetensors).
    #[arg(long)]
    out: PathBuf,
    /// Frames per second; must be that of `frame_embed` in the pipeline.
    #[arg(long, default_value_t = 1.0)]
    fps: f64,
    /// The label that counts as positive.
    #[arg(long, default_value = "medical")]
    positive: String,
    /// The other label.
    #[arg(long, default_value = "non_medical")]
    negative: String,
    /// Threshold of the head, 0 to 1 (default: the one with the highest F1 on the training frames).
    #[arg(long)]
    threshold: Option<f64>,
    /// Strength of the L2 regularisation.
    #[arg(long, default_value_t = Settings::default().l2)]
    l2: f64,
    /// Share of the videos kept for validation, 0 to 0.9.
    #[arg(long, default_value_t = Settings::default().validation_share)]
    validation_share: f64,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(crate) fn train(args: &TrainHeadArgs) -> Exit {
    for (name, value, low, high) in [
        ("--fps", args.fps, 0.1, 10.0),
        ("--threshold", args.threshold.unwrap_or(0.5), 0.0, 1.0),
        ("--validation-share", args.validation_share, 0.0, 0.9),
        ("--l2", args.l2, 0.0, 1e6),
    ] {
        if !(low..=high).contains(&value) {
            complain(&format!("{name} {value} is not from {low} to {high}"));
            return Exit::Mistake;
        }
    }
    if !args.videos.is_dir() {
        complain(&format!("--videos {}: there is no such folder", args.videos.display()));
        return Exit::Mistake;
    }
    let settings = Settings {
        classes: [args.negative.clone(), args.positive.clone()],
        l2: args.l2,
        validation_share: args.validation_share,
        threshold: args.threshold.map_or(ThresholdRule::MaxF1, ThresholdRule::Fixed),
        ..Settings::default()
    };
    let embedder = FolderEmbedder::new(args.videos.clone(), args.fps);
    match run(&args.labels, &embedder, &settings, &args.out) {
        Ok(report) => match args.format {
            Format::Text => print(&format!("{report}head        {}", args.out.display())),
            Format::Json => print(&serde_json::to_string(&report).unwrap_or_default()),
        },
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}
