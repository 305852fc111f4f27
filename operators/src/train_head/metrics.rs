//! How good scores are: accuracy, precision, recall, F1, area under the ROC curve, log loss, confusion counts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers of one set of scored frames. A ratio without a denominator is `None`, not 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Frames.
    pub frames: usize,
    /// Positive frames above the threshold.
    pub true_positives: usize,
    /// Negative frames above the threshold.
    pub false_positives: usize,
    /// Negative frames below the threshold.
    pub true_negatives: usize,
    /// Positive frames below the threshold.
    pub false_negatives: usize,
    /// Share of frames on the right side.
    pub accuracy: Option<f64>,
    /// Share of positive frames among those above the threshold.
    pub precision: Option<f64>,
    /// Share of positive frames that are above the threshold.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Chance that a positive frame scores higher than a negative one, ties counting half.
    pub auc: Option<f64>,
    /// Mean log loss.
    pub log_loss: Option<f64>,
}

fn ratio(a: usize, b: usize) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}

impl Metrics {
    /// Counts `score >= threshold` as positive.
    pub fn of(scores: &[f32], positive: &[bool], threshold: f64) -> Metrics {
        let count = |above: bool, is: bool| {
            scores.iter().zip(positive).filter(|(s, p)| (f64::from(**s) >= threshold) == above && **p == is).count()
        };
        let (tp, fp, tn, fneg) = (count(true, true), count(true, false), count(false, false), count(false, true));
        let losses: f64 = scores
            .iter()
            .zip(positive)
            .map(|(s, p)| -if *p { f64::from(*s) } else { 1.0 - f64::from(*s) }.max(f64::MIN_POSITIVE).ln())
            .sum();
        Metrics {
            frames: scores.len(),
            true_positives: tp,
            false_positives: fp,
            true_negatives: tn,
            false_negatives: fneg,
            accuracy: ratio(tp + tn, scores.len()),
            precision: ratio(tp, tp + fp),
            recall: ratio(tp, tp + fneg),
            f1: ratio(2 * tp, 2 * tp + fp + fneg),
            auc: auc(scores, positive),
            log_loss: (!scores.is_empty()).then(|| losses / scores.len() as f64),
        }
    }
}

/// By ranks; `None` without both classes.
fn auc(scores: &[f32], positive: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let (mut rank_sum, mut from) = (0.0, 0);
    while from < order.len() {
        let to = from + order[from..].iter().take_while(|i| scores[**i] == scores[order[from]]).count().max(1);
        // Equal scores share the mean of their ranks, which start at 1.
        let rank = (from + 1 + to) as f64 / 2.0;
        rank_sum += rank * order[from..to].iter().filter(|i| positive[**i]).count() as f64;
        from = to;
    }
    let p = positive.iter().filter(|p| **p).count() as f64;
    let n = positive.len() as f64 - p;
    (p > 0.0 && n > 0.0).then(|| (rank_sum - p * (p + 1.0) / 2.0) / (p * n))
}

/// The threshold with the highest F1, midway between the scores that it separates; among equals the one nearest to 0.5. 0.5 without positives.
pub fn max_f1_threshold(scores: &[f32], positive: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let positives = positive.iter().filter(|p| **p).count();
    let (mut best, mut best_f1) = (0.5, 0.0);
    let (mut tp, mut above) = (0usize, 0usize);
    for (k, &i) in order.iter().enumerate() {
        above += 1;
        tp += usize::from(positive[i]);
        let next = order.get(k + 1).map_or(0.0, |j| scores[*j]);
        if k + 1 < order.len() && next == scores[i] {
            continue;
        }
        let f1 = 2.0 * tp as f64 / (above + positives) as f64;
        let threshold = (f64::from(scores[i]) + f64::from(next)) / 2.0;
        if f1 > best_f1 || (f1 == best_f1 && (threshold - 0.5).abs() < (best - 0.5f64).abs()) {
            (best, best_f1) = (threshold, f1);
        }
    }
    best
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
        write!(
            f,
            "{} frames: accuracy {}, precision {}, recall {}, F1 {}, AUC {} (TP {}, FP {}, TN {}, FN {})",
            self.frames,
            shown(self.accuracy),
            shown(self.precision),
            shown(self.recall),
            shown(self.f1),
            shown(self.auc),
            self.true_positives,
            self.false_positives,
            self.true_negatives,
            self.false_negatives
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_a_small_set() {
        let m = Metrics::of(&[0.9, 0.8, 0.4, 0.2], &[true, false, true, false], 0.5);
        assert_eq!((m.true_positives, m.false_positives, m.true_negatives, m.false_negatives), (1, 1, 1, 1));
        assert_eq!((m.accuracy, m.precision, m.recall, m.f1, m.auc), (Some(0.5), Some(0.5), Some(0.5), Some(0.5), Some(0.75)));
        let none = Metrics::of(&[], &[], 0.5);
        assert_eq!((none.accuracy, none.f1, none.auc), (None, None, None));
    }

    proptest! {
        #[test]
        fn auc_and_threshold_equal_their_definitions(set in proptest::collection::vec((0u8..8, any::<bool>()), 1..30)) {
            let scores: Vec<f32> = set.iter().map(|s| f32::from(s.0) / 8.0).collect();
            let positive: Vec<bool> = set.iter().map(|s| s.1).collect();
            let mut wins = 0.0;
            let mut pairs = 0.0;
            for (a, _) in scores.iter().zip(&positive).filter(|(_, p)| **p) {
                for (b, _) in scores.iter().zip(&positive).filter(|(_, p)| !**p) {
                    pairs += 1.0;
                    wins += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
                }
            }
            match auc(&scores, &positive) {
                Some(auc) => prop_assert!((auc - wins / pairs).abs() < 1e-12),
                None => prop_assert_eq!(pairs, 0.0),
            }
            let f1 = |t: f64| Metrics::of(&scores, &positive, t).f1.unwrap_or(0.0);
            let best = (0..=16).map(|k| f1(f64::from(k) / 16.0 - 0.01)).fold(0.0, f64::max);
            prop_assert!((f1(max_f1_threshold(&scores, &positive)) - best).abs() < 1e-12);
        }
    }
}
