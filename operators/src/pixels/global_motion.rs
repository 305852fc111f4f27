//! How the whole picture moves between two frames: shift, zoom and turn, from the shifts of its parts.
//!
//! The picture is covered with squares; phase correlation ([`super::shift`]) gives each one's shift, and a similarity (u = tx + s x - r y, v = ty +
//! r x + s y, x and y from the middle) is fitted to them by weighted least squares, the weights being Tukey's biweight of the residuals, repeated
//! from the median shift (P. J. Huber, "Robust Statistics", 1981). So a part that moves by itself, as long as it is the smaller one, has no say.
//!
//! What can go wrong: pictures that change rather than move, or that show nothing; then too few parts have a reliable shift, and there is no answer.

use super::luma::Luma;
use super::shift::{MIN_SIDE, Spectrum};

/// Largest side of a part, in pixels.
const MAX_PART: usize = 64;
/// Least response of a part that has a say, as in `jitter`.
const RELIABLE: f64 = 0.1;
/// Fewest parts with a say: a similarity has four unknowns, of which two parts say all.
const MIN_PARTS: usize = 4;
/// Least share of parts with a say.
const MIN_SHARE: f64 = 0.25;
/// Rounds of fitting.
const ROUNDS: usize = 12;
/// Residual in pixels beyond which a part has no weight; it shrinks to this from round to round.
const CUT_PX: f64 = 1.5;

/// A similarity between two frames, seen from the middle of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Motion {
    /// To the right, in pixels.
    pub dx: f64,
    /// Down, in pixels.
    pub dy: f64,
    /// Growth of distances: 0.01 is one percent larger.
    pub zoom: f64,
    /// Turn, in radians.
    pub turn: f64,
}

/// A picture's parts, transformed: made once per frame, compared with its neighbours.
pub struct Parts {
    /// Middle of each part from the middle of the picture, and its spectrum.
    parts: Vec<((f64, f64), Spectrum)>,
}

impl Parts {
    /// `None` if the picture is too small for parts.
    pub fn of(luma: &Luma) -> Option<Parts> {
        let most = (luma.width.min(luma.height) / 2).min(MAX_PART);
        if most < MIN_SIDE {
            return None;
        }
        let side = 1 << most.ilog2();
        // Overlapping by about a half, so that what is at the border of one is in the middle of another.
        let places = |length: usize| {
            let n = (2 * length / side).saturating_sub(1).max(2);
            (0..n).map(move |i| i * (length - side) / (n - 1))
        };
        let middle = (luma.width as f64 / 2.0, luma.height as f64 / 2.0);
        let mut parts = Vec::new();
        for y in places(luma.height) {
            for x in places(luma.width) {
                let rows = (y..y + side).flat_map(|row| &luma.data[row * luma.width + x..][..side]);
                let part = Luma { width: side, height: side, data: rows.copied().collect() };
                let half = side as f64 / 2.0;
                parts.push(((x as f64 + half - middle.0, y as f64 + half - middle.1), Spectrum::of(&part)?));
            }
        }
        Some(Parts { parts })
    }

    /// From this picture to a later one of the same size; `None` where too few parts agree on anything.
    pub fn to(&self, later: &Parts) -> Option<Motion> {
        let shifts = self.parts.iter().zip(&later.parts).filter_map(|((at, before), (_, after))| {
            let shift = before.to(after).filter(|s| s.response >= RELIABLE)?;
            Some((*at, (shift.dx, shift.dy)))
        });
        let shifts: Vec<((f64, f64), (f64, f64))> = shifts.collect();
        let enough = shifts.len() >= MIN_PARTS && shifts.len() as f64 >= MIN_SHARE * self.parts.len() as f64;
        enough.then(|| fit(&shifts)).flatten()
    }
}

