//! The head file: one safetensors file that says everything about itself.
//!
//! Tensors: `weight` `[k, d]` and `bias` `[k]` of the last layer, `hidden.N.weight` and `hidden.N.bias` of those before it, `mean` `[d]` and `scale` `[d]`.
//! A tensor is F32 where that loses nothing, else F64.
//!
//! | key | value |
//! |---|---|
//! | `format` | `curette-head/2` |
//! | `kind` | `linear`, `mlp` or `regression` |
//! | `encoder`, `encoder_sha256` | what made the embeddings; no hash for built-in encoders |
//! | `dim` | width of the embeddings |
//! | `l2_normalised` | `true`: embeddings are brought to length 1 first |
//! | `classes` | JSON list of names, negative first |
//! | `activation` | of hidden layers: `relu`, `tanh`, `identity` |
//! | `calibration` | `none`, `platt SLOPE INTERCEPT` or `temperature T` |
//! | `threshold`, `threshold_rule` | where positive begins, and how that was chosen |
//! | others | notes of the trainer: `validation`, `test`, `training_data_blake3`, `seed`, `curette_version`, `report` |
//!
//! Bytes are deterministic: metadata keys are written in order, which the safetensors crate does not do. What can go wrong: every way in which a file can
//! be wrong is a [`HeadError`] that says what was found and what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use crate::encoder::Encoder;
use crate::head::{Activation, Calibration, Head, Kind, Layer, Standardise};

/// The format that this version reads and writes.
pub const FORMAT: &str = "curette-head/2";

/// A head of more bytes than this is refused unread (a linear one has a few thousand).
pub const MAX_HEAD_BYTES: u64 = 64 << 20;

/// More hidden layers than this are refused.
pub const MAX_HIDDEN: usize = 16;

/// Why a head file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("head {}: {what}", .path.display())]
pub struct HeadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub what: String,
}

const KINDS: [(&str, Kind); 3] = [("linear", Kind::Linear), ("mlp", Kind::Mlp), ("regression", Kind::Regression)];
const ACTIVATIONS: [(&str, Activation); 3] =
    [("relu", Activation::Relu), ("tanh", Activation::Tanh), ("identity", Activation::Identity)];

impl Kind {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|k| k.1 == self).map_or("", |k| k.0)
    }
}

impl Activation {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        ACTIVATIONS.iter().find(|k| k.1 == self).map_or("", |k| k.0)
    }
}

impl std::fmt::Display for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Calibration::None => f.write_str("none"),
            Calibration::Platt { slope, intercept } => write!(f, "platt {slope} {intercept}"),
            Calibration::Temperature(t) => write!(f, "temperature {t}"),
        }
    }
}

fn calibration(text: &str) -> Result<Calibration, String> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let number = |i: usize| words.get(i).and_then(|w| w.parse::<f64>().ok()).filter(|v| v.is_finite());
    match (words.first().copied(), words.len(), number(1), number(2)) {
        (Some("none"), 1, _, _) => Ok(Calibration::None),
        (Some("platt"), 3, Some(slope), Some(intercept)) if slope > 0.0 => Ok(Calibration::Platt { slope, intercept }),
        (Some("temperature"), 2, Some(t), _) if t > 0.0 => Ok(Calibration::Temperature(t)),
        _ => Err(format!(
            "has `calibration` = `{text}`, expected `none`, `platt SLOPE INTERCEPT` or `temperature T`, SLOPE and T above 0"
        )),
    }
}

impl Head {
    /// Reads and validates a head file; also gives the blake3 of its bytes.
    pub fn load(path: &Path) -> Result<(Head, blake3::Hash), HeadError> {
        let err = |what: String| HeadError { path: path.to_path_buf(), what };
        let size = std::fs::metadata(path).map_err(|e| err(format!("cannot be read: {e}")))?.len();
        if size > MAX_HEAD_BYTES {
            return Err(err(format!("has {size} bytes, more than the {MAX_HEAD_BYTES} of any head; is it a model?")));
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
        let head = Parts { notes: &mut notes, tensors: &tensors }.head()?;
        Ok(Head { notes, ..head })
    }

    /// The file: the same head gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut metadata = self.notes.clone();
        let mut set = |key: &str, value: String| drop(metadata.insert(key.to_owned(), value));
        set("format", FORMAT.into());
        set("kind", self.kind.name().into());
        set("encoder", self.encoder.name.clone());
        if let Some(hash) = &self.encoder.sha256 {
            set("encoder_sha256", hash.clone());
        }
        set("dim", self.dim().to_string());
        set("l2_normalised", self.l2_normalised.to_string());
        set("classes", serde_json::Value::from(self.classes.clone()).to_string());
        set("calibration", self.calibration.to_string());
        if !self.hidden.is_empty() {
            set("activation", self.activation.name().into());
        }
        if let Some(threshold) = self.threshold {
            set("threshold", threshold.to_string());
            set("threshold_rule", self.threshold_rule.clone());
        }
        let mut tensors: Vec<(String, Vec<usize>, &[f64])> = Vec::new();
        let named = self.hidden.iter().enumerate().map(|(i, l)| (format!("hidden.{i}."), l));
        for (prefix, layer) in named.chain([(String::new(), &self.output)]) {
            tensors.push((format!("{prefix}weight"), vec![layer.outputs(), layer.inputs], &layer.weight));
            tensors.push((format!("{prefix}bias"), vec![layer.outputs()], &layer.bias));
        }
        if let Some(s) = &self.standardise {
            tensors.push(("mean".into(), vec![s.mean.len()], &s.mean));
            tensors.push(("scale".into(), vec![s.scale.len()], &s.scale));
        }
        file(&metadata, &tensors)
    }
}

