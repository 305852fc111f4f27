//! Values into bins of equal width between the smallest and the largest. Pure.
//!
//! Two passes instead of a sketch: exact, and of fixed memory. What can go wrong: values that are no finite numbers; they are counted apart.

use serde::Serialize;

/// Bins of a histogram.
pub const BINS: usize = 20;

/// Smallest and largest finite value so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Range(Option<(f64, f64)>);

impl Range {
    /// Takes a value in.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            let (low, high) = self.0.unwrap_or((value, value));
            self.0 = Some((low.min(value), high.max(value)));
        }
    }
}

/// How many values fell into each bin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Finite values.
    pub values: u64,
    /// Values that are no finite numbers.
    pub not_finite: u64,
    /// The smallest.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// Their mean.
    pub mean: Option<f64>,
    /// Counts of bins of equal width from `min` to `max`; one bin if they are the same.
    pub bins: Vec<u64>,
}

impl Histogram {
    /// Empty bins over a range.
    pub fn over(range: &Range) -> Histogram {
        let (min, max) = range.0.unzip();
        let bins = match range.0 {
            None => 0,
            Some((low, high)) if low == high => 1,
            Some(_) => BINS,
        };
        Histogram { values: 0, not_finite: 0, min, max, mean: None, bins: vec![0; bins] }
    }

    /// Counts a value of the range.
    pub fn add(&mut self, value: f64) {
        let (Some(min), Some(max), true) = (self.min, self.max, value.is_finite()) else {
            self.not_finite += 1;
            return;
        };
        self.values += 1;
        let mean = self.mean.unwrap_or(0.0);
        self.mean = Some(mean + (value - mean) / self.values as f64);
        // Halves first: the difference of two finite numbers may be none.
        let share = (value / 2.0 - min / 2.0) / (max / 2.0 - min / 2.0);
        let at = if share.is_finite() { (share * self.bins.len() as f64) as usize } else { 0 };
        let last = self.bins.len() - 1;
        self.bins[at.min(last)] += 1;
    }

    /// Where a bin begins.
    pub fn edge(&self, bin: usize) -> f64 {
        let (Some(min), Some(max)) = (self.min, self.max) else { return 0.0 };
        let share = bin as f64 / self.bins.len().max(1) as f64;
        min * (1.0 - share) + max * share
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Histogram {
        let mut range = Range::default();
        values.iter().for_each(|v| range.add(*v));
        let mut histogram = Histogram::over(&range);
        values.iter().for_each(|v| histogram.add(*v));
        histogram
    }

    proptest! {
        #[test]
        fn every_value_is_in_one_bin_whatever_the_numbers(values in prop::collection::vec(any::<f64>(), 0..50)) {
            let h = of(&values);
            prop_assert_eq!(h.values + h.not_finite, values.len() as u64);
            prop_assert_eq!(h.bins.iter().sum::<u64>(), h.values);
        }
    }

    #[test]
    fn edges_and_counts_are_those_of_a_hand_made_example() {
        let h = of(&[0.0, 0.5, 1.0, 10.0, f64::NAN]);
        assert_eq!((h.values, h.not_finite, h.min, h.max, h.mean), (4, 1, Some(0.0), Some(10.0), Some(2.875)));
        assert_eq!((h.bins[0], h.bins[1], h.bins[2], h.bins[19]), (1, 1, 1, 1));
        assert_eq!((h.edge(0), h.edge(20)), (0.0, 10.0));
        assert_eq!(of(&[3.0, 3.0]).bins, [2]);
        assert!(of(&[]).bins.is_empty() && of(&[f64::INFINITY]).not_finite == 1);
    }
}
