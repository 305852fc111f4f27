//! `curette train-head`: a label table and videos become a linear head for `frame_classifier`.
//!
//! L2-regularised logistic regression on frame embeddings. Videos, not frames, are split into training and validation: frames of one video look alike, and a
//! head that saw some of them would seem better than it is. The threshold is chosen on the training frames, so that the validation numbers belong
//! to exactly the head and threshold that are written.
//!
//! The same labels and videos give the same bytes: no clock, no random number, no thread count enters. What can go wrong: too few labels, labels that
//! contradict each other, videos that cannot be read; each ends in a [`TrainError`] or, where training can go on, in a line of the [`Report`].

pub mod folder;
pub mod labels;
pub mod lbfgs;
pub mod logistic;
pub mod metrics;
pub mod samples;
pub mod split;
pub mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::frames::head::Head;
use labels::Label;
use logistic::Model;
use metrics::{Metrics, max_f1_threshold};
use samples::{Embedder, Samples};

/// How the head's threshold is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdRule {
    /// The one with the highest F1 on the training frames, midway between the two scores that it separates; among equals the one nearest to 0.5.
    MaxF1,
    /// This one (0 to 1).
    Fixed(f64),
}

/// What to train, with which settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names of the classes in the label table, negative first.
    pub classes: [String; 2],
    /// Strength of the regularisation: the loss is mean log loss + l2/2 * |w|^2.
    pub l2: f64,
    /// Share of the videos kept for validation, 0 to 0.9; 0 means none.
    pub validation_share: f64,
    /// See [`ThresholdRule`].
    pub threshold: ThresholdRule,
    /// Each class needs at least this many labelled training frames.
    pub min_frames_per_class: usize,
    /// Videos embedded at once.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            classes: ["non_medical".into(), "medical".into()],
            l2: 1e-3,
            validation_share: 0.25,
            threshold: ThresholdRule::MaxF1,
            min_frames_per_class: 10,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// Why no head was trained.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The label table cannot be used.
    #[error(transparent)]
    Labels(#[from] labels::LabelError),
    /// The embeddings cannot be had.
    #[error("{0}")]
    Embeddings(String),
    /// There is not enough to learn from.
    #[error("{0}")]
    TooLittle(String),
    /// The numbers did not work out.
    #[error("training did not converge: {0}")]
    Diverged(String),
    /// The result cannot be written.
    #[error("{} cannot be written: {error}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// What training came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The embedding that the head reads.
    pub embedding_model: String,
    /// Its width.
    pub dim: usize,
    /// Names of the classes, negative first.
    pub classes: [String; 2],
    /// Regularisation.
    pub l2: f64,
    /// The head's threshold.
    pub threshold: f64,
    /// How it was chosen.
    pub threshold_rule: ThresholdRule,
    /// Steps of the optimiser.
    pub iterations: usize,
    /// Final loss, regularisation included.
    pub loss: f64,
    /// On the frames that the head was trained on.
    pub training: Metrics,
    /// On videos that it never saw; absent when none were kept.
    pub validation: Option<Metrics>,
    /// Videos in training.
    pub training_videos: usize,
    /// Videos in validation.
    pub validation_videos: usize,
    /// Lines of the label table that no sampled frame answers to.
    pub labels_without_frames: usize,
    /// Videos that could not be embedded, and why.
    pub videos_skipped: Vec<String>,
    /// Hash of embeddings and labels.
    pub training_data_blake3: String,
}

