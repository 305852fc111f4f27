//! The ledger: what each step did with the rows of each split, and the proof that none got lost.
//!
//! Every task of every step reports one [`Entry`]. When progress tracking says that a split is complete, its entries are summed and held
//! against each other: what a step received must be what its inputs sent, and what it received must be passed, rejected or an error. A
//! difference is a bug in an operator or in the engine; it fails the run, because committing would lose rows silently.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A dropped row: one line of the `rejects` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RejectRow {
    /// The row's id at the step that dropped it.
    pub item_id: String,
    /// The id that the source gave it.
    pub root_id: String,
    /// Stable reason.
    pub code: String,
    /// Measured value.
    pub measured: Option<f64>,
    /// Threshold that it missed.
    pub threshold: Option<f64>,
    /// One sentence.
    pub message: String,
}

/// A row that could not be measured: one line of the `errors` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorRow {
    /// The row's id at the step that failed.
    pub item_id: String,
    /// The id that the source gave it.
    pub root_id: String,
    /// Stable reason.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// True when the row went on with nulls.
    pub kept: bool,
}

/// What one task did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The split.
    pub split: u32,
    /// Index of the step.
    pub step: u32,
    /// Rows received.
    pub rows_in: u64,
    /// Rows sent on: for expanding steps the children.
    pub rows_out: u64,
    /// Rows dropped by a rule.
    pub rejects: Vec<RejectRow>,
    /// Rows that could not be measured.
    pub errors: Vec<ErrorRow>,
    /// Time that the task took; for people, never for tables.
    pub micros: u64,
    /// Rows whose answer was kept from an earlier run; for people, never for tables.
    pub reused: u64,
}

/// Sums over the tasks of one step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows received.
    pub rows_in: u64,
    /// Received rows that went on.
    pub passed: u64,
    /// Rows sent on.
    pub rows_out: u64,
    /// Rows dropped by a rule, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Rows dropped because they could not be measured, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Rows that could not be measured and went on with nulls, by reason.
    pub kept_errors: BTreeMap<String, u64>,
    /// Summed task time.
    pub micros: u64,
    /// Rows whose answer was kept from an earlier run.
    #[serde(default)]
    pub reused: u64,
}

impl Counts {
    /// Adds a task.
    pub fn add(&mut self, entry: &Entry) {
        // Millions of rows are rejected for one reason: no text is made for each.
        let bump = |map: &mut BTreeMap<String, u64>, code: &str| match map.get_mut(code) {
            Some(rows) => *rows += 1,
            None => drop(map.insert(code.to_string(), 1)),
        };
        let mut dropped = entry.rejects.len() as u64;
        for reject in &entry.rejects {
            bump(&mut self.rejected, &reject.code);
        }
        for error in &entry.errors {
            if error.kept {
                bump(&mut self.kept_errors, &error.code);
            } else {
                dropped += 1;
                bump(&mut self.errors, &error.code);
            }
        }
        self.rows_in += entry.rows_in;
        // More drops than rows would be a bug; the balance check names it.
        self.passed += entry.rows_in.saturating_sub(dropped);
        self.rows_out += entry.rows_out;
        self.micros += entry.micros;
        self.reused += entry.reused;
    }

    /// Adds other sums.
    pub fn merge(&mut self, other: &Counts) {
        self.rows_in += other.rows_in;
        self.passed += other.passed;
        self.rows_out += other.rows_out;
        self.micros += other.micros;
        self.reused += other.reused;
        for (mine, theirs) in [
            (&mut self.rejected, &other.rejected),
            (&mut self.errors, &other.errors),
            (&mut self.kept_errors, &other.kept_errors),
        ] {
            for (code, n) in theirs {
                *mine.entry(code.clone()).or_default() += n;
            }
        }
    }

    /// Rows dropped by a rule.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }
    /// Rows dropped as errors.
    pub fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// The shape of the graph as far as counting needs it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// For each step: name and the steps that feed it.
    pub steps: Vec<(String, Vec<usize>)>,
    /// The sources: they are not fed by steps.
    pub sources: Vec<usize>,
    /// The sources whose inputs hold any number of rows.
    pub records: Vec<usize>,
    /// The steps that change the number of rows.
    pub expanding: Vec<usize>,
}

