//! Is the service there at all, and how often may be asked again.
//!
//! Two rules, both pure. **Breaker**: after [`OPEN_AFTER`] failures in a row nobody asks but one probe at a time, with growing pauses, until
//! something is answered; so an outage costs no row its attempts, and no storm meets a service that comes back. When nothing was answered for
//! `give_up` the service is down. **Retry budget**: repeated requests may be a share of the answered ones, and a reserve; so a service that answers
//! every tenth request is not asked ten times as often as one that works.
//!
//! What can go wrong: with one row in twenty failing by itself the breaker opens about once in 10^13 requests; that costs one pause of a second.

use std::time::{Duration, Instant};

/// Failures in a row (no connection, no answer in time, 5xx) that open the breaker.
pub const OPEN_AFTER: u32 = 10;
/// The first pause before a probe; each further one is twice as long.
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause before a probe.
pub const MAX_PAUSE: Duration = Duration::from_secs(15);

/// See the module's documentation.
#[derive(Debug)]
pub struct Breaker {
    give_up: Duration,
    failures: u32,
    /// When the failures in a row began.
    since: Option<Instant>,
    open: Option<Open>,
    /// Somebody knows already that the service is down.
    told: bool,
    share: f64,
    reserve: f64,
    credit: f64,
}

#[derive(Debug)]
struct Open {
    probe_at: Instant,
    pause: Duration,
    probing: bool,
}

/// Whether one may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// Yes.
    Ask,
    /// Yes, as the one who finds out whether the service is back.
    Probe,
    /// Not now: look again at about this time.
    Wait(Instant),
    /// Nothing was answered for this long.
    Down(Duration),
}

impl Breaker {
    /// `share`: repeated requests per answered one. `reserve`: how many more.
    pub fn new(give_up: Duration, share: f64, reserve: f64) -> Breaker {
        Breaker { give_up, failures: 0, since: None, open: None, told: false, share, reserve, credit: reserve }
    }

    /// May one ask now? A [`Leave::Probe`] must be followed by [`Breaker::answered`], [`Breaker::failed`] or [`Breaker::abandoned`].
    pub fn leave(&mut self, now: Instant) -> Leave {
        let Some(open) = &mut self.open else { return Leave::Ask };
        let not_now = open.probing || now < open.probe_at;
        // Whoever goes on although the service is down finds out whether it comes back.
        if let Some(since) = self.since.filter(|since| now.saturating_duration_since(*since) >= self.give_up)
            && (not_now || !self.told)
        {
            self.told = true;
            return Leave::Down(now.saturating_duration_since(since));
        }
        match not_now {
            true => Leave::Wait(open.probe_at.max(now + FIRST_PAUSE / 10)),
            false => {
                open.probing = true;
                Leave::Probe
            }
        }
    }

    /// The service said something that only a working one says.
    pub fn answered(&mut self) {
        (self.failures, self.since, self.open, self.told) = (0, None, None, false);
        self.credit = (self.credit + self.share).min(self.reserve);
    }

    /// It did not. `began`: when that request was sent; one from before the failures proves nothing new about an open breaker.
    pub fn failed(&mut self, probe: bool, began: Instant, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.since.get_or_insert(began.min(now));
        match &mut self.open {
            Some(open) if probe => {
                open.pause = (open.pause * 2).min(MAX_PAUSE);
                (open.probe_at, open.probing) = (now + open.pause, false);
            }
            Some(_) => {}
            None if self.failures >= OPEN_AFTER => {
                self.open = Some(Open { probe_at: now + FIRST_PAUSE, pause: FIRST_PAUSE, probing: false });
            }
            None => {}
        }
    }

    /// A probe that was given up before it was answered.
    pub fn abandoned(&mut self) {
        if let Some(open) = &mut self.open {
            open.probing = false;
        }
    }

    /// Nobody asks but one probe at a time.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// May a failed request be repeated? Counts it if so.
    pub fn may_repeat(&mut self) -> bool {
        let may = self.credit >= 1.0;
        if may {
            self.credit -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Duration::from_secs(60), 0.5, 4.0)
    }

    #[test]
    fn an_outage_is_probed_by_one_at_a_time_and_ends_with_an_answer() {
        let (mut b, start) = (breaker(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        for _ in 0..OPEN_AFTER {
            assert_eq!(b.leave(start), Leave::Ask);
            b.failed(false, start, start);
        }
        assert_eq!(b.leave(start), Leave::Wait(at(1)));
        assert_eq!(b.leave(at(1)), Leave::Probe);
        assert!(matches!(b.leave(at(1)), Leave::Wait(_)), "one probe at a time");
        b.failed(false, start, at(1));
        assert!(matches!(b.leave(at(1)), Leave::Wait(_)), "a late failure of before changes nothing");
        b.failed(true, at(1), at(1));
        assert_eq!(b.leave(at(2)), Leave::Wait(at(3)));
        assert_eq!(b.leave(at(3)), Leave::Probe);
        b.abandoned();
        assert_eq!(b.leave(at(3)), Leave::Probe);
        b.answered();
        assert_eq!(b.leave(at(3)), Leave::Ask);
    }

    #[test]
    fn a_service_that_stays_away_is_down() {
        let (mut b, start) = (breaker(), Instant::now());
        (0..OPEN_AFTER).for_each(|_| b.failed(false, start, start));
        let mut now = start;
        loop {
            now += Duration::from_millis(500);
            match b.leave(now) {
                Leave::Probe => b.failed(true, now, now),
                Leave::Down(after) => break assert!(after >= Duration::from_secs(60), "{after:?}"),
                Leave::Wait(_) => {}
                Leave::Ask => panic!(),
            }
            assert!(now < start + Duration::from_secs(61));
        }
        now += MAX_PAUSE;
        assert_eq!(b.leave(now), Leave::Probe, "who goes on nevertheless sees it come back");
        assert!(matches!(b.leave(now), Leave::Down(_)));
        b.answered();
        assert_eq!(b.leave(now), Leave::Ask);
    }

    #[test]
    fn repeats_are_a_share_of_what_is_answered() {
        let mut b = breaker();
        assert_eq!((0..10).filter(|_| b.may_repeat()).count(), 4);
        (0..6).for_each(|_| b.answered());
        assert_eq!((0..10).filter(|_| b.may_repeat()).count(), 3);
        (0..1000).for_each(|_| b.answered());
        assert_eq!((0..10).filter(|_| b.may_repeat()).count(), 4, "no more than the reserve is saved");
    }
}
