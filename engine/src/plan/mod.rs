//! The plan: an immutable, deterministic list of splits, and the hash that names it.
//!
//! A split is a handful of inputs, cut by estimated cost and independent of the number of workers; it is the unit of work that is finished
//! once and committed once. The hash covers the inputs (names and content identities), the meaning of the pipeline and nothing else, so a
//! different thread count or a comment continues the old work, and a changed threshold does not silently mix with it.
//!
//! What can go wrong: two inputs with one key (a source must not list them), or a source whose listing changes between processes; the cluster
//! handshake compares hashes and refuses to start then.

mod redo;
mod store;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use redo::{Redo, Why, redo};
pub use store::{InputDiff, PlanStore, StoreError, input_diff};

use crate::graph::{Graph, sorted};
use crate::operator::{InputItem, Kind, OperatorError};

/// Raised when the way plans are cut or hashed changes.
const PLAN_FORMAT: u32 = 1;

/// Names a plan: blake3 over inputs and meaning, hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PlanHash(String);

impl PlanHash {
    /// A hash read back from a table or file.
    pub fn from_hex(hex: impl Into<String>) -> Self {
        PlanHash(hex.into())
    }
    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The first 12 digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(12)]
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A few inputs of one source: the unit that is finished and committed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its number in the plan.
    pub id: u32,
    /// Index of the source step in [`Graph::steps`].
    pub source: usize,
    /// Its inputs, sorted by key.
    pub items: Vec<InputItem>,
}

impl Split {
    /// Summed estimated cost of the inputs (about: bytes).
    pub fn cost(&self) -> u64 {
        self.items.iter().fold(0, |sum, item| sum.saturating_add(item.cost))
    }
}

/// All the work of a pipeline over its inputs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub hash: PlanHash,
    /// What the pipeline means, see [`Graph::meaning`].
    pub meaning: Value,
    /// Splits by number.
    pub splits: Vec<Split>,
    /// What the sources say of their listings, for people; not in the hash.
    pub notes: Vec<String>,
}

impl Plan {
    /// Number of inputs of all sources.
    pub fn items(&self) -> usize {
        self.splits.iter().map(|s| s.items.len()).sum()
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A source could not list its inputs.
    #[error("step `{step}`: cannot list inputs: {source}")]
    List {
        /// The source step.
        step: String,
        /// What went wrong.
        source: OperatorError,
    },
    /// Two inputs of a source have one key.
    #[error("step `{step}`: input `{key}` is listed twice (give each input its own id)")]
    Duplicate {
        /// The source step.
        step: String,
        /// The key.
        key: String,
    },
    /// More splits than the format can number.
    #[error("the plan has more than {max} splits (raise split_max_items or split_max_cost_bytes)")]
    TooManySplits {
        /// The limit.
        max: u32,
    },
}

/// Cuts the plan. `listings` gives for each source step (by index) what it listed, in any order.
pub fn plan(graph: &Graph, listings: Vec<(usize, Vec<InputItem>)>) -> Result<Plan, PlanError> {
    let mut splits = Vec::new();
    for (source, mut items) in listings {
        debug_assert_eq!(graph.steps[source].kind(), Kind::Source);
        items.sort();
        if let Some(pair) = items.windows(2).find(|pair| pair[0].key == pair[1].key) {
            return Err(PlanError::Duplicate { step: graph.steps[source].name.clone(), key: pair[0].key.clone() });
        }
        for items in cut(items, graph.pipeline.split_max_items, graph.pipeline.split_max_cost_bytes) {
            let id = u32::try_from(splits.len()).map_err(|_| PlanError::TooManySplits { max: u32::MAX })?;
            splits.push(Split { id, source, items });
        }
    }
    let meaning = graph.meaning();
    let hash = hash(graph, &meaning, &splits);
    Ok(Plan { hash, meaning, splits, notes: Vec::new() })
}

/// Consecutive runs of items: a split closes before it would exceed either limit, and holds at least one item.
fn cut(items: Vec<InputItem>, max_items: u64, max_cost: u64) -> Vec<Vec<InputItem>> {
    let mut out: Vec<Vec<InputItem>> = Vec::new();
    let mut cost = 0u64;
    for item in items {
        let fits = out.last().is_some_and(|s| (s.len() as u64) < max_items && cost.saturating_add(item.cost) <= max_cost);
        if !fits {
            out.push(Vec::new());
            cost = 0;
        }
        cost = cost.saturating_add(item.cost);
        if let Some(split) = out.last_mut() {
            split.push(item);
        }
    }
    out
}

fn hash(graph: &Graph, meaning: &Value, splits: &[Split]) -> PlanHash {
    let mut hasher = blake3::Hasher::new();
    let mut line = |value: &Value| {
        hasher.update(value.to_string().as_bytes());
        hasher.update(b"\n");
    };
    line(&json!({"format": PLAN_FORMAT}));
    line(&sorted(meaning.clone()));
    for split in splits {
        line(&json!([split.id, graph.steps[split.source].name]));
        for item in &split.items {
            // Cost is an estimate: a better one must not redo finished work, but it moves the cuts, which are hashed above.
            line(&json!([item.key, item.identity, item.payload]));
        }
    }
    PlanHash(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(key: &str, cost: u64) -> InputItem {
        InputItem { key: key.into(), identity: "1".into(), cost, payload: String::new() }
    }

    #[test]
    fn a_split_closes_at_either_limit_and_is_never_empty() {
        let keys = |splits: Vec<Vec<InputItem>>| splits.iter().map(|s| s.len()).collect::<Vec<_>>();
        assert_eq!(keys(cut((0..5).map(|i| item(&i.to_string(), 1)).collect(), 2, 100)), [2, 2, 1]);
        assert_eq!(keys(cut(vec![item("a", 60), item("b", 60), item("c", 500), item("d", 1)], 10, 100)), [1, 1, 1, 1]);
        assert_eq!(keys(cut(vec![item("a", 60), item("b", 40), item("c", 1)], 10, 100)), [2, 1]);
        assert!(cut(vec![], 10, 100).is_empty());
    }

    proptest! {
        #[test]
        fn cutting_keeps_every_item_in_order(costs in proptest::collection::vec(0u64..1000, 0..200), max_items in 1u64..20, max_cost in 1u64..3000) {
            let items: Vec<_> = costs.iter().enumerate().map(|(i, c)| item(&format!("{i:05}"), *c)).collect();
            let splits = cut(items.clone(), max_items, max_cost);
            prop_assert_eq!(splits.iter().flatten().cloned().collect::<Vec<_>>(), items);
            for split in &splits {
                prop_assert!(!split.is_empty() && split.len() as u64 <= max_items);
                prop_assert!(split.len() == 1 || split.iter().map(|i| i.cost).sum::<u64>() <= max_cost);
            }
        }
    }
}
