//! Keeps the C allocator from holding on to memory that nobody uses.
//!
//! Media libraries start and end threads for every file. glibc gives threads heaps of their own (up to eight per core) and returns a heap's free
//! pages only from its end, so that a process over thousands of files grows although nothing leaks: 28 MiB from 200 to 2,000 files were measured.
//! Fewer heaps, and giving free pages back now and then, keep the memory of a run independent of its length. Other allocators need none of it.
//!
//! What can go wrong: too few heaps make threads wait for each other in `malloc`; one per core does not.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At least so many heaps.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MIN_HEAPS: usize = 2;

/// How old a look at the memory of the process may be.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Pages are given back at most this often.
const EVERY: Duration = Duration::from_secs(5);

/// Limits the allocator to one heap per core, unless `MALLOC_ARENA_MAX` says otherwise. Call it before other threads start.
pub fn one_heap_per_core() {
    if std::env::var_os("MALLOC_ARENA_MAX").is_some() {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(MIN_HEAPS, |n| n.get().max(MIN_HEAPS));
        // SAFETY: sets a number in the allocator; no memory is involved. A refusal (0) leaves the default, which is right but larger.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, cores.min(i32::MAX as usize) as i32) };
    }
}

/// What this process takes of the machine's memory now. Linux only; elsewhere it is not known.
pub fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    // SAFETY: `sysconf` takes no pointers.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()?;
    Some(pages * page)
}

/// A limit that is looked at now and then.
pub struct Ceiling {
    bytes: u64,
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Ceiling {
    /// Of so many bytes.
    pub fn new(bytes: u64) -> Ceiling {
        Ceiling { bytes, seen: Mutex::default() }
    }

    /// True while this process takes more than seven eighths of the limit, as of the last look, which is [`LOOK_EVERY`] old at most.
    pub fn is_near(&self) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match *seen {
            Some((at, near)) if at.elapsed() < LOOK_EVERY => near,
            Some(_) | None => {
                let near = resident_bytes().is_some_and(|taken| taken > self.bytes / 8 * 7);
                *seen = Some((Instant::now(), near));
                if near {
                    give_back();
                }
                near
            }
        }
    }
}

/// Gives pages that hold nothing back to the system, which takes milliseconds; does nothing if it did so a moment ago.
pub fn give_back() {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_some_and(|at| at.elapsed() < EVERY) {
        return;
    }
    *last = Some(Instant::now());
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: thread-safe by its documentation; it moves nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_process_takes_is_seen() {
        let taken = resident_bytes().unwrap();
        assert!(taken > 1 << 20, "{taken}");
        assert!(Ceiling::new(taken / 2).is_near() && !Ceiling::new(taken * 16).is_near());
    }
}
