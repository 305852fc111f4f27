//! Deletes what attempts left behind: shards that no log entry ever named, and half-made files.
//!
//! A table whose folder is clean can be read by programs that know nothing of its log. Only names that this program gives are ever touched
//! (`part-ULID-NUMBER.parquet`, and the same with `.tmp`). A file that any version ever named stays, so older versions stay readable. The
//! whole deletion is planned before the first file goes, and nothing is deleted if any log entry is missing or cannot be understood.
//!
//! What can go wrong: a process that still writes shards loses them. Call it at the end of a finished run, when all splits are done: what such
//! a process could still commit would be refused as done already.

use std::collections::HashSet;
use std::sync::PoisonError;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStoreExt, Result};
use serde_json::Value;

use super::PlanStamp;
use super::error::CommitError;
use super::location::block_on;
use super::table::Table;
use super::upload::TEMPORARY;

/// Requests in flight at once, for reading the log and for deleting.
const REQUESTS_IN_FLIGHT: usize = 16;

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Files.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
}

impl Table {
    /// Deletes the files that no log entry names. See the module for when it is safe.
    pub fn collect_orphans(&self) -> std::result::Result<Orphans, CommitError> {
        self.delete_unnamed(None, |_| true)
    }

    /// As [`Table::collect_orphans`], unless the table belongs to another version than `mine` by now: the files may then be its first shards. A version begins
    /// in a table before it has shards there, so what is listed while the table is still mine cannot be another's.
    pub fn collect_orphans_of(&self, mine: &PlanStamp) -> std::result::Result<Orphans, CommitError> {
        self.delete_unnamed(Some(mine), |_| true)
    }

    /// Ends the writing of shards by this process, for a run that another one was faster than, and deletes those files that `mine` names and no log entry. Shards
    /// that are being completed are waited for; all others of this process fail from now on.
    pub fn give_up(&self, mine: impl Fn(&str) -> bool) -> std::result::Result<Orphans, CommitError> {
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        self.delete_unnamed(None, |name| mine(name.strip_suffix(TEMPORARY).unwrap_or(name)))
    }

    fn delete_unnamed(
        &self,
        while_it_is: Option<&PlanStamp>,
        which: impl Fn(&str) -> bool,
    ) -> std::result::Result<Orphans, CommitError> {
        // The files first: one that is committed in between is then named by the log that is read after.
        let ours = self.our_files()?;
        if let Some(mine) = while_it_is {
            let state = self.state()?;
            let other =
                state.plan_hash.as_ref().is_some_and(|hash| *hash != mine.plan_hash || state.generation != mine.generation);
            if other {
                return Ok(Orphans::default());
            }
        }
        let named = self.named_files()?;
        let orphans: Vec<(Path, u64)> =
            ours.into_iter().filter(|(path, _)| path.filename().is_some_and(|n| which(n) && !named.contains(n))).collect();
        let total = Orphans { files: orphans.len() as u64, bytes: orphans.iter().map(|(_, bytes)| bytes).sum() };
        let deleted = block_on(
            stream::iter(orphans.iter().map(|(path, _)| self.location.store.delete(path)))
                .buffer_unordered(REQUESTS_IN_FLIGHT)
                .filter(|done| std::future::ready(!matches!(done, Err(object_store::Error::NotFound { .. }))))
                .try_collect::<Vec<()>>(),
        );
        deleted.map_err(|error| self.storage_error("delete orphans in", self.location.url.as_str(), &error))?;
        Ok(total)
    }

    fn our_files(&self) -> std::result::Result<Vec<(Path, u64)>, CommitError> {
        let listed = block_on(self.location.store.list_with_delimiter(Some(&self.location.base)));
        let listed = listed.map_err(|error| self.storage_error("list", self.location.url.as_str(), &error))?;
        let ours = listed.objects.into_iter().filter(|object| object.location.filename().is_some_and(is_ours));
        Ok(ours.map(|object| (object.location, object.size)).collect())
    }

