//! Speed and estimated time left, from samples of a counter.
//!
//! Why a window: videos differ in length by a factor of a thousand; the mean of the whole run reacts too late, the last second jumps. Pure: the
//! clock is handed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back the speed looks.
const WINDOW: Duration = Duration::from_secs(60);

/// Most samples that are kept; older ones inside the window are thinned out by `MIN_GAP`.
const MAX_SAMPLES: usize = 128;

/// Samples closer than this replace each other.
const MIN_GAP: Duration = Duration::from_millis(500);

/// Counts over the last minute.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Adds what the counter shows now.
    pub fn sample(&mut self, now: Instant, count: u64) {
        // At least one sample older than the newest stays, whatever its age.
        while self.samples.len() > 1 && (self.samples.len() >= MAX_SAMPLES || self.is_old(now)) {
            self.samples.pop_front();
        }
        let n = self.samples.len();
        if n >= 2 && self.samples[n - 1].0.duration_since(self.samples[n - 2].0) < MIN_GAP {
            self.samples.pop_back();
        }
        self.samples.push_back((now, count));
    }

    fn is_old(&self, now: Instant) -> bool {
        // The second sample must still cover the window, or the first is the better start.
        self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
    }

    /// Counts per second; `None` while there is nothing to compare.
    pub fn per_second(&self) -> Option<f64> {
        let ((start, from), (end, to)) = (self.samples.front()?, self.samples.back()?);
        let seconds = end.duration_since(*start).as_secs_f64();
        (seconds > 0.0).then(|| to.saturating_sub(*from) as f64 / seconds)
    }

    /// Time until `left` more are counted; `None` while nothing moves.
    pub fn time_left(&self, left: u64) -> Option<Duration> {
        let speed = self.per_second().filter(|s| *s > 0.0)?;
        Duration::try_from_secs_f64(left as f64 / speed).ok()
    }
}

/// `3 d 4 h`, `2 h 05 min`, `4 min 09 s`, `12 s`: two units are enough for a person.
pub(super) fn human(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_minute() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        for s in 0..=300u64 {
            // Ten per second for four minutes, then one per second.
            let count = if s <= 240 { s * 10 } else { 2400 + (s - 240) };
            rate.sample(start + Duration::from_secs(s), count);
        }
        let speed = rate.per_second().unwrap();
        assert!((speed - 1.0).abs() < 0.01, "{speed}");
        assert_eq!(rate.time_left(90).unwrap().as_secs(), 90);
    }

    #[test]
    fn samples_are_bounded_however_often_they_come() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for i in 0..100_000u64 {
            rate.sample(start + Duration::from_millis(i * 5), i);
        }
        assert!(rate.samples.len() <= MAX_SAMPLES, "{}", rate.samples.len());
        assert!((rate.per_second().unwrap() - 200.0).abs() < 1.0);
    }

    #[test]
    fn nothing_moves_gives_no_estimate() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.sample(start, 5);
        rate.sample(start + Duration::from_secs(10), 5);
        assert_eq!(rate.time_left(10), None);
    }

    #[test]
    fn durations_for_people() {
        let text = [12, 249, 7500, 273_600].map(|s| human(Duration::from_secs(s)));
        assert_eq!(text, ["12 s", "4 min 09 s", "2 h 05 min", "3 d 4 h"]);
    }
}