/// The similarity that most of the shifts follow.
fn fit(shifts: &[((f64, f64), (f64, f64))]) -> Option<Motion> {
    let middle = |f: &dyn Fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = shifts.iter().map(|(_, v)| f(v)).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let mut motion = Motion { dx: middle(&|v| v.0), dy: middle(&|v| v.1), ..Motion::default() };
    let residual = |m: &Motion, at: (f64, f64), v: (f64, f64)| {
        let x = m.dx + m.zoom * at.0 - m.turn * at.1 - v.0;
        let y = m.dy + m.turn * at.0 + m.zoom * at.1 - v.1;
        x.hypot(y)
    };
    for round in 0..ROUNDS {
        // Wide at first, since a zoom moves the rim by more than the median says.
        let cut = CUT_PX * (1.0 + 8.0 * 0.5f64.powi(round as i32));
        let weighted = shifts.iter().filter_map(|&(at, v)| {
            let r = residual(&motion, at, v) / cut;
            (r < 1.0).then(|| (at, v, (1.0 - r * r).powi(2)))
        });
        motion = least_squares(&weighted.collect::<Vec<_>>())?;
    }
    let with = shifts.iter().filter(|&&(at, v)| residual(&motion, at, v) < CUT_PX).count();
    // A similarity that fewer than half of the parts follow is that of an object.
    (2 * with >= shifts.len() && with >= MIN_PARTS).then_some(motion)
}

