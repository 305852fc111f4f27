//! What a head is: one to a few dense layers on an embedding, and what its number means.
//!
//! A classifier's answer is a probability. With one output it is p = sigmoid(a z + b) of the second class, a and b from Platt's calibration (1 and 0
//! without it); with several it is softmax(z / T). A regression head answers with z itself. z is the last layer's output for the embedding, brought to
//! length 1 first if the head was trained so, then standardised if the head says how.
//!
//! What can go wrong: a head on the wrong embedding gives numbers that look right. A head names its encoder; who scores compares names before.

use std::collections::BTreeMap;

use crate::encoder::Encoder;

/// A dense layer: y = W x + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Width of x.
    pub inputs: usize,
    /// W, one row per output, one after the other.
    pub weight: Vec<f64>,
    /// b; its length is the number of outputs.
    pub bias: Vec<f64>,
}

/// Between two layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// max(0, x).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// x: the layers are one in disguise.
    Identity,
}

/// What the last layer's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One layer; probabilities.
    Linear,
    /// Several layers; probabilities.
    Mlp,
    /// One output, any number of layers; a score on a scale of its own.
    Regression,
}

/// From scores to probabilities that mean what they say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Calibration {
    /// As trained.
    None,
    /// sigmoid(slope z + intercept), for one output.
    Platt {
        /// Above 0.
        slope: f64,
        /// Any.
        intercept: f64,
    },
    /// softmax(z / T), for several outputs; above 0.
    Temperature(f64),
}

/// Means and scales that embeddings are brought to: (x - mean) / scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Standardise {
    /// One per dimension.
    pub mean: Vec<f64>,
    /// One per dimension, not 0.
    pub scale: Vec<f64>,
}

/// A head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What its output means.
    pub kind: Kind,
    /// Layers before the last; empty for linear ones.
    pub hidden: Vec<Layer>,
    /// After each hidden layer.
    pub activation: Activation,
    /// The last layer: one output, or one per class.
    pub output: Layer,
    /// Before the first layer.
    pub standardise: Option<Standardise>,
    /// What made the embeddings that it reads.
    pub encoder: Encoder,
    /// Bring embeddings to length 1 first.
    pub l2_normalised: bool,
    /// Names of the classes; with one output two, the negative one first. Empty for regression.
    pub classes: Vec<String>,
    /// See [`Calibration`].
    pub calibration: Calibration,
    /// Scores from here on count as positive; absent where nobody chose one.
    pub threshold: Option<f64>,
    /// How the threshold was chosen.
    pub threshold_rule: String,
    /// What else the trainer recorded.
    pub notes: BTreeMap<String, String>,
}

impl Layer {
    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// W x + b. The caller has checked the width.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let rows = self.weight.chunks_exact(self.inputs.max(1));
        rows.zip(&self.bias).map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
    }
}

impl Activation {
    /// Of one number.
    pub fn of(self, x: f64) -> f64 {
        match self {
            Activation::Relu => x.max(0.0),
            Activation::Tanh => x.tanh(),
            Activation::Identity => x,
        }
    }
}

impl Head {
    /// A linear head of one output on embeddings of length 1, neither calibrated nor with a threshold.
    pub fn linear(weight: Vec<f64>, bias: f64, encoder: Encoder, classes: [String; 2]) -> Head {
        Head {
            kind: Kind::Linear,
            hidden: Vec::new(),
            activation: Activation::Identity,
            output: Layer { inputs: weight.len(), weight, bias: vec![bias] },
            standardise: None,
            encoder,
            l2_normalised: true,
            classes: classes.into(),
            calibration: Calibration::None,
            threshold: None,
            threshold_rule: String::new(),
            notes: BTreeMap::new(),
        }
    }

    /// Dimensions of the embedding that it reads.
    pub fn dim(&self) -> usize {
        self.hidden.first().unwrap_or(&self.output).inputs
    }

    /// The threshold to decide by: the head's own, else 0.5 for classifiers.
    pub fn threshold(&self) -> Option<f64> {
        self.threshold.or((self.kind != Kind::Regression).then_some(0.5))
    }

    /// True when one number says it all: regression, one output, or two classes.
    pub fn is_single(&self) -> bool {
        self.output.outputs() == 1 || self.classes.len() == 2
    }

    /// The outputs of the last layer.
    pub fn logits(&self, vector: &[f32]) -> Vec<f64> {
        let mut x: Vec<f64> = vector.iter().map(|v| f64::from(*v)).collect();
        if self.l2_normalised {
            // A zero vector stays zero and gets the biases alone.
            let length = x.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 0.0 {
                x.iter_mut().for_each(|v| *v /= length);
            }
        }
        if let Some(s) = &self.standardise {
            x.iter_mut().zip(&s.mean).zip(&s.scale).for_each(|((x, m), s)| *x = (*x - m) / s);
        }
        for layer in &self.hidden {
            x = layer.apply(&x);
            x.iter_mut().for_each(|v| *v = self.activation.of(*v));
        }
        self.output.apply(&x)
    }

