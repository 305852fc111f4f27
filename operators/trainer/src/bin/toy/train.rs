//! The command `train`: steps, checkpoints, and the faults that the job asks for.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use curette_trainer::Job;
use curette_trainer::disk;
use curette_trainer::gates::{ADAPTER_FILE, METADATA_KEY};
use curette_trainer::job::AttemptOrder;
use curette_trainer::outcome::{EXIT_DATA, EXIT_NOT_FINITE, EXIT_RESOURCES, EXIT_STOPPED};
use curette_trainer::publish::EMA_FILE;
use curette_trainer::spool::Spool;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::Failure;
use super::model::{MODULES, Model, WIDTH, name};
use super::say::{SILENT, STOP, raw, say};

extern "C" fn on_term(_: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

struct Faults<'a> {
    job: &'a Job,
    on: bool,
}

impl Faults<'_> {
    fn number(&self, key: &str) -> Option<u64> {
        self.job.trainer.get(key).filter(|_| self.on).and_then(Value::as_u64)
    }
    fn flag(&self, key: &str) -> bool {
        self.job.trainer.get(key).filter(|_| self.on).and_then(Value::as_bool).unwrap_or(false)
    }
}

pub fn train(job: &str, attempt: &str) -> Result<i32, Failure> {
    let job = Job::read(Path::new(job))?;
    let order: AttemptOrder = serde_json::from_slice(&disk::read(Path::new(attempt))?)?;
    let faulty = job.trainer.get("faulty_attempts").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let faults = Faults { job: &job, on: u64::from(order.attempt) <= faulty };
    let rank: u64 = std::env::var("RANK")?.parse()?;
    let term = if faults.flag("ignore_term") { libc::SIG_IGN } else { on_term as *const () as libc::sighandler_t };
    // SAFETY: the handler only stores a flag.
    unsafe { libc::signal(libc::SIGTERM, term) };
    if rank > 0 {
        return follower(&faults);
    }
    say("hello", json!({"proto": faults.number("protocol").unwrap_or(1), "pid": std::process::id()}));
    say("env", json!({"toy": "1", "world_size": std::env::var("WORLD_SIZE")?}));
    eprintln!("toy trainer, attempt {}", order.attempt);
    if faults.flag("helper") {
        let helper = std::process::Command::new("sleep").arg("600").spawn()?;
        disk::write_whole(&job.out.join("helper.pid"), helper.id().to_string().as_bytes())?;
    }
    for line in 0..faults.number("garbage_lines").unwrap_or(0) {
        raw(&format!("stray print {line}\n"));
    }
    heartbeat(Duration::from_millis(job.trainer.get("heartbeat_ms").and_then(Value::as_u64).unwrap_or(200)));
    if faults.number("memory_above").is_some_and(|most| u64::from(order.micro_batch) > most) {
        say("error", json!({"kind": "memory", "message": format!("no room for a micro_batch of {}", order.micro_batch)}));
        return Ok(EXIT_RESOURCES);
    }
    let spool = Spool::open(&job.data.spool)?;
    let ids: Vec<&String> =
        spool.manifest.shards.iter().flat_map(|s| &s.ids).filter(|id| !order.quarantined.contains(id)).collect();
    let mut run = Run::resume(&job, &order)?;
    say("plan", json!({"tensors": 2 * MODULES, "params": 2 * MODULES * WIDTH * run.model.rank}));
    while run.step < job.settings.steps {
        if STOP.load(Ordering::Relaxed) || faults.number("preempt_at") == Some(run.step) {
            run.save()?;
            say("stopped", json!({"step": run.step}));
            return Ok(EXIT_STOPPED);
        }
        let batch = u64::from(order.micro_batch) * u64::from(order.accumulation) * u64::from(job.ranks);
        let at = run.cursor;
        run.cursor += batch;
        if order.skip_cursors.contains(&at) {
            continue;
        }
        let samples: Vec<&str> = (at..at + batch).map(|c| ids[(c % ids.len() as u64) as usize].as_str()).collect();
        if let Some(bad) = job.trainer.get("bad_sample").and_then(Value::as_str).filter(|bad| samples.contains(bad)) {
            say("error", json!({"kind": "data", "sample": bad, "message": "bytes differ"}));
            return Ok(EXIT_DATA);
        }
        // `nan_batches` batches in a row are bad, one if it does not say.
        let bad = faults.number("nan_at_cursor").map(|first| first..first + batch * faults.number("nan_batches").unwrap_or(1));
        if bad.is_some_and(|bad| bad.contains(&at)) {
            say("error", json!({"kind": "nan", "cursor": at}));
            return Ok(EXIT_NOT_FINITE);
        }
        let loss = run.model.loss(&samples, true);
        run.step += 1;
        let decay = job.settings.ema.map(|e| e.decay.min((1 + run.step) as f64 / (10 + run.step) as f64));
        run.model.step(&samples, run.step, job.settings.learning_rate, !faults.flag("zero_b"), decay);
        say("step", json!({"step": run.step, "loss": loss, "cursor": run.cursor}));
        std::thread::sleep(Duration::from_millis(job.trainer.get("step_ms").and_then(Value::as_u64).unwrap_or(0)));
        if faults.number("crash_at") == Some(run.step) {
            std::process::abort();
        }
        if faults.number("hang_at") == Some(run.step) {
            SILENT.store(true, Ordering::Relaxed);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        if run.step.is_multiple_of(job.settings.checkpoint_every) && run.step < job.settings.steps {
            run.save()?;
        }
    }
    let all: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
    let (loss, base_loss) = (run.model.loss(&all, true), run.model.loss(&all, false));
    say("eval", json!({"step": run.step, "loss": loss, "base_loss": base_loss}));
    run.save()?;
    if faults.flag("silent_end") {
        return Ok(0);
    }
    if job.ranks > 1 {
        disk::write_whole(&job.out.join("done"), b"")?;
    }
    say("done", json!({"step": run.step}));
    Ok(0)
}

/// Other ranks only wait, or fail.
fn follower(faults: &Faults<'_>) -> Result<i32, Failure> {
    if let Some(code) = faults.number("rank1_code") {
        return Ok(i32::try_from(code)?);
    }
    while !STOP.load(Ordering::Relaxed) && !faults.job.out.join("done").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(if STOP.load(Ordering::Relaxed) { EXIT_STOPPED } else { 0 })
}

fn heartbeat(every: Duration) {
    std::thread::spawn(move || {
        while !SILENT.load(Ordering::Relaxed) {
            say("heartbeat", json!({}));
            std::thread::sleep(every);
        }
    });
}

struct Run<'a> {
    job: &'a Job,
    model: Model,
    step: u64,
    cursor: u64,
}

