//! How long the steps of a generation worked: `_curette/effort/GENERATION.json` below the output, for reports.
//!
//! Time is no part of any table, because it differs from run to run. Each run adds its sums when it ends, also when it ends by a signal. What can
//! go wrong: a run that is killed adds nothing, so the sums are a lower bound, and so they are called.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::commit::{CommitError, Folder};
use crate::dataflow::ledger::Counts;

/// The work of one step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepEffort {
    /// Summed time of its tasks, in seconds: of two threads at once, both count.
    pub task_seconds: f64,
    /// Rows that it received.
    pub rows: u64,
    /// Of these, rows whose answer was kept from an earlier run.
    pub reused: u64,
}

/// The work of all runs of a generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effort {
    /// Runs that came to an end.
    pub runs: u64,
    /// Their summed wall time, in seconds.
    pub wall_seconds: f64,
    /// By step.
    pub steps: BTreeMap<String, StepEffort>,
}

impl Effort {
    /// That of one run.
    pub fn of_run<'a>(steps: impl Iterator<Item = &'a str>, totals: &[Counts], elapsed: Duration) -> Effort {
        let step = |(name, c): (&str, &Counts)| {
            let effort = StepEffort { task_seconds: c.micros as f64 / 1e6, rows: c.rows_in, reused: c.reused };
            (name.to_owned(), effort)
        };
        Effort { runs: 1, wall_seconds: elapsed.as_secs_f64(), steps: steps.zip(totals).map(step).collect() }
    }

    /// Adds that of another run.
    pub fn merge(&mut self, other: &Effort) {
        self.runs += other.runs;
        self.wall_seconds += other.wall_seconds;
        for (name, theirs) in &other.steps {
            let mine = self.steps.entry(name.clone()).or_default();
            mine.task_seconds += theirs.task_seconds;
            mine.rows += theirs.rows;
            mine.reused += theirs.reused;
        }
    }
}

/// The efforts below an output.
pub struct Efforts(Folder);

impl Efforts {
    /// In the pipeline's output.
    pub fn of(output: Folder) -> Efforts {
        Efforts(output)
    }

    fn name(generation: u64) -> String {
        format!("_curette/effort/{generation}.json")
    }

    /// What is known of a generation. A file that is not understood is none: it is for people, and the next run writes it anew.
    pub fn read(&self, generation: u64) -> Result<Option<Effort>, CommitError> {
        let name = Self::name(generation);
        match self.0.get(&name) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.0.error("read", &name, &e)),
        }
    }

    /// Adds a run.
    pub fn add(&self, generation: u64, run: &Effort) -> Result<(), CommitError> {
        let name = Self::name(generation);
        let mut all = self.read(generation)?.unwrap_or_default();
        all.merge(run);
        // Names and numbers: cannot fail.
        let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
        self.0.put(&name, text).map_err(|e| self.0.error("write", &name, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up_and_a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let efforts = || Efforts::of(Folder::open(&dir.path().canonicalize().unwrap().to_string_lossy()).unwrap());
        assert_eq!(efforts().read(2).unwrap(), None);
        let counts = Counts { rows_in: 4, micros: 1_500_000, reused: 1, ..Counts::default() };
        let run = Effort::of_run(["a"].into_iter(), &[counts], Duration::from_secs(3));
        for _ in 0..2 {
            efforts().add(2, &run).unwrap();
        }
        let all = efforts().read(2).unwrap().unwrap();
        assert_eq!((all.runs, all.wall_seconds), (2, 6.0));
        assert_eq!(all.steps["a"], StepEffort { task_seconds: 3.0, rows: 8, reused: 2 });
        std::fs::write(dir.path().join("_curette/effort/2.json"), "{").unwrap();
        efforts().add(2, &run).unwrap();
        assert_eq!(efforts().read(2).unwrap().unwrap().runs, 1);
    }
}
