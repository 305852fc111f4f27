//! `frame_classifier`: a probability per sampled frame, by a linear head on its embedding.
//!
//! p = sigmoid(w.x + b) with x the embedding at length 1, calibrated as the head says; a frame is positive when p >= threshold. The head file names the embedding that it was trained
//! on. What can go wrong: a head and an embedding that do not belong together give numbers that look right, so a differing name or width is never scored:
//! the width is checked before the run, the name for each row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBuilder, Float32Builder, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, MODEL_METADATA, Operator, OperatorError, Paths, Runtime, StepCheck, Task, Transform,
    all_unmeasured,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use curette_heads::{Encoder, Head};
use curette_models::Models;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::descriptor;
use super::vectors::{RowVectors, Vectors, Width, width_of};
use crate::models::{self, classifier_head};

/// Scores each sampled frame with a linear head on its embedding: p = sigmoid(w·x + b), x at length 1.
///
/// Rows that cannot be scored are unmeasured: `no_embeddings` (the column is null), `wrong_embedding_model` (the head was trained on another embedding),
/// `wrong_embedding_width`, `bad_embedding` (a null, NaN or infinity in it).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FrameClassifier {
    /// Head file in safetensors, from the pipeline file's folder if relative; made by `curette train-head`.
    pub head: String,
    /// A frame is positive when its probability is at least this (0 to 1). Default: the threshold that the head file recommends, else 0.5.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub threshold: Option<f64>,
}

impl Operator for FrameClassifier {
    const NAME: &'static str = "frame_classifier";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"[step.medical_frames]
type = "frame_classifier"
inputs = ["embed"]
head = "medical-frames.safetensors"
threshold = 0.5
"#;

    fn columns(&self) -> Columns {
        let list = |t| DataType::new_list(t, true);
        Columns::none()
            .need("frame_embeddings", &[])
            .need("embedding_model", &[DataType::Utf8])
            .add("frame_scores", list(DataType::Float32), "Probability of the positive class for each sampled frame, 0 to 1.")
            .add("frame_labels", list(DataType::Boolean), "Whether each sampled frame reaches the threshold.")
            .add("frame_model", DataType::Utf8, "The embedding and, by its content hash, the head that scored the frames.")
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        vec![FileRef { key: "head", path: paths.resolve(&self.head) }]
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        let path = check.paths().resolve(&self.head);
        // A missing file is reported by the check of `files`.
        if path.exists()
            && let Err(e) = classifier_head(&path)
        {
            let help = "train a head with `curette train-head --labels FILE --videos FOLDER --out head.safetensors`";
            check.error(Some("head"), Code::BadModel, e, Some(help.into()));
        }
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        check_width(&self.head, input, check);
    }

    fn check_models_of_input(&self, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        check_encoder(&self.head, input, runtime, check);
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let (head, hash) = classifier_head(&context.paths.resolve(&self.head))
            .map_err(|e| OperatorError::new(format!("step {}: {e}", context.step)))?;
        if let Some(Width::Fixed(width)) =
            context.input.field_with_name("frame_embeddings").ok().and_then(|f| width_of(f.data_type()))
            && width != head.dim()
        {
            return Err(OperatorError::new(format!("step {}: {}", context.step, mismatch(&head, width))).help(RETRAIN));
        }
        let threshold = self.threshold.or(head.threshold()).unwrap_or(0.5);
        let model = format!("{}+linear-head:{}", head.encoder, &hash.to_hex()[..16]);
        Ok(Runtime::Transform(Box::new(Scorer { encoder: head.encoder.to_string(), head, threshold, model })))
    }
}

/// Reports a head whose width is not that of the embeddings upstream.
pub(super) fn check_width(head: &str, input: &SchemaRef, check: &mut dyn StepCheck) {
    let Ok(field) = input.field_with_name("frame_embeddings") else { return };
    let Some(width) = width_of(field.data_type()) else {
        let message = format!("column `frame_embeddings` is {}, expected a list of vectors of Float32", field.data_type());
        return check.error(None, Code::WrongColumnType, message, Some("put a `frame_embed` step before this one".into()));
    };
    if let (Width::Fixed(width), Ok((head, _))) = (width, Head::load(&check.paths().resolve(head)))
        && width != head.dim()
    {
        check.error(Some("head"), Code::BadModel, mismatch(&head, width), Some(RETRAIN.into()));
    }
}

