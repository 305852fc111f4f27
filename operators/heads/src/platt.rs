//! Platt's calibration: p = sigmoid(slope z + intercept), fitted on rows that the weights have not seen.
//!
//! Targets are not 0 and 1 but (N+ + 1)/(N+ + 2) and 1/(N- + 2), as in Platt, Probabilistic Outputs for Support Vector Machines (1999), section 2.2: without
//! that, scores that separate the classes would make the slope infinite. What can go wrong: scores that rank the wrong way round; then the slope
//! is not above 0, which the caller refuses.

use crate::head::sigmoid;
use crate::lbfgs::minimise;

/// Slope and intercept.
pub fn fit(scores: &[f64], positive: &[bool]) -> (f64, f64) {
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let negatives = positive.len() as f64 - positives;
    let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
    let n = (positive.len().max(1)) as f64;
    // In units of the scores' own size, so that one tolerance fits all.
    let size = scores.iter().fold(0.0f64, |m, s| m.max(s.abs())).max(f64::MIN_POSITIVE);
    let start = vec![0.0, ((positives + 1.0) / (negatives + 1.0)).ln()];
    let found = minimise(start, 1e-9, |x, g| {
        g.fill(0.0);
        let mut sum = 0.0;
        for (score, is) in scores.iter().zip(positive) {
            let s = score / size;
            let z = x[0] * s + x[1];
            let target = if *is { high } else { low };
            // -t ln p - (1 - t) ln(1 - p) without overflow.
            sum += (-z.abs()).exp().ln_1p() + z.max(0.0) - target * z;
            let slope = sigmoid(z) - target;
            g[0] += slope * s / n;
            g[1] += slope / n;
        }
        sum / n
    });
    (found.x[0] / size, found.x[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_that_are_right_stay() {
        // 1000 scores whose classes occur exactly as often as the logistic of the score says.
        let (mut scores, mut positive) = (Vec::new(), Vec::new());
        for z in [-3.0, -1.5, 0.0, 1.5, 3.0] {
            let n = (sigmoid(z) * 200.0f64).round() as usize;
            scores.extend([z; 200]);
            positive.extend((0..200).map(|i| i < n));
        }
        let (slope, intercept) = fit(&scores, &positive);
        assert!((slope - 1.0).abs() < 0.03 && intercept.abs() < 0.03, "{slope} {intercept}");
        let doubled: Vec<f64> = scores.iter().map(|s| 2.0 * s).collect();
        assert!((fit(&doubled, &positive).0 - slope / 2.0).abs() < 1e-5);
    }

    #[test]
    fn scores_that_separate_keep_a_finite_slope() {
        let (slope, _) = fit(&[-1.0, -2.0, 1.0, 2.0], &[false, false, true, true]);
        assert!(slope > 0.1 && slope < 100.0, "{slope}");
        assert!(fit(&[1.0, 2.0, -1.0, -2.0], &[false, false, true, true]).0 < 0.0, "wrong way round");
    }
}
