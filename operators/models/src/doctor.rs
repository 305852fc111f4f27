//! What this machine has: library, providers, processor, and the state of each model. As data; the command line prints it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::library::{self, available};
use crate::manifest::{CommercialUse, Dim, Dtype, FileRole, ModelKind, Port};
use crate::service::Models;
use crate::session::Session;
use crate::settings::Provider;
use crate::store::{Known, Lock, known_hash};
use crate::{ErrorKind, Manifest, ModelError, ModelRef, Result, Tensor};

/// Length that is given to open axes, batch aside, when a model is tried.
const TRY_LENGTH: usize = 8;

/// The library.
#[derive(Debug, Clone, Serialize)]
pub struct LibraryReport {
    /// Where it is.
    pub path: PathBuf,
    /// Who named the place.
    pub found_by: String,
    /// Its version.
    pub version: String,
    /// Oldest version that would do.
    pub needs: String,
    /// Providers that it was built with.
    pub providers: Vec<Provider>,
}

/// The state of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// All files are here.
    Present,
    /// Files are missing; `curette models fetch` brings them.
    CanFetch,
    /// Files are missing; they must be converted or downloaded by hand, then added.
    MustAdd,
    /// Something is wrong with it.
    Broken,
}

/// One model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelReport {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// One line.
    pub title: String,
    /// Licence.
    pub licence: String,
    /// May it be used commercially?
    pub commercial_use: CommercialUse,
    /// The manifest's file; absent if built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<PathBuf>,
    /// State.
    pub state: State,
    /// What is missing or wrong, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Features of the processor that make models fast, as far as it has them.
pub fn processor_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let has = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let has = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("dotprod", std::arch::is_aarch64_feature_detected!("dotprod")),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has: [(&str, bool); 0] = [];
    has.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

impl Models {
    /// The library, loaded.
    pub fn library_report(&self) -> Result<LibraryReport> {
        let library = self.library()?;
        Ok(LibraryReport {
            version: library::version(&library),
            found_by: library.named.to_string(),
            needs: format!("1.{}", library::OLDEST_MINOR),
            providers: Provider::ALL.into_iter().filter(|p| available(*p)).collect(),
            path: library.path,
        })
    }

    /// Every known model and whether its files are here. Opens none.
    pub fn model_reports(&self) -> Result<Vec<ModelReport>> {
        let lock = Lock::read(self.store().lock_file())?;
        Ok(self.store().known()?.into_values().map(|known| self.report(known, &lock)).collect())
    }

    fn report(&self, known: Known, lock: &Lock) -> ModelReport {
        let missing = known.manifest.files.iter().find_map(|f| self.store().locate_file(&known, f, lock).err().map(|e| (f, e)));
        let (state, problem) = match missing {
            None => (State::Present, None),
            Some((file, e)) if e.kind == ErrorKind::MissingFile => {
                let can = !file.urls.is_empty() && known_hash(&known.manifest, file, lock).is_some();
                (if can { State::CanFetch } else { State::MustAdd }, Some(e.full()))
            }
            Some((_, e)) => (State::Broken, Some(e.full())),
        };
        let manifest = known.manifest;
        ModelReport {
            name: manifest.name,
            version: manifest.version,
            title: manifest.title,
            licence: manifest.origin.licence,
            commercial_use: manifest.origin.commercial_use,
            manifest: known.path,
            state,
            problem,
        }
    }

    /// Reads all files again and compares their hashes, then opens the graph, compares its contract, and runs one input of zeros.
    pub fn verify(&self, model: &ModelRef) -> Result<()> {
        let located = self.find(model)?;
        for file in &located.files {
            if let (Err(e), true, Some(sha256)) = (located.verify_file(file), file.stored, &file.sha256) {
                // Out of the way, or `fetch`, `add` and `import` would take it for the real one.
                self.store().blobs().remove(sha256)?;
                return Err(e.help("the damaged file was removed from the store; bring it in again"));
            }
            located.verify_file(file)?;
        }
        if located.manifest.kind != ModelKind::Onnx {
            return Ok(());
        }
        if located.require(FileRole::Tokenizer).is_ok() {
            // Tries the largest token as well.
            return self.text_encoder(model)?.embed(&[""]).map(drop);
        }
        self.try_graph(&located.manifest, located.require(FileRole::Graph)?)
    }

    /// Opens a graph, wherever it is, compares it with the manifest's contract, and runs one input of zeros.
    pub fn try_graph(&self, manifest: &Manifest, graph: &Path) -> Result<()> {
        let name = &manifest.name;
        let mut session = Session::open(&self.library()?, name, graph, manifest.contract.as_ref(), &self.settings().run)?;
        let contract = session.contract().clone();
        let zeros = contract.inputs.iter().map(|p| zeros(name, p)).collect::<Result<Vec<_>>>()?;
        session.run(&zeros, None).map(drop)
    }
}

fn zeros(model: &str, port: &Port) -> Result<Tensor> {
    let shape: Vec<usize> = port
        .shape
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim {
            Dim::Fixed(n) => usize::try_from(*n).unwrap_or(usize::MAX),
            Dim::Symbol(_) if axis == 0 => 1,
            // Pictures of any size: a multiple of what strides divide by.
            Dim::Symbol(_) if port.shape.len() == 4 => 32 * TRY_LENGTH,
            Dim::Symbol(_) => TRY_LENGTH,
        })
        .collect();
    let values = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n < 1 << 30);
    let values =
        values.ok_or_else(|| ModelError::new(ErrorKind::Contract, format!("model `{model}`: `{}` is too large", port.name)))?;
    match port.dtype {
        Dtype::F32 => Tensor::f32(&shape, vec![0.0; values]),
        Dtype::I64 => Tensor::i64(&shape, vec![0; values]),
        other => {
            Err(ModelError::new(ErrorKind::Contract, format!("model `{model}`: inputs of the type {other:?} are not supported")))
        }
    }
}
