//! How much the content of neighbouring frames differs, as PySceneDetect's `ContentDetector` measures it: mean absolute differences of hue, saturation, value and
//! edges, 0 to 255.
//!
//! Source: PySceneDetect 0.7.2, `detectors/content_detector.py` (BSD-3-Clause), described there and in its documentation; written anew and held by golden vectors.
//! The difference of hues is not taken around the circle: 179 and 0 are far apart, there as here. What can go wrong: a picture of another size has no neighbour; callers bring
//! all to one size.

use super::canny::canny;
use super::hsv::Hsv;
use super::luma::Luma;

/// Differences from one frame to the next, 0 to 255 each.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Components {
    /// Of hues.
    pub hue: f64,
    /// Of saturations.
    pub sat: f64,
    /// Of values, which PySceneDetect calls luma.
    pub lum: f64,
    /// Of edges; 0 where they are not looked for.
    pub edges: f64,
}

impl Components {
    /// Their weighted sum over the sum of the absolute weights.
    pub fn weighted(&self, weights: [f64; 4]) -> f64 {
        let parts = [self.hue, self.sat, self.lum, self.edges];
        let sum: f64 = parts.iter().zip(weights).map(|(part, weight)| part * weight).sum();
        sum / weights.iter().map(|w| w.abs()).sum::<f64>()
    }
}

/// Compares each frame with the one before.
pub struct Comparer {
    edges: bool,
    kernel: Option<usize>,
    last: Option<Seen>,
}

struct Seen {
    size: (u32, u32),
    hsv: Hsv,
    edges: Option<Vec<u8>>,
}

impl Comparer {
    /// `edges`: look for edges too, and widen them by a square of `kernel` pixels (`None`: by the size of the first frame).
    pub fn new(edges: bool, kernel: Option<usize>) -> Self {
        Comparer { edges, kernel, last: None }
    }

    /// The differences to the frame before; zeros for the first one, `None` for one of another size, which is passed over.
    pub fn next(&mut self, width: u32, height: u32, rgb: &[u8]) -> Option<Components> {
        if self.last.as_ref().is_some_and(|last| last.size != (width, height)) {
            return None;
        }
        let hsv = Hsv::of_rgb(rgb);
        let edges = self.edges.then(|| {
            let kernel = *self.kernel.get_or_insert_with(|| kernel_size(width, height));
            wide_edges(width as usize, height as usize, &hsv.value, kernel)
        });
        let seen = Seen { size: (width, height), hsv, edges };
        let components = self.last.as_ref().map_or_else(Components::default, |last| seen.differences(last));
        self.last = Some(seen);
        Some(components)
    }
}

impl Seen {
    fn differences(&self, last: &Seen) -> Components {
        let edges = self.edges.as_ref().zip(last.edges.as_ref());
        Components {
            hue: mean_distance(&self.hsv.hue, &last.hsv.hue),
            sat: mean_distance(&self.hsv.sat, &last.hsv.sat),
            lum: mean_distance(&self.hsv.value, &last.hsv.value),
            edges: edges.map_or(0.0, |(a, b)| mean_distance(a, b)),
        }
    }
}

fn mean_distance(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len().max(1) as f64
}

/// Odd, larger for larger pictures.
pub fn kernel_size(width: u32, height: u32) -> usize {
    let size = 4 + ((f64::from(width) * f64::from(height)).sqrt() / 192.0).round_ties_even() as usize;
    size + usize::from(size.is_multiple_of(2))
}

/// Edges at a third around the median, widened: 255 where one is near.
fn wide_edges(width: usize, height: usize, value: &[u8], kernel: usize) -> Vec<u8> {
    let median = median(value);
    let low = ((1.0 - 1.0 / 3.0) * median).max(0.0) as i32;
    let high = ((1.0 + 1.0 / 3.0) * median).min(255.0) as i32;
    let edges = canny(&Luma { width, height, data: value.to_vec() }, low, high);
    dilate(&edges, width, kernel).into_iter().map(|e| if e { 255 } else { 0 }).collect()
}

/// The middle value, or the mean of both.
fn median(values: &[u8]) -> f64 {
    let mut counts = [0usize; 256];
    values.iter().for_each(|v| counts[usize::from(*v)] += 1);
    let at = |rank: usize| {
        let mut below = 0;
        let found = counts.iter().position(|count| {
            below += count;
            below > rank
        });
        found.unwrap_or(0) as f64
    };
    match values.len() {
        0 => 0.0,
        n => (at((n - 1) / 2) + at(n / 2)) / 2.0,
    }
}

/// True wherever something within the square around a pixel is; nothing lies outside of the picture.
fn dilate(pixels: &[bool], width: usize, kernel: usize) -> Vec<bool> {
    if width == 0 {
        return Vec::new();
    }
    let half = kernel / 2;
    let along = |line: &[bool]| -> Vec<bool> {
        // Number of true ones before each place.
        let mut before = vec![0usize; line.len() + 1];
        line.iter().enumerate().for_each(|(i, v)| before[i + 1] = before[i] + usize::from(*v));
        (0..line.len()).map(|i| before[(i + half + 1).min(line.len())] > before[i.saturating_sub(half)]).collect()
    };
    let rows: Vec<bool> = pixels.chunks_exact(width).flat_map(along).collect();
    let height = rows.len() / width;
    let mut out = vec![false; rows.len()];
    for x in 0..width {
        let column: Vec<bool> = (0..height).map(|y| rows[y * width + x]).collect();
        along(&column).into_iter().enumerate().for_each(|(y, v)| out[y * width + x] = v);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kernels_and_medians_are_those_of_the_reference() {
        assert_eq!([(256, 144), (256, 192), (1920, 1080), (64, 48), (10, 10)].map(|(w, h)| kernel_size(w, h)), [5, 5, 13, 5, 5]);
        assert_eq!((median(&[3, 1, 2]), median(&[4, 1, 2, 9]), median(&[]), median(&[7])), (2.0, 3.0, 0.0, 7.0));
    }

    #[test]
    fn a_picture_of_another_size_is_passed_over() {
        let mut comparer = Comparer::new(false, None);
        let grey = |n: usize, v: u8| vec![v; n * 3];
        assert_eq!(comparer.next(2, 2, &grey(4, 10)), Some(Components::default()));
        assert_eq!(comparer.next(1, 2, &grey(2, 90)), None);
        assert_eq!(comparer.next(2, 2, &grey(4, 30)), Some(Components { lum: 20.0, ..Components::default() }));
    }

    #[test]
    fn weights_may_be_negative_and_are_normalised() {
        let parts = Components { hue: 8.0, sat: 4.0, lum: 2.0, edges: 1.0 };
        assert_eq!(parts.weighted([1.0, 1.0, 1.0, 0.0]), 14.0 / 3.0);
        assert_eq!(parts.weighted([1.0, -1.0, 0.0, 2.0]), 6.0 / 4.0);
    }

    proptest! {
        #[test]
        fn widening_is_the_maximum_of_the_square(width in 1usize..12, height in 1usize..12, half in 1usize..4, seed: u64) {
            let pixels: Vec<bool> = (0..width * height).map(|i| (seed >> (i % 61)) & 0b1001 == 0b1001).collect();
            let near = |x: usize, y: usize| {
                (0..width * height).any(|i| pixels[i] && (i % width).abs_diff(x) <= half && (i / width).abs_diff(y) <= half)
            };
            let want: Vec<bool> = (0..width * height).map(|i| near(i % width, i / width)).collect();
            prop_assert_eq!(dilate(&pixels, width, 2 * half + 1), want);
        }
    }
}
