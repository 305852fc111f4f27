//! What an adapter must pass before it is published.
//!
//! Why: a run of thousands of steps with finite losses has been seen to leave every B matrix zero, and an adapter without its alpha loads with
//! another scale. Training loss is no gate, since it mostly shows which noise levels were drawn. All gates are looked at, so that one look tells all.

use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk::{self, Result};
use crate::rules::each_number;

/// The adapter's file in a checkpoint.
pub const ADAPTER_FILE: &str = "pytorch_lora_weights.safetensors";
/// Metadata key of the adapter's settings.
pub const METADATA_KEY: &str = "lora_adapter_metadata";
/// So many names are listed in a message.
const MAX_NAMED: usize = 5;
/// Alpha may differ so much from the job's.
const ALPHA_TOLERANCE: f64 = 1e-9;

/// What the gates compare with.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// Tensors, from the trainer's `plan`.
    pub tensors: Option<u64>,
    /// Loss on the fixed grid with the adapter and without it, from the last `eval`.
    pub eval: Option<(f64, f64)>,
    /// How much it changes the output in a fresh process, from `verify`.
    pub max_change: Option<f64>,
}

/// Why the adapter is refused, a sentence for each gate; nothing if it passes.
pub fn refusals(folder: &Path, rank: u32, alpha: f64, expected: &Expected) -> Result<Vec<String>> {
    let bytes = disk::read(&folder.join(ADAPTER_FILE))?;
    let mut out = of_file(&bytes, rank, alpha, expected.tensors);
    match expected.eval {
        None => out.push("the trainer reported no `eval`: the loss on the fixed grid is not known".into()),
        Some((loss, base)) if loss.is_nan() || loss >= base => {
            out.push(format!("the loss on the fixed grid is {loss} with the adapter and {base} without: it did not learn"));
        }
        Some(_) => {}
    }
    match expected.max_change {
        None => out.push("the trainer's `verify` did not say how much the adapter changes the output".into()),
        Some(change) if change.is_finite() && change > 0.0 => {}
        Some(change) => out.push(format!("loaded in a fresh process the adapter changes the output by {change}")),
    }
    Ok(out)
}

fn of_file(bytes: &[u8], rank: u32, alpha: f64, planned: Option<u64>) -> Vec<String> {
    let (tensors, metadata) = match (SafeTensors::deserialize(bytes), SafeTensors::read_metadata(bytes)) {
        (Ok(tensors), Ok((_, metadata))) => (tensors, metadata),
        (Err(e), _) | (_, Err(e)) => return vec![format!("{ADAPTER_FILE} cannot be read: {e}")],
    };
    let mut out = Vec::new();
    match planned {
        None => out.push("the trainer reported no `plan`: the number of tensors is not known".into()),
        Some(planned) if planned != tensors.len() as u64 => {
            out.push(format!("{} tensors, but {planned} were planned", tensors.len()));
        }
        Some(_) => {}
    }
    let (mut odd, mut infinite, mut zero, mut b_matrices) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut named: Vec<(String, _)> = tensors.tensors();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, tensor) in &named {
        let (mut finite, mut all_zero) = (true, true);
        let known = each_number(tensor.dtype(), tensor.data(), |value| {
            finite &= value.is_finite();
            all_zero &= value == 0.0;
        });
        if !known {
            odd.push(format!("{name} ({:?})", tensor.dtype()));
            continue;
        }
        if !finite {
            infinite.push(name.clone());
        }
        if name.contains("lora_B") {
            b_matrices += 1;
            if all_zero {
                zero.push(name.clone());
            }
        }
    }
    let mut complain = |names: &[String], what: &str| {
        if !names.is_empty() {
            out.push(format!("{} tensors {what}: {}", names.len(), list(names)));
        }
    };
    complain(&odd, "are of a type that is no number for weights");
    complain(&infinite, "hold NaN or infinity");
    complain(&zero, "are B matrices that are zero all over, as before training");
    if b_matrices == 0 {
        out.push("no tensor is called lora_B".into());
    }
    let text = metadata.metadata().as_ref().and_then(|m| m.get(METADATA_KEY));
    let settings: Value = text.and_then(|t| serde_json::from_str(t).ok()).unwrap_or(Value::Null);
    let number = |key: &str| settings.get(format!("transformer.{key}")).or_else(|| settings.get(key)).and_then(Value::as_f64);
    match (number("r"), number("lora_alpha")) {
        (Some(r), Some(a)) if r == f64::from(rank) && (a - alpha).abs() <= ALPHA_TOLERANCE => {}
        (Some(r), Some(a)) => out.push(format!("its metadata say rank {r} and alpha {a}, the job says {rank} and {alpha}")),
        _ => out.push(format!("its metadata ({METADATA_KEY}) lack `r` or `lora_alpha`: it would load with another scale")),
    }
    out
}

fn list(names: &[String]) -> String {
    let more = if names.len() > MAX_NAMED { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(MAX_NAMED)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::Dtype;
    use safetensors::tensor::TensorView;
    use std::collections::HashMap;

    fn adapter(b: &[f32], metadata: Option<&str>) -> Vec<u8> {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let (a, b) = (bytes(&[0.5, -0.5]), bytes(b));
        let view = |data| TensorView::new(Dtype::F32, vec![2], data).unwrap();
        let tensors = [("t.to_q.lora_A.weight", view(&a)), ("t.to_q.lora_B.weight", view(&b))];
        let metadata = metadata.map(|m| HashMap::from([(METADATA_KEY.to_owned(), m.to_owned())]));
        safetensors::serialize(tensors, metadata).unwrap()
    }
    const GOOD: Option<&str> = Some(r#"{"transformer.r": 8, "transformer.lora_alpha": 16}"#);

    #[test]
    fn a_good_one_passes_and_each_fault_has_its_sentence() {
        let refused = |b: &[f32], metadata, planned| of_file(&adapter(b, metadata), 8, 16.0, planned);
        assert_eq!(refused(&[0.0, 0.1], GOOD, Some(2)), Vec::<String>::new());
        let all = [
            refused(&[0.0, 0.0], GOOD, Some(2)),
            refused(&[f32::NAN, 1.0], GOOD, Some(2)),
            refused(&[0.0, 0.1], GOOD, Some(3)),
            refused(&[0.0, 0.1], GOOD, None),
            refused(&[0.0, 0.1], None, Some(2)),
            refused(&[0.0, 0.1], Some(r#"{"r": 8, "lora_alpha": 8}"#), Some(2)),
            of_file(b"{}", 8, 16.0, Some(2)),
        ];
        insta::assert_snapshot!(all.map(|r| r.join(" | ")).join("\n"));
    }

    #[test]
    fn it_must_have_learned_and_change_something() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(ADAPTER_FILE), adapter(&[0.0, 0.1], GOOD)).unwrap();
        let of =
            |eval, max_change| refusals(folder.path(), 8, 16.0, &Expected { tensors: Some(2), eval, max_change }).unwrap().len();
        assert_eq!(of(Some((0.9, 1.0)), Some(0.1)), 0);
        assert_eq!(of(Some((1.0, 1.0)), Some(0.1)), 1);
        assert_eq!(of(Some((f64::NAN, 1.0)), Some(0.0)), 2);
        assert_eq!(of(None, None), 2);
        assert!(refusals(&folder.path().join("none"), 8, 16.0, &Expected::default()).is_err());
    }
}