/// Checks the sums of one finished split. `source` is the split's source step, `items` how many inputs it has. `Err` says what does not add up.
pub fn balance(shape: &Shape, source: usize, items: u64, counts: &[Counts]) -> Result<(), String> {
    for (step, (name, inputs)) in shape.steps.iter().enumerate() {
        let c = &counts[step];
        let expected = match () {
            // Nobody knows beforehand how many; each has a verdict, which is counted below.
            () if step == source && shape.records.contains(&step) => c.rows_in,
            () if step == source => items,
            () if shape.sources.contains(&step) => 0,
            () => inputs.iter().map(|&i| counts[i].rows_out).sum(),
        };
        if c.rows_in != expected {
            return Err(format!("step `{name}` received {} rows but its inputs sent {expected}", c.rows_in));
        }
        let accounted = c.passed + c.rejected_total() + c.errors_total();
        if c.rows_in != accounted {
            return Err(format!(
                "step `{name}` received {} rows but {} passed, {} were rejected and {} were errors",
                c.rows_in,
                c.passed,
                c.rejected_total(),
                c.errors_total()
            ));
        }
        if !shape.expanding.contains(&step) && c.rows_out != c.passed {
            return Err(format!("step `{name}` let {} rows pass but sent {}", c.passed, c.rows_out));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            steps: vec![("src".into(), vec![]), ("cut".into(), vec![0]), ("a".into(), vec![1]), ("b".into(), vec![1, 2])],
            sources: vec![0],
            records: vec![],
            expanding: vec![1],
        }
    }

    fn sums(rows_in: u64, rows_out: u64, rejected: u64) -> Counts {
        let rejected = if rejected == 0 { BTreeMap::new() } else { BTreeMap::from([("r".to_string(), rejected)]) };
        Counts { rows_in, passed: rows_in - rejected.values().sum::<u64>(), rows_out, rejected, ..Counts::default() }
    }

    #[test]
    fn a_complete_split_adds_up() {
        let counts = [sums(3, 3, 0), sums(3, 5, 1), sums(5, 4, 1), sums(9, 9, 0)];
        assert_eq!(balance(&shape(), 0, 3, &counts), Ok(()));
    }

    #[test]
    fn records_are_counted_where_they_are_read_and_nowhere_lost_after() {
        let shape = Shape { records: vec![0], ..shape() };
        let good = [sums(900, 898, 2), sums(898, 5, 890), sums(5, 4, 1), sums(9, 9, 0)];
        assert_eq!(balance(&shape, 0, 3, &good), Ok(()), "three inputs, 900 records");
        let lost = [sums(900, 899, 2), sums(899, 5, 890), sums(5, 4, 1), sums(9, 9, 0)];
        insta::assert_snapshot!(balance(&shape, 0, 3, &lost).unwrap_err(), @"step `src` let 898 rows pass but sent 899");
    }

    #[test]
    fn every_kind_of_loss_is_noticed() {
        let good = [sums(3, 3, 0), sums(3, 5, 1), sums(5, 4, 1), sums(9, 9, 0)];
        let with = |i: usize, c: Counts| {
            let mut all = good.clone();
            all[i] = c;
            balance(&shape(), 0, 3, &all).unwrap_err()
        };
        insta::assert_snapshot!(balance(&shape(), 0, 4, &good).unwrap_err(), @"step `src` received 3 rows but its inputs sent 4");
        insta::assert_snapshot!(with(3, sums(8, 8, 0)), @"step `b` received 8 rows but its inputs sent 9");
        insta::assert_snapshot!(with(2, sums(5, 3, 1)), @"step `a` let 4 rows pass but sent 3");
        insta::assert_snapshot!(with(1, Counts { rows_in: 3, passed: 4, rows_out: 5, ..Counts::default() }), @"step `cut` received 3 rows but 4 passed, 0 were rejected and 0 were errors");
    }
}
