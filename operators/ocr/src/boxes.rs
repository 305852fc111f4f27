//! From the detector's map to text boxes: the post-processing of differentiable binarisation (DB), with RapidOCR's constants.
//!
//! The network is trained on text shrunk towards its middle, so that neighbouring lines stay apart; a box is therefore moved outwards by
//! `1.6 * area / perimeter` in the end. Its score is the mean of the map inside the box before that.

use crate::components::{Run, components};
use crate::hull::convex_hull;
use crate::rect::{Rect, smallest_rect};

/// Constants of the post-processing; the defaults are RapidOCR's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxSettings {
    /// A pixel of the map above this is text.
    pub pixel_threshold: f32,
    /// Boxes with a lower mean are dropped.
    pub min_score: f32,
    /// How far boxes grow, as a multiple of area / perimeter.
    pub unclip_ratio: f64,
    /// Regions with a shorter side are dropped, in pixels of the map.
    pub min_side: f64,
    /// Boxes with a shorter side after growing are dropped.
    pub min_grown_side: f64,
    /// At most this many boxes: the best ones by score.
    pub max_boxes: usize,
}

impl Default for BoxSettings {
    fn default() -> Self {
        BoxSettings {
            pixel_threshold: 0.3,
            min_score: 0.5,
            unclip_ratio: 1.6,
            min_side: 3.0,
            min_grown_side: 5.0,
            max_boxes: 1000,
        }
    }
}

/// A text box in pixels of the map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Where it is.
    pub rect: Rect,
    /// Mean of the map inside, 0 to 1.
    pub score: f32,
}

/// The boxes of a map of `width` columns, in the order of their first pixel.
pub fn text_boxes(map: &[f32], width: usize, settings: &BoxSettings) -> Vec<Scored> {
    let mut found: Vec<Scored> = components(map, width, settings.pixel_threshold)
        .iter()
        .filter_map(|region| text_box(map, width, region, settings))
        .collect();
    if found.len() > settings.max_boxes {
        // The best ones, equals in their order, and all in the order in which they were found.
        let mut best: Vec<usize> = (0..found.len()).collect();
        best.sort_by(|a, b| found[*b].score.total_cmp(&found[*a].score).then(a.cmp(b)));
        best.truncate(settings.max_boxes);
        best.sort_unstable();
        let mut at = 0;
        found.retain(|_| {
            at += 1;
            best.binary_search(&(at - 1)).is_ok()
        });
    }
    found
}

fn text_box(map: &[f32], width: usize, region: &[Run], settings: &BoxSettings) -> Option<Scored> {
    let ends = region.iter().flat_map(|r| [(r.first as i32, r.y as i32), (r.last as i32, r.y as i32)]).collect();
    let rect = smallest_rect(&convex_hull(ends)).filter(|r| r.shorter() >= settings.min_side)?;
    let score = mean_inside(map, width, &rect);
    if score.is_nan() || score < settings.min_score {
        return None;
    }
    let distance = rect.width * rect.height * settings.unclip_ratio / (2.0 * (rect.width + rect.height));
    let grown = rect.grown(distance);
    (grown.shorter() >= settings.min_grown_side).then_some(Scored { rect: grown, score })
}

/// Pixels whose centre is at most this far outside still count as inside, as a polygon filled with its outline has them.
const OUTLINE: f64 = 0.5;

/// Mean of the map over the pixels of a rectangle, row by row.
fn mean_inside(map: &[f32], width: usize, rect: &Rect) -> f32 {
    let rows = map.len() / width.max(1);
    let (sin, cos) = rect.angle.sin_cos();
    let (half_w, half_h) = (rect.width / 2.0 + OUTLINE, rect.height / 2.0 + OUTLINE);
    let reach = half_w * sin.abs() + half_h * cos.abs();
    let (mut sum, mut count) = (0.0, 0u64);
    for y in range(rect.y - reach, rect.y + reach, rows) {
        let dy = y as f64 - rect.y;
        // Along the side: |dx cos + dy sin| <= half_w; across it: |dy cos - dx sin| <= half_h.
        let (a, b) = slab(cos, dy * sin, half_w);
        let (c, d) = slab(-sin, dy * cos, half_h);
        let inside = range(rect.x + a.max(c), rect.x + b.min(d), width);
        count += inside.len() as u64;
        sum += map[y * width..][..width][inside].iter().map(|v| f64::from(*v)).sum::<f64>();
    }
    if count == 0 { 0.0 } else { (sum / count as f64) as f32 }
}

/// All `x` with `|slope * x + offset| <= limit`.
fn slab(slope: f64, offset: f64, limit: f64) -> (f64, f64) {
    if slope.abs() < 1e-12 {
        return if offset.abs() <= limit { (f64::NEG_INFINITY, f64::INFINITY) } else { (1.0, -1.0) };
    }
    let (a, b) = ((-limit - offset) / slope, (limit - offset) / slope);
    (a.min(b), a.max(b))
}

