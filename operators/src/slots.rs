//! Places for decoding on threads that mostly wait.
//!
//! Why: the `net` pool has many threads because they wait for services, but decoding does not wait; so no more of them decode at once than there are
//! cores. Lives in [`curette_engine::resources::Resources`], so that captions and speech share the places. What can go wrong: nothing but waiting,
//! which ends with the run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// As many places as there are cores.
pub struct Slots {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Default for Slots {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Slots { free: Mutex::new(cores), returned: Condvar::new() }
    }
}

/// One place; free again when it is dropped.
pub struct Slot<'a>(&'a Slots);

impl Slots {
    /// Waits for a place; `None` when the run is being stopped.
    pub fn take(&self, cancelled: &AtomicBool) -> Option<Slot<'_>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            let waited = self.returned.wait_timeout(free, Duration::from_millis(100));
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= 1;
        Some(Slot(self))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn no_more_decode_than_there_are_cores() {
        let (slots, busy, most, go) = (Slots::default(), AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..4 * cores {
                scope.spawn(|| {
                    let _slot = slots.take(&go).unwrap();
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(3));
                    busy.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= cores);
        let _all: Vec<_> = (0..cores).map(|_| slots.take(&go).unwrap()).collect();
        assert!(slots.take(&AtomicBool::new(true)).is_none(), "whoever waits goes when the run is stopped");
    }
}
