//! What a changed plan would redo, and why: step by step, in the order of the graph. Pure.
//!
//! Rows between steps are not kept, so a new version runs every step again; but only from the first change on can its rows differ. That is
//! what a person wants to know before paying for it. What can go wrong: a step that was renamed counts as new, because names are what joins
//! two pipelines.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::InputDiff;
use crate::graph::{Graph, meaning_diff};
use crate::operator::Kind;

/// Why the rows of a step will differ from those of the plan before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was not there before.
    New,
    /// Its own meaning changed: a line for each difference.
    Changed(Vec<String>),
    /// Its inputs are others: so many are new, changed and gone.
    Inputs {
        /// Not in the old plan.
        new: usize,
        /// Other content.
        changed: usize,
        /// Only in the old plan.
        gone: usize,
    },
    /// It comes after a step that changed: the one where the change begins.
    After(String),
}

/// What happens to one step under the new plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redo {
    /// Its name.
    pub step: String,
    /// Why its rows may differ; `None`: it runs again and gives the rows that it gave before.
    pub why: Option<Why>,
}

/// Each step of `graph` against the meaning and the inputs of an older plan. `new` is the meaning of `graph`.
pub fn redo(graph: &Graph, old: &Value, new: &Value, inputs: &HashMap<String, InputDiff>) -> Vec<Redo> {
    let mut out: Vec<Redo> = Vec::new();
    for step in &graph.steps {
        let (before, now) = (&old["steps"][&step.name], &new["steps"][&step.name]);
        let moved = inputs.get(&step.name).filter(|diff| step.kind() == Kind::Source && !diff.is_empty());
        let why = if before.is_null() {
            Some(Why::New)
        } else if before != now {
            Some(Why::Changed(meaning_diff(&json!({"steps": {&step.name: before}}), &json!({"steps": {&step.name: now}}))))
        } else if let Some(diff) = moved {
            Some(Why::Inputs { new: diff.added.len(), changed: diff.changed.len(), gone: diff.removed.len() })
        } else {
            // Inputs come before their consumers, so what happens to them is known.
            let dirty = step.inputs.iter().find(|&&i| out[i].why.is_some());
            dirty.map(|&i| match &out[i].why {
                Some(Why::After(first)) => Why::After(first.clone()),
                _ => Why::After(out[i].step.clone()),
            })
        };
        out.push(Redo { step: step.name.clone(), why });
    }
    out
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::New => f.write_str("new step"),
            Why::Changed(lines) => f.write_str(&lines.join("; ")),
            Why::Inputs { new, changed, gone } => write!(f, "inputs: {new} new, {changed} changed, {gone} gone"),
            Why::After(step) => write!(f, "comes after `{step}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_sentences() {
        let why = [
            Why::New,
            Why::Changed(vec!["step.split.tau: 0.9 -> 0.8".into(), "step.split.files: the content of a file changed".into()]),
            Why::Inputs { new: 2, changed: 0, gone: 1 },
            Why::After("split".into()),
        ];
        insta::assert_snapshot!(why.map(|w| w.to_string()).join("\n"), @r"
        new step
        step.split.tau: 0.9 -> 0.8; step.split.files: the content of a file changed
        inputs: 2 new, 0 changed, 1 gone
        comes after `split`
        ");
    }
}
