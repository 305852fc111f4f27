//! One rating: what a person said of one item, and everything that is needed to count it without looking elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::mode::Mode;

/// Characters of a note.
pub const MAX_NOTE_CHARS: usize = 2_000;
/// Characters of a rater's name.
pub const MAX_RATER_CHARS: usize = 64;

/// Which side of a stage an item is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The stage let it pass.
    Kept,
    /// The stage dropped it.
    Rejected,
    /// There is no stage: a file of a folder.
    Given,
}

impl Outcome {
    /// As in the table.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::Rejected => "rejected",
            Outcome::Given => "given",
        }
    }

    fn of(text: &str) -> Outcome {
        match text {
            "kept" => Outcome::Kept,
            "rejected" => Outcome::Rejected,
            _ => Outcome::Given,
        }
    }
}

/// A rating, as a journal's line and a table's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// Unique: a row that is committed twice is noticed by it.
    pub rating_id: String,
    /// The sample that it belongs to.
    pub session: String,
    /// What was asked.
    pub mode: Mode,
    /// The plan whose rows were looked at; of folders a hash of their files.
    pub plan_hash: String,
    /// The step whose rows were looked at; of folders `files`.
    pub stage: String,
    /// The row.
    pub item_id: String,
    /// Which side of the stage it is on.
    pub outcome: Outcome,
    /// Of pairs: whom ours was compared with.
    pub opponent: Option<String>,
    /// Who says it.
    pub rater: String,
    /// Of pairs: about what.
    pub dimension: Option<String>,
    /// What is said.
    pub label: String,
    /// What is said besides.
    pub tags: Vec<String>,
    /// In the rater's own words.
    pub note: Option<String>,
    /// Grows with each rating of a rater in a session: the last one about an item counts.
    pub sequence: i64,
    /// When, in microseconds since 1970.
    pub rated_at_us: i64,
    /// Items of this outcome in the sample.
    pub sample: i64,
    /// Rows of this outcome that the sample was drawn from.
    pub population: i64,
}

const TEXTS: [&str; 12] = [
    "rating_id",
    "session",
    "mode",
    "plan_hash",
    "stage",
    "item_id",
    "outcome",
    "opponent",
    "rater",
    "dimension",
    "label",
    "note",
];
const NUMBERS: [&str; 4] = ["sequence", "rated_at_us", "sample", "population"];

/// The columns of the table `ratings`.
pub fn schema() -> SchemaRef {
    let texts = TEXTS.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    let numbers = NUMBERS.iter().map(|name| Field::new(*name, DataType::Int64, true));
    let tags = Field::new_list("tags", Field::new("element", DataType::Utf8, true), true);
    Arc::new(Schema::new(texts.chain([tags]).chain(numbers).collect::<Vec<_>>()))
}

impl Rating {
    fn text(&self, name: &str) -> Option<&str> {
        match name {
            "rating_id" => Some(&self.rating_id),
            "session" => Some(&self.session),
            "mode" => Some(self.mode.name()),
            "plan_hash" => Some(&self.plan_hash),
            "stage" => Some(&self.stage),
            "item_id" => Some(&self.item_id),
            "outcome" => Some(self.outcome.name()),
            "opponent" => self.opponent.as_deref(),
            "rater" => Some(&self.rater),
            "dimension" => self.dimension.as_deref(),
            "label" => Some(&self.label),
            _ => self.note.as_deref(),
        }
    }

    fn number(&self, name: &str) -> i64 {
        match name {
            "sequence" => self.sequence,
            "rated_at_us" => self.rated_at_us,
            "sample" => self.sample,
            _ => self.population,
        }
    }

    /// What a later rating of the same rater takes the place of.
    fn about(&self) -> (&str, &str, &str, Option<&str>, Option<&str>, &str) {
        let dimension = self.dimension.as_deref();
        (self.mode.name(), &self.plan_hash, &self.item_id, self.opponent.as_deref(), dimension, &self.rater)
    }
}

/// Ratings as rows.
pub fn batch(ratings: &[Rating]) -> Result<RecordBatch, String> {
    let mut columns: Vec<ArrayRef> = Vec::new();
    for name in TEXTS {
        columns.push(Arc::new(ratings.iter().map(|r| r.text(name)).collect::<StringArray>()));
    }
    let field = Field::new("element", DataType::Utf8, true);
    let mut tags = ListBuilder::new(StringBuilder::new()).with_field(field);
    for rating in ratings {
        rating.tags.iter().for_each(|tag| tags.values().append_value(tag));
        tags.append(true);
    }
    columns.push(Arc::new(tags.finish()));
    for name in NUMBERS {
        columns.push(Arc::new(Int64Array::from_iter_values(ratings.iter().map(|r| r.number(name)))));
    }
    RecordBatch::try_new(schema(), columns).map_err(|e| e.to_string())
}

