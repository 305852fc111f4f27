//! Models run on ONNX Runtime: the right numbers, and a clear error for everything that can be wrong with a file.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{close, fixtures, image_manifest, models, picture, place, text_manifest};
use curette_models::image::Rgb;
use curette_models::{ErrorKind, ModelError, ModelRef, Models, Result, RunSettings, Tensor};

#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<String>,
    embeddings: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(fixtures().join("text.json")).unwrap()).unwrap()
}

fn failure<T>(result: Result<T>) -> ModelError {
    match result {
        Ok(_) => panic!("it must fail"),
        Err(e) => e,
    }
}

#[test]
fn texts_become_the_vectors_that_numpy_computes_whatever_their_order() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx", "tokenizer.json"]);
    let encoder = models.text_encoder(&ModelRef::Manifest(path)).unwrap();
    assert_eq!(encoder.width(), 16);
    let golden = golden();
    // 700 texts: several windows and many batches of different lengths.
    let picks: Vec<usize> = (0..700).map(|i| (i * 5 + i / 7) % golden.texts.len()).collect();
    let texts: Vec<&str> = picks.iter().map(|&i| golden.texts[i].as_str()).collect();
    let vectors = encoder.embed(&texts).unwrap();
    assert_eq!(vectors.len(), texts.len());
    for (&i, vector) in picks.iter().zip(&vectors) {
        close(vector, &golden.embeddings[i], 1e-5);
    }
    assert!(encoder.embed(&[]).unwrap().is_empty());
}

#[test]
fn pictures_become_the_vectors_that_pillow_and_numpy_compute() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &image_manifest("image.onnx"), &["image.onnx"]);
    let encoder = models.image_encoder(&ModelRef::Manifest(path)).unwrap();
    let golden: Vec<Vec<f32>> = serde_json::from_str(&std::fs::read_to_string(fixtures().join("image.json")).unwrap()).unwrap();
    let pictures: Vec<_> = (0..golden.len()).map(|i| picture(&format!("picture_{i}.png"))).collect();
    let many: Vec<Rgb<'_>> =
        pictures.iter().cycle().take(19).map(|(pixels, width, height)| Rgb { pixels, width: *width, height: *height }).collect();
    let vectors = encoder.embed(&many).unwrap();
    assert_eq!(vectors.len(), 19);
    for (i, vector) in vectors.iter().enumerate() {
        // Pixels may differ by 1 of 255 here and there.
        close(vector, &golden[i % golden.len()], 2e-4);
    }
    let bad = failure(encoder.embed(&[Rgb { pixels: &[0; 5], width: 2, height: 1 }]));
    assert!(bad.kind.is_of_the_input(), "{bad}");
}

#[test]
fn a_bare_onnx_file_runs_with_its_own_ports() {
    let Some((_folder, models)) = models() else { return };
    let model = models.open_default(&ModelRef::Onnx(fixtures().join("image.onnx"))).unwrap();
    assert_eq!(model.contract().inputs[0].name, "pixel_values");
    let out = model.run(&[Tensor::f32(&[2, 3, 224, 224], vec![0.5; 2 * 3 * 224 * 224]).unwrap()]).unwrap();
    assert_eq!(out[0].shape(), [2, 16]);
    assert_eq!(model.identity().sha256.len(), 64);
}

#[test]
fn wrong_tensors_are_refused_before_the_model_sees_them() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx", "tokenizer.json"]);
    let model = models.open_default(&ModelRef::Manifest(path)).unwrap();
    let ids = |rows: usize, length: usize| Tensor::i64(&[rows, length], vec![5; rows * length]).unwrap();
    for (inputs, says) in [
        (vec![ids(1, 3)], "1 inputs given, 2 expected"),
        (vec![ids(1, 3), ids(1, 4)], "`attention_mask` has the shape [1, 4]"),
        (vec![ids(1, 0), ids(1, 0)], "`input_ids` has the shape [1, 0]"),
        (vec![ids(1, 3), Tensor::f32(&[1, 3], vec![1.0; 3]).unwrap()], "`attention_mask` must be i64"),
        (vec![Tensor::i64(&[3], vec![1; 3]).unwrap(), ids(1, 3)], "`input_ids` has the shape [3]"),
    ] {
        let e = failure(model.run(&inputs));
        assert_eq!(e.kind, ErrorKind::BadInput);
        assert!(e.message.contains(says), "{e}");
    }
}

#[test]
fn a_stopped_run_does_not_start() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &image_manifest("image.onnx"), &["image.onnx"]);
    let model = models.open_default(&ModelRef::Manifest(path)).unwrap();
    let input = [Tensor::f32(&[1, 3, 224, 224], vec![0.0; 3 * 224 * 224]).unwrap()];
    let stopped = failure(model.run_until(&input, Some(&AtomicBool::new(true))));
    assert_eq!(stopped.kind, ErrorKind::Cancelled);
    // The session is as good as before.
    model.run_until(&input, Some(&AtomicBool::new(false))).unwrap();
}

#[test]
fn many_threads_share_two_sessions() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx", "tokenizer.json"]);
    let encoder = Arc::new(models.text_encoder(&ModelRef::Manifest(path.clone())).unwrap());
    let golden = golden();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let texts: Vec<&str> = golden.texts.iter().map(String::as_str).collect();
                    for (vector, want) in encoder.embed(&texts).unwrap().iter().zip(&golden.embeddings) {
                        close(vector, want, 1e-5);
                    }
                }
            });
        }
    });
    // Opened once: the same model is given again.
    let again = models.open_default(&ModelRef::Manifest(path)).unwrap();
    assert!(Arc::ptr_eq(&again, encoder.model()));
}

