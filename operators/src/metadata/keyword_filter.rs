//! The `keyword_filter`: keeps rows whose title, description or tags name enough terms of a dictionary.
//!
//! Why so early: it costs microseconds and drops most of a broad crawl before anything is decoded. MedGen selects its videos so; its dictionary and
//! matching rule are unpublished, ours are in [`super::keywords`] and `datasets/medical_terms.txt`.
//!
//! What can go wrong: a dictionary with everyday words lets everything pass. Look at `keyword_hits` of what was kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keywords::{Keywords, KeywordsError, MAX_TERM_BYTES, lines};

/// Keeps rows in which at least `min_hits` distinct dictionary terms occur as whole words.
///
/// Text and terms are compared in NFKC, without case, with blanks collapsed; a term counts when no letter or digit touches it. The fields are searched
/// one by one, so a phrase never spans two of them.
///
/// Reject code: `too_few_keyword_hits` (measured: distinct terms found; threshold: `min_hits`). Unmeasured code: `no_text` (all fields are null: nothing is
/// known about the video, which is not the same as knowing that it is off topic).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeywordFilter {
    /// Text file with one term per line; `#` starts a comment.
    #[serde(default)]
    pub dictionary: Option<String>,
    /// Terms, in addition to those of the dictionary.
    #[serde(default)]
    pub terms: Vec<String>,
    /// Text columns (or lists of text) to search.
    #[serde(default = "fields")]
    pub fields: Vec<String>,
    /// Distinct terms that must occur.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_hits: u32,
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

impl KeywordFilter {
    /// The terms of dictionary and `terms`; else the key that is at fault, and why.
    fn load(&self, paths: &Paths) -> Result<Keywords, (&'static str, String)> {
        let text = match &self.dictionary {
            Some(dictionary) => {
                let path = paths.resolve(dictionary);
                std::fs::read_to_string(&path).map_err(|e| ("dictionary", format!("dictionary {}: {e}", path.display())))?
            }
            None => String::new(),
        };
        let inline = || self.terms.iter().enumerate().map(|(i, term)| (i + 1, term.as_str()));
        Keywords::new(lines(&text).chain(inline())).map_err(|both| {
            // Whichever is wrong alone is at fault; both together can only be too many.
            if let (Some(dictionary), Err(e)) = (&self.dictionary, Keywords::new(lines(&text)))
                && (e != KeywordsError::Empty || self.terms.is_empty())
            {
                return ("dictionary", format!("dictionary `{dictionary}`: {e}"));
            }
            match both {
                KeywordsError::NoWord { line, term } => {
                    ("terms", format!("`terms`: entry {line}: `{term}` has no letter or digit"))
                }
                KeywordsError::TooLong { line, bytes } => {
                    ("terms", format!("`terms`: entry {line}: a term of {bytes} bytes; the limit is {MAX_TERM_BYTES}"))
                }
                e @ (KeywordsError::Empty | KeywordsError::TooMany(_) | KeywordsError::Automaton(_)) => {
                    ("terms", format!("`terms`: {e}"))
                }
            }
        })
    }
}

impl Operator for KeywordFilter {
    const NAME: &'static str = "keyword_filter";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.medical]\ntype = \"keyword_filter\"\ninputs = [\"videos\"]\nterms = [\"surgery\", \"ultrasound\", \"heart failure\"]\nmin_hits = 1\n";

    fn columns(&self) -> Columns {
        let columns = self.fields.iter().fold(Columns::none(), |c, field| c.need(field, &[DataType::Utf8, string_list()]));
        columns.add("keyword_hits", string_list(), "Distinct dictionary terms found, case-folded, sorted.").add(
            "keyword_hit_count",
            DataType::Int32,
            "How many distinct terms were found.",
        )
    }

    fn rows_per_task(&self) -> usize {
        512
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.dictionary.is_none() && self.terms.is_empty() {
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
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        // A dictionary that is missing is reported by the engine, which knows it from `files`.
        let missing = self.dictionary.as_ref().is_some_and(|d| !check.paths().resolve(d).is_file());
        if missing || (self.dictionary.is_none() && self.terms.is_empty()) {
            return;
        }
        if let Err((key, message)) = self.load(check.paths()) {
            let help = (key == "dictionary").then(|| "one term per line; `#` starts a comment".to_string());
            check.error(Some(key), Code::BadModel, message, help);
        }
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        self.dictionary.iter().map(|d| FileRef { key: "dictionary", path: paths.resolve(d) }).collect()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let keywords = self.load(context.paths).map_err(|(_, m)| OperatorError::new(format!("step {}: {m}", context.step)))?;
        Ok(Runtime::Transform(Box::new(Filter { keywords, fields: self.fields.clone(), min_hits: self.min_hits })))
    }
}

struct Filter {
    keywords: Keywords,
    fields: Vec<String>,
    min_hits: u32,
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
        let mut lists = ListBuilder::new(StringBuilder::new());
        let mut counts = Vec::with_capacity(rows.num_rows());
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            if task.is_cancelled() {
                lists.append_null();
                counts.push(None);
                verdicts.push(Verdict::unmeasured("cancelled", "the run is being stopped"));
                continue;
            }
            let mut hits = BTreeSet::new();
            let mut has_text = false;
            for column in &columns {
                for_each_text(column.as_ref(), row, &mut |text| {
                    has_text = true;
                    self.keywords.find(text, &mut hits);
                });
                has_text |= column.is_valid(row);
            }
            if !has_text {
                lists.append_null();
                counts.push(None);
                let message = format!("{} are all null: there is no text to search", self.fields.join(", "));
                verdicts.push(Verdict::unmeasured("no_text", message));
                continue;
            }
            verdicts.push(self.judge(&hits));
            counts.push(i32::try_from(hits.len()).ok());
            lists.append_value(hits.into_iter().map(Some));
        }
        Ok(Processed::rows(verdicts, vec![Arc::new(lists.finish()), Arc::new(Int32Array::from(counts))]))
    }
}

