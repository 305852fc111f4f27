//! Where the library, the manifests and the store are, and how models run. The `[runtime]` table of a pipeline.
//!
//! None of it changes what a model computes in principle; another library or provider may change the last bits, so the run report names them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Environment variable that names ONNX Runtime's library.
pub const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";
/// Environment variable that names the folder of manifests.
pub const MANIFESTS_VARIABLE: &str = "CURETTE_MODELS";
/// Environment variable that names the store's folder.
pub const CACHE_VARIABLE: &str = "CURETTE_MODEL_CACHE";
/// Most sessions of one model.
pub const MAX_REPLICAS: usize = 256;
/// Most threads of one session.
pub const MAX_THREADS: usize = 256;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// Intel OpenVINO.
    OpenVino,
    /// The processor.
    Cpu,
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 4] = [Provider::TensorRt, Provider::Cuda, Provider::OpenVino, Provider::Cpu];

    /// The name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Provider::TensorRt => "tensorrt",
            Provider::Cuda => "cuda",
            Provider::OpenVino => "openvino",
            Provider::Cpu => "cpu",
        }
    }

    /// By the name in TOML.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name() == name)
    }
}

/// Settings of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// ONNX Runtime's library; `None` = search (see [`crate::library`]).
    pub onnxruntime: Option<PathBuf>,
    /// A folder of manifests that come before the built-in ones; its `models.lock` is used.
    pub manifests: Option<PathBuf>,
    /// The store.
    pub cache: PathBuf,
    /// How models run unless a step says otherwise.
    pub run: RunSettings,
}

impl Settings {
    /// What the environment says; everything else is default.
    pub fn from_environment() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home = path("HOME");
        let cache = path(CACHE_VARIABLE)
            .or_else(|| path("XDG_CACHE_HOME").map(|p| p.join("curette/models")))
            .or_else(|| home.map(|p| p.join(".cache/curette/models")))
            .unwrap_or_else(|| std::env::temp_dir().join("curette-models"));
        Settings { onnxruntime: None, manifests: path(MANIFESTS_VARIABLE), cache, run: RunSettings::default() }
    }

    /// The lock file: beside the manifests if there is a folder of them, else in the store.
    pub fn lock_file(&self) -> PathBuf {
        self.manifests.as_ref().unwrap_or(&self.cache).join("models.lock")
    }
}

/// How one model runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunSettings {
    /// What computes, best first. Without `cpu` in the list a provider that does not start is an error; with it, it is a warning.
    pub providers: Vec<Provider>,
    /// Sessions, each owned by one thread at a time; each holds a full copy of the weights. 0 = one per core.
    pub replicas: usize,
    /// Threads of one session. More than 1 costs 1.1 to 1.3 times the processor time, so more replicas come first.
    pub threads: usize,
}

impl Default for RunSettings {
    fn default() -> Self {
        RunSettings { providers: vec![Provider::Cpu], replicas: 0, threads: 1 }
    }
}

impl RunSettings {
    /// Replicas, with 0 resolved and the limit applied.
    pub fn replicas(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = if self.replicas == 0 { cores.div_ceil(self.threads.max(1)) } else { self.replicas };
        wanted.clamp(1, MAX_REPLICAS)
    }
}
