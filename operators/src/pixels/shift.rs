//! How far a picture has moved as a whole since another one: phase correlation, `cv2.phaseCorrelate(before, after, cv2.createHanningWindow(...))`.
//!
//! Source: C. D. Kuglin, D. C. Hines, "The phase correlation image alignment method", IEEE Conf. on Cybernetics and Society, 1975. Part of a pixel: the centre
//! of mass of the 5x5 values around the peak, as OpenCV takes it.
//!
//! What can go wrong: a picture that changes rather than moves (a cut, flowing blood, speckle) has no peak; `response` tells. Motion of more than about a third of
//! the window, or a turn or zoom, is not seen.

use std::f64::consts::TAU;

use super::fourier::{Complex, multiply, transform};
use super::luma::Luma;

/// Largest side of the square that is compared, in pixels.
pub const MAX_SIDE: usize = 128;
/// Smallest one.
pub const MIN_SIDE: usize = 16;

/// A global motion in pixels: how far the content moved to the right and down.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shift {
    /// To the right.
    pub dx: f64,
    /// Down.
    pub dy: f64,
    /// Height of the peak, 0 (nothing in common) to about 1 (the same picture, moved).
    pub response: f64,
}

/// The middle square of a picture, windowed and transformed: made once per frame, compared with its neighbours.
pub struct Spectrum {
    side: usize,
    values: Vec<Complex>,
}

impl Spectrum {
    /// The largest square in the middle whose side is a power of two of [`MIN_SIDE`] to [`MAX_SIDE`]; `None` if the picture is smaller.
    pub fn of(luma: &Luma) -> Option<Spectrum> {
        let most = luma.width.min(luma.height).min(MAX_SIDE);
        if most < MIN_SIDE {
            return None;
        }
        let side = 1 << most.ilog2();
        let (x0, y0) = ((luma.width - side) / 2, (luma.height - side) / 2);
        let hann: Vec<f64> = (0..side).map(|i| 0.5 * (1.0 - (TAU * i as f64 / (side - 1) as f64).cos())).collect();
        let mut values: Vec<Complex> = Vec::with_capacity(side * side);
        for y in 0..side {
            let row = &luma.data[(y0 + y) * luma.width + x0..][..side];
            values.extend(row.iter().zip(&hann).map(|(&v, h)| (f64::from(v) * (h * hann[y]).sqrt(), 0.0)));
        }
        transform(&mut values, side);
        Some(Spectrum { side, values })
    }

    /// From this picture to a later one of the same size (`None`: of another size).
    pub fn to(&self, later: &Spectrum) -> Option<Shift> {
        let side = self.side;
        if later.side != side {
            return None;
        }
        // The cross-power spectrum, conjugated: its forward transform is the inverse one of the spectrum, as the result is real.
        let mut correlation: Vec<Complex> =
            self.values.iter().zip(&later.values).map(|(&a, &b)| phase(multiply((a.0, -a.1), b))).collect();
        transform(&mut correlation, side);
        let n = (side * side) as f64;
        // Zero motion in the middle; the transform of the conjugate is mirrored, which turns (later - earlier) into what is asked.
        let half = side / 2;
        let at = |x: usize, y: usize| correlation[((y + half) % side) * side + (x + half) % side].0 / n;
        let peak = (0..side * side)
            .map(|i| (i % side, i / side))
            .fold((0, 0), |best, p| if at(p.0, p.1) > at(best.0, best.1) { p } else { best });
        let around = |c: usize| c.saturating_sub(2)..(c + 3).min(side);
        let (mut sum, mut x_sum, mut y_sum) = (0.0, 0.0, 0.0);
        for y in around(peak.1) {
            for x in around(peak.0) {
                let value = at(x, y);
                sum += value;
                x_sum += x as f64 * value;
                y_sum += y as f64 * value;
            }
        }
        if sum.abs() <= f64::EPSILON {
            return Some(Shift::default()); // nothing in either picture
        }
        let middle = half as f64;
        Some(Shift { dx: middle - x_sum / sum, dy: middle - y_sum / sum, response: sum })
    }
}

fn phase(value: Complex) -> Complex {
    let length = value.0.hypot(value.1);
    if length > f64::EPSILON { (value.0 / length, value.1 / length) } else { (0.0, 0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(x: usize, y: usize) -> u8 {
        let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        (h >> 24) as u8
    }

    #[test]
    fn whole_pixels_are_found_and_the_direction_is_right() {
        let moved = |dx: usize, dy: usize| {
            let data = (0..150 * 140).map(|i| noise(i % 150 + 40 - dx, i / 150 + 40 - dy)).collect();
            Spectrum::of(&Luma { width: 150, height: 140, data }).unwrap()
        };
        let start = moved(20, 20);
        for (dx, dy) in [(20, 20), (23, 20), (20, 11), (35, 28), (0, 40)] {
            let shift = start.to(&moved(dx, dy)).unwrap();
            let (want_x, want_y) = (dx as f64 - 20.0, dy as f64 - 20.0);
            assert!((shift.dx - want_x).abs() < 0.2 && (shift.dy - want_y).abs() < 0.2, "{shift:?} for {want_x} {want_y}");
            assert!(shift.response > 0.2, "{shift:?}");
        }
    }

    #[test]
    fn small_and_flat_pictures_do_not_panic() {
        let flat = |width: usize, height: usize| Luma { width, height, data: vec![16; width * height] };
        assert!(Spectrum::of(&flat(15, 300)).is_none());
        let (a, b) = (Spectrum::of(&flat(20, 20)).unwrap(), Spectrum::of(&flat(64, 64)).unwrap());
        assert!(a.to(&b).is_none());
        assert_eq!(a.to(&a).map(|s| (s.dx, s.dy)), Some((0.0, 0.0)));
    }
}