    /// Every file that any log entry adds or removes.
    pub(crate) fn named_files(&self) -> std::result::Result<HashSet<String>, CommitError> {
        let untrusted = |reason: String| CommitError::Log { table: self.name.clone(), reason };
        let folder = self.location.file("_delta_log");
        let entries: Result<Vec<Path>> =
            block_on(self.location.store.list(Some(&folder)).map_ok(|object| object.location).try_collect());
        let entries = entries.map_err(|error| self.storage_error("list", folder.as_ref(), &error))?;
        let mut entries: Vec<(u64, Path)> =
            entries.into_iter().filter_map(|path| Some((version(path.filename()?)?, path))).collect();
        entries.sort();
        if let Some(gap) = (0..).zip(&entries).find(|(expected, (found, _))| expected != found).map(|(expected, _)| expected) {
            return Err(untrusted(format!("entry {gap} is missing, so it is not known which files older versions have")));
        }
        if entries.is_empty() {
            return Err(untrusted("it has no entries".into()));
        }
        let texts = stream::iter(entries.iter().map(|(version, path)| async move {
            let bytes = self.location.store.get(path).await?.bytes().await?;
            Ok((*version, bytes))
        }));
        let mut named = HashSet::new();
        let mut texts = Box::pin(texts.buffered(REQUESTS_IN_FLIGHT));
        while let Some(text) = block_on(texts.next()) {
            let (version, text) =
                text.map_err(|error: object_store::Error| self.storage_error("read", folder.as_ref(), &error))?;
            add_names(&text, &mut named).map_err(|reason| untrusted(format!("entry {version}: {reason}")))?;
        }
        Ok(named)
    }
}

/// Collects the last part of every path that a log entry names.
fn add_names(entry: &[u8], named: &mut HashSet<String>) -> std::result::Result<(), String> {
    let text = std::str::from_utf8(entry).map_err(|e| e.to_string())?;
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let action: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
        for kind in ["add", "remove"] {
            if let Some(file) = action.get(kind).filter(|file| !file.is_null()) {
                let path = file.get("path").and_then(Value::as_str).ok_or_else(|| format!("an action `{kind}` has no path"))?;
                // Our names have no character that a URL would escape.
                named.insert(path.rsplit('/').next().unwrap_or(path).to_owned());
            }
        }
    }
    Ok(())
}

/// The version of `00000000000000000007.json`.
fn version(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".json")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// `part-ULID-NUMBER.parquet`, complete or not. Other writers of Delta tables use `part-` too, but with other names behind it.
fn is_ours(name: &str) -> bool {
    attempt_of(name.strip_suffix(TEMPORARY).unwrap_or(name), "part-").is_some()
}

/// The attempt in `PREFIXULID-NUMBER.parquet`.
pub(crate) fn attempt_of<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (attempt, number) = name.strip_prefix(prefix)?.strip_suffix(".parquet")?.split_once('-')?;
    let ours = ulid::Ulid::from_string(attempt).is_ok() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    ours.then_some(attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_touched() {
        for ours in ["part-01JD0000000000000000000000-00000.parquet", "part-01JD0000000000000000000000-123456.parquet.tmp"] {
            assert!(is_ours(ours), "{ours}");
        }
        for foreign in [
            "part-00000-6f1d7c1e-5a0f-4c5e-8f2b-0d6c7f0c0d11-c000.snappy.parquet",
            "part-01JD0000000000000000000000-00000.parquet.crc",
            "part-01JD0000000000000000000000-.parquet",
            "clips.parquet",
            "part-0-0.parquet",
        ] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_log_entry_that_is_not_understood_is_an_error() {
        let mut named = HashSet::new();
        add_names(b"{\"add\":{\"path\":\"a/b.parquet\"}}\n{\"remove\":{\"path\":\"c.parquet\"}}\n{\"txn\":{}}\n", &mut named)
            .unwrap();
        assert_eq!(named, HashSet::from(["b.parquet".to_owned(), "c.parquet".to_owned()]));
        for bad in [&b""[..], b"{", b"{\"add\":{}}", b"\xff"] {
            assert!(add_names(bad, &mut named).is_err(), "{bad:?}");
        }
    }
}
