//! An operator that asks a child process instead of working itself.
//!
//! A task whose child is lost is asked again row by row, each in a child that has done nothing wrong. A row that loses its child alone is
//! asked again, too, until it has lost `decoder_attempts`; then it is an error, with code `decoder_crashed` or `decoder_hung`, and its
//! neighbours know nothing of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;

use super::running::{Lost, Running};
use super::wire::{Setup, encode_rows, encode_schema, message, processed};
use crate::budget::{MemoryLimit, MemoryShares};
use crate::graph::{Graph, Step};
use crate::operator::{ID_METADATA, Kind, OperatorError, Task, Transform};
use crate::resources::OutputPlace;
use crate::telemetry::names;
use crate::verdict::{Problem, Processed, Verdict};

/// How long a wait for a free child takes before the cancel flag is looked at.
const POLL: Duration = Duration::from_millis(100);

/// The children of this process: never more at once than the limit.
pub(crate) struct Children {
    program: PathBuf,
    limit: Duration,
    attempts: u32,
    places: Mutex<Places>,
    freed: Condvar,
}

struct Places {
    idle: Vec<Running>,
    free: usize,
}

/// The right to have one child.
struct Place<'a> {
    children: &'a Children,
    running: Option<Running>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.children.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.free += 1;
        places.idle.extend(self.running.take());
        self.children.freed.notify_one();
    }
}

impl Children {
    /// At most `most` children, each of which has `limit` for a task. A row may lose `attempts` of them.
    pub fn new(most: usize, limit: Duration, attempts: u32) -> std::io::Result<Children> {
        let places = Mutex::new(Places { idle: Vec::new(), free: most.max(1) });
        Ok(Children { program: std::env::current_exe()?, limit, attempts: attempts.max(1), places, freed: Condvar::new() })
    }

    fn place(&self, cancelled: &AtomicBool) -> Option<Place<'_>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        while places.free == 0 {
            if cancelled.load(Ordering::Relaxed) {
                return None;
            }
            places = self.freed.wait_timeout(places, POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
        places.free -= 1;
        let running = places.idle.pop();
        Some(Place { children: self, running })
    }

    /// The body of the answer; a child without one is gone.
    fn ask(&self, message: &[u8], cancelled: &AtomicBool) -> Result<Result<Vec<u8>, Lost>, OperatorError> {
        let Some(mut place) = self.place(cancelled) else { return Ok(Err(Lost::Cancelled)) };
        let mut running = match place.running.take() {
            Some(running) => running,
            None => Running::start(&self.program).map_err(|e| {
                let message = format!("a decoder process cannot be started ({}): {e}", self.program.display());
                OperatorError::new(message).help("raise the limit on processes, or set decoder_processes = 0")
            })?,
        };
        let answer = running.ask(message, self.limit, cancelled);
        if answer.is_ok() {
            place.running = Some(running);
        } else {
            metrics::counter!(names::DECODERS_LOST).increment(1);
        }
        Ok(answer)
    }
}

/// See the module's documentation.
pub(crate) struct Isolated {
    children: Arc<Children>,
    setup: Setup,
    setup_bytes: Vec<u8>,
    schema_bytes: Vec<u8>,
    added: Vec<DataType>,
    expands: bool,
}

impl Isolated {
    /// The step, as a child will start it.
    pub fn new(
        step: &Step,
        graph: &Graph,
        output: &OutputPlace,
        MemoryLimit(memory): MemoryLimit,
        children: &Arc<Children>,
    ) -> Result<Isolated, OperatorError> {
        let setup = Setup {
            step: step.name.clone(),
            operator: step.operator.name().to_owned(),
            parameters: step.operator.parameters(),
            base: graph.paths.base.clone(),
            runtime: graph.runtime.clone(),
            memory: MemoryLimit(memory.map(MemoryShares::of_decoder_process)),
            output: output.0.clone(),
            id_column: step.input.metadata().get(ID_METADATA).cloned().unwrap_or_default(),
        };
        let sent = |e: String| OperatorError::new(format!("step `{}` cannot be sent to a decoder process: {e}", step.name));
        Ok(Isolated {
            children: Arc::clone(children),
            setup_bytes: serde_json::to_vec(&setup).map_err(|e| sent(e.to_string()))?,
            setup,
            schema_bytes: encode_schema(&step.input).map_err(sent)?,
            added: step.operator.columns().adds.iter().map(|a| a.field.data_type().clone()).collect(),
            expands: step.kind() == Kind::Expand,
        })
    }

    fn ask(&self, rows: &RecordBatch, task: &Task) -> Result<Result<Processed, Lost>, OperatorError> {
        let wrong = |e: String| OperatorError::new(format!("step `{}`, decoder process: {e}", self.setup.step));
        let message = message(&[&self.setup_bytes, &self.schema_bytes, &encode_rows(rows).map_err(wrong)?]);
        let body = match self.children.ask(&message, task.cancelled)? {
            Ok(body) => body,
            Err(lost) => return Ok(Err(lost)),
        };
        match processed(&body).map_err(wrong)? {
            Ok(done) => Ok(Ok(done)),
            Err((message, help)) => Err(OperatorError { message, help }),
        }
    }

