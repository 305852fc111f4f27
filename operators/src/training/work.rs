//! What a `lora_trainer` does when its table is complete: preflight, prepare, train, publish; and nothing of it twice.
//!
//! The spool is named by what decides its content: the table's plan and version, encoder, model and size of the clips. The job is named by its
//! hash, in which the digest of the spool stands for the data. So the same command finds a sealed spool and a published adapter and does nothing,
//! finds a checkpoint and goes on, and other settings are another job. What can go wrong: see `curette_trainer::supervise`; each ending has its text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use curette_engine::commit::Table;
use curette_engine::operator::{Committed, FollowUp, FollowUpError};
use curette_trainer::command_encoder::CommandEncoder;
use curette_trainer::disk::{self, TrainerError};
use curette_trainer::event::{Body, Event};
use curette_trainer::job::{Data, JOB_VERSION, Job, pretty};
use curette_trainer::preflight::Level;
use curette_trainer::prepare::{Encoder, PrepareLimits, Prepared, prepare};
use curette_trainer::publish::published;
use curette_trainer::spool::{HEADER, Header, REFUSED, Refusal, Spool};
use curette_trainer::supervise::{Outcome, train};

use super::feed::{FromTable, clips};
use super::rows::{ClipTable, Names};
use super::settings;
use crate::sinks::lora_trainer::LoraTrainer;
use crate::sources::files::Files;

/// Characters of a hash in a folder's name.
const NAME_CHARACTERS: usize = 16;
/// Progress of a training is told so often.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// What ended a run that a signal stopped while clips were encoded.
const PREPARING: &str = "was stopped while clips were encoded";

/// A training that waits for its clips.
pub struct Training {
    /// The step's keys.
    pub config: LoraTrainer,
    /// Folder of all of it.
    pub folder: PathBuf,
    /// Where relative paths start.
    pub base: PathBuf,
    /// Columns of the table.
    pub names: Names,
    /// The stores.
    pub files: Arc<Files>,
}

fn failed(e: impl std::fmt::Display) -> FollowUpError {
    FollowUpError::Failed(e.to_string())
}

/// A hash, short enough for a folder's name.
fn short(hash: &str) -> &str {
    hash.get(..NAME_CHARACTERS).unwrap_or(hash)
}

impl FollowUp for Training {
    fn run(&self, of: &Committed) -> Result<Vec<String>, FollowUpError> {
        let named = |e: String| FollowUpError::Failed(format!("table {}: {e}", of.location));
        let table = ClipTable::open(of.location, self.names.clone(), Arc::clone(&self.files)).map_err(named)?;
        let places = table.places().map_err(named)?;
        let encoder = self.encoder();
        let header = self.header(&encoder.inner_identity());
        let spool = self.spool_folder(of, &header)?;
        let adapters = self.folder.join("adapters");
        if let Some(job) = self.job_of_sealed(of, &spool)? {
            let hash = job.hash().map_err(failed)?;
            if let Some(there) = published(&adapters, &hash, &job.data.manifest_sha256).map_err(failed)? {
                let mut said = vec![format!("the adapter of this training is published already: {}", there.display())];
                said.extend(self.refused(&spool)?);
                return Ok(said);
            }
        }
        self.preflight(places.len() as u64, &spool)?;
        let limits = PrepareLimits {
            samples_per_shard: self.config.clips_per_shard,
            max_bad_fraction: self.config.max_bad_fraction,
            max_bytes: settings::spool_max_bytes(&self.config),
        };
        let mut feed = encoder.over(&table, &places, &self.folder);
        let prepared = prepare(clips(&table, &places), &mut feed, &spool, &header, &limits, of.stop).map_err(failed)?;
        let Prepared { samples, encoded, refused, cancelled } = prepared;
        tracing::info!(samples, encoded, refused, "Clips are encoded");
        if cancelled {
            return Err(FollowUpError::Stopped(PREPARING.into()));
        }
        if samples == 0 {
            let why = self.refused(&spool)?.unwrap_or_else(|| "the table is empty".into());
            return Err(FollowUpError::Failed(format!("there is no clip to train on: {why}")));
        }
        let Some(job) = self.job_of_sealed(of, &spool)? else {
            return Err(FollowUpError::Failed(format!("the spool {} is not sealed", spool.display())));
        };
        let mut said = self.train(&job, &adapters, of)?;
        said.extend(self.refused(&spool)?);
        Ok(said)
    }
}

