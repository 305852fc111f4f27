//! A training from its job to a published adapter: attempts, restarts, gates, publication.
//!
//! The folder of a job holds `job.json`, `supervisor.json` (what restarts have changed), `attempts/`, `events.jsonl`, `logs/` and the trainer's
//! checkpoints in `run/`. Computing is at least once, from the last checkpoint; publishing is exactly once. What can go wrong is in
//! [`crate::outcome`] and [`crate::policy`]; two supervisors of one job are kept apart by a lock.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attempt::{self, Attempt};
use crate::disk::{self, Result, TrainerError};
use crate::event::{Body, Event};
use crate::gates::{self, Expected};
use crate::job::{AttemptOrder, Job, pretty};
use crate::outcome::judge;
use crate::policy::{Action, Limits, State, decide};
use crate::publish::{self, Provenance, Published};
use crate::ranks::Start;
use crate::rotating::RotatingLog;
use crate::watch::Patience;

/// How often a pause looks whether it was cancelled.
const POLL: Duration = Duration::from_millis(50);
/// Time of the fresh process that loads the adapter.
const VERIFY_LIMIT: Duration = Duration::from_secs(3600);
/// Files of events that are kept.
const EVENT_FILES: u32 = 4;

/// How a trainer is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Conduct {
    /// Program and first arguments; `train`, `prepare` or `verify` and theirs are appended.
    pub command: Vec<String>,
    /// Restarts in a row without a new checkpoint.
    pub max_restarts: u32,
    /// Bad samples, as a share of all.
    pub max_bad_fraction: f64,
    /// Longest silence.
    pub heartbeat: Duration,
    /// From the request to stop to the kill.
    pub grace: Duration,
    /// Lines of an attempt that are no events.
    pub max_garbage_lines: u32,
    /// Longest time of all attempts of a run together.
    pub max_time: Option<Duration>,
    /// The first pause before a restart.
    pub first_pause: Duration,
    /// Size of a log file.
    pub log_max_bytes: u64,
    /// Log files of each rank.
    pub log_files: u32,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The adapter is there.
    Published(Published),
    /// Stopped; the same command goes on from this step, if there is a checkpoint.
    Resumable(Option<u64>),
    /// The job's time is up; more time goes on from the checkpoint.
    TimeUp(Option<u64>),
    /// It will not work like this.
    Failed(String),
}

/// What is kept over restarts of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    attempts: u32,
    state: State,
    env: Map<String, Value>,
    expected: Expected,
}

/// Trains `job` in `folder` and publishes below `to`. `each` sees all events.
pub fn train(
    job: &Job,
    folder: &Path,
    to: &Path,
    conduct: &Conduct,
    cancel: &AtomicBool,
    each: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    let job_sha256 = job.hash()?;
    let _lock = disk::lock(folder)?;
    if let Some(there) = publish::published(to, &job_sha256, &job.data.manifest_sha256)? {
        return Ok(Outcome::Published(Published { folder: there, already: true }));
    }
    disk::make_folder(&folder.join("attempts"))?;
    disk::make_folder(&job.out)?;
    let path = folder.join("job.json");
    if path.exists() && Job::read(&path)?.hash()? != job_sha256 {
        let what =
            "it holds another training, whose checkpoints and counts are not this one's; name another folder, or remove it";
        return Err(TrainerError::at("train in", folder, what));
    }
    job.write(&path)?;
    let mut run = Run { job, folder, conduct, kept: Kept::load(folder, job)? };
    let limits = Limits {
        max_restarts: conduct.max_restarts,
        max_bad_fraction: conduct.max_bad_fraction,
        samples: job.data.samples,
        first_pause: conduct.first_pause,
    };
    let began = Instant::now();
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Ok(Outcome::Resumable(run.kept.state.checkpoint_step));
        }
        let left = conduct.max_time.map(|all| all.saturating_sub(began.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Outcome::TimeUp(run.kept.state.checkpoint_step));
        }
        let attempt = run.attempt(left, cancel, each)?;
        let verdict = judge(&attempt.ending);
        let (state, action) = decide(&run.kept.state, &limits, &verdict, attempt.checkpoint.as_ref().map(|(step, _)| *step));
        run.kept.state = state;
        run.kept.save(folder)?;
        let finished = action == Action::Accept;
        if attempt.cancelled && !finished {
            return Ok(Outcome::Resumable(run.kept.state.checkpoint_step));
        }
        if attempt.time_up && !finished {
            return Ok(Outcome::TimeUp(run.kept.state.checkpoint_step));
        }
        match action {
            Action::Accept => return run.accept(&job_sha256, to, cancel),
            Action::Resumable => return Ok(Outcome::Resumable(run.kept.state.checkpoint_step)),
            Action::Fail(why) => return Ok(Outcome::Failed(format!("{why}; the logs are in {}", folder.join("logs").display()))),
            Action::Restart { pause, why } => {
                tracing::warn!(attempt = run.kept.attempts, pause_s = pause.as_secs_f64(), "The trainer is started again: {why}");
                wait(pause, cancel);
            }
        }
    }
}

fn wait(pause: Duration, cancel: &AtomicBool) {
    let began = Instant::now();
    while began.elapsed() < pause && !cancel.load(Ordering::Relaxed) {
        std::thread::sleep(POLL.min(pause));
    }
}

impl Kept {
    fn path(folder: &Path) -> PathBuf {
        folder.join("supervisor.json")
    }

