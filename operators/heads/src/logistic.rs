//! L2-regularised logistic regression: mean log loss + |w|^2 / (2 C n), the bias free, as scikit-learn's `LogisticRegression(C)` has it.
//!
//! The samples are read once per evaluation: eight rows are scored, then their slopes are added to the gradient while they are still in the cache. Sums are
//! in 64 bits and in one fixed order of lanes, so that the same samples give the same head on every machine. What can go wrong: a C so large that
//! separable classes drive the weights to infinity; the fit then ends without convergence and says so.

use crate::head::sigmoid;
use crate::lbfgs::{Stop, minimise_by};
use crate::samples::Samples;

/// No component of the gradient is larger than this at the end. The loss is a mean, so it does not grow with the samples.
pub const TOLERANCE: f64 = 1e-7;

/// Where floating point ends before [`TOLERANCE`] is reached, a gradient up to this is still a minimum.
const ACCEPTED: f64 = 1e-4;

/// Rows that are scored together.
const ROWS: usize = 8;

/// Sums that run side by side.
const LANES: usize = 8;

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
    /// Largest component of the gradient at the end.
    pub gradient: f64,
}

/// Fits, starting from another fit's weights or from zero.
pub fn fit(samples: &Samples, c: f64, start: Option<&Model>, tolerance: f64) -> Result<Model, String> {
    let l2 = 1.0 / (c * samples.len() as f64);
    let Bias { mean, scale } = Bias::of(samples);
    let dim = samples.dim;
    let moved = |w: &[f64]| w.iter().zip(&mean).map(|(w, m)| w * m).sum::<f64>();
    let from = match start {
        Some(model) => {
            let bias = (model.bias + moved(&model.weight)) / scale;
            model.weight.iter().copied().chain([bias]).collect()
        }
        None => vec![0.0; dim + 1],
    };
    let mut plain = vec![0.0; dim + 1];
    let size = |g: &[f64]| {
        let bias = g[dim] / scale;
        g[..dim].iter().zip(&mean).fold(bias.abs(), |most, (g, m)| most.max((g + m * bias).abs()))
    };
    let mut m = minimise_by(from, tolerance, size, |v, g| {
        plain.copy_from_slice(v);
        plain[dim] = scale * v[dim] - moved(&v[..dim]);
        let value = loss(samples, l2, &plain, g);
        let bias = g[dim];
        g[..dim].iter_mut().zip(&mean).for_each(|(g, m)| *g -= m * bias);
        g[dim] = scale * bias;
        value
    });
    m.x[dim] = scale * m.x[dim] - moved(&m.x[..dim]);
    if !m.value.is_finite() || (m.stop != Stop::Converged && m.gradient > ACCEPTED) {
        return Err(format!(
            "{:?} after {} steps with a gradient of {:e}; try a smaller C (C = {c})",
            m.stop, m.iterations, m.gradient
        ));
    }
    let mut weight = m.x;
    let bias = weight.pop().unwrap_or_default();
    Ok(Model { weight, bias, loss: m.value, iterations: m.iterations, gradient: m.gradient })
}

/// The optimiser sees the bias as scale * v - w.mean: free as the bias is, the minimum is the same, but the bias no longer stands for the mean of the
/// embeddings nor weighs more than a weight does. That saves most of the steps, because embeddings have a large mean in common.
struct Bias {
    mean: Vec<f64>,
    scale: f64,
}

impl Bias {
    fn of(samples: &Samples) -> Bias {
        let n = samples.len().max(1) as f64;
        let mut mean = vec![0.0; samples.dim];
        let mut square = 0.0;
        for x in samples.vectors() {
            mean.iter_mut().zip(x).for_each(|(m, x)| *m += f64::from(*x) / n);
            square += square_of(x) / n;
        }
        let variance = (square - mean.iter().map(|m| m * m).sum::<f64>()) / samples.dim.max(1) as f64;
        // Samples that are all alike have no variance; any scale will do.
        Bias { mean, scale: if variance > 1e-12 { variance.sqrt() } else { 1.0 } }
    }
}

