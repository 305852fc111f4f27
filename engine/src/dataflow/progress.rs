//! What a run is doing: for progress displays, for `/healthz`, and to stop it without losing what is open.
//!
//! Kept up to date on the process with the first worker, which hears of every task. What can go wrong: in a cluster other processes cannot be told to
//! open no more splits, so too many errors end all processes at once there; what was not committed is done again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Shared;
use super::ledger::Counts;
use crate::exit::Exit;
use crate::telemetry::names;

/// Rows that must have entered a step before its error rate can stop a run midway: the first few prove nothing. At the end there is no minimum.
pub const ERROR_RATE_MIN_ROWS: u64 = 20;

/// What a run is doing, for progress displays. Kept up to date on the process with the first worker.
pub struct RunProgress {
    totals: Mutex<Vec<Counts>>,
    splits_done: AtomicU64,
    splits_committed: AtomicU64,
    max_error_rate: f64,
    stopping: Mutex<Option<Stopping>>,
    draining: AtomicBool,
    last: Mutex<Instant>,
}

/// Why a run opens no more splits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopping {
    /// A person or a supervisor asked for it, by this signal.
    Signal(i32),
    /// Too many rows could not be measured.
    ErrorRate(String),
}

impl RunProgress {
    /// A record for a graph of this many steps.
    pub fn new(steps: usize, max_error_rate: f64) -> Self {
        RunProgress {
            totals: Mutex::new(vec![Counts::default(); steps]),
            splits_done: AtomicU64::new(0),
            splits_committed: AtomicU64::new(0),
            max_error_rate,
            stopping: Mutex::new(None),
            draining: AtomicBool::new(false),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Splits that are complete, in this run.
    pub fn splits_done(&self) -> u64 {
        self.splits_done.load(Ordering::Relaxed)
    }

    /// Splits that are committed, in this run.
    pub fn splits_committed(&self) -> u64 {
        self.splits_committed.load(Ordering::Relaxed)
    }

    /// Sums by step over the complete splits of this run.
    pub fn totals(&self) -> Vec<Counts> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long ago the last task ended.
    pub fn silent_for(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Opens no more splits in this process; those that are open are finished and committed. The first reason stays.
    pub fn stop(&self, why: Stopping) {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why no more splits are opened, if so.
    pub fn stopping(&self) -> Option<Stopping> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True when no more splits are opened.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn committed(&self, splits: u64) {
        self.splits_committed.fetch_add(splits, Ordering::Relaxed);
        metrics::gauge!(names::SPLITS_DONE).increment(splits as f64);
    }

    pub(super) fn complete(&self) {
        self.splits_done.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn did(&self, counts: &[(u32, Counts)], shared: &Shared) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        for (step, count) in counts {
            let total = &mut totals[*step as usize];
            total.merge(count);
            if total.rows_in < ERROR_RATE_MIN_ROWS {
                continue;
            }
            if let Some(why) = too_many_errors(&shared.program.steps[*step as usize].name, total, self.max_error_rate) {
                // Other processes cannot be told to stop opening splits, so all end at once.
                if !shared.alone {
                    shared.stop.end(Exit::ErrorRate, &format!("The run stops at {why}; what is committed stays"));
                }
                if !self.is_draining() {
                    tracing::error!("The run opens no more splits, at {why}");
                }
                self.stop(Stopping::ErrorRate(why));
            }
        }
    }
}

/// Rounding of a product must not allow one row more.
const ROUNDING: f64 = 1e-9;

/// Says so when more of the rows of a step were lost to errors than allowed. The share is rounded up to whole rows, so that one bad file among three is
/// no failed run; a rate of 0 allows none.
pub fn too_many_errors(step: &str, total: &Counts, max_rate: f64) -> Option<String> {
    let errors = total.errors_total();
    if errors as f64 <= (max_rate * total.rows_in as f64 - ROUNDING).ceil().max(0.0) {
        return None;
    }
    let worst = total.errors.iter().max_by_key(|(_, n)| **n).map(|(code, n)| format!("{code} ({n})")).unwrap_or_default();
    Some(format!(
        "step `{step}`: {errors} of {} rows could not be measured, more than max_error_rate = {max_rate} allows; most often: {worst}",
        total.rows_in
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_that_are_lost_count_as_errors_and_the_share_is_rounded_up_to_whole_rows() {
        let counts = |rows_in, lost, kept| Counts {
            rows_in,
            errors: [("not_a_video".to_string(), lost)].into(),
            kept_errors: [("no_text".to_string(), kept)].into(),
            ..Counts::default()
        };
        let allowed = |rows_in, rate| {
            (0..=rows_in).take_while(|&lost| too_many_errors("s", &counts(rows_in, lost, 0), rate).is_none()).count() - 1
        };
        assert_eq!([0, 1, 3, 10, 11, 19, 25, 100, 300].map(|rows| allowed(rows, 0.1)), [0, 1, 1, 1, 2, 2, 3, 10, 30]);
        assert_eq!([0, 1, 5, 100].map(|rows| allowed(rows, 0.0)), [0, 0, 0, 0]);
        assert_eq!([1, 5, 100].map(|rows| allowed(rows, 1.0)), [1, 5, 100]);
        assert_eq!(allowed(100, 0.07), 7, "0.07 * 100 is a little more than 7");
        assert_eq!(too_many_errors("s", &counts(100, 10, 90), 0.1), None);
        insta::assert_snapshot!(too_many_errors("probe", &counts(100, 11, 0), 0.1).unwrap(), @"step `probe`: 11 of 100 rows could not be measured, more than max_error_rate = 0.1 allows; most often: not_a_video (11)");
    }
}
