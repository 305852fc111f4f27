//! How alike neighbouring samples of a video are.
//!
//! Values are rounded to the 32 bits that are stored, so that the stored value decides the same again. What can go wrong: a null or a NaN inside, or vectors
//! of different widths; the row is then unmeasured. A zero vector is like nothing: 0.

use curette_engine::verdict::Problem;

use crate::frames::vectors::{RowVectors, dot, norm};

/// What is compared for sample k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// x_k-1 and x_k.
    Adjacent,
    /// The mean of x_k-w to x_k-1 and the mean of x_k to x_k+w-1, each x brought to length 1, as far as there are samples.
    Window(usize),
}

/// The similarity of each sample but the first, of a row.
pub(super) fn similarities(vectors: RowVectors, comparison: Comparison) -> Result<Vec<f32>, Problem> {
    let get = |i| vectors.get(i).map_err(|what| Problem::new("bad_embedding", format!("the embedding of frame {i} {what}")));
    between(&(0..vectors.len()).map(get).collect::<Result<Vec<_>, _>>()?, comparison)
}

/// The similarity of each sample but the first.
pub fn between(vectors: &[&[f32]], comparison: Comparison) -> Result<Vec<f32>, Problem> {
    for (i, pair) in vectors.windows(2).enumerate() {
        if pair[0].len() != pair[1].len() {
            let message = format!("frame {} has {} dimensions, the one before {}", i + 1, pair[1].len(), pair[0].len());
            return Err(Problem::new("bad_embedding", message));
        }
    }
    Ok(match comparison {
        Comparison::Adjacent => vectors.windows(2).map(|p| cosine(dot(p[0], p[1]), norm(p[0]) * norm(p[1]))).collect(),
        Comparison::Window(w) => windows(vectors, w),
    })
}

fn cosine(product: f64, lengths: f64) -> f32 {
    if lengths > 0.0 { (product / lengths).clamp(-1.0, 1.0) as f32 } else { 0.0 }
}

/// A mean's length does not matter to a cosine, so sums do.
fn windows(vectors: &[&[f32]], w: usize) -> Vec<f32> {
    let n = vectors.len();
    let lengths: Vec<f64> = vectors.iter().map(|v| norm(v)).collect();
    let sum = |from: usize, to: usize| {
        let mut sum = vec![0.0; vectors.first().map_or(0, |v| v.len())];
        for (v, length) in vectors[from..to].iter().zip(&lengths[from..to]).filter(|(_, length)| **length > 0.0) {
            sum.iter_mut().zip(*v).for_each(|(s, v)| *s += f64::from(*v) / length);
        }
        sum
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (1..n)
        .map(|k| {
            let (before, after) = (sum(k.saturating_sub(w), k), sum(k, (k + w).min(n)));
            cosine(product(&before, &after), (product(&before, &before) * product(&after, &after)).sqrt())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By the cosines of all pairs: cos(sum a, sum b) = sum of a_i.b_j / sqrt(sum of a_i.a_j * sum of b_i.b_j).
    fn oracle(vectors: &[Vec<f32>], w: usize, k: usize) -> f64 {
        let angle = |i: usize, j: usize| {
            let length = |v: &[f32]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let by = length(&vectors[i]) * length(&vectors[j]);
            let product: f64 = vectors[i].iter().zip(&vectors[j]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            if by > 0.0 { product / by } else { 0.0 }
        };
        let before: Vec<usize> = (0..vectors.len()).filter(|i| *i < k && i + w >= k).collect();
        let after: Vec<usize> = (0..vectors.len()).filter(|i| *i >= k && *i < k + w).collect();
        let all = |a: &[usize], b: &[usize]| {
            a.iter().flat_map(|i| b.iter().map(move |j| (*i, *j))).map(|(i, j)| angle(i, j)).sum::<f64>()
        };
        let by = (all(&before, &before) * all(&after, &after)).sqrt();
        if by > 1e-9 { all(&before, &after) / by } else { 0.0 }
    }

    proptest! {
        #[test]
        fn windows_equal_their_definition(
            rows in proptest::collection::vec(proptest::collection::vec(-1.0f32..1.0, 3), 0..20), w in 1usize..6, zero in 0usize..25,
        ) {
            let mut rows = rows;
            if let Some(row) = rows.get_mut(zero) {
                row.fill(0.0);
            }
            let vectors: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let found = between(&vectors, Comparison::Window(w)).unwrap();
            prop_assert_eq!(found.len(), rows.len().saturating_sub(1));
            for (i, s) in found.iter().enumerate() {
                let expected = oracle(&rows, w, i + 1);
                prop_assert!((f64::from(*s) - expected).abs() < 1e-4, "{} {} {}", i, s, expected);
            }
            // A window of one is the neighbour.
            for (a, b) in between(&vectors, Comparison::Window(1)).unwrap().iter().zip(between(&vectors, Comparison::Adjacent).unwrap()) {
                prop_assert!((a - b).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn widths_must_agree() {
        assert_eq!(between(&[&[1.0], &[1.0, 2.0]], Comparison::Adjacent).unwrap_err().code, "bad_embedding");
    }
}