/// The trainer's `prepare`, before it has a table.
struct Unfed(CommandEncoder);

impl Unfed {
    /// What decides its output. A `prepare` that is told other things is another one.
    fn inner_identity(&self) -> String {
        let mut identity = self.0.identity();
        if !self.0.trainer.is_empty() {
            identity.push_str(&format!(" {}", serde_json::Value::Object(self.0.trainer.clone())));
        }
        identity
    }

    fn over<'a>(self, table: &'a ClipTable, places: &'a [super::rows::Place], folder: &Path) -> FromTable<'a> {
        FromTable { table, places, inner: self.0, folder: folder.join("prepare/clips"), handed: 0 }
    }
}

impl Training {
    fn encoder(&self) -> Unfed {
        Unfed(CommandEncoder {
            conduct: settings::conduct(&self.config, &self.base),
            model: settings::model(&self.config, &self.base),
            shape: settings::shape(&self.config),
            folder: self.folder.join("prepare"),
            trainer: self.config.prepare_options.clone().into_iter().collect(),
        })
    }

    fn header(&self, encoder: &str) -> Header {
        let shape = settings::shape(&self.config);
        Header { architecture: self.config.architecture, encoder: encoder.to_owned(), shape }
    }

    fn spool_folder(&self, of: &Committed, header: &Header) -> Result<PathBuf, FollowUpError> {
        let mut named = pretty(header).map_err(failed)?;
        named.extend_from_slice(format!("{} {}", of.plan_hash, of.generation).as_bytes());
        Ok(self.folder.join(format!("spool-{}", short(&disk::sha256(&named)))))
    }

    /// The job, if the spool has all of its clips.
    fn job_of_sealed(&self, of: &Committed, spool: &Path) -> Result<Option<Job>, FollowUpError> {
        if !spool.join(HEADER).is_file() {
            return Ok(None);
        }
        let there = Spool::open(spool).map_err(failed)?;
        if !there.manifest.sealed {
            return Ok(None);
        }
        let table = Table::open_existing(of.step, of.location).map_err(failed)?;
        let table = table.ok_or_else(|| FollowUpError::Failed(format!("there is no table at {}", of.location)))?;
        let mut job = Job {
            version: JOB_VERSION,
            model: settings::model(&self.config, &self.base),
            data: Data {
                spool: spool.to_owned(),
                manifest_sha256: there.digest().map_err(failed)?,
                samples: there.manifest.samples(),
                table: of.location.to_owned(),
                table_version: table.state().map_err(failed)?.version,
                plan_hash: of.plan_hash.to_owned(),
            },
            shape: settings::shape(&self.config),
            settings: settings::settings(&self.config),
            ranks: self.config.ranks,
            out: PathBuf::new(),
            trainer: self.config.trainer_options.clone().into_iter().collect(),
        };
        job.out = self.job_folder(&job.hash().map_err(failed)?).join("run");
        Ok(Some(job))
    }

    fn job_folder(&self, hash: &str) -> PathBuf {
        self.folder.join("jobs").join(short(hash))
    }

