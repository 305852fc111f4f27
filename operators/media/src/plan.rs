//! Which packets must be decoded for the pictures that are wanted: a pure function over what the packets say, before anything is decoded.
//!
//! Why: decoding is nearly the whole cost of sampling, and half of it is for nothing. A packet that no other refers to is left out unless its own
//! picture is wanted; so is everything between the last wanted picture of a group and the next restart. What is kept decodes to the same bytes as in
//! a full decode, because whatever may be referred to is kept.
//!
//! Cheapness is counted in packets. What can go wrong: a packet may promise a picture that a decoder does not give (leading pictures of a stream
//! that starts in the middle); the caller must notice, and decode everything.

use super::grid::Grid;

/// Which picture answers a grid time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Sampling {
    /// The first frame at or after the time less half a frame period.
    #[default]
    Exact,
    /// The frame that costs least to decode among those at most this many nanoseconds away; the nearest of equals. If there is none, as exact.
    Within(i64),
    /// The nearest key frame. A file with few of them gives few frames.
    Keyframes,
}

/// One packet of the chosen stream, in decoding order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Stream time of its picture in nanoseconds; `None` if it shows none (hidden by the codec or by an edit list).
    pub time_ns: Option<i64>,
    /// The presentation time as the demuxer gives it: what identifies the packet before the decoder.
    pub raw_pts: Option<u64>,
    /// Bytes.
    pub size: u32,
    /// It is a key frame.
    pub key: bool,
    /// It decodes with nothing before it.
    pub alone: bool,
    /// Decoding restarts here.
    pub sync: bool,
    /// A later packet may refer to it.
    pub reference: bool,
}

/// What to decode and what to take from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Stream times of the wanted pictures in nanoseconds, ascending.
    pub picks_ns: Vec<i64>,
    /// For each packet: must it be decoded?
    pub keep: Vec<bool>,
}

/// Plans the grid of `fps` per second over the pictures at `[start, end)`; `None` if the times do not name pictures, or there are none.
pub(crate) fn plan(units: &[Unit], (start_ns, end_ns): (i64, i64), fps: f64, period_ns: i64, sampling: Sampling) -> Option<Plan> {
    let mut shown: Vec<(i64, usize)> = units.iter().enumerate().filter_map(|(i, u)| Some((u.time_ns?, i))).collect();
    shown.sort_unstable();
    if shown.windows(2).any(|w| w[0].0 == w[1].0) {
        return None;
    }
    shown.retain(|(time_ns, _)| (start_ns..end_ns).contains(time_ns));
    if shown.is_empty() {
        return None;
    }
    let keys: Vec<(i64, usize)> = shown.iter().filter(|p| units[p.1].key).copied().collect();
    let mut kept = Kept::new(units);
    let mut picks: Vec<(i64, usize)> = Vec::new();
    for (time_ns, exact) in due(&shown, start_ns, fps, period_ns) {
        let after = picks.last().map(|p| p.0);
        let free = |p: &(i64, usize)| after.is_none_or(|t| p.0 > t);
        let pick = match sampling {
            Sampling::Exact => exact,
            Sampling::Within(tolerance_ns) => {
                let first = shown.partition_point(|p| p.0 < time_ns - tolerance_ns);
                let near = shown[first..].iter().take_while(|p| p.0 <= time_ns + tolerance_ns).filter(|p| free(p));
                near.min_by_key(|p| (kept.extra(p.1), p.0.abs_diff(time_ns), p.0)).copied().unwrap_or(exact)
            }
            Sampling::Keyframes => nearest(&keys, time_ns).unwrap_or(exact),
        };
        if free(&pick) {
            kept.want(pick.1);
            picks.push(pick);
        }
    }
    let keep = match sampling {
        Sampling::Keyframes if picks.iter().all(|p| units[p.1].alone) => alone(units.len(), &picks),
        _ => kept.packets(),
    };
    Some(Plan { picks_ns: picks.iter().map(|p| p.0).collect(), keep })
}

/// The exact answers: each with the first grid time that it answers.
fn due(shown: &[(i64, usize)], start_ns: i64, fps: f64, period_ns: i64) -> Vec<(i64, (i64, usize))> {
    let mut grid = Grid::new(start_ns, fps, period_ns);
    let answer = |p: &(i64, usize)| {
        let time_ns = grid.time_ns();
        grid.takes(p.0).then_some((time_ns, *p))
    };
    shown.iter().filter_map(answer).collect()
}

/// The nearest of ascending times; the earlier of equals.
fn nearest(sorted: &[(i64, usize)], time_ns: i64) -> Option<(i64, usize)> {
    let at = sorted.partition_point(|p| p.0 < time_ns);
    let around = sorted[at.saturating_sub(1)..].iter().take(2);
    around.min_by_key(|p| (p.0.abs_diff(time_ns), p.0)).copied()
}

fn alone(packets: usize, picks: &[(i64, usize)]) -> Vec<bool> {
    let mut keep = vec![false; packets];
    picks.iter().for_each(|p| keep[p.1] = true);
    keep
}

