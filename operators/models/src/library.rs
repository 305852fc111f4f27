//! Finds and loads ONNX Runtime's shared library, once per process.
//!
//! Order: `[runtime] onnxruntime` or `--onnxruntime`, `ORT_DYLIB_PATH`, beside the executable, the data folder, the system's loader. A place
//! that the user named is final: if it does not load, nothing else is tried, so that a typing mistake never runs on another library.
//!
//! Why never `ort::init()`: without a library it panics. What can go wrong: a library can be loaded only once, and never unloaded; a second
//! [`load`] with another path is refused.

mod whole;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::ep::{self, ExecutionProvider};

use crate::settings::{LIBRARY_VARIABLE, Provider};
use crate::{ErrorKind, ModelError, Result};

/// File name of the library.
pub const LIBRARY_NAME: &str = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so" };
/// Oldest minor version of ONNX Runtime that loads.
pub const OLDEST_MINOR: u32 = ort::MINOR_VERSION;

/// Who named a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// The pipeline or the command line.
    Setting,
    /// `ORT_DYLIB_PATH`.
    Variable,
    /// Found beside the executable.
    Executable,
    /// Found in the data folder.
    DataFolder,
    /// The system's loader searches.
    Loader,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Named::Setting => "[runtime] onnxruntime or --onnxruntime",
            Named::Variable => LIBRARY_VARIABLE,
            Named::Executable => "beside the executable",
            Named::DataFolder => "the data folder",
            Named::Loader => "the system's loader",
        })
    }
}

/// What the search looks at. Separate from the process so that it can be tested.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The setting.
    pub setting: Option<PathBuf>,
    /// The value of `ORT_DYLIB_PATH`.
    pub variable: Option<PathBuf>,
    /// Folder of the executable.
    pub executable: Option<PathBuf>,
    /// Folder of data.
    pub data: Option<PathBuf>,
}

impl Places {
    /// Those of this process.
    pub fn of_process(setting: Option<&Path>) -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let data = path("XDG_DATA_HOME").or_else(|| path("HOME").map(|p| p.join(".local/share")));
        Places {
            setting: setting.map(Path::to_owned),
            variable: path(LIBRARY_VARIABLE),
            executable: std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_owned)),
            data: data.map(|p| p.join("curette")),
        }
    }

    /// The place to load from; `exists` tells whether a file is there.
    pub fn choose(&self, exists: impl Fn(&Path) -> bool) -> (Named, PathBuf) {
        if let Some(path) = &self.setting {
            return (Named::Setting, path.clone());
        }
        if let Some(path) = &self.variable {
            return (Named::Variable, path.clone());
        }
        let found = |folder: &Option<PathBuf>| folder.as_ref().map(|f| f.join(LIBRARY_NAME)).filter(|p| exists(p));
        if let Some(path) = found(&self.executable) {
            return (Named::Executable, path);
        }
        if let Some(path) = found(&self.data) {
            return (Named::DataFolder, path);
        }
        (Named::Loader, PathBuf::from(LIBRARY_NAME))
    }
}

/// A loaded library.
#[derive(Clone)]
pub struct Library {
    /// Where it is.
    pub path: PathBuf,
    /// Who named it.
    pub named: Named,
    /// What it says about its build.
    pub build: String,
    pub(crate) environment: Environment,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library").field("path", &self.path).field("named", &self.named).finish_non_exhaustive()
    }
}

// Kept for the life of the process: `ort` allows one environment, even after it is dropped.
static LOADED: Mutex<Option<Library>> = Mutex::new(None);

/// The library of this process; loads it on the first call.
pub fn load(setting: Option<&Path>) -> Result<Library> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let (named, path) = Places::of_process(setting).choose(Path::is_file);
    if let Some(library) = &*loaded {
        let other = named == Named::Setting && canonical(&library.path) != canonical(&path);
        return if other {
            Err(ModelError::new(
                ErrorKind::Library,
                format!("{} is loaded already, so {} cannot be", library.path.display(), path.display()),
            )
            .help("one process runs on one library: name the same one everywhere"))
        } else {
            Ok(library.clone())
        };
    }
    // A file that is named must be there: the loader would look elsewhere for a relative one.
    if named != Named::Loader && !path.is_file() {
        return Err(missing(named, &path, "there is no such file"));
    }
    let path = if named == Named::Loader { path } else { canonical(&path) };
    if let Some(why) = whole::cut_short(&path) {
        return Err(unloadable(named, &path, &why));
    }
    let builder = ort::init_from(&path).map_err(|e| refused(named, &path, &e))?;
    let environment = builder.with_name("curette").with_telemetry(false).build().map_err(|e| {
        ModelError::new(ErrorKind::Library, format!("ONNX Runtime at {} does not start: {e}", path.display()))
            .help("take another build of it")
    })?;
    let library = Library { path, named, build: ort::info().to_owned(), environment };
    tracing::info!(path = %library.path.display(), build = %library.build, "Loaded ONNX Runtime");
    *loaded = Some(library.clone());
    Ok(library)
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

