//! Against scikit-learn: weights, probabilities, calibration and intervals of `scripts/goldens/heads.py`.

#![allow(clippy::unwrap_used)]

use curette_heads::head::sigmoid;
use curette_heads::metrics::wilson;
use curette_heads::{logistic, platt, synthetic};
use serde_json::Value;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/heads.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn fits_equal_those_of_scikit_learn() {
    let samples = synthetic::samples(4000, 768);
    for fit in golden()["fits"].as_array().unwrap() {
        let c = fit["c"].as_f64().unwrap();
        let model = logistic::fit(&samples, c, None, logistic::TOLERANCE).unwrap();
        let scores =
            samples.vectors().map(|x| x.iter().zip(&model.weight).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + model.bias);
        let probabilities: Vec<f64> = scores.map(sigmoid).step_by(10).collect();
        let largest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let expected = numbers(&fit["probabilities_every_10"]);
        assert_eq!(probabilities.len(), expected.len());
        let by = largest(&probabilities, &expected);
        assert!(by <= 1e-3, "C = {c}: a probability differs by {by:e}");
        let weights: Vec<f64> = model.weight.iter().copied().step_by(16).collect();
        let by = largest(&weights, &numbers(&fit["weights_every_16"]));
        assert!(by <= 1e-2, "C = {c}: a weight differs by {by:e}");
        assert!((model.bias - fit["bias"].as_f64().unwrap()).abs() <= 1e-2);
    }
}

#[test]
fn calibration_equals_that_of_scikit_learn() {
    for fit in golden()["fits"].as_array().unwrap() {
        let positive: Vec<bool> = fit["held_out_positive"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
        let (slope, intercept) = platt::fit(&numbers(&fit["held_out_scores"]), &positive);
        let expected = numbers(&fit["platt"]);
        assert!((slope - expected[0]).abs() < 1e-3 && (intercept - expected[1]).abs() < 1e-3, "{slope} {intercept} {expected:?}");
    }
}

#[test]
fn intervals_equal_those_of_scipy() {
    for known in golden()["wilson"].as_array().unwrap() {
        let count = |key: &str| known[key].as_u64().unwrap() as usize;
        let (low, high) = wilson(count("hits"), count("of")).unwrap();
        assert!((low - known["low"].as_f64().unwrap()).abs() < 1e-12 && (high - known["high"].as_f64().unwrap()).abs() < 1e-12);
    }
}