    /// The probability of each class, in the order of `classes`; of a regression head its one value.
    pub fn answers(&self, vector: &[f32]) -> Vec<f64> {
        self.answers_of(self.logits(vector))
    }

    /// As [`Head::answers`], from the outputs of the last layer.
    pub fn answers_of(&self, logits: Vec<f64>) -> Vec<f64> {
        match (self.kind, self.calibration, logits.as_slice()) {
            (Kind::Regression, _, _) => logits,
            (_, Calibration::Platt { slope, intercept }, [z]) => {
                let z = slope * z + intercept;
                vec![sigmoid(-z), sigmoid(z)]
            }
            (_, _, [z]) => vec![sigmoid(-z), sigmoid(*z)],
            (_, calibration, z) => {
                let temperature = if let Calibration::Temperature(t) = calibration { t } else { 1.0 };
                softmax(z, temperature)
            }
        }
    }

    /// The number to compare with the threshold: of a classifier the probability of its last class, of regression the value. 32 bits, as it is
    /// stored, so that the stored score decides the same again.
    pub fn score(&self, vector: &[f32]) -> f32 {
        self.answers(vector).last().copied().unwrap_or(f64::NAN) as f32
    }
}

/// The logistic function, without overflow on either side.
pub fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

fn softmax(z: &[f64], temperature: f64) -> Vec<f64> {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let parts: Vec<f64> = z.iter().map(|z| ((z - top) / temperature).exp()).collect();
    let sum: f64 = parts.iter().sum();
    parts.iter().map(|p| p / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let classes = ["no".into(), "yes".into()];
        Head::linear(vec![1.0, -2.0, 0.5], 0.25, Encoder::built_in("test/1"), classes)
    }

    #[test]
    fn the_score_is_the_logistic_of_the_weighted_sum() {
        let h = head();
        let z: f64 = 0.6 - 2.0 * 0.8 + 0.25;
        assert!((f64::from(h.score(&[0.6, 0.8, 0.0])) - 1.0 / (1.0 + (-z).exp())).abs() < 1e-6);
        assert_eq!(h.score(&[6.0, 8.0, 0.0]), h.score(&[0.6, 0.8, 0.0]), "length does not matter");
        assert_eq!(h.score(&[0.0; 3]), sigmoid(0.25) as f32);
        assert_eq!((sigmoid(1e9), sigmoid(-1e9)), (1.0, 0.0));
        let platt = Head { calibration: Calibration::Platt { slope: 2.0, intercept: -1.0 }, ..head() };
        assert!((f64::from(platt.score(&[0.6, 0.8, 0.0])) - sigmoid(2.0 * z - 1.0)).abs() < 1e-6);
        let raw = Head { kind: Kind::Regression, l2_normalised: false, classes: vec![], ..head() };
        assert_eq!((raw.score(&[6.0, 8.0, 0.0]), raw.threshold()), (6.0 - 16.0 + 0.25, None));
    }

    #[test]
    fn layers_follow_each_other() {
        let hidden = Layer { inputs: 2, weight: vec![1.0, 1.0, -1.0, 0.0, 0.0, 2.0], bias: vec![0.0, 0.5, 0.0] };
        let output = Layer { inputs: 3, weight: vec![1.0, 2.0, 3.0, 0.0, 0.0, 1.0], bias: vec![0.0, 1.0] };
        let standardise = Some(Standardise { mean: vec![1.0, 1.0], scale: vec![2.0, 1.0] });
        let h = Head {
            kind: Kind::Mlp,
            hidden: vec![hidden],
            output,
            activation: Activation::Relu,
            standardise,
            l2_normalised: false,
            calibration: Calibration::Temperature(2.0),
            ..head()
        };
        // (3, 0) -> (1, -1) -> relu(0, -0.5, -2) = 0 -> (0, 1); (5, 4) -> (2, 3) -> relu(5, -1.5, 6) -> (23, 7)
        assert_eq!(h.logits(&[3.0, 0.0]), [0.0, 1.0]);
        assert_eq!(h.logits(&[5.0, 4.0]), [23.0, 7.0]);
        let p = h.answers(&[5.0, 4.0]);
        assert!((p[0] - sigmoid(8.0)).abs() < 1e-12 && (p[0] + p[1] - 1.0).abs() < 1e-12);
        assert_eq!(h.dim(), 2);
    }
}
