//! The corpus's own pseudo-random numbers: SplitMix64, and smooth noise on a hashed lattice.
//!
//! Own code, because the same seed must draw the same pixels whatever a library does in its next version. Not for cryptography.

/// A SplitMix64 stream.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A stream for a seed and any number of labels (video, shot, purpose).
    pub fn new(seed: u64, labels: &[u64]) -> Self {
        Rng(labels.iter().fold(mix(seed ^ 0x5EED_C0DE), |state, label| mix(state ^ mix(label.wrapping_add(1)))))
    }
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }
    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }
    /// Uniform in `[low, high)`.
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }
    /// Uniform in `0..n` (`n` > 0).
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    let mut h = seed ^ (x as u32).wrapping_mul(0x85EB_CA6B) ^ (y as u32).wrapping_mul(0xC2B2_AE35);
    h ^= h >> 15;
    h = h.wrapping_mul(0x2C1B_3C6D);
    h ^= h >> 12;
    h = h.wrapping_mul(0x297A_2D39);
    h ^= h >> 15;
    (h >> 8) as f32 / (1u32 << 24) as f32
}

/// Smooth value noise in `[0, 1]` with features of about one unit.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let (ix, iy) = (fx as i32, fy as i32);
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (u, v) = (ease(x - fx), ease(y - fy));
    let top = lattice(ix, iy, seed) * (1.0 - u) + lattice(ix + 1, iy, seed) * u;
    let bottom = lattice(ix, iy + 1, seed) * (1.0 - u) + lattice(ix + 1, iy + 1, seed) * u;
    top * (1.0 - v) + bottom * v
}

/// Three octaves of [`noise`], in `[0, 1]`.
pub fn fbm(x: f32, y: f32, seed: u32) -> f32 {
    (noise(x, y, seed) * 4.0 + noise(x * 2.0, y * 2.0, seed ^ 1) * 2.0 + noise(x * 4.0, y * 4.0, seed ^ 2)) / 7.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_labels_give_the_same_stream_and_others_do_not() {
        let take = |labels: &[u64]| (0..4).scan(Rng::new(7, labels), |r, _| Some(r.bits())).collect::<Vec<_>>();
        assert_eq!(take(&[1, 2]), take(&[1, 2]));
        assert_ne!(take(&[1, 2]), take(&[2, 1]));
    }

    #[test]
    fn noise_is_smooth_and_bounded() {
        for i in 0..200 {
            let x = i as f32 * 0.37 - 20.0;
            let a = fbm(x, 3.1, 5);
            assert!((0.0..=1.0).contains(&a));
            assert!((a - fbm(x + 0.001, 3.1, 5)).abs() < 0.02);
        }
    }
}
