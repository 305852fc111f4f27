//! The committed table `ratings` below an output: every rating of every session, also those that were changed later.
//!
//! Ratings come from the journals. A commit takes those that the table does not have; each commit is a split of the table, numbered in order, so of two processes
//! that commit at once one wins and the other looks again. A row is never there twice: rows are known by their `rating_id`. What can go wrong: a table of this
//! name that something else wrote; it is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use curette_engine::commit::{Outcome, PlanStamp, SplitSet, Table, TableSpec};

use crate::rating::{Rating, batch, of_batch, schema};
use crate::{ReviewError, journal};

/// Its folder below the output.
pub const RATINGS: &str = "ratings";
/// Where sessions and journals are, below an output on a disk.
pub const JOURNALS: &str = "_curette/review";
/// What the table's rows belong to: there is no plan.
const STAMP: &str = "ratings/1";
/// Times that another process may be faster.
const MAX_TRIES: usize = 50;

fn location(output: &str) -> String {
    format!("{}/{RATINGS}", output.trim_end_matches('/'))
}

/// All ratings that are committed below an output; none where there is no table.
pub fn read(output: &str) -> Result<Vec<Rating>, ReviewError> {
    let place = location(output);
    let err = |e: &dyn std::fmt::Display| ReviewError::at(&place, e);
    let Some(table) = Table::open_existing(RATINGS, &place).map_err(|e| err(&e))? else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for batch in table.read_batches(None).map_err(|e| err(&e))? {
        out.extend(of_batch(&batch.map_err(|e| err(&e))?).map_err(|e| err(&e))?);
    }
    Ok(out)
}

/// The ratings of all journals below a folder.
fn journaled(journals: &Path) -> Result<Vec<Rating>, ReviewError> {
    let err = |path: &Path, e: std::io::Error| ReviewError::at(path.display(), e);
    let list = |folder: &Path| -> Result<Vec<std::path::PathBuf>, ReviewError> {
        let entries = match std::fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| err(folder, e))?,
        };
        let paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>();
        let mut paths = paths.map_err(|e| err(folder, e))?;
        paths.sort();
        Ok(paths)
    };
    let mut out = Vec::new();
    for session in list(journals)?.into_iter().filter(|p| p.is_dir()) {
        for file in list(&session)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "jsonl")) {
            out.extend(journal::look(&file)?);
        }
    }
    Ok(out)
}

/// Commits what stands in journals and not in the table; gives how many ratings that were.
pub fn commit(output: &str, journals: &Path) -> Result<usize, ReviewError> {
    let place = location(output);
    let err = |e: &dyn std::fmt::Display| ReviewError::at(&place, e);
    let pending: BTreeMap<String, Rating> = journaled(journals)?.into_iter().map(|r| (r.rating_id.clone(), r)).collect();
    if pending.is_empty() {
        return Ok(0);
    }
    let spec = TableSpec {
        name: RATINGS.into(),
        location: place.clone(),
        schema: schema(),
        target_shard_bytes: 64 << 20,
        row_group_bytes: 8 << 20,
        zstd_level: 3,
        dictionary_columns: ["session", "mode", "plan_hash", "stage", "rater", "label"].map(String::from).to_vec(),
        page_rows: None,
    };
    let table = Table::open_or_create(&spec).map_err(|e| err(&e))?;
    let stamp = PlanStamp { plan_hash: STAMP.into(), generation: 0 };
    for _ in 0..MAX_TRIES {
        // The number is taken before the rows are read: rows that come in between take it, too, and then this commit finds it taken.
        let split = u32::try_from(table.state().map_err(|e| err(&e))?.done.len()).map_err(|_| err(&"has no more numbers"))?;
        let there: BTreeSet<String> = read(output)?.into_iter().map(|r| r.rating_id).collect();
        let new: Vec<Rating> = pending.values().filter(|r| !there.contains(&r.rating_id)).cloned().collect();
        if new.is_empty() {
            return Ok(0);
        }
        let mut writer = table.shard_writer(&ulid::Ulid::generate().to_string());
        writer.write(&batch(&new).map_err(|e| err(&e))?).map_err(|e| err(&e))?;
        let shard = writer.finish().map_err(|e| err(&e))?;
        let mut splits = SplitSet::new();
        splits.insert(split);
        match table.commit(&stamp, &splits, &[shard]).map_err(|e| err(&e))? {
            Outcome::Committed { .. } => return Ok(new.len()),
            Outcome::AlreadyDone | Outcome::PartlyDone { .. } => {}
        }
    }
    Err(err(&format!("other processes were faster {MAX_TRIES} times; run the command again")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Journal;
    use crate::rating::tests::rating;

    #[test]
    fn what_stands_in_journals_is_committed_once_also_by_two_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().to_string_lossy().into_owned();
        let journals = dir.path().join(JOURNALS);
        assert_eq!((read(&output).unwrap().len(), commit(&output, &journals).unwrap()), (0, 0));
        let session = journals.join("s");
        std::fs::create_dir_all(&session).unwrap();
        let mut raters: Vec<Journal> = ["A", "B"].iter().map(|r| Journal::open(&session, r).unwrap().0).collect();
        let mut kept = BTreeSet::new();
        for round in 0..3 {
            for (journal, name) in raters.iter_mut().zip(["A", "B"]) {
                let mut one = rating(&format!("i{round}"), name, "clean");
                journal.add(&mut one).unwrap();
                kept.insert(one.rating_id);
            }
            let commits: Vec<_> = (0..2).map(|_| (output.clone(), journals.clone())).collect();
            let threads: Vec<_> = commits.into_iter().map(|(o, j)| std::thread::spawn(move || commit(&o, &j).unwrap())).collect();
            let total: usize = threads.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(total, 2, "each rating once");
            let all = read(&output).unwrap();
            assert_eq!(all.len(), kept.len());
            assert_eq!(all.into_iter().map(|r| r.rating_id).collect::<BTreeSet<_>>(), kept);
        }
        assert_eq!(commit(&output, &journals).unwrap(), 0);
    }
}
