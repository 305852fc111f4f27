//! Head files that are right, and each way to be wrong.

use std::collections::HashMap;

use safetensors::tensor::TensorView;

use super::*;

fn head() -> Head {
    let classes = ["non_medical".into(), "medical, of course".into()];
    let encoder = format!("clip@sha256:{}", "0a".repeat(32)).parse().unwrap();
    Head {
        calibration: Calibration::Platt { slope: 1.25, intercept: -0.1 },
        threshold: Some(0.4),
        threshold_rule: "max-f1".into(),
        notes: BTreeMap::from([("report".into(), "{\"n\":3}".into())]),
        ..Head::linear(vec![1.0, -2.0, 0.5], 0.1, encoder, classes)
    }
}

#[test]
fn what_is_written_is_read_back_and_other_readers_understand_it() {
    let bytes = head().to_bytes();
    assert_eq!(Head::from_bytes(&bytes).unwrap(), head());
    assert_eq!(bytes, head().to_bytes());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("weight").unwrap().shape(), [1, 3]);
    assert_eq!((tensors.tensor("weight").unwrap().dtype(), tensors.tensor("bias").unwrap().dtype()), (Dtype::F32, Dtype::F64));
}

#[test]
fn all_kinds_survive() {
    let layer = |i: usize, o: usize| Layer { inputs: i, weight: vec![0.1; i * o], bias: vec![0.25; o] };
    let mlp = Head {
        kind: Kind::Mlp,
        hidden: vec![layer(3, 4), layer(4, 2)],
        output: layer(2, 3),
        activation: Activation::Tanh,
        standardise: Some(Standardise { mean: vec![1.0; 3], scale: vec![0.3; 3] }),
        classes: vec!["a".into(), "b".into(), "c".into()],
        calibration: Calibration::Temperature(1.5),
        l2_normalised: false,
        ..head()
    };
    let regression =
        Head { kind: Kind::Regression, classes: vec![], calibration: Calibration::None, threshold: Some(4.5), ..head() };
    for h in [mlp, regression] {
        assert_eq!(Head::from_bytes(&h.to_bytes()).unwrap(), h);
    }
}

/// A file made by the reference crate, with changes to its parts.
fn made(edit: impl FnOnce(&mut HashMap<String, String>), weight: (Dtype, Vec<usize>, Vec<u8>)) -> Result<Head, String> {
    let mut metadata: HashMap<String, String> = [
        ("format", FORMAT),
        ("kind", "linear"),
        ("encoder", "builtin/1"),
        ("dim", "2"),
        ("classes", r#"["no","yes"]"#),
        ("l2_normalised", "true"),
    ]
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
    assert_eq!(made(|_| (), good()).unwrap().threshold(), Some(0.5));
    let put =
        |key: &'static str, value: &'static str| move |m: &mut HashMap<String, String>| drop(m.insert(key.into(), value.into()));
    let said = [
        Head::from_bytes(b""),
        Head::from_bytes(b"not a head at all"),
        made(|m| drop(m.remove("encoder")), good()),
        made(put("encoder", ""), good()),
        made(put("encoder_sha256", "12"), good()),
        made(put("format", "curette-head/9"), good()),
        made(put("kind", "forest"), good()),
        made(put("kind", "regression"), good()),
        made(put("dim", "3"), good()),
        made(put("dim", "two"), good()),
        made(put("classes", "yes"), good()),
        made(put("classes", r#"["a","a"]"#), good()),
        made(put("l2_normalised", "maybe"), good()),
        made(put("calibration", "platt -1 0"), good()),
        made(put("calibration", "temperature 2"), good()),
        made(put("threshold", "1.5"), good()),
        made(|_| (), f32s(&[1.0, f32::NAN])),
        made(|_| (), (Dtype::F16, vec![1, 2], vec![0; 4])),
    ]
    .map(|r| r.unwrap_err());
    insta::assert_snapshot!(said.join("\n"));
}
