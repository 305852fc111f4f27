//! Progress of a run: a bar with rate and estimate on a terminal, one line every ten seconds elsewhere.
//!
//! Why a closure: workers keep cheap counters; a thread of its own looks at them, so that nothing in the dataflow waits for a terminal. What
//! can go wrong: the run panics or returns early; dropping the handle takes the bar away and ends the thread.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::logs::{self, LogFormat};
use super::rate::{Rate, human};

/// How often the bar is redrawn.
const BAR_EVERY: Duration = Duration::from_millis(200);

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The rate counts parts of inputs: a video may take an hour.
const PARTS: f64 = 1e6;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// All bars of this process; logs suspend them.
pub(super) fn bars() -> &'static MultiProgress {
    &BARS
}

/// What there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// Splits of the plan.
    pub splits: u64,
    /// Inputs of the plan.
    pub items: u64,
}

/// What is done so far. Splits and inputs include those of earlier runs, rows are of this one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Splits that are committed.
    pub splits: u64,
    /// Inputs of complete splits: nothing of them is left to do.
    pub items: u64,
    /// Inputs of this run's work that are as good as done, those in open splits in part; `None` while that cannot be told.
    pub work: Option<f64>,
    /// Inputs that this run had to do when it began.
    pub to_do: u64,
    /// Rows that reached each sink, by name, the first of the pipeline first.
    pub kept: Vec<(String, u64)>,
    /// Rows that a rule dropped.
    pub rejected: u64,
    /// Rows that ended in an error.
    pub errors: u64,
}

/// Where progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar if stderr is a terminal; else lines, as log events if the logs are JSON.
    #[default]
    Auto,
    /// A bar.
    Bar,
    /// Lines.
    Lines,
    /// Nothing.
    Off,
}

/// Shows progress until it is finished or dropped.
pub struct Progress {
    stop: Option<Sender<End>>,
    thread: Option<JoinHandle<()>>,
}

enum End {
    Finished,
    Dropped,
}

impl Progress {
    /// Starts to show what `look` sees. `look` is called from another thread up to five times a second.
    pub fn start(total: Total, mode: ProgressMode, look: impl Fn() -> Snapshot + Send + 'static) -> Progress {
        Progress::start_every(LINE_EVERY, total, mode, look)
    }

    pub(super) fn start_every(
        line_every: Duration,
        total: Total,
        mode: ProgressMode,
        look: impl Fn() -> Snapshot + Send + 'static,
    ) -> Progress {
        let mode = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => ProgressMode::Bar,
            ProgressMode::Auto => ProgressMode::Lines,
            fixed => fixed,
        };
        if mode == ProgressMode::Off {
            return Progress { stop: None, thread: None };
        }
        let (stop, ended) = mpsc::channel();
        let work = move || {
            let mut view = View::new(mode, total);
            let every = if mode == ProgressMode::Bar { BAR_EVERY } else { line_every };
            view.note(Instant::now(), &look());
            loop {
                match ended.recv_timeout(every) {
                    Err(RecvTimeoutError::Timeout) => view.update(Instant::now(), &look()),
                    Ok(End::Finished) => return view.finish(Instant::now(), &look()),
                    Ok(End::Dropped) | Err(RecvTimeoutError::Disconnected) => return view.clear(),
                }
            }
        };
        // No thread, no progress: the run matters more.
        match std::thread::Builder::new().name("progress".into()).spawn(work) {
            Ok(thread) => Progress { stop: Some(stop), thread: Some(thread) },
            Err(_) => Progress { stop: None, thread: None },
        }
    }

    /// Shows the last state once more and ends.
    pub fn finish(mut self) {
        self.end(End::Finished);
    }

    fn end(&mut self, how: End) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(how);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end(End::Dropped);
    }
}

struct View {
    total: Total,
    bar: Option<ProgressBar>,
    rate: Rate,
    started: Instant,
}

impl View {
    fn new(mode: ProgressMode, total: Total) -> View {
        let bar = (mode == ProgressMode::Bar).then(|| {
            // `wide_msg` cuts what does not fit: one line that wraps would be drawn again and again.
            let style = ProgressStyle::with_template("{spinner} [{bar:20}] {wide_msg}").map(|s| s.progress_chars("=> "));
            bars().add(ProgressBar::new(total.items.max(1)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
        });
        View { total, bar, rate: Rate::default(), started: Instant::now() }
    }

    fn note(&mut self, now: Instant, seen: &Snapshot) {
        if let Some(work) = seen.work {
            self.rate.sample(now, (work * PARTS) as u64);
        }
    }

    fn update(&mut self, now: Instant, seen: &Snapshot) {
        self.note(now, seen);
        match &self.bar {
            Some(bar) => {
                bar.set_position(seen.items.min(self.total.items));
                bar.set_message(line(&self.total, seen, &self.rate));
                bar.tick();
            }
            None => self.write(seen),
        }
    }

    fn write(&self, seen: &Snapshot) {
        let text = line(&self.total, seen, &self.rate);
        match logs::format() {
            // Nothing is left to do if stderr is closed.
            LogFormat::Human => drop(writeln!(std::io::stderr(), "{text}")),
            LogFormat::Json => tracing::info!(
                splits = seen.splits,
                splits_total = self.total.splits,
                items = seen.items,
                items_total = self.total.items,
                kept = seen.kept.first().map_or(0, |(_, rows)| *rows),
                kept_by_table = tables(seen),
                rejected = seen.rejected,
                errors = seen.errors,
                items_per_second = self.rate.per_second().map(|parts| parts / PARTS),
                seconds_left = time_left(seen, &self.rate).map(|left| left.as_secs()),
                "Progress"
            ),
        }
    }

    fn finish(mut self, now: Instant, seen: &Snapshot) {
        self.note(now, seen);
        let text = format!("{} in {}", counts(&self.total, seen), human(now.duration_since(self.started)));
        self.clear_bar();
        match logs::format() {
            LogFormat::Human => drop(writeln!(std::io::stderr(), "{text}")),
            LogFormat::Json => self.write(seen),
        }
    }

    fn clear(&self) {
        self.clear_bar();
    }

    fn clear_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            bars().remove(bar);
        }
    }
}

