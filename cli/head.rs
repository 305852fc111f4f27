//! The verb `head`: heads of others in, ours out, and what a head file says about itself.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curette_engine::exit::Exit;
use curette_heads::{Encoder, Head, laion, onnx};
use curette_operators::train_head::write;

use crate::{complain, print};

/// A file of more bytes than this is no head.
const MAX_BYTES: u64 = 256 << 20;

#[derive(Args)]
pub(crate) struct HeadArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Show what a head file says about itself.
    Show {
        /// The head (safetensors).
        head: PathBuf,
    },
    /// Turn the LAION aesthetic predictor into a head: its layers have no activation between them, so they are one.
    ImportLaion {
        /// The predictor's state dict as safetensors (layers.N.weight, layers.N.bias).
        file: PathBuf,
        /// The encoder whose embeddings it reads (OpenAI's CLIP ViT-L/14), as NAME or NAME@sha256:HEX.
        #[arg(long)]
        encoder: Encoder,
        /// Head to write (safetensors).
        #[arg(long)]
        out: PathBuf,
    },
    /// Turn an ONNX file of a few dense layers (Gemm or MatMul and Add, Relu or Tanh between, Sigmoid or Softmax at the end) into a head.
    ImportOnnx {
        /// The ONNX file.
        file: PathBuf,
        /// The encoder whose embeddings it reads, as NAME or NAME@sha256:HEX; needed where the file does not say.
        #[arg(long)]
        encoder: Option<Encoder>,
        /// Names of the classes, negative first, with commas between; needed where the file does not say.
        #[arg(long, value_delimiter = ',')]
        classes: Vec<String>,
        /// Bring embeddings to length 1 before they are scored, because the head was trained on such.
        #[arg(long)]
        l2_normalised: bool,
        /// Head to write (safetensors).
        #[arg(long)]
        out: PathBuf,
    },
    /// Write a head as ONNX, calibration included: embeddings in, scores out.
    ExportOnnx {
        /// The head (safetensors).
        head: PathBuf,
        /// ONNX file to write.
        #[arg(long)]
        out: PathBuf,
    },
}

pub(crate) fn head(args: &HeadArgs) -> Exit {
    let done = match &args.what {
        What::Show { head } => Head::load(head).map(|(head, hash)| describe(&head, &hash)).map_err(|e| e.to_string()),
        What::ImportLaion { file, encoder, out } => import(file, out, |bytes| laion::import(bytes, encoder.clone())),
        What::ImportOnnx { file, encoder, classes, l2_normalised, out } => {
            let wishes = onnx::import::Wishes {
                encoder: encoder.clone(),
                classes: (!classes.is_empty()).then(|| classes.clone()),
                l2_normalised: l2_normalised.then_some(true),
            };
            import(file, out, |bytes| onnx::import::import(bytes, &wishes))
        }
        What::ExportOnnx { head, out } => export(head, out),
    };
    match done {
        Ok(text) => print(&text),
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}

fn import(file: &Path, out: &Path, read: impl FnOnce(&[u8]) -> Result<Head, String>) -> Result<String, String> {
    let unreadable = |e: std::io::Error| format!("{} cannot be read: {e}", file.display());
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(format!("{} has {size} bytes, more than the {MAX_BYTES} of any head; is it an encoder?", file.display()));
    }
    let head = read(&std::fs::read(file).map_err(unreadable)?).map_err(|e| format!("{} {e}", file.display()))?;
    write(&head, out).map_err(|e| e.to_string())?;
    Ok(format!("{}head        {}", describe(&head, &blake3::hash(&head.to_bytes())), out.display()))
}

fn export(file: &Path, out: &Path) -> Result<String, String> {
    let (head, _) = Head::load(file).map_err(|e| e.to_string())?;
    let unfinished = out.with_extension("tmp");
    let written = std::fs::write(&unfinished, onnx::export::export(&head)).and_then(|()| std::fs::rename(&unfinished, out));
    written.map_err(|e| format!("{} cannot be written: {e}", out.display()))?;
    Ok(format!("onnx        {}", out.display()))
}

fn describe(head: &Head, hash: &blake3::Hash) -> String {
    let layers: Vec<String> = head.hidden.iter().map(|l| l.outputs().to_string()).collect();
    let mut lines = vec![
        ("kind", head.kind.name().to_owned()),
        ("encoder", format!("{} ({} dimensions)", head.encoder, head.dim())),
        ("normalised", head.l2_normalised.to_string()),
    ];
    if !layers.is_empty() {
        lines.push(("hidden", format!("{} ({})", layers.join(", "), head.activation.name())));
    }
    if !head.classes.is_empty() {
        lines.push(("classes", head.classes.join(", ")));
    }
    lines.push(("calibration", head.calibration.to_string()));
    if let Some(threshold) = head.threshold() {
        let rule = if head.threshold.is_some() { head.threshold_rule.as_str() } else { "default" };
        lines.push(("threshold", format!("{threshold} ({rule})")));
    }
    lines.push(("blake3", hash.to_hex().to_string()));
    let notes = head.notes.iter().map(|(k, v)| (k.as_str(), v.clone()));
    lines.extend(notes.filter(|(key, _)| *key != "report"));
    lines.iter().map(|(key, value)| format!("{key:<11} {value}\n")).collect()
}
