//! `category`: what kind of video a clip is from: teaching, clinical practice, popular science, animation, imaging.
//!
//! Why: MedGen reports the shares of these five (Figure 5a) without saying how clips were labelled. Two readings: a softmax head on the embeddings
//! of the sampled frames, or the structured answer that a captioner was asked for. What can go wrong: a head and embeddings that do not belong
//! together are refused as in `frame_classifier`; an answer that names no category, or two, is unmeasured, never guessed.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Builder, Int64Array, ListArray, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_heads::Head;
use curette_heads::head::Kind as HeadKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::frame_classifier::{RETRAIN, check_encoder, check_width, mismatch};
use super::vectors::{RowVectors, Vectors};

/// The paper's five.
pub const CLASSES: [&str; 5] = ["teaching", "clinical_practice", "popular_science", "animation", "imaging"];

/// Says which category a clip (or video) is of. Drops nothing.
///
/// With `head`: each sampled frame of the clip is scored by a softmax head on its embedding, p = softmax(W x + b) with x at length 1 if the head
/// was trained so; the probabilities are averaged over the frames, and the largest is the category. The head is a file of `curette head
/// import-onnx` (a classifier of several classes that was trained elsewhere) or of `curette train-head` (two classes); its classes must be among
/// `classes`.
///
/// With `answer_column`: the category is read from a text column, such as the `caption` of a `captioner` whose prompt asks for it. Understood are a
/// JSON object with a key `category`, a line `Category: NAME`, and a text that is a name and nothing else. Case, spaces, `-` and `_` make no
/// difference.
///
/// Unmeasured codes: `no_embeddings`, `no_frames` (none was sampled in the clip), `wrong_embedding_model`, `wrong_embedding_width`,
/// `bad_embedding`; with `answer_column` `no_answer` (null or blank), `no_category` (none of `classes` is named), `several_categories`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// Head file in safetensors, from the pipeline file's folder if relative.
    #[serde(default)]
    pub head: Option<String>,
    /// Text column with the answer.
    #[serde(default)]
    pub answer_column: Option<String>,
    /// The categories that there are.
    #[serde(default = "classes")]
    pub classes: Vec<String>,
    /// With a smaller probability the category is null: not sure (0 to 1).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_probability: f64,
}

fn classes() -> Vec<String> {
    CLASSES.map(String::from).to_vec()
}

impl Operator for Category {
    const NAME: &'static str = "category";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"
[step.category]
type = "category"
inputs = ["clips"]
head = "category.safetensors"
"#;

    fn columns(&self) -> Columns {
        let times = DataType::new_list(DataType::Int64, true);
        let needs = match (&self.head, &self.answer_column) {
            (None, Some(column)) => Columns::none().need(column, &[DataType::Utf8]),
            _ => Columns::none()
                .need("frame_embeddings", &[])
                .need("frame_times_us", &[times])
                .need("embedding_model", &[DataType::Utf8])
                .may_use("start_us", &[DataType::Int64])
                .may_use("end_us", &[DataType::Int64]),
        };
        needs
            .add("category", DataType::Utf8, "one of `classes`; null where the probability is below `min_probability`")
            .add("category_score", DataType::Float32, "probability of the most probable category, 0 to 1; null for an answer")
            .add(
                "category_model",
                DataType::Utf8,
                "the embedding and, by its content hash, the head; or the column of the answer",
            )
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        self.head.iter().map(|head| FileRef { key: "head", path: paths.resolve(head) }).collect()
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        match (&self.head, &self.answer_column) {
            (None, None) => check.error(
                None,
                Code::MissingKey,
                "neither `head` nor `answer_column` is given".into(),
                Some("name a head on the frames' embeddings, or the column that holds a captioner's answer".into()),
            ),
            (Some(_), Some(_)) => check.error(
                Some("answer_column"),
                Code::Contradiction,
                "`head` and `answer_column` are both given".into(),
                Some("keep one of them".into()),
            ),
            _ => {}
        }
        if self.answer_column.is_some() && self.min_probability > 0.0 {
            let message = "an answer has no probability that `min_probability` could limit";
            check.error(Some("min_probability"), Code::Contradiction, message.into(), Some("leave it out".into()));
        }
        let folded: Vec<String> = self.classes.iter().map(|c| fold(c)).collect();
        for (at, name) in folded.iter().enumerate() {
            if name.is_empty() || folded[..at].contains(name) {
                let message = format!("class `{}` is empty or there twice", self.classes[at]);
                check.error(Some("classes"), Code::OutOfRange, message, None);
            }
        }
        // A missing file is reported by the check of `files`.
        let path = self.head.as_ref().map(|head| check.paths().resolve(head)).filter(|path| path.exists());
        if let Some(Err(e)) = path.map(|path| self.load(&path)) {
            check.error(Some("head"), Code::BadModel, e, Some("`curette head show FILE` says what a head is".into()));
        }
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        if let Some(head) = &self.head {
            check_width(head, input, check);
        }
    }

