//! `prepare` with the trainer's own command, and, where a Python is named, all the way with the trainer that people use.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{SHAPE, conduct, toy};
use curette_trainer::command_encoder::CommandEncoder;
use curette_trainer::event::Body;
use curette_trainer::job::{Data, JOB_VERSION, Job, Model, Shape};
use curette_trainer::prepare::{Clip, Encoder, PrepareLimits, Prepared, prepare};
use curette_trainer::publish::{EMA_FILE, PROVENANCE_FILE, verify};
use curette_trainer::rules::ClipFacts;
use curette_trainer::spool::{Header, Spool};
use curette_trainer::supervise::{Conduct, Outcome, train};
use curette_trainer::{Architecture, Preset};
use serde_json::{Map, Value, json};

/// Names a Python in which `-m diffusion_lora` runs.
const PYTHON: &str = "CURETTE_TRAINER_PYTHON";

#[test]
fn the_trainers_command_fills_a_spool_and_a_crash_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clips: Vec<_> = (0..7)
        .map(|number| {
            let path = folder.path().join(format!("{number}.mp4"));
            std::fs::write(&path, if number == 3 { "broken".to_owned() } else { format!("video {number}") }).unwrap();
            Ok(Clip { id: format!("clip{number}"), path, caption: "two words".into(), facts: ClipFacts::default() })
        })
        .collect();
    let run = |spool: &str, trainer: Map<String, serde_json::Value>| {
        let model = Model { architecture: Architecture::Hunyuan, weights: "toy".into(), revision: "1".into() };
        let mut encoder = CommandEncoder { conduct: conduct(), model, shape: SHAPE, folder: folder.path().join("work"), trainer };
        assert_eq!(encoder.identity(), format!("{} of toy@1", toy()));
        let header = Header { architecture: Architecture::Hunyuan, encoder: encoder.identity(), shape: SHAPE };
        let limits = PrepareLimits { samples_per_shard: 3, max_bad_fraction: 0.2, max_bytes: 1 << 20 };
        let done =
            prepare(clips.iter().cloned(), &mut encoder, &folder.path().join(spool), &header, &limits, &AtomicBool::new(false));
        assert_eq!(done.unwrap(), Prepared { samples: 6, encoded: 6, refused: 1, cancelled: false });
        let spool = Spool::open(&folder.path().join(spool)).unwrap();
        spool.verify().unwrap();
        (spool.digest().unwrap(), spool.manifest.shards.len())
    };
    let marker = folder.path().join("marker").display().to_string();
    let crashing = json!({"prepare_crashes_without": marker}).as_object().unwrap().clone();
    let (digest, shards) = run("one", Map::new());
    assert_eq!(shards, 3);
    assert_eq!(run("two", crashing), (digest, shards), "the same bytes, also after a crash");
}

/// Tiny random weights of the true architecture, made by the trainer itself: clips, spool, a training that is stopped and resumed, gates, adapter.
#[test]
fn the_python_trainer_goes_from_clips_to_a_published_adapter() {
    let Ok(python) = std::env::var(PYTHON) else {
        println!("skipped: {PYTHON} names no Python with trainers/diffusion_lora; scripts/trainer-tests makes one");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("weights");
    let arguments = ["-m", "diffusion_lora", "tiny", "--architecture", "hunyuan", "--clips", "6", "--out"];
    let made = Command::new(&python).args(arguments).arg(&weights).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(weights.join("clips/clip5.mp4"), "broken").unwrap();
    let command = [&python, "-m", "diffusion_lora"].map(str::to_owned).to_vec();
    let (heartbeat, grace) = (Duration::from_secs(120), Duration::from_secs(60));
    let conduct =
        Conduct { command, max_restarts: 0, max_bad_fraction: 0.2, max_garbage_lines: 0, heartbeat, grace, ..conduct() };
    let trainer = json!({"threads": 1, "eval_samples": 4}).as_object().unwrap().clone();
    let model = Model { architecture: Architecture::Hunyuan, weights: weights.display().to_string(), revision: String::new() };
    let shape = Shape { frames: 5, height: 32, width: 32, fps: 24.0 };

    let clip = |number: u32| Clip {
        id: format!("clip{number}"),
        path: weights.join(format!("clips/clip{number}.mp4")),
        caption: format!("The short video shows square number {number}."),
        facts: ClipFacts::default(),
    };
    let work = folder.path().join("work");
    let mut encoder =
        CommandEncoder { conduct: conduct.clone(), model: model.clone(), shape, folder: work, trainer: trainer.clone() };
    let header = Header { architecture: Architecture::Hunyuan, encoder: encoder.identity(), shape };
    let limits = PrepareLimits { samples_per_shard: 8, max_bad_fraction: 0.2, max_bytes: 1 << 24 };
    let spool = folder.path().join("spool");
    let done = prepare((0..6).map(|n| Ok(clip(n))), &mut encoder, &spool, &header, &limits, &AtomicBool::new(false)).unwrap();
    assert_eq!(done, Prepared { samples: 5, encoded: 5, refused: 1, cancelled: false });

    let mut settings = Preset::PaperText.settings();
    (settings.rank, settings.alpha, settings.steps, settings.learning_rate) = (4, 8.0, 40, 0.01);
    (settings.global_batch, settings.micro_batch, settings.checkpoint_every) = (4, 2, 10);
    let job = Job {
        version: JOB_VERSION,
        model,
        data: Data {
            manifest_sha256: Spool::open(&spool).unwrap().digest().unwrap(),
            spool,
            samples: 5,
            table: "clips".into(),
            table_version: 1,
        },
        shape,
        settings,
        ranks: 1,
        out: folder.path().join("job/run"),
        trainer,
    };
    let cancel = AtomicBool::new(false);
    let run = |stop_at: Option<u64>| {
        cancel.store(false, Ordering::Relaxed);
        train(&job, &folder.path().join("job"), &folder.path().join("published"), &conduct, &cancel, &mut |event| {
            if matches!(event.body, Body::Step { step, .. } if Some(step) == stop_at) {
                cancel.store(true, Ordering::Relaxed);
            }
        })
        .unwrap()
    };
    let Outcome::Resumable(Some(step)) = run(Some(12)) else { panic!("it was asked to stop") };
    assert!((12..40).contains(&step), "it saved where it was: {step}");
    let Outcome::Published(published) = run(None) else { panic!("it was not published") };
    verify(&published.folder).unwrap();
    assert!(published.folder.join(EMA_FILE).is_file());
    let provenance: Value = serde_json::from_slice(&std::fs::read(published.folder.join(PROVENANCE_FILE)).unwrap()).unwrap();
    assert_eq!((&provenance["step"], &provenance["state"]["restarts"]), (&json!(40), &json!(0)));
    assert!(provenance["versions"]["torch"].is_string() && provenance["versions"]["diffusers"].is_string());
    let [loss, base] = provenance["gates"]["eval"].as_array().unwrap().as_slice() else { panic!() };
    assert!(loss.as_f64().unwrap() < base.as_f64().unwrap());
    assert!(matches!(run(None), Outcome::Published(again) if again.already && again.folder == published.folder));
}
