//! Pillow's bicubic resize (up to version 12), spelled out: slow, plain, and exact to the bit.
//!
//! Rows first, then columns; each pass rounds to 8 bits and cuts to 0..255. Weights are whole numbers of 2^-22. What can go wrong: nothing that a picture
//! of at least 1 pixel could show; it is for tests.

/// Bits behind the point of a weight: 32, less 8 of a pixel, less 2 for sums above 1 and below 0.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// First pixel and weights of every output pixel.
fn weights(source: usize, resized: usize) -> Vec<(usize, Vec<i64>)> {
    let scale = source as f64 / resized as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    let bicubic = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
        _ => 0.0,
    };
    let of = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(source);
        let raw: Vec<f64> = (first..end).map(|x| bicubic((x as f64 - center + 0.5) / filter_scale)).collect();
        let sum: f64 = raw.iter().sum();
        let whole = |w: f64| (w * (1.0 / sum) * f64::from(1 << PRECISION_BITS)).round() as i64;
        (first, raw.into_iter().map(whole).collect())
    };
    (0..resized).map(of).collect()
}

/// A picture, three bytes a pixel, with `width` pixels a row.
struct Picture {
    pixels: Vec<u8>,
    width: usize,
}

impl Picture {
    fn height(&self) -> usize {
        self.pixels.len() / 3 / self.width
    }

    fn transposed(&self) -> Picture {
        let (width, height) = (self.width, self.height());
        let pixels = (0..width).flat_map(|x| (0..height).flat_map(move |y| (0..3).map(move |c| (y * width + x) * 3 + c)));
        Picture { pixels: pixels.map(|at| self.pixels[at]).collect(), width: height }
    }

    /// Every row brought to `resized` pixels.
    fn across(self, resized: usize) -> Picture {
        if resized == self.width {
            return self;
        }
        let weights = weights(self.width, resized);
        let mut pixels = Vec::with_capacity(self.height() * resized * 3);
        for row in self.pixels.chunks_exact(self.width * 3) {
            for (first, weights) in &weights {
                for c in 0..3 {
                    let sum: i64 = weights.iter().zip(*first..).map(|(w, x)| w * i64::from(row[x * 3 + c])).sum();
                    pixels.push(((sum + (1 << (PRECISION_BITS - 1))) >> PRECISION_BITS).clamp(0, 255) as u8);
                }
            }
        }
        Picture { pixels, width: resized }
    }

    fn cropped(&self, left: usize, top: usize, edge: usize) -> Vec<u8> {
        let row = |y: usize| &self.pixels[((top + y) * self.width + left) * 3..][..edge * 3];
        (0..edge).flat_map(row).copied().collect()
    }
}

/// Shortest edge to `edge`, the middle `edge` by `edge` pixels.
pub fn resize_and_crop(rgb: &[u8], width: usize, height: usize, edge: usize) -> Vec<u8> {
    let stretched = edge * width.max(height) / width.min(height);
    let (new_width, new_height) = if width <= height { (edge, stretched) } else { (stretched, edge) };
    let narrow = Picture { pixels: rgb.to_vec(), width }.across(new_width);
    let whole = narrow.transposed().across(new_height).transposed();
    whole.cropped((new_width - edge) / 2, (new_height - edge) / 2, edge)
}
