//! What differs between the plan of the tables and the present one, and what a new version would redo.
//!
//! What can go wrong: the old plan is not stored any more (another version of curette, a deleted folder); then that is what is said.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::graph::{Graph, meaning_diff};
use crate::operator::Kind;
use crate::plan::{InputDiff, Plan, PlanHash, PlanStore, Redo, input_diff, redo};

/// Names shown of inputs that differ.
const DIFF_NAMES: usize = 5;

/// What a person reads whose plan has changed.
pub(super) fn refusal(graph: &Graph, plan: &Plan, store: &PlanStore, old: &PlanHash) -> String {
    let mut lines = vec![format!(
        "the output was made by another plan ({}) than this one ({}), and their rows must not mix",
        old.short(),
        plan.hash.short()
    )];
    lines.extend(difference(graph, plan, store, old).into_iter().map(|l| format!("  {l}")));
    lines.push(
        "to go on, either run again with --new-version (the old rows stay readable as older versions of the tables),".into(),
    );
    lines.push(format!("or give the pipeline another output than `{}`", graph.pipeline.output));
    lines.join("\n")
}

/// The inputs of each source against those of an older plan.
fn input_diffs(graph: &Graph, plan: &Plan, old: &BTreeMap<(String, String), String>) -> HashMap<String, InputDiff> {
    let sources = graph.steps.iter().filter(|s| s.kind() == Kind::Source).map(|s| &s.name);
    // Sources that are gone: so are their inputs.
    let all: BTreeSet<&String> = sources.chain(old.keys().map(|(step, _)| step)).collect();
    all.into_iter().map(|name| (name.clone(), input_diff(graph, plan, old, name))).collect()
}

/// What differs between the plan of the tables and this one, a line each.
pub fn difference(graph: &Graph, plan: &Plan, store: &PlanStore, old: &PlanHash) -> Vec<String> {
    let mut lines = Vec::new();
    match store.meaning(old) {
        Ok(meaning) => lines.extend(meaning_diff(&meaning, &plan.meaning)),
        Err(e) => lines.push(format!("what the old pipeline was cannot be told: {e}")),
    }
    match store.inputs(old) {
        Ok(inputs) => {
            let mut all = InputDiff::default();
            for diff in input_diffs(graph, plan, &inputs).into_values() {
                all.merge(diff);
            }
            for (what, keys) in [("new", all.added), ("gone", all.removed), ("changed", all.changed)] {
                if !keys.is_empty() {
                    let names: Vec<_> = keys.iter().take(DIFF_NAMES).map(String::as_str).collect();
                    let more = if keys.len() > DIFF_NAMES { ", …" } else { "" };
                    lines.push(format!("{} input(s) {what}: {}{more}", keys.len(), names.join(", ")));
                }
            }
        }
        Err(e) => lines.push(format!("what the old inputs were cannot be told: {e}")),
    }
    if lines.is_empty() {
        lines.push("the way in which plans are made has changed with the version of curette".into());
    }
    lines
}

/// What a new version would redo, step by step; `None` when the old plan cannot be read.
pub fn what_is_redone(graph: &Graph, plan: &Plan, store: &PlanStore, old: &PlanHash) -> Option<Vec<Redo>> {
    let (meaning, inputs) = (store.meaning(old).ok()?, store.inputs(old).ok()?);
    Some(redo(graph, &meaning, &plan.meaning, &input_diffs(graph, plan, &inputs)))
}
