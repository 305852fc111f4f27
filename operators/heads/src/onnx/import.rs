//! An ONNX file as a head: a chain from the one input to the one output of Gemm, MatMul and Add, with Relu, Tanh or nothing between, and Sigmoid, Softmax or
//! nothing at the end; before it what [`super::export`] writes to bring embeddings to length 1 and to standardise them.
//!
//! Identity, Dropout, Flatten, Cast and Squeeze change nothing here and are passed over. What can go wrong: anything else in the chain; it is refused by
//! name, because a head that is read half would score nonsense.

use std::collections::{BTreeMap, HashMap};

use prost::Message;

use super::export::PREFIX;
use super::messages::{DOUBLE, FLOAT, Graph, Model, Node, Tensor};
use crate::encoder::Encoder;
use crate::head::{Activation, Calibration, Head, Kind, Layer, Standardise};

/// What the file may not say, or what shall hold instead.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// What made the embeddings.
    pub encoder: Option<Encoder>,
    /// Names of the classes, negative first.
    pub classes: Option<Vec<String>>,
    /// Whether embeddings are brought to length 1 first, where the graph does not do so itself.
    pub l2_normalised: Option<bool>,
}

/// Reads a head.
pub fn import(bytes: &[u8], wishes: &Wishes) -> Result<Head, String> {
    let model = Model::decode(bytes).map_err(|e| format!("is not an ONNX file ({e})"))?;
    let graph = model.graph.as_ref().ok_or("is not an ONNX file of a model: it has no graph")?;
    let mut chain = Chain::default();
    Walk::of(graph)?.follow(&mut chain)?;

    let note = |key: &str| model.metadata_props.iter().find(|e| e.key.strip_prefix(PREFIX) == Some(key)).map(|e| e.value.clone());
    let encoder = match (&wishes.encoder, note("encoder")) {
        (Some(wished), Some(said)) if wished.to_string() != said => {
            return Err(format!("reads embeddings of `{said}`, not of `{wished}`"));
        }
        (Some(wished), _) => wished.clone(),
        (None, Some(said)) => said.parse()?,
        (None, None) => return Err("does not say which encoder it reads; name it with --encoder".into()),
    };
    if !chain.open && !chain.layers.is_empty() {
        return Err("has an activation after its last layer".into());
    }
    let output = chain.layers.pop().ok_or("has no Gemm or MatMul, so there is nothing to score with")?;
    let kind = match (chain.ending, chain.layers.is_empty()) {
        (Ending::Nothing, _) => Kind::Regression,
        (_, true) => Kind::Linear,
        (_, false) => Kind::Mlp,
    };
    let wanted = match (chain.ending, output.outputs()) {
        (Ending::Nothing, 1) => 0,
        (Ending::Sigmoid, 1) => 2,
        (Ending::Softmax, n) if n > 1 => n,
        (ending, n) => {
            return Err(format!("ends in {ending:?} of {n} outputs; known are Sigmoid or nothing of 1, Softmax of several"));
        }
    };
    let said = note("classes").and_then(|c| serde_json::from_str::<Vec<String>>(&c).ok());
    let classes = wishes.classes.clone().filter(|_| wanted > 0).or(said).unwrap_or_default();
    if classes.len() != wanted {
        return Err(format!("has {wanted} classes, but {} are named; name them with --classes NEGATIVE,POSITIVE", classes.len()));
    }
    let threshold = match note("threshold") {
        None => None,
        Some(t) => Some(t.parse::<f64>().map_err(|_| format!("has `{PREFIX}threshold` = `{t}`, not a number"))?),
    };
    let head = Head {
        kind,
        activation: chain.activation.filter(|_| !chain.layers.is_empty()).unwrap_or(Activation::Identity),
        hidden: chain.layers,
        output,
        standardise: chain.standardise,
        encoder,
        l2_normalised: chain.normalises || wishes.l2_normalised.unwrap_or(false),
        classes,
        calibration: Calibration::None,
        threshold,
        threshold_rule: note("threshold_rule").unwrap_or_default(),
        notes: BTreeMap::from([
            ("source_blake3".into(), blake3::hash(bytes).to_hex().to_string()),
            ("source".into(), format!("ONNX by `{}`", model.producer_name.chars().take(80).collect::<String>())),
            ("curette_version".into(), env!("CARGO_PKG_VERSION").into()),
        ]),
    };
    // The one place that knows what a valid head is.
    Head::from_bytes(&head.to_bytes())
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Ending {
    #[default]
    Nothing,
    Sigmoid,
    Softmax,
}

#[derive(Default)]
struct Chain {
    normalises: bool,
    standardise: Option<Standardise>,
    layers: Vec<Layer>,
    /// The one activation after all layers so far.
    activation: Option<Activation>,
    /// Nothing came after the last layer yet.
    open: bool,
    ending: Ending,
}

struct Walk<'a> {
    graph: &'a Graph,
    constants: HashMap<&'a str, &'a Tensor>,
    at: &'a str,
    output: &'a str,
}