/// A safetensors file with keys in order.
fn file(metadata: &BTreeMap<String, String>, tensors: &[(String, Vec<usize>, &[f64])]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!(metadata));
    let mut data = Vec::new();
    // Eight-byte tensors first, so that all are aligned.
    let exact = |values: &[f64]| values.iter().all(|v| f64::from(*v as f32) == *v);
    let (small, large): (Vec<_>, Vec<_>) = tensors.iter().partition(|t| exact(t.2));
    for (name, shape, values) in large.into_iter().chain(small) {
        let start = data.len();
        let single = exact(values);
        for v in *values {
            if single { data.extend((*v as f32).to_le_bytes()) } else { data.extend(v.to_le_bytes()) }
        }
        let dtype = if single { "F32" } else { "F64" };
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]}));
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.append(&mut header);
    out.append(&mut data);
    out
}

struct Parts<'a, 'b> {
    notes: &'a mut BTreeMap<String, String>,
    tensors: &'a SafeTensors<'b>,
}

impl Parts<'_, '_> {
    fn take(&mut self, key: &str) -> Result<String, String> {
        self.notes.remove(key).ok_or_else(|| format!("has no `{key}` in its metadata; train it with `curette train-head`"))
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.take(key)?;
        let names = || choices.iter().map(|c| format!("`{}`", c.0)).collect::<Vec<_>>().join(", ");
        choices.iter().find(|c| c.0 == text).map(|c| c.1).ok_or_else(|| format!("has `{key}` = `{text}`, known are {}", names()))
    }

    fn head(&mut self) -> Result<Head, String> {
        let format = self.take("format")?;
        if format != FORMAT {
            return Err(format!(
                "has format `{format}`, this version reads `{FORMAT}`; train it again with `curette train-head`"
            ));
        }
        let kind = self.choice("kind", &KINDS)?;
        let name = self.take("encoder")?;
        if name.is_empty() {
            return Err("does not say which embedding it reads: `encoder` is empty".into());
        }
        let text = match self.notes.remove("encoder_sha256") {
            Some(hash) => format!("{name}@sha256:{hash}"),
            None => name,
        };
        let encoder: Encoder = text.parse().map_err(|e| format!("has a wrong `encoder`: {e}"))?;
        let dim_text = self.take("dim")?;
        let dim: usize = dim_text.parse().map_err(|_| format!("has `dim` = `{dim_text}`, not a whole number"))?;
        if dim == 0 {
            return Err("has no weights".into());
        }
        let l2_normalised = self.choice("l2_normalised", &[("true", true), ("false", false)])?;
        let calibration = match self.notes.remove("calibration") {
            Some(text) => calibration(&text)?,
            None => Calibration::None,
        };
        let threshold = match self.notes.remove("threshold") {
            None => None,
            Some(text) => match text.parse::<f64>() {
                Ok(t) if (0.0..=1.0).contains(&t) || (kind == Kind::Regression && t.is_finite()) => Some(t),
                _ => return Err(format!("has `threshold` = `{text}`, expected a number from 0 to 1")),
            },
        };
        let threshold_rule = self.notes.remove("threshold_rule").unwrap_or_default();
        let (hidden, output) = self.layers(dim)?;
        let activation = if hidden.is_empty() { Activation::Identity } else { self.choice("activation", &ACTIVATIONS)? };
        if kind == Kind::Linear && !hidden.is_empty() {
            return Err("is `linear` but has hidden layers, which makes it `mlp`".into());
        }
        let classes = self.classes(kind, output.outputs())?;
        let standardise = self.standardise(dim)?;
        match (calibration, output.outputs()) {
            (Calibration::Platt { .. }, 2..) | (Calibration::Temperature(_), 1) => {
                return Err(format!("has {} outputs, which `calibration` = `{calibration}` does not fit", output.outputs()));
            }
            (Calibration::Platt { .. } | Calibration::Temperature(_), _) if kind == Kind::Regression => {
                return Err(format!("is of kind `regression`, which `calibration` = `{calibration}` does not fit"));
            }
            _ => {}
        }
        let notes = BTreeMap::new();
        Ok(Head {
            kind,
            hidden,
            activation,
            output,
            standardise,
            encoder,
            l2_normalised,
            classes,
            calibration,
            threshold,
            threshold_rule,
            notes,
        })
    }

