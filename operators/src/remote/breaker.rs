//! Is the service there at all, and how often may be asked again.
//!
//! Two rules, both pure. **Breaker**: after [`OPEN_AFTER`] failures in a row nobody asks but one probe at a time, with growing pauses, until
//! something is answered; so an outage costs no row its attempts, and no storm meets a service that comes back. A request that was received and
//! failed counts once however often it is repeated: a few rows that a service cannot digest are no outage. When a probe has failed and nothing was
//! answered for `give_up` since the breaker opened, the service is down. **Retry budget**: repeated requests may be a share of the answered ones,
//! and a reserve; so a service that answers every tenth request is not asked ten times as often as one that works.
//!
//! What can go wrong: [`OPEN_AFTER`] rows that a service cannot digest, with nothing else left to ask, look like an outage; `on_service_down =
//! "error"` lets them fail.

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
    /// Requests in a row that did not reach the service.
    unreached: u32,
    /// Names of those that did and failed, each once; at most [`OPEN_AFTER`].
    failed: Vec<u64>,
    open: Option<Open>,
    /// Somebody knows already that the service is down.
    told: bool,
    share: f64,
    reserve: f64,
    credit: f64,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    /// A probe has failed.
    probed: bool,
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
        Breaker { give_up, unreached: 0, failed: Vec::new(), open: None, told: false, share, reserve, credit: reserve }
    }

    /// Gives up no later, and repeats no more, than this.
    pub fn tighten(&mut self, give_up: Duration, share: f64) {
        (self.give_up, self.share) = (self.give_up.min(give_up), self.share.min(share));
    }

    /// May one ask now? A [`Leave::Probe`] must be followed by [`Breaker::answered`], [`Breaker::failed`] or [`Breaker::abandoned`].
    pub fn leave(&mut self, now: Instant) -> Leave {
        let Some(open) = &mut self.open else { return Leave::Ask };
        // While somebody is finding out, nobody knows.
        let not_now = open.probing || now < open.probe_at;
        let away = now.saturating_duration_since(open.since);
        // Whoever goes on although the service is down finds out whether it comes back.
        if away >= self.give_up && open.probed && !open.probing && (not_now || !self.told) {
            self.told = true;
            return Leave::Down(away);
        }
        match not_now {
            true => Leave::Wait(open.probe_at.max(now + FIRST_PAUSE / 10)),
            false => {
                open.probing = true;
                Leave::Probe
            }
        }
    }

    /// The service answered what it was asked: that earns the right to repeat others.
    pub fn answered(&mut self) {
        self.alive();
        self.credit = (self.credit + self.share).min(self.reserve);
    }

    /// The service said something that only a working one says.
    pub fn alive(&mut self) {
        (self.unreached, self.open, self.told) = (0, None, false);
        self.failed.clear();
    }

    /// It did not. `received`: the name of a request that reached the service.
    pub fn failed(&mut self, probe: bool, received: Option<u64>, now: Instant) {
        match received {
            None => self.unreached = self.unreached.saturating_add(1),
            Some(name) if self.failed.len() < OPEN_AFTER as usize && !self.failed.contains(&name) => self.failed.push(name),
            Some(_) => {}
        }
        match &mut self.open {
            Some(open) if probe => {
                open.pause = (open.pause * 2).min(MAX_PAUSE);
                (open.probe_at, open.probing, open.probed) = (now + open.pause, false, true);
            }
            Some(_) => {}
            None if self.unreached as usize + self.failed.len() >= OPEN_AFTER as usize => {
                let (probe_at, pause) = (now + FIRST_PAUSE, FIRST_PAUSE);
                self.open = Some(Open { since: now, probed: false, probe_at, pause, probing: false });
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
            b.failed(false, None, start);
        }
        assert_eq!(b.leave(start), Leave::Wait(at(1)));
        assert_eq!(b.leave(at(1)), Leave::Probe);
        assert!(matches!(b.leave(at(1)), Leave::Wait(_)), "one probe at a time");
        b.failed(false, None, at(1));
        assert!(matches!(b.leave(at(1)), Leave::Wait(_)), "a late failure of before changes nothing");
        b.failed(true, None, at(1));
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
        (0..OPEN_AFTER).for_each(|_| b.failed(false, None, start));
        let mut now = start;
        loop {
            now += Duration::from_millis(500);
            match b.leave(now) {
                Leave::Probe => b.failed(true, None, now),
                Leave::Down(after) => break assert!(after >= Duration::from_secs(60), "{after:?}"),
                Leave::Wait(_) => {}
                Leave::Ask => panic!(),
            }
            assert!(now < start + Duration::from_secs(61));
        }
        now += MAX_PAUSE;
        assert_eq!(b.leave(now), Leave::Probe, "who goes on nevertheless sees it come back");
        assert!(matches!(b.leave(now), Leave::Wait(_)), "while a probe is on its way nobody knows");
        b.failed(true, None, now);
        assert!(matches!(b.leave(now), Leave::Down(_)));
        b.answered();
        assert_eq!(b.leave(now), Leave::Ask);
    }

    #[test]
    fn rows_that_a_service_cannot_digest_are_no_outage() {
        let (mut b, start) = (breaker(), Instant::now());
        (0..1000).for_each(|i| b.failed(false, Some(i % 9), start));
        assert!(!b.is_open());
        b.failed(false, None, start);
        assert!(b.is_open());
        b.alive();
        (0..9).for_each(|i| b.failed(false, Some(i), start));
        assert!(!b.is_open());
        b.failed(false, Some(9), start);
        assert!(b.is_open(), "ten different ones are one");
    }

    #[test]
    fn time_before_the_breaker_opened_and_a_probe_on_its_way_are_not_held_against_the_service() {
        let (mut b, start) = (breaker(), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        (0..3).for_each(|_| b.failed(false, None, start));
        (0..7).for_each(|_| b.failed(false, None, at(600)));
        assert!(matches!(b.leave(at(600)), Leave::Wait(_)));
        assert_eq!(b.leave(at(700)), Leave::Probe, "no probe has failed yet");
        assert!(matches!(b.leave(at(700)), Leave::Wait(_)));
        b.failed(true, None, at(701));
        assert!(matches!(b.leave(at(701)), Leave::Down(_)));
    }

    #[test]
    fn whoever_shares_a_service_gets_the_smaller_patience() {
        let (mut b, start) = (breaker(), Instant::now());
        b.tighten(Duration::from_secs(20), 9.0);
        (0..OPEN_AFTER).for_each(|_| b.failed(false, None, start));
        assert_eq!(b.leave(start + Duration::from_secs(2)), Leave::Probe);
        b.failed(true, None, start + Duration::from_secs(3));
        assert!(matches!(b.leave(start + Duration::from_secs(20)), Leave::Down(_)));
        assert_eq!(b.share, 0.5);
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
