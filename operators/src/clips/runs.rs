//! Which stretches of a video are clips: the decision of `temporal_split`, on plain numbers.
//!
//! Samples x_0..x_n-1 at times t, each positive or not (C), each similar or not to the one before (S). A stretch [i, j] is valid when all its samples are
//! positive, all its neighbours are similar by strictly more than tau and no further apart than 1.5 sampling periods, and it is long enough:
//! I[j - i >= m] * PROD I[C(x_k) = 1] * PROD I[S(x_k, x_k-1) > tau] = 1. Clips are the longest valid stretches.
//!
//! Two periods are at work. The nominal one is what the sampling was asked for; the measured one is the mean of the video's regular gaps, longer where the video
//! has fewer frames than were asked for. m is the shortest length divided by the smaller of the two, so a video of one frame in three seconds needs as
//! many samples as any other: three looks in six seconds are no evidence of a steady shot. Gaps are judged by the measured one: where a
//! video has no frames, none were missed. At 1 per second and 6 s, m is the paper's 6 whatever the video's frame rate.
//!
//! Why a tolerance of a quarter period, in m and in seconds: the frame taken for a second lies up to half a frame away from it, so that seven samples at 1 per
//! second may span 5.98 s. What can go wrong: a video whose sampling changes midway has no one period; the mean of the regular gaps is taken.

/// Neighbouring samples further apart than this many periods are not neighbours: frames are missing in between.
pub const MAX_GAP_PERIODS: f64 = 1.5;

/// How much shorter or longer than a limit a clip may be, in sampling periods: room for where frames lie.
const TOLERANCE_PERIODS: f64 = 0.25;

/// What the stretches of one video are found from.
pub struct Samples<'a> {
    /// Times, strictly ascending.
    pub times_us: &'a [i64],
    /// C: whether each sample is of the wanted kind.
    pub positive: &'a [bool],
    /// S of each sample and the one before; the first has none, so it is one shorter than `times_us`.
    pub similarity: &'a [f32],
}

/// The rule.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// tau: neighbours must be more similar than this.
    pub min_similarity: f64,
    /// Shortest clip.
    pub min_length_us: i64,
    /// Longest clip, 0 = any.
    pub max_length_us: i64,
    /// The sampling period that was asked for.
    pub nominal_period_us: f64,
}

/// The measured sampling period: the mean of all gaps that are not larger than 1.5 times the median gap. `None` with fewer than two samples.
pub fn period_us(times_us: &[i64]) -> Option<f64> {
    let mut gaps: Vec<i64> = times_us.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
    gaps.sort_unstable();
    let median = *gaps.get(gaps.len().checked_sub(1)? / 2)? as f64;
    let regular: Vec<f64> = gaps.iter().map(|&g| g as f64).filter(|g| *g <= MAX_GAP_PERIODS * median).collect();
    Some(regular.iter().sum::<f64>() / regular.len() as f64)
}

/// m: how many steps from one sample to the next a clip needs at least.
pub fn min_steps(period_us: f64, rule: &Rule) -> usize {
    ((rule.min_length_us as f64 / period_us.min(rule.nominal_period_us) - TOLERANCE_PERIODS).ceil() as usize).max(1)
}

/// Whether a valid stretch is a clip: enough steps, and enough seconds (samples may crowd).
pub fn long_enough(times_us: &[i64], (first, last): (usize, usize), period_us: f64, rule: &Rule) -> bool {
    let tolerance = TOLERANCE_PERIODS * period_us.min(rule.nominal_period_us);
    let span = times_us[last].saturating_sub(times_us[first]) as f64;
    last - first >= min_steps(period_us, rule) && span >= rule.min_length_us as f64 - tolerance
}

/// The longest valid stretches without regard to length, as `(first, last)`: every positive sample is in exactly one.
pub fn runs(samples: &Samples, period_us: f64, rule: &Rule) -> Vec<(usize, usize)> {
    let mut out: Vec<(usize, usize)> = Vec::new();
    for k in 0..samples.times_us.len() {
        if !samples.positive[k] {
            continue;
        }
        match out.last_mut() {
            Some((_, last)) if *last + 1 == k && joined(samples, k, period_us, rule) => *last = k,
            _ => out.push((k, k)),
        }
    }
    out
}

/// Whether sample `k` continues the shot of sample `k - 1`.
fn joined(samples: &Samples, k: usize, period_us: f64, rule: &Rule) -> bool {
    let gap = samples.times_us[k].saturating_sub(samples.times_us[k - 1]) as f64;
    f64::from(samples.similarity[k - 1]) > rule.min_similarity && gap <= MAX_GAP_PERIODS * period_us
}

