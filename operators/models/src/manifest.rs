//! A model's manifest: one TOML file that says all that must be known to run it and to trust its numbers.
//!
//! Unknown keys are errors, so a typing mistake never becomes a default. Hashes may be absent where a file is made by conversion on the
//! user's machine: `curette models add` then pins it in the lock file. A manifest describes one graph; a model of two graphs has two.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{ErrorKind, ModelError, Result};

/// What the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// A graph for ONNX Runtime.
    Onnx,
    /// A linear or MLP head in safetensors, scored without ONNX Runtime.
    Head,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileRole {
    /// The ONNX graph with its weights.
    Graph,
    /// The `tokenizer.json` of the tokenizers library.
    Tokenizer,
    /// A head in safetensors.
    Head,
    /// A dictionary of characters, one a line.
    Dictionary,
}

impl FileRole {
    /// The name in TOML and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            FileRole::Graph => "graph",
            FileRole::Tokenizer => "tokenizer",
            FileRole::Head => "head",
            FileRole::Dictionary => "dictionary",
        }
    }
    /// By its name.
    pub fn parse(name: &str) -> Option<Self> {
        [FileRole::Graph, FileRole::Tokenizer, FileRole::Head, FileRole::Dictionary].into_iter().find(|r| r.name() == name)
    }
}

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What it is for.
    pub role: FileRole,
    /// File name; looked for beside the manifest when the store does not have it.
    pub path: String,
    /// SHA-256, 64 hexadecimal digits. Absent: pinned by `curette models add` in the lock file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Where it can be downloaded (https, file, or a store: s3, gs, az). Only files with a hash are downloaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}

/// May it be used commercially?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommercialUse {
    /// The licence allows it.
    Yes,
    /// The licence forbids it: every command needs `--accept-licence` to bring the model in.
    No,
    /// No licence was found, or it does not say.
    Unknown,
}

/// Where the model comes from and under which terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// SPDX expression, or `LicenseRef-...`.
    pub licence: String,
    /// Text of the licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence_url: Option<String>,
    /// May it be used commercially?
    pub commercial_use: CommercialUse,
    /// The page of the people who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Script that made the files, with versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_by: Option<String>,
    /// How to get the files when nothing can be downloaded as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obtain: Option<String>,
}

/// Element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 16-bit float.
    F16,
    /// 32-bit float.
    F32,
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
    /// 8-bit unsigned integer.
    U8,
}

/// One axis of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    /// A fixed length.
    Fixed(u64),
    /// A length that may change from call to call, by name: the same name is the same length within one call.
    Symbol(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(s) => f.write_str(s),
        }
    }
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, such as `["batch", 3, 224, 224]`.
    pub shape: Vec<Dim>,
}

/// What the graph takes and gives; compared with the graph when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// ONNX operator set, for information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opset: Option<u32>,
    /// Inputs in the order in which [`crate::Model::run`] takes them.
    pub inputs: Vec<Port>,
    /// Outputs in the order in which it gives them. The graph may have more.
    pub outputs: Vec<Port>,
}

/// Known ways to make an input tensor from a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// Shortest edge to 224 with bicubic, centre crop 224x224, CLIP's mean and standard deviation, RGB, planes.
    #[serde(rename = "clip-224")]
    Clip224,
    /// Shortest edge to 256 with bicubic, centre crop 224x224, ImageNet's mean and standard deviation, RGB, planes.
    #[serde(rename = "imagenet-224")]
    Imagenet224,
    /// A text detector: RGB, ImageNet's mean and standard deviation, black to the right and below up to multiples of 32.
    #[serde(rename = "craft")]
    Craft,
    /// A text recogniser: grey strips of 64 rows, from -1 to 1.
    #[serde(rename = "easyocr-rec")]
    EasyOcrRec,
}

/// How a picture becomes a tensor: a preset, or what the operator that uses the model must do, spelled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// A known way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Mean of each channel, in units of 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel, in units of 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<[f32; 3]>,
    /// `rgb` or `bgr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<String>,
    /// Everything else, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerSpec {
    /// The model's limit in tokens, special tokens included. The limit inside `tokenizer.json` is not used.
    pub max_length: usize,
    /// Text put before each query, if the model wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_prefix: Option<String>,
}

/// Numbers of the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 16-bit floats: no faster on a processor.
    F16,
    /// Per-channel dynamic 8-bit integers.
    Int8,
}

/// How it should run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunSpec {
    /// Numbers of the weights.
    pub precision: Precision,
    /// Most rows of one batch; 0 = the encoder's default.
    pub batch: usize,
    /// Most tokens of one batch, padding included; 0 = the encoder's default.
    pub token_budget: usize,
    /// Oldest minor version of ONNX Runtime that has all operators; 0 = any that loads.
    pub min_ort_api: u32,
    /// Memory of one session at its largest in MiB, as measured; 0 = not known. Bounds how many sessions are made where `[runtime] replicas` is not set.
    pub memory_mib: u64,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More is better.
    HigherIsBetter,
    /// Less is better.
    LowerIsBetter,
}

/// What the number that the model gives means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Name of the scale: `raw`, `z`, `sigmoid`, `1-10`.
    pub scale: String,
    /// Which way is better.
    pub direction: Direction,
    /// Smallest and largest value that may come out, if there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Constants that turn the raw output into the scale, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, f64>,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Unique name: lower-case letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Version of the model, raised when a file changes.
    pub version: String,
    /// One line for people.
    pub title: String,
    /// What it is.
    pub kind: ModelKind,
    /// Its files, at most one of each role.
    pub files: Vec<ModelFile>,
    /// Where it comes from.
    pub origin: Origin,
    /// What the graph takes and gives; absent for a bare ONNX file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<Contract>,
    /// How a picture becomes its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// How text becomes its input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerSpec>,
    /// How it should run.
    #[serde(default)]
    pub run: RunSpec,
    /// What its number means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
}

