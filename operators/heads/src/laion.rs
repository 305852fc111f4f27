//! The LAION aesthetic predictor as a regression head.
//!
//! Its network is Linear 768-1024-128-64-16-1 with dropout between and no activation (christophschuhmann/improved-aesthetic-predictor: every ReLU is commented
//! out), and dropout does nothing once trained. Layers without an activation between them are one affine map, so the product of the matrices is the
//! whole predictor: one weight per dimension and a bias. It is multiplied in 64 bits and stored so.
//!
//! Input: the predictor's `state_dict` as safetensors, tensors `layers.N.weight` and `layers.N.bias` with N = 0, 2, 4, 6, 7: dropout takes the numbers between.
//! The variant that was trained with ReLUs has other numbers (0, 3, 6, 9, 11) and the same widths, and is refused. It
//! reads embeddings of OpenAI's CLIP ViT-L/14 at length 1; the file does not say so, so the caller names the encoder. What can go wrong: a
//! network that was trained with activations would be collapsed wrongly, and nothing in the file can tell; hence only this one layout of names.

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use crate::encoder::Encoder;
use crate::format::numbers;
use crate::head::{Activation, Calibration, Head, Kind, Layer};

/// Numbers of the layers with weights.
const LAYERS: [usize; 5] = [0, 2, 4, 6, 7];

/// Reads the layers and collapses them.
pub fn import(bytes: &[u8], encoder: Encoder) -> Result<Head, String> {
    let layers = layers(bytes)?;
    let count = layers.len();
    let output = collapse(&layers);
    let notes = BTreeMap::from([
        ("source_blake3".to_owned(), blake3::hash(bytes).to_hex().to_string()),
        ("source".to_owned(), format!("LAION aesthetic predictor, {count} layers without activation collapsed into one")),
        ("curette_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    Ok(Head {
        kind: Kind::Regression,
        hidden: Vec::new(),
        activation: Activation::Identity,
        output,
        standardise: None,
        encoder,
        l2_normalised: true,
        classes: Vec::new(),
        calibration: Calibration::None,
        threshold: None,
        threshold_rule: String::new(),
        notes,
    })
}

/// The layers in order.
fn layers(bytes: &[u8]) -> Result<Vec<Layer>, String> {
    let hint = "expected the predictor's state dict as safetensors, with tensors layers.N.weight and layers.N.bias";
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| format!("is not a safetensors file ({e}); {hint}"))?;
    let mut numbered = BTreeMap::new();
    for name in tensors.names() {
        let number = name.strip_prefix("layers.").and_then(|n| n.strip_suffix(".weight").or(n.strip_suffix(".bias")));
        let number: usize = number.and_then(|n| n.parse().ok()).ok_or_else(|| format!("has a tensor `{name}`; {hint}"))?;
        numbered.insert(number, ());
    }
    if !numbered.is_empty() && !numbered.keys().copied().eq(LAYERS) {
        let found: Vec<_> = numbered.keys().map(usize::to_string).collect();
        let known = "0, 2, 4, 6, 7 are the predictor without activations";
        return Err(format!("has layers {}; {known}; one with activations is no linear head", found.join(", ")));
    }
    let mut out: Vec<Layer> = Vec::new();
    for number in numbered.into_keys() {
        let get = |what: &str| {
            let name = format!("layers.{number}.{what}");
            let tensor = tensors.tensor(&name).map_err(|_| format!("has no tensor `{name}`; {hint}"))?;
            numbers(&tensor, &name).map(|v| (tensor.shape().to_vec(), v))
        };
        let ((shape, weight), (_, bias)) = (get("weight")?, get("bias")?);
        let &[outputs, inputs] = shape.as_slice() else {
            return Err(format!("has `layers.{number}.weight` of shape {shape:?}, expected a matrix"));
        };
        if inputs == 0 || bias.len() != outputs || outputs == 0 {
            return Err(format!("has {} biases for {outputs} outputs of {inputs} inputs in layer {number}", bias.len()));
        }
        if let Some(before) = out.last()
            && before.outputs() != inputs
        {
            return Err(format!("has layer {number} with {inputs} inputs after one with {} outputs", before.outputs()));
        }
        out.push(Layer { inputs, weight, bias });
    }
    match out.last().map(Layer::outputs) {
        None => Err(format!("has no layers; {hint}")),
        Some(1) => Ok(out),
        Some(n) => Err(format!("has {n} outputs, the predictor has one")),
    }
}

