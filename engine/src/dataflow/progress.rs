//! What a run is doing: for progress displays, for `/healthz`, and to stop it without losing what is open.
//!
//! Kept up to date on the process with the first worker, which hears of every task. What can go wrong: in a cluster other processes cannot be told to
//! open no more splits, so too many errors end all processes at once there; what was not committed is done again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    items_done: AtomicU64,
    splits_committed: AtomicU64,
    max_error_rate: f64,
    stopping: Mutex<Option<Stopping>>,
    draining: AtomicBool,
    /// See [`RunProgress::signalled`].
    signalled: AtomicBool,
    /// What tasks look at; see [`RunProgress::cancel`].
    cancelled: Arc<AtomicBool>,
    /// Tasks that are worked on in this process.
    running: AtomicUsize,
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
            items_done: AtomicU64::new(0),
            splits_committed: AtomicU64::new(0),
            max_error_rate,
            stopping: Mutex::new(None),
            draining: AtomicBool::new(false),
            signalled: AtomicBool::new(false),
            cancelled: Arc::default(),
            running: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// Splits that are complete, in this run.
    pub fn splits_done(&self) -> u64 {
        self.splits_done.load(Ordering::Relaxed)
    }

    /// Inputs of the splits that are complete, in this run.
    pub fn items_done(&self) -> u64 {
        self.items_done.load(Ordering::Relaxed)
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
        self.signalled.fetch_or(matches!(why, Stopping::Signal(_)), Ordering::Relaxed);
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Why no more splits are opened, if so.
    pub fn stopping(&self) -> Option<Stopping> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True since a signal asked the run to stop: what work after the last commit looks at.
    pub fn signalled(&self) -> &AtomicBool {
        &self.signalled
    }

    /// True when no more splits are opened.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Tells every task of this process to end, whatever it waits for. Nothing of a task that ends after this is recorded, so the splits that are open stay
    /// open, and the run with them: whoever cancels waits for [`RunProgress::tasks_running`] to become 0, as long as he likes, and ends the process.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.draining.store(true, Ordering::Relaxed);
    }

    /// True once the tasks were told to end.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Tasks of this process that are worked on right now.
    pub fn tasks_running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(super) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    /// Does the work of a task; nothing when the run was cancelled before it was over: what came of it then is no answer.
    pub(super) fn unless_cancelled<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        // Counted before it is looked: whoever cancels and then sees no task running can rely on it.
        self.running.fetch_add(1, Ordering::SeqCst);
        let done = (!self.is_cancelled()).then(work).filter(|_| !self.is_cancelled());
        self.running.fetch_sub(1, Ordering::SeqCst);
        done
    }

    pub(super) fn committed(&self, splits: u64) {
        self.splits_committed.fetch_add(splits, Ordering::Relaxed);
        metrics::gauge!(names::SPLITS_DONE).increment(splits as f64);
    }

    pub(super) fn complete(&self, items: u64) {
        self.splits_done.fetch_add(1, Ordering::Relaxed);
        self.items_done.fetch_add(items, Ordering::Relaxed);
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

/// The share (0 to 1) of a run's work that is done, also in splits that are open: time that tasks took against the time that all rows will take, if those to come
/// are like those that were. `inputs` are the steps that feed each step, in the order of the graph; `items` the inputs that each source will read.
/// `None` while a step that will have rows has seen none: nobody knows what its rows cost.
pub fn share_done(inputs: &[Vec<usize>], items: &BTreeMap<usize, u64>, counts: &[Counts]) -> Option<f64> {
    let (mut done, mut all) = (0.0, 0.0);
    let mut rows_out: Vec<f64> = Vec::with_capacity(inputs.len());
    for (step, feeding) in inputs.iter().enumerate() {
        let (seen, micros) = (counts[step].rows_in as f64, counts[step].micros as f64);
        let rows_in = match items.get(&step) {
            Some(items) => *items as f64,
            None => feeding.iter().map(|&i| rows_out[i]).sum(),
        };
        if seen == 0.0 && rows_in >= 1.0 {
            return None;
        }
        let per_row = |sum: f64| if seen > 0.0 { sum / seen } else { 0.0 };
        rows_out.push(rows_in * per_row(counts[step].rows_out as f64));
        done += micros;
        all += per_row(micros) * rows_in.max(seen);
    }
    (all > 0.0).then(|| (done / all).min(1.0))
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
    fn the_share_of_the_work_is_known_also_while_every_split_is_open() {
        let counts = |rows_in, rows_out, micros| Counts { rows_in, rows_out, micros, ..Counts::default() };
        // A source, a costly measure, a filter that drops half, an expanding step with three children for each row, a sink.
        let inputs = [vec![], vec![0], vec![1], vec![2], vec![3]];
        let items = BTreeMap::from([(0, 20)]);
        let share = |counts: &[Counts]| share_done(&inputs, &items, counts).map(|share| (share * 1000.0).round() / 1000.0);
        let nothing = || counts(0, 0, 0);
        assert_eq!(share(&[nothing(), nothing(), nothing(), nothing(), nothing()]), None);
        // All inputs are opened; a quarter was measured; what the last step costs is not known yet.
        assert_eq!(share(&[counts(20, 20, 20), counts(5, 5, 500), counts(4, 2, 0), nothing(), nothing()]), None);
        // 20 rows at 1, 20 at 100, 10 at 50: 2520 in all; 20 + 500 + 100 are done.
        let midway = [counts(20, 20, 20), counts(5, 5, 500), counts(4, 2, 0), counts(2, 6, 100), counts(6, 6, 0)];
        assert_eq!(share(&midway), Some(0.246));
        let end = [counts(20, 20, 20), counts(20, 20, 2000), counts(20, 10, 0), counts(10, 30, 500), counts(30, 30, 0)];
        assert_eq!(share(&end), Some(1.0));
        // Everything was dropped early: the rest has no rows and costs nothing.
        let dropped = [counts(10, 10, 10), counts(10, 0, 100), nothing(), nothing(), nothing()];
        assert_eq!(share(&dropped), Some(0.5));
        assert_eq!(share_done(&[], &BTreeMap::new(), &[]), None);
    }

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
