//! Which rows are looked at: a pure decision by seed and name.
//!
//! Each row has a number that depends on the seed and its id alone, and the smallest numbers are drawn. So the sample does not depend on the order in which
//! workers wrote the rows, a larger one contains a smaller one, and only the sample is held in memory.

use std::collections::BinaryHeap;

use crate::key;

/// A sample in the making.
#[derive(Debug)]
pub struct Draw<T> {
    most: usize,
    seed: u64,
    /// Largest on top, so that it is the one that makes room.
    heap: BinaryHeap<Drawn<T>>,
    seen: u64,
}

#[derive(Debug)]
struct Drawn<T> {
    key: [u8; 32],
    id: String,
    what: T,
}

impl<T> PartialEq for Drawn<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<T> Eq for Drawn<T> {}
impl<T> PartialOrd for Drawn<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Drawn<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

impl<T> Draw<T> {
    /// At most so many.
    pub fn new(most: usize, seed: u64) -> Self {
        Draw { most, seed, heap: BinaryHeap::new(), seen: 0 }
    }

    /// A row that may be drawn.
    pub fn offer(&mut self, id: &str, what: T) {
        self.offer_at(key(self.seed, &["draw", id]), id, what);
    }

    /// A row that is drawn the earlier the smaller `value` is; seed and name decide between equals.
    pub fn offer_by(&mut self, value: f64, id: &str, what: T) {
        let mut key = key(self.seed, &["draw", id]);
        // Numbers that are not negative are in the order of their bits.
        let bits = if value.is_nan() { u64::MAX } else { value.abs().to_bits() };
        key[..8].copy_from_slice(&bits.to_be_bytes());
        self.offer_at(key, id, what);
    }

    fn offer_at(&mut self, key: [u8; 32], id: &str, what: T) {
        self.seen += 1;
        if self.heap.len() >= self.most && self.heap.peek().is_none_or(|top| top.key <= key) {
            return;
        }
        self.heap.push(Drawn { key, id: id.to_owned(), what });
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// How many were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The sample, in the order of the draw.
    pub fn done(self) -> Vec<(String, T)> {
        self.heap.into_sorted_vec().into_iter().map(|drawn| (drawn.id, drawn.what)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(ids: &[String], most: usize, seed: u64) -> Vec<String> {
        let mut draw = Draw::new(most, seed);
        ids.iter().for_each(|id| draw.offer(id, ()));
        assert_eq!(draw.seen(), ids.len() as u64);
        draw.done().into_iter().map(|(id, ())| id).collect()
    }

    proptest! {
        #[test]
        fn the_order_of_rows_says_nothing_and_more_only_extends(n in 0usize..60, most in 0usize..70, seed in 0u64..4) {
            let ids: Vec<String> = (0..n).map(|i| format!("c{i}")).collect();
            let sample = drawn(&ids, most, seed);
            let mut sorted = ids.clone();
            sorted.sort_by_key(|id| key(seed, &["draw", id]));
            prop_assert_eq!(&sample[..], &sorted[..most.min(n)], "the slow way");
            let backwards: Vec<String> = ids.iter().rev().cloned().collect();
            prop_assert_eq!(&drawn(&backwards, most, seed), &sample);
            prop_assert_eq!(&drawn(&ids, most + 3, seed)[..sample.len()], &sample[..]);
        }

        #[test]
        fn smaller_values_come_first_and_none_at_all_last(values in proptest::collection::vec(proptest::option::of(0.0f64..1.0), 0..30)) {
            let mut draw = Draw::new(10, 1);
            values.iter().enumerate().for_each(|(i, v)| draw.offer_by(v.unwrap_or(f64::NAN), &i.to_string(), *v));
            let got: Vec<Option<f64>> = draw.done().into_iter().map(|(_, v)| v).collect();
            let mut all = values.clone();
            all.sort_by(|a, b| a.is_none().cmp(&b.is_none()).then(a.partial_cmp(b).unwrap()));
            prop_assert_eq!(&got[..], &all[..got.len()]);
        }
    }
}
