//! From the scores of frames to cuts: PySceneDetect's two decisions, as pure functions.
//!
//! A score says how much a frame differs from the one before, so a cut is the number of the first frame of a shot. Source: PySceneDetect 0.7.2, `detector.py`
//! (FlashFilter), `content_detector.py`, `adaptive_detector.py`, written anew. Frames are counted there by time and mean frame rate, which for videos of a
//! constant rate is the same as by number; here too. What can go wrong: nothing but a wrong threshold.

/// What happens to cuts that are too near to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A burst of them is one cut, where the burst ends; what precedes the first cut of the video is no burst.
    Merge,
    /// After a cut there is none until enough frames have passed.
    Suppress,
}

/// When the frames of a video are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock<'a> {
    /// Ascending.
    pub times_us: &'a [i64],
    /// Mean frame rate.
    pub fps: f64,
}

impl<'a> Clock<'a> {
    /// A clock with the mean rate of its own frames.
    pub fn of(times_us: &'a [i64]) -> Self {
        let fps = match times_us {
            [first, .., last] => (times_us.len() - 1) as f64 * 1e6 / (last - first).max(1) as f64,
            _ => 1.0,
        };
        Clock { times_us, fps }
    }

    /// Frames from one to another.
    fn frames(&self, from: usize, to: usize) -> i64 {
        let microseconds = self.times_us[to] - self.times_us[from];
        (microseconds.max(0) as f64 / 1e6 * self.fps).round_ties_even() as i64
    }
}

/// Cuts where a score is at least `threshold`, at least `min_frames` apart.
pub(super) fn content(clock: &Clock, scores: &[f64], threshold: f64, min_frames: i64, mode: Mode) -> Vec<usize> {
    let mut filter = Filter { clock, min_frames, mode, last_above: 0, enabled: false, merging_since: None };
    let cuts = scores.iter().enumerate().filter_map(|(i, score)| filter.next(i, *score >= threshold));
    cuts.filter(|cut| *cut > 0).collect() // the first frame begins a shot anyway
}

struct Filter<'a> {
    clock: &'a Clock<'a>,
    min_frames: i64,
    mode: Mode,
    last_above: usize,
    enabled: bool,
    merging_since: Option<usize>,
}

impl Filter<'_> {
    fn next(&mut self, frame: usize, above: bool) -> Option<usize> {
        if self.min_frames <= 0 {
            return above.then_some(frame);
        }
        let far = |from: usize, to: usize| self.clock.frames(from, to) >= self.min_frames;
        let is_far = far(self.last_above, frame);
        if self.mode == Mode::Suppress {
            if above && is_far {
                self.last_above = frame;
                return Some(frame);
            }
            return None;
        }
        if above {
            self.last_above = frame;
        }
        if let Some(start) = self.merging_since {
            if is_far && !above && far(start, self.last_above) {
                self.merging_since = None;
                return Some(self.last_above);
            }
            return None;
        }
        if !above {
            return None;
        }
        if is_far {
            self.enabled = true;
            return Some(frame);
        }
        if self.enabled {
            self.merging_since = Some(frame);
        }
        None
    }
}

/// What [`adaptive`] holds scores against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adaptive {
    /// Least ratio of a score to the mean of its neighbours.
    pub ratio: f64,
    /// Neighbours on each side, one at least.
    pub window: usize,
    /// Least score.
    pub min_score: f64,
    /// Least distance of cuts.
    pub min_frames: i64,
}

