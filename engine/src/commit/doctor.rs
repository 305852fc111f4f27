//! Can tables live here? Tries what commits, uploads and readers rely on, in a folder of its own that is removed again.
//!
//! Why: the commit is one creation of an object that must not be there yet. A store that takes a second one would let two runs both believe that they
//! committed, and rows would be lost without a word, so a run refuses such a store ([`refuse_unsafe`]) before it lists an input.
//!
//! What can go wrong: the store is away, or may not be written (a check fails, with the store's words); it works but not as it must (a check refuses it).

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::TryStreamExt;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode};
use serde::Serialize;

use super::error::CommitError;
use super::location::{Location, block_on};

/// Writers that create one object at the same time.
const RACERS: u8 = 8;
/// Times that an unclear answer is asked for again.
const TRIES: usize = 3;
/// Bytes of the object that is read by ranges.
const RANGED_BYTES: usize = 100_000;
/// Smallest part of a multipart upload that every store takes, but for the last.
const PART_BYTES: usize = 5 << 20;
/// Bytes of the last part.
const LAST_PART_BYTES: usize = 1_000;
/// Clocks may differ so much before it is said.
const SKEW: Duration = Duration::from_secs(60);

const REMEDY: &str = "two runs could both believe that they committed, and rows would be lost; use a store with conditional writes, as AWS S3, Google \
                      Cloud Storage, Azure Blob Storage, MinIO and Cloudflare R2 have them, or write to a local folder and copy the tables";

/// How a check ended, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it must be.
    Fine,
    /// Works, with a caution.
    Warning,
    /// The store did not do it.
    Failed,
    /// The store does it wrongly: tables must not live here.
    Refused,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen, and what to do.
    pub said: String,
}

/// What a store can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreReport {
    /// Folder or URL.
    pub location: String,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl StoreReport {
    /// The worst of all.
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Fine)
    }
}

enum Trouble {
    Warning(String),
    Refused(String),
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Failed(error)
    }
}

type Said = Result<String, Trouble>;

/// Tries everything at a folder or URL.
pub fn examine(location: &str) -> Result<StoreReport, CommitError> {
    let at = Location::parse(location)?;
    let name = format!("doctor-{}", ulid::Ulid::generate());
    let place = Place { store: Arc::clone(&at.store), folder: at.file("_curette").join(name.as_str()) };
    let findings = block_on(place.all());
    if let Some(folder) = &at.local {
        // A disk keeps empty folders; that one is left is no harm.
        let ours = folder.join("_curette");
        let _ = std::fs::remove_dir_all(ours.join(name)).and_then(|()| std::fs::remove_dir(ours));
    }
    Ok(StoreReport { location: curette_stores::shown(location), findings })
}

/// Refuses a place whose store lets two writers win. Three requests; nothing for a local folder, whose file system decides.
pub fn refuse_unsafe(location: &str) -> Result<(), CommitError> {
    if !curette_stores::is_known(location) {
        return Ok(());
    }
    let at = Location::parse(location)?;
    let path = at.file("_curette").join(format!("probe-{}", ulid::Ulid::generate()));
    let tried = block_on(async {
        let tried = creates_once(&*at.store, &path).await;
        let _ = at.store.delete(&path).await;
        tried
    });
    let location = curette_stores::shown(location);
    match tried {
        Ok(()) => Ok(()),
        Err(Trouble::Refused(reason) | Trouble::Warning(reason)) => {
            Err(CommitError::UnsafeStore { location, reason, help: REMEDY })
        }
        Err(Trouble::Failed(error)) => Err(CommitError::Location {
            location,
            reason: format!("it cannot be written to: {}", curette_stores::words(&error)),
            help: "`curette doctor URL` tries all that a run needs".into(),
        }),
    }
}