/// Reports a head of another encoder than that of the embeddings upstream.
pub(super) fn check_encoder(head: &str, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
    let made_by = input.field_with_name("frame_embeddings").ok().and_then(|f| f.metadata().get(MODEL_METADATA));
    let (Some(made_by), Ok((head, _))) = (made_by, Head::load(&check.paths().resolve(head))) else { return };
    if made_by == descriptor::NAME {
        if head.encoder != Encoder::built_in(descriptor::NAME) {
            check.error(Some("head"), Code::BadModel, another(&head.encoder, made_by), Some(RETRAIN.into()));
        }
        return;
    }
    // A model that is missing is reported where it is named.
    let Ok(located) = Models::new(models::settings(runtime)).find(&models::reference(made_by, check.paths())) else { return };
    let width = models::width_of_located(&located).filter(|width| *width != head.dim());
    match (width, models::encoder_of_located(&located)) {
        (Some(width), _) => check.error(Some("head"), Code::BadModel, mismatch(&head, width), Some(RETRAIN.into())),
        (None, Ok(encoder)) if encoder != head.encoder => {
            check.error(Some("head"), Code::BadModel, another(&head.encoder, &encoder.to_string()), Some(RETRAIN.into()));
        }
        _ => {}
    }
}

pub(super) const RETRAIN: &str =
    "train the head again on the embeddings of this pipeline, or use the embedding it was trained on";

pub(super) fn mismatch(head: &Head, width: usize) -> String {
    format!("the head reads `{}` with {} dimensions, but `frame_embeddings` has {width}", head.encoder, head.dim())
}

fn another(wanted: &Encoder, given: &str) -> String {
    format!("the head reads `{wanted}`, but `frame_embeddings` are of `{given}`")
}

struct Scorer {
    head: Head,
    /// The head's encoder, as `embedding_model` has it.
    encoder: String,
    threshold: f64,
    model: String,
}

impl Scorer {
    fn scores(&self, vectors: Option<RowVectors>, model: Option<&str>) -> Result<Vec<f32>, Problem> {
        let (Some(vectors), Some(model)) = (vectors, model) else {
            return Err(Problem::new(
                "no_embeddings",
                "the row has no frame embeddings or does not name their model; see what `frame_embed` said",
            ));
        };
        if model != self.encoder {
            // It may be anything: a message is no place for a megabyte.
            let model: String = model.chars().take(80).collect();
            let message = format!("the embeddings are of `{model}`, the head reads `{}`; {RETRAIN}", self.encoder);
            return Err(Problem::new("wrong_embedding_model", message));
        }
        (0..vectors.len())
            .map(|i| {
                let vector =
                    vectors.get(i).map_err(|what| Problem::new("bad_embedding", format!("the embedding of frame {i} {what}")))?;
                if vector.len() != self.head.dim() {
                    return Err(Problem::new("wrong_embedding_width", mismatch(&self.head, vector.len())));
                }
                Ok(self.head.score(vector))
            })
            .collect()
    }
}

