//! The `keyword_filter`: keeps rows whose title, description or tags name enough terms of one or more dictionaries.
//!
//! Why so early: it costs microseconds and drops most of a broad crawl before anything is decoded. MedGen selects its videos so; its dictionary and
//! matching rule are unpublished, ours are in [`super::keywords`] and `datasets/medical_terms.txt`. Reading the dictionaries is in
//! [`super::dictionaries`], the decision in [`super::keyword_rules`].
//!
//! What can go wrong: a dictionary with everyday words lets everything pass. `curette ops keyword_filter --lint` names such words;
//! `keyword_hit_places` says of each row that was kept why.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, ListBuilder, RecordBatch, StringBuilder, StructBuilder};
use arrow::datatypes::{DataType, Field, Fields};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dictionaries::{Dictionaries, INLINE, MAIN, load};
use super::keyword_rules::{Found, Rules};
use super::keywords::Scratch;

/// Keeps rows in which at least `min_hits` distinct dictionary terms occur as whole words.
///
/// Text and terms are compared in NFKC, without case, with blanks collapsed; a term counts when no letter or digit touches it. The fields are
/// searched one by one, so a phrase never spans two of them.
///
/// A line of a dictionary that starts with `!` is an exclusion: terms that lie inside of it do not count there, so with `!surgical strike` the words
/// "a surgical strike" have no hit for `surgical`, and "surgical strike injury" still has one for `strike injury`. A line that starts with `!!` is a
/// veto: a row with it is dropped. Both hold for all dictionaries of the step. `curette ops keyword_filter --lint FILE` says what is wrong with a
/// dictionary.
///
/// Reject codes: `vetoed`; `too_few_keyword_hits` (measured: distinct terms found; threshold: `min_hits`); `too_few_hits_in_field`,
/// `too_few_hits_of_dictionary` (the same for one field or dictionary); `low_keyword_score` (measured: `keyword_score`; threshold: `min_score`).
/// Unmeasured code: `no_text` (all fields are null: nothing is known about the video, which is not the same as knowing that it is off topic).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeywordFilter {
    /// Text file with one term per line; `#` starts a comment, `!` an exclusion, `!!` a veto. Its name in `keyword_hit_places` is `dictionary`.
    #[serde(default)]
    pub dictionary: Option<String>,
    /// Further dictionaries by name: `{ anatomy = "anatomy.txt", devices = "devices.txt" }`. A term may be in several.
    #[serde(default)]
    pub dictionaries: BTreeMap<String, String>,
    /// Terms, in addition to those of the dictionaries. The name of this list is `terms`.
    #[serde(default)]
    pub terms: Vec<String>,
    /// Exclusions, in addition to those of the dictionaries: terms inside of one do not count there.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Vetoes, in addition to those of the dictionaries: a row with one is dropped.
    #[serde(default)]
    pub veto: Vec<String>,
    /// Text columns (or lists of text) to search.
    #[serde(default = "fields")]
    pub fields: Vec<String>,
    /// Distinct terms that must occur, over all fields and dictionaries.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_hits: u32,
    /// Distinct terms that must occur in single fields: `{ title = 1 }`.
    #[serde(default)]
    pub min_hits_by_field: BTreeMap<String, u32>,
    /// Distinct terms that must occur of single dictionaries: `{ anatomy = 1, devices = 1 }`.
    #[serde(default)]
    pub min_hits_by_dictionary: BTreeMap<String, u32>,
    /// What a hit in a field is worth, 1 where nothing is said: `{ title = 3.0, tags = 0.5 }`. A term counts once, where it is worth most.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
    /// The least sum of worths (`keyword_score`). Default: no such limit.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub min_score: Option<f64>,
}

fn fields() -> Vec<String> {
    ["title", "description", "tags"].map(String::from).to_vec()
}
fn one() -> u32 {
    1
}
fn string_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}
fn place_fields() -> Fields {
    ["term", "field", "dictionary"].map(|name| Field::new(name, DataType::Utf8, true)).into_iter().collect()
}
fn place_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(place_fields()), true)))
}

impl KeywordFilter {
    /// Names of the dictionaries, in the order of the bits of a term.
    pub(super) fn dictionary_names(&self) -> Vec<String> {
        let main = self.dictionary.iter().map(|_| MAIN.to_owned());
        let inline = (!self.terms.is_empty()).then(|| INLINE.to_owned());
        main.chain(self.dictionaries.keys().cloned()).chain(inline).collect()
    }

