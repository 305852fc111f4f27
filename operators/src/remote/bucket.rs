//! A token bucket that lends: who takes more than there is waits until it has been paid back.
//!
//! Why lending: a request may need more tokens than a second's worth, and its true size is known only when it is answered; so an estimate is taken
//! at the start and the difference given back, or taken, at the end. Pure: the clock is handed in.
//!
//! What can go wrong: after an idle time one second's worth goes at once, so a window of a minute can hold 1/60 more than the rate.

use std::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket that is filled with `per_minute` (above 0) a minute and holds a second's worth, at least one.
    pub fn per_minute(per_minute: f64, now: Instant) -> Bucket {
        let per_second = per_minute / 60.0;
        let burst = per_second.max(1.0);
        Bucket { per_second, burst, level: burst, at: now }
    }

    /// What it is filled with per minute.
    pub fn rate(&self) -> f64 {
        self.per_second * 60.0
    }

    /// Takes an amount and says how long to wait before using it. Whoever takes first waits least.
    pub fn take(&mut self, amount: f64, now: Instant) -> Duration {
        self.fill(now);
        self.level -= amount;
        match self.level < 0.0 {
            true => Duration::from_secs_f64((-self.level / self.per_second).min(MAX_WAIT_SECONDS)),
            false => Duration::ZERO,
        }
    }

    /// Takes back what was not used; a negative amount is used beyond what was taken.
    pub fn give_back(&mut self, amount: f64, now: Instant) {
        self.fill(now);
        self.level = (self.level + amount).min(self.burst);
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + seconds * self.per_second).min(self.burst);
        self.at = self.at.max(now);
    }
}

/// Nobody is told to wait longer than a day.
const MAX_WAIT_SECONDS: f64 = 86_400.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_large_request_is_paid_back_before_the_next() {
        let now = Instant::now();
        let mut bucket = Bucket::per_minute(60_000.0, now);
        assert_eq!(bucket.take(3_000.0, now), Duration::from_secs(2));
        assert_eq!(bucket.take(500.0, now), Duration::from_millis(2_500));
        bucket.give_back(2_500.0, now);
        assert_eq!(bucket.take(0.0, now), Duration::ZERO);
        bucket.give_back(1e9, now);
        assert_eq!(bucket.take(1_000.0, now), Duration::ZERO, "never more than a second's worth");
        assert_eq!(bucket.take(1.0, now), Duration::from_millis(1));
    }

    proptest! {
        /// Whoever asks whenever for whatever: what may be used in any minute is at most the rate and one burst (and the last request).
        #[test]
        fn no_minute_holds_more_than_the_rate(
            rate in 1.0f64..6_000.0,
            asked in prop::collection::vec((0u64..5_000, 1u32..50), 1..120),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::per_minute(rate, start);
            let mut now = start;
            let mut used: Vec<(f64, f64)> = Vec::new();
            for (later_ms, amount) in asked {
                now += Duration::from_millis(later_ms);
                let wait = bucket.take(f64::from(amount), now);
                // Waits are capped: the promise is for what is used within a day.
                prop_assert!(wait.as_secs_f64() <= MAX_WAIT_SECONDS);
                if wait.as_secs_f64() < MAX_WAIT_SECONDS {
                    used.push(((now + wait - start).as_secs_f64(), f64::from(amount)));
                }
            }
            for &(from, _) in &used {
                let within: Vec<f64> = used.iter().filter(|(t, _)| *t >= from && *t < from + 60.0).map(|u| u.1).collect();
                let first = within.first().copied().unwrap_or(0.0);
                let sum: f64 = within.iter().sum();
                prop_assert!(sum - first <= rate + (rate / 60.0).max(1.0) + 1e-6, "{sum} in the minute after {from}");
            }
        }
    }
}