    /// The answer for one row, which may have lost a child by itself already.
    fn one(&self, row: &RecordBatch, task: &Task, lost: Option<Lost>) -> Result<Processed, OperatorError> {
        let (mut losses, mut last) = (u32::from(lost.is_some()), lost);
        loop {
            match last {
                Some(lost) if losses >= self.children.attempts || matches!(lost, Lost::Cancelled) => {
                    return Ok(self.unmeasured(row.num_rows(), &self.problem(&lost, losses)));
                }
                Some(_) | None => {}
            }
            match self.ask(row, task)? {
                Ok(done) => return Ok(done),
                Err(lost) => {
                    self.warn(row, &lost);
                    (losses, last) = (losses + 1, Some(lost));
                }
            }
        }
    }

    fn warn(&self, rows: &RecordBatch, lost: &Lost) {
        let problem = self.problem(lost, 0);
        tracing::warn!(step = %self.setup.step, rows = rows.num_rows(), code = %problem.code, "A decoder process is lost: {}", problem.message);
    }

    /// Rows without an answer.
    fn unmeasured(&self, rows: usize, problem: &Problem) -> Processed {
        let verdicts = vec![Verdict::Unmeasured(problem.clone()); rows];
        let length = if self.expands { 0 } else { rows };
        let columns = self.added.iter().map(|data_type| new_null_array(data_type, length)).collect();
        Processed { verdicts, columns, parents: self.expands.then(Vec::new) }
    }

    /// `losses` is how many children the row has lost by itself.
    fn problem(&self, lost: &Lost, losses: u32) -> Problem {
        let times = if losses > 1 { format!(" (the last of {losses} attempts, decoder_attempts)") } else { String::new() };
        match lost {
            Lost::Cancelled => Problem::new("cancelled", "the run is being stopped"),
            Lost::Died(how) => {
                let operator = &self.setup.operator;
                let message = format!("the decoder process ended by {how} while `{operator}` worked on this row{times}");
                Problem::new("decoder_crashed", message)
            }
            Lost::Silent => {
                let seconds = self.children.limit.as_secs();
                let message = format!(
                    "`{}` did not answer for this row within {seconds} s (decoder_task_seconds); its process was killed{times}",
                    self.setup.operator
                );
                Problem::new("decoder_hung", message)
            }
        }
    }
}

impl Transform for Isolated {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let lost = match self.ask(rows, task)? {
            Ok(done) => return Ok(done),
            Err(lost) => lost,
        };
        self.warn(rows, &lost);
        if let Lost::Cancelled = lost {
            return Ok(self.unmeasured(rows.num_rows(), &self.problem(&lost, 0)));
        }
        if rows.num_rows() <= 1 {
            return self.one(rows, task, Some(lost));
        }
        let mut parts = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            parts.push(self.one(&rows.slice(row, 1), task, None)?);
        }
        joined(parts, self.added.len()).map_err(OperatorError::new)
    }
}

/// The answers for rows, one after the other.
fn joined(parts: Vec<Processed>, columns: usize) -> Result<Processed, String> {
    let expands = parts.iter().any(|p| p.parents.is_some());
    let (mut verdicts, mut parents) = (Vec::new(), Vec::new());
    let mut gathered: Vec<Vec<ArrayRef>> = vec![Vec::new(); columns];
    for part in parts {
        let first = verdicts.len() as u32;
        verdicts.extend(part.verdicts);
        parents.extend(part.parents.into_iter().flatten().map(|p| p + first));
        for (all, column) in gathered.iter_mut().zip(part.columns) {
            all.push(column);
        }
    }
    let join = |all: Vec<ArrayRef>| concat(&all.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(|e| e.to_string());
    let columns = gathered.into_iter().map(join).collect::<Result<_, _>>()?;
    Ok(Processed { verdicts, columns, parents: expands.then_some(parents) })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, cast::AsArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn answers_of_single_rows_are_the_answer_of_all() {
        let of = |verdict: Verdict, children: usize| Processed {
            verdicts: vec![verdict],
            columns: vec![Arc::new(Int64Array::from(vec![7; children])) as ArrayRef],
            parents: Some(vec![0; children]),
        };
        let parts = vec![of(Verdict::Pass, 2), of(Verdict::unmeasured("decoder_crashed", "x"), 0), of(Verdict::Pass, 1)];
        let all = joined(parts, 1).unwrap();
        assert_eq!(all.parents, Some(vec![0, 0, 2]));
        assert_eq!(all.columns[0].as_primitive::<Int64Type>().values(), &[7, 7, 7]);
        all.check(3).unwrap();
    }
}
