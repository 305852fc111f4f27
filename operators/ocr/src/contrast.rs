//! The second look of EasyOCR at a strip that it could hardly read: the grey levels between the 10th and the 90th percentile are stretched.
//!
//! What can go wrong: the original adds 25 levels before it stretches, so that a strip of hardly any contrast becomes white. That reading is then the
//! worse one.

/// Strips with more contrast than this stay as they are.
pub const TARGET: f64 = 0.5;

/// Stretches a strip's levels, unless it has contrast enough.
pub fn stretched(pixels: &[u8]) -> Vec<u8> {
    let (high, low) = (percentile(pixels, 0.9), percentile(pixels, 0.1));
    if (high - low) / (high + low).max(10.0) >= TARGET {
        return pixels.to_vec();
    }
    let ratio = 200.0 / (high - low).max(10.0);
    pixels.iter().map(|p| ((f64::from(*p) - low + 25.0) * ratio).clamp(0.0, 255.0) as u8).collect()
}

/// With what lies between two values in proportion, as numpy does; 0 of nothing.
fn percentile(pixels: &[u8], share: f64) -> f64 {
    let mut counts = [0usize; 256];
    pixels.iter().for_each(|p| counts[usize::from(*p)] += 1);
    let at = |rank: usize| {
        let mut below = 0;
        let reaches = |count: &usize| {
            below += count;
            below > rank
        };
        counts.iter().position(reaches).unwrap_or(0) as f64
    };
    let place = pixels.len().saturating_sub(1) as f64 * share;
    let rank = place as usize;
    at(rank) + (at(rank + 1).max(at(rank)) - at(rank)) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn faint_levels_spread_and_strong_ones_stay() {
        let faint: Vec<u8> = (0..100).map(|i| 100 + i).collect();
        let out = stretched(&faint);
        assert!(out.iter().max().unwrap() - out.iter().min().unwrap() > 180, "{out:?}");
        let strong: Vec<u8> = (0..100).map(|i| if i % 2 == 0 { 10 } else { 240 }).collect();
        assert_eq!(stretched(&strong), strong);
        assert!(stretched(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn a_percentile_is_that_of_the_sorted_values(mut pixels in prop::collection::vec(any::<u8>(), 1..80), share in 0f64..=1.0) {
            let found = percentile(&pixels, share);
            pixels.sort_unstable();
            let place = (pixels.len() - 1) as f64 * share;
            let (low, high) = (f64::from(pixels[place.floor() as usize]), f64::from(pixels[place.ceil() as usize]));
            prop_assert!((found - (low + (high - low) * place.fract())).abs() < 1e-9);
        }
    }
}
