//! What questions with pictures take, learned from what the service says that they took.
//!
//! Estimates must be high rather than low where a budget depends on them: the larger of a guess and of what was seen lately. What can go wrong: a
//! service that says nonsense once; so what was seen counts at most [`MAX_OVER_GUESS`] times the guess, and fades by [`FADES_BY`] with each further
//! answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What was seen counts at most so many times the guess; the dearest pictures of known services take 13 times the default.
pub const MAX_OVER_GUESS: u64 = 16;
/// With each answer the largest question that was seen loses one part of so many, down to that answer's size.
pub const FADES_BY: u64 = 16;
/// How often one who waits for the first answer looks whether the run is being stopped.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Default)]
pub struct Seen {
    largest: AtomicU64,
    first: Mutex<First>,
    over: Condvar,
}

/// How far the first question is, which is asked alone.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum First {
    #[default]
    NotAsked,
    Asked,
    Answered,
}

/// The right to ask, for the first question: alone.
pub struct Turn<'a> {
    seen: &'a Seen,
    first: bool,
}

impl Seen {
    /// A question took so many tokens.
    pub fn took(&self, tokens: u64) {
        let fade = |largest: u64| Some(tokens.max(largest - largest.div_ceil(FADES_BY)));
        // The closure always gives a value.
        let _ = self.largest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fade);
    }

    /// A guess, or what was seen if that is more.
    pub fn at_least(&self, guess: u64) -> u64 {
        guess.max(self.largest.load(Ordering::Relaxed).min(guess.saturating_mul(MAX_OVER_GUESS)))
    }

    /// Waits while the first question is on its way; `None` when the run is being stopped.
    pub fn first(&self, cancelled: &AtomicBool) -> Option<Turn<'_>> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        while *first == First::Asked {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            first = self.over.wait_timeout(first, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        let alone = *first == First::NotAsked;
        if alone {
            *first = First::Asked;
        }
        Some(Turn { seen: self, first: alone })
    }
}

impl Turn<'_> {
    /// The question is over. If it was not `answered` and nothing is known of what it took, the next one goes alone too.
    pub fn is_over(mut self, answered: bool) {
        let known = answered || self.seen.largest.load(Ordering::Relaxed) > 0;
        self.ends(if known { First::Answered } else { First::NotAsked });
        // What comes after is the next one's.
        self.first = false;
    }

    fn ends(&self, as_: First) {
        let mut first = self.seen.first.lock().unwrap_or_else(PoisonError::into_inner);
        if self.first && *first == First::Asked {
            *first = as_;
            self.seen.over.notify_all();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.ends(First::NotAsked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_high_and_nonsense_fades() {
        let seen = Seen::default();
        assert_eq!(seen.at_least(8_800), 8_800);
        seen.took(6_000);
        assert_eq!(seen.at_least(8_800), 8_800, "never less than the guess");
        seen.took(20_000);
        assert_eq!(seen.at_least(8_800), 20_000);
        seen.took(9_999_999);
        assert_eq!(seen.at_least(8_800), 8_800 * MAX_OVER_GUESS, "at once no more than this");
        (0..200).for_each(|_| seen.took(9_000));
        assert_eq!(seen.at_least(8_800), 9_000, "and not for ever");
    }

    #[test]
    fn the_first_question_is_asked_alone_until_one_is_answered() {
        let (seen, go) = (Seen::default(), AtomicBool::new(false));
        let first = seen.first(&go).unwrap();
        assert!(seen.first(&AtomicBool::new(true)).is_none(), "the others wait");
        first.is_over(false);
        drop(seen.first(&go).unwrap());
        let third = seen.first(&go).unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| seen.first(&go).unwrap().is_over(true));
            third.is_over(true);
            waits.join().unwrap();
        });
        let (_one, _other) = (seen.first(&go).unwrap(), seen.first(&go).unwrap());
    }
}
