//! Models as the operators of this family use them: found by `check`, hashed into the plan, opened once per process.

use std::path::PathBuf;
use std::sync::Arc;

use curette_engine::diag::Code;
use curette_engine::operator::{FileRef, OperatorError, Paths, StepCheck};
use curette_engine::resources::Resources;
use curette_engine::verdict::Problem;
use curette_models::{ErrorKind, Model, ModelError, ModelRef, Models, Settings};

struct Shared(Models);

/// The models of this process.
pub fn with_models<T>(resources: &Resources, f: impl FnOnce(&Models) -> T) -> T {
    f(&resources.get(|| Shared(Models::new(Settings::from_environment()))).0)
}

/// Reports models that are not there or not what they should be, and a missing library.
pub fn check(named: &[(&'static str, &str)], check: &mut dyn StepCheck) {
    let models = Models::new(Settings::from_environment());
    for (key, text) in named {
        let model = ModelRef::parse(text, &check.paths().base);
        // A bare file that does not exist is reported by the check of `files`.
        if let Err(e) = models.find(&model)
            && !(e.kind == ErrorKind::MissingFile && matches!(model, ModelRef::Onnx(_)))
        {
            let code = if e.kind == ErrorKind::MissingFile { Code::MissingFile } else { Code::BadModel };
            check.error(Some(key), code, e.message, e.help);
        }
    }
    if let Err(e) = models.library() {
        check.error(None, Code::MissingSoftware, e.message, e.help);
    }
}

/// The files of models: part of the step's meaning.
pub fn files(named: &[(&'static str, &str)], paths: &Paths) -> Vec<FileRef> {
    let models = Models::new(Settings::from_environment());
    let files = |text: &str| -> Vec<PathBuf> {
        let model = ModelRef::parse(text, &paths.base);
        match (models.find(&model), model) {
            (Ok(located), _) => located.paths(),
            (Err(_), ModelRef::Onnx(path) | ModelRef::Manifest(path)) => vec![path],
            (Err(_), ModelRef::Name(_)) => Vec::new(),
        }
    };
    named.iter().flat_map(|(key, text)| files(text).into_iter().map(|path| FileRef { key, path })).collect()
}

/// Name, version and the start of the hash: which numbers may be compared.
pub fn identity(model: &Model) -> String {
    let id = model.identity();
    format!("{}@{}#{}", id.name, id.version, id.sha256.get(..12).unwrap_or(&id.sha256))
}

/// An error of a model that ends the run.
pub fn ends(step: &str, e: &ModelError) -> OperatorError {
    let error = OperatorError::new(format!("step {step}: {}", e.message));
    match &e.help {
        Some(help) => error.help(help.clone()),
        None => error,
    }
}

/// What a failed call means: a problem of the row, or the end of the run.
pub enum Failure {
    /// The row is unmeasured.
    Row(Problem),
    /// The run ends.
    Run(ModelError),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure::Row(problem)
    }
}

impl From<crate::media::MediaError> for Failure {
    fn from(e: crate::media::MediaError) -> Self {
        Failure::Row(e.into())
    }
}

impl From<ModelError> for Failure {
    fn from(e: ModelError) -> Self {
        match e.kind {
            ErrorKind::Cancelled => Failure::Row(Problem::new("cancelled", e.message)),
            ErrorKind::NotFinite => Failure::Row(Problem::new("not_finite", e.full())),
            kind if kind.is_of_the_input() => Failure::Row(Problem::new("bad_picture", e.full())),
            _ => Failure::Run(e),
        }
    }
}

/// One number per row of a batch: an output of shape `[batch]` or `[batch, 1]`.
pub fn one_number_each(model: &Arc<Model>, outputs: &[curette_models::Tensor], rows: usize) -> Result<Vec<f64>, ModelError> {
    let values = outputs.first().and_then(|t| t.as_f32()).filter(|a| a.len() == rows);
    let values = values.ok_or_else(|| {
        let shape = outputs.first().map(|t| t.shape().to_vec());
        let message = format!("model `{}` gave {shape:?} for {rows} rows, one number each is needed", model.identity().name);
        ModelError::new(ErrorKind::Contract, message)
    })?;
    Ok(values.iter().map(|v| f64::from(*v)).collect())
}