/// What is kept so far: of each group the references up to a point, and the wanted pictures.
struct Kept<'a> {
    units: &'a [Unit],
    /// Where each packet's group begins.
    start: Vec<usize>,
    /// Number of references before each packet.
    before: Vec<usize>,
    /// By start of group: up to where its references are kept.
    reach: Vec<usize>,
    wanted: Vec<bool>,
}

impl<'a> Kept<'a> {
    fn new(units: &'a [Unit]) -> Self {
        let (mut start, mut before, mut from, mut references) = (Vec::new(), Vec::new(), 0, 0);
        for (i, unit) in units.iter().enumerate() {
            if unit.sync {
                from = i;
            }
            start.push(from);
            before.push(references);
            references += usize::from(unit.reference);
        }
        let reach = (0..units.len()).collect();
        Kept { units, start, before, reach, wanted: vec![false; units.len()] }
    }

    /// Packets that must be decoded in addition for the picture of packet `i`.
    fn extra(&self, i: usize) -> usize {
        let reach = self.reach[self.start[i]];
        let references = if i > reach { self.before[i] - self.before[reach] } else { 0 };
        let known = self.wanted[i] || (self.units[i].reference && i < reach);
        references + usize::from(!known)
    }

    fn want(&mut self, i: usize) {
        self.wanted[i] = true;
        let reach = &mut self.reach[self.start[i]];
        *reach = (*reach).max(i + 1);
    }

