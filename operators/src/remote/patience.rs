//! How often one question is asked again, how long is waited before, and when it is given up.
//!
//! Pure but for the clock and the shared retry budget. What can go wrong: a question that the service cannot digest at all costs `max_failures`
//! requests.

use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use curette_engine::verdict::Problem;

use super::call::{Failure, Service};

/// The longest wait between two attempts that the service did not ask for.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The shortest wait after a 429.
pub const MIN_THROTTLED: Duration = Duration::from_millis(10);

/// A key, account, model or address that was refused so often in a row is wrong.
pub const CLOSED_ANSWERS: u32 = 2;

/// What one question has met so far.
pub struct Patience<'a> {
    service: &'a Service,
    backoff: Duration,
    bad_answers: u32,
    failures: u32,
    closed: u32,
    /// When it was first refused.
    closed_at: Option<Instant>,
    /// When it first met a 429.
    throttled: Option<Instant>,
    /// How long it was left alone because of 429s; waiting for a turn, for rates and for money is not that.
    left_alone: Duration,
}

/// How long to wait before the next attempt, or why there is none.
type Wait = Result<Duration, Failure>;

impl<'a> Patience<'a> {
    /// A question that was not asked yet.
    pub fn of(service: &'a Service) -> Patience<'a> {
        Patience {
            service,
            backoff: service.retry_initial,
            bad_answers: 0,
            failures: 0,
            closed: 0,
            closed_at: None,
            throttled: None,
            left_alone: Duration::ZERO,
        }
    }

    /// The key, the account, the model or the address was refused.
    pub fn closed(&mut self, problem: Problem) -> Wait {
        self.closed += 1;
        let first = *self.closed_at.get_or_insert_with(Instant::now);
        if self.closed < CLOSED_ANSWERS {
            return Ok(self.longer());
        }
        // Where others are served meanwhile, it is about this question: a firewall that dislikes a word, say.
        Err(match self.service.limiter.served_since(first) {
            true => Failure::Problem(problem),
            false => Failure::Down(problem),
        })
    }

    /// There was an answer without what was asked for.
    pub fn unusable(&mut self, problem: Problem) -> Wait {
        self.bad_answers += 1;
        let (n, most) = (self.bad_answers, self.service.max_attempts);
        self.again(problem, n >= most, format!("answer {n} of {most}, `max_attempts`"))
    }

    /// There was no connection, no answer in time, or the service is broken.
    pub fn failed(&mut self, problem: Problem) -> Wait {
        self.failures += 1;
        let (n, most) = (self.failures, self.service.max_failures);
        self.again(problem, n >= most, format!("failure {n} of {most}, `max_failures`"))
    }

    /// The service has too much to do, and wants to be left alone.
    pub fn throttled(&mut self, problem: Problem, wanted: Option<Duration>) -> Wait {
        let first = *self.throttled.get_or_insert_with(Instant::now);
        let asked = wanted.map(|w| w.min(self.service.max_retry_after)).filter(|w| *w >= MIN_THROTTLED);
        // A wait that was asked for is the whole limiter's, and is kept there; whoever is told so again and again waits longer by himself.
        let again = asked.is_none() || self.backoff > self.service.retry_initial;
        let longer = self.longer();
        let wait = if again { longer.max(MIN_THROTTLED) } else { Duration::ZERO };
        self.left_alone += wait.max(asked.unwrap_or_default());
        let waited = self.left_alone;
        if waited <= self.service.max_throttled {
            return Ok(wait);
        }
        let said = match wanted {
            Some(wanted) => format!("it last asked to be left alone for {:.0} s (`Retry-After`)", wanted.as_secs_f64()),
            None => "it does not say how long it wants to be left alone (no `Retry-After`)".into(),
        };
        let why = |what: &str| {
            let waited = waited.as_secs();
            let message = format!("{} ({what} for {waited} s, `max_throttled_seconds`; {said})", problem.message);
            Problem::new(problem.code.clone(), message)
        };
        // Where others are answered meanwhile, it is about this question: too large for the service's limits, say.
        Err(match self.service.limiter.answered_since(first) {
            true => Failure::Problem(why("while others were answered")),
            false => Failure::Down(why("nothing but 429")),
        })
    }

    fn again(&mut self, problem: Problem, enough: bool, how_often: String) -> Wait {
        let give_up =
            |why: String| Err(Failure::Problem(Problem::new(problem.code.clone(), format!("{} ({why})", problem.message))));
        if enough {
            return give_up(how_often);
        }
        if !self.service.limiter.may_repeat() {
            return give_up(format!("{how_often}; too many requests fail to repeat each, see `retry_share`"));
        }
        Ok(self.longer())
    }

    /// The next wait; the one after it is longer.
    fn longer(&mut self) -> Duration {
        let wait = jittered(self.backoff);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
        wait
    }
}

/// Between a half and the whole of a wait.
fn jittered(wait: Duration) -> Duration {
    // The standard library's hash keys are random; only waits depend on them, never output.
    let random = std::hash::RandomState::new().build_hasher().finish();
    wait.mul_f64(0.5 + (random >> 11) as f64 / (1u64 << 54) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_cut_by_at_most_a_half() {
        let waits: Vec<f64> = (0..1000).map(|_| jittered(Duration::from_secs(8)).as_secs_f64()).collect();
        assert!(waits.iter().all(|w| (4.0..=8.0).contains(w)));
        assert!(waits.iter().any(|w| *w < 5.0) && waits.iter().any(|w| *w > 7.0));
    }
}
