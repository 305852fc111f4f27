//! The verb `calibrate-tau`: labelled cuts become the `min_similarity` of `temporal_split`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use curette_engine::exit::Exit;
use curette_operators::calibrate::cuts::{pairs_of, read_cuts, read_pairs};
use curette_operators::calibrate::report::{Report, calibrate as run};
use curette_operators::clips::runs::Rule;
use curette_operators::clips::similarity::Comparison;
use curette_operators::train_head::folder::FolderEmbedder;
use curette_operators::train_head::samples::Embedder;
use curette_operators::train_head::table::EmbeddingTable;

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct CalibrateTauArgs {
    /// Table of labelled pairs (CSV, JSONL or Parquet): similarity, same (true or false), and group if known.
    #[arg(long, conflicts_with_all = ["cuts", "embeddings", "videos"])]
    pairs: Option<PathBuf>,
    /// Table of all cuts of some videos: video_id, time_seconds (or time_us); a video without cuts has one row without a time.
    #[arg(long)]
    cuts: Option<PathBuf>,
    /// Embeddings of these videos, as a `parquet` sink wrote them after `frame_embed`.
    #[arg(long, conflicts_with = "videos")]
    embeddings: Option<PathBuf>,
    /// Folder of these videos, to be embedded with --model, or with the built-in descriptor.
    #[arg(long)]
    videos: Option<PathBuf>,
    /// CLIP encoder for --videos, as `frame_embed` names it: a manifest's name, or the path of a manifest (.toml).
    #[arg(long, requires = "videos")]
    model: Option<String>,
    /// Frames per second of the embeddings.
    #[arg(long, default_value_t = 1.0)]
    fps: f64,
    /// What is compared, as `comparison` of `temporal_split`.
    #[arg(long, value_enum, default_value_t = Compare::Adjacent)]
    comparison: Compare,
    /// Samples on each side of `window`.
    #[arg(long, default_value_t = 3)]
    window_samples: usize,
    /// Share that must be right: with --cuts of clips (no cut inside), with --pairs of joined pairs (both of one shot).
    #[arg(long, default_value_t = 0.95)]
    share: f64,
    /// Shortest clip in seconds, for the share of clean clips.
    #[arg(long, default_value_t = 6.0)]
    min_length_seconds: f64,
    /// Longest clip in seconds; 0 = any.
    #[arg(long, default_value_t = 0.0)]
    max_length_seconds: f64,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum Compare {
    Adjacent,
    Window,
}

pub(crate) fn calibrate(args: &CalibrateTauArgs) -> Exit {
    let in_range =
        args.share > 0.0 && args.share <= 1.0 && (0.1..=10.0).contains(&args.fps) && (2..=16).contains(&args.window_samples);
    if !in_range {
        complain(&"--share is above 0 and at most 1, --fps from 0.1 to 10, --window-samples from 2 to 16");
        return Exit::Mistake;
    }
    if args.pairs.is_none() && (args.cuts.is_none() || (args.embeddings.is_none() && args.videos.is_none())) {
        complain(&"give --pairs FILE, or --cuts FILE with --embeddings TABLE or --videos FOLDER");
        return Exit::Mistake;
    }
    match report(args) {
        Ok(report) => match args.format {
            Format::Text => print(&report.to_string()),
            Format::Json => print(&serde_json::to_string(&report).unwrap_or_default()),
        },
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}

fn report(args: &CalibrateTauArgs) -> Result<Report, String> {
    let us = |seconds: f64| (seconds * 1e6).round() as i64;
    let rule = Rule {
        min_similarity: 0.0,
        min_length_us: us(args.min_length_seconds),
        max_length_us: us(args.max_length_seconds),
        nominal_period_us: 1e6 / args.fps,
    };
    if let Some(pairs) = &args.pairs {
        return run(read_pairs(pairs).map_err(|e| e.to_string())?, args.share, &rule, vec![]);
    }
    let Some(cuts) = &args.cuts else { return Err("--cuts is missing".into()) };
    let cuts = read_cuts(cuts).map_err(|e| e.to_string())?;
    let embedder: Box<dyn Embedder> = match (&args.embeddings, &args.videos) {
        (Some(table), _) => Box::new(EmbeddingTable::read(table, &|video| cuts.contains_key(video)).map_err(|e| e.to_string())?),
        (None, Some(folder)) => {
            Box::new(FolderEmbedder::new(folder.clone(), args.fps, args.model.as_deref()).map_err(|e| e.full())?)
        }
        (None, None) => return Err("--embeddings or --videos is missing".into()),
    };
    let comparison = match args.comparison {
        Compare::Adjacent => Comparison::Adjacent,
        Compare::Window => Comparison::Window(args.window_samples),
    };
    let (groups, skipped) = pairs_of(&cuts, &*embedder, comparison)?;
    run(groups, args.share, &rule, skipped)
}
