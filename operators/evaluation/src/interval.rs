//! Shares with their 95 % interval, which is that of the heads' reports ([`wilson`]).

use std::fmt;

use curette_heads::metrics::wilson;
use serde::Serialize;
use statrs::distribution::{ContinuousCDF, Normal};

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
        let interval = usize::try_from(hits).ok().zip(usize::try_from(of).ok()).and_then(|(hits, of)| wilson(hits, of));
        let share = interval.map(|_| hits as f64 / of as f64);
        Share { hits, of, share, low: interval.map(|i| i.0), high: interval.map(|i| i.1) }
    }
}

/// The lower end of Wilson's interval with all of the doubt below it: what a share is at least, as certain as `confidence` (0.5 up to, but not, 1). `None`
/// without rows, or with another confidence.
pub fn lower_bound(hits: u64, of: u64, confidence: f64) -> Option<f64> {
    if of == 0 || hits > of || !(0.5..1.0).contains(&confidence) {
        return None;
    }
    let z = Normal::standard().inverse_cdf(confidence);
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Some(((p + z * z / (2.0 * n) - half) / (1.0 + z * z / n)).max(0.0))
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

    const Z95: f64 = 1.959_963_984_540_054;

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

    proptest! {
        #[test]
        fn a_bound_is_the_end_of_the_interval_that_leaves_as_much_below(of in 1u64..5000, part in 0.0f64..=1.0) {
            let hits = (part * of as f64).round() as u64;
            let (low, bound) = (Share::new(hits, of).low.unwrap(), lower_bound(hits, of, 0.975).unwrap());
            prop_assert!((low - bound).abs() < 1e-9, "{low} {bound}");
            prop_assert!(lower_bound(hits, of, 0.9).unwrap() >= bound);
        }
    }

    #[test]
    fn without_rows_or_doubt_there_is_no_bound() {
        assert_eq!([lower_bound(0, 0, 0.95), lower_bound(1, 2, 1.0), lower_bound(1, 2, 0.4), lower_bound(3, 2, 0.9)], [None; 4]);
        assert_eq!(lower_bound(1, 2, 0.5), Some(0.5), "no doubt at all");
    }

    #[test]
    fn nothing_has_no_share() {
        assert_eq!(Share::new(0, 0).share, None);
        assert_eq!(Share::new(0, 0).to_string(), "- (0 of 0)");
    }
}
