//! After the last commit: do the tables hold what the sums say, what did killed attempts leave behind, and what do sinks do with all of their rows?

use crate::commit::{PlanStamp, Table, kill_point};
use crate::dataflow::ledger::Counts;
use crate::dataflow::tables::{ERRORS, REJECTS, STAGES, add_stages};
use crate::dataflow::{RunProgress, Stopping};
use crate::graph::Graph;
use crate::operator::{Committed, FollowUp, FollowUpError, Kind};
use crate::plan::Plan;

use super::prepare::{OpenTable, Tables};
use super::{Funnel, RunError};

/// Reads the sums back and holds them against each other and against the rows that the tables hold. Plain files have no log that counts their rows,
/// so they are read for it, and only after a run that `wrote` something.
pub fn verify(graph: &Graph, plan: &Plan, stamp: &PlanStamp, tables: &Tables, wrote: bool) -> Result<Funnel, RunError> {
    let names: Vec<String> = graph.steps.iter().map(|s| s.name.clone()).collect();
    let stages = system(tables, STAGES)?;
    let state = stages.state()?;
    let newer = state.plan_hash.as_deref() != Some(plan.hash.as_str()) || state.generation != stamp.generation;
    if newer && !plan.splits.is_empty() {
        return Err(RunError::Output(
            "another run has begun a new version of the tables meanwhile; what this run committed stays readable as an older version".into(),
        ));
    }
    if state.done.len() != plan.splits.len() as u64 {
        return Err(RunError::Mismatch(format!("{} of {} splits are committed", state.done.len(), plan.splits.len())));
    }
    let columns = ["step", "rows_in", "passed", "rows_out", "reasons"];
    let mut counts = vec![Counts::default(); names.len()];
    for batch in stages.read_batches(Some(&columns))? {
        add_stages(&names, &batch?, &mut counts).map_err(RunError::Mismatch)?;
    }
    check(graph, plan, &counts).map_err(RunError::Mismatch)?;
    for (table, expected) in [
        (REJECTS, counts.iter().map(Counts::rejected_total).sum::<u64>()),
        (ERRORS, counts.iter().map(|c| c.errors_total() + c.kept_errors.values().sum::<u64>()).sum()),
    ] {
        compare(table, system(tables, table)?.row_count()?, expected)?;
    }
    for open in &tables.all {
        let counted = wrote || open.table().is_some();
        if let Some(step) = graph.steps.iter().position(|s| counted && s.name == open.name && s.kind() == Kind::Sink) {
            compare(&open.name, open.row_count()?, counts[step].rows_in)?;
        }
    }
    Ok(Funnel::new(graph, counts))
}

fn system<'a>(tables: &'a Tables, name: &str) -> Result<&'a Table, RunError> {
    tables.system(name).map(|t| &**t).ok_or_else(|| RunError::Mismatch(format!("table `{name}` is not open")))
}

fn compare(name: &str, rows: u64, expected: u64) -> Result<(), RunError> {
    if rows == expected {
        Ok(())
    } else {
        Err(RunError::Mismatch(format!("table `{name}` holds {rows} rows, the sums say {expected}")))
    }
}

/// In = passed + rejected + errors for each step, and out of a step = in of its consumers, over the whole plan.
fn check(graph: &Graph, plan: &Plan, counts: &[Counts]) -> Result<(), String> {
    for (index, step) in graph.steps.iter().enumerate() {
        let expected: u64 = match step.kind() {
            // An input holds any number of records: what was read is held against the tables only.
            Kind::Source if step.operator.records() => counts[index].rows_in,
            Kind::Source => plan.splits.iter().filter(|s| s.source == index).map(|s| s.items.len() as u64).sum(),
            _ => step.inputs.iter().map(|&i| counts[i].rows_out).sum(),
        };
        let c = &counts[index];
        if c.rows_in != expected {
            return Err(format!("step `{}` received {} rows, {expected} were sent to it", step.name, c.rows_in));
        }
        if c.rows_in != c.passed + c.rejected_total() + c.errors_total() {
            return Err(format!("the rows of step `{}` do not add up", step.name));
        }
    }
    Ok(())
}

/// Removes files that no commit names, of all tables. Gives their number and bytes.
pub fn collect_orphans(tables: &Tables, stamp: &PlanStamp) -> Result<(u64, u64), RunError> {
    let mut all = (0, 0);
    for open in &tables.all {
        let (files, bytes) = open.collect_orphans(stamp)?;
        all = (all.0 + files, all.1 + bytes);
    }
    Ok(all)
}

/// Does what a sink does with all of its rows. Gives its sentences, each with the name of the step.
pub fn follow_up(
    work: &dyn FollowUp,
    sink: &OpenTable,
    stamp: &PlanStamp,
    progress: &RunProgress,
) -> Result<Vec<String>, RunError> {
    kill_point("before_follow_up");
    let of = Committed {
        step: &sink.name,
        location: &sink.location,
        plan_hash: &stamp.plan_hash,
        generation: stamp.generation,
        stop: progress.signalled(),
    };
    let step = sink.name.clone();
    match work.run(&of) {
        Ok(said) => Ok(said.into_iter().map(|sentence| format!("step `{step}`: {sentence}")).collect()),
        Err(FollowUpError::Failed(why)) => Err(RunError::FollowUp { step, why }),
        Err(FollowUpError::Stopped(how)) => {
            let signal = match progress.stopping() {
                Some(Stopping::Signal(signal)) => signal,
                _ => libc::SIGTERM,
            };
            Err(RunError::FollowUpStopped { signal, step, how })
        }
    }
}
