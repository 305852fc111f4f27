//! `text_classifier`: a probability from what is written about a video, by a sentence encoder and a linear head on its embedding.
//!
//! Why so early: MedGen brings 25 million records down with a dictionary and then with such a classifier, before anything is decoded. Its encoder is
//! snowflake-arctic-embed-m; its head is unpublished. p = sigmoid(w.x + b) with x the embedding at length 1, calibrated as the head says.
//!
//! What can go wrong: a head and an encoder that do not belong together give numbers that look right, so name, hash and width are compared before
//! the run. A row without any text is unmeasured: nothing is known about it, which is not the same as knowing that it is off topic.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field};
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, MODEL_METADATA, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task,
    Transform, all_unmeasured,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_heads::Head;
use curette_models::{FileRole, TextEncoder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::models::{self, FOREIGN_HELP, classifier_head, identity_of};

/// Bytes of text of one row that the tokenizer is shown; the encoder reads its first few hundred tokens only.
pub const MAX_TEXT_BYTES: usize = 64 << 10;

/// Scores the text of each row with a sentence encoder and a linear head, and drops rows below a threshold: p = sigmoid(w·x + b), x at length 1.
///
/// The text is that of `fields`, in their order, joined by `joiner`; elements of a list are joined by ", ", fields without text are left out. The encoder cuts it at its own
/// limit (256 tokens for MiniLM, 512 for arctic-embed-m). A head is made with `curette train-head --embeddings TABLE --embedding-column text_embedding --label COLUMN`, from a table that this step wrote with
/// `keep_embedding = true` and no `head`.
///
/// One text costs 40 ms (MiniLM) to 300 ms (arctic-embed-m) of one core: put `keyword_filter` before it.
///
/// Reject code: `off_topic` (measured: the probability). Unmeasured codes: `no_text` (all fields are null or blank), `model_output_not_finite` (NaN or infinity),
/// `model_input` (a text that the tokenizer refuses).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextClassifier {
    /// The text encoder: a manifest's name, such as `all-minilm-l6-v2` or `arctic-embed-m`, or the path of a manifest (`.toml`).
    pub model: String,
    /// Head file in safetensors, from the pipeline file's folder if relative; made by `curette train-head`. Not set: nothing is scored or dropped, and `keep_embedding`
    /// must be true.
    #[serde(default)]
    pub head: Option<String>,
    /// Rows below this probability are dropped (0 to 1; 0 keeps all). Default: the threshold that the head file recommends, else 0.5.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: Option<f64>,
    /// Text columns (or lists of text) to read, in this order.
    #[serde(default = "fields")]
    pub fields: Vec<String>,
    /// Between the fields.
    #[serde(default = "line_break")]
    pub joiner: String,
    /// Also write the embedding and what made it, to train a head on: columns `text_embedding` and `text_embedding_model`.
    #[serde(default)]
    pub keep_embedding: bool,
}

fn fields() -> Vec<String> {
    ["title", "description"].map(String::from).to_vec()
}
fn line_break() -> String {
    "\n".into()
}
fn string_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

impl Operator for TextClassifier {
    const NAME: &'static str = "text_classifier";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"
[step.medical_text]
type = "text_classifier"
inputs = ["medical"]
model = "arctic-embed-m"
head = "medical-text.safetensors"
threshold = 0.5
"#;

    fn columns(&self) -> Columns {
        let mut columns = self.fields.iter().fold(Columns::none(), |c, field| c.need(field, &[DataType::Utf8, string_list()]));
        if self.head.is_some() {
            columns =
                columns.add("text_score", DataType::Float32, "Probability of the positive class by the row's text, 0 to 1.").add(
                    "text_model",
                    DataType::Utf8,
                    "Encoder with version and the start of its SHA-256, and the head's content hash.",
                );
        }
        if self.keep_embedding {
            columns = columns
                .add("text_embedding", DataType::new_list(DataType::Float32, true), "The text's vector.")
                .note(MODEL_METADATA, &self.model)
                .add("text_embedding_model", DataType::Utf8, "What made the vector: name and SHA-256, as heads name it.");
        }
        columns
    }

    fn pool(&self) -> Pool {
        Pool::Gpu
    }

