//! Lends the sessions of one model to callers, first come, first served.
//!
//! Why in order: a caller that has just given a session back would otherwise take it again before a waiting one wakes up, and the unlucky one
//! waits for ever. Waiting has no limit while sessions come back; when none came back for [`STUCK_LIMIT`], something hangs and the caller is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time without any item coming back before a waiting caller gives up.
pub const STUCK_LIMIT: Duration = Duration::from_secs(600);
/// How often a waiting caller looks whether the run is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a caller gets.
pub(crate) enum Turn<T> {
    /// An item that lay there.
    Free(T),
    /// Room for one more item: make it, then [`Desk::give_back`] it later; or [`Desk::never_made`].
    Make,
    /// The run is being stopped.
    Cancelled,
    /// Nothing came back for [`STUCK_LIMIT`].
    Stuck,
}

/// Items to lend, and the queue of those who wait.
pub(crate) struct Desk<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    most: usize,
}

struct State<T> {
    free: Vec<T>,
    /// Items that exist or are being made.
    made: usize,
    waiting: VecDeque<u64>,
    next_ticket: u64,
    last_return: Instant,
}

impl<T> Desk<T> {
    /// With one item; at most `most` will exist.
    pub fn new(first: T, most: usize) -> Self {
        let state = State { free: vec![first], made: 1, waiting: VecDeque::new(), next_ticket: 0, last_return: Instant::now() };
        Desk { state: Mutex::new(state), changed: Condvar::new(), most: most.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for this caller's turn.
    pub fn take(&self, cancelled: Option<&AtomicBool>) -> Turn<T> {
        self.take_within(cancelled, STUCK_LIMIT)
    }

    fn take_within(&self, cancelled: Option<&AtomicBool>, stuck_limit: Duration) -> Turn<T> {
        let started = Instant::now();
        let mut state = self.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        let turn = loop {
            if state.waiting.front() == Some(&ticket) {
                if let Some(item) = state.free.pop() {
                    break Turn::Free(item);
                }
                if state.made < self.most {
                    state.made += 1;
                    break Turn::Make;
                }
            }
            if cancelled.is_some_and(|c| c.load(Ordering::Relaxed)) {
                break Turn::Cancelled;
            }
            if state.last_return.max(started).elapsed() > stuck_limit {
                break Turn::Stuck;
            }
            (state, _) = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting.retain(|t| *t != ticket);
        drop(state);
        // The next in line may find something too.
        self.changed.notify_all();
        turn
    }

    /// An item comes back.
    pub fn give_back(&self, item: T) {
        let mut state = self.lock();
        state.free.push(item);
        state.last_return = Instant::now();
        drop(state);
        self.changed.notify_all();
    }

    /// The item that [`Turn::Make`] allowed was not made.
    pub fn never_made(&self) {
        self.lock().made -= 1;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    fn item<T>(turn: Turn<T>) -> Option<T> {
        match turn {
            Turn::Free(item) => Some(item),
            _ => None,
        }
    }

    /// Waits until `n` callers stand in the queue.
    fn until_waiting<T>(desk: &Desk<T>, n: usize) {
        while desk.lock().waiting.len() < n {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn the_one_who_came_first_is_served_first_even_against_the_one_who_gives_back() {
        let desk = Arc::new(Desk::new('s', 1));
        let held = item(desk.take(None)).unwrap();
        let (served, order) = channel();
        let threads: Vec<_> = (0..5)
            .map(|n| {
                let (desk_of_thread, served) = (Arc::clone(&desk), served.clone());
                let thread = std::thread::spawn(move || {
                    let held = item(desk_of_thread.take(None)).unwrap();
                    served.send(n).unwrap();
                    desk_of_thread.give_back(held);
                });
                until_waiting(&desk, n + 1);
                thread
            })
            .collect();
        desk.give_back(held);
        // Asks again at once, as a busy thread does: it stands behind all others.
        let held = item(desk.take(None)).unwrap();
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        desk.give_back(held);
        threads.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn no_more_than_the_limit_are_made_and_a_failure_makes_room() {
        let desk = Desk::new(0, 2);
        let first = item(desk.take(None)).unwrap();
        assert!(matches!(desk.take(None), Turn::Make));
        assert!(matches!(desk.take(Some(&AtomicBool::new(true))), Turn::Cancelled));
        desk.never_made();
        assert!(matches!(desk.take(None), Turn::Make));
        desk.give_back(first);
        assert_eq!(item(desk.take(None)), Some(0));
    }

    #[test]
    fn waiting_ends_only_when_nothing_comes_back() {
        let desk = Arc::new(Desk::new((), 1));
        item(desk.take(None)).unwrap();
        let limit = Duration::from_millis(400);
        assert!(matches!(desk.take_within(None, limit), Turn::Stuck));
        let waiter = {
            let desk = Arc::clone(&desk);
            std::thread::spawn(move || matches!(desk.take_within(None, limit), Turn::Free(())))
        };
        until_waiting(&desk, 1);
        desk.give_back(());
        assert!(waiter.join().unwrap());
    }
}
