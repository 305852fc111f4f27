//! The linear head: one weight per embedding dimension and a bias, in one safetensors file.
//!
//! A head belongs to the embedding that it was trained on, so the file names that embedding and its width, and readers refuse a head that does not
//! fit instead of giving plausible nonsense. Tensors: `weight` F32 `[1, D]`, `bias` F32 `[1]`. String metadata: `format` (`curette-head/1`), `kind`
//! (`linear`), `embedding_model`, `dim`, `classes` (`negative,positive`), `threshold`, and whatever the trainer recorded about itself
//! (`threshold_rule`, `training_data_blake3`, `report`, ...).
//!
//! Bytes are deterministic: metadata keys are written in order, which the safetensors crate does not do. What can go wrong: every way in which a file can
//! be wrong is a [`HeadError`] that says what was found and what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::vectors::{dot, norm};

/// The format that this version reads and writes.
pub const FORMAT: &str = "curette-head/1";

/// A head of more bytes than this is refused unread (a weight per dimension: 16 MiB is four million dimensions).
pub const MAX_HEAD_BYTES: u64 = 16 << 20;

/// A linear head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// One weight per dimension.
    pub weight: Vec<f32>,
    /// The bias.
    pub bias: f32,
    /// The name of the embedding that it reads, as `embedding_model` has it.
    pub embedding_model: String,
    /// Names of the two classes, negative first.
    pub classes: [String; 2],
    /// Scores from here on are the positive class (0 to 1).
    pub threshold: f64,
    /// What else the trainer recorded.
    pub notes: BTreeMap<String, String>,
}

/// Why a head file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("head {}: {what}", .path.display())]
pub struct HeadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub what: String,
}

/// The keys that [`Head`] itself holds; all others are notes.
const OWN_KEYS: [&str; 6] = ["format", "kind", "embedding_model", "dim", "classes", "threshold"];

impl Head {
    /// Reads and validates a head file; also gives the blake3 of its bytes.
    pub fn load(path: &Path) -> Result<(Head, blake3::Hash), HeadError> {
        let err = |what: String| HeadError { path: path.to_path_buf(), what };
        let size = std::fs::metadata(path).map_err(|e| err(format!("cannot be read: {e}")))?.len();
        if size > MAX_HEAD_BYTES {
            return Err(err(format!("has {size} bytes, more than the {MAX_HEAD_BYTES} of any linear head; is it a model?")));
        }
        let bytes = std::fs::read(path).map_err(|e| err(format!("cannot be read: {e}")))?;
        let head = Head::from_bytes(&bytes).map_err(err)?;
        Ok((head, blake3::hash(&bytes)))
    }

    /// Parses the bytes of a head file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Head, String> {
        if bytes.is_empty() {
            return Err("is empty; train it with `curette train-head`".into());
        }
        let not_ours = |e| format!("is not a safetensors file ({e}); train one with `curette train-head`");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(not_ours)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(not_ours)?;
        let mut notes: BTreeMap<String, String> =
            header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut own = OWN_KEYS.map(|key| notes.remove(key));
        let mut take = |key: &str| {
            let at = OWN_KEYS.iter().position(|k| *k == key);
            at.and_then(|i| own[i].take())
                .ok_or_else(|| format!("has no `{key}` in its metadata; train it with `curette train-head`"))
        };
        let format = take("format")?;
        if format != FORMAT {
            return Err(format!("has format `{format}`, this version reads `{FORMAT}`"));
        }
        let kind = take("kind")?;
        if kind != "linear" {
            return Err(format!("is a `{kind}` head, only `linear` ones are known"));
        }
        let embedding_model = take("embedding_model")?;
        if embedding_model.is_empty() {
            return Err("does not say which embedding it reads: `embedding_model` is empty".into());
        }
        let dim_text = take("dim")?;
        let dim: usize = dim_text.parse().map_err(|_| format!("has `dim` = `{dim_text}`, not a whole number"))?;
        let classes_text = take("classes")?;
        let classes = match classes_text.split(',').map(str::trim).collect::<Vec<_>>()[..] {
            [negative, positive] if !negative.is_empty() && !positive.is_empty() && negative != positive => {
                [negative.to_owned(), positive.to_owned()]
            }
            _ => return Err(format!("has `classes` = `{classes_text}`, expected two names: `negative,positive`")),
        };
        let threshold = own_threshold(take("threshold").ok())?.unwrap_or(0.5);

        let weight = floats(&tensors, "weight", &[1, dim])?;
        let bias = floats(&tensors, "bias", &[1])?;
        if let Some(extra) = tensors.names().into_iter().find(|n| !["weight", "bias"].contains(n)) {
            return Err(format!("has a tensor `{extra}`, which a linear head does not have"));
        }
        if dim == 0 {
            return Err("has no weights".into());
        }
        Ok(Head { weight, bias: bias[0], embedding_model, classes, threshold, notes })
    }

    /// The file: the same head gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let dim = self.weight.len();
        let mut metadata = self.notes.clone();
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("kind".into(), "linear".into());
        metadata.insert("embedding_model".into(), self.embedding_model.clone());
        metadata.insert("dim".into(), dim.to_string());
        metadata.insert("classes".into(), self.classes.join(","));
        metadata.insert("threshold".into(), self.threshold.to_string());
        let bytes_of_weight = dim * 4;
        let header = serde_json::json!({
            "__metadata__": metadata,
            "bias": {"dtype": "F32", "shape": [1], "data_offsets": [bytes_of_weight, bytes_of_weight + 4]},
            "weight": {"dtype": "F32", "shape": [1, dim], "data_offsets": [0, bytes_of_weight]},
        });
        let mut header = header.to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(&header);
        for value in self.weight.iter().chain([&self.bias]) {
            out.extend_from_slice(&value.to_le_bytes());
        }
        out
    }

    /// Dimensions of the embedding that it reads.
    pub fn dim(&self) -> usize {
        self.weight.len()
    }

    /// Probability of the positive class. The vector is brought to length 1 first, which changes nothing for embeddings that are so already; a zero vector
    /// stays zero and gets the bias alone. The caller has checked the width.
    pub fn score(&self, vector: &[f32]) -> f32 {
        let length = norm(vector);
        let length = if length > 0.0 { length } else { 1.0 };
        sigmoid(dot(&self.weight, vector) / length + f64::from(self.bias)) as f32
    }
}

