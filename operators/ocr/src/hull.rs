//! The convex hull of pixels (Andrew's monotone chain): corners only, counter-clockwise in a plane whose y points up, from the smallest x on.

/// Corners of the hull, none three of them in a line. One point or two when the input has no area; none when it is empty.
pub fn convex_hull(mut points: Vec<(i32, i32)>) -> Vec<(i32, i32)> {
    points.sort_unstable();
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let mut hull: Vec<(i32, i32)> = Vec::with_capacity(points.len() + 1);
    let mut chain = |points: &mut dyn Iterator<Item = (i32, i32)>| {
        let start = hull.len();
        for p in points {
            while hull.len() >= start + 2 && turn(hull[hull.len() - 2], hull[hull.len() - 1], p) <= 0 {
                hull.pop();
            }
            hull.push(p);
        }
        hull.pop(); // the other chain starts with it
    };
    chain(&mut points.iter().copied());
    chain(&mut points.iter().rev().copied());
    hull
}

/// Positive when the way from `a` over `b` to `c` turns left.
pub(crate) fn turn(a: (i32, i32), b: (i32, i32), c: (i32, i32)) -> i64 {
    let d = |p: i32, q: i32| i64::from(q) - i64::from(p);
    d(a.0, b.0) * d(a.1, c.1) - d(a.1, b.1) * d(a.0, c.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_point_is_inside_and_every_corner_is_a_point(points in prop::collection::vec((-40i32..40, -40i32..40), 0..60)) {
            let hull = convex_hull(points.clone());
            prop_assert!(hull.iter().all(|c| points.contains(c)));
            let n = hull.len();
            if n >= 3 {
                for i in 0..n {
                    let (a, b) = (hull[i], hull[(i + 1) % n]);
                    prop_assert!(turn(a, b, hull[(i + 2) % n]) > 0, "strictly convex");
                    prop_assert!(points.iter().all(|&p| turn(a, b, p) >= 0), "a point outside");
                }
            } else if let [a, b] = hull[..] {
                prop_assert!(points.iter().all(|&p| turn(a, b, p) == 0), "all in one line");
            }
        }
    }
}