/// The loss and its gradient at `w`, whose last component is the bias.
fn loss(samples: &Samples, l2: f64, w: &[f64], gradient: &mut [f64]) -> f64 {
    let (dim, n) = (samples.dim, samples.len() as f64);
    let (w, bias) = (&w[..dim], w[dim]);
    gradient.fill(0.0);
    let (gradient, bias_gradient) = gradient.split_at_mut(dim);
    let mut sum = 0.0;
    for (rows, positive) in samples.values.chunks(dim * ROWS).zip(samples.positive.chunks(ROWS)) {
        let mut slopes = [0.0; ROWS];
        for ((slope, x), positive) in slopes.iter_mut().zip(rows.chunks_exact(dim)).zip(positive) {
            let sign = if *positive { 1.0 } else { -1.0 };
            let margin = sign * (dot(x, w) + bias);
            // ln(1 + e^-m) without overflow.
            sum += (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
            *slope = -sign * sigmoid(-margin);
            bias_gradient[0] += *slope;
        }
        if positive.len() == ROWS {
            add_all(gradient, rows, &slopes);
        } else {
            for (x, slope) in rows.chunks_exact(dim).zip(slopes) {
                gradient.iter_mut().zip(x).for_each(|(g, x)| *g += slope * f64::from(*x));
            }
        }
    }
    bias_gradient[0] /= n;
    gradient.iter_mut().zip(w).for_each(|(g, w)| *g = *g / n + l2 * w);
    sum / n + 0.5 * l2 * w.iter().map(|w| w * w).sum::<f64>()
}

fn square_of(x: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    let (xs, rest) = x.as_chunks::<LANES>();
    for x in xs {
        for i in 0..LANES {
            lanes[i] += f64::from(x[i]) * f64::from(x[i]);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>()
}

fn dot(x: &[f32], w: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let ((xs, x), (ws, w)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    for (x, w) in xs.iter().zip(ws) {
        for i in 0..LANES {
            lanes[i] += f64::from(x[i]) * w[i];
        }
    }
    lanes.iter().sum::<f64>() + x.iter().zip(w).map(|(x, w)| f64::from(*x) * w).sum::<f64>()
}

/// Adds eight rows, each times its slope, to the gradient.
fn add_all(gradient: &mut [f64], rows: &[f32], slopes: &[f64; ROWS]) {
    let dim = gradient.len();
    let mut each = rows.chunks_exact(dim);
    let rows: [&[f32]; ROWS] = std::array::from_fn(|_| each.next().unwrap_or_default());
    if rows.iter().any(|row| row.len() != dim) {
        return;
    }
    for (k, g) in gradient.iter_mut().enumerate() {
        let mut sum = 0.0;
        for (row, slope) in rows.iter().zip(slopes) {
            sum += slope * f64::from(row[k]);
        }
        *g += sum;
    }
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

    #[test]
    fn blocks_of_rows_and_lanes_lose_nothing() {
        // 21 rows of 19 numbers: whole blocks and rests of both.
        let (dim, n) = (19, 21);
        let values: Vec<f32> = (0..dim * n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let s = Samples { dim, values, positive: (0..n).map(|i| i % 3 == 0).collect(), ..Samples::default() };
        let w: Vec<f64> = (0..=dim).map(|i| (i as f64 - 9.0) / 10.0).collect();
        let mut g = vec![0.0; dim + 1];
        let value = loss(&s, 0.1, &w, &mut g);
        let (mut slow, mut slow_g) = (0.0, vec![0.0; dim + 1]);
        for (x, p) in s.vectors().zip(&s.positive) {
            let z: f64 = x.iter().zip(&w).map(|(x, w)| f64::from(*x) * w).sum::<f64>() + w[dim];
            let target = f64::from(u8::from(*p));
            slow -= (if *p { sigmoid(z) } else { sigmoid(-z) }).ln() / n as f64;
            x.iter().enumerate().for_each(|(k, x)| slow_g[k] += (sigmoid(z) - target) * f64::from(*x) / n as f64);
            slow_g[dim] += (sigmoid(z) - target) / n as f64;
        }
        for k in 0..dim {
            slow += 0.05 * w[k] * w[k];
            slow_g[k] += 0.1 * w[k];
        }
        assert!((value - slow).abs() < 1e-12);
        assert!(g.iter().zip(&slow_g).all(|(a, b)| (a - b).abs() < 1e-12));
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
            let fast = fit(&s, 1.0 / (l2 * s.len() as f64), None, TOLERANCE).unwrap();
            let slow = oracle(&s, l2);
            prop_assert!((fast.loss - slow).abs() < 1e-6, "{} {}", fast.loss, slow);
        }
    }
}
