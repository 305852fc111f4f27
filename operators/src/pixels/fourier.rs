//! The discrete Fourier transform of square pictures whose side is a power of two.

use std::f64::consts::TAU;

/// Real and imaginary part.
pub type Complex = (f64, f64);

/// Transforms `side` rows of `side` values in place, forwards; `side` must be a power of two.
///
/// Backwards: conjugate before and after, and divide by the number of values.
pub fn transform(values: &mut [Complex], side: usize) {
    debug_assert!(side.is_power_of_two() && values.len() == side * side);
    let turns: Vec<Complex> = (0..side / 2).map(|k| (TAU * k as f64 / side as f64).sin_cos()).map(|(s, c)| (c, -s)).collect();
    for _ in 0..2 {
        values.chunks_exact_mut(side).for_each(|row| line(row, &turns));
        for y in 0..side {
            for x in 0..y {
                values.swap(y * side + x, x * side + y);
            }
        }
    }
}

/// Cooley and Tukey's radix-2 transform of one line.
fn line(values: &mut [Complex], turns: &[Complex]) {
    let n = values.len();
    let bits = n.trailing_zeros();
    for i in 0..n {
        let j = i.reverse_bits() >> (usize::BITS - bits).min(usize::BITS - 1);
        if i < j {
            values.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        for block in values.chunks_exact_mut(2 * half) {
            let (low, high) = block.split_at_mut(half);
            for (k, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let turned = multiply(*b, turns[k * (n / 2 / half)]);
                (*a, *b) = ((a.0 + turned.0, a.1 + turned.1), (a.0 - turned.0, a.1 - turned.1));
            }
        }
        half *= 2;
    }
}

/// The product of two complex numbers.
pub fn multiply(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, four loops.
    fn oracle(values: &[Complex], side: usize) -> Vec<Complex> {
        let mut out = Vec::new();
        for v in 0..side {
            for u in 0..side {
                let mut sum = (0.0, 0.0);
                for (i, value) in values.iter().enumerate() {
                    let turn = -TAU * ((i % side * u + i / side * v) as f64) / side as f64;
                    let term = multiply(*value, (turn.cos(), turn.sin()));
                    sum = (sum.0 + term.0, sum.1 + term.1);
                }
                out.push(sum);
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn the_fast_transform_is_the_transform(seed in prop::collection::vec((-9.0f64..9.0, -9.0f64..9.0), 256), power in 0u32..5) {
            let side = 1 << power;
            let mut values = seed[..side * side].to_vec();
            let want = oracle(&values, side);
            transform(&mut values, side);
            for (a, b) in values.iter().zip(want) {
                prop_assert!((a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9, "{a:?} {b:?}");
            }
        }
    }
}
