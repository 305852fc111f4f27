//! Hue, saturation and value of a picture in eight bits, as `cv::cvtColor` with `COLOR_BGR2HSV` has them: hue in half degrees (0 to 179), the rest 0 to 255.
//!
//! Source: OpenCV's integer form (divisions from tables of 12 bits), held by golden vectors.

use std::sync::LazyLock;

/// The three planes of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hsv {
    /// Half degrees.
    pub hue: Vec<u8>,
    /// Saturation.
    pub sat: Vec<u8>,
    /// The largest of red, green and blue.
    pub value: Vec<u8>,
}

const BITS: i32 = 12;

/// For each divisor: 255 / n, and 180 / 6n.
static QUOTIENTS: LazyLock<Vec<(i32, i32)>> = LazyLock::new(|| {
    let quotient = |of: i32, n: i32| (f64::from(of << BITS) / f64::from(n)).round_ties_even() as i32;
    std::iter::once((0, 0)).chain((1..256).map(|n| (quotient(255, n), quotient(180, 6 * n)))).collect()
});

impl Hsv {
    /// Of tight RGB24 rows.
    pub fn of_rgb(rgb: &[u8]) -> Hsv {
        let quotients = QUOTIENTS.as_slice();
        let pixels = rgb.len() / 3;
        let mut out = Hsv { hue: Vec::with_capacity(pixels), sat: Vec::with_capacity(pixels), value: Vec::with_capacity(pixels) };
        for pixel in rgb.chunks_exact(3) {
            let (r, g, b) = (i32::from(pixel[0]), i32::from(pixel[1]), i32::from(pixel[2]));
            let value = r.max(g).max(b);
            let spread = value - r.min(g).min(b);
            let rounded = |product: i32| (product + (1 << (BITS - 1))) >> BITS;
            let sector = if value == r {
                g - b
            } else if value == g {
                b - r + 2 * spread
            } else {
                r - g + 4 * spread
            };
            let hue = rounded(sector * quotients[spread as usize].1);
            out.hue.push(if hue < 0 { hue + 180 } else { hue } as u8);
            out.sat.push(rounded(spread * quotients[value as usize].0) as u8);
            out.value.push(value as u8);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries_and_greys_have_their_textbook_places() {
        let rgb = [0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0, 255, 0, 255, 128, 64, 64];
        let hsv = Hsv::of_rgb(&rgb);
        assert_eq!(hsv.hue, [0, 0, 0, 60, 120, 30, 150, 0]);
        assert_eq!(hsv.sat, [0, 0, 255, 255, 255, 255, 255, 128]);
        assert_eq!(hsv.value, [0, 255, 255, 255, 255, 255, 255, 128]);
    }

    #[test]
    fn every_colour_is_near_the_formula() {
        // Half a step, and what is lost where a quotient is rounded to 12 bits (times at most 6 x 255).
        const NEAR: f64 = 0.5 + 0.5 * 6.0 * 255.0 / 4096.0;
        for i in 0..18_i32.pow(3) {
            let rgb = [i / 324 * 15, i / 18 % 18 * 15, i % 18 * 15];
            let [r, g, b] = rgb.map(f64::from);
            let (most, least) = (r.max(g).max(b), r.min(g).min(b));
            let spread = most - least;
            let hue = match most {
                _ if spread == 0.0 => 0.0,
                m if m == r => 30.0 * (g - b) / spread,
                m if m == g => 60.0 + 30.0 * (b - r) / spread,
                _ => 120.0 + 30.0 * (r - g) / spread,
            };
            let hue = if hue < 0.0 { hue + 180.0 } else { hue };
            let got = Hsv::of_rgb(&rgb.map(|v| v as u8));
            let apart = (f64::from(got.hue[0]) - hue).abs();
            assert!(apart.min(180.0 - apart) <= NEAR, "{rgb:?} {hue} {got:?}");
            let saturation = if most > 0.0 { 255.0 * spread / most } else { 0.0 };
            assert!((f64::from(got.sat[0]) - saturation).abs() <= NEAR, "{rgb:?}");
        }
    }
}