/// Creates an object twice: the second time it must be there already, and stay as it is.
async fn creates_once(store: &dyn ObjectStore, path: &Path) -> Result<(), Trouble> {
    let create = async |text: &'static str| store.put_opts(path, text.into(), PutMode::Create.into()).await;
    for left in (0..TRIES).rev() {
        match create("first").await {
            Ok(_) => break,
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                return Err(Trouble::Refused("it cannot create an object only if it is not there".into()));
            }
            // Our own, after a lost answer; or a conflict without a cause, which S3 may answer.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if left > 0 => match store.head(path).await {
                Ok(_) => break,
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    let second = create("second").await;
    let there = store.get(path).await?.bytes().await?;
    match second {
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if there == "first" => Ok(()),
        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
            Err(Trouble::Refused("it says that an object is there already and replaces it all the same".into()))
        }
        Ok(_) => Err(Trouble::Refused("it creates an object that is there already: it ignores `If-None-Match: *`".into())),
        Err(error) => Err(error.into()),
    }
}

struct Place {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Place {
    fn path(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    async fn all(&self) -> Vec<Finding> {
        let before = SystemTime::now();
        let mut findings = vec![finding("write and read", self.writes().await)];
        if findings[0].verdict > Verdict::Warning {
            return findings;
        }
        findings.push(finding("conditional put", self.creates_once().await));
        findings.push(finding("many creators", self.one_of_many_wins().await));
        findings.push(finding("listing", self.lists().await));
        findings.push(finding("range read", self.reads_ranges().await));
        findings.push(finding("multipart upload", self.uploads_parts().await));
        findings.push(finding("clock", self.clock(before).await));
        findings.push(finding("delete", self.cleans_up().await));
        findings
    }

    async fn writes(&self) -> Said {
        let path = self.path("whole");
        self.store.put(&path, "written".into()).await?;
        match self.store.get(&path).await?.bytes().await? == "written" {
            true => Ok("an object is read back as it was written".into()),
            false => Err(Trouble::Refused("an object is read back with other bytes than were written".into())),
        }
    }

    async fn creates_once(&self) -> Said {
        match creates_once(&*self.store, &self.path("created")).await {
            Ok(()) => Ok("the second creation of an object is refused".into()),
            Err(Trouble::Refused(why)) => Err(Trouble::Refused(format!("{why} ({REMEDY})"))),
            Err(other) => Err(other),
        }
    }

    async fn one_of_many_wins(&self) -> Said {
        let path = self.path("raced");
        let racers = (0..RACERS).map(|racer| self.store.put_opts(&path, vec![racer].into(), PutMode::Create.into()));
        let mut winners = Vec::new();
        for (racer, ended) in (0..RACERS).zip(join_all(racers).await) {
            match ended {
                Ok(_) => winners.push(racer),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let there = match self.store.get(&path).await {
            Ok(found) => Some(found.bytes().await?.to_vec()),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match (&winners[..], there) {
            ([winner], Some(there)) if there == [*winner] => Ok(format!("of {RACERS} creations at once exactly one won")),
            // All were told of a conflict, or the winner's answer was lost: a commit would look again.
            ([], _) => Ok(format!("of {RACERS} creations at once none was confirmed; commits look again then")),
            _ => Err(Trouble::Refused(format!("of {RACERS} creations at once {} were confirmed ({REMEDY})", winners.len()))),
        }
    }

    async fn names(&self, folder: &Path) -> Result<BTreeSet<String>, Error> {
        self.store
            .list(Some(folder))
            .map_ok(|object| object.location.filename().unwrap_or_default().to_owned())
            .try_collect()
            .await
    }

    async fn lists(&self) -> Said {
        let folder = self.path("listed");
        let mut expected = BTreeSet::new();
        for name in ["a", "b & c", "c=1"] {
            let path = folder.clone().join(name);
            self.store.put(&path, "x".into()).await?;
            expected.extend(path.filename().map(str::to_owned));
        }
        let seen = self.names(&folder).await?;
        self.store.delete(&folder.clone().join("a")).await?;
        expected.remove("a");
        let after = self.names(&folder).await?;
        match seen.len() == expected.len() + 1 && seen.is_superset(&expected) && after == expected {
            true => Ok("what was just written is listed, what was just deleted is not".into()),
            false => Err(Trouble::Refused(format!(
                "a listing does not show what was just written or deleted (it showed {seen:?}, then {after:?}): a run could take an old version of a \
                 table for the newest"
            ))),
        }
    }

    async fn reads_ranges(&self) -> Said {
        let bytes: Vec<u8> = (0..RANGED_BYTES).map(|i| (i % 251) as u8).collect();
        let path = self.path("ranged");
        self.store.put(&path, bytes.clone().into()).await?;
        let end = RANGED_BYTES as u64;
        let ranges: [Range<u64>; 3] = [0..10, 70_000..90_000, end - 10..end];
        let found = self.store.get_ranges(&path, &ranges).await?;
        let right = ranges.iter().zip(&found).all(|(range, found)| found[..] == bytes[range.start as usize..range.end as usize]);
        match right && found.len() == ranges.len() {
            true => Ok("ranges of an object are read without the rest".into()),
            false => Err(Trouble::Refused("a range of an object is read with other bytes than are there".into())),
        }
    }

    async fn uploads_parts(&self) -> Said {
        let path = self.path("parts");
        let mut upload = self.store.put_multipart(&path).await?;
        upload.put_part(vec![1; PART_BYTES].into()).await?;
        upload.put_part(vec![2; LAST_PART_BYTES].into()).await?;
        upload.complete().await?;
        let seam = PART_BYTES as u64;
        let whole = self.store.head(&path).await?.size == (PART_BYTES + LAST_PART_BYTES) as u64
            && self.store.get_range(&path, seam - 1..seam + 1).await?[..] == [1, 2];
        let given_up = self.path("given-up");
        let mut upload = self.store.put_multipart(&given_up).await?;
        upload.put_part(vec![3; LAST_PART_BYTES].into()).await?;
        upload.abort().await?;
        let gone = matches!(self.store.head(&given_up).await, Err(Error::NotFound { .. }));
        match (whole, gone) {
            (true, true) => Ok("parts become one object at once; an upload that was given up leaves none".into()),
            (true, false) => Err(Trouble::Refused("an upload that was given up is visible as an object".into())),
            (false, _) => Err(Trouble::Refused("the parts of an upload do not become the object that they should".into())),
        }
    }

    async fn clock(&self, before: SystemTime) -> Said {
        let written = self.store.head(&self.path("whole")).await?.last_modified.timestamp_millis();
        let ms =
            |time: SystemTime| i64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX);
        let skew = (ms(before) - written).max(written - ms(SystemTime::now())).max(0);
        match skew > SKEW.as_millis() as i64 {
            false => Ok(format!("the store's clock and this machine's agree to within {} s", SKEW.as_secs())),
            true => Err(Trouble::Warning(format!(
                "the store's clock and this machine's differ by {} s: set this machine's right, or signatures will be refused at 15 minutes",
                skew / 1000
            ))),
        }
    }

    async fn cleans_up(&self) -> Said {
        let objects: Vec<Path> = self.store.list(Some(&self.folder)).map_ok(|object| object.location).try_collect().await?;
        for path in &objects {
            match self.store.delete(path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.names(&self.folder).await?.len() {
            0 => Ok(format!("{} objects were deleted; nothing is left of this examination", objects.len())),
            left => Err(Trouble::Refused(format!("{left} objects are still listed after they were deleted"))),
        }
    }
}

fn finding(check: &'static str, said: Said) -> Finding {
    let (verdict, said) = match said {
        Ok(said) => (Verdict::Fine, said),
        Err(Trouble::Warning(said)) => (Verdict::Warning, said),
        Err(Trouble::Refused(said)) => (Verdict::Refused, said),
        Err(Trouble::Failed(error)) => (Verdict::Failed, curette_stores::words(&error)),
    };
    Finding { check, verdict, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_folder_can_hold_tables_and_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mine"), "x").unwrap();
        let report = examine(dir.path().to_str().unwrap()).unwrap();
        assert_eq!(report.verdict(), Verdict::Fine, "{report:#?}");
        assert_eq!(report.findings.len(), 8);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        refuse_unsafe(dir.path().to_str().unwrap()).unwrap();
    }
}