fn checkpoints(out: &Path) -> Result<Vec<(u64, PathBuf)>, Failure> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        let step = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("ckpt-")).and_then(|n| n.parse().ok());
        found.extend(step.filter(|_| path.join("meta.json").is_file()).map(|step: u64| (step, path.clone())));
    }
    Ok(found.into_iter().collect())
}

impl<'a> Run<'a> {
    fn resume(job: &'a Job, order: &AttemptOrder) -> Result<Run<'a>, Failure> {
        let mut run = Run { job, model: Model::new(job.settings.rank as usize, job.settings.seed), step: 0, cursor: 0 };
        let mut there = checkpoints(&job.out)?;
        if order.previous_checkpoint
            && there.len() > 1
            && let Some((_, newest)) = there.pop()
        {
            std::fs::remove_dir_all(newest)?;
        }
        if let Some((step, folder)) = there.last() {
            let meta: Value = serde_json::from_slice(&disk::read(&folder.join("meta.json"))?)?;
            (run.step, run.cursor) = (*step, meta["cursor"].as_u64().ok_or("meta.json has no cursor")?);
            let bytes = disk::read(&folder.join("state.safetensors"))?;
            for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
                let values = view.data().chunks_exact(8).filter_map(|c| c.try_into().ok()).map(f64::from_le_bytes).collect();
                run.model.tensors.insert(name, values);
            }
            say("resumed", json!({"step": run.step}));
        }
        Ok(run)
    }

    fn save(&self) -> Result<(), Failure> {
        let folder = self.job.out.join(format!("ckpt-{:06}", self.step));
        let half = self.job.out.join(format!("ckpt-{:06}.tmp", self.step));
        let _ = std::fs::remove_dir_all(&half);
        disk::make_folder(&half)?;
        let state: Vec<(&String, Vec<u8>)> =
            self.model.tensors.iter().map(|(n, v)| (n, v.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
        let views: Result<Vec<_>, _> =
            state.iter().map(|(n, b)| TensorView::new(Dtype::F64, vec![b.len() / 8], b).map(|v| (n.as_str(), v))).collect();
        disk::write_whole(&half.join("state.safetensors"), &safetensors::serialize(views?, None)?)?;
        self.adapter(&half.join(ADAPTER_FILE), "")?;
        if self.job.settings.ema.is_some() {
            self.adapter(&half.join(EMA_FILE), "ema.")?;
        }
        disk::write_whole(&half.join("meta.json"), json!({"step": self.step, "cursor": self.cursor}).to_string().as_bytes())?;
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::rename(&half, &folder)?;
        disk::sync_folder(&self.job.out)?;
        say("checkpoint", json!({"step": self.step, "dir": folder.file_name().and_then(|n| n.to_str())}));
        let there = checkpoints(&self.job.out)?;
        for (step, old) in there.iter().rev().skip(self.job.settings.keep_last as usize) {
            if !step.is_multiple_of(self.job.settings.keep_every) {
                std::fs::remove_dir_all(old)?;
            }
        }
        Ok(())
    }

    fn adapter(&self, path: &Path, prefix: &str) -> Result<(), Failure> {
        let mut data = Vec::new();
        for module in 0..MODULES {
            for (letter, shape) in [("A", vec![self.model.rank, WIDTH]), ("B", vec![WIDTH, self.model.rank])] {
                let values = &self.model.tensors[&format!("{prefix}{}", name(module, letter))];
                data.push((
                    name(module, letter),
                    shape,
                    values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect::<Vec<u8>>(),
                ));
            }
        }
        let views: Result<Vec<_>, _> =
            data.iter().map(|(n, shape, b)| TensorView::new(Dtype::F32, shape.clone(), b).map(|v| (n.as_str(), v))).collect();
        let settings =
            json!({"transformer.r": self.job.settings.rank, "transformer.lora_alpha": self.job.settings.alpha}).to_string();
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), settings)]);
        disk::write_whole(path, &safetensors::serialize(views?, Some(metadata))?)?;
        Ok(())
    }
}
