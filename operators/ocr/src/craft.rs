//! From CRAFT's two maps to word boxes: the post-processing of EasyOCR (`craft_utils.getDetBoxes`), number for number.
//!
//! The region map is high in the middle of a character, the affinity map between two characters of a word. What is above a threshold in either and
//! touches (not diagonally) is a word; it is dropped when no pixel of it is certain. The pixels that are in the region map are then widened, because
//! characters are trained as blobs smaller than they are, and the smallest rectangle around them is the box.
//!
//! A widened run is a rectangle, so that the corners of all of these hold the corners of the region's hull; the oracle in the tests widens pixel by
//! pixel. What can go wrong: two rectangles of the same area around one region; OpenCV may choose the other one.

use crate::components::{Neighbours, Run, regions};
use crate::hull::convex_hull;
use crate::rect::smallest_rect;

/// Constants of the post-processing; the defaults are EasyOCR's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CraftSettings {
    /// A word has a pixel of at least this in the region map.
    pub text_threshold: f32,
    /// Pixels of the region map above this belong to a word.
    pub low_text: f32,
    /// Pixels of the affinity map above this join characters.
    pub link_threshold: f32,
    /// Smaller words are dropped, in pixels of the map.
    pub min_pixels: usize,
}

impl Default for CraftSettings {
    fn default() -> Self {
        CraftSettings { text_threshold: 0.7, low_text: 0.4, link_threshold: 0.4, min_pixels: 10 }
    }
}

/// Upper left, upper right, lower right, lower left, in pixels of the map.
pub type Quad = [(f64, f64); 4];

/// A box around a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Word {
    /// Where it is.
    pub quad: Quad,
    /// The largest number of the region map inside.
    pub score: f32,
}

/// Sides that differ by less than this share are those of a diamond: the upright box is taken, because the angle of one character says nothing.
const DIAMOND: f64 = 0.1;

/// The words of two maps of `width` columns, in the order of their first pixel. Pixels that only one of the maps has are not looked at.
pub fn words(region: &[f32], affinity: &[f32], width: usize, settings: &CraftSettings) -> Vec<Word> {
    let rows = region.len().min(affinity.len()).checked_div(width).unwrap_or(0);
    let found = regions(width, rows, Neighbours::Four, |y, row| {
        let line = y * width..(y + 1) * width;
        let both = region[line.clone()].iter().zip(&affinity[line]);
        row.iter_mut().zip(both).for_each(|(on, (r, a))| *on = *r > settings.low_text || *a > settings.link_threshold);
    });
    found.iter().filter_map(|runs| word(region, runs, (width, rows), settings)).collect()
}

fn word(region: &[f32], runs: &[Run], (width, rows): (usize, usize), settings: &CraftSettings) -> Option<Word> {
    let size: usize = runs.iter().map(length).sum();
    let score = runs.iter().flat_map(|r| values(region, width, r)).fold(f32::NEG_INFINITY, |a, b| a.max(*b));
    if size < settings.min_pixels || score < settings.text_threshold {
        return None;
    }
    let widening = widening(size, runs);
    let after = (widening + 1) / 2;
    let before = widening - after;
    let (right, bottom) = (width as i32 - 1, rows as i32 - 1);
    let mut corners = Vec::new();
    for run in runs {
        // Pixels that are there for the affinity alone join words but do not widen them.
        let line = values(region, width, run);
        let is_text = |v: &f32| *v > settings.low_text;
        let Some(first) = line.iter().position(is_text) else { continue };
        let last = line.iter().rposition(is_text).unwrap_or(first);
        let (left, y) = (run.first as i32, run.y as i32);
        let xs = [(left + first as i32 - before).max(0), (left + last as i32 + after).min(right)];
        let ys = [(y - before).max(0), (y + after).min(bottom)];
        corners.extend(xs.iter().flat_map(|x| ys.map(|y| (*x, y))));
    }
    let hull = convex_hull(corners);
    let rect = smallest_rect(&hull)?;
    let (longer, shorter) = (rect.width.max(rect.height), rect.shorter());
    let quad = if (1.0 - longer / (shorter + 1e-5)).abs() <= DIAMOND { upright(&hull) } else { rect.corners() };
    Some(Word { quad, score })
}

/// How many pixels wider and higher a word becomes: twice the root of the share of its bounding box that it fills, times that box's shorter side.
fn widening(size: usize, runs: &[Run]) -> i32 {
    let columns = runs.iter().map(|r| r.first).min().unwrap_or(0)..=runs.iter().map(|r| r.last).max().unwrap_or(0);
    let rows = runs.first().map_or(0, |r| r.y)..=runs.last().map_or(0, |r| r.y);
    let (w, h) = (f64::from(columns.end() - columns.start() + 1), f64::from(rows.end() - rows.start() + 1));
    ((size as f64 * w.min(h) / (w * h)).sqrt() * 2.0) as i32
}

fn length(run: &Run) -> usize {
    (run.last - run.first + 1) as usize
}

fn values<'a>(map: &'a [f32], width: usize, run: &Run) -> &'a [f32] {
    &map[run.y as usize * width + run.first as usize..][..length(run)]
}

