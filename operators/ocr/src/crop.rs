//! Cuts a text box out of a picture as a strip of 48 rows, straightened, bilinear: the recogniser's input.
//!
//! A box is a parallelogram (a turned rectangle, stretched a little by the detector's rounding to 32), so that the way from strip to picture is affine.
//! Boxes that are much higher than wide hold upright text turned by 90 degrees, and are turned back counter-clockwise, as the model's authors do.

use crate::Picture;
use crate::prepare::normalised;

/// Rows of a strip.
pub const STRIP_HEIGHT: usize = 48;
/// Columns of the longest strip: 75 times as wide as high. Longer boxes are squeezed.
pub const MAX_STRIP_WIDTH: usize = 3600;
/// A box at least this much higher than wide is turned.
pub const TURN_FROM: f64 = 1.5;

/// A parallelogram in pixels of a picture: upper left, upper right, lower right, lower left.
pub type Corners = [(f64, f64); 4];

/// A box with its text lying from left to right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Strip {
    origin: (f64, f64),
    along: (f64, f64),
    down: (f64, f64),
    /// Columns, at least 1.
    pub width: usize,
}

impl Strip {
    /// How a box becomes a strip.
    pub fn of(corners: &Corners) -> Strip {
        let [a, b, _, d] = *corners;
        let minus = |p: (f64, f64), q: (f64, f64)| (p.0 - q.0, p.1 - q.1);
        let (along, down) = (minus(b, a), minus(d, a));
        let length = |v: (f64, f64)| v.0.hypot(v.1);
        let (w, h) = (length(along), length(down));
        let (origin, along, down, w, h) = if h >= TURN_FROM * w {
            // Counter-clockwise: the upper right corner becomes the upper left one.
            (b, down, (-along.0, -along.1), h, w)
        } else {
            (a, along, down, w, h)
        };
        let columns = (STRIP_HEIGHT as f64 * w / h).ceil();
        let width = if columns.is_finite() { (columns as usize).clamp(1, MAX_STRIP_WIDTH) } else { 1 };
        Strip { origin, along, down, width }
    }

    /// Fills planes of blue, green, red with `stride >= width` columns and 48 rows each. Outside of the picture its edge goes on.
    pub fn fill(&self, picture: &Picture, planes: &mut [f32], stride: usize) {
        let (right, bottom) = ((picture.width() - 1) as f64, (picture.height() - 1) as f64);
        let plane = stride * STRIP_HEIGHT;
        for row in 0..STRIP_HEIGHT {
            let v = (row as f64 + 0.5) / STRIP_HEIGHT as f64;
            for column in 0..self.width.min(stride) {
                let u = (column as f64 + 0.5) / self.width as f64;
                let x = clamped(self.origin.0 + u * self.along.0 + v * self.down.0, right);
                let y = clamped(self.origin.1 + u * self.along.1 + v * self.down.1, bottom);
                let rgb = bilinear(picture, x, y);
                for (channel, value) in rgb.into_iter().rev().enumerate() {
                    if let Some(out) = planes.get_mut(channel * plane + row * stride + column) {
                        *out = value;
                    }
                }
            }
        }
    }
}

/// Into `[0, most]`; what is no number becomes 0.
fn clamped(value: f64, most: f64) -> f64 {
    value.max(0.0).min(most)
}

/// Red, green, blue at a point inside the picture, from -1 to 1.
fn bilinear(picture: &Picture, x: f64, y: f64) -> [f32; 3] {
    let (left, top) = (x as usize, y as usize);
    let (right, bottom) = ((left + 1).min(picture.width() - 1), (top + 1).min(picture.height() - 1));
    let (fx, fy) = ((x - left as f64) as f32, (y - top as f64) as f32);
    let (upper, lower) = (picture.row(top), picture.row(bottom));
    std::array::from_fn(|c| {
        let at = |row: &[u8], column: usize| normalised(row[3 * column + c]);
        let above = at(upper, left) + (at(upper, right) - at(upper, left)) * fx;
        let below = at(lower, left) + (at(lower, right) - at(lower, left)) * fx;
        above + (below - above) * fy
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A picture whose red is the column and whose green is the row.
    fn ramp() -> Vec<u8> {
        (0..100u8).flat_map(|y| (0..200u8).flat_map(move |x| [x, y, 7])).collect()
    }

    fn strip(corners: &Corners) -> (Vec<f32>, usize) {
        let rgb = ramp();
        let strip = Strip::of(corners);
        let mut planes = vec![9.0; 3 * STRIP_HEIGHT * strip.width];
        strip.fill(&Picture::new(200, 100, &rgb).unwrap(), &mut planes, strip.width);
        (planes, strip.width)
    }

    fn level(value: f32) -> f64 {
        f64::from((value + 1.0) * 127.5)
    }

    proptest! {
        /// On a linear picture bilinear sampling is exact, so that every sample tells where it was taken.
        #[test]
        fn samples_come_from_where_they_should(x in 40f64..120.0, y in 40f64..60.0, w in 10f64..60.0, h in 5f64..20.0, angle in -0.5f64..0.5) {
            let rect = crate::rect::Rect { x, y, width: w, height: h, angle };
            let corners = rect.corners();
            let (planes, width) = strip(&corners);
            let plane = width * STRIP_HEIGHT;
            let turned = h >= TURN_FROM * w;
            for (row, column) in [(0, 0), (47, width - 1), (20, width / 3)] {
                let (u, v) = ((column as f64 + 0.5) / width as f64, (row as f64 + 0.5) / 48.0);
                // Back in the box's own axes.
                let (u, v) = if turned { (1.0 - v, u) } else { (u, v) };
                let (sin, cos) = angle.sin_cos();
                let (du, dv) = ((u - 0.5) * w, (v - 0.5) * h);
                let (sx, sy) = (x + du * cos - dv * sin, y + du * sin + dv * cos);
                prop_assert!((level(planes[2 * plane + row * width + column]) - sx).abs() < 0.01);
                prop_assert!((level(planes[plane + row * width + column]) - sy).abs() < 0.01);
                prop_assert!((level(planes[row * width + column]) - 7.0).abs() < 0.01);
            }
        }
    }

    #[test]
    fn outside_of_the_picture_its_edge_goes_on_and_nonsense_does_not_panic() {
        let (planes, width) = strip(&[(-50.0, -50.0), (-10.0, -50.0), (-10.0, -30.0), (-50.0, -30.0)]);
        let plane = width * STRIP_HEIGHT;
        assert!(planes[2 * plane..].iter().all(|v| level(*v).abs() < 0.01), "column 0");
        for corners in [[(0.0, 0.0); 4], [(f64::NAN, 1.0); 4], [(f64::INFINITY, 1.0), (0.0, 0.0), (1.0, 1.0), (2.0, 2.0)]] {
            let (_, width) = strip(&corners);
            assert!((1..=MAX_STRIP_WIDTH).contains(&width));
        }
        assert_eq!(strip(&[(0.0, 0.0), (199.0, 0.0), (199.0, 1.0), (0.0, 1.0)]).1, MAX_STRIP_WIDTH);
    }
}
