//! Where packets can be copied instead of encoded again: a pure function over what the packets say.
//!
//! A copy begins at a restart (an IDR picture: nothing from there on refers to what came before, and nothing from before is shown later). It can
//! end before any picture such that all references that are shown later are also stored later; what is stored earlier, shown later, and referred to
//! by nothing is left out. So the copied packets show exactly the pictures of an unbroken span, and decode to the bytes to which they decode in the
//! source.
//!
//! What can go wrong: pictures that an edit list hides, before which a copy must end; two pictures of the same time, which are refused.

use super::plan::Unit;

/// What a cut of `[start, end)` copies. Times are stream times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Splice {
    /// Copied packets, by their place in decoding order, ascending.
    pub copied: Vec<usize>,
    /// Where the copy begins: the time of its first picture.
    pub from_ns: i64,
    /// Where it ends: the time of the first picture behind it; `None` at the end of the stream.
    pub until_ns: Option<i64>,
}

/// How the ends of a copy lie to the wanted span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// As much as possible, but nothing outside the span.
    Inside,
    /// As little as possible, but the whole span.
    Around,
}

/// Finds the copy, or says why there is none.
pub(crate) fn splice(units: &[Unit], start_ns: i64, end_ns: i64, ends: Ends) -> Result<Splice, &'static str> {
    let restart = |u: &Unit| u.sync && u.time_ns.is_some();
    let at = |u: &Unit| u.time_ns.unwrap_or(i64::MAX);
    let first = match ends {
        Ends::Inside => units.iter().position(|u| restart(u) && at(u) >= start_ns && at(u) < end_ns),
        Ends::Around => {
            // The first wanted picture, which may be the restart itself.
            let wanted = units.iter().filter_map(|u| u.time_ns).filter(|t| *t >= start_ns).min().unwrap_or(start_ns);
            units.iter().rposition(|u| restart(u) && at(u) <= wanted)
        }
    };
    let first = first.ok_or("no_key_frame")?;
    let behind = units[first + 1..].iter().position(|u| restart(u) && at(u) >= end_ns).map(|i| first + 1 + i);
    let window = first..behind.unwrap_or(units.len());
    // What is not shown is no part of a copy.
    let hidden = window.clone().find(|&i| units[i].time_ns.is_none() && units[i].reference);
    let mut shown: Vec<(i64, usize)> = window.filter_map(|i| Some((units[i].time_ns?, i))).collect();
    shown.sort_unstable();
    if shown[0].1 != first || shown.windows(2).any(|w| w[0].0 == w[1].0) {
        return Err("frame_times");
    }
    let wanted = shown.partition_point(|s| s.0 < end_ns);
    let possible = possible_ends(units, &shown, hidden.unwrap_or(usize::MAX));
    let count = match ends {
        Ends::Inside => (1..=wanted).rev().find(|&n| possible[n]),
        Ends::Around => (wanted.max(1)..=shown.len()).find(|&n| possible[n]),
    };
    let count = count.ok_or("hidden_frames")?;
    let mut copied: Vec<usize> = shown[..count].iter().map(|s| s.1).collect();
    copied.sort_unstable();
    let next = shown.get(count).map(|s| s.0).or_else(|| behind.and_then(|i| units[i].time_ns));
    Ok(Splice { copied, from_ns: shown[0].0, until_ns: next })
}

