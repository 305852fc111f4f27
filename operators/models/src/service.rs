//! Opens models and runs them: [`Models`] for a process, [`Model`] for one model with its pool of sessions.
//!
//! Sessions are made when they are needed, up to `replicas`; each is lent to one caller at a time, in the order of asking ([`crate::lend`]). What
//! can go wrong: each session holds a full copy of the weights, so `replicas` is the setting for memory; unset, it stays within half of the memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::lend::{Desk, STUCK_LIMIT, Turn};
use crate::library::{self, Library, available};
use crate::manifest::{Contract, FileRole, Manifest, Precision};
use crate::session::{Session, check_inputs};
use crate::settings::memory_mib;
use crate::store::{Located, Store};
use crate::{ClipImageEncoder, ErrorKind, ModelError, ModelRef, Provider, Result, RunSettings, Settings, Tensor, TextEncoder};

/// What names a model in outputs: enough to know which numbers may be compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ModelIdentity {
    /// Name in the manifest.
    pub name: String,
    /// Version in the manifest.
    pub version: String,
    /// SHA-256 of the graph.
    pub sha256: String,
    /// Numbers of the weights.
    pub precision: Precision,
}

/// The models of a process. Cheap to make: the library and the files are touched on first use.
pub struct Models {
    settings: Settings,
    store: Store,
    /// What all sessions together may take in MiB; `None`: half of the machine's memory.
    room_mib: Option<u64>,
    open: Mutex<Open>,
}

/// Models that are open, and the memory that their sessions may come to take.
#[derive(Default)]
struct Open {
    models: HashMap<(String, String, RunSettings), Arc<Model>>,
    mib: u64,
}

/// Times its file that a session takes where the manifest has no `memory_mib`: 1.5 to 6 were measured, one model took 14.
const FILE_TO_MEMORY: u64 = 4;
/// Least memory that a session is taken to need, in MiB.
const LEAST_MIB: u64 = 64;

/// Memory of one session in MiB.
fn session_mib(located: &Located) -> u64 {
    let file = located.require(FileRole::Graph).ok().and_then(|graph| std::fs::metadata(graph).ok());
    let guess = file.map_or(0, |f| f.len() >> 20) * FILE_TO_MEMORY;
    if located.manifest.run.memory_mib > 0 { located.manifest.run.memory_mib } else { guess.max(LEAST_MIB) }
}

impl Models {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        Models { store: Store::new(&settings), settings, room_mib: None, open: Mutex::default() }
    }

    /// With a limit on what all sessions together take, in MiB. Each model gets one session all the same.
    pub fn within(mut self, room_mib: Option<u64>) -> Self {
        self.room_mib = room_mib;
        self
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The model's manifest and files. Needs no library and downloads nothing; used by `check` and for the plan's hash.
    pub fn find(&self, model: &ModelRef) -> Result<Located> {
        self.store.locate(model)
    }

    /// Loads ONNX Runtime, or says why it cannot be loaded.
    pub fn library(&self) -> Result<Library> {
        library::load(self.settings.onnxruntime.as_deref())
    }

    /// Opens a model, or gives the one that is open already with the same settings.
    pub fn open(&self, model: &ModelRef, run: &RunSettings) -> Result<Arc<Model>> {
        let located = self.find(model)?;
        self.open_located(located, run)
    }

    /// As [`Models::open`], with this process's run settings.
    pub fn open_default(&self, model: &ModelRef) -> Result<Arc<Model>> {
        self.open(model, &self.settings.run)
    }

    /// Opens a text encoder.
    pub fn text_encoder(&self, model: &ModelRef) -> Result<TextEncoder> {
        let located = self.find(model)?;
        let tokenizer = located.require(FileRole::Tokenizer)?.to_owned();
        TextEncoder::new(self.open_located(located, &self.settings.run)?, &tokenizer)
    }

    /// Opens a CLIP image encoder.
    pub fn image_encoder(&self, model: &ModelRef) -> Result<ClipImageEncoder> {
        ClipImageEncoder::new(self.open_default(model)?)
    }

    fn open_located(&self, located: Located, run: &RunSettings) -> Result<Arc<Model>> {
        let sha256 = located.sha256(FileRole::Graph)?;
        let key = (sha256.clone(), located.manifest.name.clone(), run.clone());
        // Held while opening, so that two steps with one model load it once.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Two manifests of one name may say other things of one graph.
        if let Some(model) = open.models.get(&key).filter(|m| m.manifest == located.manifest) {
            return Ok(Arc::clone(model));
        }
        let mib = session_mib(&located);
        // All models of a process together stay within half of the memory, or their limit: the first ones take what they can use, each gets
        // one session.
        let room = self.room_mib.or_else(|| memory_mib().map(|all| all / 2)).map(|room| room.saturating_sub(open.mib));
        let library = self.library()?;
        let on_processor = run.providers.iter().all(|p| *p == Provider::Cpu || !available(*p));
        let replicas = run.replicas_of(mib, on_processor, room);
        let model = Arc::new(Model::open(library, located, sha256, run.clone(), replicas)?);
        open.mib += mib * replicas as u64;
        open.models.insert(key, Arc::clone(&model));
        Ok(model)
    }
}

