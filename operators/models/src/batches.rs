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

        #[test]
        fn sorting_never_pads_more_than_order_of_arrival(lengths in prop::collection::vec(1usize..256, 1..256)) {
            let padded = |batches: &[Vec<usize>]| -> usize {
                batches.iter().map(|b| b.len() * b.iter().map(|&i| lengths[i]).max().unwrap()).sum()
            };
            let arrival: Vec<Vec<usize>> = (0..lengths.len()).collect::<Vec<_>>().chunks(8).map(<[usize]>::to_vec).collect();
            prop_assert!(padded(&plan_batches(&lengths, usize::MAX, 8, 256)) <= padded(&arrival));
        }
    }
}
