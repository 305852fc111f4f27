//! Shares with Wilson's 95 % interval (Wilson, Probable Inference, 1927).

use std::fmt;

use serde::Serialize;

/// The score of the normal distribution that leaves 2.5 % on each side.
const Z95: f64 = 1.959_963_984_540_054;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub hits: u64,
    /// Of how many.
    pub of: u64,
    /// Their share; absent without any.
    pub share: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl Share {
    /// `hits` of `of`, with the interval.
    pub fn new(hits: u64, of: u64) -> Share {
        if of == 0 {
            return Share { hits, of, share: None, low: None, high: None };
        }
        let (n, p) = (of as f64, hits as f64 / of as f64);
        let centre = p + Z95 * Z95 / (2.0 * n);
        let half = Z95 * (p * (1.0 - p) / n + Z95 * Z95 / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z95 * Z95 / n;
        // Binary rounding must not leave an end beyond what is possible.
        let low = if hits == 0 { 0.0 } else { ((centre - half) / scale).max(0.0) };
        let high = if hits == of { 1.0 } else { ((centre + half) / scale).min(1.0) };
        Share { hits, of, share: Some(p), low: Some(low), high: Some(high) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.share, self.low, self.high) {
            (Some(p), Some(low), Some(high)) => {
                write!(
                    f,
                    "{:.2} % ({} of {}, 95 % between {:.2} and {:.2})",
                    100.0 * p,
                    self.hits,
                    self.of,
                    100.0 * low,
                    100.0 * high
                )
            }
            _ => write!(f, "- (0 of 0)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The ends are where the score test just does not reject: (p - q)^2 = z^2 q (1 - q) / n.
        #[test]
        fn ends_solve_the_score_equation(of in 1u64..5000, part in 0.0f64..=1.0) {
            let hits = (part * of as f64).round() as u64;
            let share = Share::new(hits, of);
            let (p, n) = (hits as f64 / of as f64, of as f64);
            for q in [share.low.unwrap(), share.high.unwrap()] {
                let left = (p - q) * (p - q);
                prop_assert!((left - Z95 * Z95 * q * (1.0 - q) / n).abs() < 1e-12, "{q}");
            }
            prop_assert!(share.low.unwrap() <= p && p <= share.high.unwrap());
        }
    }

    #[test]
    fn nothing_has_no_share() {
        assert_eq!(Share::new(0, 0).share, None);
        assert_eq!(Share::new(0, 0).to_string(), "- (0 of 0)");
    }
}