    fn packets(&self) -> Vec<bool> {
        let needed = |i: usize| self.wanted[i] || (self.units[i].reference && i < self.reach[self.start[i]]);
        (0..self.units.len()).map(needed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::WHOLE_NS;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const FRAME_NS: i64 = 40_000_000;

    /// A packet with what it really refers to: what no planner may know.
    #[derive(Debug, Clone)]
    struct Truth {
        unit: Unit,
        refers_to: Vec<usize>,
    }

    /// A stream: groups with hidden packets, references and others, each referring to references of its own group; shown in a shuffled order.
    fn streams() -> impl Strategy<Value = Vec<Truth>> {
        let packet = (any::<bool>(), any::<bool>(), 0u8..10, any::<u64>(), 0i64..3);
        let group = prop::collection::vec(packet, 1..24);
        (prop::collection::vec(group, 1..6), 0i64..4_000_000_000).prop_map(|(groups, mut at)| {
            let mut stream: Vec<Truth> = Vec::new();
            for group in groups {
                let from = stream.len();
                // Display order inside a group: anything.
                let mut order: Vec<usize> = (0..group.len()).collect();
                order.sort_by_key(|&k| (group[k].3 % 7, group[k].3));
                let mut times = vec![0; group.len()];
                for &k in &order {
                    at += FRAME_NS * (1 + group[k].4 * group[k].4 * 5); // with gaps
                    times[k] = at;
                }
                for (k, (reference, intra, hidden, links, _)) in group.iter().enumerate() {
                    let first = k == 0;
                    let earlier: Vec<usize> = (from..stream.len()).filter(|&i| stream[i].unit.reference).collect();
                    let alone = first || (*intra && *reference && links % 5 == 0);
                    let refers_to =
                        if alone { vec![] } else { earlier.iter().copied().filter(|i| links >> (i % 60) & 1 == 1).collect() };
                    let unit = Unit {
                        time_ns: (*hidden > 0 || first).then_some(times[k]),
                        raw_pts: Some(times[k] as u64),
                        size: 1,
                        key: alone,
                        alone,
                        sync: first,
                        reference: *reference || first,
                    };
                    stream.push(Truth { unit, refers_to });
                }
            }
            stream
        })
    }

    /// Decodes packet after packet: a picture is a number made of its packet and the pictures it refers to; a missing one spoils it.
    fn decode(stream: &[Truth], keep: impl Fn(usize) -> bool) -> HashMap<i64, u64> {
        const SPOILT: u64 = u64::MAX;
        let (mut pictures, mut shown) = (HashMap::new(), HashMap::new());
        for (i, packet) in stream.iter().enumerate().filter(|(i, _)| keep(*i)) {
            let parts = packet.refers_to.iter().map(|r| pictures.get(r).copied().unwrap_or(SPOILT));
            let picture = parts.fold(i as u64 + 1, |sum, p| match (sum, p) {
                (SPOILT, _) | (_, SPOILT) => SPOILT,
                (sum, p) => (sum.wrapping_mul(31).wrapping_add(p)) % 1_000_000_007,
            });
            pictures.insert(i, picture);
            if let Some(t) = packet.unit.time_ns {
                shown.insert(t, picture);
            }
        }
        shown
    }

    fn units(stream: &[Truth]) -> Vec<Unit> {
        stream.iter().map(|t| t.unit).collect()
    }

    /// Each grid time with its exact answer, by searching.
    fn rule(times: &[i64], fps: f64) -> Vec<(i64, i64)> {
        let mut out: Vec<(i64, i64)> = Vec::new();
        for k in 0.. {
            let t = (f64::from(k) * 1e9 / fps).round() as i64;
            match times.iter().find(|&&p| p >= t - FRAME_NS / 2) {
                None => break,
                Some(&p) if out.last().is_none_or(|o| o.1 != p) => out.push((t, p)),
                Some(_) => {}
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn planned_pictures_are_those_of_a_full_decode(stream in streams(), fps in 0.2f64..5.0, tolerance in 0i64..1_500_000_000) {
            let full = decode(&stream, |_| true);
            let mut times: Vec<i64> = full.keys().copied().collect();
            times.sort_unstable();
            let exact = rule(&times, fps);
            for sampling in [Sampling::Exact, Sampling::Within(tolerance), Sampling::Keyframes] {
                let plan = plan(&units(&stream), WHOLE_NS, fps, FRAME_NS, sampling).unwrap();
                let some = decode(&stream, |i| plan.keep[i]);
                for t in &plan.picks_ns {
                    prop_assert_eq!(some.get(t), full.get(t), "{:?} at {}", sampling, t);
                }
                prop_assert!(plan.picks_ns.windows(2).all(|w| w[0] < w[1]));
                // Nothing is decoded for nothing.
                for (i, kept) in plan.keep.iter().enumerate() {
                    let u = &stream[i].unit;
                    let wanted = u.time_ns.is_some_and(|t| plan.picks_ns.contains(&t));
                    let end = (i + 1..stream.len()).find(|&k| stream[k].unit.sync).unwrap_or(stream.len());
                    let later = (i + 1..end).any(|k| stream[k].unit.time_ns.is_some_and(|t| plan.picks_ns.contains(&t)));
                    prop_assert!(!kept || wanted || (u.reference && later), "packet {i}");
                }
                match sampling {
                    Sampling::Exact => prop_assert_eq!(&plan.picks_ns, &exact.iter().map(|e| e.1).collect::<Vec<_>>()),
                    Sampling::Within(tolerance) => {
                        prop_assert!(plan.picks_ns.len() <= exact.len());
                        for t in &plan.picks_ns {
                            prop_assert!(exact.iter().any(|e| e.1 == *t || e.0.abs_diff(*t) <= tolerance as u64), "{t}");
                        }
                    }
                    Sampling::Keyframes => {
                        let keys: Vec<i64> = stream.iter().filter(|p| p.unit.key).filter_map(|p| p.unit.time_ns).collect();
                        let mut nearest: Vec<i64> =
                            exact.iter().map(|e| *keys.iter().min_by_key(|k| (k.abs_diff(e.0), **k)).unwrap()).collect();
                        nearest.sort_unstable();
                        nearest.dedup();
                        prop_assert_eq!(&plan.picks_ns, &nearest);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_span_is_sampled_like_a_video_of_its_own(stream in streams(), fps in 0.2f64..5.0, start in 0i64..8_000_000_000, length in 1i64..8_000_000_000) {
            let full = decode(&stream, |_| true);
            let mut times: Vec<i64> = full.keys().copied().filter(|t| (start..start + length).contains(t)).map(|t| t - start).collect();
            times.sort_unstable();
            let want: Vec<i64> = rule(&times, fps).iter().map(|(_, picked)| picked + start).collect();
            match plan(&units(&stream), (start, start + length), fps, FRAME_NS, Sampling::Exact) {
                None => prop_assert!(want.is_empty()),
                Some(plan) => {
                    prop_assert_eq!(&plan.picks_ns, &want);
                    let some = decode(&stream, |i| plan.keep[i]);
                    prop_assert!(want.iter().all(|t| some.get(t) == full.get(t)));
                }
            }
        }
    }

    /// I, then P with two B each (the first one a reference), every two seconds or so: the usual file.
    fn usual(seconds: usize) -> Vec<Unit> {
        let group = |g: usize| {
            (0..49usize).map(move |k| {
                let (reference, shift) = match k {
                    0 => (true, 0),
                    k if k % 3 == 1 => (true, 2),
                    k if k % 3 == 2 => (true, -1),
                    _ => (false, -1),
                };
                let time = ((g * 49 + k) as i64 + shift) * FRAME_NS;
                let pts = Some(time as u64);
                Unit { time_ns: Some(time), raw_pts: pts, size: 1, key: k == 0, alone: k == 0, sync: k == 0, reference }
            })
        };
        (0..seconds / 2).flat_map(group).collect()
    }

    #[test]
    fn tolerance_lets_key_frames_answer() {
        let units = usual(20);
        let count = |s| plan(&units, WHOLE_NS, 1.0, FRAME_NS, s).unwrap().keep.iter().filter(|k| **k).count();
        let (exact, within, keys) = (count(Sampling::Exact), count(Sampling::Within(500_000_000)), count(Sampling::Keyframes));
        assert!(exact < units.len() / 2, "{exact} of {}", units.len());
        assert!(within < exact && keys == 10, "{within} {keys}");
    }

    #[test]
    fn times_that_name_no_picture_give_no_plan() {
        let mut units = usual(2);
        units[3].time_ns = units[4].time_ns;
        assert_eq!(plan(&units, WHOLE_NS, 1.0, FRAME_NS, Sampling::Exact), None);
        assert_eq!(plan(&[], WHOLE_NS, 1.0, FRAME_NS, Sampling::Exact), None);
    }
}