/// Cuts where a score stands out from those around it.
pub(super) fn adaptive(clock: &Clock, scores: &[f64], rule: &Adaptive) -> Vec<usize> {
    let (mut cuts, mut last) = (Vec::new(), 0);
    for i in rule.window..scores.len().saturating_sub(rule.window) {
        let around = &scores[i - rule.window..=i + rule.window];
        let neighbours = around.iter().enumerate().filter(|(k, _)| *k != rule.window).map(|(_, s)| s);
        let mean = neighbours.sum::<f64>() / (2.0 * rule.window as f64);
        let ratio = match mean.abs() < 0.00001 {
            true if scores[i] >= rule.min_score => 255.0,
            true => 0.0,
            false => (scores[i] / mean).min(255.0),
        };
        let stands_out = ratio >= rule.ratio && scores[i] >= rule.min_score;
        if stands_out && clock.frames(last, i) >= rule.min_frames {
            last = i;
            cuts.push(i);
        }
    }
    cuts.retain(|cut| *cut > 0);
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The filter as a search: where is the next cut behind a place?
    fn oracle(clock: &Clock, scores: &[f64], threshold: f64, min_frames: i64, mode: Mode) -> Vec<usize> {
        let above = |i: usize| scores[i] >= threshold;
        let last_above = |until: usize| (0..until).rev().find(|i| above(*i)).unwrap_or(0);
        let far = |from: usize, to: usize| clock.frames(from, to) >= min_frames;
        let (mut cuts, mut at) = (Vec::<usize>::new(), 0);
        while let Some(next) = (at..scores.len()).find(|i| above(*i)) {
            at = next + 1;
            let before = match mode {
                _ if min_frames <= 0 => None,
                Mode::Merge => Some(last_above(next)),
                Mode::Suppress => Some(cuts.last().copied().unwrap_or(0)),
            };
            if before.is_none_or(|before| far(before, next)) {
                cuts.push(next);
            } else if mode == Mode::Merge && !cuts.is_empty() {
                let calm = |i: &usize| !above(*i) && far(last_above(*i), *i) && far(next, last_above(*i));
                match (at..scores.len()).find(calm) {
                    Some(end) => {
                        cuts.push(last_above(end));
                        at = end + 1;
                    }
                    None => break,
                }
            }
        }
        cuts.retain(|cut| *cut > 0);
        cuts
    }

    fn clock(times: &[i64]) -> Clock<'_> {
        Clock::of(times)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_filter_finds_what_a_search_finds(
            scores in prop::collection::vec(prop_oneof![3 => Just(0.0), 1 => Just(30.0)], 0..120),
            gaps in prop::collection::vec(1_000i64..90_000, 120),
            min_frames in 0i64..12,
            suppress: bool,
        ) {
            let mut at = 0;
            let times: Vec<i64> = gaps.iter().take(scores.len()).map(|g| { at += g; at }).collect();
            let mode = if suppress { Mode::Suppress } else { Mode::Merge };
            let got = content(&clock(&times), &scores, 27.0, min_frames, mode);
            prop_assert_eq!(&got, &oracle(&clock(&times), &scores, 27.0, min_frames, mode));
            prop_assert!(got.windows(2).all(|w| w[0] < w[1]) && got.iter().all(|c| (1..scores.len()).contains(c)));
        }

        #[test]
        fn adaptive_cuts_stand_out_and_keep_their_distance(
            scores in prop::collection::vec(0.0f64..40.0, 0..80), window in 1usize..5, ratio in 1.0f64..4.0, min_frames in 0i64..12,
        ) {
            let times: Vec<i64> = (0..scores.len() as i64).map(|i| i * 40_000).collect();
            let rule = Adaptive { ratio, window, min_score: 10.0, min_frames };
            let mut want: Vec<usize> = Vec::new();
            for i in 0..scores.len() {
                if i < window || i + window >= scores.len() {
                    continue;
                }
                let mut mean = 0.0;
                for k in 1..=window {
                    mean += (scores[i - k] + scores[i + k]) / (2 * window) as f64;
                }
                let out = scores[i] >= 10.0 && scores[i] / mean >= ratio;
                let near = i as i64 - want.last().copied().unwrap_or(0) as i64;
                if out && near >= min_frames {
                    want.push(i);
                }
            }
            // The order of adding decides in the sixteenth digit.
            let ties = scores.iter().enumerate().any(|(i, s)| i >= window && i + window < scores.len() && {
                let mean: f64 = (1..=window).map(|k| scores[i - k] + scores[i + k]).sum::<f64>() / (2 * window) as f64;
                (s / mean - ratio).abs() < 1e-9
            });
            prop_assume!(!ties);
            prop_assert_eq!(adaptive(&clock(&times), &scores, &rule), want);
        }
    }

    #[test]
    fn a_flash_is_two_cuts_or_none_by_mode() {
        let times: Vec<i64> = (0..60).map(|i| i * 40_000).collect();
        let mut scores = vec![0.0; 60];
        for i in [20, 40, 41] {
            scores[i] = 50.0;
        }
        assert_eq!(content(&clock(&times), &scores, 27.0, 15, Mode::Merge), [20, 40]);
        assert_eq!(content(&clock(&times), &scores, 27.0, 15, Mode::Suppress), [20, 40]);
        assert_eq!(content(&clock(&times), &scores, 27.0, 0, Mode::Merge), [20, 40, 41]);
        scores[58] = 50.0; // starts a burst that the end of the video leaves open
        assert_eq!(content(&clock(&times), &scores, 27.0, 15, Mode::Merge), [20, 40]);
    }
}
