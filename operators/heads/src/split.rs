//! Which groups train, which validate, which test: no group is in two parts.
//!
//! Rows of one group look alike (frames of a video, videos of a channel); a head that saw some of them would seem better than it is. Groups of
//! mostly positive and of mostly negative rows are dealt out separately, so that both classes come into all parts. Within each, groups come in the order
//! of a hash of seed and name, and each goes to the part that lacks most of its share of rows: no random number, and one more group moves few others.
//!
//! What can go wrong: with few groups a part may lack a class; who trains refuses that by name.

use crate::samples::Samples;

/// A part of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The weights are fitted on it.
    Training,
    /// Regularisation, calibration and threshold are chosen on it.
    Validation,
    /// Nothing is chosen on it.
    Test,
}

/// In the order of [`Shares`].
pub const PARTS: [Part; 3] = [Part::Training, Part::Validation, Part::Test];

/// Shares of the rows for training, validation and test.
pub type Shares = [f64; 3];

/// The part of each group; groups without rows are `Training`.
pub fn by_group(samples: &Samples, shares: Shares, seed: u64) -> Vec<Part> {
    let mut counts = vec![(0usize, 0usize); samples.groups.len()];
    for (group, positive) in samples.group_of.iter().zip(&samples.positive) {
        counts[*group].0 += usize::from(*positive);
        counts[*group].1 += 1;
    }
    let mut parts = vec![Part::Training; samples.groups.len()];
    for mostly_positive in [false, true] {
        let mut groups: Vec<usize> =
            (0..counts.len()).filter(|&g| counts[g].1 > 0 && (2 * counts[g].0 > counts[g].1) == mostly_positive).collect();
        groups.sort_by_cached_key(|&g| key(&samples.groups[g], seed));
        let total: usize = groups.iter().map(|&g| counts[g].1).sum();
        let mut filled = [0usize; 3];
        for group in groups {
            let lacking = |p: usize| shares[p] * total as f64 - filled[p] as f64;
            // The first of the neediest: training before validation before test.
            let part = (1..3).fold(0, |best, p| if lacking(p) > lacking(best) { p } else { best });
            filled[part] += counts[group].1;
            parts[group] = PARTS[part];
        }
    }
    parts
}

fn key(name: &str, seed: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(rows: &[(usize, bool)]) -> Samples {
        Samples {
            positive: rows.iter().map(|r| r.1).collect(),
            group_of: rows.iter().map(|r| r.0).collect(),
            groups: (0..rows.iter().map(|r| r.0 + 1).max().unwrap_or(0)).map(|i| format!("g{i}")).collect(),
            ..Samples::default()
        }
    }

    #[test]
    fn both_classes_come_into_all_parts() {
        let rows: Vec<(usize, bool)> = (0..60).map(|i| (i, i % 3 == 0)).collect();
        let parts = by_group(&samples(&rows), [0.7, 0.15, 0.15], 0);
        for part in PARTS {
            for class in [true, false] {
                assert!(rows.iter().any(|r| r.1 == class && parts[r.0] == part), "{part:?} {class}");
            }
        }
        assert_ne!(parts, by_group(&samples(&rows), [0.7, 0.15, 0.15], 1), "the seed matters");
    }

    #[test]
    fn a_lone_group_trains() {
        assert_eq!(by_group(&samples(&[(0, true), (1, false), (2, false)]), [0.7, 0.15, 0.15], 0)[0], Part::Training);
    }

    proptest! {
        #[test]
        fn shares_are_kept_as_well_as_the_largest_group_allows(
            rows in proptest::collection::vec((0usize..40, any::<bool>()), 1..400), seed in 0u64..5,
        ) {
            let samples = samples(&rows);
            let shares = [0.7, 0.15, 0.15];
            let parts = by_group(&samples, shares, seed);
            prop_assert_eq!(&parts, &by_group(&samples, shares, seed));
            let largest = (0..40).map(|g| rows.iter().filter(|r| r.0 == g).count()).max().unwrap();
            for (part, share) in PARTS.iter().zip(shares) {
                let n = rows.iter().filter(|r| parts[r.0] == *part).count() as f64;
                // Each of the two kinds of groups is off by less than one group for each other part.
                prop_assert!((n - share * rows.len() as f64).abs() <= 4.0 * largest as f64, "{:?} {}", part, n);
            }
        }
    }
}
