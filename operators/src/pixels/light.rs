//! How light is spread over a picture: mean, contrast, and how much of it is lost in black or white.

use super::luma::Luma;

/// Luma that counts as lost in black, at most: 16 is black, and codecs wander a little.
pub const DARK: u8 = 18;
/// Luma that counts as lost in white, at least: 235 is white.
pub const BRIGHT: u8 = 233;

/// Light of one picture. Luma is 0 for black (16) and 1 for white (235), cut off outside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Light {
    /// Mean luma, 0 to 1.
    pub mean: f64,
    /// RMS contrast: standard deviation of luma, 0 to 0.5. Source: E. Peli, "Contrast in complex images", JOSA A 7(10), 1990.
    pub contrast: f64,
    /// Share of pixels with luma of at most [`DARK`].
    pub dark_share: f64,
    /// Share of pixels with luma of at least [`BRIGHT`].
    pub bright_share: f64,
}

/// Light of a picture; `None` if it has no pixel.
pub fn light(luma: &Luma) -> Option<Light> {
    let mut histogram = [0u64; 256];
    luma.data.iter().for_each(|&v| histogram[usize::from(v)] += 1);
    let pixels = luma.data.len() as f64;
    if luma.data.is_empty() {
        return None;
    }
    let moment = |f: &dyn Fn(f64) -> f64| {
        let level = |v: usize| (v as f64 - 16.0).clamp(0.0, 219.0) / 219.0;
        histogram.iter().enumerate().map(|(v, &n)| f(level(v)) * n as f64).sum::<f64>() / pixels
    };
    let mean = moment(&|l| l);
    let share = |levels: &[u64]| levels.iter().sum::<u64>() as f64 / pixels;
    Some(Light {
        mean,
        contrast: moment(&|l| (l - mean) * (l - mean)).sqrt(),
        dark_share: share(&histogram[..=usize::from(DARK)]),
        bright_share: share(&histogram[usize::from(BRIGHT)..]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_black_half_white_has_the_largest_contrast() {
        let halves = Luma { width: 2, height: 1, data: vec![16, 235] };
        let want = Light { mean: 0.5, contrast: 0.5, dark_share: 0.5, bright_share: 0.5 };
        assert_eq!(light(&halves), Some(want));
        assert_eq!(light(&Luma { width: 0, height: 0, data: vec![] }), None);
    }
}