/// The version of a bare ONNX file. A written manifest of a graph has a contract, so it is never taken for one.
const BARE_VERSION: &str = "unversioned";
/// Longest name.
const MAX_NAME: usize = 64;

impl Manifest {
    /// Parses and checks; `place` is named in messages.
    pub fn parse(text: &str, place: &Path) -> Result<Self> {
        let at = place.display();
        let manifest: Manifest = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|s| text[..s.start.min(text.len())].matches('\n').count() + 1);
            let line = line.map(|n| format!(":{n}")).unwrap_or_default();
            ModelError::new(ErrorKind::Manifest, format!("{at}{line}: {}", e.message()))
                .help("the keys of a model manifest are explained in datasets/models/README.md")
        })?;
        match manifest.mistakes() {
            mistakes if mistakes.is_empty() => Ok(manifest),
            mistakes => Err(ModelError::new(ErrorKind::Manifest, format!("{at}: {}", mistakes.join("; ")))),
        }
    }

    /// The manifest of a bare ONNX file: nothing is known but where it is.
    pub fn bare(path: &Path) -> Self {
        let name = |p: Option<&std::ffi::OsStr>| p.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let file = |role, path| ModelFile { role, path, sha256: None, bytes: None, urls: Vec::new() };
        let files = vec![file(FileRole::Graph, name(path.file_name()))];
        Manifest {
            name: name(path.file_stem()),
            version: BARE_VERSION.into(),
            title: "an ONNX file without a manifest".into(),
            kind: ModelKind::Onnx,
            files,
            origin: Origin {
                licence: "LicenseRef-unknown".into(),
                licence_url: None,
                commercial_use: CommercialUse::Unknown,
                source: None,
                converted_by: None,
                obtain: None,
            },
            contract: None,
            preprocessing: None,
            tokenizer: None,
            run: RunSpec::default(),
            score: None,
        }
    }

    /// True for what [`Manifest::bare`] made.
    pub fn is_bare(&self) -> bool {
        self.contract.is_none() && self.kind == ModelKind::Onnx && self.version == BARE_VERSION
    }

    /// The file of a role.
    pub fn file(&self, role: FileRole) -> Option<&ModelFile> {
        self.files.iter().find(|f| f.role == role)
    }

    fn mistakes(&self) -> Vec<String> {
        let mut out = Vec::new();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME || self.name.starts_with('.') || !self.name.chars().all(plain) {
            out.push(format!("`name` has 1 to {MAX_NAME} of a-z, 0-9, `-`, `_`, `.`, and does not start with `.`"));
        }
        let main = match self.kind {
            ModelKind::Onnx => FileRole::Graph,
            ModelKind::Head => FileRole::Head,
        };
        if self.file(main).is_none() {
            out.push(format!("`files` needs one with role = \"{}\"", main.name()));
        }
        for (i, file) in self.files.iter().enumerate() {
            if self.files[..i].iter().any(|f| f.role == file.role) {
                out.push(format!("two files have the role `{}`", file.role.name()));
            }
            if file.path.is_empty() || file.path.contains(['/', '\\']) || file.path.starts_with('.') {
                out.push(format!("`{}` is not a plain file name", file.path));
            }
            if file.sha256.as_deref().is_some_and(|h| !is_sha256(h)) {
                out.push(format!("the sha256 of `{}` must be 64 digits of 0-9, a-f", file.path));
            }
            for url in &file.urls {
                let plain = ["https://", "http://", "file://"].iter().any(|s| url.starts_with(s));
                if !plain && (!curette_stores::is_known(url) || curette_stores::problem(url).is_some()) {
                    let shown = curette_stores::shown(url);
                    out.push(format!("`{shown}` is neither https://, nor file://, nor a place in a store (s3://, gs://, az://)"));
                }
            }
        }
        if self.kind == ModelKind::Onnx && self.contract.is_none() {
            out.push("`contract` is missing: name the inputs and outputs of the graph".into());
        }
        if let Some(contract) = &self.contract {
            for (what, ports) in [("inputs", &contract.inputs), ("outputs", &contract.outputs)] {
                if ports.is_empty() {
                    out.push(format!("`contract.{what}` is empty"));
                }
                for (i, port) in ports.iter().enumerate() {
                    if ports[..i].iter().any(|p| p.name == port.name) {
                        out.push(format!("`contract.{what}` names `{}` twice", port.name));
                    }
                    if port.shape.contains(&Dim::Fixed(0)) {
                        out.push(format!("`{}` has an axis of length 0", port.name));
                    }
                }
            }
        }
        if self.tokenizer.is_some() != self.file(FileRole::Tokenizer).is_some() {
            out.push("a `[tokenizer]` table and a file with role = \"tokenizer\" go together".into());
        }
        if self.tokenizer.as_ref().is_some_and(|t| t.max_length < 3 || t.max_length > 1 << 20) {
            out.push("`tokenizer.max_length` is from 3 to 1048576".into());
        }
        if self.score.as_ref().and_then(|s| s.range).is_some_and(|[low, high]| low.is_nan() || high.is_nan() || low >= high) {
            out.push("`score.range` must rise".into());
        }
        out
    }
}

/// 64 lower-case hexadecimal digits.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
