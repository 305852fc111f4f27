//! L-BFGS with a line search for the strong Wolfe conditions (Nocedal and Wright, Numerical Optimization, algorithms 7.5, 3.5 and 3.6).
//!
//! Why our own: a few dozen lines against two crates that pin other matrix libraries. What can go wrong: a function that is not smooth or not bounded below;
//! the search then ends with [`Stop::NoProgress`], with the best point that was found.

/// Corrections kept.
const MEMORY: usize = 10;
/// Sufficient decrease and curvature constants of the Wolfe conditions.
const C1: f64 = 1e-4;
const C2: f64 = 0.9;
/// Trials of one line search.
const MAX_TRIALS: usize = 40;
/// Steps in all.
const MAX_ITERATIONS: usize = 2_000;

/// Why the search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// No component of the gradient is larger than asked.
    Converged,
    /// No step makes the value smaller: as good as floating point gets, or not a smooth function.
    NoProgress,
    /// [`MAX_ITERATIONS`].
    Iterations,
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub struct Minimum {
    /// The point.
    pub x: Vec<f64>,
    /// The value there.
    pub value: f64,
    /// The size of the gradient there: its largest component, unless asked otherwise.
    pub gradient: f64,
    /// Steps taken.
    pub iterations: usize,
    /// Why it ended.
    pub stop: Stop,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn largest(g: &[f64]) -> f64 {
    g.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// A point on the line, with value and gradient.
struct Point {
    step: f64,
    x: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    slope: f64,
}

/// Minimises `f`, which gives the value and fills the gradient, until no component of the gradient is larger than `tolerance`.
pub fn minimise(x: Vec<f64>, tolerance: f64, f: impl FnMut(&[f64], &mut [f64]) -> f64) -> Minimum {
    minimise_by(x, tolerance, largest, f)
}

/// As [`minimise`], with `size` of the gradient instead of its largest component: for parameters that stand for others.
pub fn minimise_by(
    x: Vec<f64>,
    tolerance: f64,
    size: impl Fn(&[f64]) -> f64,
    mut f: impl FnMut(&[f64], &mut [f64]) -> f64,
) -> Minimum {
    let mut gradient = vec![0.0; x.len()];
    let value = f(&x, &mut gradient);
    let mut at = Minimum { x, value, gradient: size(&gradient), iterations: 0, stop: Stop::Iterations };
    let mut history: std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)> = std::collections::VecDeque::new();
    while at.iterations < MAX_ITERATIONS {
        if at.gradient <= tolerance {
            at.stop = Stop::Converged;
            return at;
        }
        let mut direction = direction(&gradient, &history);
        if dot(&direction, &gradient) >= 0.0 {
            history.clear();
            direction = gradient.iter().map(|g| -g).collect();
        }
        let first = if history.is_empty() { 1.0 / dot(&gradient, &gradient).sqrt().max(1.0) } else { 1.0 };
        let start =
            Point { step: 0.0, x: at.x.clone(), value: at.value, gradient: gradient.clone(), slope: dot(&gradient, &direction) };
        let Some(next) = search(&start, &direction, first, &mut f) else {
            if history.is_empty() {
                at.stop = Stop::NoProgress;
                return at;
            }
            // The curvature that was learnt does not fit here: forget it and go straight down.
            history.clear();
            continue;
        };
        let s: Vec<f64> = next.x.iter().zip(&at.x).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = next.gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        if sy > f64::EPSILON * dot(&y, &y) {
            if history.len() == MEMORY {
                history.pop_front();
            }
            history.push_back((s, y, 1.0 / sy));
        }
        at = Minimum {
            gradient: size(&next.gradient),
            x: next.x,
            value: next.value,
            iterations: at.iterations + 1,
            stop: at.stop,
        };
        gradient = next.gradient;
    }
    at
}

/// Minus the inverse Hessian times the gradient, by the two-loop recursion.
fn direction(gradient: &[f64], history: &std::collections::VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(history.len());
    for (s, y, rho) in history.iter().rev() {
        let alpha = rho * dot(s, &q);
        q.iter_mut().zip(y).for_each(|(q, y)| *q -= alpha * y);
        alphas.push(alpha);
    }
    if let Some((s, y, _)) = history.back() {
        let scale = dot(s, y) / dot(y, y);
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((s, y, rho), alpha) in history.iter().zip(alphas.iter().rev()) {
        let beta = rho * dot(y, &q);
        q.iter_mut().zip(s).for_each(|(q, s)| *q += (alpha - beta) * s);
    }
    q
}

/// A step with the strong Wolfe conditions, or the best one that at least decreases enough.
fn search(start: &Point, direction: &[f64], first: f64, f: &mut impl FnMut(&[f64], &mut [f64]) -> f64) -> Option<Point> {
    let mut trials = 0;
    let mut at = |step: f64, trials: &mut usize| {
        *trials += 1;
        let x: Vec<f64> = start.x.iter().zip(direction).map(|(x, d)| x + step * d).collect();
        let mut gradient = vec![0.0; x.len()];
        let value = f(&x, &mut gradient);
        let slope = dot(&gradient, direction);
        Point { step, x, value, gradient, slope }
    };
    let decreases = |p: &Point| p.value <= start.value + C1 * p.step * start.slope;
    let flat = |p: &Point| p.slope.abs() <= -C2 * start.slope;

    // Bracket: grow the step until a good one lies between `low` and `high`.
    let mut low =
        Point { step: 0.0, x: start.x.clone(), value: start.value, gradient: start.gradient.clone(), slope: start.slope };
    let mut step = first;
    let mut high = loop {
        if trials == MAX_TRIALS {
            return (low.step > 0.0).then_some(low);
        }
        let p = at(step, &mut trials);
        if !p.value.is_finite() || !decreases(&p) || (low.step > 0.0 && p.value >= low.value) {
            break p;
        }
        if flat(&p) {
            return Some(p);
        }
        if p.slope >= 0.0 {
            break std::mem::replace(&mut low, p);
        }
        step = p.step * 2.0;
        low = p;
    };
    // Zoom: `low` is always the best point that decreases enough.
    while trials < MAX_TRIALS {
        let p = at(between(&low, &high), &mut trials);
        if !p.value.is_finite() || !decreases(&p) || p.value >= low.value {
            if p.step == low.step || p.step == high.step {
                break;
            }
            high = p;
            continue;
        }
        if flat(&p) {
            return Some(p);
        }
        if p.slope * (high.step - low.step) >= 0.0 {
            high = low;
        }
        low = p;
    }
    (low.step > 0.0 && low.value < start.value).then_some(low)
}

/// The minimum of the cubic through both ends, or the middle where that is none or too near to an end.
fn between(a: &Point, b: &Point) -> f64 {
    let middle = (a.step + b.step) / 2.0;
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.step - b.step);
    let square = d1 * d1 - a.slope * b.slope;
    if square.is_nan() || square < 0.0 {
        return middle;
    }
    let d2 = square.sqrt() * (b.step - a.step).signum();
    let step = b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2);
    let (from, to) = (a.step.min(b.step), a.step.max(b.step));
    let margin = 0.1 * (to - from);
    if step.is_finite() && step > from + margin && step < to - margin { step } else { middle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_valley_of_rosenbrock_is_walked_to_its_end() {
        let m = minimise(vec![-1.2, 1.0, -1.2, 1.0], 1e-9, |x, g| {
            g.fill(0.0);
            let mut sum = 0.0;
            for k in [0, 2] {
                let (a, b) = (x[k], x[k + 1]);
                sum += 100.0 * (b - a * a).powi(2) + (1.0 - a).powi(2);
                g[k] = -400.0 * a * (b - a * a) - 2.0 * (1.0 - a);
                g[k + 1] = 200.0 * (b - a * a);
            }
            sum
        });
        assert_eq!(m.stop, Stop::Converged);
        assert!(m.x.iter().all(|v| (v - 1.0).abs() < 1e-8), "{:?} after {}", m.x, m.iterations);
        assert!(m.iterations < 100);
    }

    #[test]
    fn stretched_quadratics_converge() {
        let m = minimise(vec![1.0; 50], 1e-10, |x, g| {
            let scale = |k: usize| 10f64.powf(k as f64 / 16.0);
            for (k, v) in x.iter().enumerate() {
                g[k] = scale(k) * v;
            }
            x.iter().enumerate().map(|(k, v)| 0.5 * scale(k) * v * v).sum()
        });
        assert_eq!(m.stop, Stop::Converged, "{} {}", m.iterations, m.gradient);
        assert!(m.iterations < 600, "{}", m.iterations);
    }

    #[test]
    fn a_function_without_a_slope_stops_at_once() {
        let m = minimise(vec![1.0], 1e-9, |_, g| {
            g[0] = 1.0;
            5.0
        });
        assert_eq!((m.stop, m.iterations), (Stop::NoProgress, 0));
    }
}