impl Transform for Scorer {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let need = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| OperatorError::new(format!("step {}: column `{name}` is missing", task.step)))
        };
        let embeddings = need("frame_embeddings")?;
        let vectors = Vectors::of(embeddings)
            .ok_or_else(|| OperatorError::new(format!("step {}: `frame_embeddings` is {}", task.step, embeddings.data_type())))?;
        let models = need("embedding_model")?.as_string_opt::<i32>();
        let models = models.ok_or_else(|| OperatorError::new(format!("step {}: `embedding_model` is not text", task.step)))?;

        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut scores = ListBuilder::new(Float32Builder::new());
        let mut labels = ListBuilder::new(BooleanBuilder::new());
        let mut names = StringBuilder::new();
        for row in 0..rows.num_rows() {
            if task.is_cancelled() {
                verdicts.extend(all_unmeasured(1, &Problem::new("cancelled", "the run is being stopped")));
                scores.append(false);
                labels.append(false);
                names.append_null();
                continue;
            }
            match self.scores(vectors.row(row), models.is_valid(row).then(|| models.value(row))) {
                Ok(values) => {
                    for value in values {
                        scores.values().append_value(value);
                        // Decided on the stored 32 bits, so that the stored score decides the same again.
                        labels.values().append_value(f64::from(value) >= self.threshold);
                    }
                    scores.append(true);
                    labels.append(true);
                    names.append_value(&self.model);
                    verdicts.push(Verdict::Pass);
                }
                Err(problem) => {
                    scores.append(false);
                    labels.append(false);
                    names.append_null();
                    verdicts.push(Verdict::Unmeasured(problem));
                }
            }
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(scores.finish()), Arc::new(labels.finish()), Arc::new(names.finish())];
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Float32Type;
    use curette_heads::head::Kind as HeadKind;

    use super::*;
    use crate::frames::fixtures::{Frames, batch, build, codes, run};

    fn head() -> Head {
        let classes = ["no".into(), "yes".into()];
        Head { threshold: Some(0.6), ..Head::linear(vec![3.0, -2.0], -0.5, Encoder::built_in("test/1"), classes) }
    }

    fn with_head(head: &Head, threshold: Option<f64>) -> (tempfile::TempDir, FrameClassifier) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("h.safetensors"), head.to_bytes()).unwrap();
        (dir, FrameClassifier { head: "h.safetensors".into(), threshold })
    }

    #[test]
    fn scores_equal_a_plain_loop_over_the_formula() {
        let angles: Vec<f32> = (0..90).map(|k| k as f32 * 4.0).collect();
        let rows = batch(&[Some(Frames::at(&angles, &[false; 90])), None, Some(Frames::at(&[], &[]))]);
        let (dir, operator) = with_head(&head(), None);
        let out = run(&operator, &rows, dir.path());
        assert_eq!(codes(&out), ["pass", "no_embeddings", "pass"]);

        let scores = out.columns[0].as_list::<i32>().value(0);
        let labels = out.columns[1].as_list::<i32>().value(0);
        for (k, angle) in angles.iter().enumerate() {
            let (x, y) = (f64::from(angle.to_radians().cos()), f64::from(angle.to_radians().sin()));
            let p = 1.0 / (1.0 + (-(3.0 * x - 2.0 * y - 0.5)).exp());
            let got = scores.as_primitive::<Float32Type>().value(k);
            assert!((f64::from(got) - p).abs() < 1e-6, "{angle}: {got} {p}");
            assert_eq!(labels.as_boolean().value(k), f64::from(got) >= 0.6, "the head's own threshold");
        }
        assert!(out.columns[0].is_null(1) && out.columns[2].is_null(1));
        assert!(out.columns[2].as_string::<i32>().value(0).starts_with("test/1+linear-head:"));
    }

    #[test]
    fn the_threshold_of_the_step_wins_over_the_heads() {
        let rows = batch(&[Some(Frames::at(&[0.0], &[false]))]);
        for (threshold, label) in [(Some(1.0), false), (Some(0.0), true), (None, true)] {
            let (dir, operator) = with_head(&head(), threshold);
            let out = run(&operator, &rows, dir.path());
            assert_eq!(out.columns[1].as_list::<i32>().value(0).as_boolean().value(0), label, "{threshold:?}");
        }
    }

    #[test]
    fn another_embedding_is_never_scored() {
        let frames = Frames { model: "clip/vit", ..Frames::at(&[0.0, 1.0], &[true; 2]) };
        let broken = Frames { vectors: vec![[1.0, 0.0], [f32::NAN, 0.0]], ..Frames::at(&[0.0, 1.0], &[true; 2]) };
        let rows = batch(&[Some(frames), Some(broken)]);
        let (dir, operator) = with_head(&head(), None);
        let out = run(&operator, &rows, dir.path());
        assert_eq!(codes(&out), ["wrong_embedding_model", "bad_embedding"]);
        let Verdict::Unmeasured(problem) = &out.verdicts[0] else { panic!() };
        insta::assert_snapshot!(problem.message, @r#"
        the embeddings are of `clip/vit`, the head reads `test/1`; train the head again on the embeddings of this pipeline, or use the embedding it was trained on
        "#);
    }

    #[test]
    fn another_file_of_the_same_encoder_is_another_encoder() {
        let of = |digit: &str| format!("clip@sha256:{}", digit.repeat(64));
        let frames = |model: String| Frames { model: model.leak(), ..Frames::at(&[0.0], &[true]) };
        let rows = batch(&[Some(frames(of("a"))), Some(frames(of("b")))]);
        let (dir, operator) = with_head(&Head { encoder: of("a").parse().unwrap(), ..head() }, None);
        assert_eq!(codes(&run(&operator, &rows, dir.path())), ["pass", "wrong_embedding_model"]);
    }

    #[test]
    fn heads_that_give_no_probability_are_refused() {
        let regression = Head { kind: HeadKind::Regression, classes: vec![], threshold: None, ..head() };
        let (dir, operator) = with_head(&regression, None);
        let rows = batch(&[Some(Frames::at(&[0.0], &[true]))]);
        let error = build(&operator, &rows, dir.path()).err().unwrap().to_string();
        assert!(error.contains("is a `regression` head, which gives no probability"), "{error}");
    }

    #[test]
    fn another_width_stops_the_run_before_it_starts() {
        let rows = batch(&[Some(Frames::at(&[0.0], &[true]))]);
        let (dir, operator) = with_head(&Head::linear(vec![1.0; 3], 0.0, head().encoder, ["no".into(), "yes".into()]), None);
        let error = build(&operator, &rows, dir.path()).err().unwrap();
        insta::assert_snapshot!(error.to_string(), @r#"
        step it: the head reads `test/1` with 3 dimensions, but `frame_embeddings` has 2 (train the head again on the embeddings of this pipeline, or use the embedding it was trained on)
        "#);
    }
}
