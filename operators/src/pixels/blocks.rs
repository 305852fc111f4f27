//! How much a picture shows the 8x8 blocks of its codec.
//!
//! Source: Z. Wang, H. R. Sheikh, A. C. Bovik, "No-reference perceptual quality assessment of JPEG compressed images", ICIP 2002: mean step across block
//! boundaries (B), mean step elsewhere (A), share of sign changes between neighbouring steps (Z), each the mean of both directions.
//!
//! What can go wrong: the blocks are looked for at multiples of 8 from the top left corner. A picture that was scaled, cropped or turned after it was
//! compressed shows them elsewhere, and modern codecs smooth them away: a low value does not prove that nothing was lost.

use super::luma::Luma;

/// Pictures need two blocks in both directions.
pub const MIN_SIDE: usize = 16;
/// A flat picture has neither steps; this many grey levels beside both keep its ratio at 1.
const FLAT: f64 = 0.1;

/// What the measure is made of. Steps are in grey levels of 0 to 255.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Blocks {
    /// B: mean absolute step between neighbours on both sides of a block boundary.
    pub boundary: f64,
    /// A: mean absolute step inside of blocks.
    pub inside: f64,
    /// Z: share of neighbouring steps with opposite signs.
    pub crossings: f64,
}

impl Blocks {
    /// (B + 0.1) / (A + 0.1): 1 where boundaries are like the rest, more where blocks show.
    pub fn ratio(&self) -> f64 {
        (self.boundary + FLAT) / (self.inside + FLAT)
    }

    /// The paper's score of perceived quality with its fitted constants, about 1 (bad) to 10 (excellent); none for pictures without steps.
    pub fn quality(&self) -> Option<f64> {
        let all = self.boundary > 0.0 && self.inside > 0.0 && self.crossings > 0.0;
        let product = || self.boundary.powf(-239.8886e-4) * self.inside.powf(160.1664e-4) * self.crossings.powf(64.2859e-4);
        all.then(|| -245.8909 + 261.9373 * product())
    }

    /// The mean of several pictures.
    pub fn mean(all: &[Blocks]) -> Blocks {
        let mean = |of: fn(&Blocks) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Blocks { boundary: mean(|b| b.boundary), inside: mean(|b| b.inside), crossings: mean(|b| b.crossings) }
    }
}

/// Measures a picture; `None` if a side has less than [`MIN_SIDE`] pixels.
pub fn blocks(luma: &Luma) -> Option<Blocks> {
    if luma.width < MIN_SIDE || luma.height < MIN_SIDE {
        return None;
    }
    Some(Blocks::mean(&[along_rows(luma), along_rows(&luma.transposed())]))
}

fn along_rows(luma: &Luma) -> Blocks {
    let (w, h) = (luma.width, luma.height as f64);
    let last_boundary = 8 * (w / 8 - 1);
    let (mut boundary, mut all, mut crossings) = (0u64, 0u64, 0u64);
    for row in luma.rows() {
        let mut before = 0;
        for x in 1..w {
            let step = i32::from(row[x]) - i32::from(row[x - 1]);
            all += u64::from(step.unsigned_abs());
            if x % 8 == 0 && x <= last_boundary {
                boundary += u64::from(step.unsigned_abs());
            }
            crossings += u64::from(step * before < 0);
            before = step;
        }
    }
    // Luma is on the video scale; the paper's constants are for 0 to 255.
    let grey = 255.0 / 219.0;
    let boundary = grey * boundary as f64 / (h * (w / 8 - 1) as f64);
    let inside = (8.0 * grey * all as f64 / (h * (w - 1) as f64) - boundary) / 7.0;
    // With steps at the right border alone the paper's difference can fall below zero.
    Blocks { boundary, inside: inside.max(0.0), crossings: crossings as f64 / (h * (w - 2) as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(f: impl Fn(usize, usize) -> u8) -> Luma {
        Luma { width: 64, height: 48, data: (0..64 * 48).map(|i| f(i % 64, i / 64)).collect() }
    }

    #[test]
    fn blocks_show_and_smooth_pictures_do_not() {
        let flat = blocks(&drawn(|_, _| 90)).unwrap();
        assert_eq!((flat.ratio(), flat.quality()), (1.0, None));
        let ramp = blocks(&drawn(|x, y| (x + 2 * y) as u8)).unwrap();
        assert!((ramp.ratio() - 1.0).abs() < 1e-9, "{ramp:?}");
        let blocky = blocks(&drawn(|x, y| ((x / 8 * 5 + y / 8 * 9) % 40 + 100) as u8)).unwrap();
        assert!(blocky.ratio() > 20.0, "{blocky:?}");
        // Moved by four pixels the same blocks are not where they are looked for.
        let moved = blocks(&drawn(|x, y| (((x + 4) / 8 * 5 + (y + 4) / 8 * 9) % 40 + 100) as u8)).unwrap();
        assert!(moved.ratio() < 1.0, "{moved:?}");
        assert_eq!(blocks(&Luma { width: 15, height: 99, data: vec![0; 15 * 99] }), None);
    }
}