fn own_threshold(text: Option<String>) -> Result<Option<f64>, String> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(t) if (0.0..=1.0).contains(&t) => Ok(Some(t)),
        _ => Err(format!("has `threshold` = `{text}`, expected a number from 0 to 1")),
    }
}

fn floats(tensors: &SafeTensors, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = tensors.tensor(name).map_err(|_| format!("has no tensor `{name}`; train it with `curette train-head`"))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(format!("has `{name}` as {:?}, expected F32", tensor.dtype()));
    }
    if tensor.shape() != shape {
        return Err(format!("has `{name}` of shape {:?}, expected {shape:?}", tensor.shape()));
    }
    let (chunks, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(format!("has {} at `{name}`[{i}]; train it again", values[i])),
        None => Ok(values),
    }
}

/// The logistic function, without overflow on either side.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use safetensors::tensor::TensorView;

    use super::*;

    fn head() -> Head {
        Head {
            weight: vec![1.0, -2.0, 0.5],
            bias: 0.25,
            embedding_model: "builtin/1".into(),
            classes: ["non_medical".into(), "medical".into()],
            threshold: 0.4,
            notes: BTreeMap::from([("report".into(), "{\"n\":3}".into())]),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_other_readers_understand_it() {
        let bytes = head().to_bytes();
        assert_eq!(Head::from_bytes(&bytes).unwrap(), head());
        assert_eq!(bytes, head().to_bytes());
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("weight").unwrap().shape(), [1, 3]);
    }

    /// A file made by the reference crate, with changes to its parts.
    fn made(edit: impl FnOnce(&mut HashMap<String, String>), weight: (Dtype, Vec<usize>, Vec<u8>)) -> Result<Head, String> {
        let mut metadata: HashMap<String, String> =
            [("format", FORMAT), ("kind", "linear"), ("embedding_model", "builtin/1"), ("dim", "2"), ("classes", "no,yes")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        edit(&mut metadata);
        let bias = 1f32.to_le_bytes();
        let tensors = [
            ("weight", TensorView::new(weight.0, weight.1, &weight.2).unwrap()),
            ("bias", TensorView::new(Dtype::F32, vec![1], &bias).unwrap()),
        ];
        Head::from_bytes(&safetensors::serialize(tensors, Some(metadata)).unwrap())
    }

    fn f32s(values: &[f32]) -> (Dtype, Vec<usize>, Vec<u8>) {
        (Dtype::F32, vec![1, values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    #[test]
    fn each_mistake_has_its_own_sentence() {
        let good = || f32s(&[1.0, 2.0]);
        assert_eq!(made(|_| (), good()).unwrap().threshold, 0.5);
        let said = [
            Head::from_bytes(b""),
            Head::from_bytes(b"not a head at all"),
            made(|m| drop(m.remove("embedding_model")), good()),
            made(|m| drop(m.insert("embedding_model".into(), String::new())), good()),
            made(|m| drop(m.insert("format".into(), "curette-head/9".into())), good()),
            made(|m| drop(m.insert("kind".into(), "mlp".into())), good()),
            made(|m| drop(m.insert("dim".into(), "3".into())), good()),
            made(|m| drop(m.insert("dim".into(), "two".into())), good()),
            made(|m| drop(m.insert("classes".into(), "yes".into())), good()),
            made(|m| drop(m.insert("threshold".into(), "1.5".into())), good()),
            made(|_| (), f32s(&[1.0, f32::NAN])),
            made(|_| (), (Dtype::F16, vec![1, 2], vec![0; 4])),
        ]
        .map(|r| r.unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @r#"
        is empty; train it with `curette train-head`
        is not a safetensors file (header too large); train one with `curette train-head`
        has no `embedding_model` in its metadata; train it with `curette train-head`
        does not say which embedding it reads: `embedding_model` is empty
        has format `curette-head/9`, this version reads `curette-head/1`
        is a `mlp` head, only `linear` ones are known
        has `weight` of shape [1, 2], expected [1, 3]
        has `dim` = `two`, not a whole number
        has `classes` = `yes`, expected two names: `negative,positive`
        has `threshold` = `1.5`, expected a number from 0 to 1
        has NaN at `weight`[1]; train it again
        has `weight` as F16, expected F32
        "#);
    }

    #[test]
    fn the_score_is_the_logistic_of_the_weighted_sum() {
        let h = head();
        let v = [0.6f32, 0.8, 0.0];
        let z: f64 = 0.6 - 2.0 * 0.8 + 0.25;
        assert!((f64::from(h.score(&v)) - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6);
        assert_eq!(h.score(&[6.0, 8.0, 0.0]), h.score(&[0.6, 0.8, 0.0]), "length does not matter");
        assert_eq!(h.score(&[0.0; 3]), sigmoid(0.25) as f32);
        assert_eq!((sigmoid(1e9), sigmoid(-1e9)), (1.0, 0.0));
    }
}