/// The whole numbers from `low` to `high` that are indexes below `end`.
fn range(low: f64, high: f64, end: usize) -> std::ops::Range<usize> {
    if low > high || high < 0.0 {
        return 0..0;
    }
    let start = (low.ceil().max(0.0) as usize).min(end);
    let stop = if high >= end as f64 { end } else { high.floor() as usize + 1 };
    start..stop.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean_by_pixel(map: &[f32], width: usize, r: &Rect) -> (f64, u64, u64) {
        let (sin, cos) = r.angle.sin_cos();
        let (mut sum, mut count, mut edge) = (0.0, 0, 0);
        for (i, v) in map.iter().enumerate() {
            let (dx, dy) = ((i % width) as f64 - r.x, (i / width) as f64 - r.y);
            let outside = |slack: f64| {
                (dx * cos + dy * sin).abs() > r.width / 2.0 + 0.5 + slack
                    || (dy * cos - dx * sin).abs() > r.height / 2.0 + 0.5 + slack
            };
            edge += u64::from(outside(-1e-6) != outside(1e-6));
            if !outside(0.0) {
                sum += f64::from(*v);
                count += 1;
            }
        }
        (if count == 0 { 0.0 } else { sum / count as f64 }, count, edge)
    }

    proptest! {
        #[test]
        fn the_mean_is_that_of_the_pixels_inside(
            x in -10f64..50.0, y in -10f64..40.0, w in 0f64..40.0, h in 0f64..30.0, angle in -0.785f64..0.785, seed in any::<u32>(),
        ) {
            let (width, rows) = (40, 30);
            let map: Vec<f32> = (0..width * rows as u32).map(|i| (i.wrapping_mul(2654435761).wrapping_add(seed) >> 8) as f32 / 16_777_216.0).collect();
            let rect = Rect { x, y, width: w, height: h, angle };
            let (want, _, edge) = mean_by_pixel(&map, width as usize, &rect);
            prop_assume!(edge == 0);
            prop_assert!((f64::from(mean_inside(&map, width as usize, &rect)) - want).abs() < 1e-5);
        }

        #[test]
        fn a_bar_of_text_gives_one_box_around_it(
            w in 24f64..150.0, h in 8f64..30.0, angle in -0.6f64..0.6, level in 0.55f32..1.0,
        ) {
            let (width, rows) = (240usize, 200usize);
            let bar = Rect { x: 120.0, y: 100.0, width: w, height: h, angle };
            let (sin, cos) = angle.sin_cos();
            let map: Vec<f32> = (0..width * rows).map(|i| {
                let (dx, dy) = ((i % width) as f64 - 120.0, (i / width) as f64 - 100.0);
                let inside = (dx * cos + dy * sin).abs() <= w / 2.0 && (dy * cos - dx * sin).abs() <= h / 2.0;
                if inside { level } else { 0.0 }
            }).collect();
            let found = text_boxes(&map, width, &BoxSettings { min_score: 0.4, ..BoxSettings::default() });
            prop_assert_eq!(found.len(), 1);
            let distance = w * h * 1.6 / (2.0 * (w + h));
            let want = bar.grown(distance);
            let rect = found[0].rect;
            prop_assert!((rect.x - want.x).abs() < 2.0 && (rect.y - want.y).abs() < 2.0, "{:?} {:?}", rect, want);
            let area = |r: &Rect| r.width * r.height;
            prop_assert!((area(&rect) / area(&want) - 1.0).abs() < 0.35, "{:?} {:?}", rect, want);
        }
    }

    #[test]
    fn faint_small_and_undefined_regions_are_no_text() {
        let (width, rows) = (64usize, 48usize);
        let bar = |level: f32, height: usize| -> Vec<f32> {
            (0..width * rows)
                .map(|i| if (20..20 + height).contains(&(i / width)) && (8..56).contains(&(i % width)) { level } else { 0.0 })
                .collect()
        };
        let boxes = |map: &[f32]| text_boxes(map, width, &BoxSettings::default()).len();
        assert_eq!(boxes(&bar(0.9, 10)), 1);
        assert_eq!(boxes(&bar(0.4, 10)), 0, "above the pixel threshold, below the box threshold");
        assert_eq!(boxes(&bar(0.9, 2)), 0, "two rows, three after widening: a side of two");
        assert_eq!(boxes(&bar(f32::NAN, 10)), 0);
        let mut map = bar(0.9, 10);
        map[25 * width + 30] = f32::NAN;
        assert_eq!(boxes(&map), 0, "a box whose mean is no number");
        assert_eq!(boxes(&[]), 0);
    }

    #[test]
    fn only_the_best_boxes_are_kept_when_there_are_too_many() {
        let (width, rows) = (100usize, 100usize);
        let map: Vec<f32> = (0..width * rows)
            .map(|i| if (i / width) % 25 < 10 && (i % width) % 50 < 30 { 0.6 + 0.05 * (i / width / 25) as f32 } else { 0.0 })
            .collect();
        assert_eq!(text_boxes(&map, width, &BoxSettings::default()).len(), 8);
        let few = text_boxes(&map, width, &BoxSettings { max_boxes: 4, ..BoxSettings::default() });
        assert!(few.len() <= 4 && few.iter().all(|b| b.rect.y > 40.0), "{few:?}");
    }
}