/// Rows as ratings.
pub fn of_batch(batch: &RecordBatch) -> Result<Vec<Rating>, String> {
    let missing = |name: &str| format!("has no column `{name}` of the expected type; it is not a table of ratings");
    let text =
        |name: &str| batch.column_by_name(name).and_then(|c| c.as_string_opt::<i32>()).cloned().ok_or_else(|| missing(name));
    let texts: BTreeMap<&str, StringArray> =
        TEXTS.iter().map(|name| text(name).map(|c| (*name, c))).collect::<Result<_, String>>()?;
    let number = |name: &str| {
        batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).cloned().ok_or_else(|| missing(name))
    };
    let numbers = NUMBERS.map(number);
    let [sequence, rated_at_us, sample, population] = numbers;
    let (sequence, rated_at_us, sample, population) = (sequence?, rated_at_us?, sample?, population?);
    let tags = batch.column_by_name("tags").and_then(|c| c.as_list_opt::<i32>()).ok_or_else(|| missing("tags"))?;
    let row = |i: usize| -> Result<Rating, String> {
        let maybe = |name: &str| texts.get(name).filter(|c| c.is_valid(i)).map(|c| c.value(i).to_owned());
        let need = |name: &str| maybe(name).ok_or_else(|| format!("row {i}: `{name}` is null"));
        let said = tags.value(i);
        let said = said.as_string_opt::<i32>().ok_or_else(|| missing("tags"))?;
        Ok(Rating {
            rating_id: need("rating_id")?,
            session: need("session")?,
            mode: need("mode")?.parse()?,
            plan_hash: need("plan_hash")?,
            stage: need("stage")?,
            item_id: need("item_id")?,
            outcome: Outcome::of(&need("outcome")?),
            opponent: maybe("opponent"),
            rater: need("rater")?,
            dimension: maybe("dimension"),
            label: need("label")?,
            tags: said.iter().flatten().map(str::to_owned).collect(),
            note: maybe("note"),
            sequence: sequence.value(i),
            rated_at_us: rated_at_us.value(i),
            sample: sample.value(i),
            population: population.value(i),
        })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// The ratings that count: of each rater the last one about each item, in the order of items and raters.
pub fn latest(ratings: &[Rating]) -> Vec<&Rating> {
    let mut last: BTreeMap<_, &Rating> = BTreeMap::new();
    for rating in ratings {
        let slot = last.entry(rating.about()).or_insert(rating);
        if (rating.rated_at_us, rating.sequence) >= (slot.rated_at_us, slot.sequence) {
            *slot = rating;
        }
    }
    last.into_values().collect()
}

/// Whether a rater may be called so: names are file names, too.
pub fn rater_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || ['_', '-', '.'].contains(&c);
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= MAX_RATER_CHARS && name.chars().all(fine) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is no name of a rater: 1 to {MAX_RATER_CHARS} letters, digits, `_`, `-` and `.`, the first a letter or a digit"
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn rating(item: &str, rater: &str, label: &str) -> Rating {
        Rating {
            rating_id: ulid::Ulid::generate().to_string(),
            session: "audit-clean-0".into(),
            mode: Mode::Audit,
            plan_hash: "p".into(),
            stage: "clean".into(),
            item_id: item.into(),
            outcome: Outcome::Kept,
            opponent: None,
            rater: rater.into(),
            dimension: None,
            label: label.into(),
            tags: vec!["border".into()],
            note: None,
            sequence: 0,
            rated_at_us: 1,
            sample: 4,
            population: 10,
        }
    }

    proptest! {
        #[test]
        fn rows_come_back(texts in proptest::collection::vec(("\\PC{0,8}", proptest::option::of("\\PC{0,8}"), 0i64..9), 0..6)) {
            let made: Vec<Rating> = texts
                .into_iter()
                .map(|(item, note, n)| Rating {
                    note: note.clone(), dimension: note, sequence: n, tags: vec![item.clone(); n as usize % 3], ..rating(&item, "A", "clean")
                })
                .collect();
            prop_assert_eq!(of_batch(&batch(&made).unwrap()).unwrap(), made);
        }
    }

    #[test]
    fn the_last_word_about_an_item_counts_whatever_order_rows_come_in() {
        let first = Rating { sequence: 1, ..rating("a", "A", "noisy") };
        let second = Rating { sequence: 2, ..rating("a", "A", "clean") };
        let other = rating("a", "B", "noisy");
        for order in [[&first, &second, &other], [&second, &other, &first]] {
            let all: Vec<Rating> = order.into_iter().cloned().collect();
            let labels: Vec<&str> = latest(&all).iter().map(|r| r.label.as_str()).collect();
            assert_eq!(labels, ["clean", "noisy"]);
        }
    }

    #[test]
    fn names_of_raters_are_names_of_files() {
        for good in ["A", "dr.who", "rater-2_b"] {
            rater_name(good).unwrap();
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "-a", "é", &"x".repeat(65)] {
            rater_name(bad).unwrap_err();
        }
    }
}
