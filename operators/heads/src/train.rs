//! From labelled embeddings to a head.
//!
//! Groups are split 70/15/15. Weights are fitted on the training rows for each C of a grid; the C with the smallest log loss on the validation rows wins. On
//! the validation rows, too, Platt's calibration is fitted and the threshold chosen. Test rows take part in nothing, so the test numbers belong to exactly
//! the head that is written.
//!
//! The same samples and settings give the same bytes: no clock, no random number, no thread enters. What can go wrong: too few rows of a class, in all or in a
//! part; no threshold with the precision that was asked for; scores that rank the validation rows the wrong way round. Each is a
//! [`Refusal`] that says what to do.

use serde::{Deserialize, Serialize};

use crate::encoder::Encoder;
use crate::head::{Calibration, Head};
use crate::logistic::{self, Model, TOLERANCE};
use crate::metrics::Metrics;
use crate::platt;
use crate::report::{PartReport, Report, Tried};
use crate::samples::Samples;
use crate::split::{PARTS, Shares, by_group};
use crate::threshold::ThresholdRule;

/// The values of C that are tried where none is given.
pub const C_GRID: [f64; 7] = [0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// What to train, with which settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Names of the classes, negative first.
    pub classes: [String; 2],
    /// Values of C to try: the loss is mean log loss + |w|^2 / (2 C n).
    pub c: Vec<f64>,
    /// Shares of the rows for training, validation and test, by whole groups.
    pub shares: Shares,
    /// See [`ThresholdRule`].
    pub threshold: ThresholdRule,
    /// Each class needs at least this many rows.
    pub min_rows_per_class: usize,
    /// Deals out the groups.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            classes: ["non_medical".into(), "medical".into()],
            c: C_GRID.into(),
            shares: [0.7, 0.15, 0.15],
            threshold: ThresholdRule::MaxF1,
            min_rows_per_class: 50,
            seed: 0,
        }
    }
}

/// Why no head was trained.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is not enough to learn from.
    #[error("{0}")]
    TooLittle(String),
    /// The numbers did not work out.
    #[error("training failed: {0}")]
    Failed(String),
}

/// Trains a head on labelled embeddings of `encoder`.
pub fn train(samples: &Samples, encoder: &Encoder, settings: &Settings) -> Result<(Head, Report), Refusal> {
    enough(samples, settings)?;
    let part_of = by_group(samples, settings.shares, settings.seed);
    let parts = PARTS.map(|part| samples.select(|i| part_of[samples.group_of[i]] == part));
    let [training, validation, _] = &parts;
    for (name, part) in [("training", training), ("validation", validation)] {
        both_classes(name, part, samples, settings)?;
    }

    let (c, model, tried) = best_fit(training, validation, &settings.c)?;
    let mut head = Head::linear(
        model.weight.iter().map(|w| f64::from(*w as f32)).collect(),
        f64::from(model.bias as f32),
        encoder.clone(),
        settings.classes.clone(),
    );
    let logits: Vec<f64> = validation.vectors().map(|v| head.logits(v)[0]).collect();
    let (slope, intercept) = platt::fit(&logits, &validation.positive);
    if slope.is_nan() || slope <= 0.0 {
        let message = format!(
            "the head ranks the validation rows the wrong way round (slope {slope:.4}): what is learnt from the training groups does not hold for others; check \
             the labels, or label more groups"
        );
        return Err(Refusal::Failed(message));
    }
    head.calibration = Calibration::Platt { slope, intercept };

    // Scored by the head itself, so that the numbers are those of the file.
    let scores = parts.each_ref().map(|p| p.vectors().map(|v| head.score(v)).collect::<Vec<f32>>());
    let threshold = settings.threshold.choose(&scores[1], &validation.positive).map_err(Refusal::Failed)?;
    head.threshold = Some(threshold);
    head.threshold_rule = match settings.threshold {
        ThresholdRule::Fixed(_) => "as given".into(),
        rule => format!("{rule} on validation"),
    };
    let mut used = vec![false; part_of.len()];
    samples.group_of.iter().for_each(|group| used[*group] = true);
    let of = |k: usize| PartReport {
        groups: part_of.iter().zip(&used).filter(|(part, used)| **part == PARTS[k] && **used).count(),
        metrics: Metrics::of(&scores[k], &parts[k].positive, threshold),
    };
    let report = Report {
        encoder: encoder.to_string(),
        dim: samples.dim,
        classes: settings.classes.clone(),
        c,
        tried,
        iterations: model.iterations,
        loss: model.loss,
        calibration: head.calibration.to_string(),
        threshold,
        threshold_rule: head.threshold_rule.clone(),
        training: of(0),
        validation: of(1),
        test: (!parts[2].is_empty()).then(|| of(2)),
        training_data_blake3: samples.blake3(),
        seed: settings.seed,
    };
    head.notes = notes(&report);
    Ok((head, report))
}

