//! Who may ask a service now: places, rates, pauses and the breaker, shared by all steps of a process that name one service.
//!
//! A request waits for a place (in order of arrival), then for its turn by requests and by tokens per minute, then until the service wants to be
//! asked again. A service that says 429 gets fewer requests at once (three quarters for each round that met one) and one more for each round that
//! met none.
//!
//! What can go wrong: two steps give one service different limits; the smaller of each holds, and the log says so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use curette_engine::telemetry::names::REMOTE_IN_FLIGHT;
use tokio::sync::Semaphore;

use super::breaker::{Breaker, Leave};
use super::bucket::Bucket;
pub use super::limits::Limits;
pub use super::permit::Permit;

/// The limiters of a process by name; lives in [`curette_engine::resources::Resources`].
#[derive(Default)]
pub struct Limiters(Mutex<HashMap<String, Arc<Limiter>>>);

impl Limiters {
    /// The limiter of a name; limits that exist already are only tightened, and whoever loses by that is told in the log.
    pub fn named(&self, name: &str, limits: Limits) -> Arc<Limiter> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(name) {
            Some(limiter) => {
                if let Some(differ) = limiter.tighten(limits) {
                    tracing::warn!(
                        group = name,
                        "Two steps share limits and give different ones, of which the smaller hold: {differ}"
                    );
                }
                Arc::clone(limiter)
            }
            None => {
                let limiter = Arc::new(Limiter::new(name, limits));
                all.insert(name.to_owned(), Arc::clone(&limiter));
                limiter
            }
        }
    }
}

/// See the module's documentation.
pub struct Limiter {
    name: String,
    places: Semaphore,
    state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    /// The smallest that any step gave.
    limits: Limits,
    max_in_flight: usize,
    pub(super) requests: Option<Bucket>,
    pub(super) tokens: Option<Bucket>,
    /// Nobody asks before.
    paused_until: Instant,
    /// Places that there should be; whole ones are given out.
    pub(super) allowed: f64,
    /// Places that there are, free or taken, less those to take away when they come back.
    places: usize,
    pub(super) to_take_away: usize,
    pub(super) shrunk_at: Instant,
    /// When it last answered anything but 429.
    pub(super) answered_at: Option<Instant>,
    pub(super) served_at: Option<Instant>,
    pub(super) in_flight: usize,
    pub(super) breaker: Breaker,
}

/// The service has not answered anything for this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down(pub Duration);

