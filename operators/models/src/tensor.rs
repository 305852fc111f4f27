//! What goes into a model and comes out of it.

use ndarray::{ArrayD, IxDyn};

use crate::{ErrorKind, ModelError, Result};

/// A dense tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// 32-bit floats.
    F32(ArrayD<f32>),
    /// 64-bit integers: token ids, masks.
    I64(ArrayD<i64>),
}

impl Tensor {
    /// Floats of this shape; the length must fit.
    pub fn f32(shape: &[usize], values: Vec<f32>) -> Result<Self> {
        let given = values.len();
        ArrayD::from_shape_vec(IxDyn(shape), values).map(Tensor::F32).map_err(|_| misfit(shape, given))
    }
    /// Integers of this shape; the length must fit.
    pub fn i64(shape: &[usize], values: Vec<i64>) -> Result<Self> {
        let given = values.len();
        ArrayD::from_shape_vec(IxDyn(shape), values).map(Tensor::I64).map_err(|_| misfit(shape, given))
    }
    /// The shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Tensor::F32(a) => a.shape(),
            Tensor::I64(a) => a.shape(),
        }
    }
    /// The floats, if it holds floats.
    pub fn as_f32(&self) -> Option<&ArrayD<f32>> {
        match self {
            Tensor::F32(a) => Some(a),
            Tensor::I64(_) => None,
        }
    }
    /// Its rows along the first axis, each flattened; `None` unless floats with at least one axis.
    pub fn rows_f32(&self) -> Option<Vec<Vec<f32>>> {
        let a = self.as_f32().filter(|a| a.ndim() > 0)?;
        Some(a.outer_iter().map(|row| row.iter().copied().collect()).collect())
    }
}

fn misfit(shape: &[usize], given: usize) -> ModelError {
    ModelError::new(ErrorKind::BadInput, format!("{given} values do not fill a tensor of shape {shape:?}"))
}
