//! A head as an ONNX file: embeddings `[batch, dim]` in, `score` `[batch, outputs]` out, all in 32 bits.
//!
//! Nodes: ReduceL2, Max and Div bring embeddings to length 1 (Max keeps a zero vector from a division by zero), Sub and Div standardise, Gemm with Relu or Tanh for
//! each hidden layer, Gemm for the last, then Sigmoid, Softmax or nothing. Calibration is folded into the last Gemm. What the graph cannot say is in
//! `metadata_props`, with the head file's keys after `curette.`.

use prost::Message;

use super::messages::{
    Attribute, Dimension, DimensionValue, Entry, FLOAT, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type,
    ValueInfo,
};
use crate::head::{Activation, Calibration, Head, Kind, Layer};

/// Before the keys in `metadata_props`.
pub(super) const PREFIX: &str = "curette.";
/// ReduceL2 still has its axes as an attribute in this version, and every runtime since 2022 knows it.
const OPSET: i64 = 17;
/// What belongs to it.
const IR_VERSION: i64 = 8;
/// The smallest length that embeddings are divided by.
const SMALLEST_LENGTH: f32 = 1e-30;

/// The bytes of the ONNX file; the same head gives the same bytes.
pub fn export(head: &Head) -> Vec<u8> {
    let mut chain = Chain { at: "embedding".into(), node: Vec::new(), initializer: Vec::new() };
    if head.l2_normalised {
        let axes = Attribute { name: "axes".into(), ints: vec![-1], r#type: 7, ..Attribute::default() };
        let keep = Attribute { name: "keepdims".into(), i: 1, r#type: 2, ..Attribute::default() };
        let length = chain.node("ReduceL2", vec![chain.at.clone()], vec![axes, keep]);
        let smallest = chain.constant("smallest_length", vec![1], &[f64::from(SMALLEST_LENGTH)]);
        let length = chain.node("Max", vec![length, smallest], vec![]);
        chain.at = chain.node("Div", vec![chain.at.clone(), length], vec![]);
    }
    if let Some(s) = &head.standardise {
        let (mean, scale) =
            (chain.constant("mean", vec![s.mean.len()], &s.mean), chain.constant("scale", vec![s.scale.len()], &s.scale));
        chain.at = chain.node("Sub", vec![chain.at.clone(), mean], vec![]);
        chain.at = chain.node("Div", vec![chain.at.clone(), scale], vec![]);
    }
    for (i, layer) in head.hidden.iter().enumerate() {
        chain.gemm(&format!("hidden.{i}."), layer);
        let op = match head.activation {
            Activation::Relu => "Relu",
            Activation::Tanh => "Tanh",
            Activation::Identity => continue,
        };
        chain.at = chain.node(op, vec![chain.at.clone()], vec![]);
    }
    chain.gemm("", &calibrated(head));
    match (head.kind, head.output.outputs()) {
        (Kind::Regression, _) => {}
        (_, 1) => chain.at = chain.node("Sigmoid", vec![chain.at.clone()], vec![]),
        (_, _) => {
            let axis = Attribute { name: "axis".into(), i: -1, r#type: 2, ..Attribute::default() };
            chain.at = chain.node("Softmax", vec![chain.at.clone()], vec![axis]);
        }
    }
    if let Some(last) = chain.node.last_mut() {
        last.output = vec!["score".into()];
    }
    let graph = Graph {
        node: chain.node,
        name: "head".into(),
        initializer: chain.initializer,
        input: vec![value("embedding", head.dim())],
        output: vec![value("score", head.output.outputs())],
    };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "curette".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata(head),
    };
    model.encode_to_vec()
}

/// The last layer with the calibration in it.
fn calibrated(head: &Head) -> Layer {
    let (slope, intercept) = match head.calibration {
        Calibration::None => (1.0, 0.0),
        Calibration::Platt { slope, intercept } => (slope, intercept),
        Calibration::Temperature(t) => (1.0 / t, 0.0),
    };
    Layer {
        inputs: head.output.inputs,
        weight: head.output.weight.iter().map(|w| w * slope).collect(),
        bias: head.output.bias.iter().map(|b| b * slope + intercept).collect(),
    }
}

fn metadata(head: &Head) -> Vec<Entry> {
    let mut entries = vec![
        ("classes", serde_json::Value::from(head.classes.clone()).to_string()),
        ("encoder", head.encoder.to_string()),
        ("kind", head.kind.name().to_owned()),
    ];
    if let Some(threshold) = head.threshold {
        entries.push(("threshold", threshold.to_string()));
        entries.push(("threshold_rule", head.threshold_rule.clone()));
    }
    entries.into_iter().map(|(key, value)| Entry { key: format!("{PREFIX}{key}"), value }).collect()
}

fn value(name: &str, width: usize) -> ValueInfo {
    let dim = [DimensionValue::Name("batch".into()), DimensionValue::Number(width as i64)];
    let shape = Shape { dim: dim.map(|value| Dimension { value: Some(value) }).into() };
    let tensor_type = TensorType { elem_type: FLOAT, shape: Some(shape) };
    ValueInfo { name: name.into(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
}

struct Chain {
    /// The value that the next node reads.
    at: String,
    node: Vec<Node>,
    initializer: Vec<Tensor>,
}

impl Chain {
    fn node(&mut self, op: &str, input: Vec<String>, attribute: Vec<Attribute>) -> String {
        let name = format!("{}_{}", op.to_ascii_lowercase(), self.node.len());
        self.node.push(Node {
            input,
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.into(),
            attribute,
            domain: String::new(),
        });
        name
    }

    fn constant(&mut self, name: &str, dims: Vec<usize>, values: &[f64]) -> String {
        self.initializer.push(Tensor {
            dims: dims.into_iter().map(|d| d as i64).collect(),
            data_type: FLOAT,
            name: name.into(),
            raw_data: values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
            ..Tensor::default()
        });
        name.into()
    }

    fn gemm(&mut self, prefix: &str, layer: &Layer) {
        let weight = self.constant(&format!("{prefix}weight"), vec![layer.outputs(), layer.inputs], &layer.weight);
        let bias = self.constant(&format!("{prefix}bias"), vec![layer.outputs()], &layer.bias);
        let transposed = Attribute { name: "transB".into(), i: 1, r#type: 2, ..Attribute::default() };
        self.at = self.node("Gemm", vec![self.at.clone(), weight, bias], vec![transposed]);
    }
}
