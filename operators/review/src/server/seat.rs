//! A rater's place: the token of the link, the order of the items, the journal, and what this rater has said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::ReviewError;
use crate::journal::Journal;
use crate::mode::Mode;
use crate::rating::{MAX_NOTE_CHARS, Rating, rater_name};
use crate::session::Session;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 16;
/// Tags of a rating.
const MAX_TAGS: usize = 16;

/// What a rater has said: by item and dimension.
type Mine = BTreeMap<(usize, Option<String>), Rating>;

/// A rater's place.
pub struct Seat {
    /// Who sits there.
    pub rater: String,
    /// What the link holds.
    pub token: String,
    /// In which order the items come.
    pub order: Vec<usize>,
    /// Places of items by their names.
    state: Mutex<State>,
}

struct State {
    journal: Journal,
    mine: Mine,
}

/// What the page sends.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// The item's place in the session.
    pub item: usize,
    /// Of pairs: about what.
    pub dimension: Option<String>,
    /// What is said; of pairs `left`, `right` or `both_loss`.
    pub label: String,
    /// What is said besides.
    #[serde(default)]
    pub tags: Vec<String>,
    /// In the rater's own words.
    #[serde(default)]
    pub note: Option<String>,
}

fn token() -> Result<String, ReviewError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|e| ReviewError::at("the system's random numbers", e))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

impl Seat {
    /// Opens the journal of a rater, and goes on where it ends.
    pub fn new(session: &Session, folder: &Path, rater: &str) -> Result<Seat, ReviewError> {
        rater_name(rater).map_err(|what| ReviewError::at("--rater", what))?;
        let (journal, before) = Journal::open(folder, rater)?;
        let places: BTreeMap<(&str, Option<&str>), usize> =
            session.items.iter().enumerate().map(|(at, item)| ((item.id.as_str(), item.opponent.as_deref()), at)).collect();
        let mut mine = Mine::new();
        for rating in before {
            if let Some(&at) = places.get(&(rating.item_id.as_str(), rating.opponent.as_deref())) {
                mine.insert((at, rating.dimension.clone()), rating);
            }
        }
        let (rater, order) = (rater.to_owned(), session.order(rater));
        Ok(Seat { rater, token: token()?, order, state: Mutex::new(State { journal, mine }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this rater has said of an item, by dimension.
    pub fn said(&self, at: usize) -> Vec<Rating> {
        self.state().mine.range((at, None)..(at + 1, None)).map(|(_, rating)| rating.clone()).collect()
    }

    /// Whether this rater is done with each item, in the order in which they come.
    pub fn done(&self, session: &Session) -> Vec<bool> {
        let needed = session.ask.mode.dimensions().len().max(1);
        let state = self.state();
        let said = |at: usize| state.mine.range((at, None)..(at + 1, None)).count();
        self.order.iter().map(|&at| said(at) >= needed).collect()
    }

    /// Keeps what is said; it is on the disk when this returns. Blocking. The error of the outer kind is the page's, that of the inner kind the disk's.
    pub fn keep(&self, session: &Session, said: Said) -> Result<Result<Rating, ReviewError>, String> {
        let mut rating = self.rating(session, said)?;
        let key = |rating: &Rating, at: usize| (at, rating.dimension.clone());
        let mut state = self.state();
        if let Err(e) = state.journal.add(&mut rating.1) {
            return Ok(Err(e));
        }
        let (at, rating) = rating;
        state.mine.insert(key(&rating, at), rating.clone());
        Ok(Ok(rating))
    }

    /// Checks what is said.
    fn rating(&self, session: &Session, said: Said) -> Result<(usize, Rating), String> {
        let mode = session.ask.mode;
        let item = session.items.get(said.item).ok_or_else(|| format!("there is no item {}", said.item))?;
        let dimensions = mode.dimensions();
        match &said.dimension {
            Some(dimension) if !dimensions.contains(&dimension.as_str()) => {
                return Err(format!("`{dimension}` is no dimension here"));
            }
            None if !dimensions.is_empty() => return Err(format!("say about what: {}", dimensions.join(", "))),
            _ => {}
        }
        let label = match mode {
            Mode::Pairwise => self.verdict(session, said.item, &said.label)?,
            _ => said.label,
        };
        if !session.ask.labels().contains(&label) {
            return Err(format!("`{label}` is none of {}", session.ask.labels().join(", ")));
        }
        let mut tags = said.tags;
        tags.sort();
        tags.dedup();
        if let Some(tag) = tags.iter().find(|tag| !mode.tags().contains(&tag.as_str())) {
            return Err(format!("the tag `{tag}` is none of {}", mode.tags().join(", ")));
        }
        if tags.len() > MAX_TAGS {
            return Err(format!("more than {MAX_TAGS} tags"));
        }
        let note = said.note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
        if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS) {
            return Err(format!("the note has more than {MAX_NOTE_CHARS} characters"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let rating = Rating {
            rating_id: ulid::Ulid::generate().to_string(),
            session: session.name.clone(),
            mode,
            plan_hash: session.plan_hash.clone(),
            stage: session.ask.stage.clone(),
            item_id: item.id.clone(),
            outcome: item.outcome,
            opponent: item.opponent.clone(),
            rater: self.rater.clone(),
            dimension: said.dimension,
            label,
            tags,
            note,
            sequence: 0,
            rated_at_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
            sample: number(item.sample),
            population: number(item.population),
        };
        Ok((said.item, rating))
    }

    /// A side as a verdict about our video.
    fn verdict(&self, session: &Session, at: usize, side: &str) -> Result<String, String> {
        let ours = session.ours_is_left(at, &self.rater);
        match side {
            "left" => Ok(if ours { "win" } else { "loss" }.to_owned()),
            "right" => Ok(if ours { "loss" } else { "win" }.to_owned()),
            "both_loss" => Ok("both_loss".to_owned()),
            other => Err(format!("`{other}` is none of left, right, both_loss")),
        }
    }

    /// A verdict about our video as the side that this rater chose.
    pub fn side(&self, session: &Session, at: usize, label: &str) -> String {
        let ours = session.ours_is_left(at, &self.rater);
        match (label, ours) {
            ("win", true) | ("loss", false) => "left".to_owned(),
            ("win", false) | ("loss", true) => "right".to_owned(),
            _ => label.to_owned(),
        }
    }
}