impl Limiter {
    fn new(name: &str, limits: Limits) -> Limiter {
        let now = Instant::now();
        let max_in_flight = limits.max_in_flight.max(1);
        let reserve = 100.0 + 4.0 * max_in_flight as f64;
        let state = State {
            limits,
            max_in_flight,
            requests: limits.requests_per_minute.map(|rate| Bucket::per_minute(rate, now)),
            tokens: limits.tokens_per_minute.map(|rate| Bucket::per_minute(rate, now)),
            paused_until: now,
            allowed: max_in_flight as f64,
            places: max_in_flight,
            to_take_away: 0,
            shrunk_at: now,
            answered_at: None,
            served_at: None,
            in_flight: 0,
            breaker: Breaker::new(limits.give_up, limits.retry_share, reserve),
        };
        Limiter { name: name.to_owned(), places: Semaphore::new(max_in_flight), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the smaller of each; tells which differ and what they are now.
    fn tighten(&self, limits: Limits) -> Option<String> {
        let mut state = self.state();
        let (smaller_of, differ) = state.limits.and(limits);
        state.limits = smaller_of;
        state.breaker.tighten(smaller_of.give_up, smaller_of.retry_share);
        let smaller = |bucket: &mut Option<Bucket>, rate: Option<f64>| {
            if let Some(rate) = rate.filter(|rate| bucket.as_ref().is_none_or(|b| *rate < b.rate())) {
                *bucket = Some(Bucket::per_minute(rate, Instant::now()));
            }
        };
        smaller(&mut state.requests, limits.requests_per_minute);
        smaller(&mut state.tokens, limits.tokens_per_minute);
        state.max_in_flight = state.max_in_flight.min(limits.max_in_flight.max(1));
        let allowed = state.allowed.min(state.max_in_flight as f64);
        self.allow(&mut state, allowed);
        differ
    }

    /// Makes the number of places what it should be.
    pub(super) fn allow(&self, state: &mut State, allowed: f64) {
        state.allowed = allowed.clamp(1.0, state.max_in_flight as f64);
        let wanted = state.allowed as usize;
        if wanted < state.places {
            let surplus = state.places - wanted;
            state.to_take_away += surplus - self.places.forget_permits(surplus);
        } else {
            let mut missing = wanted - state.places;
            let spared = missing.min(state.to_take_away);
            state.to_take_away -= spared;
            missing -= spared;
            self.places.add_permits(missing);
        }
        state.places = wanted;
    }

    /// Waits until a request that takes about `tokens` may be sent.
    pub async fn permit(&self, tokens: u64) -> Result<Permit<'_>, Down> {
        let place = self.places.acquire().await.ok();
        let mut permit = Permit::new(self, place, tokens);
        permit.probe = self.leave().await?;
        let wait = {
            let (mut state, now) = (self.state(), Instant::now());
            let by_request = state.requests.as_mut().map_or(Duration::ZERO, |b| b.take(1.0, now));
            by_request.max(state.tokens.as_mut().map_or(Duration::ZERO, |b| b.take(tokens as f64, now)))
        };
        permit.rated = true;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        loop {
            let until = self.state().paused_until;
            if until <= Instant::now() {
                break;
            }
            tokio::time::sleep_until(until.into()).await;
        }
        (permit.began, permit.counted) = (Instant::now(), true);
        let mut state = self.state();
        state.in_flight += 1;
        self.show(&state);
        drop(state);
        Ok(permit)
    }

    pub(super) fn show(&self, state: &State) {
        metrics::gauge!(REMOTE_IN_FLIGHT, "endpoint" => self.name.clone()).set(state.in_flight as f64);
    }

    /// Waits for the breaker; true for a probe.
    async fn leave(&self) -> Result<bool, Down> {
        loop {
            let leave = self.state().breaker.leave(Instant::now());
            match leave {
                Leave::Ask => return Ok(false),
                Leave::Probe => return Ok(true),
                Leave::Down(after) => return Err(Down(after)),
                Leave::Wait(until) => tokio::time::sleep_until(until.into()).await,
            }
        }
    }

    /// May a failed request be repeated? Counts it if so.
    pub fn may_repeat(&self) -> bool {
        self.state().breaker.may_repeat()
    }

    /// Has anything but a 429 been answered since then?
    pub fn answered_since(&self, then: Instant) -> bool {
        self.state().answered_at.is_some_and(|at| at >= then)
    }

    /// Has anybody got what was asked for since then?
    pub fn served_since(&self, then: Instant) -> bool {
        self.state().served_at.is_some_and(|at| at >= then)
    }

    /// Nobody asks for so long.
    pub fn pause(&self, wait: Duration) {
        let mut state = self.state();
        state.paused_until = state.paused_until.max(Instant::now() + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(max_in_flight: usize) -> Limits {
        let give_up = Duration::from_secs(60);
        Limits { max_in_flight, requests_per_minute: None, tokens_per_minute: None, retry_share: 1.0, give_up }
    }

    fn wait<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    fn places(limiter: &Limiter) -> (usize, usize) {
        (limiter.places.available_permits(), limiter.state().places)
    }

    #[test]
    fn a_busy_service_gets_fewer_requests_and_slowly_more_again() {
        wait(async {
            let limiter = Limiter::new("it", limits(8));
            let mut taken = Vec::new();
            for _ in 0..8 {
                taken.push(limiter.permit(0).await.unwrap());
            }
            assert_eq!(places(&limiter), (0, 8));
            taken.pop().unwrap().throttled(None);
            taken.pop().unwrap().throttled(None);
            assert_eq!(places(&limiter), (0, 6), "one round shrinks once");
            drop(taken);
            assert_eq!(places(&limiter), (6, 6));
            for _ in 0..6 {
                limiter.permit(0).await.unwrap().answered(None, true);
            }
            assert_eq!(places(&limiter).1, 6);
            limiter.permit(0).await.unwrap().answered(None, true);
            assert_eq!(places(&limiter), (7, 7));
            for _ in 0..50 {
                limiter.permit(0).await.unwrap().answered(None, true);
            }
            assert_eq!(places(&limiter), (8, 8), "never above the limit");
            for _ in 0..50 {
                limiter.permit(0).await.unwrap().throttled(None);
            }
            assert_eq!(places(&limiter), (1, 1), "never below one");
        });
    }

    #[test]
    fn one_name_is_one_limiter_with_the_smaller_limits() {
        let all = Limiters::default();
        let first = all.named("a", limits(8));
        let second = all.named("a", Limits { requests_per_minute: Some(60.0), ..limits(3) });
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(places(&first), (3, 3));
        all.named("a", Limits { requests_per_minute: Some(600.0), ..limits(9) });
        assert_eq!(places(&first), (3, 3));
        assert_eq!(first.state().requests.as_ref().map(Bucket::rate), Some(60.0));
        assert!(!Arc::ptr_eq(&first, &all.named("b", limits(8))));
        let now = first.state().limits;
        let other = Limits { retry_share: 0.5, give_up: Duration::from_secs(90), ..now };
        assert_eq!(first.tighten(other).as_deref(), Some("`retry_share` 0.5, `give_up_seconds` 60"));
        assert_eq!(first.tighten(Limits { retry_share: 0.5, ..now }), None);
    }

    #[test]
    fn tokens_per_minute_hold_back_and_are_given_back_by_whoever_does_not_use_them() {
        wait(async {
            // 6,000 a second.
            let limits = Limits { tokens_per_minute: Some(360_000.0), ..limits(4) };
            let limiter = Limiter::new("it", limits);
            let asked = async |tokens: u64, charged: u64| {
                let mut permit = limiter.permit(tokens).await.unwrap();
                permit.used();
                permit.answered(Some(charged), true);
            };
            let started = Instant::now();
            // The first 6,000 go at once; of what the estimates took a third was not used.
            for _ in 0..6 {
                asked(3_000, 2_000).await;
            }
            let took = started.elapsed();
            assert!(took >= Duration::from_millis(1_100), "12,000 used, one estimate ahead, at 6,000 a second: {took:?}");
            assert!(took < Duration::from_millis(2_900), "what was not used was given back: {took:?}");

            let limiter = Limiter::new("it", limits);
            let is_full = || {
                let (mut state, now) = (limiter.state(), Instant::now());
                let bucket = state.tokens.as_mut().unwrap();
                let wait = bucket.take(6_000.0, now);
                bucket.give_back(6_000.0, now);
                wait.is_zero()
            };
            drop(limiter.permit(6_000).await.unwrap());
            assert!(is_full(), "never sent: given back");
            let given_up = tokio::time::timeout(Duration::from_millis(20), limiter.permit(600_000)).await;
            assert!(given_up.is_err() && is_full(), "given up while it waited");
            let used = async || {
                let mut permit = limiter.permit(6_000).await.unwrap();
                permit.used();
                permit
            };
            used().await.failed(None);
            assert!(is_full(), "never arrived");
            used().await.failed(Some(1));
            assert!(!is_full(), "it arrived, and may have been worked on");
            drop(used().await);
            assert!(!is_full(), "given up on its way");
            assert_eq!(limiter.state().in_flight, 0);
        });
    }

    #[test]
    fn rates_and_pauses_hold_back_and_places_are_given_back_when_nobody_waits_any_more() {
        wait(async {
            let limiter = Limiter::new("it", Limits { requests_per_minute: Some(1200.0), ..limits(4) });
            let started = Instant::now();
            for _ in 0..30 {
                limiter.permit(0).await.unwrap().answered(None, true);
            }
            assert!(started.elapsed() >= Duration::from_millis(450), "20 at once, then 20 a second: {:?}", started.elapsed());
            limiter.permit(0).await.unwrap().throttled(Some(Duration::from_millis(300)));
            let paused = Instant::now();
            let given_up = tokio::time::timeout(Duration::from_millis(50), limiter.permit(0)).await;
            assert!(given_up.is_err());
            assert_eq!(limiter.state().in_flight, 0);
            assert_eq!(places(&limiter), (3, 3));
            limiter.permit(0).await.unwrap().answered(None, true);
            assert!(paused.elapsed() >= Duration::from_millis(290));
        });
    }
}
