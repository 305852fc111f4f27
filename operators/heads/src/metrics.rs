//! How good scores are: accuracy, precision, recall, F1, area under the ROC curve, log loss, confusion counts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Numbers of one set of scored rows. A ratio without a denominator is `None`, not 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Rows.
    pub rows: usize,
    /// Positive rows above the threshold.
    pub true_positives: usize,
    /// Negative rows above the threshold.
    pub false_positives: usize,
    /// Negative rows below the threshold.
    pub true_negatives: usize,
    /// Positive rows below the threshold.
    pub false_negatives: usize,
    /// Share of rows on the right side.
    pub accuracy: Option<f64>,
    /// Share of positive rows among those above the threshold.
    pub precision: Option<f64>,
    /// Share of positive rows that are above the threshold.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
    /// Chance that a positive row scores higher than a negative one, ties counting half.
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
            rows: scores.len(),
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

/// The score of the normal distribution that leaves 2.5 % on each side.
const Z95: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a share of `hits` in `of` (Wilson, Probable Inference, 1927); `None` without rows.
pub fn wilson(hits: usize, of: usize) -> Option<(f64, f64)> {
    let n = of as f64;
    let p = ratio(hits, of)?;
    let centre = p + Z95 * Z95 / (2.0 * n);
    let half = Z95 * (p * (1.0 - p) / n + Z95 * Z95 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z95 * Z95 / n;
    // Binary rounding must not leave an end beyond what is possible.
    let low = if hits == 0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
    let high = if hits == of { 1.0 } else { ((centre + half) / scale).min(1.0) };
    Some((low, high))
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
        write!(
            f,
            "{} rows: accuracy {}, precision {}, recall {}, F1 {}, AUC {} (TP {}, FP {}, TN {}, FN {})",
            self.rows,
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

    #[test]
    fn intervals_are_those_of_tables() {
        // scipy 1.17: binomtest(k, n).proportion_ci(method="wilson").
        let known = [
            (190, 200, 0.910_421_851_9, 0.972_617_354_4),
            (0, 10, 0.0, 0.277_532_799_9),
            (10, 10, 0.722_467_200_1, 1.0),
            (37, 61, 0.481_172_526_3, 0.719_316_485_5),
        ];
        for (k, n, low, high) in known {
            let (a, b) = wilson(k, n).unwrap();
            assert!((a - low).abs() < 1e-9 && (b - high).abs() < 1e-9, "{k}/{n}: {a} {b}");
        }
        assert_eq!(wilson(0, 0), None);
    }

    proptest! {
        #[test]
        fn auc_equals_its_definition(set in proptest::collection::vec((0u8..8, any::<bool>()), 1..30)) {
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
        }
    }
}
