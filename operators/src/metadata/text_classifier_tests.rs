//! On the tiny text encoder of the models crate, whose expected vectors come from numpy.

use std::path::{Path, PathBuf};

use arrow::array::Float32Array;
use arrow::datatypes::{Float32Type, Schema};
use curette_engine::operator::DynOperator;
use curette_engine::resources::Resources;
use curette_heads::Encoder;
use curette_models::store::hash_file;
use serde_json::Value;

use super::*;
use crate::quality::model_tests::library;
use crate::testing;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures")
}

/// A folder with the manifest `tiny.toml`, its files, and a head.
fn folder(graph: &str, tokenizer: &str, head: &Head) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in [graph, tokenizer] {
        std::fs::copy(fixtures().join(file), dir.path().join(file)).unwrap();
    }
    let manifest = format!(
        "name = 'tiny'\nversion = '1'\ntitle = 'made-up weights'\nkind = 'onnx'\n\
         files = [{{ role = 'graph', path = '{graph}' }}, {{ role = 'tokenizer', path = '{tokenizer}' }}]\n\
         [origin]\nlicence = 'CC0-1.0'\ncommercial_use = 'yes'\n[contract]\n\
         inputs = [{{ name = 'input_ids', dtype = 'i64', shape = ['batch', 'seq'] }}, {{ name = 'attention_mask', dtype = 'i64', shape = ['batch', 'seq'] }}]\n\
         outputs = [{{ name = 'embedding', dtype = 'f32', shape = ['batch', 16] }}]\n[tokenizer]\nmax_length = 12\n"
    );
    std::fs::write(dir.path().join("tiny.toml"), manifest).unwrap();
    std::fs::write(dir.path().join("h.safetensors"), head.to_bytes()).unwrap();
    dir
}

fn sha256() -> String {
    hash_file(&fixtures().join("text.onnx")).unwrap().0
}

/// Weights that differ, so that a wrong order shows.
fn head(encoder: Encoder, width: u8) -> Head {
    let weight = (0..width).map(|i| f64::from(i) - 7.0).collect();
    Head::linear(weight, 0.25, encoder, ["off".into(), "on".into()])
}

fn ours() -> Head {
    head(Encoder { name: "tiny".into(), sha256: Some(sha256()) }, 16)
}

fn rows(json: &str) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("title", DataType::Utf8, true),
        Field::new("description", DataType::Utf8, true),
        Field::new("tags", string_list(), true),
    ]);
    arrow_json::ReaderBuilder::new(Arc::new(schema)).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
}

fn runtime(library: &Path) -> RuntimeSettings {
    RuntimeSettings { onnxruntime: library.display().to_string(), ..RuntimeSettings::default() }
}

fn run(dir: &Path, toml: &str, rows: &RecordBatch) -> Option<Result<Processed, OperatorError>> {
    let library = library()?;
    let resources = Arc::new(Resources::default());
    resources.get(|| runtime(&library));
    let operator = testing::operator(&format!("type = 'text_classifier'\nmodel = 'tiny.toml'\n{toml}")).unwrap();
    let paths = Paths { base: dir.to_path_buf() };
    let context =
        BuildContext { step: "it", input: rows.schema(), id_column: String::new(), paths: &paths, resources: &resources };
    let built = match operator.build(&context) {
        Ok(Runtime::Transform(transform)) => transform,
        Ok(_) => panic!("no transform"),
        Err(e) => return Some(Err(e)),
    };
    let task = Task { step: "it", resources: &resources, cancelled: &std::sync::atomic::AtomicBool::new(false) };
    let processed = built.process(rows, &task).unwrap();
    testing::check(&*operator, &processed, rows.num_rows());
    Some(Ok(processed))
}