    fn check_models_of_input(&self, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        if let Some(head) = &self.head {
            check_encoder(head, input, runtime, check);
        }
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let err = |e: String| OperatorError::new(format!("step {}: {e}", context.step));
        match (&self.head, &self.answer_column) {
            (Some(head), None) => {
                let (head, hash) = self.load(&context.paths.resolve(head)).map_err(err)?;
                let model = format!("{}+head:{}", head.encoder, &hash.to_hex()[..16]);
                let encoder = head.encoder.to_string();
                Ok(Runtime::Transform(Box::new(ByHead { head, encoder, model, min_probability: self.min_probability as f32 })))
            }
            (None, Some(column)) => {
                Ok(Runtime::Transform(Box::new(ByAnswer { column: column.clone(), classes: self.classes.clone() })))
            }
            _ => Err(err("exactly one of `head` and `answer_column` must be given".into())),
        }
    }
}

impl Category {
    /// A head that tells classes apart that there are.
    fn load(&self, path: &std::path::Path) -> Result<(Head, blake3::Hash), String> {
        let (head, hash) = Head::load(path).map_err(|e| e.to_string())?;
        let wrong = |what: String| Err(format!("head {}: {what}", path.display()));
        if head.kind == HeadKind::Regression {
            return wrong("is a `regression` head, which tells no classes apart".into());
        }
        match head.classes.iter().find(|class| !self.classes.contains(class)) {
            Some(class) => wrong(format!("has a class `{class}`, which is not among `classes` ({})", self.classes.join(", "))),
            None => Ok((head, hash)),
        }
    }
}

struct ByHead {
    head: Head,
    /// The head's encoder, as `embedding_model` has it.
    encoder: String,
    model: String,
    min_probability: f32,
}

impl ByHead {
    /// Mean probabilities over the frames in the span.
    fn probabilities(&self, vectors: RowVectors, inside: &[usize]) -> Result<Vec<f64>, Problem> {
        let mut sums = vec![0.0; self.head.classes.len()];
        for &i in inside {
            let vector =
                vectors.get(i).map_err(|what| Problem::new("bad_embedding", format!("the embedding of frame {i} {what}")))?;
            if vector.len() != self.head.dim() {
                return Err(Problem::new("wrong_embedding_width", mismatch(&self.head, vector.len())));
            }
            sums.iter_mut().zip(self.head.answers(vector)).for_each(|(sum, p)| *sum += p);
        }
        Ok(sums.into_iter().map(|sum| sum / inside.len() as f64).collect())
    }

    fn row(&self, batch: &Frames, row: usize) -> Result<(Option<&str>, f32), Problem> {
        let model = batch.models.is_valid(row).then(|| batch.models.value(row));
        let (Some(vectors), Some(model)) = (batch.vectors.row(row), model) else {
            let message = "the row has no frame embeddings or does not name their model; see what `frame_embed` said";
            return Err(Problem::new("no_embeddings", message));
        };
        if model != self.encoder {
            // It may be anything: a message is no place for a megabyte.
            let model: String = model.chars().take(80).collect();
            let message = format!("the embeddings are of `{model}`, the head reads `{}`; {RETRAIN}", self.encoder);
            return Err(Problem::new("wrong_embedding_model", message));
        }
        let inside = batch.inside(row, vectors.len());
        if inside.is_empty() {
            return Err(Problem::new("no_frames", "no frame was sampled in the clip"));
        }
        let probabilities = self.probabilities(vectors, &inside)?;
        // The first of equals, so that the answer does not depend on the machine.
        let best = (0..probabilities.len()).fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best });
        let score = probabilities.get(best).copied().unwrap_or(f64::NAN) as f32;
        let sure = score >= self.min_probability;
        Ok((self.head.classes.get(best).map(String::as_str).filter(|_| sure), score))
    }
}

