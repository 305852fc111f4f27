//! Out and in again, and files that are no heads. That ONNX Runtime scores the exported files alike is checked by `scripts/goldens/heads.py`.

use prost::Message;

use super::export::export;
use super::import::{Wishes, import};
use super::messages::{FLOAT, Graph, Model, Node, Tensor, ValueInfo};
use crate::encoder::Encoder;
use crate::head::{Activation, Calibration, Head, Kind, Layer, Standardise};

fn layer(inputs: usize, outputs: usize, seed: usize) -> Layer {
    let number = |i: usize| f64::from(((i * 7919 + seed * 104_729) % 2000) as f32 / 1000.0 - 1.0);
    Layer { inputs, weight: (0..inputs * outputs).map(number).collect(), bias: (0..outputs).map(|i| number(i + 77)).collect() }
}

fn linear() -> Head {
    let classes = ["no".into(), "yes".into()];
    let Layer { weight, bias, .. } = layer(5, 1, 1);
    Head {
        calibration: Calibration::Platt { slope: 3.0, intercept: -0.5 },
        threshold: Some(0.25),
        threshold_rule: "max-f1 on validation".into(),
        ..Head::linear(weight, bias[0], format!("e@sha256:{}", "1f".repeat(32)).parse().unwrap(), classes)
    }
}

pub(super) fn heads() -> Vec<Head> {
    let classes = ["a", "b", "c"].map(String::from).to_vec();
    let mlp = Head {
        kind: Kind::Mlp,
        hidden: vec![layer(5, 4, 2), layer(4, 3, 3)],
        activation: Activation::Relu,
        output: layer(3, 3, 4),
        standardise: Some(Standardise { mean: vec![0.25; 5], scale: vec![0.5, 1.0, 2.0, 4.0, 0.125] }),
        classes,
        calibration: Calibration::Temperature(2.0),
        threshold: None,
        threshold_rule: String::new(),
        ..linear()
    };
    let regression = Head {
        kind: Kind::Regression,
        classes: vec![],
        calibration: Calibration::None,
        threshold: None,
        threshold_rule: String::new(),
        ..linear()
    };
    let tanh = Head {
        hidden: vec![layer(5, 3, 9)],
        output: layer(3, 1, 5),
        activation: Activation::Tanh,
        kind: Kind::Mlp,
        l2_normalised: false,
        ..linear()
    };
    vec![linear(), mlp, regression, tanh]
}

#[test]
fn what_goes_out_comes_in_again() {
    for head in heads() {
        let read = import(&export(&head), &Wishes::default()).unwrap();
        assert_eq!(
            (read.kind, read.activation, &read.encoder, &read.classes, read.l2_normalised, read.threshold, &read.threshold_rule),
            (head.kind, head.activation, &head.encoder, &head.classes, head.l2_normalised, head.threshold, &head.threshold_rule)
        );
        for k in 0..20 {
            let vector: Vec<f32> = (0..5).map(|i| ((i * 31 + k * 17) % 23) as f32 / 11.0 - 1.0).collect();
            for (a, b) in read.answers(&vector).iter().zip(head.answers(&vector)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}");
            }
        }
        assert_eq!(read.answers(&[0.0; 5]).len(), head.answers(&[0.0; 5]).len());
    }
}

