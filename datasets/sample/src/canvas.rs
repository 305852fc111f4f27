//! A picture in memory and the few shapes that the looks are made of. RGB, row by row, no padding.

/// An RGB colour.
pub type Rgb = [u8; 3];

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Pixels, row by row.
    pub pixels: Vec<Rgb>,
}

/// Linear blend from `a` to `b`.
pub fn blend(a: Rgb, b: Rgb, share: f32) -> Rgb {
    let s = share.clamp(0.0, 1.0);
    [0, 1, 2].map(|i| (a[i] as f32 + (b[i] as f32 - a[i] as f32) * s) as u8)
}

/// A colour made brighter or darker.
pub fn shade(c: Rgb, factor: f32) -> Rgb {
    c.map(|v| (v as f32 * factor).clamp(0.0, 255.0) as u8)
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn step(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

impl Canvas {
    /// A picture of one colour.
    pub fn new(width: usize, height: usize, colour: Rgb) -> Self {
        Canvas { width, height, pixels: vec![colour; width * height] }
    }

    /// A picture from a function of the pixel position.
    pub fn from_fn(width: usize, height: usize, f: impl Fn(f32, f32) -> Rgb) -> Self {
        let mut canvas = Canvas::new(width, height, [0; 3]);
        for (y, row) in canvas.pixels.chunks_exact_mut(width).enumerate() {
            for (x, p) in row.iter_mut().enumerate() {
                *p = f(x as f32, y as f32);
            }
        }
        canvas
    }

    /// Fills a rectangle; what lies outside the picture is left out.
    pub fn rect(&mut self, x: i32, y: i32, width: i32, height: i32, colour: Rgb) {
        let (x0, x1) = (x.clamp(0, self.width as i32) as usize, (x + width).clamp(0, self.width as i32) as usize);
        let (y0, y1) = (y.clamp(0, self.height as i32) as usize, (y + height).clamp(0, self.height as i32) as usize);
        for row in y0..y1 {
            self.pixels[row * self.width + x0..row * self.width + x1.max(x0)].fill(colour);
        }
    }

    /// A disc with a soft edge of `soft` pixels; `opacity` 0..1.
    pub fn disc(&mut self, cx: f32, cy: f32, radius: f32, soft: f32, colour: Rgb, opacity: f32) {
        self.ellipse(cx, cy, radius, radius, soft / radius.max(1.0), colour, opacity);
    }

    /// An ellipse; `soft` is the width of the edge as a share of the radii.
    #[allow(clippy::too_many_arguments)]
    pub fn ellipse(&mut self, cx: f32, cy: f32, rx: f32, ry: f32, soft: f32, colour: Rgb, opacity: f32) {
        let reach = 1.0 + soft;
        let clip = |v: f32, max: usize| v.clamp(0.0, max as f32) as usize;
        let (x0, x1) = (clip(cx - rx * reach, self.width), clip(cx + rx * reach + 1.0, self.width));
        let (y0, y1) = (clip(cy - ry * reach, self.height), clip(cy + ry * reach + 1.0, self.height));
        for y in y0..y1 {
            for x in x0..x1 {
                let (dx, dy) = ((x as f32 - cx) / rx, (y as f32 - cy) / ry);
                let d = (dx * dx + dy * dy).sqrt();
                if d < reach {
                    let cover = if soft > 0.0 { 1.0 - step(1.0 - soft, reach, d) } else { 1.0 };
                    let p = &mut self.pixels[y * self.width + x];
                    *p = blend(*p, colour, cover * opacity);
                }
            }
        }
    }

    /// A thick line with round ends.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), width: f32, colour: Rgb) {
        let length = ((to.0 - from.0).powi(2) + (to.1 - from.1).powi(2)).sqrt();
        let steps = (length / (width * 0.25).max(1.0)).ceil().max(1.0) as usize;
        for i in 0..=steps {
            let t = i as f32 / steps as f32;
            self.disc(from.0 + (to.0 - from.0) * t, from.1 + (to.1 - from.1) * t, width / 2.0, 1.0, colour, 1.0);
        }
    }

    /// Fills this picture with a window of a larger one, its centre moved by (`dx`, `dy`) pixels and enlarged by `zoom`; edges repeat.
    pub fn window(&mut self, source: &Canvas, dx: f32, dy: f32, zoom: f32) {
        let inverse = 1.0 / zoom;
        let start = |own: usize, other: usize, d: f32| other as f32 / 2.0 + d - own as f32 / 2.0 * inverse;
        let (x0, y0) = (start(self.width, source.width, dx), start(self.height, source.height, dy));
        let columns: Vec<usize> =
            (0..self.width).map(|x| (x0 + x as f32 * inverse).clamp(0.0, source.width as f32 - 1.0) as usize).collect();
        for (y, row) in self.pixels.chunks_exact_mut(self.width).enumerate() {
            let sy = (y0 + y as f32 * inverse).clamp(0.0, source.height as f32 - 1.0) as usize;
            let from = &source.pixels[sy * source.width..(sy + 1) * source.width];
            for (p, &sx) in row.iter_mut().zip(&columns) {
                *p = from[sx];
            }
        }
    }

    /// Copies another picture to (`x`, `y`); it must fit.
    pub fn paste(&mut self, other: &Canvas, x: usize, y: usize) {
        for (i, row) in other.pixels.chunks_exact(other.width).enumerate() {
            let at = (y + i) * self.width + x;
            self.pixels[at..at + other.width].copy_from_slice(row);
        }
    }

    /// Each pixel becomes the mean of a square of `px` pixels on each side of it, twice over; edges repeat.
    pub fn blur(&mut self, px: usize) {
        for _ in 0..2 {
            let (w, h) = (self.width, self.height);
            for row in self.pixels.chunks_exact_mut(w) {
                let line = row.to_vec();
                running_means(&line, px, |x, mean| row[x] = mean);
            }
            for x in 0..w {
                let line: Vec<Rgb> = (0..h).map(|y| self.pixels[y * w + x]).collect();
                running_means(&line, px, |y, mean| self.pixels[y * w + x] = mean);
            }
        }
    }

    /// Turned by 90 degrees against the clock: what a camera held sideways stores; players turn it back.
    pub fn turned_left(&self) -> Canvas {
        let mut out = Canvas::new(self.height, self.width, [0; 3]);
        for y in 0..out.height {
            for x in 0..out.width {
                out.pixels[y * out.width + x] = self.pixels[x * self.width + (self.width - 1 - y)];
            }
        }
        out
    }

    /// Planar YUV 4:2:0, BT.601 limited range, rows padded to multiples of four bytes as GStreamer expects; sides must be even.
    pub fn to_i420(&self) -> Vec<u8> {
        let (w, h) = (self.width, self.height);
        let (row, half_row) = (w.next_multiple_of(4), (w / 2).next_multiple_of(4));
        let mut out = vec![0u8; row * h + half_row * h];
        let (luma, chroma) = out.split_at_mut(row * h);
        for (to, from) in luma.chunks_exact_mut(row).zip(self.pixels.chunks_exact(w)) {
            for (y, p) in to.iter_mut().zip(from) {
                let [r, g, b] = p.map(i32::from);
                *y = ((66 * r + 129 * g + 25 * b + 128) / 256 + 16) as u8;
            }
        }
        let (us, vs) = chroma.split_at_mut(half_row * h / 2);
        for (n, pair) in self.pixels.chunks_exact(2 * w).enumerate() {
            let (top, bottom) = pair.split_at(w);
            for (x, (a, b)) in top.chunks_exact(2).zip(bottom.chunks_exact(2)).enumerate() {
                let [r, g, b] =
                    [0, 1, 2].map(|i| i32::from(a[0][i]) + i32::from(a[1][i]) + i32::from(b[0][i]) + i32::from(b[1][i]));
                us[n * half_row + x] = (((-38 * r - 74 * g + 112 * b + 512) >> 10) + 128) as u8;
                vs[n * half_row + x] = (((112 * r - 94 * g - 18 * b + 512) >> 10) + 128) as u8;
            }
        }
        out
    }
}

/// The mean over `px` values on each side of every value; the ends repeat.
fn running_means(line: &[Rgb], px: usize, mut set: impl FnMut(usize, Rgb)) {
    let at = |i: isize| line[i.clamp(0, line.len() as isize - 1) as usize].map(u32::from);
    let (px, count) = (px as isize, 2 * px as u32 + 1);
    let mut sum = (-px..=px).map(at).fold([0; 3], |sum, p| [0, 1, 2].map(|c| sum[c] + p[c]));
    for i in 0..line.len() as isize {
        set(i as usize, sum.map(|s| ((s + count / 2) / count) as u8));
        let (new, old) = (at(i + px + 1), at(i - px));
        sum = [0, 1, 2].map(|c| sum[c] + new[c] - old[c]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_black_and_red_have_their_textbook_yuv() {
        for (rgb, yuv) in [([255, 255, 255], [235, 128, 128]), ([0, 0, 0], [16, 128, 128]), ([255, 0, 0], [82, 90, 240])] {
            let i420 = Canvas::new(2, 2, rgb).to_i420();
            assert_eq!([i420[0], i420[8], i420[12]], yuv);
        }
    }

    #[test]
    fn turning_left_moves_the_right_edge_to_the_top() {
        let mut c = Canvas::new(4, 2, [0; 3]);
        c.rect(3, 0, 1, 1, [9, 9, 9]); // top right corner
        let t = c.turned_left();
        assert_eq!((t.width, t.height), (2, 4));
        assert_eq!(t.pixels[0], [9, 9, 9]); // top left corner
    }

    #[test]
    fn blurring_spreads_a_point_and_keeps_flat_pictures() {
        let mut flat = Canvas::new(9, 7, [7, 80, 255]);
        flat.blur(3);
        assert_eq!(flat, Canvas::new(9, 7, [7, 80, 255]));
        let mut point = Canvas::new(9, 9, [0; 3]);
        point.rect(4, 4, 1, 1, [81; 3]);
        point.blur(1);
        let row: Vec<u8> = (0..9).map(|x| point.pixels[4 * 9 + x][0]).collect();
        assert_eq!(row, [0, 0, 3, 6, 9, 6, 3, 0, 0]);
    }

    #[test]
    fn shapes_outside_are_clipped() {
        let mut c = Canvas::new(8, 8, [0; 3]);
        c.rect(-5, -5, 100, 100, [1, 1, 1]);
        c.rect(20, 20, 4, 4, [2, 2, 2]);
        c.disc(-50.0, 4.0, 10.0, 2.0, [3, 3, 3], 1.0);
        assert!(c.pixels.iter().all(|p| *p == [1, 1, 1]));
    }
}