/// An open model.
pub struct Model {
    manifest: Manifest,
    identity: ModelIdentity,
    graph: PathBuf,
    library: Library,
    run: RunSettings,
    contract: Arc<Contract>,
    rows: AtomicU64,
    desk: Desk<Session>,
}

impl Model {
    fn open(library: Library, located: Located, sha256: String, run: RunSettings, replicas: usize) -> Result<Model> {
        located.verify()?;
        let graph = located.require(FileRole::Graph)?.to_owned();
        let manifest = located.manifest;
        let wanted = manifest.run.min_ort_api;
        let version = library::version(&library);
        if version.split('.').nth(1).and_then(|v| v.parse().ok()).is_some_and(|minor: u32| minor < wanted) {
            let message = format!("model `{}` needs ONNX Runtime 1.{wanted}, {version} is loaded", manifest.name);
            return Err(ModelError::new(ErrorKind::Library, message).help("name a newer library in [runtime] onnxruntime"));
        }
        let started = Instant::now();
        let session = Session::open(&library, &manifest.name, &graph, manifest.contract.as_ref(), &run)?;
        let identity = ModelIdentity {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256,
            precision: manifest.run.precision,
        };
        tracing::info!(model = %identity.name, sha256 = %identity.sha256, seconds = started.elapsed().as_secs_f64(), providers = ?run.providers, replicas, "Opened a model");
        let contract = Arc::clone(session.contract());
        let desk = Desk::new(session, replicas);
        Ok(Model { manifest, identity, graph, library, run, contract, rows: AtomicU64::new(0), desk })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
    /// What names it in outputs.
    pub fn identity(&self) -> &ModelIdentity {
        &self.identity
    }
    /// What goes in and out.
    pub fn contract(&self) -> &Contract {
        &self.contract
    }
    /// How it runs.
    pub fn run_settings(&self) -> &RunSettings {
        &self.run
    }

    /// Rows that it was run on so far: what `curette_model_rows_total` counts.
    pub fn rows_run(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// A value of the graph's metadata.
    pub fn metadata(&self, key: &str) -> Result<Option<String>> {
        Ok(self.checkout(None)?.session().metadata(key))
    }

    /// Runs one batch: tensors in the contract's order in, tensors in the contract's order out.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run_until(inputs, None)
    }

    /// As [`Model::run`]; returns [`ErrorKind::Cancelled`] soon after `cancelled` turns true while it waits for a session, before it starts, and while it runs.
    pub fn run_until(&self, inputs: &[Tensor], cancelled: Option<&AtomicBool>) -> Result<Vec<Tensor>> {
        check_inputs(&self.identity.name, &self.contract, inputs)?;
        let mut lent = self.checkout(cancelled)?;
        let started = Instant::now();
        let done = lent.session().run(inputs, cancelled);
        let name = self.identity.name.clone();
        metrics::histogram!("curette_model_run_seconds", "model" => name.clone()).record(started.elapsed().as_secs_f64());
        metrics::counter!("curette_model_runs_total", "model" => name.clone()).increment(1);
        let rows = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or_default();
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        metrics::counter!("curette_model_rows_total", "model" => name.clone()).increment(rows as u64);
        if done.is_err() {
            metrics::counter!("curette_model_errors_total", "model" => name).increment(1);
        }
        done
    }

    fn checkout(&self, cancelled: Option<&AtomicBool>) -> Result<Lent<'_>> {
        let failed = |kind, what: String| Err(ModelError::new(kind, format!("model `{}`: {what}", self.identity.name)));
        match self.desk.take(cancelled) {
            Turn::Free(session) => Ok(Lent { model: self, session: Some(session) }),
            // Outside of any lock: it may take seconds. If it fails or panics, `lent` gives the room back.
            Turn::Make => {
                let mut lent = Lent { model: self, session: None };
                let wanted = Some(self.contract.as_ref());
                lent.session = Some(Session::open(&self.library, &self.identity.name, &self.graph, wanted, &self.run)?);
                Ok(lent)
            }
            Turn::Cancelled => failed(ErrorKind::Cancelled, "the run is being stopped".into()),
            Turn::Stuck => failed(ErrorKind::Busy, format!("no session came back for {} s", STUCK_LIMIT.as_secs()))
                .map_err(|e| e.help("a call hangs, or one batch takes that long: lower `[run] batch` in its manifest")),
        }
    }
}

/// A session on loan; goes back when dropped. Without a session, its place in the count is given back.
struct Lent<'a> {
    model: &'a Model,
    session: Option<Session>,
}

impl Lent<'_> {
    fn session(&mut self) -> &mut Session {
        match &mut self.session {
            Some(session) => session,
            None => unreachable!("a loan without a session is never handed out"),
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        match self.session.take() {
            Some(session) => self.model.desk.give_back(session),
            None => self.model.desk.never_made(),
        }
    }
}
