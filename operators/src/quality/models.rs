//! What the operators with models of this family share, on top of [`crate::models`].

use std::sync::Arc;

use curette_engine::operator::OperatorError;
use curette_engine::verdict::Problem;
use curette_models::{ErrorKind, Model, ModelError, Tensor};

use crate::media::MediaError;

/// What a failed measurement means: a problem of the row, or the end of the run.
pub enum Failure {
    /// The row is unmeasured.
    Row(Problem),
    /// The run ends.
    Run(OperatorError),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure::Row(problem)
    }
}

impl From<MediaError> for Failure {
    fn from(e: MediaError) -> Self {
        Failure::Row(crate::media::problem(e))
    }
}

impl From<ModelError> for Failure {
    fn from(e: ModelError) -> Self {
        crate::models::problem(e).map_or_else(Failure::Run, Failure::Row)
    }
}

/// One number per row of a batch: an output of shape `[batch]` or `[batch, 1]`.
pub fn one_number_each(model: &Arc<Model>, outputs: &[Tensor], rows: usize) -> Result<Vec<f64>, ModelError> {
    let values = outputs.first().and_then(|t| t.as_f32()).filter(|a| a.len() == rows);
    let values = values.ok_or_else(|| {
        let shape = outputs.first().map(|t| t.shape().to_vec());
        let message = format!("model `{}` gave {shape:?} for {rows} rows, one number each is needed", model.identity().name);
        ModelError::new(ErrorKind::Contract, message)
    })?;
    Ok(values.iter().map(|v| f64::from(*v)).collect())
}
