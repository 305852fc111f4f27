//! One question is asked once: whoever asks it at the same time waits for the first, and then finds the answer in the cache.
//!
//! Lives in [`curette_engine::resources::Resources`]; other processes are not seen. What can go wrong: the first gets no answer; then the next asks.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often one who waits looks whether the run is being stopped.
const CANCEL_POLL: Duration = Duration::from_millis(200);

/// The questions that are being asked.
#[derive(Default)]
pub struct Turns {
    asked: Mutex<HashSet<String>>,
    done: Condvar,
}

/// The right to ask a question; ends when it is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    key: String,
}

impl Turns {
    /// Waits until nobody asks this question; `None` when the run is being stopped.
    pub fn take(&self, key: &str, cancelled: &AtomicBool) -> Option<Turn<'_>> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.contains(key) {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            asked = self.done.wait_timeout(asked, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        asked.insert(key.to_owned());
        Some(Turn { turns: self, key: key.to_owned() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.turns.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn one_at_a_time_asks_a_question_and_others_are_not_held_up() {
        let (turns, busy, go) = (Turns::default(), AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = turns.take("q", &go).unwrap();
                    assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0);
                    let _other = turns.take(&format!("{:?}", std::thread::current().id()), &go).unwrap();
                    std::thread::sleep(Duration::from_millis(2));
                    busy.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let _first = turns.take("q", &go);
        assert!(turns.take("q", &AtomicBool::new(true)).is_none());
    }
}
