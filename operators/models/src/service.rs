//! Opens models and runs them: [`Models`] for a process, [`Model`] for one model with its pool of sessions.
//!
//! Sessions are made when they are needed, up to `replicas`; each is lent to one caller at a time. A caller waits at most [`CHECKOUT_LIMIT`]. What
//! can go wrong: each session holds a full copy of the weights, so `replicas` is the setting for memory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::library::{self, Library};
use crate::manifest::{Contract, FileRole, Manifest, Precision};
use crate::session::{Session, check_inputs};
use crate::store::{Located, Store};
use crate::{ClipImageEncoder, ErrorKind, ModelError, ModelRef, Result, RunSettings, Settings, Tensor, TextEncoder};

/// Longest wait for a free session.
pub const CHECKOUT_LIMIT: Duration = Duration::from_secs(600);
/// How often a waiting caller looks whether the run is being stopped.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
    open: Mutex<HashMap<(String, String, RunSettings), Arc<Model>>>,
}

impl Models {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        Models { store: Store::new(&settings), settings, open: Mutex::default() }
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
        if let Some(model) = open.get(&key).filter(|m| m.manifest == located.manifest) {
            return Ok(Arc::clone(model));
        }
        let model = Arc::new(Model::open(self.library()?, located, sha256, run.clone())?);
        open.insert(key, Arc::clone(&model));
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
    pool: Mutex<Pool>,
    returned: Condvar,
}

#[derive(Default)]
struct Pool {
    free: Vec<Session>,
    /// Sessions that exist or are being made.
    made: usize,
}

impl Model {
    fn open(library: Library, located: Located, sha256: String, run: RunSettings) -> Result<Model> {
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
        tracing::info!(model = %identity.name, sha256 = %identity.sha256, seconds = started.elapsed().as_secs_f64(), providers = ?run.providers, "Opened a model");
        let contract = Arc::clone(session.contract());
        let pool = Mutex::new(Pool { free: vec![session], made: 1 });
        Ok(Model { manifest, identity, graph, library, run, contract, rows: AtomicU64::new(0), pool, returned: Condvar::new() })
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

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checkout(&self, cancelled: Option<&AtomicBool>) -> Result<Lent<'_>> {
        let started = Instant::now();
        let mut pool = self.lock();
        loop {
            if let Some(session) = pool.free.pop() {
                return Ok(Lent { model: self, session: Some(session) });
            }
            if pool.made < self.run.replicas() {
                pool.made += 1;
                drop(pool);
                return self.another();
            }
            if cancelled.is_some_and(|c| c.load(Ordering::Relaxed)) {
                let message = format!("model `{}`: the run is being stopped", self.identity.name);
                return Err(ModelError::new(ErrorKind::Cancelled, message));
            }
            if started.elapsed() > CHECKOUT_LIMIT {
                let message =
                    format!("no session of model `{}` became free within {} s", self.identity.name, CHECKOUT_LIMIT.as_secs());
                return Err(ModelError::new(ErrorKind::Busy, message).help("raise [runtime] replicas, if memory allows"));
            }
            (pool, _) = self.returned.wait_timeout(pool, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes one more session, outside the lock: it may take seconds.
    fn another(&self) -> Result<Lent<'_>> {
        // Counts down again if making it fails or panics.
        let mut lent = Lent { model: self, session: None };
        let wanted = Some(self.contract.as_ref());
        lent.session = Some(Session::open(&self.library, &self.identity.name, &self.graph, wanted, &self.run)?);
        Ok(lent)
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
        let mut pool = self.model.lock();
        match self.session.take() {
            Some(session) => pool.free.push(session),
            None => pool.made -= 1,
        }
        drop(pool);
        self.model.returned.notify_one();
    }
}