/// Opens what a folder holds and gives the error.
fn refused(models: &Models, folder: &std::path::Path, manifest: &str, files: &[&str]) -> ModelError {
    failure(models.open_default(&ModelRef::Manifest(place(folder, manifest, files))))
}

#[test]
fn a_graph_that_is_not_what_the_manifest_says_is_named_with_the_difference() {
    let Some((folder, models)) = models() else { return };
    let width = refused(&models, folder.path(), &image_manifest("wrong_width.onnx"), &["wrong_width.onnx"]);
    assert_eq!(width.kind, ErrorKind::Contract);
    assert!(width.message.contains("output `image_embeds` has the shape [batch, 8], expected [batch, 16]"), "{width}");
    let names = refused(&models, folder.path(), &image_manifest("wrong_names.onnx"), &["wrong_names.onnx"]);
    assert!(names.message.contains("there is no input `pixel_values` (there is `x`)"), "{names}");
    assert!(names.message.contains("the graph also needs input `x`"), "{names}");
    let text = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx", "tokenizer.json"]);
    let kind = failure(models.image_encoder(&ModelRef::Manifest(text)));
    assert!(kind.message.contains("`tiny-text` is no CLIP image encoder"), "{kind}");
    let image = place(folder.path(), &image_manifest("image.onnx"), &["image.onnx"]);
    let kind = failure(models.text_encoder(&ModelRef::Manifest(image)));
    assert!(kind.message.contains("`tiny-image` has no tokenizer file"), "{kind}");
}

#[test]
fn weights_with_nan_give_an_error_and_no_numbers() {
    let Some((folder, models)) = models() else { return };
    let path = place(folder.path(), &image_manifest("nan_weights.onnx"), &["nan_weights.onnx"]);
    let reference = ModelRef::Manifest(path);
    let encoder = models.image_encoder(&reference).unwrap();
    let e = failure(encoder.embed(&[Rgb { pixels: &[9; 12], width: 2, height: 2 }]));
    assert_eq!(e.kind, ErrorKind::NotFinite);
    assert!(e.message.contains("`image_embeds` of model `tiny-image` has NaN"), "{e}");
    assert_eq!(failure(models.verify(&reference)).kind, ErrorKind::NotFinite);
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let Some((folder, models)) = models() else { return };
    let missing = refused(&models, folder.path(), &image_manifest("image.onnx"), &[]);
    assert_eq!(missing.kind, ErrorKind::MissingFile);
    let full = missing.full();
    for part in [
        "`image.onnx` of model `tiny-image`",
        "no hash is pinned yet",
        "licence CC0-1.0",
        "image.onnx",
        "curette models add tiny-image graph=PATH",
    ] {
        assert!(full.contains(part), "{part} is not in: {full}");
    }
    let whole = std::fs::read(fixtures().join("image.onnx")).unwrap();
    for (content, what) in [(&whole[..whole.len() / 2], "cut"), (b"not a model".as_slice(), "text"), (b"".as_slice(), "empty")] {
        std::fs::write(folder.path().join("image.onnx"), content).unwrap();
        let e = refused(&models, folder.path(), &image_manifest("image.onnx"), &[]);
        // Nothing in half of a file may pass for a model: either it is refused, or it is another graph.
        assert!(matches!(e.kind, ErrorKind::Session | ErrorKind::Contract), "{what}: {e}");
    }
    let absent = failure(models.open_default(&ModelRef::Onnx(folder.path().join("none.onnx"))));
    assert_eq!(absent.kind, ErrorKind::MissingFile);
}

#[test]
fn a_tokenizer_of_another_model_is_found_when_the_encoder_is_opened() {
    let Some((folder, models)) = models() else { return };
    let manifest = text_manifest("text.onnx", "wrong_tokenizer.json");
    let path = place(folder.path(), &manifest, &["text.onnx", "wrong_tokenizer.json"]);
    let e = failure(models.text_encoder(&ModelRef::Manifest(path)));
    assert_eq!(e.kind, ErrorKind::Tokenizer, "{e}");
    assert!(e.message.contains("the tokenizer does not fit model `tiny-text`"), "{e}");
    std::fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    let path = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx"]);
    let e = failure(models.text_encoder(&ModelRef::Manifest(path)));
    assert_eq!(e.kind, ErrorKind::Tokenizer, "{e}");
}

#[test]
fn a_provider_that_is_not_there_is_an_error_only_without_cpu() {
    use curette_models::Provider::{Cpu, Cuda};
    let Some((folder, models)) = models() else { return };
    if curette_models::library::load(models.settings().onnxruntime.as_deref()).is_ok() && curette_models::library::available(Cuda)
    {
        return;
    }
    let reference = ModelRef::Manifest(place(folder.path(), &image_manifest("image.onnx"), &["image.onnx"]));
    let run = |providers: &[_]| RunSettings { providers: providers.to_vec(), ..RunSettings::default() };
    models.open(&reference, &run(&[Cuda, Cpu])).unwrap();
    let e = failure(models.open(&reference, &run(&[Cuda])));
    assert_eq!(e.kind, ErrorKind::Provider);
    assert!(e.full().contains("without the provider `cuda`"), "{e}");
}

#[test]
fn verify_opens_and_tries_what_it_is_given() {
    let Some((folder, models)) = models() else { return };
    let text = place(folder.path(), &text_manifest("text.onnx", "tokenizer.json"), &["text.onnx", "tokenizer.json"]);
    models.verify(&ModelRef::Manifest(text)).unwrap();
    let report = models.library_report().unwrap();
    assert!(report.version.starts_with("1."), "{}", report.version);
    assert!(report.providers.contains(&curette_models::Provider::Cpu));
}
