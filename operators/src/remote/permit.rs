//! The right to send one request, and what its end teaches the limiter.
//!
//! What can go wrong: a permit that is dropped without a word (a stopped run, a spent budget) gives back what was not used.

use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::limiter::Limiter;

/// What is left of the places after a round that met a 429.
const SHRINK: f64 = 0.75;

/// The right to send one request now.
pub struct Permit<'a> {
    limiter: &'a Limiter,
    place: Option<SemaphorePermit<'a>>,
    pub(super) began: Instant,
    tokens: u64,
    /// Rates were taken for it.
    pub(super) rated: bool,
    pub(super) probe: bool,
    /// It counts among the requests in flight.
    pub(super) counted: bool,
    used: bool,
    settled: bool,
}

impl<'a> Permit<'a> {
    /// A place, and nothing else yet.
    pub(super) fn new(limiter: &'a Limiter, place: Option<SemaphorePermit<'a>>, tokens: u64) -> Permit<'a> {
        Permit {
            limiter,
            place,
            began: Instant::now(),
            tokens,
            rated: false,
            probe: false,
            counted: false,
            used: false,
            settled: false,
        }
    }

    /// The request is sent now: what it took of the rates is used, whatever becomes of it.
    pub fn used(&mut self) {
        self.used = true;
    }

    /// The service answered, and charged so many tokens if it says. `useful`: with what it was asked for, which earns the right to repeat others.
    pub fn answered(mut self, charged: Option<u64>, useful: bool) {
        self.settled = true;
        let mut state = self.limiter.state();
        state.answered_at = Some(Instant::now());
        match useful {
            true => {
                state.served_at = Some(Instant::now());
                state.breaker.answered();
            }
            false => state.breaker.alive(),
        }
        if let (Some(bucket), Some(charged)) = (&mut state.tokens, charged) {
            bucket.give_back(self.tokens as f64 - charged as f64, Instant::now());
        }
        let allowed = state.allowed + 1.0 / state.allowed.max(1.0);
        self.limiter.allow(&mut state, allowed);
    }

    /// It said that it has too much to do; such a service works. The whole limiter is paused for `wait`.
    pub fn throttled(mut self, wait: Option<Duration>) {
        self.settled = true;
        let mut state = self.limiter.state();
        state.breaker.alive();
        if let Some(bucket) = &mut state.tokens {
            bucket.give_back(self.tokens as f64, Instant::now());
        }
        // Requests that were sent before the last reduction say nothing about it.
        if self.began >= state.shrunk_at {
            state.shrunk_at = Instant::now();
            let allowed = state.allowed * SHRINK;
            self.limiter.allow(&mut state, allowed);
        }
        drop(state);
        if let Some(wait) = wait {
            self.limiter.pause(wait);
        }
    }

    /// There was no connection, no answer in time, or a 5xx. `received`: the name of a request that reached the service. True when the failure is
    /// not the request's but the service's: it answers nobody.
    pub fn failed(mut self, received: Option<u64>) -> bool {
        self.settled = true;
        let mut state = self.limiter.state();
        if let Some(bucket) = state.tokens.as_mut().filter(|_| received.is_none()) {
            bucket.give_back(self.tokens as f64, Instant::now());
        }
        state.breaker.failed(self.probe, received, Instant::now());
        state.breaker.is_open()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        if self.counted {
            state.in_flight -= 1;
            self.limiter.show(&state);
        }
        if self.probe && !self.settled {
            state.breaker.abandoned();
        }
        // Whoever gave up before he asked leaves the rates to others.
        if self.rated && !self.used && !self.settled {
            let now = Instant::now();
            if let Some(bucket) = &mut state.requests {
                bucket.give_back(1.0, now);
            }
            if let Some(bucket) = &mut state.tokens {
                bucket.give_back(self.tokens as f64, now);
            }
        }
        if state.to_take_away > 0 && self.place.is_some() {
            state.to_take_away -= 1;
            if let Some(place) = self.place.take() {
                place.forget();
            }
        }
    }
}