    fn classes(&mut self, kind: Kind, outputs: usize) -> Result<Vec<String>, String> {
        let text = self.take("classes")?;
        let classes: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        let wanted = match (kind, outputs) {
            (Kind::Regression, 1) => 0,
            (Kind::Regression, n) => return Err(format!("is `regression` but has {n} outputs instead of one")),
            (_, 1) => 2,
            (_, n) => n,
        };
        let distinct = (1..classes.len()).all(|i| !classes[..i].contains(&classes[i]));
        if classes.len() != wanted || !distinct || classes.iter().any(String::is_empty) {
            return Err(format!("has `classes` = `{text}`, expected a JSON list of {wanted} different names"));
        }
        Ok(classes)
    }

    fn layers(&self, dim: usize) -> Result<(Vec<Layer>, Layer), String> {
        let mut known = vec!["weight".to_owned(), "bias".into(), "mean".into(), "scale".into()];
        let mut hidden = Vec::new();
        let mut inputs = dim;
        for i in 0.. {
            let prefix = format!("hidden.{i}.");
            if self.tensors.tensor(&format!("{prefix}weight")).is_err() {
                break;
            }
            if i == MAX_HIDDEN {
                return Err(format!("has more than {MAX_HIDDEN} hidden layers"));
            }
            let layer = self.layer(&prefix, inputs)?;
            inputs = layer.outputs();
            hidden.push(layer);
            known.extend([format!("{prefix}weight"), format!("{prefix}bias")]);
        }
        let output = self.layer("", inputs)?;
        let mut names = self.tensors.names();
        names.sort_unstable();
        match names.into_iter().find(|n| !known.iter().any(|k| k == n)) {
            Some(extra) => Err(format!("has a tensor `{extra}`, which heads do not have")),
            None => Ok((hidden, output)),
        }
    }

    fn layer(&self, prefix: &str, inputs: usize) -> Result<Layer, String> {
        let bias = self.numbers(&format!("{prefix}bias"), None)?;
        let weight = self.numbers(&format!("{prefix}weight"), Some(&[bias.len(), inputs]))?;
        Ok(Layer { inputs, weight, bias })
    }

    fn standardise(&self, dim: usize) -> Result<Option<Standardise>, String> {
        if self.tensors.tensor("mean").is_err() && self.tensors.tensor("scale").is_err() {
            return Ok(None);
        }
        let (mean, scale) = (self.numbers("mean", Some(&[dim]))?, self.numbers("scale", Some(&[dim]))?);
        match scale.iter().position(|s| *s == 0.0) {
            Some(i) => Err(format!("has 0 at `scale`[{i}]")),
            None => Ok(Some(Standardise { mean, scale })),
        }
    }

    /// Without a shape: a vector that is not empty.
    fn numbers(&self, name: &str, shape: Option<&[usize]>) -> Result<Vec<f64>, String> {
        let missing = |_| format!("has no tensor `{name}`; train it with `curette train-head`");
        let tensor = self.tensors.tensor(name).map_err(missing)?;
        let wrong = |expected: String| Err(format!("has `{name}` of shape {:?}, expected {expected}", tensor.shape()));
        match shape {
            Some(shape) if tensor.shape() != shape => wrong(format!("{shape:?}")),
            None if tensor.shape().len() != 1 || tensor.shape()[0] == 0 => wrong("a vector".into()),
            _ => numbers(&tensor, name),
        }
    }
}

/// The finite numbers of an F32 or F64 tensor.
pub(crate) fn numbers(tensor: &safetensors::tensor::TensorView, name: &str) -> Result<Vec<f64>, String> {
    let values: Vec<f64> = match tensor.dtype() {
        Dtype::F32 => tensor.data().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        Dtype::F64 => tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => return Err(format!("has `{name}` as {other:?}, expected F32 or F64")),
    };
    match values.iter().position(|v| !v.is_finite()) {
        Some(i) => Err(format!("has {} at `{name}`[{i}]; train it again", values[i])),
        None => Ok(values),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
