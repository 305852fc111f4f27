//! L2-regularised logistic regression: mean log loss + l2/2 * |w|^2, the bias free.

use super::lbfgs::{Stop, minimise};
use super::samples::Samples;
use crate::frames::head::sigmoid;

/// No component of the gradient is larger than this at the end. The loss is a mean, so it does not grow with the samples.
const TOLERANCE: f64 = 1e-7;

/// Where floating point ends before [`TOLERANCE`] is reached, a gradient up to this is still a minimum.
const ACCEPTED: f64 = 1e-4;

/// A fitted model.
#[derive(Debug, Clone)]
pub struct Model {
    /// One weight per dimension.
    pub weight: Vec<f64>,
    /// The bias.
    pub bias: f64,
    /// Loss, regularisation included.
    pub loss: f64,
    /// Steps of the optimiser.
    pub iterations: usize,
}

/// Fits from zero weights.
pub fn fit(samples: &Samples, l2: f64) -> Result<Model, String> {
    let m = minimise(vec![0.0; samples.dim + 1], TOLERANCE, |w, g| loss(samples, l2, w, g));
    if !m.value.is_finite() || (m.stop != Stop::Converged && m.gradient > ACCEPTED) {
        return Err(format!(
            "{:?} after {} steps with a gradient of {:e}; raise the regularisation (l2 = {l2})",
            m.stop, m.iterations, m.gradient
        ));
    }
    let mut weight = m.x;
    let bias = weight.pop().unwrap_or_default();
    Ok(Model { weight, bias, loss: m.value, iterations: m.iterations })
}

/// The loss and its gradient at `w`, whose last component is the bias.
fn loss(samples: &Samples, l2: f64, w: &[f64], gradient: &mut [f64]) -> f64 {
    let (dim, n) = (samples.dim, samples.positive.len() as f64);
    gradient.fill(0.0);
    let mut sum = 0.0;
    for (x, positive) in samples.vectors().zip(&samples.positive) {
        let z = x.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + w[dim];
        let sign = if *positive { 1.0 } else { -1.0 };
        let margin = sign * z;
        // ln(1 + e^-m) without overflow.
        sum += (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
        let slope = -sign * sigmoid(-margin);
        gradient.iter_mut().zip(x).for_each(|(g, x)| *g += slope * f64::from(*x));
        gradient[dim] += slope;
    }
    gradient.iter_mut().for_each(|g| *g /= n);
    gradient.iter_mut().zip(&w[..dim]).for_each(|(g, w)| *g += l2 * w);
    sum / n + 0.5 * l2 * w[..dim].iter().map(|w| w * w).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples(rows: &[([f32; 3], bool)]) -> Samples {
        Samples {
            dim: 3,
            values: rows.iter().flat_map(|r| r.0).collect(),
            positive: rows.iter().map(|r| r.1).collect(),
            ..Samples::default()
        }
    }

    /// Plain gradient descent with small steps.
    fn oracle(samples: &Samples, l2: f64) -> f64 {
        let mut w = vec![0.0; samples.dim + 1];
        let mut g = vec![0.0; samples.dim + 1];
        let mut value = f64::INFINITY;
        for _ in 0..200_000 {
            value = loss(samples, l2, &w, &mut g);
            if g.iter().all(|g| g.abs() < 1e-7) {
                break;
            }
            w.iter_mut().zip(&g).for_each(|(w, g)| *w -= 0.5 * g);
        }
        value
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let s = samples(&[([0.1, 0.5, -0.3], true), ([0.7, -0.2, 0.1], false), ([-0.4, 0.2, 0.9], true)]);
        let w = [0.3, -0.6, 0.2, 0.1];
        let mut g = [0.0; 4];
        loss(&s, 0.2, &w, &mut g);
        for k in 0..4 {
            let shifted = |by: f64| {
                let mut w = w;
                w[k] += by;
                loss(&s, 0.2, &w, &mut [0.0; 4])
            };
            assert!(((shifted(1e-6) - shifted(-1e-6)) / 2e-6 - g[k]).abs() < 1e-8);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_loss_is_that_of_slow_gradient_descent(
            rows in proptest::collection::vec((proptest::array::uniform3(-1.0f32..1.0), any::<bool>()), 6..40),
            l2 in 0.01f64..1.0,
        ) {
            prop_assume!(rows.iter().any(|r| r.1) && rows.iter().any(|r| !r.1));
            let s = samples(&rows);
            let fast = fit(&s, l2).unwrap();
            let slow = oracle(&s, l2);
            prop_assert!((fast.loss - slow).abs() < 1e-6, "{} {}", fast.loss, slow);
        }
    }
}