fn upright(points: &[(i32, i32)]) -> Quad {
    let extent = |of: fn(&(i32, i32)) -> i32| {
        let values = points.iter().map(of);
        (f64::from(values.clone().min().unwrap_or(0)), f64::from(values.max().unwrap_or(0)))
    };
    let ((left, right), (top, bottom)) = (extent(|p| p.0), extent(|p| p.1));
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As EasyOCR does it: masks of the whole map for each word, widened pixel by pixel.
    fn slow(region: &[f32], affinity: &[f32], width: usize, s: &CraftSettings) -> Vec<Word> {
        let rows = region.len() / width;
        let is_text = |i: usize| region[i] > s.low_text;
        let mut open: Vec<bool> = (0..region.len()).map(|i| is_text(i) || affinity[i] > s.link_threshold).collect();
        let mut out = Vec::new();
        for start in 0..open.len() {
            let (mut word, mut todo) = (Vec::new(), Vec::new());
            if std::mem::take(&mut open[start]) {
                todo.push(start);
            }
            while let Some(i) = todo.pop() {
                word.push(i);
                let (x, y) = (i % width, i / width);
                let beside = [
                    (x > 0).then(|| i - 1),
                    (x + 1 < width).then(|| i + 1),
                    (y > 0).then(|| i - width),
                    (y + 1 < rows).then(|| i + width),
                ];
                todo.extend(beside.into_iter().flatten().filter(|&n| std::mem::take(&mut open[n])));
            }
            let peak = word.iter().map(|&i| region[i]).fold(f32::NEG_INFINITY, f32::max);
            if word.len() < s.min_pixels || peak < s.text_threshold {
                continue;
            }
            let span = |of: &dyn Fn(usize) -> usize| {
                word.iter().map(|&i| of(i)).max().unwrap() - word.iter().map(|&i| of(i)).min().unwrap() + 1
            };
            let (w, h) = (span(&|i| i % width) as f64, span(&|i| i / width) as f64);
            let n = ((word.len() as f64 * w.min(h) / (w * h)).sqrt() * 2.0) as i32;
            // OpenCV's kernel of 1 + n pixels with its anchor at (1 + n) / 2: a pixel is on when one under the kernel is.
            let (kernel, anchor) = (1 + n, (1 + n) / 2);
            let mut points = Vec::new();
            for y in 0..rows as i32 {
                for x in 0..width as i32 {
                    let on = (0..kernel).any(|ky| {
                        (0..kernel).any(|kx| {
                            let (px, py) = (x + kx - anchor, y + ky - anchor);
                            let inside = (0..width as i32).contains(&px) && (0..rows as i32).contains(&py);
                            inside
                                && word.contains(&((py as usize) * width + px as usize))
                                && is_text(py as usize * width + px as usize)
                        })
                    });
                    if on {
                        points.push((x, y));
                    }
                }
            }
            let rect = smallest_rect(&convex_hull(points.clone())).unwrap();
            let ratio = rect.width.max(rect.height) / (rect.shorter() + 1e-5);
            let quad = if (1.0 - ratio).abs() <= 0.1 { upright(&points) } else { rect.corners() };
            out.push(Word { quad, score: peak });
        }
        out
    }

    /// Blobs on a map: centre, radii, height.
    fn blobs(width: usize, rows: usize, blobs: &[(f32, f32, f32, f32, f32)]) -> Vec<f32> {
        let value = |i: usize| {
            let (x, y) = ((i % width) as f32, (i / width) as f32);
            let one = |&(cx, cy, rx, ry, peak): &(f32, f32, f32, f32, f32)| {
                peak * (-0.5 * (((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2))).exp()
            };
            blobs.iter().map(one).fold(0.0, f32::max)
        };
        (0..width * rows).map(value).collect()
    }

    fn blob() -> impl Strategy<Value = (f32, f32, f32, f32, f32)> {
        (0f32..40.0, 0f32..28.0, 1f32..6.0, 1f32..4.0, 0.3f32..1.0)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn words_are_those_of_the_slow_way(
            text in prop::collection::vec(blob(), 0..6), link in prop::collection::vec(blob(), 0..4), width in 8usize..40, rows in 6usize..28,
        ) {
            let (region, affinity) = (blobs(width, rows, &text), blobs(width, rows, &link));
            let settings = CraftSettings::default();
            prop_assert_eq!(words(&region, &affinity, width, &settings), slow(&region, &affinity, width, &settings));
        }

        #[test]
        fn speckle_gives_the_same_words_too(width in 4usize..24, rows in 4usize..24, density in 0.1f32..0.7, seed in any::<u64>()) {
            let mut state = seed | 1;
            let mut map = || -> Vec<f32> {
                (0..width * rows).map(|_| {
                    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
                    if (state >> 40) as f32 / 16_777_216.0 < density { 0.8 } else { 0.1 }
                }).collect()
            };
            let (region, affinity) = (map(), map());
            let settings = CraftSettings::default();
            prop_assert_eq!(words(&region, &affinity, width, &settings), slow(&region, &affinity, width, &settings));
        }
    }

    #[test]
    fn affinity_joins_two_characters_and_alone_is_no_word() {
        let width = 60;
        let characters = [(15.0, 15.0, 4.0, 4.0, 1.0), (35.0, 15.0, 4.0, 4.0, 0.9)];
        let (region, none) = (blobs(width, 30, &characters), vec![0.0; width * 30]);
        let between = blobs(width, 30, &[(25.0, 15.0, 6.0, 2.0, 1.0)]);
        let of = |region: &[f32], affinity: &[f32]| words(region, affinity, width, &CraftSettings::default());
        assert_eq!(of(&region, &none).len(), 2);
        let joined = of(&region, &between);
        assert_eq!(joined.len(), 1);
        assert!(joined[0].quad[1].0 - joined[0].quad[0].0 > 28.0 && joined[0].score == 1.0, "{joined:?}");
        assert!(of(&none, &between).is_empty());
        let faint: Vec<f32> = region.iter().map(|v| v * 0.69).collect();
        assert!(of(&faint, &none).is_empty(), "above low_text, below text_threshold");
        assert!(of(&[f32::NAN; 1800], &none).is_empty() && of(&[], &[]).is_empty());
        assert!(words(&region, &none, 0, &CraftSettings::default()).is_empty());
    }
}
