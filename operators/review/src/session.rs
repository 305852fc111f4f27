//! The sample that is rated, written down once: the same command again goes on with it, whatever the tables have become since.
//!
//! A session's name holds what was asked for and the plan whose rows were drawn, so another question is another session. What can go wrong: a kill while it is
//! written; it is put in its place as a whole.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::mode::Mode;
use crate::rating::Outcome;
use crate::rows::{Media, details};
use crate::stage::{Output, Reason, Wish};
use crate::{ReviewError, key};

/// More items are not laid out for people.
pub const MAX_ITEMS: usize = 100_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// What raters are asked.
    pub mode: Mode,
    /// The step whose rows are looked at; `files` where there is none.
    pub stage: String,
    /// Draws.
    pub seed: u64,
    /// Rows that the stage kept, or files.
    pub count: usize,
    /// Rows that it dropped.
    pub rejected: usize,
    /// Classes of [`Mode::Label`].
    pub classes: Vec<String>,
    /// The rows whose value in this column is nearest to that number come first.
    pub nearest: Option<(String, f64)>,
    /// Of pairs: whom our videos are compared with, and where theirs are.
    pub against: Vec<(String, PathBuf)>,
}

/// Something to rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its name in the table or folder.
    pub id: String,
    /// Which side of the stage it is on.
    pub outcome: Outcome,
    /// Why it was dropped.
    pub reason: Option<Reason>,
    /// Of pairs: whom ours is compared with; raters do not see it.
    pub opponent: Option<String>,
    /// What is known of it.
    pub details: Map<String, Value>,
    /// What is looked at; of pairs ours, then theirs.
    pub media: Vec<Media>,
    /// Items of this outcome in the sample.
    pub sample: u64,
    /// What they were drawn from.
    pub population: u64,
}

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its folder's name.
    pub name: String,
    /// What was asked for.
    pub ask: Ask,
    /// The plan whose rows were drawn, or a hash of the files.
    pub plan_hash: String,
    /// What was drawn.
    pub items: Vec<Item>,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Items, and what people should know.
pub type Drawn = (Vec<Item>, Vec<String>);

/// Not yet drawn.
pub struct Source<'a> {
    /// The plan whose rows are drawn, or a hash of the files.
    pub plan_hash: String,
    /// Draws; only called for a new session.
    pub draw: Box<dyn FnOnce() -> Result<Drawn, ReviewError> + 'a>,
}

impl Ask {
    /// The name of a session that asks this of a plan's rows.
    fn name(&self, plan_hash: &str) -> String {
        let asked = serde_json::to_string(self).unwrap_or_default();
        let hash = blake3::Hash::from_bytes(key(self.seed, &[&asked, plan_hash])).to_hex();
        let stage: String =
            self.stage.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(60).collect();
        format!("{}-{stage}-{}", self.mode, &hash[..12])
    }

    /// The labels that may be given, from best to worst where they have an order.
    pub fn labels(&self) -> Vec<String> {
        match self.mode {
            Mode::Label => self.classes.clone(),
            mode => mode.labels().iter().map(|label| (*label).to_owned()).collect(),
        }
    }
}

impl Session {
    /// Reads the session below a folder, or draws it.
    pub fn open(root: &Path, ask: Ask, source: Source) -> Result<Session, ReviewError> {
        let name = ask.name(&source.plan_hash);
        let folder = root.join(&name);
        let path = folder.join("session.json");
        let err = |e: &dyn std::fmt::Display| ReviewError::at(path.display(), e);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let session: Session = serde_json::from_slice(&bytes).map_err(|e| err(&e))?;
                if session.ask != ask || session.plan_hash != source.plan_hash {
                    return Err(err(&"belongs to another question; move its folder away"));
                }
                return Ok(session);
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(err(&e)),
        }
        let (items, notes) = (source.draw)()?;
        if items.is_empty() {
            return Err(ReviewError::at(root.display(), format!("there is nothing to rate at `{}`", ask.stage)));
        }
        let session = Session { name, ask, plan_hash: source.plan_hash, items, notes };
        let bytes = serde_json::to_vec(&session).map_err(|e| err(&e))?;
        std::fs::create_dir_all(&folder).map_err(|e| err(&e))?;
        let unfinished = folder.join("session.tmp");
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&unfinished)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            std::fs::File::open(&folder)?.sync_all()?;
            std::fs::File::open(root)?.sync_all()
        };
        write().map_err(|e| err(&e))?;
        Ok(session)
    }

    /// Its folder.
    pub fn folder(&self, root: &Path) -> PathBuf {
        root.join(&self.name)
    }

    /// In which order a rater sees the items: each in another one, so that tiredness is nobody's in particular.
    pub fn order(&self, rater: &str) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        if self.ask.nearest.is_none() {
            order.sort_by_cached_key(|&at| {
                let item = &self.items[at];
                key(self.ask.seed, &["order", rater, &item.id, item.opponent.as_deref().unwrap_or_default()])
            });
        }
        order
    }

    /// Whether a rater sees our video of a pair on the left.
    pub fn ours_is_left(&self, at: usize, rater: &str) -> bool {
        let item = &self.items[at];
        key(self.ask.seed, &["side", rater, &item.id, item.opponent.as_deref().unwrap_or_default()])[0] & 1 == 0
    }
}

