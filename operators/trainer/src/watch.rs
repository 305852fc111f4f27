//! When a running attempt is told to stop, and when it is killed.
//!
//! Pure: times are handed in, orders come out, and [`crate::attempt`] carries them out. Each wait has a limit here: silence, the grace after a
//! request to stop, the time after the last word, and the time that ranks may outlive each other.

use std::time::Duration;

use crate::event::{Body, Event, Garbage, PROTOCOL};
use crate::outcome::{Ending, Killed, RankExit};

/// A trainer that has said its last word has so long to end by itself.
pub const AFTER_LAST_WORD: Duration = Duration::from_secs(2);
/// So long may ranks outlive one that has ended: time for the others to say why.
pub const AFTER_PEER: Duration = Duration::from_secs(5);

/// The limits of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest silence.
    pub heartbeat: Duration,
    /// From the request to stop to the kill, if it does not say `stopped`.
    pub grace: Duration,
    /// Lines that are no events.
    pub max_garbage_lines: u32,
    /// When the attempt is asked to stop because the job's time is up.
    pub deadline: Option<Duration>,
}

/// What to do with the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM to every rank.
    Stop,
    /// SIGKILL to every group.
    Kill,
}

/// What is known of a running attempt. All times are since its start.
#[derive(Debug)]
pub struct Watch {
    patience: Patience,
    ranks: usize,
    heard: Duration,
    garbage: u32,
    asked: Option<Duration>,
    last_word_at: Option<Duration>,
    peer_lost: Option<(usize, Duration)>,
    killed: bool,
    time_up: bool,
    ending: Ending,
}

impl Watch {
    /// An attempt that starts now.
    pub fn new(patience: Patience, ranks: usize) -> Watch {
        Watch {
            patience,
            ranks,
            heard: Duration::ZERO,
            garbage: 0,
            asked: None,
            last_word_at: None,
            peer_lost: None,
            killed: false,
            time_up: false,
            ending: Ending::default(),
        }
    }

    /// A rank said something. Rank 0 speaks for all; of the others only errors count.
    pub fn heard(&mut self, rank: usize, said: &Result<Event, Garbage>, now: Duration) -> Option<Order> {
        match said {
            Ok(event) => {
                if rank == 0 {
                    self.heard = now;
                }
                match &event.body {
                    Body::Hello { proto } if *proto != PROTOCOL => return self.kill(Some(Killed::Protocol(*proto))),
                    Body::Error { .. } if !matches!(self.ending.last_word, Some(Body::Error { .. })) => {
                        self.last_word(&event.body, now)
                    }
                    Body::Done { .. } | Body::Stopped { .. } if rank == 0 => self.last_word(&event.body, now),
                    _ => {}
                }
                None
            }
            Err(Garbage(line)) => {
                self.garbage += 1;
                let over = self.garbage > self.patience.max_garbage_lines;
                if over { self.kill(Some(Killed::Garbage(line.clone()))) } else { None }
            }
        }
    }

    fn last_word(&mut self, body: &Body, now: Duration) {
        self.ending.last_word = Some(body.clone());
        self.last_word_at = Some(now);
    }

    /// A rank has ended.
    pub fn ended(&mut self, rank: usize, exit: RankExit, now: Duration) {
        self.ending.exits.push((rank, exit));
        if self.peer_lost.is_none() {
            self.peer_lost = Some((rank, now));
        }
    }

    /// Somebody wants it to stop; saying so again changes nothing.
    pub fn stop(&mut self, now: Duration) -> Option<Order> {
        if self.asked.is_some() || self.killed {
            return None;
        }
        self.asked = Some(now);
        Some(Order::Stop)
    }

    /// Time goes by.
    pub fn tick(&mut self, now: Duration) -> Option<Order> {
        if self.killed || self.is_over() {
            return None;
        }
        let since = |then: Duration| now.saturating_sub(then);
        if self.last_word_at.is_some_and(|at| since(at) >= AFTER_LAST_WORD) {
            return self.kill(Some(Killed::Overdue));
        }
        if let Some((rank, _)) = self.peer_lost.filter(|(_, at)| since(*at) >= AFTER_PEER) {
            return self.kill(Some(Killed::PeerLost(rank)));
        }
        if self.asked.is_some_and(|at| since(at) >= self.patience.grace) {
            return self.kill(Some(Killed::Overdue));
        }
        if self.asked.is_none() && since(self.heard) >= self.patience.heartbeat {
            return self.kill(Some(Killed::Silent(since(self.heard).as_secs())));
        }
        if self.patience.deadline.is_some_and(|at| now >= at) {
            self.time_up |= self.asked.is_none();
            return self.stop(now);
        }
        None
    }

