//! Runs one kind of work and says how much processor time it took; the Rust side of `benches/models.py`.
//!
//! `measure WORK MODEL LIBRARY INPUT OUT`: MODEL is a manifest, INPUT a JSON list of texts or a folder of PNGs, OUT gets the answers as little-endian f32.
//! WORK is `text` or `clip` (through this crate, as operators do), `text-bare` or `clip-bare` (the same batches in a loop over `ort` alone), `preprocess`
//! (no model), `padding` (tokens and padded tokens; no model run), or `views-bare` (DOVER's input; INPUT is how often). What is read and warmed up before is not counted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::{Path, PathBuf};

use curette_models::batches::plan_batches;
use curette_models::image::{Rgb, clip_preprocess};
use curette_models::{FileRole, Located, ModelRef, Models, RunSettings, Settings, TextEncoder};
use curette_tokenize::Tokenizer;
use image::RgbImage;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

/// Shortest time that preprocessing is repeated for: the clock ticks 100 times a second.
const PREPROCESS_SECONDS: f64 = 2.0;

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// A session as bare as it gets: the same library and the same threads, nothing of this crate.
fn bare(library: &str, located: &Located) -> Session {
    let environment = ort::init_from(library).unwrap().with_telemetry(false).build().unwrap();
    let builder = Session::builder(&environment).unwrap().with_optimization_level(GraphOptimizationLevel::Level3).unwrap();
    let builder = builder.with_intra_threads(1).unwrap().with_intra_op_spinning(false).unwrap();
    let mut builder = builder;
    builder.commit_from_file(located.require(FileRole::Graph).unwrap()).unwrap()
}

fn tokenizer(located: &Located) -> Tokenizer {
    TextEncoder::tokenizer(&located.manifest, located.require(FileRole::Tokenizer).unwrap()).unwrap()
}

fn pictures(folder: &str) -> Vec<RgbImage> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "png"));
    files.sort();
    files.iter().map(|f| image::open(f).unwrap().to_rgb8()).collect()
}

fn texts(file: &str) -> Vec<String> {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn preprocess(image: &RgbImage) -> Vec<f32> {
    clip_preprocess(image.as_raw(), image.width(), image.height()).unwrap()
}

fn embed_bare(session: &mut Session, tokenizer: &Tokenizer, texts: &[&str]) -> Vec<f32> {
    let mut out = Vec::new();
    for ids in tokenizer.encode(texts).unwrap() {
        let ids = ndarray::Array2::from_shape_fn((1, ids.len()), |(_, i)| i64::from(ids[i]));
        let mask = ndarray::Array2::<i64>::ones(ids.raw_dim());
        let (ids, mask) = (TensorRef::from_array_view(&ids).unwrap(), TensorRef::from_array_view(&mask).unwrap());
        let outputs = session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).unwrap();
        out.extend(outputs[0].try_extract_array::<f32>().unwrap().iter());
    }
    out
}

fn clips_bare(session: &mut Session, batches: &[ndarray::Array4<f32>]) -> Vec<f32> {
    let mut out = Vec::new();
    for batch in batches {
        let outputs = session.run(ort::inputs!["pixel_values" => TensorRef::from_array_view(batch).unwrap()]).unwrap();
        out.extend(outputs[0].try_extract_array::<f32>().unwrap().iter());
    }
    out
}

fn views_bare(session: &mut Session, views: &ndarray::Array5<f32>) -> Vec<f32> {
    let outputs = session.run(ort::inputs!["views" => TensorRef::from_array_view(views).unwrap()]).unwrap();
    outputs[0].try_extract_array::<f32>().unwrap().iter().copied().collect()
}

/// How many items, how many seconds, and the answers.
type Measured = (usize, f64, Vec<f32>);

fn measured(items: usize, work: impl FnOnce() -> Vec<f32>) -> Measured {
    let started = cpu_seconds();
    let answers = work();
    (items, cpu_seconds() - started, answers)
}

fn measure(work: &str, models: &Models, model: &ModelRef, library: &str, input: &str) -> Measured {
    let located = || models.find(model).unwrap();
    match work {
        "text" => {
            let (texts, encoder) = (texts(input), models.text_encoder(model).unwrap());
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            encoder.embed(&texts[..2]).unwrap();
            measured(texts.len(), || encoder.embed(&texts).unwrap().concat())
        }
        "text-bare" => {
            let (texts, mut session, tokenizer) = (texts(input), bare(library, &located()), tokenizer(&located()));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            embed_bare(&mut session, &tokenizer, &texts[..2]);
            measured(texts.len(), || embed_bare(&mut session, &tokenizer, &texts))
        }
        "padding" => {
            let (texts, tokenizer) = (texts(input), tokenizer(&located()));
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let lengths: Vec<usize> = tokenizer.encode(&texts).unwrap().iter().map(Vec::len).collect();
            let batches = plan_batches(&lengths, usize::MAX, 8, 256);
            let padded: usize = batches.iter().map(|b| b.len() * b.iter().map(|&i| lengths[i]).max().unwrap()).sum();
            (texts.len(), 0.0, vec![lengths.iter().sum::<usize>() as f32, padded as f32])
        }
        "clip" => {
            let (images, encoder) = (pictures(input), models.image_encoder(model).unwrap());
            let views: Vec<_> = images.iter().map(|i| Rgb { pixels: i.as_raw(), width: i.width(), height: i.height() }).collect();
            encoder.embed(&views[..1]).unwrap();
            measured(views.len(), || encoder.embed(&views).unwrap().concat())
        }
        "clip-bare" => {
            let (images, mut session) = (pictures(input), bare(library, &located()));
            let batch = located().manifest.run.batch.max(1);
            let tensor = |part: &[RgbImage]| {
                let values = part.iter().flat_map(preprocess).collect();
                ndarray::Array4::from_shape_vec((part.len(), 3, 224, 224), values).unwrap()
            };
            let tensors: Vec<_> = images.chunks(batch).map(tensor).collect();
            clips_bare(&mut session, &[tensor(&images[..1])]);
            measured(images.len(), || clips_bare(&mut session, &tensors))
        }
        "views-bare" => {
            let (runs, mut session) = (input.parse().unwrap(), bare(library, &located()));
            let noise = |i: usize| (i * 7919 % 1009) as f32 / 504.5 - 1.0;
            let views =
                ndarray::Array5::from_shape_vec((1, 3, 32, 224, 224), (0..3 * 32 * 224 * 224).map(noise).collect()).unwrap();
            measured(runs, || (0..runs).flat_map(|_| views_bare(&mut session, &views)).collect())
        }
        "preprocess" => {
            let images = pictures(input);
            let (started, mut rounds, mut last) = (cpu_seconds(), 0, vec![]);
            while cpu_seconds() - started < PREPROCESS_SECONDS {
                last = images.iter().map(preprocess).collect();
                rounds += 1;
            }
            (rounds * images.len(), cpu_seconds() - started, last.concat())
        }
        other => panic!("no work is called {other}"),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [work, model, library, input, out] = &arguments[..] else { panic!("WORK MODEL LIBRARY INPUT OUT") };
    let cache = Path::new(out).with_extension("store");
    let run = RunSettings { replicas: 1, ..RunSettings::default() };
    let models = Models::new(Settings { onnxruntime: Some(library.into()), manifests: None, cache, run });
    let (items, seconds, answers) = measure(work, &models, &ModelRef::parse(model, Path::new(".")), library, input);
    std::fs::write(out, answers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    println!("{}", serde_json::json!({ "items": items, "cpu_seconds": seconds }));
}
