//! From scores to a decision: the rules by which a threshold is chosen.
//!
//! What can go wrong: a precision that no threshold reaches; that is an error, not a threshold that nothing passes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a head's threshold is chosen. As text: `max-f1`, `precision>=0.95`, or a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ThresholdRule {
    /// The one with the highest F1, midway between the two scores that it separates; among equals the one nearest to 0.5.
    MaxF1,
    /// The lowest one with at least this precision (above 0, at most 1): of all that are precise enough, the one with the highest recall.
    Precision(f64),
    /// This one (0 to 1).
    Fixed(f64),
}

impl fmt::Display for ThresholdRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ThresholdRule::MaxF1 => f.write_str("max-f1"),
            ThresholdRule::Precision(p) => write!(f, "precision>={p}"),
            ThresholdRule::Fixed(t) => write!(f, "{t}"),
        }
    }
}

impl FromStr for ThresholdRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|v| (0.0..=1.0).contains(v));
        match text.trim().strip_prefix("precision>=") {
            Some(p) => number(p).filter(|p| *p > 0.0).map(ThresholdRule::Precision),
            None if text.trim() == "max-f1" => Some(ThresholdRule::MaxF1),
            None => number(text).map(ThresholdRule::Fixed),
        }
        .ok_or_else(|| format!("`{text}` is no threshold rule; expected max-f1, precision>=0.95 or a number from 0 to 1"))
    }
}

impl TryFrom<String> for ThresholdRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ThresholdRule> for String {
    fn from(rule: ThresholdRule) -> String {
        rule.to_string()
    }
}

impl ThresholdRule {
    /// The threshold that the rule chooses on these scores.
    pub fn choose(self, scores: &[f32], positive: &[bool]) -> Result<f64, String> {
        match self {
            ThresholdRule::MaxF1 => Ok(max_f1(scores, positive)),
            ThresholdRule::Fixed(t) => Ok(t),
            ThresholdRule::Precision(wanted) => precise(scores, positive, wanted),
        }
    }
}

/// Thresholds midway between neighbouring scores, from the highest down, with how many rows lie above and how many of those are positive.
fn steps(scores: &[f32], positive: &[bool]) -> Vec<(f64, usize, usize)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut out, mut hits) = (Vec::new(), 0);
    for (k, &i) in order.iter().enumerate() {
        hits += usize::from(positive[i]);
        let next = order.get(k + 1).map_or(0.0, |j| scores[*j]);
        if k + 1 == order.len() || next < scores[i] {
            out.push(((f64::from(scores[i]) + f64::from(next)) / 2.0, k + 1, hits));
        }
    }
    out
}

/// 0.5 without positives.
fn max_f1(scores: &[f32], positive: &[bool]) -> f64 {
    let positives = positive.iter().filter(|p| **p).count();
    let (mut best, mut best_f1) = (0.5, 0.0);
    for (threshold, above, hits) in steps(scores, positive) {
        let f1 = 2.0 * hits as f64 / (above + positives) as f64;
        if f1 > best_f1 || (f1 == best_f1 && (threshold - 0.5).abs() < (best - 0.5f64).abs()) {
            (best, best_f1) = (threshold, f1);
        }
    }
    best
}

fn precise(scores: &[f32], positive: &[bool], wanted: f64) -> Result<f64, String> {
    let steps = steps(scores, positive);
    let precision = |s: &(f64, usize, usize)| s.2 as f64 / s.1 as f64;
    if let Some(step) = steps.iter().rev().find(|s| precision(s) >= wanted) {
        return Ok(step.0);
    }
    let best = steps.iter().map(precision).fold(0.0, f64::max);
    Err(format!(
        "no threshold has a precision of {wanted} on the validation rows, the best has {best:.4}; label more, or ask for less"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn rules_are_read_and_written() {
        for text in ["max-f1", "precision>=0.95", "0.25"] {
            assert_eq!(text.parse::<ThresholdRule>().unwrap().to_string(), text);
        }
        for bad in ["", "best", "precision>=0", "precision>=1.1", "-1", "NaN", "precision>=x"] {
            assert!(bad.parse::<ThresholdRule>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_precision_out_of_reach_is_an_error() {
        let said = ThresholdRule::Precision(0.9).choose(&[0.9, 0.5], &[false, true]).unwrap_err();
        assert_eq!(
            said,
            "no threshold has a precision of 0.9 on the validation rows, the best has 0.5000; label more, or ask for less"
        );
    }

    proptest! {
        #[test]
        fn thresholds_equal_their_definitions(set in proptest::collection::vec((0u8..8, any::<bool>()), 1..30), wanted in 0.1f64..1.0) {
            let scores: Vec<f32> = set.iter().map(|s| f32::from(s.0) / 8.0).collect();
            let positive: Vec<bool> = set.iter().map(|s| s.1).collect();
            let at = |t: f64| Metrics::of(&scores, &positive, t);
            let all: Vec<Metrics> = (0..=16).map(|k| at(f64::from(k) / 16.0 - 0.01)).collect();
            let f1 = |m: &Metrics| m.f1.unwrap_or(0.0);
            let best = all.iter().map(f1).fold(0.0, f64::max);
            let chosen = ThresholdRule::MaxF1.choose(&scores, &positive).unwrap();
            prop_assert!((f1(&at(chosen)) - best).abs() < 1e-12);

            let recall = all.iter().filter(|m| m.precision.is_some_and(|p| p >= wanted)).map(|m| m.true_positives).max();
            match ThresholdRule::Precision(wanted).choose(&scores, &positive) {
                Ok(t) => {
                    prop_assert!(at(t).precision.unwrap() >= wanted);
                    prop_assert_eq!(Some(at(t).true_positives), recall);
                }
                Err(_) => prop_assert_eq!(recall, None),
            }
        }
    }
}
