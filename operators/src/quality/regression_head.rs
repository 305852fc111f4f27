//! A linear head that gives a number, not a class: one weight per dimension of an embedding and a bias, in one safetensors file.
//!
//! Tensors `weight` F32 `[1, D]` and `bias` F32 `[1]`; metadata `kind` = `regression` and `encoder_sha256`, the hash of the graph whose embeddings it reads, as
//! `scripts/convert/laion_head.py` writes them. What can go wrong: every way in which a file can be wrong is a message that says what was found.

use std::path::Path;

use curette_models::{ErrorKind, FileRole, ModelError, ModelRef, Models};
use safetensors::{Dtype, SafeTensors};

use super::models::identity;

/// Larger files are refused unread: 16 MiB are four million dimensions.
const MAX_BYTES: u64 = 16 << 20;

/// A head.
#[derive(Debug, Clone, PartialEq)]
pub struct RegressionHead {
    weight: Vec<f32>,
    bias: f32,
    /// Hash of the graph of the encoder, where the file tells it.
    pub encoder_sha256: Option<String>,
    /// What names it in outputs.
    pub identity: String,
}

impl RegressionHead {
    /// The head that a key names: a manifest's name or path (`kind = "head"`), or a `.safetensors` file.
    pub fn open(models: &Models, text: &str, base: &Path) -> Result<Self, ModelError> {
        if text.ends_with(".safetensors") {
            let path = base.join(text);
            let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let (sha256, _) = curette_models::store::hash_file(&path)?;
            return Self::load(&path, identity(&name, "unversioned", &sha256));
        }
        let located = models.find(&ModelRef::parse(text, base))?;
        located.verify()?;
        let name = identity(&located.manifest.name, &located.manifest.version, &located.sha256(FileRole::Head)?);
        Self::load(located.require(FileRole::Head)?, name)
    }

    fn load(path: &Path, identity: String) -> Result<Self, ModelError> {
        let wrong = |what: String| {
            ModelError::new(ErrorKind::Manifest, format!("head {}: {what}", path.display()))
                .help("make it with scripts/convert/laion_head.py")
        };
        let size = std::fs::metadata(path).map_err(|e| wrong(format!("cannot be read: {e}")))?.len();
        if size > MAX_BYTES {
            return Err(wrong(format!("has {size} bytes, more than the {MAX_BYTES} of any linear head")));
        }
        let bytes = std::fs::read(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
        Self::parse(&bytes, identity).map_err(wrong)
    }

    fn parse(bytes: &[u8], identity: String) -> Result<Self, String> {
        let not_ours = |e| format!("is no safetensors file ({e})");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        let metadata = |key: &str| header.metadata().as_ref().and_then(|m| m.get(key).cloned());
        if metadata("kind").as_deref() != Some("regression") {
            return Err(format!("is of kind {:?}, a `regression` head is needed", metadata("kind")));
        }
        let floats = |name: &str| -> Result<(Vec<usize>, Vec<f32>), String> {
            let tensor = tensors.tensor(name).map_err(|_| format!("has no tensor `{name}`"))?;
            let values: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            match tensor.dtype() {
                Dtype::F32 if values.iter().all(|v| v.is_finite()) => Ok((tensor.shape().to_vec(), values)),
                Dtype::F32 => Err(format!("has a value in `{name}` that is not finite")),
                other => Err(format!("has `{name}` as {other:?}, expected F32")),
            }
        };
        let ((shape, weight), (bias_shape, bias)) = (floats("weight")?, floats("bias")?);
        match (shape.as_slice(), bias.as_slice()) {
            ([1, width], [bias]) if *width > 0 => {
                Ok(RegressionHead { weight, bias: *bias, encoder_sha256: metadata("encoder_sha256"), identity })
            }
            _ => Err(format!("has `weight` of shape {shape:?} and `bias` of shape {bias_shape:?}, expected [1, D] and [1]")),
        }
    }

    /// Dimensions of the embedding that it reads.
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// The number for an embedding, which is brought to length 1 first; a zero vector gets the bias alone. The caller has checked the width.
    pub fn score(&self, vector: &[f32]) -> f64 {
        let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let length = if length > 0.0 { length } else { 1.0 };
        let product: f64 = self.weight.iter().zip(vector).map(|(w, v)| f64::from(*w) * f64::from(*v)).sum();
        product / length + f64::from(self.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(metadata: &str, tensors: &str, data: &[f32]) -> Vec<u8> {
        let header = format!("{{\"__metadata__\":{metadata},{tensors}}}");
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(header.as_bytes());
        data.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
        out
    }

    const TENSORS: &str =
        r#""weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"bias":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#;
    const KIND: &str = r#"{"kind":"regression","encoder_sha256":"ab"}"#;

    #[test]
    fn a_vector_of_any_length_has_the_score_of_its_direction() {
        let head = RegressionHead::parse(&file(KIND, TENSORS, &[3.0, 4.0, 5.0]), "h".into()).unwrap();
        assert_eq!((head.width(), head.encoder_sha256.as_deref()), (2, Some("ab")));
        assert_eq!((head.score(&[10.0, 0.0]), head.score(&[0.0, 0.5]), head.score(&[0.0, 0.0])), (8.0, 9.0, 5.0));
    }

    #[test]
    fn what_is_no_head_is_refused_with_the_reason() {
        let refused = |bytes: &[u8]| RegressionHead::parse(bytes, "h".into()).unwrap_err();
        assert!(refused(b"").contains("no safetensors"));
        assert!(refused(&file(r#"{"kind":"linear"}"#, TENSORS, &[1.0; 3])).contains("`regression` head is needed"));
        assert!(refused(&file(KIND, TENSORS, &[1.0, f32::NAN, 0.0])).contains("not finite"));
        let flat = TENSORS.replace("[1,2]", "[2]");
        assert!(refused(&file(KIND, &flat, &[1.0; 3])).contains("expected [1, D]"));
        assert!(refused(&file(KIND, TENSORS, &[1.0; 2])).contains("no safetensors"));
    }
}