#[test]
fn scores_are_the_formula_on_the_vectors_that_numpy_computes() {
    let golden: Value = serde_json::from_slice(&std::fs::read(fixtures().join("text.json")).unwrap()).unwrap();
    let texts: Vec<&str> = golden["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let json: Vec<String> = texts.iter().map(|t| serde_json::json!({"title": t}).to_string()).collect();
    let dir = folder("text.onnx", "tokenizer.json", &ours());
    let toml = "head = 'h.safetensors'\nkeep_embedding = true\nthreshold = 0.5";
    let Some(done) = run(dir.path(), toml, &rows(&json.join("\n"))) else { return };
    let done = done.unwrap();
    let scores = done.columns[0].as_primitive::<Float32Type>();
    for (i, text) in texts.iter().enumerate() {
        if text.is_empty() {
            assert!(scores.is_null(i) && done.columns[2].is_null(i), "an empty text has no score");
            continue;
        }
        let vector: Vec<f64> = golden["embeddings"][i].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        let z: f64 = vector.iter().enumerate().map(|(k, x)| (k as f64 - 7.0) * x).sum::<f64>() + 0.25;
        let p = 1.0 / (1.0 + (-z).exp());
        assert!((f64::from(scores.value(i)) - p).abs() < 1e-5, "{text}: {} {p}", scores.value(i));
        let passes = matches!(done.verdicts[i], Verdict::Pass);
        assert_eq!(passes, scores.value(i) >= 0.5, "{text}");
        assert_eq!(done.columns[2].as_list::<i32>().value(i).len(), 16);
    }
    assert_eq!(done.columns[3].as_string::<i32>().value(0), format!("tiny@sha256:{}", sha256()), "as `train-head` reads it");
    assert!(done.columns[1].as_string::<i32>().value(0).starts_with("tiny@1#"));
}

#[test]
fn fields_are_joined_in_order_and_blank_ones_left_out() {
    let batch = rows(
        r#"{"title":" the surgeon ","description":"removes","tags":["a",null," ","polyp"]}
           {"title":"  ","description":null,"tags":[]}
           {"description":"liver"}
           {}"#,
    );
    let columns: Vec<&ArrayRef> = batch.columns().iter().collect();
    let texts: Vec<Option<String>> = (0..4).map(|row| joined(&columns, row, " | ")).collect();
    assert_eq!(texts[0].as_deref(), Some("the surgeon | removes | a, polyp"));
    assert_eq!((texts[1].as_deref(), texts[2].as_deref(), texts[3].as_deref()), (None, Some("liver"), None));
    let long: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["é".repeat(MAX_TEXT_BYTES)]));
    let cut = joined(&[&long, &long], 0, "").unwrap();
    assert!(cut.len() <= MAX_TEXT_BYTES && cut.chars().all(|c| c == 'é'));
}