    fn has_terms(&self) -> bool {
        !self.dictionary_names().is_empty()
    }

    /// Names in a table that stand for nothing.
    fn strangers<'a, V>(table: &'a BTreeMap<String, V>, known: &[String]) -> Vec<&'a String> {
        table.keys().filter(|name| !known.contains(name)).collect()
    }
}

impl Operator for KeywordFilter {
    const NAME: &'static str = "keyword_filter";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str = "[step.medical]\ntype = \"keyword_filter\"\ninputs = [\"videos\"]\nterms = [\"surgery\", \"ultrasound\", \"heart failure\"]\nexclude = [\"plastic surgery simulator\"]\nweights = { title = 2.0 }\nmin_hits = 1\n";

    fn columns(&self) -> Columns {
        let columns = self.fields.iter().fold(Columns::none(), |c, field| c.need(field, &[DataType::Utf8, string_list()]));
        columns
            .add("keyword_hits", string_list(), "Distinct dictionary terms found, case-folded, sorted.")
            .add("keyword_hit_count", DataType::Int32, "How many distinct terms were found.")
            .add("keyword_score", DataType::Float64, "Sum over the distinct terms of the greatest weight of a field that names it; 1 each without `weights`.")
            .add(
                "keyword_hit_places",
                place_list(),
                "Where each term was found: `term`, `field`, and `dictionary`, once for each dictionary that holds the term; in the order of `fields`, then sorted.",
            )
    }

    fn rows_per_task(&self) -> usize {
        4096
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if !self.has_terms() {
            let help = Some("set `dictionary` to a text file with one term per line, or list some `terms`".to_string());
            check.error(None, Code::MissingKey, "neither `dictionary` nor `terms` is given".into(), help);
        }
        if self.fields.is_empty() {
            let help = Some("leave the key out to search title, description and tags".to_string());
            check.error(Some("fields"), Code::OutOfRange, "`fields` is empty".into(), help);
        }
        for (index, field) in self.fields.iter().enumerate() {
            if self.fields[..index].contains(field) {
                check.error(Some("fields"), Code::Contradiction, format!("column `{field}` is named twice"), None);
            }
        }
        for name in self.dictionaries.keys().filter(|name| [MAIN, INLINE].contains(&name.as_str())) {
            let message = format!("a dictionary cannot be called `{name}`: that is the name of the key `{name}`");
            check.error(Some("dictionaries"), Code::Contradiction, message, None);
        }
        let names = self.dictionary_names();
        for (key, known, strangers, what) in [
            ("weights", &self.fields, Self::strangers(&self.weights, &self.fields), "one of `fields`"),
            ("min_hits_by_field", &self.fields, Self::strangers(&self.min_hits_by_field, &self.fields), "one of `fields`"),
            (
                "min_hits_by_dictionary",
                &names,
                Self::strangers(&self.min_hits_by_dictionary, &names),
                "a dictionary of this step",
            ),
        ] {
            for name in strangers {
                let help = (!known.is_empty()).then(|| format!("there are: {}", known.join(", ")));
                check.error(Some(key), Code::Contradiction, format!("`{name}` is not {what}"), help);
            }
        }
        for (name, weight) in self.weights.iter().filter(|(_, weight)| !(weight.is_finite() && **weight >= 0.0)) {
            let message = format!("the weight of `{name}` is {weight}; it must be 0 or more");
            check.error(Some("weights"), Code::OutOfRange, message, None);
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        // A dictionary that is missing is reported by the engine, which knows it from `files`.
        let missing = self.files(check.paths()).iter().any(|file| !file.path.is_file());
        if missing || !self.has_terms() {
            return;
        }
        if let Err((key, message)) = load(self, check.paths()) {
            let help = key.starts_with("dictionar").then(|| "one term per line; `#` starts a comment".to_string());
            check.error(Some(key), Code::BadModel, message, help);
        }
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        let main = self.dictionary.iter().map(|file| ("dictionary", file));
        let all = main.chain(self.dictionaries.values().map(|file| ("dictionaries", file)));
        all.map(|(key, file)| FileRef { key, path: paths.resolve(file) }).collect()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let dictionaries =
            load(self, context.paths).map_err(|(_, m)| OperatorError::new(format!("step {}: {m}", context.step)))?;
        let rules = Rules::of(self, &dictionaries.names);
        Ok(Runtime::Transform(Box::new(Filter { dictionaries, rules, fields: self.fields.clone() })))
    }
}

struct Filter {
    dictionaries: Dictionaries,
    rules: Rules,
    fields: Vec<String>,
}

/// The new columns, row by row.
struct Made {
    terms: ListBuilder<StringBuilder>,
    counts: Vec<Option<i32>>,
    scores: Vec<Option<f64>>,
    places: ListBuilder<StructBuilder>,
}

impl Made {
    fn new(rows: usize) -> Made {
        let places = StructBuilder::from_fields(place_fields(), 0);
        Made {
            terms: ListBuilder::new(StringBuilder::new()),
            counts: Vec::with_capacity(rows),
            scores: Vec::with_capacity(rows),
            places: ListBuilder::new(places),
        }
    }

