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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use curette_engine::budget::MemoryLimit;
use curette_engine::diag::Code;
use curette_engine::graph::{Provider as Named, RuntimeSettings};
use curette_engine::operator::{FileRef, OperatorError, Paths, StepCheck};
use curette_engine::resources::Resources;
use curette_engine::verdict::Problem;
use curette_heads::head::Kind as HeadKind;
use curette_heads::{Encoder, Head};
use curette_models::manifest::Dim;
use curette_models::{ErrorKind, FileRole, Located, Model, ModelError, ModelRef, Models, Provider, Settings};

/// The models of this process, with the pipeline's `[runtime]` settings.
pub fn of(resources: &Resources) -> Arc<Models> {
    // The engine put the settings there before any operator was built; `get` must not be called inside `get`.
    let runtime = resources.get(RuntimeSettings::default);
    let MemoryLimit(shares) = *resources.get(MemoryLimit::default);
    resources.get(|| Models::new(settings(&runtime)).within(shares.map(|s| s.models >> 20)))
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

/// Name, version and the start of the hash: which numbers may be compared.
pub fn identity(name: &str, version: &str, sha256: &str) -> String {
    format!("{name}@{version}#{}", sha256.get(..12).unwrap_or(sha256))
}

/// See [`identity`].
pub fn identity_of(model: &Model) -> String {
    let id = model.identity();
    identity(&id.name, &id.version, &id.sha256)
}

/// What a model's embeddings are called in tables and in heads: its name and the hash of its graph.
pub fn encoder_of(model: &Model) -> Encoder {
    let id = model.identity();
    Encoder { name: id.name.clone(), sha256: Some(id.sha256.clone()) }
}

/// As [`encoder_of`], of a model that is not open.
pub fn encoder_of_located(located: &Located) -> Result<Encoder, ModelError> {
    Ok(Encoder { name: located.manifest.name.clone(), sha256: Some(located.sha256(FileRole::Graph)?) })
}

/// Length of a model's embeddings, as far as its manifest says it.
pub fn width_of_located(located: &Located) -> Option<usize> {
    match located.manifest.contract.as_ref()?.outputs.first()?.shape.last()? {
        Dim::Fixed(width) => usize::try_from(*width).ok(),
        Dim::Symbol(_) => None,
    }
}

/// Why a head must not score embeddings of `encoder`, if so. `width` is the length of these; a head that knows no hash goes by the name.
pub fn foreign(head: &Head, encoder: &Encoder, width: Option<usize>) -> Option<String> {
    let refuse = |what: String| Some(format!("the head does not belong to encoder `{}`: {what}", encoder.name));
    if let Some(width) = width.filter(|width| *width != head.dim()) {
        return refuse(format!("it reads {} numbers, the encoder gives {width}", head.dim()));
    }
    match (&head.encoder.sha256, &encoder.sha256) {
        (Some(wanted), Some(given)) if wanted != given => {
            refuse(format!("it was trained on graph {wanted} of `{}`, this encoder's graph is {given}", head.encoder.name))
        }
        (Some(_), Some(_)) => None,
        _ if head.encoder.name != encoder.name => refuse(format!("it was trained on `{}`", head.encoder.name)),
        _ => None,
    }
}

/// What to do about [`foreign`].
pub const FOREIGN_HELP: &str = "name the encoder that the head was trained on, or train a head on this one: `curette train-head`";

/// A head that gives one probability: the number to compare with a threshold.
pub fn classifier_head(path: &Path) -> Result<(Head, blake3::Hash), String> {
    let (head, hash) = Head::load(path).map_err(|e| e.to_string())?;
    let wrong = |what: String| Err(format!("head {}: {what}", path.display()));
    match head.kind {
        HeadKind::Regression => wrong("is a `regression` head, which gives no probability".into()),
        HeadKind::Linear | HeadKind::Mlp if !head.is_single() => {
            wrong(format!("tells {} classes apart; a row is positive or not, so it must have two", head.classes.len()))
        }
        HeadKind::Linear | HeadKind::Mlp => Ok((head, hash)),
    }
}

/// For `Operator::model_files`: the files of a model that are on this machine, and its manifest unless it is built in.
pub fn files(key: &'static str, text: &str, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
    let located = Models::new(settings(runtime)).find(&reference(text, paths));
    located.map(|l| l.paths()).unwrap_or_default().into_iter().map(|path| FileRef { key, path }).collect()
}

/// For `Operator::check_models`: reports a model that is missing or whose licence nobody accepted, and a library that is missing or does not load. Warns
/// of a graph without a manifest.
pub fn check(key: &str, text: &str, runtime: &RuntimeSettings, check: &mut dyn StepCheck) -> Option<Located> {
    let models = Models::new(settings(runtime));
    let reference = reference(text, check.paths());
    let located = match models.find(&reference) {
        Ok(located) => {
            if let Some(warning) = located.licence_warning() {
                tracing::warn!(key, "{warning}");
            }
            Some(located)
        }
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
        ErrorKind::Licence => Code::BadModel,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Mistakes;

    #[test]
    fn the_runtime_table_comes_before_the_environment() {
        let runtime = RuntimeSettings {
            onnxruntime: "/x/lib.so".into(),
            models: "/m".into(),
            cache: "/c".into(),
            replicas: 3,
            threads: 2,
            providers: vec![Named::Cuda, Named::Cpu],
        };
        let settings = settings(&runtime);
        assert_eq!(settings.onnxruntime, Some("/x/lib.so".into()));
        assert_eq!(settings.lock_file(), PathBuf::from("/m/models.lock"));
        assert_eq!(settings.cache, PathBuf::from("/c"));
        assert_eq!((settings.run.replicas, settings.run.threads), (3, 2));
        assert_eq!(settings.run.providers, [Provider::Cuda, Provider::Cpu]);
    }

    #[test]
    fn the_models_of_a_process_are_one_with_the_pipelines_settings() {
        let resources = Resources::default();
        resources.get(|| RuntimeSettings { cache: "/c".into(), ..RuntimeSettings::default() });
        let models = of(&resources);
        assert!(Arc::ptr_eq(&models, &of(&resources)));
        assert_eq!(models.settings().cache, PathBuf::from("/c"));
    }

    #[test]
    fn a_missing_model_and_a_missing_library_are_both_reported_at_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = RuntimeSettings {
            onnxruntime: folder.path().join("none.so").display().to_string(),
            cache: folder.path().display().to_string(),
            ..RuntimeSettings::default()
        };
        let mut found = Mistakes { paths: Paths { base: folder.path().into() }, lines: Vec::new() };
        assert!(check("model", "clip-vit-b32", &runtime, &mut found).is_none());
        let all = found.lines.join("\n");
        assert!(all.contains("`clip-vit-b32.onnx` of model `clip-vit-b32` is not on this machine"), "{all}");
        assert!(all.contains("ONNX Runtime is not at"), "{all}");
        assert!(files("model", "clip-vit-b32", &found.paths, &runtime).is_empty());

        std::fs::write(folder.path().join("own.onnx"), "graph").unwrap();
        let located = files("model", "own.onnx", &found.paths, &runtime);
        assert_eq!(located.iter().map(|f| f.path.clone()).collect::<Vec<_>>(), [folder.path().join("own.onnx")]);
    }

    #[test]
    fn a_licence_that_nobody_accepted_is_reported_at_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = RuntimeSettings {
            onnxruntime: folder.path().join("none.so").display().to_string(),
            cache: folder.path().join("cache").display().to_string(),
            ..RuntimeSettings::default()
        };
        let manifest = "name = 'm'\nversion = '1'\ntitle = 't'\nkind = 'head'\nfiles = [{ role = 'head', path = 'm.safetensors' }]\n\
                        [origin]\nlicence = 'CC-BY-NC-4.0'\ncommercial_use = 'no'\n";
        std::fs::write(folder.path().join("m.toml"), manifest).unwrap();
        std::fs::write(folder.path().join("m.safetensors"), "weights").unwrap();
        let mut found = Mistakes { paths: Paths { base: folder.path().into() }, lines: Vec::new() };
        assert!(check("model", "m.toml", &runtime, &mut found).is_none());
        let line = found.lines.iter().find(|l| l.contains("forbids commercial use")).unwrap();
        assert!(line.starts_with("model E-BadModel: model `m` is under CC-BY-NC-4.0, which forbids"), "{line}");
    }

    #[test]
    fn whose_fault_a_failure_is() {
        let of = |kind| problem(ModelError::new(kind, "it")).map(|p| p.code.into_owned()).map_err(|e| e.message);
        assert_eq!(of(ErrorKind::BadInput), Ok("model_input".into()));
        assert_eq!(of(ErrorKind::NotFinite), Ok("model_output_not_finite".into()));
        assert_eq!(of(ErrorKind::Run), Err("it".into()));
    }
}