/// Trains a head on labelled embeddings.
pub fn train(samples: &Samples, model: &str, settings: &Settings) -> Result<(Head, Report), TrainError> {
    let parts = split::by_video(samples, settings.validation_share);
    let of = |validation: bool| samples.select(|i| parts.is_validation(samples.video_of[i]) == validation);
    let (training, validation) = (of(false), of(true));
    for (class, want) in settings.classes.iter().zip([false, true]) {
        let n = training.positive.iter().filter(|p| **p == want).count();
        if n < settings.min_frames_per_class {
            let message = format!(
                "{n} training frames are labelled `{class}`, at least {} are needed; label more, or keep fewer videos for validation",
                settings.min_frames_per_class
            );
            return Err(TrainError::TooLittle(message));
        }
    }
    let Model { weight, bias, loss, iterations } = logistic::fit(&training, settings.l2).map_err(TrainError::Diverged)?;
    let weight: Vec<f32> = weight.iter().map(|w| *w as f32).collect();
    let mut head = Head {
        weight,
        bias: bias as f32,
        embedding_model: model.to_owned(),
        classes: settings.classes.clone(),
        threshold: 0.5,
        notes: BTreeMap::new(),
    };
    // Scored by the head itself, so that the numbers are those of the file.
    let scores_of = |samples: &Samples| samples.vectors().map(|v| head.score(v)).collect::<Vec<f32>>();
    let (training_scores, validation_scores) = (scores_of(&training), scores_of(&validation));
    let threshold = match settings.threshold {
        ThresholdRule::MaxF1 => max_f1_threshold(&training_scores, &training.positive),
        ThresholdRule::Fixed(t) => t,
    };
    let report = Report {
        embedding_model: model.to_owned(),
        dim: samples.dim,
        classes: settings.classes.clone(),
        l2: settings.l2,
        threshold,
        threshold_rule: settings.threshold,
        iterations,
        loss,
        training: Metrics::of(&training_scores, &training.positive, threshold),
        validation: (!validation.positive.is_empty()).then(|| Metrics::of(&validation_scores, &validation.positive, threshold)),
        training_videos: parts.training(),
        validation_videos: parts.validation(),
        labels_without_frames: samples.labels_without_frames,
        videos_skipped: samples.videos_skipped.clone(),
        training_data_blake3: samples.blake3(),
    };
    head.threshold = threshold;
    let rule = match settings.threshold {
        ThresholdRule::MaxF1 => "max_f1 on training frames",
        ThresholdRule::Fixed(_) => "fixed",
    };
    head.notes = [
        ("curette_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("threshold_rule", rule.to_owned()),
        ("training_data_blake3", report.training_data_blake3.clone()),
        ("report", serde_json::to_string(&report).unwrap_or_default()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into();
    Ok((head, report))
}

/// Reads labels, embeds the videos that they name, trains, and writes the head to `out` as a whole or not at all.
pub fn run(labels: &Path, embedder: &dyn Embedder, settings: &Settings, out: &Path) -> Result<Report, TrainError> {
    let labels: Vec<Label> = labels::read(labels, &settings.classes)?;
    let samples = samples::collect(&labels, embedder, settings.threads)?;
    let (head, report) = train(&samples, &embedder.model(), settings)?;
    let failed = |error| TrainError::Write { path: out.to_path_buf(), error };
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let unfinished = out.with_extension("tmp");
    std::fs::write(&unfinished, head.to_bytes()).and_then(|()| std::fs::rename(&unfinished, out)).map_err(failed)?;
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "embedding   {} ({} dimensions)", self.embedding_model, self.dim)?;
        writeln!(f, "training    {} videos, {}", self.training_videos, self.training)?;
        match &self.validation {
            Some(metrics) => writeln!(f, "validation  {} videos, {metrics}", self.validation_videos)?,
            None => writeln!(f, "validation  none: no number here says how the head does on new videos")?,
        }
        let rule = match self.threshold_rule {
            ThresholdRule::MaxF1 => "highest F1 on the training frames",
            ThresholdRule::Fixed(_) => "as given",
        };
        writeln!(f, "threshold   {:.4} ({rule}); `{}` from there on", self.threshold, self.classes[1])?;
        if self.labels_without_frames > 0 {
            writeln!(f, "unused      {} labels lie where no frame was sampled", self.labels_without_frames)?;
        }
        for video in &self.videos_skipped {
            writeln!(f, "skipped     {video}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
