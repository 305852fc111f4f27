//! Text embeddings: tokenizer, batches by token budget, one vector per text.
//!
//! Pooling and normalising are inside the graph, so a model is one file and one hash. On a
//! processor texts run one by one: that is fastest, and a text's vector then depends on nothing but the text. On other providers, or where the manifest
//! sets `[run] batch`, texts are sorted by length within a window and batched; the last digits of a vector then depend on its neighbours. What can go wrong: a text longer than the model's limit is cut, silently for the caller but never beyond the limit.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use curette_tokenize::Tokenizer;

use crate::batches::plan_batches;
use crate::manifest::{Dim, Dtype, Manifest};
use crate::{ErrorKind, Model, ModelError, Provider, Result, Tensor};

/// Texts that are sorted together.
pub const WINDOW: usize = 256;
/// Most texts of one batch where something else than a processor computes.
pub const MAX_ROWS: usize = 32;
/// Most tokens of one batch, padding included.
pub const TOKEN_BUDGET: usize = 4096;

/// A text encoder.
pub struct TextEncoder {
    model: Arc<Model>,
    tokenizer: Tokenizer,
    inputs: Vec<Feed>,
    max_rows: usize,
    token_budget: usize,
    width: usize,
}

/// What an input of the graph is filled with.
#[derive(Clone, Copy)]
enum Feed {
    Ids,
    Mask,
    Zeros,
}

impl TextEncoder {
    /// On an open model, with its `tokenizer.json`.
    pub fn new(model: Arc<Model>, tokenizer: &Path) -> Result<Self> {
        let name = &model.identity().name;
        let wrong = |what: String| ModelError::new(ErrorKind::Contract, format!("model `{name}` is no text encoder: {what}"));
        let mut inputs = Vec::new();
        for port in &model.contract().inputs {
            if port.dtype != Dtype::I64 || port.shape.len() != 2 {
                return Err(wrong(format!("input `{}` is not i64 [batch, seq]", port.name)));
            }
            inputs.push(match port.name.as_str() {
                "input_ids" => Feed::Ids,
                "attention_mask" => Feed::Mask,
                "token_type_ids" => Feed::Zeros,
                other => return Err(wrong(format!("it has an input `{other}`"))),
            });
        }
        if !inputs.iter().any(|f| matches!(f, Feed::Ids)) {
            return Err(wrong("it has no input `input_ids`".into()));
        }
        let width = match model.contract().outputs.first() {
            Some(port) if port.dtype == Dtype::F32 => match port.shape.as_slice() {
                [_, Dim::Fixed(width)] => *width as usize,
                _ => return Err(wrong(format!("output `{}` is not [batch, WIDTH]: pooling belongs into the graph", port.name))),
            },
            _ => return Err(wrong("its first output is not f32".into())),
        };
        let tokenizer = Self::tokenizer(model.manifest(), tokenizer)?;
        let run = &model.manifest().run;
        let or = |given: usize, default| if given == 0 { default } else { given };
        let processor_only = model.run_settings().providers.iter().all(|p| *p == Provider::Cpu);
        let most = if processor_only { 1 } else { MAX_ROWS };
        let (max_rows, token_budget) = (or(run.batch, most), or(run.token_budget, TOKEN_BUDGET));
        let encoder = TextEncoder { tokenizer, inputs, max_rows, token_budget, width, model };
        encoder.fits()?;
        Ok(encoder)
    }

    /// A model's tokenizer: for `check`, which opens no graph.
    pub fn tokenizer(manifest: &Manifest, file: &Path) -> Result<Tokenizer> {
        let name = &manifest.name;
        let max_length = manifest.tokenizer.as_ref().map(|t| t.max_length).ok_or_else(|| {
            ModelError::new(ErrorKind::Tokenizer, format!("model `{name}` has no `[tokenizer]` table with `max_length`"))
                .help("write a manifest for it: the limit in tokenizer.json is often not the model's")
        })?;
        Tokenizer::open(file, max_length).map_err(|e| ModelError::new(ErrorKind::Tokenizer, format!("model `{name}`: {e}")))
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
    /// Length of each embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// One embedding per text, in order.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.embed_until(texts, None)
    }

    /// As [`TextEncoder::embed`], ending early when `cancelled` turns true.
    pub fn embed_until(&self, texts: &[&str], cancelled: Option<&AtomicBool>) -> Result<Vec<Vec<f32>>> {
        let tokens = self
            .tokenizer
            .encode(texts)
            .map_err(|e| ModelError::new(ErrorKind::BadInput, format!("model `{}`: {e}", self.model.identity().name)))?;
        let lengths: Vec<usize> = tokens.iter().map(|t| t.len().max(1)).collect();
        let mut out = vec![Vec::new(); texts.len()];
        for batch in plan_batches(&lengths, self.token_budget, self.max_rows, WINDOW) {
            let rows: Vec<&[u32]> = batch.iter().map(|&i| tokens[i].as_slice()).collect();
            let vectors = self.run(&rows, cancelled)?;
            for (&i, vector) in batch.iter().zip(vectors) {
                out[i] = vector;
            }
        }
        Ok(out)
    }

    fn run(&self, rows: &[&[u32]], cancelled: Option<&AtomicBool>) -> Result<Vec<Vec<f32>>> {
        let longest = rows.iter().map(|r| r.len()).max().unwrap_or_default().max(1);
        let shape = [rows.len(), longest];
        let inputs = self.inputs.iter().map(|feed| {
            let mut values = vec![0i64; shape[0] * longest];
            for (row, ids) in values.chunks_exact_mut(longest).zip(rows) {
                for (slot, &id) in row.iter_mut().zip(*ids) {
                    *slot = match feed {
                        Feed::Ids => i64::from(id),
                        Feed::Mask => 1,
                        Feed::Zeros => 0,
                    };
                }
            }
            Tensor::i64(&shape, values)
        });
        let outputs = self.model.run_until(&inputs.collect::<Result<Vec<_>>>()?, cancelled)?;
        let vectors = outputs.first().and_then(Tensor::rows_f32).unwrap_or_default();
        if vectors.len() != rows.len() || vectors.iter().any(|v| v.len() != self.width) {
            let message = format!("model `{}` gave no [{}, {}] embeddings", self.model.identity().name, rows.len(), self.width);
            return Err(ModelError::new(ErrorKind::Contract, message));
        }
        Ok(vectors)
    }

    /// The largest token id must be one that the model knows: a tokenizer of another model shows itself here, not after a day.
    fn fits(&self) -> Result<()> {
        let name = &self.model.identity().name;
        let vocabulary = self.tokenizer.vocabulary();
        let wrong = |why: String| {
            ModelError::new(ErrorKind::Tokenizer, format!("the tokenizer does not fit model `{name}`: {why}"))
                .help("graph and tokenizer.json must come from the same model")
        };
        let Some(last) = vocabulary.checked_sub(1) else { return Err(wrong("its vocabulary is empty".into())) };
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        match self.run(&[&[last]], None) {
            Ok(_) => Ok(()),
            Err(e) if e.kind == ErrorKind::Run => Err(wrong(format!("token {last} of its {vocabulary} is refused ({e})"))),
            Err(e) => Err(e),
        }
    }
}