    fn kill(&mut self, why: Option<Killed>) -> Option<Order> {
        if self.killed {
            return None;
        }
        self.killed = true;
        self.ending.killed = why;
        Some(Order::Kill)
    }

    /// All ranks are gone.
    pub fn is_over(&self) -> bool {
        self.ending.exits.len() == self.ranks
    }

    /// It was asked to stop because the job's time is up.
    pub fn is_time_up(&self) -> bool {
        self.time_up
    }

    /// Lines that were no events.
    pub fn garbage_lines(&self) -> u32 {
        self.garbage
    }

    /// What is known at the end.
    pub fn into_ending(self) -> Ending {
        self.ending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { heartbeat: Duration::from_secs(300), grace: Duration::from_secs(120), max_garbage_lines: 2, deadline: None };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }
    fn says(body: Body) -> Result<Event, Garbage> {
        Ok(Event { seq: 0, ts: 0.0, body })
    }

    #[test]
    fn silence_is_measured_from_the_last_event_of_rank_0() {
        let mut watch = Watch::new(PATIENCE, 2);
        assert_eq!(watch.tick(s(299)), None);
        watch.heard(0, &says(Body::Heartbeat {}), s(299));
        watch.heard(1, &says(Body::Heartbeat {}), s(500));
        assert_eq!(watch.tick(s(598)), None);
        assert_eq!(watch.tick(s(599)), Some(Order::Kill));
        assert_eq!(watch.tick(s(700)), None, "killed once");
        assert_eq!(watch.into_ending().killed, Some(Killed::Silent(300)));
    }

    #[test]
    fn who_is_asked_to_stop_has_the_grace_and_two_seconds_after_stopped() {
        let mut slow = Watch::new(PATIENCE, 1);
        assert_eq!((slow.stop(s(10)), slow.stop(s(11))), (Some(Order::Stop), None));
        assert_eq!((slow.tick(s(129)), slow.tick(s(130))), (None, Some(Order::Kill)));
        let mut good = Watch::new(PATIENCE, 1);
        good.stop(s(10));
        good.heard(0, &says(Body::Stopped { step: 3 }), s(20));
        assert_eq!((good.tick(s(21)), good.tick(s(22))), (None, Some(Order::Kill)));
        good.ended(0, RankExit::Signal(9), s(22));
        assert!(good.is_over());
        assert_eq!(crate::outcome::judge(&good.into_ending()), crate::outcome::Verdict::Stopped);
    }

    #[test]
    fn garbage_is_borne_up_to_the_limit() {
        let mut watch = Watch::new(PATIENCE, 1);
        let line = Err(Garbage("x".into()));
        assert_eq!((watch.heard(0, &line, s(1)), watch.heard(0, &line, s(1))), (None, None));
        assert_eq!(watch.heard(0, &line, s(1)), Some(Order::Kill));
        assert_eq!(watch.into_ending().killed, Some(Killed::Garbage("x".into())));
    }

    #[test]
    fn a_lost_rank_takes_the_others_with_it_after_they_had_time_to_speak() {
        let mut watch = Watch::new(PATIENCE, 2);
        watch.ended(1, RankExit::Code(66), s(10));
        assert_eq!(watch.tick(s(14)), None);
        let said = Body::Error { kind: "nan".into(), sample: None, cursor: Some(4), message: String::new() };
        watch.heard(1, &says(said.clone()), s(14));
        assert_eq!(watch.tick(s(15)), Some(Order::Kill));
        watch.ended(0, RankExit::Signal(9), s(16));
        assert!(watch.is_over());
        assert_eq!(watch.into_ending().last_word, Some(said));
    }

    #[test]
    fn the_first_error_counts_and_another_protocol_ends_it() {
        let error = |kind: &str| Body::Error { kind: kind.into(), sample: None, cursor: None, message: String::new() };
        let mut watch = Watch::new(PATIENCE, 2);
        watch.heard(1, &says(error("memory")), s(1));
        watch.heard(0, &says(error("nccl")), s(2));
        assert_eq!(watch.into_ending().last_word, Some(error("memory")));
        let mut other = Watch::new(PATIENCE, 1);
        assert_eq!(other.heard(0, &says(Body::Hello { proto: 9 }), s(1)), Some(Order::Kill));
    }

    #[test]
    fn the_time_of_the_job_ends_like_a_request_to_stop() {
        let mut watch = Watch::new(Patience { deadline: Some(s(50)), ..PATIENCE }, 1);
        assert_eq!((watch.tick(s(49)), watch.tick(s(50))), (None, Some(Order::Stop)));
        assert!(watch.is_time_up());
        let mut asked = Watch::new(Patience { deadline: Some(s(50)), ..PATIENCE }, 1);
        asked.stop(s(40));
        assert_eq!(asked.tick(s(51)), None);
        assert!(!asked.is_time_up());
    }
}