impl<'a> Walk<'a> {
    fn of(graph: &'a Graph) -> Result<Self, String> {
        let mut constants: HashMap<&str, &Tensor> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
            if let (Some(name), Some(t)) = (node.output.first(), node.attribute.iter().find_map(|a| a.t.as_ref())) {
                constants.insert(name, t);
            }
        }
        let inputs: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).filter(|n| !constants.contains_key(n)).collect();
        let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        match (inputs.as_slice(), outputs.as_slice()) {
            (&[at], &[output]) => Ok(Walk { graph, constants, at, output }),
            (i, o) => Err(format!("has {} inputs and {} outputs, a head has one of each", i.len(), o.len())),
        }
    }

    /// Nodes that read the value, constants aside. A value is read by one node, or by a ReduceL2 and the Div after it.
    fn follow(mut self, chain: &mut Chain) -> Result<(), String> {
        // Each step goes to a later value; more steps than nodes would be a ring.
        for _ in 0..=self.graph.node.len() {
            if self.at == self.output {
                return Ok(());
            }
            let readers: Vec<&Node> = self.graph.node.iter().filter(|n| n.input.iter().any(|i| i == self.at)).collect();
            let node = match readers.as_slice() {
                [one] => *one,
                [_, _] if chain.layers.is_empty() && chain.standardise.is_none() => {
                    self.at = self.normalisation(&readers)?;
                    chain.normalises = true;
                    continue;
                }
                [] => return Err(format!("ends at `{}`, before its output `{}`", self.at, self.output)),
                more => return Err(format!("has {} nodes that read `{}`; a head is a chain", more.len(), self.at)),
            };
            if chain.ending != Ending::Nothing && !passes(&node.op_type) {
                return Err(format!("goes on with {} after {:?}", node.op_type, chain.ending));
            }
            self.step(node, chain)?;
            self.at = node.output.first().ok_or_else(|| format!("has a {} without output", node.op_type))?;
        }
        Err("has a ring in its graph".into())
    }

    /// ReduceL2 of the value, perhaps Max or Add of a tiny constant, then Div of the value by it.
    fn normalisation(&self, readers: &[&'a Node]) -> Result<&'a str, String> {
        let find = |op: &str| readers.iter().find(|n| n.op_type == op);
        let odd = || format!("has two nodes that read `{}` and are no division by the length", self.at);
        let (reduce, div) = find("ReduceL2").zip(find("Div")).ok_or_else(odd)?;
        let axes = match reduce.input.get(1).filter(|name| !name.is_empty()) {
            Some(name) => self.constant(name)?.1,
            None => reduce
                .attribute
                .iter()
                .find(|a| a.name == "axes")
                .map(|a| a.ints.iter().map(|i| *i as f64).collect())
                .unwrap_or_default(),
        };
        // Over the dimensions of each embedding, not over the batch.
        if !matches!(axes.as_slice(), [1.0] | [-1.0]) {
            return Err(odd());
        }
        let mut length = reduce.output.first().ok_or_else(odd)?;
        let guard =
            self.graph.node.iter().find(|n| ["Max", "Add", "Clip"].contains(&n.op_type.as_str()) && n.input.contains(length));
        if let Some(guard) = guard {
            for other in guard.input.iter().filter(|i| *i != length && !i.is_empty()) {
                let tiny = self.constants.get(other.as_str()).and_then(|t| numbers(t).ok());
                if !tiny.is_some_and(|t| t.iter().all(|v| v.abs() <= 1e-6)) {
                    return Err(odd());
                }
            }
            length = guard.output.first().ok_or_else(odd)?;
        }
        let keeps = reduce.attribute.iter().find(|a| a.name == "keepdims").is_none_or(|a| a.i == 1);
        match div.input.as_slice() {
            [x, by] if x == self.at && by == length && keeps => div.output.first().map(String::as_str).ok_or_else(odd),
            _ => Err(odd()),
        }
    }

    fn step(&self, node: &Node, chain: &mut Chain) -> Result<(), String> {
        let op = node.op_type.as_str();
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            return Err(format!("has the operator {}.{op}, which is not a standard one", node.domain));
        }
        let other = || {
            let name = node.input.iter().find(|i| *i != self.at).map(String::as_str).unwrap_or_default();
            self.constant(name).map_err(|e| format!("{op}: {e}"))
        };
        match op {
            _ if passes(op) => {}
            "Gemm" => chain.push(self.gemm(node)?)?,
            "MatMul" => {
                if node.input.first().map(String::as_str) != Some(self.at) {
                    return Err("has a MatMul with the embedding on the right".into());
                }
                let (shape, values) = other()?;
                let &[inputs, outputs] = shape.as_slice() else { return Err(format!("has a MatMul with shape {shape:?}")) };
                chain.push(Layer { inputs, weight: transposed(&values, inputs, outputs), bias: vec![0.0; outputs] })?;
            }
            "Add" if !chain.layers.is_empty() && chain.open => {
                let (_, values) = other()?;
                let Some(layer) = chain.layers.last_mut() else { return Ok(()) };
                if values.len() != layer.outputs() {
                    return Err(format!("adds {} numbers to {} outputs", values.len(), layer.outputs()));
                }
                layer.bias.iter_mut().zip(values).for_each(|(b, v)| *b += v);
            }
            "Sub" | "Div" if node.input.first().map(String::as_str) != Some(self.at) => {
                return Err(format!("has a {op} with the embedding on the right"));
            }
            "Sub" if chain.layers.is_empty() && chain.standardise.is_none() => {
                let (_, mean) = other()?;
                chain.standardise = Some(Standardise { scale: vec![1.0; mean.len()], mean });
            }
            "Div" if chain.layers.is_empty() => {
                let (_, by) = other()?;
                let before = chain.standardise.take();
                let (mean, scale) = before.map_or_else(|| (vec![0.0; by.len()], vec![1.0; by.len()]), |s| (s.mean, s.scale));
                if scale.len() != by.len() {
                    return Err(format!("divides {} dimensions by {}", scale.len(), by.len()));
                }
                let scale = scale.iter().zip(&by).map(|(s, b)| s * b).collect();
                chain.standardise = Some(Standardise { mean, scale });
            }
            "Relu" => chain.activate(Activation::Relu)?,
            "Tanh" => chain.activate(Activation::Tanh)?,
            "Sigmoid" => chain.ending = Ending::Sigmoid,
            "Softmax" => chain.ending = Ending::Softmax,
            _ => return Err(format!("has the operator {op} in its chain, which heads do not have")),
        }
        Ok(())
    }

    fn constant(&self, name: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
        let tensor = self.constants.get(name).ok_or_else(|| format!("`{name}` is not a constant"))?;
        let shape: Vec<usize> = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap_or_default()).collect();
        let values = numbers(tensor)?;
        let expected = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        if expected != Some(values.len()) {
            return Err(format!("`{name}` has {} numbers for a shape of {shape:?}", values.len()));
        }
        Ok((shape, values))
    }

    fn gemm(&self, node: &Node) -> Result<Layer, String> {
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let factor = |name: &str| attribute(name).map_or(1.0, |a| f64::from(a.f));
        if node.input.first().map(String::as_str) != Some(self.at) || attribute("transA").is_some_and(|a| a.i != 0) {
            return Err("has a Gemm with the embedding turned or on the right".into());
        }
        let (shape, values) = self.constant(node.input.get(1).map(String::as_str).unwrap_or_default())?;
        let &[rows, columns] = shape.as_slice() else { return Err(format!("has a Gemm with shape {shape:?}")) };
        let (inputs, outputs, mut weight) = match attribute("transB").is_some_and(|a| a.i != 0) {
            true => (columns, rows, values),
            false => (rows, columns, transposed(&values, rows, columns)),
        };
        weight.iter_mut().for_each(|w| *w *= factor("alpha"));
        let mut bias = vec![0.0; outputs];
        if let Some(name) = node.input.get(2).filter(|n| !n.is_empty()) {
            let (_, values) = self.constant(name)?;
            if values.len() != outputs && values.len() != 1 {
                return Err(format!("has a Gemm of {outputs} outputs with {} biases", values.len()));
            }
            bias.iter_mut().enumerate().for_each(|(i, b)| *b = factor("beta") * values[i % values.len()]);
        }
        Ok(Layer { inputs, weight, bias })
    }
}