fn node(op: &str, input: &[&str], output: &str) -> Node {
    Node {
        op_type: op.into(),
        input: input.iter().map(|i| (*i).into()).collect(),
        output: vec![output.into()],
        ..Node::default()
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    Tensor { name: name.into(), dims: dims.into(), data_type: FLOAT, float_data: values.into(), ..Tensor::default() }
}

fn file(nodes: Vec<Node>, edit: impl FnOnce(&mut Graph)) -> Vec<u8> {
    let info = |name: &str| ValueInfo { name: name.into(), r#type: None };
    let mut graph = Graph {
        node: nodes,
        initializer: vec![tensor("w", &[2, 1], &[2.0, -1.0]), tensor("b", &[1], &[0.5]), tensor("w3", &[3, 1], &[1.0; 3])],
        input: vec![info("x"), info("w")],
        output: vec![info("y")],
        ..Graph::default()
    };
    edit(&mut graph);
    Model { graph: Some(graph), ..Model::default() }.encode_to_vec()
}

fn wishes() -> Wishes {
    let classes = Some(vec!["no".into(), "yes".into()]);
    Wishes { encoder: Some(Encoder::built_in("e")), classes, l2_normalised: None }
}

#[test]
fn matmul_and_add_are_a_layer() {
    let chain = vec![node("MatMul", &["x", "w"], "m"), node("Add", &["b", "m"], "z"), node("Sigmoid", &["z"], "y")];
    let head = import(&file(chain, |_| ()), &wishes()).unwrap();
    assert_eq!((head.logits(&[3.0, 1.0])[0], head.kind, head.l2_normalised), (5.5, Kind::Linear, false));
    let plain = vec![node("Gemm", &["x", "w", "b"], "z"), node("Identity", &["z"], "y")];
    assert_eq!(import(&file(plain, |_| ()), &wishes()).unwrap().kind, Kind::Regression);
}

#[test]
fn what_is_no_head_is_refused_by_name() {
    let gemm = || node("Gemm", &["x", "w", "b"], "z");
    let end = || node("Sigmoid", &["z"], "y");
    let said = [
        import(b"\x0a\xff not onnx", &wishes()),
        import(b"", &wishes()),
        import(&file(vec![gemm(), node("Erf", &["z"], "y")], |_| ()), &wishes()),
        import(&file(vec![gemm(), node("Relu", &["z"], "y")], |_| ()), &wishes()),
        import(&file(vec![gemm()], |_| ()), &wishes()),
        import(&file(vec![node("Gemm", &["x", "w3", "nowhere"], "z"), end()], |_| ()), &wishes()),
        import(&file(vec![gemm(), node("Gemm", &["z", "w3", "b"], "q"), node("Sigmoid", &["q"], "y")], |_| ()), &wishes()),
        import(&file(vec![gemm(), node("Sigmoid", &["z"], "s"), node("Tanh", &["s"], "y")], |_| ()), &wishes()),
        import(&file(vec![gemm(), node("Softmax", &["z"], "y")], |_| ()), &wishes()),
        import(&file(vec![node("Identity", &["x"], "x")], |_| ()), &wishes()),
        import(&file(vec![gemm(), node("Tanh", &["z"], "q"), end()], |_| ()), &wishes()),
        import(&file(vec![gemm(), end()], |g| g.input.push(ValueInfo { name: "second".into(), r#type: None })), &wishes()),
        import(&file(vec![gemm(), end()], |g| g.initializer[0].dims = vec![5, 1]), &wishes()),
        import(&file(vec![gemm(), end()], |g| g.initializer[0].data_type = 7), &wishes()),
        import(&file(vec![gemm(), end()], |g| g.initializer[0].float_data[0] = f32::NAN), &wishes()),
        import(&file(vec![gemm(), end()], |_| ()), &Wishes::default()),
        import(&file(vec![gemm(), end()], |_| ()), &Wishes { classes: None, ..wishes() }),
        import(&export(&linear()), &wishes()),
    ]
    .map(|r| r.map(|h| h.kind).unwrap_err());
    insta::assert_snapshot!(said.join("\n"));
}

fn goldens() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// The exported files are committed; ONNX Runtime's scores of them are in `heads.json`.
#[test]
fn onnx_runtime_scores_exported_heads_alike() {
    let names = ["linear", "mlp", "regression", "tanh"];
    for (name, head) in names.iter().zip(heads()) {
        let path = goldens().join(format!("exported-{name}.onnx"));
        if std::env::var_os("UPDATE_GOLDENS").is_some() {
            std::fs::write(&path, export(&head)).unwrap();
        }
        assert_eq!(
            std::fs::read(&path).unwrap(),
            export(&head),
            "{name}: set UPDATE_GOLDENS=1, then run scripts/goldens/heads.py"
        );
    }
    let Ok(text) = std::fs::read_to_string(goldens().join("heads.json")) else { panic!("run scripts/goldens/heads.py") };
    let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
    let reference = import(&std::fs::read(goldens().join("reference.onnx")).unwrap(), &wishes()).unwrap();
    assert_eq!((reference.kind, reference.activation), (Kind::Mlp, Activation::Tanh));
    let all = names.iter().zip(heads()).map(|(n, h)| (format!("exported-{n}"), h)).chain([("reference".into(), reference)]);
    for (name, head) in all {
        let scores = golden["onnx"][&name].as_array().unwrap();
        assert_eq!(scores.len(), 21);
        for (vector, expected) in golden["vectors"].as_array().unwrap().iter().zip(scores) {
            let vector: Vec<f32> = vector.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
            let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            let answers = head.answers(&vector);
            // One output stands for two classes.
            let answers = &answers[answers.len() - expected.len()..];
            assert!(answers.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {answers:?} {expected:?}");
        }
    }
}