#[test]
fn no_text_is_unmeasured_and_the_heads_threshold_is_the_default() {
    let dir = folder("text.onnx", "tokenizer.json", &Head { threshold: Some(1.0), ..ours() });
    let batch = rows(r#"{"title":"the surgeon"} {"title":" "} {}"#);
    let Some(done) = run(dir.path(), "head = 'h.safetensors'", &batch) else { return };
    assert_eq!(testing::codes(&done.unwrap()), ["off_topic", "unmeasured no_text", "unmeasured no_text"]);
    let all = run(dir.path(), "head = 'h.safetensors'\nthreshold = 0.0", &batch).unwrap().unwrap();
    assert_eq!(testing::codes(&all)[0], "pass");
    let embedded = run(dir.path(), "keep_embedding = true", &batch).unwrap().unwrap();
    assert_eq!(embedded.columns.len(), 2);
    assert_eq!(testing::codes(&embedded), ["pass", "unmeasured no_text", "unmeasured no_text"]);
}

/// What `check` says of models and head; the library is any file that exists.
fn said(dir: &Path, toml: &str) -> Option<String> {
    let library = library()?;
    let operator = testing::operator(&format!("type = 'text_classifier'\nmodel = 'tiny.toml'\n{toml}")).unwrap();
    let mut check = testing::Mistakes { paths: Paths { base: dir.into() }, lines: vec![] };
    DynOperator::validate(&*operator, &mut check);
    operator.check_models(&runtime(&library), &mut check);
    Some(check.lines.join("\n"))
}

#[test]
fn what_does_not_belong_together_is_found_before_the_run() {
    let with = |graph: &str, tokenizer: &str, head: &Head| {
        let dir = folder(graph, tokenizer, head);
        said(dir.path(), "head = 'h.safetensors'")
    };
    let Some(fine) = with("text.onnx", "tokenizer.json", &ours()) else { return };
    assert_eq!(fine, "");
    let refused = |head: &Head| with("text.onnx", "tokenizer.json", head).unwrap();
    let narrow = refused(&head(ours().encoder, 5));
    assert!(
        narrow.contains("head E-BadModel: the head does not belong to encoder `tiny`: it reads 5 numbers, the encoder gives 16"),
        "{narrow}"
    );
    let other = refused(&head(Encoder { name: "tiny".into(), sha256: Some("0".repeat(64)) }, 16));
    assert!(other.contains("it was trained on graph 0000"), "{other}");
    assert!(refused(&head(Encoder::built_in("other"), 16)).contains("it was trained on `other`"));
    assert_eq!(refused(&head(Encoder::built_in("tiny"), 16)), "", "a head that knows no hash goes by the name");
    let regression = Head { kind: curette_heads::head::Kind::Regression, classes: vec![], ..ours() };
    assert!(refused(&regression).contains("gives no probability"));

    let dir = folder("text.onnx", "tokenizer.json", &ours());
    std::fs::remove_file(dir.path().join("text.onnx")).unwrap();
    let missing = said(dir.path(), "head = 'h.safetensors'").unwrap();
    assert!(missing.contains("model E-MissingFile") && missing.contains("text.onnx"), "{missing}");
    std::fs::copy(fixtures().join("text.onnx"), dir.path().join("text.onnx")).unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    let broken = said(dir.path(), "head = 'h.safetensors'").unwrap();
    assert!(broken.contains("model E-BadModel: model `tiny`: "), "{broken}");
    let mut bytes = ours().to_bytes();
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(dir.path().join("h.safetensors"), bytes).unwrap();
    let nan = said(dir.path(), "head = 'h.safetensors'").unwrap();
    assert!(nan.contains("head E-BadModel") && nan.contains("NaN at `"), "{nan}");
}

#[test]
fn a_tokenizer_of_another_model_ends_the_run_before_the_first_row() {
    let dir = folder("text.onnx", "wrong_tokenizer.json", &ours());
    let Some(done) = run(dir.path(), "head = 'h.safetensors'", &rows(r#"{"title":"liver"}"#)) else { return };
    let message = done.err().unwrap().to_string();
    assert!(message.contains("the tokenizer does not fit model `tiny`"), "{message}");
}

#[test]
fn contradictions_are_named() {
    let found = |toml: &str| testing::mistakes(&format!("type = 'text_classifier'\nmodel = 'x'\n{toml}"), &[]);
    assert_eq!(found(""), ["- E-MissingKey: without `head` and `keep_embedding` the step does nothing"]);
    assert_eq!(
        found("keep_embedding = true\nthreshold = 0.5\nfields = ['a', 'a']"),
        [
            "fields E-Contradiction: column `a` is named twice",
            "threshold E-Contradiction: there is no head whose score it could limit"
        ]
    );
}

#[test]
fn batches_give_the_answers_of_single_rows() {
    let words = ["heart", "the surgeon removes a polyp", "light of the camera", "cat"];
    let json: Vec<String> =
        (0..70).map(|i| serde_json::json!({"title": words[i % 4], "description": words[i % 3]}).to_string()).collect();
    let batch = rows(&json.join("\n"));
    let dir = folder("text.onnx", "tokenizer.json", &ours());
    let toml = "head = 'h.safetensors'\nthreshold = 0.0";
    let Some(whole) = run(dir.path(), toml, &batch) else { return };
    let whole = whole.unwrap();
    let whole: &Float32Array = whole.columns[0].as_primitive();
    for i in 0..batch.num_rows() {
        let one = run(dir.path(), toml, &batch.slice(i, 1)).unwrap().unwrap();
        assert_eq!(one.columns[0].as_primitive::<Float32Type>().value(0).to_bits(), whole.value(i).to_bits(), "row {i}");
    }
}