const GET_IT: &str = "scripts/bootstrap fetches it; or `pip download onnxruntime` and unzip the wheel, then set ORT_DYLIB_PATH or [runtime] onnxruntime to its \
     libonnxruntime.so";

fn missing(named: Named, path: &Path, why: &str) -> ModelError {
    ModelError::new(ErrorKind::Library, format!("ONNX Runtime is not at {} ({named}): {why}", path.display())).help(GET_IT)
}

fn unloadable(named: Named, path: &Path, why: &str) -> ModelError {
    ModelError::new(ErrorKind::Library, format!("{} ({named}) is not a library that loads: {why}", path.display()))
        .help(format!("it is damaged or made for another machine; {GET_IT}"))
}

/// `ort`'s own text leaves out the system's reason or hides it in `Debug`.
fn refused(named: Named, path: &Path, error: &ort::LoadDynamicError) -> ModelError {
    use ort::LoadDynamicError as E;
    let at = path.display();
    match error {
        E::Dlopen { error, .. } => {
            let reason = loader_reason(&format!("{error:?}"), path);
            if named == Named::Loader { missing(named, path, &reason) } else { unloadable(named, path, &reason) }
        }
        E::MissingApi { .. } => {
            ModelError::new(ErrorKind::Library, format!("{at} ({named}) is a library, but not ONNX Runtime")).help(GET_IT)
        }
        E::BadVersion { version_str, .. } => ModelError::new(
            ErrorKind::Library,
            format!("{at} ({named}) is ONNX Runtime {version_str}; 1.{OLDEST_MINOR} or newer is needed"),
        )
        .help(GET_IT),
        E::InvalidVersionString => {
            ModelError::new(ErrorKind::Library, format!("{at} ({named}) does not tell its version")).help(GET_IT)
        }
    }
}

/// The system's message out of the `Debug` text `DlOpen { source: "..." }`, without the path that the caller names anyway.
fn loader_reason(debug: &str, path: &Path) -> String {
    let inner = debug.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).map_or(debug, |(text, _)| text);
    inner.trim_start_matches(&*path.to_string_lossy()).trim_start_matches(": ").to_owned()
}

/// Which providers the loaded library was built with.
pub fn available(provider: Provider) -> bool {
    let answer = match provider {
        Provider::TensorRt => ep::TensorRT::is_available(),
        Provider::Cuda => ep::CUDA::is_available(),
        Provider::OpenVino => ep::OpenVINO::is_available(),
        Provider::Cpu => Ok(true),
    };
    answer.unwrap_or(false)
}

/// The version that a loaded library tells, such as `1.32.0`.
pub fn version(library: &Library) -> String {
    type Base = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: the path is that of the loaded library, so nothing new is run by opening it again; `OrtGetApiBase` has this signature in all
    // versions, and the string that it leads to is static.
    unsafe {
        let Ok(handle) = libloading::Library::new(&library.path) else { return String::new() };
        let Ok(base) = handle.get::<Base>(b"OrtGetApiBase") else { return String::new() };
        let base = base();
        if base.is_null() {
            return String::new();
        }
        std::ffi::CStr::from_ptr(((*base).GetVersionString)()).to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_named_is_final() {
        let mut places = Places {
            setting: Some("/a/x.so".into()),
            variable: Some("/b/x.so".into()),
            executable: Some("/c".into()),
            data: Some("/d".into()),
        };
        let all = |_: &Path| true;
        assert_eq!(places.choose(|_| false), (Named::Setting, "/a/x.so".into()));
        places.setting = None;
        assert_eq!(places.choose(|_| false), (Named::Variable, "/b/x.so".into()));
        places.variable = None;
        assert_eq!(places.choose(all), (Named::Executable, Path::new("/c").join(LIBRARY_NAME)));
        assert_eq!(places.choose(|p| p.starts_with("/d")), (Named::DataFolder, Path::new("/d").join(LIBRARY_NAME)));
        assert_eq!(places.choose(|_| false), (Named::Loader, LIBRARY_NAME.into()));
    }

    #[test]
    fn the_systems_reason_is_taken_out_of_the_debug_text() {
        let debug = "DlOpen { source: \"/x/y.so: file too short\" }";
        assert_eq!(loader_reason(debug, Path::new("/x/y.so")), "file too short");
        assert_eq!(loader_reason("odd", Path::new("/x")), "odd");
    }
}
