//! The verb `plan`: what a run would do. Lists inputs and reads the tables' logs; makes and changes nothing.

use std::fmt::Write;
use std::sync::Arc;

use clap::Args;
use curette_engine::exit::Exit;
use curette_engine::plan::{PlanStore, Redo};
use curette_engine::resources::Resources;
use curette_engine::run::RunError;
use curette_engine::run::difference::{difference, what_is_redone};
use curette_engine::run::prepare::{look, output_folder, plan_only, steps_with_kept_answers};
use serde_json::json;

use crate::{CheckArgs, Format, complain, pipeline, print};

/// Splits shown unless `--all` is given.
const SHOWN: usize = 20;

#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// Show every split.
    #[arg(long)]
    all: bool,
}

pub(crate) fn plan(args: &PlanArgs) -> Exit {
    let graph = match pipeline::load(&args.check) {
        Ok(graph) => graph,
        Err(exit) => return exit,
    };
    match show(args, &graph) {
        Ok(text) => print(&text),
        Err(e) => {
            complain(&e);
            e.exit()
        }
    }
}

fn show(args: &PlanArgs, graph: &curette_engine::graph::Graph) -> Result<String, RunError> {
    let resources = Arc::new(Resources::default());
    let (program, plan) = plan_only(graph, &resources)?;
    let found = look(graph, &program, &plan)?;
    let (other, done) = (found.other, found.done);
    let (changes, redone) = match &other {
        Some(old) => {
            let store = PlanStore::new(output_folder(graph)?);
            (difference(graph, &plan, &store, old), what_is_redone(graph, &plan, &store, old))
        }
        None => (Vec::new(), None),
    };
    let keeps = if redone.is_some() { steps_with_kept_answers(graph, &program)? } else { Vec::new() };
    let cost = |splits: &mut dyn Iterator<Item = &curette_engine::plan::Split>| splits.map(|s| s.cost()).sum::<u64>();
    let total = cost(&mut plan.splits.iter());
    let left = cost(&mut plan.splits.iter().filter(|s| !done.contains(s.id)));
    if args.check.format == Format::Json {
        let splits: Vec<_> = plan
            .splits
            .iter()
            .map(|s| json!({"split": s.id, "source": graph.steps[s.source].name, "inputs": s.items.len(), "cost_bytes": s.cost(), "done": done.contains(s.id)}))
            .collect();
        return Ok(json!({
            "plan": plan.hash.as_str(), "made_by_another_plan": other.as_ref().map(|h| h.as_str()), "changes": changes,
            "redo": redone.iter().flatten().map(|r| json!({"step": r.step, "rows": if r.why.is_some() { "differ" } else { "same" }, "why": r.why, "answers_kept": keeps.contains(&r.step)})).collect::<Vec<_>>(),
            "notes": plan.notes, "inputs": plan.items(), "cost_bytes": total, "cost_left_bytes": left, "splits": splits,
        })
        .to_string());
    }
    let mut out = String::new();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "plan {}: {} inputs in {} splits, cost {:.1} MiB",
        plan.hash.short(),
        plan.items(),
        plan.splits.len(),
        mib(total)
    );
    for note in &plan.notes {
        let _ = writeln!(out, "{note}");
    }
    let _ = writeln!(
        out,
        "done: {} splits; left: {} splits, {:.1} MiB",
        done.len(),
        plan.splits.len() as u64 - done.len(),
        mib(left)
    );
    if let Some(old) = &other {
        let _ =
            writeln!(out, "the output was made by another plan ({}); --new-version would redo all splits, because", old.short());
        for line in &changes {
            let _ = writeln!(out, "  {line}");
        }
    }
    if let Some(steps) = &redone {
        let _ = writeln!(out, "\n{:<20}  {:<11}  why", "step", "rows");
        for Redo { step, why } in steps {
            let (rows, why) = match why {
                Some(why) => ("may differ", why.to_string()),
                None if keeps.contains(step) => ("as before", "answers that were kept are used".into()),
                None => ("as before", "runs again".into()),
            };
            let _ = writeln!(out, "{step:<20}  {rows:<11}  {why}");
        }
    }
    let _ = writeln!(out, "\n{:>6}  {:>7}  {:>10}  {:<4}  first input", "split", "inputs", "cost MiB", "done");
    let shown = if args.all { plan.splits.len() } else { SHOWN };
    for split in plan.splits.iter().take(shown) {
        let first = split.items.first().map(|i| i.key.as_str()).unwrap_or_default();
        let mark = if done.contains(split.id) { "yes" } else { "no" };
        let _ = writeln!(out, "{:>6}  {:>7}  {:>10.1}  {mark:<4}  {first}", split.id, split.items.len(), mib(split.cost()));
    }
    if plan.splits.len() > shown {
        let _ = writeln!(out, "... and {} more (--all shows them)", plan.splits.len() - shown);
    }
    Ok(out)
}