/// For each number of pictures in order of display, from 0: whether these alone can be copied. Nothing from the packet `hidden` on may be among them.
fn possible_ends(units: &[Unit], shown: &[(i64, usize)], hidden: usize) -> Vec<bool> {
    let mut possible = vec![false; shown.len() + 1];
    // The first stored of the references that are shown later.
    let mut earliest = vec![hidden; shown.len() + 1];
    for (n, (_, i)) in shown.iter().enumerate().rev() {
        earliest[n] = if units[*i].reference { earliest[n + 1].min(*i) } else { earliest[n + 1] };
    }
    let mut last = 0;
    for (n, (_, i)) in shown.iter().enumerate() {
        last = last.max(*i);
        possible[n + 1] = last < earliest[n + 1];
    }
    possible
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Groups of pictures with references among each other that no planner may know; shown in any order inside their group.
    fn streams() -> impl Strategy<Value = Vec<(Unit, Vec<usize>)>> {
        let group = prop::collection::vec((any::<bool>(), any::<u64>()), 1..12);
        prop::collection::vec(group, 1..5).prop_map(|groups| {
            let mut stream: Vec<(Unit, Vec<usize>)> = Vec::new();
            for group in groups {
                let from = stream.len();
                let mut order: Vec<usize> = (1..group.len()).collect();
                order.sort_by_key(|&k| (k as u64 / 3, group[k].1 % 5));
                for (k, (reference, links)) in group.iter().enumerate() {
                    let shown = if k == 0 { 0 } else { order.iter().position(|&o| o == k).unwrap() + 1 };
                    let time_ns = Some(((from + shown) * 100) as i64);
                    let refers =
                        (from..stream.len()).filter(|&i| stream[i].0.reference && (links >> (i % 50)) & 1 == 1).collect();
                    let (sync, reference) = (k == 0, *reference || k == 0);
                    let unit = Unit { time_ns, raw_pts: None, size: 1, key: sync, alone: sync, sync, reference };
                    stream.push((unit, refers));
                }
            }
            stream
        })
    }

    /// The rule as written, for one end: references shown later are stored later.
    fn may_end(units: &[Unit], first: usize, until_ns: i64) -> bool {
        let window = |i: &usize| units[*i].time_ns.unwrap() >= units[first].time_ns.unwrap();
        let inside: Vec<usize> = (first..units.len()).filter(window).filter(|&i| units[i].time_ns.unwrap() < until_ns).collect();
        let later = (first..units.len()).filter(|&i| units[i].time_ns.unwrap() >= until_ns && units[i].reference);
        !inside.is_empty() && later.min().is_none_or(|r| inside.iter().all(|&i| i < r))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn copies_are_unbroken_decodable_and_the_best_of_all(stream in streams(), from in 0i64..4000, length in 1i64..3000) {
            let units: Vec<Unit> = stream.iter().map(|s| s.0).collect();
            let (start, end) = (from, from + length);
            let time = |i: usize| units[i].time_ns.unwrap();
            let mut ends: Vec<i64> = units.iter().map(|u| u.time_ns.unwrap()).chain([i64::MAX]).collect();
            ends.sort_unstable();
            for kind in [Ends::Inside, Ends::Around] {
                let restarts = (0..units.len()).filter(|&i| units[i].sync);
                let first = match kind {
                    Ends::Inside => restarts.filter(|&i| time(i) >= start && time(i) < end).min(),
                    Ends::Around => {
                        let wanted = (0..units.len()).map(time).filter(|t| *t >= start).min().unwrap_or(start);
                        restarts.filter(|&i| time(i) <= wanted).max()
                    }
                };
                let Some(first) = first else {
                    prop_assert_eq!(splice(&units, start, end, kind), Err("no_key_frame"));
                    continue;
                };
                let s = splice(&units, start, end, kind).unwrap();
                let until = s.until_ns.unwrap_or(i64::MAX);
                prop_assert_eq!(s.from_ns, time(first));
                let brute = match kind {
                    Ends::Inside => ends.iter().rev().find(|&&t| {
                        // The last end at or before the wanted one: no picture between them may be lost to a better choice.
                        units.iter().filter(|u| u.time_ns.unwrap() < t).all(|u| u.time_ns.unwrap() < end) && may_end(&units, first, t)
                    }),
                    Ends::Around => ends.iter().find(|&&t| {
                        let all_wanted = units.iter().map(|u| u.time_ns.unwrap()).filter(|u| *u < end).all(|u| u < t);
                        t > time(first) && all_wanted && may_end(&units, first, t)
                    }),
                };
                prop_assert_eq!(until, *brute.unwrap(), "{:?}", kind);
                let expected: Vec<usize> = (first..units.len()).filter(|&i| time(i) < until).collect();
                prop_assert_eq!(&s.copied, &expected);
                for &i in &s.copied {
                    prop_assert!(stream[i].1.iter().all(|r| s.copied.contains(r)), "{i} needs what is not copied");
                }
                // What a decoder counts: no reference is missing before the last packet that is copied.
                let last = *s.copied.last().unwrap();
                prop_assert!((first..last).all(|i| !units[i].reference || s.copied.contains(&i)));
            }
        }
    }

    #[test]
    fn what_is_hidden_or_has_no_restart_is_refused() {
        let unit =
            |time_ns: Option<i64>, sync| Unit { time_ns, raw_pts: None, size: 1, key: sync, alone: sync, sync, reference: true };
        let units = [unit(Some(0), true), unit(None, false), unit(Some(80), false), unit(Some(120), true)];
        assert_eq!(splice(&units, 0, 100, Ends::Inside).map(|s| (s.copied, s.until_ns)), Ok((vec![0], Some(80))));
        assert_eq!(splice(&units, 0, 100, Ends::Around), Err("hidden_frames"));
        assert_eq!(splice(&units, 10, 100, Ends::Inside), Err("no_key_frame"));
        assert_eq!(splice(&units, 90, 200, Ends::Inside).map(|s| s.copied), Ok(vec![3]));
        let twice = [unit(Some(0), true), unit(Some(40), false), unit(Some(40), false)];
        assert_eq!(splice(&twice, 0, 100, Ends::Inside), Err("frame_times"));
        let rounded = [unit(Some(0), true), unit(Some(33_366_666), true)];
        assert_eq!(
            splice(&rounded, 33_366_000, 50_000_000, Ends::Around).map(|s| s.from_ns),
            Ok(33_366_666),
            "not the one before"
        );
        let late = [unit(Some(80), true), unit(Some(120), false)];
        assert_eq!(splice(&late, 0, 100, Ends::Around).map(|s| (s.from_ns, s.copied)), Ok((80, vec![0])));
    }
}