    fn nothing(&mut self) {
        self.terms.append_null();
        self.counts.push(None);
        self.scores.push(None);
        self.places.append_null();
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.terms.finish()),
            Arc::new(Int32Array::from(self.counts)),
            Arc::new(Float64Array::from(self.scores)),
            Arc::new(self.places.finish()),
        ]
    }
}

impl Transform for Filter {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let columns: Vec<&ArrayRef> = self
            .fields
            .iter()
            .map(|name| {
                rows.column_by_name(name)
                    .ok_or_else(|| OperatorError::new(format!("step {}: there is no column `{name}`", task.step)))
            })
            .collect::<Result<_, _>>()?;
        let mut made = Made::new(rows.num_rows());
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let (mut scratch, mut found) = (Scratch::default(), Found::default());
        for row in 0..rows.num_rows() {
            if task.is_cancelled() {
                made.nothing();
                verdicts.push(Verdict::unmeasured("cancelled", "the run is being stopped"));
                continue;
            }
            found.clear();
            for (field, column) in columns.iter().enumerate().filter(|(_, column)| column.is_valid(row)) {
                found.has_text = true;
                for_each_text(column.as_ref(), row, &mut |text| {
                    self.dictionaries.keywords.find(text, &mut scratch, found.field(field))
                });
            }
            if !found.has_text {
                made.nothing();
                let message = format!("{} are all null: there is no text to search", self.fields.join(", "));
                verdicts.push(Verdict::unmeasured("no_text", message));
                continue;
            }
            found.settle(self.dictionaries.keywords.patterns());
            verdicts.push(self.rules.judge(&found, self.dictionaries.keywords.patterns()));
            self.write(&found, &mut made);
        }
        Ok(Processed::rows(verdicts, made.finish()))
    }
}

impl Filter {
    fn write(&self, found: &Found, made: &mut Made) {
        let patterns = self.dictionaries.keywords.patterns();
        made.counts.push(i32::try_from(found.terms().len()).ok());
        made.scores.push(Some(self.rules.score(found)));
        for &term in found.terms() {
            made.terms.values().append_value(&patterns[term].text);
        }
        made.terms.append(true);
        for (field, terms) in found.by_field() {
            for &term in terms {
                for (bit, dictionary) in self.dictionaries.names.iter().enumerate() {
                    if patterns[term].dictionaries >> bit & 1 == 0 {
                        continue;
                    }
                    let place = made.places.values();
                    for (at, value) in [&patterns[term].text, &self.fields[field], dictionary].into_iter().enumerate() {
                        if let Some(values) = place.field_builder::<StringBuilder>(at) {
                            values.append_value(value);
                        }
                    }
                    place.append(true);
                }
            }
        }
        made.places.append(true);
    }
}

/// Calls `f` with each text in a valid cell: the cell itself, or the elements of its list.
fn for_each_text(column: &dyn Array, row: usize, f: &mut dyn FnMut(&str)) {
    if let Some(texts) = column.as_string_opt::<i32>() {
        f(texts.value(row));
    } else if let Some(lists) = column.as_list_opt::<i32>()
        && let Some(texts) = lists.values().as_string_opt::<i32>()
    {
        let offsets = lists.value_offsets();
        (offsets[row] as usize..offsets[row + 1] as usize).filter(|&i| texts.is_valid(i)).for_each(|i| f(texts.value(i)));
    }
}

#[cfg(test)]
#[path = "keyword_filter_tests.rs"]
mod tests;
