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
    /// Sessions, each owned by one thread at a time; each holds a full copy of the weights. 0 = one per core (one on a device), within half of the memory.
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
    /// Sessions of a model of which one takes `model_mib`: what `replicas` says, else one per core on a processor and one on a device, as far as `room_mib` holds them
    /// (`None` = not known), and one at least.
    pub fn replicas_of(&self, model_mib: u64, on_processor: bool, room_mib: Option<u64>) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let wanted = match (self.replicas, on_processor) {
            (0, true) => cores.div_ceil(self.threads.max(1)),
            (0, false) => 1,
            (given, _) => return given.min(MAX_REPLICAS),
        };
        let fit = room_mib.and_then(|room| room.checked_div(model_mib)).map_or(MAX_REPLICAS as u64, |n| n.max(1));
        wanted.clamp(1, MAX_REPLICAS).min(usize::try_from(fit).unwrap_or(MAX_REPLICAS))
    }
}

/// Memory that this process may use in MiB: the machine's, or its control group's limit. `None` where neither can be read.
pub fn memory_mib() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
    });
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok()).map(|bytes| bytes >> 20);
    machine.into_iter().chain(group).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_stay_within_the_room_unless_told() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let auto = RunSettings::default();
        assert_eq!(auto.replicas_of(0, true, Some(64_000)), cores);
        assert_eq!(auto.replicas_of(3200, true, Some(3300)), 1, "DOVER on a small machine");
        assert_eq!(auto.replicas_of(3200, true, Some(100)), 1, "one there must be");
        assert_eq!(auto.replicas_of(3200, true, None), cores);
        assert_eq!(auto.replicas_of(10, false, Some(64_000)), 1, "one on a device");
        let told = RunSettings { replicas: 5, ..RunSettings::default() };
        assert_eq!(told.replicas_of(3200, true, Some(100)), 5, "the user knows better");
        assert!(memory_mib().is_none_or(|m| m > 0));
    }
}