/// Normal equations of the similarity; with coordinates from their weighted mean they fall apart into four quotients.
fn least_squares(points: &[((f64, f64), (f64, f64), f64)]) -> Option<Motion> {
    let sum = |f: &dyn Fn(&((f64, f64), (f64, f64), f64)) -> f64| points.iter().map(f).sum::<f64>();
    let weight = sum(&|p| p.2);
    if points.len() < MIN_PARTS || weight <= f64::EPSILON {
        return None;
    }
    let (mx, my) = (sum(&|p| p.2 * p.0.0) / weight, sum(&|p| p.2 * p.0.1) / weight);
    let (mu, mv) = (sum(&|p| p.2 * p.1.0) / weight, sum(&|p| p.2 * p.1.1) / weight);
    let spread = sum(&|p| p.2 * ((p.0.0 - mx).powi(2) + (p.0.1 - my).powi(2)));
    if spread <= f64::EPSILON {
        return None;
    }
    let zoom = sum(&|p| p.2 * ((p.0.0 - mx) * (p.1.0 - mu) + (p.0.1 - my) * (p.1.1 - mv))) / spread;
    let turn = sum(&|p| p.2 * ((p.0.0 - mx) * (p.1.1 - mv) - (p.0.1 - my) * (p.1.0 - mu))) / spread;
    Some(Motion { dx: mu - zoom * mx + turn * my, dy: mv - turn * mx - zoom * my, zoom, turn })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A smooth picture that is defined everywhere, seen through a similarity.
    fn picture(m: Motion, width: usize, height: usize) -> Luma {
        let noise = |x: i64, y: i64, salt: u32| {
            let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA6B) ^ salt;
            h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
            f64::from(h >> 16) / 65_536.0
        };
        let smooth = |x: f64, y: f64, scale: f64, salt: u32| {
            let (x, y) = (x / scale, y / scale);
            let (i, j) = (x.floor() as i64, y.floor() as i64);
            let (u, v) = (x - x.floor(), y - y.floor());
            let row = |j: i64| noise(i, j, salt) * (1.0 - u) + noise(i + 1, j, salt) * u;
            row(j) * (1.0 - v) + row(j + 1) * v
        };
        let (w, h) = (width as f64 / 2.0, height as f64 / 2.0);
        let size = (1.0 + m.zoom).powi(2) + m.turn.powi(2);
        let value = |i: usize| {
            // The content has moved by m: look where it came from.
            let (x, y) = ((i % width) as f64 + 0.5 - w - m.dx, (i / width) as f64 + 0.5 - h - m.dy);
            let (x, y) = (((1.0 + m.zoom) * x + m.turn * y) / size, ((1.0 + m.zoom) * y - m.turn * x) / size);
            (20.0 + 100.0 * smooth(x, y, 17.0, 1) + 60.0 * smooth(x, y, 6.0, 2) + 30.0 * smooth(x, y, 3.0, 3)) as u8
        };
        Luma { width, height, data: (0..width * height).map(value).collect() }
    }

    #[test]
    fn known_motions_are_found() {
        let start = Parts::of(&picture(Motion::default(), 256, 144)).unwrap();
        for m in [
            Motion::default(),
            Motion { dx: 7.0, dy: -3.0, ..Motion::default() },
            Motion { dx: -12.5, dy: 0.4, ..Motion::default() },
            Motion { zoom: 0.02, ..Motion::default() },
            Motion { zoom: -0.03, dx: 2.0, ..Motion::default() },
            Motion { turn: 0.02, ..Motion::default() },
        ] {
            let found = start.to(&Parts::of(&picture(m, 256, 144)).unwrap()).unwrap();
            let near = (found.dx - m.dx).abs() < 0.35 && (found.dy - m.dy).abs() < 0.35;
            assert!(near && (found.zoom - m.zoom).abs() < 0.004 && (found.turn - m.turn).abs() < 0.004, "{found:?} for {m:?}");
        }
    }

    #[test]
    fn something_that_moves_by_itself_is_no_camera() {
        let (still, moved) = (picture(Motion::default(), 256, 144), picture(Motion { dx: 9.0, ..Motion::default() }, 256, 144));
        // A third of the picture is taken from the moved one.
        let mix = |x: usize, i: usize| if x > 170 { moved.data[i] } else { still.data[i] };
        let mixed = Luma { width: 256, height: 144, data: (0..256 * 144).map(|i| mix(i % 256, i)).collect() };
        let found = Parts::of(&still).unwrap().to(&Parts::of(&mixed).unwrap()).unwrap();
        assert!(found.dx.abs() < 0.3 && found.zoom.abs() < 0.003, "{found:?}");
        // Nothing in common, nothing to see, nothing of that size.
        let other = picture(Motion { dx: 9000.0, ..Motion::default() }, 256, 144);
        assert_eq!(Parts::of(&still).unwrap().to(&Parts::of(&other).unwrap()), None);
        let flat = Parts::of(&Luma { width: 256, height: 144, data: vec![16; 256 * 144] }).unwrap();
        assert_eq!(flat.to(&flat), None);
        assert!(Parts::of(&Luma { width: 300, height: 31, data: vec![16; 9300] }).is_none());
        assert!(Parts::of(&Luma { width: 33, height: 32, data: vec![16; 33 * 32] }).is_some());
    }

    proptest! {
        /// With exact shifts and a few wild ones, the similarity comes out exactly.
        #[test]
        fn the_fit_is_exact_for_exact_shifts(
            (dx, dy) in (-20.0..20.0f64, -20.0..20.0f64),
            (zoom, turn) in (-0.04..0.04f64, -0.04..0.04f64),
            wild in 0usize..4,
        ) {
            let grid = (0..5).flat_map(|x| (0..3).map(move |y| (x as f64 * 48.0 - 96.0, y as f64 * 40.0 - 40.0)));
            let shift = |at: (f64, f64)| (dx + zoom * at.0 - turn * at.1, dy + turn * at.0 + zoom * at.1);
            let mut shifts: Vec<_> = grid.map(|at| (at, shift(at))).collect();
            for (k, item) in shifts.iter_mut().take(wild).enumerate() {
                item.1 = (40.0 + 9.0 * k as f64, -35.0);
            }
            let found = fit(&shifts).unwrap();
            prop_assert!((found.dx - dx).abs() < 1e-6 && (found.dy - dy).abs() < 1e-6, "{:?}", found);
            prop_assert!((found.zoom - zoom).abs() < 1e-8 && (found.turn - turn).abs() < 1e-8, "{:?}", found);
        }
    }
}
