//! From the frames of a video and its cuts to shots: pure.

use super::cuts::{Adaptive, Clock, Mode, adaptive, content};

/// Which decision, with its numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Detector {
    Content { threshold: f64, min_frames: i64, mode: Mode },
    Adaptive(Adaptive),
}

/// The frames of a video that may be used.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Stream time in nanoseconds, ascending.
    pub times_ns: Vec<i64>,
    /// How much each differs from the one before; 0 for the first one.
    pub scores: Vec<f64>,
}

/// One shot: `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shot {
    pub start_ns: i64,
    pub end_ns: i64,
    pub frames: usize,
    /// Score of its first frame; none for the shot that begins the video.
    pub cut_score: Option<f32>,
    /// Largest score inside.
    pub max_inner_score: Option<f32>,
}

impl Frames {
    /// Drops what is not to be used.
    pub fn keep_until(&mut self, until_us: i64) {
        let kept = self.times_ns.partition_point(|t| t / 1000 < until_us);
        self.times_ns.truncate(kept);
        self.scores.truncate(kept);
    }

    /// The shots of a video whose last frame ends at `end_ns`.
    pub fn shots(&self, detector: &Detector, end_ns: i64) -> Vec<Shot> {
        let times_us: Vec<i64> = self.times_ns.iter().map(|t| t / 1000).collect();
        let clock = Clock::of(&times_us);
        let cuts = match detector {
            Detector::Content { threshold, min_frames, mode } => content(&clock, &self.scores, *threshold, *min_frames, *mode),
            Detector::Adaptive(rule) => adaptive(&clock, &self.scores, rule),
        };
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain(std::iter::once(self.times_ns.len()));
        let shot = |(from, to): (usize, usize)| Shot {
            start_ns: self.times_ns[from],
            end_ns: self.times_ns.get(to).copied().unwrap_or(end_ns.max(self.times_ns[to - 1] + 1000)),
            frames: to - from,
            cut_score: (from > 0).then(|| self.scores[from] as f32),
            max_inner_score: self.scores[from + 1..to].iter().copied().reduce(f64::max).map(|s| s as f32),
        };
        starts.zip(ends).filter(|(from, to)| from < to).map(shot).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(n: usize, cuts: &[usize]) -> Frames {
        let score = |i: usize| if cuts.contains(&i) { 60.0 } else { (i % 3) as f64 };
        Frames { times_ns: (0..n as i64).map(|i| 7_000 + i * 40_000_000).collect(), scores: (0..n).map(score).collect() }
    }

    const RULE: Detector = Detector::Content { threshold: 27.0, min_frames: 15, mode: Mode::Merge };

    #[test]
    fn shots_follow_one_another_without_a_gap() {
        let shots = frames(100, &[30, 70]).shots(&RULE, 4_000_000_000);
        let spans: Vec<_> = shots.iter().map(|s| (s.start_ns, s.end_ns, s.frames)).collect();
        assert_eq!(spans, [(7_000, 1_200_007_000, 30), (1_200_007_000, 2_800_007_000, 40), (2_800_007_000, 4_000_000_000, 30)]);
        assert_eq!(shots.iter().map(|s| s.cut_score).collect::<Vec<_>>(), [None, Some(60.0), Some(60.0)]);
        assert_eq!(shots[1].max_inner_score, Some(2.0));
    }

    #[test]
    fn a_video_without_a_cut_is_one_shot_and_one_without_frames_none() {
        let one = frames(1, &[]).shots(&RULE, 0);
        assert_eq!(one, [Shot { start_ns: 7_000, end_ns: 8_000, frames: 1, cut_score: None, max_inner_score: None }]);
        assert!(Frames::default().shots(&RULE, 0).is_empty());
        let mut cut_off = frames(100, &[30, 70]);
        cut_off.keep_until(2_000_000);
        assert_eq!((cut_off.times_ns.len(), cut_off.scores.len()), (50, 50));
        assert_eq!(cut_off.shots(&RULE, 2_000_000_000).len(), 2);
    }
}
