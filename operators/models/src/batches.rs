//! Which rows go into one batch.
//!
//! Padding wastes work: unsorted batches of 8 texts are more than half padding. Rows are sorted by length inside a window, cut into batches
//! under a budget of padded units (tokens, pixels), and the answers are put back in order. Larger batches are slower on a processor.

/// Cuts rows into batches. `lengths[i]` is the length of row `i` (tokens, pixels); each batch has at most `max_rows` rows and at most `budget`
/// padded units (rows times the longest), unless a single row is longer than that. Rows are sorted by length within consecutive windows of `window` rows.
/// Every row is in exactly one batch. Zeros in `max_rows`, `budget` and `window` count as 1.
pub fn plan_batches(lengths: &[usize], budget: usize, max_rows: usize, window: usize) -> Vec<Vec<usize>> {
    let (budget, max_rows) = (budget.max(1), max_rows.max(1));
    let mut out = Vec::new();
    let all: Vec<usize> = (0..lengths.len()).collect();
    for part in all.chunks(window.max(1)) {
        let mut order = part.to_vec();
        order.sort_by_key(|&i| (lengths[i], i));
        let mut batch: Vec<usize> = Vec::new();
        for i in order {
            // Sorted, so the new row is the longest.
            let padded = (batch.len() + 1).saturating_mul(lengths[i]);
            if !batch.is_empty() && (batch.len() == max_rows || padded > budget) {
                out.push(std::mem::take(&mut batch));
            }
            batch.push(i);
        }
        if !batch.is_empty() {
            out.push(batch);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_once_within_the_limits(
            lengths in prop::collection::vec(0usize..600, 0..700),
            budget in 0usize..2000, max_rows in 0usize..40, window in 0usize..300,
        ) {
            let batches = plan_batches(&lengths, budget, max_rows, window);
            let mut rows: Vec<usize> = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|&i| lengths[i]).max().unwrap();
                prop_assert!(batch.len() <= max_rows.max(1));
                prop_assert!(batch.len() == 1 || batch.len() * longest <= budget.max(1));
                let first = batch[0] / window.max(1);
                prop_assert!(batch.iter().all(|&i| i / window.max(1) == first), "a batch crosses windows");
            }
        }

        /// Sorted neighbours differ little: all batches of a window together pad no more than one batch as long as the whole spread would.
        #[test]
        fn a_window_pads_at_most_its_spread_in_each_row_of_a_batch(
            lengths in prop::collection::vec(1usize..256, 1..256), budget in 1usize..2000, max_rows in 1usize..40,
        ) {
            let longest = |batch: &Vec<usize>| batch.iter().map(|&i| lengths[i]).max().unwrap();
            let padded: usize = plan_batches(&lengths, budget, max_rows, 256).iter().map(|b| b.len() * longest(b)).sum();
            let spread = lengths.iter().max().unwrap() - lengths.iter().min().unwrap();
            prop_assert!(padded - lengths.iter().sum::<usize>() <= max_rows * spread);
        }
    }

    /// 512 texts of 76 to 256 tokens: batches of 8 in order of arrival are a third padding.
    #[test]
    fn typical_texts_lose_little_to_padding() {
        let lengths: Vec<usize> = (0..512).map(|i: usize| 76 + i * 7919 % 181).collect();
        let waste = |batches: &[Vec<usize>]| {
            let padded: usize = batches.iter().map(|b| b.len() * b.iter().map(|&i| lengths[i]).max().unwrap()).sum();
            padded as f64 / lengths.iter().sum::<usize>() as f64 - 1.0
        };
        let arrival: Vec<Vec<usize>> = (0..512).collect::<Vec<_>>().chunks(8).map(<[usize]>::to_vec).collect();
        let (sorted, unsorted) = (waste(&plan_batches(&lengths, 1024, 8, 256)), waste(&arrival));
        assert!(sorted <= 0.03 && unsorted > 0.3, "{sorted} {unsorted}");
    }
}
