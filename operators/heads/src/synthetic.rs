//! Labelled embeddings from a formula, for the comparison with scikit-learn: `scripts/goldens/heads.py` makes the same ones from the same formula.
//!
//! Every number is a multiple of 2^-27 below 1, so that both sides hold exactly the same samples. Column k of row i is the SplitMix64 hash of i (d + 1) + k, its
//! upper 24 bits as a number from -1 to 1, divided by 16. The label is the sign of a sum of the first eight columns and of one column of noise.

use crate::samples::Samples;

fn unit(index: u64) -> f64 {
    let mut z = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

/// `rows` embeddings of `dim` numbers, in groups of 20. `dim` is at least 8.
pub fn samples(rows: usize, dim: usize) -> Samples {
    let mut out = Samples { dim, groups: (0..rows.div_ceil(20)).map(|g| format!("g{g}")).collect(), ..Samples::default() };
    for i in 0..rows as u64 {
        let at = |k: usize| unit(i * (dim as u64 + 1) + k as u64);
        out.values.extend((0..dim).map(|k| (at(k) / 16.0) as f32));
        let signal: f64 = (0..8).map(|k| at(k) / f64::from(1 << (k / 2))).sum();
        out.positive.push(signal + at(dim) > 0.0);
        out.group_of.push(i as usize / 20);
    }
    out
}
