//! The decisions of the commit protocol, as pure functions. `table` acts on them; the scenarios at the bottom are the specification.

use serde_json::Value;

use super::record::{DOMAIN, Record};
use super::split_set::SplitSet;
use super::table::{PlanStamp, TableState};

/// What to do with finished splits, given what the table says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Write the next log entry, with this set of finished splits.
    Create(SplitSet),
    /// The table has all of them. `mine`: through this very call, whose response was lost.
    AlreadyDone { mine: bool },
    /// The table has some of them (given): the rows of this call would repeat theirs.
    PartlyDone(SplitSet),
    /// The table belongs to another plan or generation.
    Refuse,
}

/// May these splits be committed?
pub(crate) fn decide(state: &TableState, stamp: &PlanStamp, splits: &SplitSet, commit: &str) -> Decision {
    if !belongs(state, stamp) {
        return Decision::Refuse;
    }
    if state.done.is_superset(splits) {
        return Decision::AlreadyDone { mine: state.commit.as_deref() == Some(commit) };
    }
    let both = state.done.intersection(splits);
    match both.is_empty() {
        true => Decision::Create(state.done.union(splits)),
        false => Decision::PartlyDone(both),
    }
}

/// What to do about a new generation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Write the log entry that removes the old rows.
    Create,
    /// The table is in this generation already.
    AlreadyBegun,
    /// The table is in this generation or a later one, of another plan.
    Refuse,
}

/// May this generation begin?
pub(crate) fn begin(state: &TableState, stamp: &PlanStamp) -> Beginning {
    match &state.plan_hash {
        None => Beginning::Create,
        Some(hash) if *hash == stamp.plan_hash && state.generation == stamp.generation => Beginning::AlreadyBegun,
        Some(_) if stamp.generation > state.generation => Beginning::Create,
        Some(_) => Beginning::Refuse,
    }
}

/// A table without a record belongs to whoever commits first.
fn belongs(state: &TableState, stamp: &PlanStamp) -> bool {
    match &state.plan_hash {
        None => true,
        Some(hash) => *hash == stamp.plan_hash && state.generation == stamp.generation,
    }
}

/// What became of a log entry whose creation was not confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It landed; the response was lost.
    Mine,
    /// Another writer has that version (its commit id, if it is one of ours).
    LostTo(Option<String>),
    /// Nothing has that version: try again.
    Retry,
}

/// Looks at the log entry that is there now (`None`: none).
pub(crate) fn fate(entry: Option<&str>, commit: &str) -> Fate {
    let Some(entry) = entry else { return Fate::Retry };
    match commit_id(entry) {
        Some(id) if id == commit => Fate::Mine,
        other => Fate::LostTo(other),
    }
}

/// The commit id in a log entry, if it has a record of ours.
fn commit_id(entry: &str) -> Option<String> {
    entry.lines().find_map(|line| {
        let action: Value = serde_json::from_str(line).ok()?;
        let domain = action.get("domainMetadata")?;
        if domain.get("domain")?.as_str()? != DOMAIN {
            return None;
        }
        let record: Record = serde_json::from_str(domain.get("configuration")?.as_str()?).ok()?;
        Some(record.commit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> SplitSet {
        text.parse().unwrap()
    }

    fn stamp(plan: &str, generation: u64) -> PlanStamp {
        PlanStamp { plan_hash: plan.into(), generation }
    }

    fn table(plan: &str, generation: u64, done: &str) -> TableState {
        TableState { version: 9, plan_hash: Some(plan.into()), generation, done: set(done), commit: Some("other".into()) }
    }

    fn fresh() -> TableState {
        TableState { version: 0, plan_hash: None, generation: 0, done: SplitSet::new(), commit: None }
    }

    #[test]
    fn commits() {
        let cases = [
            (fresh(), stamp("a", 1), "0-2", Decision::Create(set("0-2"))),
            (table("a", 1, "0-2"), stamp("a", 1), "3,5", Decision::Create(set("0-3,5"))),
            (table("a", 1, "0-2"), stamp("a", 1), "1-2", Decision::AlreadyDone { mine: false }),
            (table("a", 1, "0-2"), stamp("a", 1), "2-4", Decision::PartlyDone(set("2"))),
            (table("a", 1, "0-2"), stamp("b", 1), "3", Decision::Refuse),
            (table("a", 2, ""), stamp("a", 1), "3", Decision::Refuse),
            // A process of the old generation that wakes up late must not be told that its splits are done.
            (table("b", 2, "0-2"), stamp("a", 1), "1", Decision::Refuse),
        ];
        for (state, stamp, splits, expected) in cases {
            assert_eq!(decide(&state, &stamp, &set(splits), "me"), expected, "{state:?} {stamp:?} {splits}");
        }
        let mut mine = table("a", 1, "0-2");
        mine.commit = Some("me".into());
        assert_eq!(decide(&mine, &stamp("a", 1), &set("2"), "me"), Decision::AlreadyDone { mine: true });
    }

    #[test]
    fn generations() {
        let cases = [
            (fresh(), stamp("a", 1), Beginning::Create),
            (table("a", 1, "0-5"), stamp("a", 1), Beginning::AlreadyBegun),
            (table("a", 1, "0-5"), stamp("a", 2), Beginning::Create),
            (table("a", 1, "0-5"), stamp("b", 2), Beginning::Create),
            (table("a", 1, "0-5"), stamp("b", 1), Beginning::Refuse),
            (table("a", 3, "0-5"), stamp("a", 2), Beginning::Refuse),
        ];
        for (state, stamp, expected) in cases {
            assert_eq!(begin(&state, &stamp), expected, "{state:?} {stamp:?}");
        }
    }

    #[test]
    fn fates() {
        let record = Record::new(&stamp("a", 1), set("0"), "me").to_json();
        let line = serde_json::json!({"domainMetadata": {"domain": DOMAIN, "configuration": record, "removed": false}});
        let entry = format!("{{\"commitInfo\":{{}}}}\n{line}\n");
        assert_eq!(fate(Some(&entry), "me"), Fate::Mine);
        assert_eq!(fate(Some(&entry), "you"), Fate::LostTo(Some("me".into())));
        assert_eq!(fate(Some("{\"commitInfo\":{}}"), "me"), Fate::LostTo(None));
        assert_eq!(fate(None, "me"), Fate::Retry);
    }
}