/// W = W_n ... W_1 and b = W_n (... (W_2 b_1 + b_2) ...) + b_n, from the last layer back: the last has one row, so it costs one matrix-vector product a layer.
fn collapse(layers: &[Layer]) -> Layer {
    let mut rows: Vec<f64> = vec![1.0];
    let mut bias = 0.0;
    for layer in layers.iter().rev() {
        bias += rows.iter().zip(&layer.bias).map(|(r, b)| r * b).sum::<f64>();
        let mut next = vec![0.0; layer.inputs];
        for (r, weights) in rows.iter().zip(layer.weight.chunks_exact(layer.inputs)) {
            next.iter_mut().zip(weights).for_each(|(n, w)| *n += r * w);
        }
        rows = next;
    }
    Layer { inputs: rows.len(), weight: rows, bias: vec![bias] }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    /// Uniform numbers from -1 to 1 by a linear congruential generator.
    fn random(n: usize, state: &mut u64) -> Vec<f32> {
        (0..n)
            .map(|_| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Weights and biases of a layer.
    type Made = (Vec<f32>, Vec<f32>);

    /// The numbers that the repository's Sequential gives to its Linear layers.
    fn file(sizes: &[usize], state: &mut u64) -> (Vec<u8>, Vec<Made>) {
        numbered(LAYERS, sizes, state)
    }

    fn numbered(numbers: [usize; 5], sizes: &[usize], state: &mut u64) -> (Vec<u8>, Vec<Made>) {
        let made: Vec<Made> = sizes.windows(2).map(|w| (random(w[0] * w[1], state), random(w[1], state))).collect();
        let bytes = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = (made.iter().zip(sizes.windows(2)).zip(numbers))
            .flat_map(|((m, w), n)| {
                [
                    (format!("layers.{n}.weight"), vec![w[1], w[0]], bytes(&m.0)),
                    (format!("layers.{n}.bias"), vec![w[1]], bytes(&m.1)),
                ]
            })
            .collect();
        let views = data.iter().map(|(n, s, d)| (n.clone(), TensorView::new(Dtype::F32, s.clone(), d).unwrap()));
        (safetensors::serialize(views, None).unwrap(), made)
    }

    #[test]
    fn the_collapsed_head_says_what_the_layers_say() {
        let (sizes, mut state) = ([768, 1024, 128, 64, 16, 1], 7);
        let (bytes, made) = file(&sizes, &mut state);
        let head = import(&bytes, Encoder::built_in("clip-vit-l-14")).unwrap();
        let head = Head::from_bytes(&head.to_bytes()).unwrap();
        assert_eq!((head.kind, head.dim()), (Kind::Regression, 768));
        let mut largest = 0.0f64;
        for _ in 0..20 {
            let vector = random(768, &mut state);
            let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let mut x: Vec<f64> = vector.iter().map(|v| f64::from(*v) / length).collect();
            let mut size = 0.0;
            for ((w, b), s) in made.iter().zip(sizes.windows(2)) {
                x = (0..s[1])
                    .map(|o| (0..s[0]).map(|i| f64::from(w[o * s[0] + i]) * x[i]).sum::<f64>() + f64::from(b[o]))
                    .collect();
                size = x.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(size);
            }
            largest = largest.max((head.logits(&vector)[0] - x[0]).abs() / size);
        }
        assert!(largest < 1e-13, "relative to the largest number on the way: {largest:e}");
    }

    #[test]
    fn other_files_are_refused() {
        let said = [
            import(b"PK", Encoder::built_in("x")),
            import(&file(&[3, 2, 2, 2, 2, 2], &mut 1).0, Encoder::built_in("x")),
            // The variant that was trained with activations.
            import(&numbered([0, 3, 6, 9, 11], &[3, 2, 2, 2, 2, 1], &mut 1).0, Encoder::built_in("x")),
            import(&safetensors::serialize(Vec::<(String, TensorView)>::new(), None).unwrap(), Encoder::built_in("x")),
            import(
                &safetensors::serialize([("weight", TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap())], None).unwrap(),
                Encoder::built_in("x"),
            ),
            import(
                &safetensors::serialize([("layers.0.weight", TensorView::new(Dtype::F32, vec![1, 1], &[0; 4]).unwrap())], None)
                    .unwrap(),
                Encoder::built_in("x"),
            ),
        ]
        .map(|r| r.unwrap_err());
        insta::assert_snapshot!(said.join("\n"));
    }
}