    fn rows_per_task(&self) -> usize {
        // As many as the encoder sorts together.
        curette_models::text::WINDOW
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.fields.is_empty() {
            let help = Some("leave the key out to read title and description".to_string());
            check.error(Some("fields"), Code::OutOfRange, "`fields` is empty".into(), help);
        }
        for (index, field) in self.fields.iter().enumerate() {
            if self.fields[..index].contains(field) {
                check.error(Some("fields"), Code::Contradiction, format!("column `{field}` is named twice"), None);
            }
        }
        let Some(head) = &self.head else {
            if self.threshold.is_some() {
                let help = "name a head, or leave `threshold` out".to_string();
                check.error(
                    Some("threshold"),
                    Code::Contradiction,
                    "there is no head whose score it could limit".into(),
                    Some(help),
                );
            }
            if !self.keep_embedding {
                let help =
                    "name a head; or set `keep_embedding = true` to write embeddings that a head can be trained on".to_string();
                check.error(
                    None,
                    Code::MissingKey,
                    "without `head` and `keep_embedding` the step does nothing".into(),
                    Some(help),
                );
            }
            return;
        };
        let path = check.paths().resolve(head);
        // A missing file is reported by the check of `files`.
        if path.exists()
            && let Err(e) = classifier_head(&path)
        {
            check.error(Some("head"), Code::BadModel, e, Some("train one with `curette train-head`".into()));
        }
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        self.head.iter().map(|head| FileRef { key: "head", path: paths.resolve(head) }).collect()
    }

    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        models::files("model", &self.model, paths, runtime)
    }

    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        let Some(located) = models::check("model", &self.model, runtime, check) else { return };
        match located.require(FileRole::Tokenizer) {
            Err(e) => check.error(Some("model"), Code::BadModel, e.message, e.help),
            Ok(tokenizer) => {
                if let Err(e) = TextEncoder::tokenizer(&located.manifest, tokenizer) {
                    check.error(Some("model"), Code::BadModel, e.message, e.help);
                }
            }
        }
        let Some(Ok((head, _))) = self.head.as_ref().map(|h| Head::load(&check.paths().resolve(h))) else { return };
        let why = models::encoder_of_located(&located)
            .map(|encoder| models::foreign(&head, &encoder, models::width_of_located(&located)));
        match why {
            Err(e) => check.error(Some("model"), Code::MissingFile, e.message, e.help),
            Ok(Some(why)) => check.error(Some("head"), Code::BadModel, why, Some(FOREIGN_HELP.into())),
            Ok(None) => {}
        }
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // Nothing but the fields, any of which may be null.
        Some(Vec::new())
    }

    fn also_decided_by(&self) -> Vec<String> {
        self.fields.clone()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let err = |what: String| OperatorError::new(format!("step {}: {what}", context.step));
        let models = models::of(context.resources);
        let encoder = models.text_encoder(&models::reference(&self.model, context.paths)).map_err(models::broken)?;
        let identity = models::encoder_of(encoder.model());
        let scoring = match &self.head {
            None => None,
            Some(head) => {
                let (head, hash) = classifier_head(&context.paths.resolve(head)).map_err(err)?;
                if let Some(why) = models::foreign(&head, &identity, Some(encoder.width())) {
                    return Err(err(why).help(FOREIGN_HELP));
                }
                let name = format!("{} + linear-head:{}", identity_of(encoder.model()), &hash.to_hex()[..16]);
                let threshold = self.threshold.or(head.threshold()).unwrap_or(0.5);
                Some(Scoring { head, threshold, name })
            }
        };
        Ok(Runtime::Transform(Box::new(Started { settings: self.clone(), encoder, identity: identity.to_string(), scoring })))
    }
}

/// The head and what it decides.
struct Scoring {
    head: Head,
    threshold: f64,
    name: String,
}

impl Scoring {
    /// Decided on the 32 bits that are stored, so that the stored score decides the same again.
    fn judge(&self, score: f32) -> Verdict {
        if f64::from(score) >= self.threshold {
            return Verdict::Pass;
        }
        let message = format!("text_score is {score:.4}, at least {} is kept", self.threshold);
        Verdict::fail("off_topic", f64::from(score), self.threshold, message)
    }
}

struct Started {
    settings: TextClassifier,
    encoder: TextEncoder,
    identity: String,
    scoring: Option<Scoring>,
}

