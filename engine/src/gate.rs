//! Steps that wait for people: which of them let rows pass in a version of the tables.
//!
//! All tables of a split are committed together, so a run cannot commit what stands before a gate and come back to the same split for what stands behind it.
//! So the answer of a gate belongs to a version of the tables: it is asked when the version is begun, written to `_curette/gates/` before any row is read, and
//! holds until the version is complete, whatever people say meanwhile. Rows at a closed gate are rejects with a code of their own, so every sum adds up. When a
//! version is complete and one of its closed gates would open now, the next run begins a new version by itself; kept answers make what stood before the gate cheap.
//!
//! What can go wrong: a process killed between the note and the first table of a version. The note of a version that no table knows is written again.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::commit::{CommitError, Folder};
use crate::graph::Graph;
use crate::operator::OperatorError;
use crate::plan::PlanHash;

/// Reason of rows that a closed gate holds back.
pub const HELD_BACK: &str = "held_back";

/// Where a gate stands, for its answer.
#[derive(Debug, Clone, Copy)]
pub struct GatePlace<'a> {
    /// Folder or URL of the pipeline's output.
    pub output: &'a str,
    /// Hash of the plan whose rows wait.
    pub plan_hash: &'a str,
    /// The gate's step.
    pub step: &'a str,
    /// The step that it reads from.
    pub input: &'a str,
}

/// What an operator says when it is asked whether rows may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Rows may pass.
    pub open: bool,
    /// Why, as a stable snake_case code.
    pub code: String,
    /// Why, for people, and what to do.
    pub message: String,
    /// What it was held against, as the operator writes it.
    pub rule: serde_json::Value,
}

/// What was decided for a version of the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Rows pass.
    pub open: bool,
    /// They pass because somebody said so, although the gate's own answer was no.
    pub accepted: bool,
    /// The gate's own answer: [`Answer::code`].
    pub code: String,
    /// [`Answer::message`].
    pub message: String,
    /// [`Answer::rule`].
    #[serde(default)]
    pub rule: serde_json::Value,
}

/// The decisions of the version that a process works on, by step; shared by its operators as a resource.
#[derive(Debug, Default)]
pub struct Gates(RwLock<BTreeMap<String, Decision>>);

impl Gates {
    /// The decision about a step; `None`: nobody has decided, so nothing may pass.
    pub fn of(&self, step: &str) -> Option<Decision> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(step).cloned()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<String, Decision> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes decisions in the place of those before.
    pub fn set(&self, decisions: BTreeMap<String, Decision>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = decisions;
    }
}

/// What a closed gate holds back, at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The gate's step.
    pub step: String,
    /// Rows that wait.
    pub rows: u64,
    /// Why.
    pub code: String,
    /// Why, for people, and what to do.
    pub message: String,
}

fn name(plan: &PlanHash, generation: u64) -> String {
    format!("_curette/gates/{}-{generation}.json", plan.short())
}

/// What was decided about the gates of a plan in a version of its output, if anything was.
pub fn recorded(output: &Folder, plan: &PlanHash, generation: u64) -> Result<Option<BTreeMap<String, Decision>>, CommitError> {
    let name = name(plan, generation);
    match output.get(&name) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| output.error("read", &name, &e)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(output.error("read", &name, &e)),
    }
}

/// Asks the gates of a pipeline, and keeps what was decided.
pub(crate) struct Keeper {
    folder: Folder,
    plan: PlanHash,
    now: BTreeMap<String, Decision>,
}

impl Keeper {
    /// Asks every gate of the pipeline. `accept`: closed gates are opened, and it is noted that they were.
    pub fn ask(graph: &Graph, folder: Folder, output: &str, plan: &PlanHash, accept: bool) -> Result<Keeper, OperatorError> {
        let mut now = BTreeMap::new();
        for step in &graph.steps {
            let input = step.inputs.first().map_or("", |&i| graph.steps[i].name.as_str());
            let place = GatePlace { output, plan_hash: plan.as_str(), step: &step.name, input };
            let Some(answer) = step.operator.gate(&place) else { continue };
            let answer =
                answer.map_err(|e| OperatorError { message: format!("step `{}`: {}", step.name, e.message), help: e.help })?;
            let Answer { open, code, message, rule } = answer;
            now.insert(step.name.clone(), Decision { open: open || accept, accepted: accept && !open, code, message, rule });
        }
        Ok(Keeper { folder, plan: plan.clone(), now })
    }

    /// What was decided for a version, if anything was.
    pub fn recorded(&self, generation: u64) -> Result<Option<BTreeMap<String, Decision>>, CommitError> {
        recorded(&self.folder, &self.plan, generation)
    }

    /// Whether a gate that this version holds rows back at would let them pass now.
    pub fn would_open(&self, generation: u64) -> Result<bool, CommitError> {
        if self.now.is_empty() {
            return Ok(false);
        }
        let recorded = self.recorded(generation)?.unwrap_or_default();
        let opens = |(step, was): (&String, &Decision)| !was.open && self.now.get(step).is_some_and(|now| now.open);
        Ok(recorded.iter().any(opens))
    }

    /// The decisions of a version: those that were noted where they bind (`bound`: rows were committed by them, or another process has just made them),
    /// else those of now, noted before they are used.
    pub fn settle(&self, generation: u64, bound: bool) -> Result<BTreeMap<String, Decision>, CommitError> {
        if self.now.is_empty() {
            return Ok(BTreeMap::new());
        }
        let recorded = self.recorded(generation)?;
        match recorded {
            Some(recorded) if bound || recorded == self.now => Ok(recorded),
            _ => {
                let name = name(&self.plan, generation);
                let bytes = serde_json::to_vec_pretty(&self.now).map_err(|e| self.folder.error("write", &name, &e))?;
                self.folder.put(&name, bytes).map_err(|e| self.folder.error("write", &name, &e))?;
                Ok(self.now.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(folder: &std::path::Path, open: bool, accept: bool) -> Keeper {
        let (code, message, rule) = ("c".into(), "m".into(), serde_json::Value::Null);
        let decision = Decision { open: open || accept, accepted: accept && !open, code, message, rule };
        Keeper {
            folder: Folder::open(&folder.to_string_lossy()).unwrap(),
            plan: PlanHash::from_hex("0123456789abcdef"),
            now: [("gate".to_owned(), decision)].into(),
        }
    }

    #[test]
    fn a_decision_binds_once_rows_were_committed_by_it_and_opens_in_the_next_version() {
        let dir = tempfile::tempdir().unwrap();
        let (closed, open) = (keeper(dir.path(), false, false), keeper(dir.path(), true, false));
        assert!(!open.would_open(0).unwrap(), "nothing was held back");
        assert!(!closed.settle(0, false).unwrap()["gate"].open);
        assert!(!open.settle(0, true).unwrap()["gate"].open, "rows stand by it");
        assert!(open.would_open(0).unwrap() && !closed.would_open(0).unwrap());
        assert!(open.settle(1, false).unwrap()["gate"].open);
        assert!(closed.settle(1, true).unwrap()["gate"].open, "an opened version stays open");
        let accepted = keeper(dir.path(), false, true);
        assert!(accepted.would_open(0).unwrap());
        // A version that no table knows yet is decided anew, also after a kill.
        let noted = accepted.settle(2, false).unwrap();
        assert!(noted["gate"].open && noted["gate"].accepted);
        assert!(!closed.settle(2, false).unwrap()["gate"].open);
    }
}