impl Filter {
    fn judge(&self, hits: &BTreeSet<&str>) -> Verdict {
        if hits.len() >= self.min_hits as usize {
            return Verdict::Pass;
        }
        let found = if hits.is_empty() { "none".into() } else { hits.iter().copied().collect::<Vec<_>>().join(", ") };
        let message = format!("{} of the {} terms needed occur: {found}", hits.len(), self.min_hits);
        Verdict::fail("too_few_keyword_hits", hits.len() as f64, f64::from(self.min_hits), message)
    }
}

/// Calls `f` with each text in a cell: the cell itself, or the elements of its list.
fn for_each_text(column: &dyn Array, row: usize, f: &mut dyn FnMut(&str)) {
    if column.is_null(row) {
        return;
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        f(texts.value(row));
    } else if let Some(lists) = column.as_list_opt::<i32>() {
        let list = lists.value(row);
        list.as_string_opt::<i32>().into_iter().flat_map(|texts| texts.iter().flatten()).for_each(f);
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;
    use crate::testing;

    fn rows(json: &str) -> RecordBatch {
        let schema = Arc::new(Schema::new(vec![
            Field::new("title", DataType::Utf8, true),
            Field::new("description", DataType::Utf8, true),
            Field::new("tags", string_list(), true),
        ]));
        arrow_json::ReaderBuilder::new(schema).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
    }

    #[test]
    fn rows_are_kept_by_distinct_terms_over_all_fields() {
        let batch = rows(
            r#"{"title":"Heart heart HEART","description":"nothing"}
               {"title":"Heart","tags":["Cooking","MRI scan"]}
               {"title":"","description":null}
               {"description":"a heart","tags":["failure"]}
               {}"#,
        );
        let toml = "type = 'keyword_filter'\nterms = ['heart', 'mri', 'heart failure']\nmin_hits = 2";
        let processed = testing::run(toml, &batch);
        assert_eq!(
            testing::codes(&processed),
            ["too_few_keyword_hits", "pass", "too_few_keyword_hits", "too_few_keyword_hits", "unmeasured no_text"]
        );
        let hits = processed.columns[0].as_list::<i32>();
        let second = hits.value(1);
        assert_eq!(second.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["heart", "mri"]);
        assert!(hits.is_null(4));
        let Verdict::Fail(reject) = &processed.verdicts[0] else { panic!() };
        assert_eq!((reject.measured, reject.threshold), (Some(1.0), Some(2.0)));
        assert_eq!(reject.message, "1 of the 2 terms needed occur: heart");
    }

    #[test]
    fn the_dictionary_is_a_file_of_the_step_and_joined_with_terms() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("d.txt"), "# organs\nheart\nliver # twice\nLiver\n").unwrap();
        let batch = rows(r#"{"title":"the liver"} {"title":"a kidney"} {"title":"a car"}"#);
        let toml = "type = 'keyword_filter'\ndictionary = 'd.txt'\nterms = ['kidney']\nfields = ['title']";
        let processed = testing::run_in(dir.path(), toml, &batch);
        assert_eq!(testing::codes(&processed), ["pass", "pass", "too_few_keyword_hits"]);
        let operator = testing::operator(toml).unwrap();
        let files = operator.files(&Paths { base: dir.path().into() });
        assert_eq!((files[0].key, files[0].path.clone()), ("dictionary", dir.path().join("d.txt")));
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        let found = |toml: &str| testing::mistakes(toml, &[]);
        assert_eq!(
            found("type = 'keyword_filter'\nfields = ['a', 'a']"),
            ["- E-MissingKey: neither `dictionary` nor `terms` is given", "fields E-Contradiction: column `a` is named twice"]
        );
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("good.txt", "heart\n"), ("bad.txt", "heart\n---\n"), ("empty.txt", "# nothing\n")] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let environment = |toml: &str| {
            let mut check = testing::Mistakes { paths: Paths { base: dir.path().into() }, lines: vec![] };
            testing::operator(&format!("type = 'keyword_filter'\n{toml}")).unwrap().check_environment(&mut check);
            check.lines
        };
        assert_eq!(environment("terms = ['...']"), ["terms E-BadModel: `terms`: entry 1: `...` has no letter or digit"]);
        for dictionary in ["good.txt", "empty.txt"] {
            let found = environment(&format!("dictionary = '{dictionary}'\nterms = ['ct', '...']"));
            assert_eq!(found, ["terms E-BadModel: `terms`: entry 2: `...` has no letter or digit"]);
        }
        let found = environment("dictionary = 'bad.txt'\nterms = ['ct']");
        assert_eq!(found, ["dictionary E-BadModel: dictionary `bad.txt`: line 2: `---` has no letter or digit"]);
        let found = environment("dictionary = 'empty.txt'");
        assert_eq!(found, ["dictionary E-BadModel: dictionary `empty.txt`: it holds no term"]);
        assert!(testing::build("type = 'keyword_filter'\ndictionary = 'nowhere.txt'").is_err());
    }
}