/// Rows of a stage of a pipeline.
pub fn of_output<'a>(output: &'a Output, wish: Wish<'a>) -> Source<'a> {
    let plan_hash = output.plan_hash.as_str().to_owned();
    let draw = Box::new(move || -> Result<Drawn, ReviewError> {
        let sample = output.draw(&wish)?;
        let (kept, rejected) = (sample.kept.len() as u64, sample.rejected.len() as u64);
        let ids: Vec<String> = sample.kept.iter().chain(sample.rejected.iter().map(|(id, _)| id)).cloned().collect();
        let found = details(&output.sinks, sample.id_column, &ids)?;
        let mut reasons = sample.rejected.into_iter().map(|(_, reason)| reason);
        let mut items = Vec::new();
        for (at, (id, found)) in ids.into_iter().zip(found).enumerate() {
            let is_kept = (at as u64) < kept;
            items.push(Item {
                id,
                outcome: if is_kept { Outcome::Kept } else { Outcome::Rejected },
                reason: if is_kept { None } else { reasons.next() },
                opponent: None,
                details: found.details,
                media: found.media.into_iter().collect(),
                sample: if is_kept { kept } else { rejected },
                population: if is_kept { sample.kept_of } else { sample.rejected_of },
            });
        }
        let mut notes = sample.notes;
        let blind = items.iter().filter(|item| item.media.is_empty()).count();
        if blind > 0 {
            notes.push(format!(
                "{blind} of {} rows have no clip to show: no table names one. Let a `parquet` step write `video_uri`, `start_us` and `end_us`, or `clip`",
                items.len()
            ));
        }
        Ok((items, notes))
    });
    Source { plan_hash, draw }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn ask(mode: Mode) -> Ask {
        Ask {
            mode,
            stage: "files".into(),
            seed: 1,
            count: 10,
            rejected: 0,
            classes: Vec::new(),
            nearest: None,
            against: Vec::new(),
        }
    }

    fn items(n: usize) -> Vec<Item> {
        let item = |at: usize| Item {
            id: format!("i{at}"),
            outcome: Outcome::Given,
            reason: None,
            opponent: None,
            details: Map::new(),
            media: Vec::new(),
            sample: n as u64,
            population: n as u64,
        };
        (0..n).map(item).collect()
    }

    fn source<'a>(plan: &str, n: usize) -> Source<'a> {
        Source { plan_hash: plan.into(), draw: Box::new(move || Ok((items(n), Vec::new()))) }
    }

    #[test]
    fn a_session_is_drawn_once_and_another_question_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Session::open(dir.path(), ask(Mode::Audit), source("p", 40)).unwrap();
        assert_eq!(Session::open(dir.path(), ask(Mode::Audit), source("p", 7)).unwrap(), first, "it stays");
        let other = Session::open(dir.path(), ask(Mode::Audit), source("q", 7)).unwrap();
        assert!(other.name != first.name && other.items.len() == 7);
        Session::open(dir.path(), ask(Mode::Caption), source("p", 0)).unwrap_err();
        let (a, b) = (first.order("A"), first.order("B"));
        assert!(a != b && a == first.order("A"));
        let mut sorted = a;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40).collect::<Vec<_>>());
        let left = (0..40).filter(|&at| first.ours_is_left(at, "A")).count();
        assert!((5..=35).contains(&left), "sides are shuffled: {left}");
    }
}
