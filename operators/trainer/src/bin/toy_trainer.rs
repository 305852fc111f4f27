//! A trainer that learns a tiny low-rank matrix and fails on request, for tests of everything around trainers.
//!
//! It speaks the whole protocol: `train`, `prepare`, `verify`; checkpoints are exact, so that a killed and resumed training ends with the same bytes.
//! Keys of the job's `trainer` table are its faults: `hang_at`, `garbage_lines`, `nan_at_cursor`, `nan_batches`, `crash_at`, `ignore_term`,
//! `bad_sample`, `memory_above`, `helper`, `silent_end`, `protocol`, `zero_b`, `preempt_at`, `rank1_code`, `step_ms`, `heartbeat_ms`,
//! `faulty_attempts` (faults of later attempts are off).

#[path = "toy/model.rs"]
mod model;
#[path = "toy/say.rs"]
mod say;
#[path = "toy/train.rs"]
mod train;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use curette_trainer::command_encoder::PrepareRequest;
use curette_trainer::disk;
use curette_trainer::gates::ADAPTER_FILE;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use say::say;

type Failure = Box<dyn std::error::Error>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value =
        |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned().unwrap_or_default();
    let done = match arguments.first().map(String::as_str) {
        Some("train") => train::train(&value("--job"), &value("--attempt")),
        Some("prepare") => prepare(&value("--request")),
        Some("verify") => verify(&value("--adapter")),
        _ => Err("expected train, prepare or verify".into()),
    };
    match done {
        Ok(code) => std::process::exit(code),
        Err(e) => {
            say("error", json!({"kind": "other", "message": e.to_string()}));
            std::process::exit(1)
        }
    }
}

/// The largest number of B A, over all modules: what the adapter adds to the output for inputs of ones and zeros.
fn verify(adapter: &str) -> Result<i32, Failure> {
    say("hello", json!({"proto": 1}));
    let bytes = disk::read(&Path::new(adapter).join(ADAPTER_FILE))?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut largest = 0.0_f64;
    for (name, b) in tensors.tensors().iter().filter(|(name, _)| name.contains("lora_B")) {
        let a = tensors.tensor(&name.replace("lora_B", "lora_A"))?;
        let numbers = |view: &TensorView<'_>| {
            view.data().chunks_exact(4).filter_map(|c| c.try_into().ok()).map(f32::from_le_bytes).collect::<Vec<f32>>()
        };
        let (left, right, rank) = (numbers(b), numbers(&a), b.shape()[1]);
        let width = a.shape()[1];
        for row in left.chunks(rank) {
            for column in 0..width {
                let sum: f64 = row.iter().enumerate().map(|(k, v)| f64::from(*v) * f64::from(right[k * width + column])).sum();
                largest = largest.max(sum.abs());
            }
        }
    }
    say("verified", json!({"max_change": largest}));
    say("done", json!({}));
    Ok(0)
}

/// Latents made of the hash of each file; a file that begins with `broken` is refused.
fn prepare(request: &str) -> Result<i32, Failure> {
    say("hello", json!({"proto": 1}));
    let request: PrepareRequest = serde_json::from_slice(&disk::read(Path::new(request))?)?;
    if let Some(marker) = request.trainer.get("prepare_crashes_without").and_then(|m| m.as_str())
        && !Path::new(marker).exists()
    {
        disk::write_whole(Path::new(marker), b"")?;
        std::process::abort();
    }
    let (sizes, shape) = (request.model.architecture.sizes(), request.shape);
    let sides = [
        sizes.channels,
        request.model.architecture.latent_frames(shape.frames),
        shape.height / curette_trainer::architecture::PIXELS_PER_LATENT,
        shape.width / curette_trainer::architecture::PIXELS_PER_LATENT,
    ]
    .map(|side| side as usize);
    let (mut infos, mut data) = (Vec::new(), BTreeMap::new());
    for clip in &request.clips {
        let bytes = disk::read(&clip.path)?;
        if bytes.starts_with(b"broken") {
            say("refused", json!({"sample": clip.id, "code": "not_a_video", "message": "begins with `broken`"}));
            continue;
        }
        let number = infos.len();
        let mut random = model::Random::new(&disk::sha256(&bytes));
        let mut bf16 =
            |count: usize| -> Vec<u8> { (0..count).flat_map(|_| half::bf16::from_f64(random.next()).to_le_bytes()).collect() };
        let tokens = clip.caption.split_whitespace().count().clamp(1, 16);
        let mask: Vec<u8> = (0..16_usize).flat_map(|i| i64::from(i < tokens).to_le_bytes()).collect();
        data.insert(format!("{number:05}.latent"), (Dtype::BF16, sides.to_vec(), bf16(sides.iter().product())));
        data.insert(format!("{number:05}.embed"), (Dtype::BF16, vec![tokens, 8], bf16(tokens * 8)));
        data.insert(format!("{number:05}.mask"), (Dtype::I64, vec![16], mask));
        data.insert(format!("{number:05}.pooled"), (Dtype::BF16, vec![4], bf16(4)));
        infos.push(
            json!({"id": clip.id, "caption": clip.caption, "frames": shape.frames, "height": shape.height, "width": shape.width,
            "fps": shape.fps}),
        );
    }
    let views: Result<Vec<_>, _> = data
        .iter()
        .map(|(name, (dtype, sides, bytes))| TensorView::new(*dtype, sides.clone(), bytes).map(|v| (name.clone(), v)))
        .collect();
    let metadata = HashMap::from([("samples".to_owned(), serde_json::to_string(&infos)?)]);
    disk::write_whole(&request.out, &safetensors::serialize(views?, Some(metadata))?)?;
    say("done", json!({}));
    Ok(0)
}