/// The frames of a batch of rows.
struct Frames<'a> {
    vectors: Vectors<'a>,
    times: &'a ListArray,
    models: &'a StringArray,
    span: Option<(&'a Int64Array, &'a Int64Array)>,
}

impl<'a> Frames<'a> {
    fn of(rows: &'a RecordBatch, step: &str) -> Result<Frames<'a>, OperatorError> {
        let bad = |name: &str| OperatorError::new(format!("step {step}: column `{name}` is missing or of another type"));
        let column = |name: &str| rows.column_by_name(name).ok_or_else(|| bad(name));
        let number = |name: &str| rows.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>());
        Ok(Frames {
            vectors: Vectors::of(column("frame_embeddings")?).ok_or_else(|| bad("frame_embeddings"))?,
            times: column("frame_times_us")?.as_list_opt::<i32>().ok_or_else(|| bad("frame_times_us"))?,
            models: column("embedding_model")?.as_string_opt::<i32>().ok_or_else(|| bad("embedding_model"))?,
            span: number("start_us").zip(number("end_us")),
        })
    }

    /// The frames that were sampled in the row's span; all where it has none.
    fn inside(&self, row: usize, frames: usize) -> Vec<usize> {
        let Some((start, end)) = self.span else { return (0..frames).collect() };
        if start.is_null(row) || end.is_null(row) || self.times.is_null(row) {
            return Vec::new();
        }
        let times = self.times.value(row);
        let Some(times) = times.as_primitive_opt::<Int64Type>() else { return Vec::new() };
        let span = start.value(row)..end.value(row);
        (0..frames.min(times.len())).filter(|&i| times.is_valid(i) && span.contains(&times.value(i))).collect()
    }
}

impl Transform for ByHead {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let frames = Frames::of(rows, task.step)?;
        let mut out = Out::default();
        for row in 0..rows.num_rows() {
            match task.is_cancelled() {
                true => out.add(Err(Problem::new("cancelled", "the run is being stopped")), &self.model),
                false => out.add(self.row(&frames, row).map(|(name, score)| (name, Some(score))), &self.model),
            }
        }
        Ok(out.finish())
    }
}

struct ByAnswer {
    column: String,
    classes: Vec<String>,
}

impl ByAnswer {
    fn row(&self, answer: Option<&str>) -> Result<&str, Problem> {
        let Some(answer) = answer.map(str::trim).filter(|a| !a.is_empty()) else {
            return Err(Problem::new("no_answer", format!("`{}` is null or blank", self.column)));
        };
        let named = said(answer);
        let mut found: Vec<&str> = Vec::new();
        for class in &self.classes {
            if named.iter().any(|name| *name == fold(class)) {
                found.push(class);
            }
        }
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(Problem::new("no_category", format!("`{}` names none of {}", self.column, self.classes.join(", ")))),
            several => Err(Problem::new("several_categories", format!("`{}` names {}", self.column, several.join(" and ")))),
        }
    }
}

impl Transform for ByAnswer {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let answers = rows.column_by_name(&self.column).and_then(|c| c.as_string_opt::<i32>());
        let answers = answers
            .ok_or_else(|| OperatorError::new(format!("step {}: column `{}` is missing or no text", task.step, self.column)))?;
        let model = format!("answer:{}", self.column);
        let mut out = Out::default();
        for row in 0..rows.num_rows() {
            let answer = answers.is_valid(row).then(|| answers.value(row));
            out.add(self.row(answer).map(|name| (Some(name), None)), &model);
        }
        Ok(out.finish())
    }
}