impl Chain {
    fn push(&mut self, layer: Layer) -> Result<(), String> {
        if let Some(before) = self.layers.last() {
            if before.outputs() != layer.inputs {
                return Err(format!("has a layer of {} inputs after one of {} outputs", layer.inputs, before.outputs()));
            }
            if self.open {
                self.activate(Activation::Identity)?;
            }
        }
        self.layers.push(layer);
        self.open = true;
        Ok(())
    }

    fn activate(&mut self, activation: Activation) -> Result<(), String> {
        if !self.open {
            return Err(format!("has {activation:?} where no layer came before"));
        }
        if self.activation.is_some_and(|a| a != activation) {
            return Err("has layers with different activations between them".into());
        }
        self.activation = Some(activation);
        self.open = false;
        Ok(())
    }
}

/// Operators that change nothing for a vector per row.
fn passes(op: &str) -> bool {
    ["Identity", "Dropout", "Flatten", "Cast", "Squeeze"].contains(&op)
}

fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    if !tensor.external_data.is_empty() {
        return Err(format!("`{}` is stored in another file", tensor.name));
    }
    let raw = &tensor.raw_data;
    match tensor.data_type {
        FLOAT if !raw.is_empty() => Ok(raw.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()),
        FLOAT => Ok(tensor.float_data.iter().map(|v| f64::from(*v)).collect()),
        DOUBLE if !raw.is_empty() => Ok(raw.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        DOUBLE => Ok(tensor.double_data.clone()),
        other => Err(format!("`{}` has the ONNX type {other}; known are 32 and 64 bit numbers", tensor.name)),
    }
}
