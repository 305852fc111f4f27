//! The verb `train-head`: labelled embeddings become the head that `frame_classifier` or `text_classifier` reads.

use std::path::PathBuf;

use clap::Args;
use curette_engine::exit::Exit;
use curette_heads::Encoder;
use curette_heads::threshold::ThresholdRule;
use curette_heads::train::Settings;
use curette_operators::train_head::flat::FlatTable;
use curette_operators::train_head::folder::FolderEmbedder;
use curette_operators::train_head::{run, run_flat, run_table};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct TrainHeadArgs {
    /// Label table (CSV, JSONL or Parquet): video_id, label, and time_us or start_seconds and end_seconds for frames.
    #[arg(long, required_unless_present = "label")]
    labels: Option<PathBuf>,
    /// Folder of the videos; `video_id` is the path below it. They are embedded with --model, or with the built-in descriptor.
    #[arg(long, required_unless_present = "embeddings")]
    videos: Option<PathBuf>,
    /// CLIP encoder for --videos, as `frame_embed` names it: a manifest's name, or the path of a manifest (.toml). It is found as
    /// `curette doctor` finds them.
    #[arg(long, requires = "videos")]
    model: Option<String>,
    /// Table with embeddings instead of videos: the folder of an output table, or a Parquet or JSON Lines file.
    #[arg(long, conflicts_with = "videos")]
    embeddings: Option<PathBuf>,
    /// Column of --embeddings that holds the label of each row, instead of --labels.
    #[arg(long, requires = "embeddings", conflicts_with = "labels")]
    label: Option<String>,
    /// Column of --embeddings that holds the vectors, where labels are in the same table.
    #[arg(long, default_value = "embedding")]
    embedding_column: String,
    /// Column whose rows stay together in the split, such as channel_id; without it, each video (or row) is a group.
    #[arg(long)]
    group: Option<String>,
    /// The encoder that the embeddings must be of, as NAME or NAME@sha256:HEX.
    #[arg(long)]
    encoder: Option<Encoder>,
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
    /// How the threshold is chosen on the validation rows: max-f1, precision>=0.95, or a number from 0 to 1.
    #[arg(long, default_value = "max-f1")]
    threshold: ThresholdRule,
    /// Inverse strength of the regularisation; repeat it to choose among several by validation log loss (default: 0.01 to 10000 by tens).
    #[arg(long)]
    c: Vec<f64>,
    /// Rows that each class must have.
    #[arg(long, default_value_t = Settings::default().min_rows_per_class)]
    min_rows_per_class: usize,
    /// Deals out the groups to training, validation and test (70, 15, 15 %).
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl TrainHeadArgs {
    fn mistake(&self) -> Option<String> {
        if !(0.1..=10.0).contains(&self.fps) {
            return Some(format!("--fps {} is not from 0.1 to 10", self.fps));
        }
        if let Some(c) = self.c.iter().find(|c| !(1e-9..=1e9).contains(*c)) {
            return Some(format!("--c {c} is not from 1e-9 to 1e9"));
        }
        if self.positive == self.negative {
            return Some(format!("--positive and --negative are both `{}`", self.positive));
        }
        match &self.videos {
            Some(folder) if !folder.is_dir() => Some(format!("--videos {}: there is no such folder", folder.display())),
            _ => None,
        }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings {
            classes: [self.negative.clone(), self.positive.clone()],
            threshold: self.threshold,
            min_rows_per_class: self.min_rows_per_class,
            seed: self.seed,
            ..Settings::default()
        };
        if !self.c.is_empty() {
            settings.c.clone_from(&self.c);
        }
        settings
    }
}

pub(crate) fn train(args: &TrainHeadArgs) -> Exit {
    if let Some(mistake) = args.mistake() {
        complain(&mistake);
        return Exit::Mistake;
    }
    let (settings, wanted, group) = (args.settings(), args.encoder.as_ref(), args.group.as_deref());
    let outcome = match (&args.labels, &args.videos, &args.embeddings, &args.label) {
        (Some(labels), Some(videos), _, _) => {
            let embedder = match FolderEmbedder::new(videos.clone(), args.fps, args.model.as_deref()) {
                Ok(embedder) => embedder,
                Err(e) => {
                    complain(&e.full());
                    return Exit::Mistake;
                }
            };
            run(labels, group, &embedder, wanted, &settings, &args.out)
        }
        (Some(labels), None, Some(embeddings), _) => run_table(labels, group, embeddings, wanted, &settings, &args.out),
        (None, _, Some(embeddings), Some(label)) => {
            let table = FlatTable {
                path: embeddings.clone(),
                embedding: args.embedding_column.clone(),
                label: label.clone(),
                group: args.group.clone(),
            };
            run_flat(&table, wanted, &settings, &args.out)
        }
        _ => {
            complain(&"give --labels with --videos or --embeddings, or --embeddings with --label");
            return Exit::Mistake;
        }
    };
    match outcome {
        Ok(outcome) => match args.format {
            Format::Text => print(&format!("{outcome}head        {}", args.out.display())),
            Format::Json => print(&serde_json::to_string(&outcome).unwrap_or_default()),
        },
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}
