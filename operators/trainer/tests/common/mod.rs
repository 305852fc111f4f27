//! A job of the toy trainer, and how it is run.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use curette_trainer::architecture::Architecture;
use curette_trainer::event::{Body, Event};
use curette_trainer::job::{Data, JOB_VERSION, Job, Model, Shape};
use curette_trainer::preset::Preset;
use curette_trainer::spool::{Header, OwnedTensor, Sample, SampleInfo, Spool, SpoolWriter};
use curette_trainer::supervise::{Conduct, Outcome, train};
use safetensors::Dtype;
use serde_json::{Value, json};

pub const SHAPE: Shape = Shape { frames: 5, height: 16, width: 32, fps: 24.0 };
pub const SAMPLES: u64 = 20;

pub fn toy() -> String {
    env!("CARGO_BIN_EXE_curette-toy-trainer").to_owned()
}

pub fn conduct() -> Conduct {
    Conduct {
        command: vec![toy()],
        max_restarts: 3,
        max_bad_fraction: 0.1,
        heartbeat: Duration::from_secs(20),
        grace: Duration::from_secs(20),
        max_garbage_lines: 5,
        max_time: None,
        first_pause: Duration::from_millis(10),
        log_max_bytes: 1 << 20,
        log_files: 2,
    }
}

pub fn header() -> Header {
    Header { architecture: Architecture::Hunyuan, encoder: "toy".into(), shape: SHAPE }
}

/// A sealed spool of tiny samples.
pub fn spool(folder: &Path) {
    let mut writer = SpoolWriter::open(folder, &header()).unwrap();
    let sample = |number: u64| {
        let latent = OwnedTensor { dtype: Dtype::BF16, shape: vec![16, 2, 2, 4], bytes: vec![number as u8; 512] };
        let info = SampleInfo { id: format!("clip{number}"), caption: "x".into(), frames: 5, height: 16, width: 32, fps: 24.0 };
        Sample { info, tensors: BTreeMap::from([("latent".to_owned(), latent)]) }
    };
    for shard in 0..SAMPLES / 5 {
        writer.add(&(0..5).map(|n| sample(shard * 5 + n)).collect::<Vec<_>>()).unwrap();
    }
    writer.seal().unwrap();
}

/// A folder with a spool, and a job in it with these faults.
pub struct World {
    pub folder: tempfile::TempDir,
    pub job: Job,
    pub conduct: Conduct,
    pub cancel: AtomicBool,
}

impl World {
    pub fn new(faults: Value) -> World {
        let folder = tempfile::tempdir().unwrap();
        let spool_folder = folder.path().join("spool");
        spool(&spool_folder);
        let mut settings = Preset::PaperText.settings();
        (settings.rank, settings.alpha, settings.steps, settings.learning_rate) = (4, 8.0, 40, 0.05);
        (settings.global_batch, settings.micro_batch, settings.checkpoint_every) = (4, 2, 10);
        let job = Job {
            version: JOB_VERSION,
            model: Model { architecture: Architecture::Hunyuan, weights: "toy".into(), revision: String::new() },
            data: Data {
                manifest_sha256: Spool::open(&spool_folder).unwrap().digest().unwrap(),
                spool: spool_folder,
                samples: SAMPLES,
                table: "clips".into(),
                table_version: 1,
                plan_hash: String::new(),
            },
            shape: SHAPE,
            settings,
            ranks: 1,
            out: folder.path().join("job/run"),
            trainer: faults.as_object().unwrap().clone(),
        };
        World { folder, job, conduct: conduct(), cancel: AtomicBool::new(false) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self) -> Outcome {
        self.run_until(None)
    }

    /// Cancels at a step.
    pub fn run_until(&self, stop_at: Option<u64>) -> Outcome {
        self.cancel.store(false, Ordering::Relaxed);
        let mut look = |event: &Event| {
            if matches!(event.body, Body::Step { step, .. } if Some(step) == stop_at) {
                self.cancel.store(true, Ordering::Relaxed);
            }
        };
        train(&self.job, &self.path("job"), &self.path("published"), &self.conduct, &self.cancel, &mut look).unwrap()
    }

    /// The published adapter's folder.
    pub fn published(&self) -> PathBuf {
        match self.run() {
            Outcome::Published(published) => published.folder,
            other => panic!("not published: {other:?}"),
        }
    }

    /// Why it failed.
    pub fn failure(&self) -> String {
        match self.run() {
            Outcome::Failed(why) => why,
            other => panic!("did not fail: {other:?}"),
        }
    }

    pub fn supervisor(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path("job/supervisor.json")).unwrap()).unwrap()
    }

    pub fn events(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("job/events.jsonl")).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        lines.filter(|line| line["t"] == json!(kind)).collect()
    }
}

/// Whether a process is there and no zombie.
pub fn lives(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(state.rsplit(')').next().unwrap_or_default().trim().chars().next(), None | Some('Z' | 'X'))
}

/// Waits for something, at most so long.
pub fn within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