fn notes(report: &Report) -> std::collections::BTreeMap<String, String> {
    let json = |value: serde_json::Result<String>| value.unwrap_or_default();
    [
        ("curette_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("seed", report.seed.to_string()),
        ("training_data_blake3", report.training_data_blake3.clone()),
        ("validation", json(serde_json::to_string(&report.validation))),
        ("test", json(serde_json::to_string(&report.test))),
        ("report", json(serde_json::to_string(report))),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into()
}

fn enough(samples: &Samples, settings: &Settings) -> Result<(), Refusal> {
    for (class, positive) in settings.classes.iter().zip([false, true]) {
        let n = samples.count(positive);
        if n < settings.min_rows_per_class {
            let least = settings.min_rows_per_class;
            return Err(Refusal::TooLittle(format!("{n} rows are labelled `{class}`, at least {least} are needed; label more")));
        }
    }
    Ok(())
}

fn both_classes(name: &str, part: &Samples, all: &Samples, settings: &Settings) -> Result<(), Refusal> {
    for (class, positive) in settings.classes.iter().zip([false, true]) {
        if part.count(positive) == 0 {
            let mut groups: Vec<usize> =
                all.group_of.iter().zip(&all.positive).filter(|(_, p)| **p == positive).map(|(g, _)| *g).collect();
            groups.sort_unstable();
            groups.dedup();
            let message = format!(
                "no {name} row is `{class}`: its {} rows come from {} group(s), which are never divided; label rows of more groups, or try another seed",
                all.count(positive),
                groups.len()
            );
            return Err(Refusal::TooLittle(message));
        }
    }
    Ok(())
}

/// The fit with the smallest log loss on the validation rows; among equals the one of the smallest C.
fn best_fit(training: &Samples, validation: &Samples, grid: &[f64]) -> Result<(f64, Model, Vec<Tried>), Refusal> {
    let mut grid = grid.to_vec();
    grid.sort_by(f64::total_cmp);
    let (mut best, mut last): (Option<(f64, f64, Model)>, Option<Model>) = (None, None);
    let mut tried = Vec::new();
    for c in grid {
        // From the last fit: neighbours on the grid are near to each other.
        let model = logistic::fit(training, c, last.as_ref(), TOLERANCE).map_err(Refusal::Failed)?;
        let loss = log_loss(&model, validation);
        tried.push(Tried { c, validation_log_loss: loss });
        if best.as_ref().is_none_or(|b| loss < b.1) {
            best = Some((c, loss, model.clone()));
        }
        last = Some(model);
    }
    let (c, _, model) = best.ok_or_else(|| Refusal::Failed("there is no C to try".into()))?;
    Ok((c, model, tried))
}

fn log_loss(model: &Model, samples: &Samples) -> f64 {
    let each = samples.vectors().zip(&samples.positive).map(|(x, positive)| {
        let z = x.iter().zip(&model.weight).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + model.bias;
        let margin = if *positive { z } else { -z };
        (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
    });
    each.sum::<f64>() / samples.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Part;

    /// Two overlapping clouds in `groups` groups of 20 rows; a deterministic scatter.
    fn clouds(groups: usize) -> Samples {
        clouds_of(groups, 3)
    }

    /// One of `every` rows is positive.
    fn clouds_of(groups: usize, every: usize) -> Samples {
        let mut samples = Samples { groups: (0..groups).map(|g| format!("g{g}")).collect(), ..Samples::default() };
        for i in 0..groups * 20 {
            let noise = |k: usize| ((i * 7919 + k * 104_729) % 1000) as f32 / 1000.0 - 0.5;
            let positive = i % every == 0;
            let base = if positive { 0.5 } else { 0.0 };
            samples.push(&[base + noise(1), 0.4 + noise(2), 1.0 + noise(3)], positive, i / 20).unwrap();
        }
        samples
    }

    fn refusal(samples: &Samples, settings: &Settings) -> String {
        train(samples, &Encoder::built_in("test/1"), settings).unwrap_err().to_string()
    }

    #[test]
    fn a_head_says_all_about_itself_and_the_bytes_are_always_the_same() {
        let (samples, encoder) = (clouds(30), Encoder::built_in("test/1"));
        let settings = Settings { threshold: ThresholdRule::Precision(0.8), ..Settings::default() };
        let (head, report) = train(&samples, &encoder, &settings).unwrap();
        assert_eq!(head.to_bytes(), train(&samples, &encoder, &settings).unwrap().0.to_bytes());
        let read = Head::from_bytes(&head.to_bytes()).unwrap();
        assert_eq!(read.notes["report"], serde_json::to_string(&report).unwrap());
        assert_eq!(read.notes["validation"], serde_json::to_string(&report.validation).unwrap());
        assert_eq!(read.notes["seed"], "0");
        assert!(report.validation.metrics.precision.unwrap() >= 0.8);
        assert_eq!((report.training.groups, report.validation.groups, report.test.as_ref().unwrap().groups), (21, 5, 4));
        assert!(
            report
                .tried
                .iter()
                .all(|t| t.validation_log_loss >= report.tried.iter().find(|b| b.c == report.c).unwrap().validation_log_loss)
        );
        insta::assert_snapshot!(report.to_string());
    }

    #[test]
    fn what_cannot_be_learnt_is_refused() {
        let one_sided = Samples { group_of: vec![0; 600], ..clouds(30) };
        let mut swapped = clouds_of(30, 2);
        let parts = by_group(&swapped, [0.7, 0.15, 0.15], 0);
        for i in 0..swapped.len() {
            if parts[swapped.group_of[i]] == Part::Validation {
                swapped.positive[i] = !swapped.positive[i];
            }
        }
        let said = [
            refusal(&clouds(7), &Settings::default()),
            refusal(&one_sided, &Settings::default()),
            refusal(&swapped, &Settings::default()),
            refusal(&clouds(30), &Settings { c: vec![], ..Settings::default() }),
        ];
        insta::assert_snapshot!(said.join("\n"));
    }
}