impl Started {
    /// A vector for each text, a problem for each that the encoder cannot be asked about. One text that is refused must not take others with it.
    fn embed(&self, texts: &[&str], task: &Task) -> Result<Vec<Result<Vec<f32>, Problem>>, OperatorError> {
        match self.encoder.embed_until(texts, Some(task.cancelled)) {
            Ok(vectors) => Ok(vectors.into_iter().map(Ok).collect()),
            Err(e) => {
                let problem = models::problem(e)?;
                if texts.len() == 1 || problem.code == "cancelled" {
                    return Ok(vec![Err(problem); texts.len()]);
                }
                let (a, b) = texts.split_at(texts.len() / 2);
                let mut all = self.embed(a, task)?;
                all.extend(self.embed(b, task)?);
                Ok(all)
            }
        }
    }
}

impl Transform for Started {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let column = |name: &String| {
            rows.column_by_name(name)
                .ok_or_else(|| OperatorError::new(format!("step {}: there is no column `{name}`", task.step)))
        };
        let columns: Vec<&ArrayRef> = self.settings.fields.iter().map(column).collect::<Result<_, _>>()?;
        let texts: Vec<Option<String>> = (0..rows.num_rows()).map(|row| joined(&columns, row, &self.settings.joiner)).collect();
        let measured = match task.is_cancelled() {
            true => Vec::new(),
            false => self.embed(&texts.iter().flatten().map(String::as_str).collect::<Vec<_>>(), task)?,
        };
        let mut measured = measured.into_iter();

        let (mut scores, mut names) = (Float32Builder::new(), StringBuilder::new());
        let (mut vectors, mut makers) = (ListBuilder::new(Float32Builder::new()), StringBuilder::new());
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        for text in &texts {
            let vector = match text {
                None => {
                    let fields = self.settings.fields.join(", ");
                    Err(Problem::new("no_text", format!("{fields} are all null or blank: there is no text to judge by")))
                }
                Some(_) => measured.next().unwrap_or_else(|| Err(Problem::new("cancelled", "the run is being stopped"))),
            };
            let vector_of = vector.as_deref().ok();
            if let Some(vector) = vector_of {
                vectors.values().append_slice(vector);
            }
            vectors.append(vector_of.is_some());
            makers.append_option(vector_of.map(|_| &self.identity));
            let score = self.scoring.as_ref().and_then(|s| vector_of.map(|v| s.head.score(v)));
            scores.append_option(score);
            names.append_option(self.scoring.as_ref().filter(|_| score.is_some()).map(|s| &s.name));
            verdicts.push(match (vector, &self.scoring, score) {
                (Err(problem), _, _) => all_unmeasured(1, &problem).remove(0),
                (Ok(_), Some(scoring), Some(score)) => scoring.judge(score),
                (Ok(_), _, _) => Verdict::Pass,
            });
        }
        let mut out: Vec<ArrayRef> = Vec::new();
        if self.scoring.is_some() {
            out.extend([Arc::new(scores.finish()) as ArrayRef, Arc::new(names.finish())]);
        }
        if self.settings.keep_embedding {
            out.extend([Arc::new(vectors.finish()) as ArrayRef, Arc::new(makers.finish())]);
        }
        Ok(Processed::rows(verdicts, out))
    }
}

/// The text of a row, at most [`MAX_TEXT_BYTES`] long; `None` when there is nothing but blanks.
fn joined(columns: &[&ArrayRef], row: usize, joiner: &str) -> Option<String> {
    let mut out = String::new();
    for column in columns {
        let text = cell(column.as_ref(), row);
        let text = text.trim();
        if !text.is_empty() {
            if !out.is_empty() {
                out.push_str(joiner);
            }
            out.push_str(text);
        }
        if out.len() > MAX_TEXT_BYTES {
            out.truncate(out.floor_char_boundary(MAX_TEXT_BYTES));
            break;
        }
    }
    (!out.is_empty()).then_some(out)
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return String::new();
    }
    if let Some(texts) = column.as_string_opt::<i32>() {
        return texts.value(row).to_owned();
    }
    let Some(lists) = column.as_list_opt::<i32>() else { return String::new() };
    let list = lists.value(row);
    let parts = list.as_string_opt::<i32>().into_iter().flat_map(|texts| texts.iter().flatten());
    parts.map(str::trim).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "text_classifier_tests.rs"]
mod tests;
