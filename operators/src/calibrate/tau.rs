//! The choice of tau, on plain numbers.
//!
//! A pair is joined when its similarity is strictly above tau. Of all values for which the wanted share of joined pairs is of one shot, tau is the one that joins most pairs of one
//! shot; of several, the one that finds most cuts. Where whole videos are labelled, clips are judged instead ([`super::cuts::choose_by_clips`]): most pairs are of one
//! shot whatever tau is, so a precision of pairs promises little of clips, which have many. What can go wrong: no value is precise enough; that is an
//! error that names the best.

use curette_heads::metrics::wilson;
use serde::Serialize;

/// Two neighbouring samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Cosine, as `temporal_split` has it.
    pub similarity: f32,
    /// Both are of one shot.
    pub same: bool,
}

/// A count and what it is of, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
    /// Wilson's interval; absent when `of` is 0.
    pub interval: Option<(f64, f64)>,
}

impl Share {
    /// With its interval.
    pub fn new(hits: usize, of: usize) -> Share {
        Share { hits, of, interval: wilson(hits, of) }
    }

    /// As a number; absent when `of` is 0.
    pub fn value(&self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }
}

/// How good a tau is on pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Joined pairs that are of one shot.
    pub precision: Share,
    /// Pairs of one shot that are joined.
    pub recall: Share,
    /// Cuts that end a clip.
    pub cuts_found: Share,
}

/// Joins what is above tau.
pub fn measure(pairs: &[Pair], tau: f64) -> Measured {
    let count =
        |same: bool, joined: bool| pairs.iter().filter(|p| p.same == same && (f64::from(p.similarity) > tau) == joined).count();
    let (right, wrong, missed, cut) = (count(true, true), count(false, true), count(true, false), count(false, false));
    Measured {
        precision: Share::new(right, right + wrong),
        recall: Share::new(right, right + missed),
        cuts_found: Share::new(cut, cut + wrong),
    }
}

/// Of the values with the wanted precision the one that joins most pairs of one shot, and of several the one that finds most cuts: a short decimal between the two similarities
/// that it separates.
pub fn choose(pairs: &[Pair], wanted: f64) -> Result<f64, String> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    let (mut same, mut best, mut found) = (0, 0.0f64, None);
    for (k, pair) in sorted.iter().enumerate() {
        same += usize::from(pair.same);
        let next = sorted.get(k + 1).map_or(-1.0, |p| p.similarity);
        if k + 1 < sorted.len() && next == pair.similarity {
            continue;
        }
        let precision = same as f64 / (k + 1) as f64;
        best = best.max(precision);
        // What comes later joins more, so of equals the one before finds more cuts.
        if precision >= wanted && found.is_none_or(|(most, _)| same > most) {
            found = Some((same, short(f64::from(next), f64::from(pair.similarity))));
        }
    }
    found.map(|(_, tau)| tau).ok_or_else(|| {
        format!(
            "no similarity has a precision of {wanted} on {} labelled pairs, the best has {best:.4}; label more, or ask for less",
            pairs.len()
        )
    })
}

/// The shortest decimal from `low`, included, to `high`, excluded, near their middle.
pub(super) fn short(low: f64, high: f64) -> f64 {
    let middle = (low + high) / 2.0;
    let rounded = (1..=9).map(|digits| {
        let scale = 10f64.powi(digits);
        (middle * scale).round() / scale
    });
    rounded.into_iter().find(|r| *r >= low && *r < high).unwrap_or(middle)
}