/// The new columns, row by row.
#[derive(Default)]
struct Out {
    names: StringBuilder,
    scores: Float32Builder,
    models: StringBuilder,
    verdicts: Vec<Verdict>,
}

impl Out {
    fn add(&mut self, found: Result<(Option<&str>, Option<f32>), Problem>, model: &str) {
        self.names.append_option(found.as_ref().ok().and_then(|f| f.0));
        self.scores.append_option(found.as_ref().ok().and_then(|f| f.1));
        self.models.append_option(found.as_ref().ok().map(|_| model));
        self.verdicts.push(found.map_or_else(Verdict::Unmeasured, |_| Verdict::Pass));
    }

    fn finish(mut self) -> Processed {
        let columns: Vec<ArrayRef> =
            vec![Arc::new(self.names.finish()), Arc::new(self.scores.finish()), Arc::new(self.models.finish())];
        Processed::rows(self.verdicts, columns)
    }
}

/// Letters and digits, small, with one space between words.
fn fold(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// The names that an answer gives where it is asked for one, folded.
fn said(answer: &str) -> Vec<String> {
    let object = answer.find('{').zip(answer.rfind('}')).filter(|(from, to)| from < to).map(|(from, to)| &answer[from..=to]);
    let json: Option<serde_json::Value> = object.and_then(|text| serde_json::from_str(text).ok());
    if let Some(name) = json.as_ref().and_then(|v| v.get("category")) {
        return match name {
            serde_json::Value::Array(all) => all.iter().filter_map(|v| v.as_str()).map(fold).collect(),
            one => one.as_str().map(fold).into_iter().collect(),
        };
    }
    let labelled = answer.lines().filter_map(|line| {
        let (label, name) = line.split_once(':')?;
        (fold(label) == "category").then(|| fold(name))
    });
    let labelled: Vec<String> = labelled.collect();
    if labelled.is_empty() { vec![fold(answer)] } else { labelled }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::datatypes::Float32Type;
    use curette_heads::Encoder;
    use curette_heads::head::{Activation, Calibration, Layer};

    use super::*;
    use crate::frames::fixtures::{Frames as Sampled, batch, codes, run};

    /// Three classes on two numbers; the first two look at one each.
    fn head() -> Head {
        Head {
            kind: HeadKind::Linear,
            hidden: vec![],
            activation: Activation::Identity,
            output: Layer { inputs: 2, weight: vec![4.0, 0.0, 0.0, 4.0, -4.0, -4.0], bias: vec![0.0, 0.0, 1.0] },
            standardise: None,
            encoder: Encoder::built_in("test/1"),
            l2_normalised: true,
            classes: ["teaching", "animation", "imaging"].map(String::from).to_vec(),
            calibration: Calibration::Temperature(2.0),
            threshold: None,
            threshold_rule: String::new(),
            notes: BTreeMap::new(),
        }
    }

    fn with_head(head: &Head, min_probability: f64) -> (tempfile::TempDir, Category) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("h.safetensors"), head.to_bytes()).unwrap();
        let head = Some("h.safetensors".into());
        (dir, Category { head, answer_column: None, classes: classes(), min_probability })
    }

    #[test]
    fn the_mean_of_the_softmax_over_the_frames_of_the_clip_decides() {
        let angles = [0.0, 10.0, 20.0, 90.0, 80.0, 225.0];
        let rows = batch(&[Some(Sampled::at(&angles, &[true; 6])), None]);
        let span = |from: i64, to: i64| {
            let column = |v: i64| Arc::new(Int64Array::from(vec![v, v])) as ArrayRef;
            let mut columns: Vec<(&str, ArrayRef)> =
                rows.schema_ref().fields().iter().map(|f| f.name().as_str()).zip(rows.columns().iter().cloned()).collect();
            columns.extend([("start_us", column(from)), ("end_us", column(to))]);
            RecordBatch::try_from_iter(columns.into_iter()).unwrap()
        };
        let (dir, operator) = with_head(&head(), 0.0);
        for (from, to, want, frames) in
            [(0, 3, "teaching", 0..3), (3, 5, "animation", 3..5), (5, 6, "imaging", 5..6), (0, 6, "teaching", 0..6)]
        {
            let out = run(&operator, &span(from * 1_000_000, to * 1_000_000), dir.path());
            assert_eq!(codes(&out), ["pass", "no_embeddings"]);
            assert_eq!(out.columns[0].as_string::<i32>().value(0), want);
            // The slow way.
            let mut sums = [0.0f64; 3];
            for k in frames.clone() {
                let (x, y) = (f64::from(f32::cos(f32::to_radians(angles[k]))), f64::from(f32::sin(f32::to_radians(angles[k]))));
                let z = [4.0 * x, 4.0 * y, -4.0 * x - 4.0 * y + 1.0].map(|z| (z / 2.0).exp());
                sums.iter_mut().zip(z).for_each(|(s, e)| *s += e / z.iter().sum::<f64>());
            }
            let best = sums.iter().copied().fold(0.0, f64::max) / frames.len() as f64;
            let score = out.columns[1].as_primitive::<Float32Type>().value(0);
            assert!((f64::from(score) - best).abs() < 1e-6, "{score} {best}");
        }
        assert_eq!(codes(&run(&operator, &span(9_000_000, 10_000_000), dir.path())), ["no_frames", "no_embeddings"]);
        // Not sure enough: the row stays, without a category and with its score.
        let (dir, operator) = with_head(&head(), 0.99);
        let out = run(&operator, &rows, dir.path());
        assert!(out.columns[0].is_null(0) && out.columns[1].is_valid(0));
        let (dir, operator) = with_head(&Head { encoder: Encoder::built_in("other/1"), ..head() }, 0.0);
        assert_eq!(codes(&run(&operator, &rows, dir.path()))[0], "wrong_embedding_model");
    }

    #[test]
    fn answers_are_read_where_they_are_given_and_never_guessed() {
        let reader = ByAnswer { column: "caption".into(), classes: classes() };
        let ask = |answer: &str| reader.row(Some(answer)).map(str::to_owned).map_err(|p| p.code.to_string());
        for (answer, want) in [
            ("teaching", "teaching"),
            (" Clinical Practice. ", "clinical_practice"),
            ("{\"category\": \"Popular-science\", \"why\": \"imaging is named\"}", "popular_science"),
            ("```json\n{\"category\": [\"animation\"]}\n```", "animation"),
            ("The clip shows an ultrasound for teaching.\n**Category:** imaging", "imaging"),
        ] {
            assert_eq!(ask(answer).as_deref(), Ok(want), "{answer}");
        }
        for (answer, code) in [
            ("  ", "no_answer"),
            ("An animation that is used for teaching", "no_category"),
            ("{\"category\": \"surgery\"}", "no_category"),
            ("{\"category\": [\"animation\", \"teaching\"]}", "several_categories"),
            ("Category: animation\nCategory: teaching", "several_categories"),
            ("{broken", "no_category"),
        ] {
            assert_eq!(ask(answer), Err(code.to_owned()), "{answer}");
        }
        assert_eq!(reader.row(None).unwrap_err().code, "no_answer");
    }

    #[test]
    fn mistakes_are_told() {
        let said = |toml: &str| crate::testing::mistakes(toml, &[]).join("\n");
        insta::assert_snapshot!(
            [
                said("type = 'category'"),
                said("type = 'category'\nhead = 'none.safetensors'\nanswer_column = 'caption'"),
                said("type = 'category'\nanswer_column = 'caption'\nmin_probability = 0.5\nclasses = ['a b', 'A-B', '']"),
            ]
            .join("\n--\n"),
            @r"
        - E-MissingKey: neither `head` nor `answer_column` is given
        --
        answer_column E-Contradiction: `head` and `answer_column` are both given
        --
        min_probability E-Contradiction: an answer has no probability that `min_probability` could limit
        classes E-OutOfRange: class `A-B` is empty or there twice
        classes E-OutOfRange: class `` is empty or there twice
        "
        );
        let (dir, operator) = with_head(&head(), 0.0);
        let few = Category { classes: vec!["teaching".into()], ..operator };
        let error = few.load(&dir.path().join("h.safetensors")).unwrap_err();
        assert!(error.ends_with("has a class `animation`, which is not among `classes` (teaching)"), "{error}");
    }
}