    /// Tells what it will cost, and refuses what will not run.
    fn preflight(&self, rows: u64, spool: &Path) -> Result<(), FollowUpError> {
        disk::make_folder(&self.folder).map_err(failed)?;
        let there: u64 = match spool.join(HEADER).is_file() {
            true => Spool::open(spool).map_err(failed)?.manifest.shards.iter().map(|shard| shard.bytes).sum(),
            false => 0,
        };
        // What a training has on the disk already is not needed again.
        let begun = self.folder.join("jobs").exists();
        let free = if begun { Ok(u64::MAX) } else { disk::free_bytes(&self.folder).map_err(|e| e.0) };
        let found = settings::estimate(&self.config, Some(rows), &self.folder, free, there);
        found.to_string().lines().for_each(|line| tracing::info!("{line}"));
        let errors = found.findings.iter().filter(|finding| finding.level == Level::Error);
        let errors: Vec<String> = errors
            .map(|e| {
                let help = e.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{}{}{help}", e.key.map(|key| format!("{key}: ")).unwrap_or_default(), e.message)
            })
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(FollowUpError::Failed(errors.join("; "))) }
    }

    fn train(&self, job: &Job, adapters: &Path, of: &Committed) -> Result<Vec<String>, FollowUpError> {
        let hash = job.hash().map_err(failed)?;
        let folder = self.job_folder(&hash);
        tracing::info!(job = short(&hash), folder = %folder.display(), samples = job.data.samples, "Training");
        let (mut told, steps) = (None, job.settings.steps);
        let mut look = |event: &Event| tell(event, steps, &mut told);
        let conduct = settings::conduct(&self.config, &self.base);
        match train(job, &folder, adapters, &conduct, of.stop, &mut look).map_err(failed)? {
            Outcome::Published(there) => {
                let when = if there.already { " already" } else { "" };
                Ok(vec![format!("the adapter is published{when}: {}", there.folder.display())])
            }
            Outcome::Resumable(step) => Err(FollowUpError::Stopped(match step {
                Some(step) => format!("was stopped after the checkpoint of step {step} of {steps}"),
                None => "was stopped before its first checkpoint".into(),
            })),
            Outcome::TimeUp(step) => {
                let (hours, done) = (self.config.max_hours, step.unwrap_or(0));
                Err(FollowUpError::Failed(format!(
                    "max_hours = {hours} are over after the checkpoint of step {done} of {steps}; the same command gives it as many again"
                )))
            }
            Outcome::Failed(why) => Err(FollowUpError::Failed(why)),
        }
    }

    /// How many clips are not trained on, by reason.
    fn refused(&self, spool: &Path) -> Result<Option<String>, FollowUpError> {
        let path = spool.join(REFUSED);
        if !path.is_file() {
            return Ok(None);
        }
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for line in disk::read(&path).map_err(failed)?.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let refusal: Refusal = serde_json::from_slice(line).map_err(|e| failed(TrainerError::at("read", &path, e)))?;
            *codes.entry(refusal.code).or_default() += 1;
        }
        let all: u64 = codes.values().sum();
        let by_code: Vec<String> = codes.iter().map(|(code, clips)| format!("{code} {clips}")).collect();
        let named = format!("{all} clips are not trained on ({}); each is in {}", by_code.join(", "), path.display());
        Ok((all > 0).then_some(named))
    }
}

/// Tells a person how it goes: steps now and then, the rest at once.
fn tell(event: &Event, steps: u64, told: &mut Option<Instant>) {
    match &event.body {
        Body::Step { step, loss, ms, .. } => {
            if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
                *told = Some(Instant::now());
                tracing::info!(step, of = steps, loss = loss.unwrap_or(f64::NAN), ms, "Training");
            }
        }
        Body::Eval { step, loss, base_loss } => tracing::info!(step, loss, base_loss, "Loss on the fixed grid"),
        Body::Checkpoint { step, dir } => tracing::debug!(step, dir, "Checkpoint"),
        Body::Resumed { step } => tracing::info!(step, "The training goes on from a checkpoint"),
        Body::Warning { message } => tracing::warn!("The trainer warns: {message}"),
        Body::Error { kind, message, .. } => tracing::warn!(kind, "The trainer fails: {message}"),
        _ => {}
    }
}
