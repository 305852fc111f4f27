//! The rectangle of least area around a hull, by rotating calipers: one of its sides lies on an edge of the hull (Freeman and Shapira 1975), and the
//! corners that touch the other three sides only move forward as the edge does (Shamos 1978), so all edges together cost one walk around.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// A turned rectangle. Pixels are points: a single one has no size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    /// Centre, column.
    pub x: f64,
    /// Centre, row.
    pub y: f64,
    /// Length of the side that is closest to horizontal.
    pub width: f64,
    /// Length of the other side.
    pub height: f64,
    /// How far the first side is turned from horizontal towards the rows below, in radians, from -45 to 45 degrees.
    pub angle: f64,
}

impl Rect {
    /// Corners: upper left, upper right, lower right, lower left.
    pub fn corners(&self) -> [(f64, f64); 4] {
        let (sin, cos) = self.angle.sin_cos();
        let (w, h) = (self.width / 2.0, self.height / 2.0);
        [(-w, -h), (w, -h), (w, h), (-w, h)].map(|(u, v)| (self.x + u * cos - v * sin, self.y + u * sin + v * cos))
    }

    /// The shorter side.
    pub fn shorter(&self) -> f64 {
        self.width.min(self.height)
    }

    /// The same with every side moved outwards.
    pub fn grown(self, distance: f64) -> Rect {
        Rect { width: self.width + 2.0 * distance, height: self.height + 2.0 * distance, ..self }
    }
}

/// The smallest rectangle around the corners of a hull as [`crate::hull::convex_hull`] gives them. With several of the same area, the first edge's.
pub fn smallest_rect(hull: &[(i32, i32)]) -> Option<Rect> {
    let n = hull.len();
    let at = |i: usize| (f64::from(hull[i % n].0), f64::from(hull[i % n].1));
    match n {
        0 => return None,
        1 => return Some(Rect { x: at(0).0, y: at(0).1, width: 0.0, height: 0.0, angle: 0.0 }),
        2 => return Some(around(at(0), direction(at(0), at(1))?, [at(0), at(1), at(0), at(0)])),
        _ => {}
    }
    let mut best: Option<Rect> = None;
    // Corners farthest along the edge, away from it, and against it; each at or after the one before.
    let (mut along, mut away, mut against) = (1, 1, 1);
    for edge in 0..n {
        let (ux, uy) = direction(at(edge), at(edge + 1))?;
        let u = |i: usize| at(i).0 * ux + at(i).1 * uy;
        let v = |i: usize| at(i).1 * ux - at(i).0 * uy;
        along = along.max(edge + 1);
        while u(along + 1) > u(along) {
            along += 1;
        }
        away = away.max(along);
        while v(away + 1) > v(away) {
            away += 1;
        }
        against = against.max(away);
        while against < edge + n && u(against + 1) < u(against) {
            against += 1;
        }
        let rect = around(at(edge), (ux, uy), [at(against), at(along), at(edge), at(away)]);
        // Strictly smaller, beyond rounding.
        if best.is_none_or(|b| rect.width * rect.height < b.width * b.height * (1.0 - 1e-12)) {
            best = Some(rect);
        }
    }
    best
}

fn direction(a: (f64, f64), b: (f64, f64)) -> Option<(f64, f64)> {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let length = dx.hypot(dy);
    (length > 0.0).then(|| (dx / length, dy / length))
}

/// The rectangle along `u` through four points: least and most along it, least and most across it.
fn around(origin: (f64, f64), (ux, uy): (f64, f64), [u0, u1, v0, v1]: [(f64, f64); 4]) -> Rect {
    // Relative to a corner nearby, so that large coordinates cost no digits.
    let u = |p: (f64, f64)| (p.0 - origin.0) * ux + (p.1 - origin.1) * uy;
    let v = |p: (f64, f64)| (p.1 - origin.1) * ux - (p.0 - origin.0) * uy;
    let (cu, cv) = ((u(u0) + u(u1)) / 2.0, (v(v0) + v(v1)) / 2.0);
    let (mut width, mut height, mut angle) = (u(u1) - u(u0), v(v1) - v(v0), uy.atan2(ux));
    while angle > FRAC_PI_4 {
        angle -= FRAC_PI_2;
        std::mem::swap(&mut width, &mut height);
    }
    while angle < -FRAC_PI_4 {
        angle += FRAC_PI_2;
        std::mem::swap(&mut width, &mut height);
    }
    Rect { x: origin.0 + cu * ux - cv * uy, y: origin.1 + cu * uy + cv * ux, width, height, angle }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hull::convex_hull;
    use proptest::prelude::*;

    /// Area of the rectangle at an angle, all points looked at.
    fn area_at(points: &[(i32, i32)], angle: f64) -> f64 {
        let (sin, cos) = angle.sin_cos();
        let extent = |f: &dyn Fn(f64, f64) -> f64| {
            let values = points.iter().map(|&(x, y)| f(f64::from(x), f64::from(y)));
            let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            high - low
        };
        extent(&|x, y| x * cos + y * sin) * extent(&|x, y| y * cos - x * sin)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn no_angle_gives_a_smaller_rectangle(points in prop::collection::vec((-60i32..60, -25i32..25), 1..50)) {
            let rect = smallest_rect(&convex_hull(points.clone())).unwrap();
            let area = rect.width * rect.height;
            for step in 0..900 {
                let other = area_at(&points, FRAC_PI_2 * f64::from(step) / 900.0);
                prop_assert!(area <= other + 1e-6, "{area} at {:?}, {other} at step {step}", rect);
            }
            // It is the rectangle at its own angle, and every point is in it.
            prop_assert!((area - area_at(&points, rect.angle)).abs() < 1e-6);
            let (sin, cos) = rect.angle.sin_cos();
            for &(x, y) in &points {
                let (dx, dy) = (f64::from(x) - rect.x, f64::from(y) - rect.y);
                prop_assert!((dx * cos + dy * sin).abs() <= rect.width / 2.0 + 1e-6);
                prop_assert!((dy * cos - dx * sin).abs() <= rect.height / 2.0 + 1e-6);
            }
            prop_assert!(rect.angle.abs() <= FRAC_PI_4 + 1e-12);
        }

        #[test]
        fn a_turned_rectangle_is_found_again(w in 20f64..200.0, h in 5f64..60.0, angle in -0.7f64..0.7) {
            let drawn = Rect { x: 300.0, y: 200.0, width: w, height: h, angle };
            let points: Vec<(i32, i32)> = drawn.corners().iter().map(|c| (c.0.round() as i32, c.1.round() as i32)).collect();
            let found = smallest_rect(&convex_hull(points)).unwrap();
            prop_assert!((found.x - 300.0).abs() < 1.5 && (found.y - 200.0).abs() < 1.5);
            prop_assert!((found.width * found.height - w * h).abs() < 2.0 * (w + h) + 4.0);
        }
    }

    #[test]
    fn corners_go_around_from_the_upper_left() {
        let r = Rect { x: 10.0, y: 5.0, width: 8.0, height: 2.0, angle: 0.0 };
        assert_eq!(r.corners(), [(6.0, 4.0), (14.0, 4.0), (14.0, 6.0), (6.0, 6.0)]);
        assert_eq!(r.grown(1.0).corners()[2], (15.0, 7.0));
    }
}
