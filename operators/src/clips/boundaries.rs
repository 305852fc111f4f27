//! Moving the ends of a clip inward to key frames, so that its packets can be copied instead of encoded.
//!
//! Why inward only: what lies outside was not found to belong to the shot. Why the start first: a start between two key frames costs the encoding
//! of up to a whole group of pictures, an end a few frames at most.

/// How far ends may move, and how short a clip may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub tolerance_us: i64,
    pub min_length_us: i64,
}

/// The span that is left of `[start, end)`. The start moves to the first of the ascending `keys` at or after it, the end to the last one at or
/// before it, if these are near enough. Where both moves leave less than the shortest length only the start moves, else only the end, else neither.
pub(super) fn inward((start, end): (i64, i64), keys: &[i64], limits: Limits) -> (i64, i64) {
    let first = keys.get(keys.partition_point(|k| *k < start)).filter(|k| **k - start <= limits.tolerance_us);
    let last = keys[..keys.partition_point(|k| *k <= end)].last().filter(|k| end - **k <= limits.tolerance_us);
    let (from, to) = (first.copied().unwrap_or(start), last.copied().unwrap_or(end));
    let fits = |span: &(i64, i64)| *span == (start, end) || (span.0 < span.1 && span.1 - span.0 >= limits.min_length_us);
    [(from, to), (from, end), (start, to)].into_iter().find(fits).unwrap_or((start, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tries every pair of places.
    fn oracle((start, end): (i64, i64), keys: &[i64], limits: Limits) -> (i64, i64) {
        let near = |from: i64, to: i64| keys.iter().copied().filter(move |k| (from..=to).contains(k));
        let starts: Vec<i64> = near(start, start + limits.tolerance_us).chain([start]).collect();
        let ends: Vec<i64> = near(end - limits.tolerance_us, end).chain([end]).collect();
        let all = starts.iter().flat_map(|s| ends.iter().map(move |e| (*s, *e)));
        let allowed = all.filter(|s| *s == (start, end) || (s.0 < s.1 && s.1 - s.0 >= limits.min_length_us));
        // Copies from the start count most, then copies to the end, then length.
        allowed.max_by_key(|s| (keys.contains(&s.0), keys.contains(&s.1), s.1 - s.0)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn ends_move_as_the_search_over_all_places_says(
            start in 0i64..1000, length in 1i64..600, mut keys in prop::collection::btree_set(0i64..1700, 0..40),
            tolerance_us in 0i64..200, min_length_us in 0i64..500, on_ends in any::<(bool, bool)>(),
        ) {
            let span = (start, start + length);
            if on_ends.0 { keys.insert(span.0); }
            if on_ends.1 { keys.insert(span.1); }
            let keys: Vec<i64> = keys.into_iter().collect();
            let limits = Limits { tolerance_us, min_length_us };
            let moved = inward(span, &keys, limits);
            prop_assert_eq!(moved, oracle(span, &keys, limits));
            prop_assert!(moved.0 >= span.0 && moved.1 <= span.1 && moved.0 < moved.1);
            prop_assert!(moved.0 - span.0 <= tolerance_us && span.1 - moved.1 <= tolerance_us);
        }
    }
}