/// Cuts a valid run of at least m steps into equal pieces of at most the longest length. Neighbouring pieces share the sample at their border, so
/// their spans tile the run. No piece is shorter than m steps: where both limits cannot be kept that way, there are fewer pieces and each is cut off at the
/// longest length (so with 6 to 10 s a run of 11 s gives its first 10 s).
pub fn pieces(run: (usize, usize), period_us: f64, rule: &Rule) -> Vec<(usize, usize)> {
    let (first, last) = run;
    let steps = last - first;
    if rule.max_length_us == 0 {
        return vec![run];
    }
    let shortest = min_steps(period_us, rule);
    // Sampling too coarse for both limits: the shortest length wins.
    let longest = ((rule.max_length_us as f64 / period_us + TOLERANCE_PERIODS).floor() as usize).max(shortest);
    let count = steps.div_ceil(longest).min(steps / shortest).max(1);
    (0..count)
        .map(|q| {
            let (from, to) = (first + q * steps / count, first + (q + 1) * steps / count);
            (from, to.min(from + longest))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000;

    /// The formula itself, for every pair i <= j, then those that lie in no other.
    fn oracle(samples: &Samples, period: f64, m: usize, min_us: f64, tau: f64) -> Vec<(usize, usize)> {
        let n = samples.times_us.len();
        let valid = |i: usize, j: usize| {
            j - i >= m
                && (samples.times_us[j] - samples.times_us[i]) as f64 >= min_us
                && (i..=j).all(|k| samples.positive[k])
                && (i + 1..=j).all(|k| f64::from(samples.similarity[k - 1]) > tau)
                && (i + 1..=j).all(|k| (samples.times_us[k] - samples.times_us[k - 1]) as f64 <= 1.5 * period)
        };
        let all: Vec<_> = (0..n).flat_map(|i| (i..n).map(move |j| (i, j))).filter(|&(i, j)| valid(i, j)).collect();
        let inside = |a: &(usize, usize), b: &(usize, usize)| a != b && b.0 <= a.0 && a.1 <= b.1;
        all.iter().filter(|a| !all.iter().any(|b| inside(a, b))).copied().collect()
    }

    fn rule(min_s: f64, max_s: f64) -> Rule {
        let (min_length_us, max_length_us) = ((min_s * 1e6) as i64, (max_s * 1e6) as i64);
        Rule { min_similarity: 0.85, min_length_us, max_length_us, nominal_period_us: S as f64 }
    }

    #[test]
    fn seven_samples_are_a_clip_and_six_are_not() {
        for n in [6usize, 7] {
            let times: Vec<i64> = (0..n as i64).map(|k| k * S).collect();
            let samples = Samples { times_us: &times, positive: &vec![true; n], similarity: &vec![0.9; n - 1] };
            let r = rule(6.0, 0.0);
            let runs = runs(&samples, S as f64, &r);
            assert_eq!(runs, [(0, n - 1)]);
            assert_eq!(long_enough(&times, (0, n - 1), S as f64, &r), n == 7);
        }
    }

    #[test]
    fn a_similarity_of_exactly_tau_is_a_cut() {
        let times: Vec<i64> = (0..4).map(|k| k * S).collect();
        let r = Rule { min_similarity: 0.5, ..rule(6.0, 0.0) };
        let samples = Samples { times_us: &times, positive: &[true; 4], similarity: &[0.75, 0.5, 0.500_001] };
        assert_eq!(runs(&samples, S as f64, &r), [(0, 1), (2, 3)]);
    }

    #[test]
    fn a_missing_second_is_a_cut() {
        let times = [0, S, 2 * S, 4 * S, 5 * S];
        let period = period_us(&times).unwrap();
        assert_eq!(period, S as f64);
        let samples = Samples { times_us: &times, positive: &[true; 5], similarity: &[0.9; 4] };
        assert_eq!(runs(&samples, period, &rule(6.0, 0.0)), [(0, 2), (3, 4)]);
    }

    #[test]
    fn the_required_steps_do_not_depend_on_where_frames_lie() {
        // The first frame at or after each second (less half a frame), for frame rates that do not divide a second.
        for fps in [7.99, 10.3, 12.5, 14.985, 23.976, 29.97, 59.94] {
            let frame = 1e6 / fps;
            let times: Vec<i64> =
                (0..9).map(|k| (((k * S) as f64 - frame / 2.0) / frame).ceil().max(0.0) * frame).map(|t| t as i64).collect();
            let period = period_us(&times).unwrap();
            assert_eq!(min_steps(period, &rule(6.0, 0.0)), 6, "at {fps} fps, period {period}");
        }
        assert_eq!(min_steps(0.5 * S as f64, &rule(6.0, 0.0)), 12, "sampled twice as densely as was said");
    }

    #[test]
    fn a_video_with_few_frames_needs_as_many_samples_as_any_other() {
        // One frame in 2.5 seconds, asked for one per second: 4 samples span 7.5 s and are no clip, 7 are.
        let times: Vec<i64> = (0..7).map(|k| k * 5 * S / 2).collect();
        let period = period_us(&times).unwrap();
        let r = rule(6.0, 0.0);
        let samples = Samples { times_us: &times, positive: &[true; 7], similarity: &[0.9; 6] };
        assert_eq!(runs(&samples, period, &r), [(0, 6)], "no frame is missing between them");
        assert!(!long_enough(&times, (0, 3), period, &r) && !long_enough(&times, (0, 5), period, &r));
        assert!(long_enough(&times, (0, 6), period, &r));
        let sparse = Rule { nominal_period_us: 2.5 * S as f64, ..r };
        assert!(long_enough(&times, (0, 3), period, &sparse), "sampled as was asked for");
    }

    #[test]
    fn crowded_samples_do_not_make_a_clip_shorter_than_its_seconds() {
        // Eight steps, but in 4.4 s: a burst of frames among seconds.
        let times: Vec<i64> = [0.0, 1.0, 2.0, 2.1, 2.2, 2.3, 2.4, 3.4, 4.4].map(|t| (t * 1e6) as i64).to_vec();
        assert!(!long_enough(&times, (0, 8), S as f64, &rule(6.0, 0.0)));
    }

    #[test]
    fn long_runs_are_cut_into_equal_pieces_that_keep_both_limits() {
        let cut = |steps: usize| pieces((3, 3 + steps), S as f64, &rule(6.0, 10.0));
        assert_eq!(cut(10), [(3, 13)]);
        assert_eq!(cut(24), [(3, 11), (11, 19), (19, 27)]);
        assert_eq!(cut(13), [(3, 9), (9, 16)]);
        assert_eq!(cut(11), [(3, 13)], "no two pieces of 6: one of 10");
        assert_eq!(pieces((0, 100), S as f64, &rule(6.0, 0.0)), [(0, 100)]);
    }

    proptest! {
        #[test]
        fn runs_are_the_maximal_solutions_of_the_formula(
            samples in proptest::collection::vec((any::<bool>(), any::<bool>(), 0u8..12, 1u8..30), 0..40),
            tau in 0.0f64..1.0,
            min_s in 1.0f64..8.0,
        ) {
            let n = samples.len();
            let mut t = 0;
            let times: Vec<i64> = samples.iter().map(|s| { t += if s.3 > 27 { 2 * S } else { S + i64::from(s.3) * 1000 }; t }).collect();
            let positive: Vec<bool> = samples.iter().map(|s| s.0 || s.1).collect();
            let similarity: Vec<f32> = samples.iter().skip(1).map(|s| if s.2 > 0 { 1.0 } else { tau as f32 - 0.01 }).collect();
            let s = Samples { times_us: &times, positive: &positive, similarity: &similarity };
            let Some(period) = period_us(&times) else { return Ok(()) };
            let r = Rule { min_similarity: tau, ..rule(min_s, 0.0) };
            let smaller = period.min(1e6);
            let m = (min_s * 1e6 / smaller - 0.25).ceil().max(1.0) as usize;
            let min_us = r.min_length_us as f64 - 0.25 * smaller;
            let fast: Vec<_> = runs(&s, period, &r).into_iter().filter(|run| long_enough(&times, *run, period, &r)).collect();
            prop_assert_eq!(fast, oracle(&s, period, m, min_us, tau));
            prop_assert!(n < 2 || period > 0.0);
        }

        #[test]
        fn every_piece_is_within_its_limits(steps in 6usize..400, min in 1usize..12, extra in 0usize..20) {
            prop_assume!(steps >= min);
            let r = rule(min as f64, (min + extra) as f64);
            let cut = pieces((5, 5 + steps), S as f64, &r);
            prop_assert_eq!(cut[0].0, 5);
            prop_assert!(cut.iter().all(|(a, b)| b - a >= min && b - a <= min + extra && *b <= 5 + steps));
            prop_assert!(cut.windows(2).all(|w| w[0].1 <= w[1].0));
            // Nothing is lost unless the limits leave no other way.
            let kept: usize = cut.iter().map(|(a, b)| b - a).sum();
            let possible = (steps.div_ceil(min + extra)..=steps / min).next().is_some();
            prop_assert!(kept == steps || !possible, "kept {} of {}", kept, steps);
        }
    }
}
