//! Models for operators: the process's one [`Models`], and what `check` says when a model or ONNX Runtime is missing.
//!
//! An operator whose config has a key `model` does three things, with `self.model` the text of the key:
//!
//! ```ignore
//! fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
//!     models::files("model", &self.model, paths, runtime)
//! }
//! fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
//!     models::check("model", &self.model, runtime, check);
//! }
//! fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
//!     let models = models::of(context.resources);
//!     let encoder = models.text_encoder(&models::reference(&self.model, context.paths)).map_err(models::broken)?;
//!     ...
//! }
//! ```
//!
//! What can go wrong: opening a model takes seconds and memory, so `check` looks at files, the library and the contract's shape in the manifest, and
//! leaves the session itself to `build`.

use std::path::PathBuf;
use std::sync::Arc;

use curette_engine::diag::Code;
use curette_engine::graph::{Provider as Named, RuntimeSettings};
use curette_engine::operator::{FileRef, OperatorError, Paths, StepCheck};
use curette_engine::resources::Resources;
use curette_engine::verdict::Problem;
use curette_models::{ErrorKind, Located, ModelError, ModelRef, Models, Provider, Settings};

/// The models of this process, with the pipeline's `[runtime]` settings.
pub fn of(resources: &Resources) -> Arc<Models> {
    // The engine put the settings there before any operator was built; `get` must not be called inside `get`.
    let runtime = resources.get(RuntimeSettings::default);
    resources.get(|| Models::new(settings(&runtime)))
}

/// The settings of the models crate: the `[runtime]` table over the environment.
pub fn settings(runtime: &RuntimeSettings) -> Settings {
    let mut settings = Settings::from_environment();
    let given = |path: &str| Some(PathBuf::from(path)).filter(|_| !path.is_empty());
    settings.onnxruntime = given(&runtime.onnxruntime).or(settings.onnxruntime);
    settings.manifests = given(&runtime.models).or(settings.manifests);
    settings.cache = given(&runtime.cache).unwrap_or(settings.cache);
    settings.run.replicas = runtime.replicas;
    settings.run.threads = runtime.threads;
    settings.run.providers = runtime
        .providers
        .iter()
        .map(|p| match p {
            Named::TensorRt => Provider::TensorRt,
            Named::Cuda => Provider::Cuda,
            Named::OpenVino => Provider::OpenVino,
            Named::Cpu => Provider::Cpu,
        })
        .collect();
    settings
}

/// The model that a key of a step names: a manifest's name, or a path from the pipeline's folder.
pub fn reference(text: &str, paths: &Paths) -> ModelRef {
    ModelRef::parse(text, &paths.base)
}

/// For `Operator::model_files`: the files of a model that are on this machine, and its manifest unless it is built in.
pub fn files(key: &'static str, text: &str, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
    let located = Models::new(settings(runtime)).find(&reference(text, paths));
    located.map(|l| l.paths()).unwrap_or_default().into_iter().map(|path| FileRef { key, path }).collect()
}

/// For `Operator::check_models`: reports a model that is missing, and a library that is missing or does not load.
pub fn check(key: &str, text: &str, runtime: &RuntimeSettings, check: &mut dyn StepCheck) -> Option<Located> {
    let models = Models::new(settings(runtime));
    let reference = reference(text, check.paths());
    let located = match models.find(&reference) {
        Ok(located) => Some(located),
        Err(e) => {
            check.error(Some(key), code(&e), e.message, e.help);
            None
        }
    };
    if let Err(e) = models.library() {
        check.error(Some(key), code(&e), e.message, e.help);
    }
    located
}

fn code(e: &ModelError) -> Code {
    match e.kind {
        ErrorKind::Library | ErrorKind::Provider => Code::MissingSoftware,
        _ => Code::MissingFile,
    }
}

/// An error that ends the run.
pub fn broken(e: ModelError) -> OperatorError {
    OperatorError { message: e.message, help: e.help }
}

/// Whose fault a failed call is: `Ok` a problem of the rows (`model_input`, `model_output_not_finite`, `cancelled`), `Err` the end of the run.
pub fn problem(e: ModelError) -> Result<Problem, OperatorError> {
    match e.kind {
        ErrorKind::BadInput => Ok(Problem::new("model_input", e.full())),
        ErrorKind::NotFinite => Ok(Problem::new("model_output_not_finite", e.full())),
        ErrorKind::Cancelled => Ok(Problem::new("cancelled", e.full())),
        _ => Err(broken(e)),
    }
}