/// A row may reach several sinks, so their rows are never summed up.
fn tables(seen: &Snapshot) -> String {
    let all: Vec<String> = seen.kept.iter().map(|(name, rows)| format!("{rows} in {name}")).collect();
    if all.is_empty() { "no table".into() } else { all.join(", ") }
}

fn time_left(seen: &Snapshot, rate: &Rate) -> Option<Duration> {
    let left = seen.to_do as f64 - seen.work?;
    rate.time_left((left * PARTS) as u64).filter(|_| left > 0.0)
}

fn counts(total: &Total, seen: &Snapshot) -> String {
    let mut text = format!(
        "{}/{} inputs, {}/{} splits, {}, {} rejected",
        seen.items,
        total.items,
        seen.splits,
        total.splits,
        tables(seen),
        seen.rejected
    );
    if seen.errors > 0 {
        text += &format!(", {} errors", seen.errors);
    }
    text
}

/// Hours of surgery go by the hour, records by the second.
fn per_time(per_second: f64) -> String {
    match per_second {
        s if s <= 0.0 || s >= 1.0 => format!("{s:.1}/s"),
        s if s >= 1.0 / 60.0 => format!("{:.1}/min", s * 60.0),
        s => format!("{:.1}/h", s * 3600.0),
    }
}

fn line(total: &Total, seen: &Snapshot, rate: &Rate) -> String {
    let mut text = counts(total, seen);
    if let Some(parts) = rate.per_second() {
        text += &format!(", {}", per_time(parts / PARTS));
    }
    if let Some(left) = time_left(seen, rate) {
        text += &format!(", {} left", human(left));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const TOTAL: Total = Total { splits: 4, items: 100 };

    #[test]
    fn a_line_has_counts_rate_and_estimate() {
        let start = Instant::now();
        let mut rate = Rate::default();
        rate.sample(start, 0);
        let kept = vec![("clips".to_string(), 40), ("preview".to_string(), 41)];
        // A quarter was done by an earlier run; of this run's 75 nothing is complete, but a third of the work is done.
        let seen = Snapshot { splits: 1, items: 25, work: Some(25.0), to_do: 75, kept, rejected: 7, errors: 0 };
        insta::assert_snapshot!(line(&TOTAL, &seen, &rate), @"25/100 inputs, 1/4 splits, 40 in clips, 41 in preview, 7 rejected");
        rate.sample(start + Duration::from_secs(10), (25.0 * PARTS) as u64);
        insta::assert_snapshot!(line(&TOTAL, &seen, &rate), @"25/100 inputs, 1/4 splits, 40 in clips, 41 in preview, 7 rejected, 2.5/s, 20 s left");
        let unknown = Snapshot { work: None, ..seen.clone() };
        insta::assert_snapshot!(line(&TOTAL, &unknown, &rate), @"25/100 inputs, 1/4 splits, 40 in clips, 41 in preview, 7 rejected, 2.5/s");
        let done = Snapshot { splits: 4, items: 100, work: Some(75.0), errors: 2, ..seen };
        insta::assert_snapshot!(line(&TOTAL, &done, &rate), @"100/100 inputs, 4/4 splits, 40 in clips, 41 in preview, 7 rejected, 2 errors, 2.5/s");
    }

    #[test]
    fn finishing_and_dropping_end_the_thread_at_once() {
        for mode in [ProgressMode::Auto, ProgressMode::Bar, ProgressMode::Lines, ProgressMode::Off] {
            for finish in [true, false] {
                let looks = Arc::new(AtomicU64::new(0));
                let counter = Arc::clone(&looks);
                let started = Instant::now();
                let progress = Progress::start(TOTAL, mode, move || {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Snapshot::default()
                });
                if finish {
                    progress.finish()
                } else {
                    drop(progress)
                }
                assert!(started.elapsed() < Duration::from_secs(5), "{mode:?}");
                assert_eq!(Arc::strong_count(&looks), 1, "the thread is gone ({mode:?})");
            }
        }
    }

    #[test]
    fn slow_speeds_are_readable() {
        assert_eq!([0.0, 12.34, 0.5, 0.01].map(per_time), ["0.0/s", "12.3/s", "30.0/min", "36.0/h"]);
    }

    #[test]
    fn no_inputs_is_no_division_by_zero() {
        let progress = Progress::start(Total::default(), ProgressMode::Bar, Snapshot::default);
        std::thread::sleep(BAR_EVERY * 2);
        progress.finish();
    }
}