    /// A new run of the command has a new budget of restarts; what was found out about samples and memory stays.
    fn load(folder: &Path, job: &Job) -> Result<Kept> {
        let path = Kept::path(folder);
        if path.exists() {
            let mut kept: Kept = serde_json::from_slice(&disk::read(&path)?).map_err(|e| TrainerError::at("read", &path, e))?;
            kept.state.restarts = 0;
            return Ok(kept);
        }
        let accumulation = job.settings.accumulation(job.ranks).map_err(TrainerError)?;
        let state = State::new(job.settings.micro_batch, accumulation);
        Ok(Kept { attempts: 0, state, env: Map::new(), expected: Expected::default() })
    }

    fn save(&self, folder: &Path) -> Result<()> {
        disk::write_whole(&Kept::path(folder), &pretty(self)?)
    }
}

struct Run<'a> {
    job: &'a Job,
    folder: &'a Path,
    conduct: &'a Conduct,
    kept: Kept,
}

impl Run<'_> {
    fn start(&self, what: &[&str], ranks: usize) -> Start {
        let command = self.conduct.command.iter().map(String::as_str).chain(what.iter().copied());
        Start {
            command: command.map(str::to_owned).collect(),
            env: Vec::new(),
            ranks,
            dir: self.folder.to_owned(),
            logs: self.folder.join("logs"),
            log_max_bytes: self.conduct.log_max_bytes,
            log_files: self.conduct.log_files,
        }
    }

    fn attempt(&mut self, left: Option<Duration>, cancel: &AtomicBool, each: &mut dyn FnMut(&Event)) -> Result<Attempt> {
        self.kept.attempts += 1;
        let name = format!("attempts/{:04}.json", self.kept.attempts);
        let order = AttemptOrder::of(self.kept.attempts, &self.kept.state);
        disk::write_whole(&self.folder.join(&name), &pretty(&order)?)?;
        self.kept.save(self.folder)?;
        let start = self.start(&["train", "--job", "job.json", "--attempt", &name], self.job.ranks as usize);
        let mut log = RotatingLog::new(&self.folder.join("events.jsonl"), self.conduct.log_max_bytes, EVENT_FILES);
        let (attempt_number, kept) = (self.kept.attempts, &mut self.kept);
        let mut look = |event: &Event| {
            match &event.body {
                Body::Env { versions } => kept.env = versions.clone(),
                Body::Plan { tensors, .. } => kept.expected.tensors = Some(*tensors),
                Body::Eval { loss, base_loss, .. } => kept.expected.eval = Some((*loss, *base_loss)),
                _ => {}
            }
            if let Ok(Value::Object(mut line)) = serde_json::to_value(event) {
                line.insert("attempt".into(), attempt_number.into());
                log.write(format!("{}\n", Value::Object(line)).as_bytes());
            }
            each(event);
        };
        let patience = Patience { deadline: left, ..Patience::from(self.conduct) };
        let attempt = attempt::run(&start, patience, cancel, &mut look)
            .map_err(|e| TrainerError(format!("cannot run the trainer `{}`: {e}", start.command.join(" "))))?;
        tracing::debug!(?attempt, "An attempt has ended");
        Ok(attempt)
    }

    /// The gates, then publication.
    fn accept(&mut self, job_sha256: &str, to: &Path, cancel: &AtomicBool) -> Result<Outcome> {
        let Some((step, checkpoint)) = newest_checkpoint(&self.job.out)? else {
            return Ok(Outcome::Failed(format!(
                "the trainer says that it is done, but {} holds no checkpoint",
                self.job.out.display()
            )));
        };
        self.kept.expected.max_change = None;
        let adapter = checkpoint.display().to_string();
        let start = self.start(&["verify", "--job", "job.json", "--adapter", &adapter], 1);
        let mut change = None;
        let verified = attempt::run(
            &start,
            Patience { deadline: Some(VERIFY_LIMIT), ..Patience::from(self.conduct) },
            cancel,
            &mut |event| {
                if let Body::Verified { max_change } = event.body {
                    change = Some(max_change);
                }
            },
        )
        .map_err(|e| TrainerError(format!("cannot run the trainer's `verify`: {e}")))?;
        if verified.cancelled {
            return Ok(Outcome::Resumable(Some(step)));
        }
        self.kept.expected.max_change = change;
        self.kept.save(self.folder)?;
        let settings = &self.job.settings;
        let refused = gates::refusals(&checkpoint, settings.rank, settings.alpha, &self.kept.expected)?;
        if !refused.is_empty() {
            let why = refused.join("; ");
            return Ok(Outcome::Failed(format!("the adapter of step {step} is not published: {why} (it is in {adapter})")));
        }
        let versions = publish::version_lock(&self.kept.env);
        let provenance = Provenance {
            key: publish::key(job_sha256, &self.job.data.manifest_sha256, &versions),
            job_sha256: job_sha256.to_owned(),
            job: self.job.clone(),
            versions,
            step,
            gates: self.kept.expected.clone(),
            state: self.kept.state.clone(),
        };
        publish::publish(&checkpoint, to, &provenance).map(Outcome::Published)
    }
}

impl From<&Conduct> for Patience {
    fn from(conduct: &Conduct) -> Patience {
        let Conduct { heartbeat, grace, max_garbage_lines, .. } = *conduct;
        Patience { heartbeat, grace, max_garbage_lines, deadline: None }
    }
}

/// The folder `ckpt-STEP` of the largest step that has its `meta.json`, which is written last.
pub fn newest_checkpoint(out: &Path) -> Result<Option<(u64, PathBuf)>> {
    let failed = |e: std::io::Error| TrainerError::at("read", out, e);
    let mut newest = None;
    for entry in std::fs::read_dir(out).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step: Option<u64> = name.strip_prefix("ckpt-").and_then(|n| n.parse().ok());
        if let Some(step) = step.filter(|_| path.join("meta.json").is_file()) {
            newest = newest.max(Some((step, path)));
        }
    }
    Ok(newest)
}
