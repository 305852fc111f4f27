//! A grey picture, and strips of 64 rows cut out of it: the input of EasyOCR's recogniser.
//!
//! Grey is OpenCV's (0.299 red, 0.587 green, 0.114 blue), and so is the bilinear cut; upright text is not turned but squeezed, as the original does,
//! whose second resize (Pillow's bicubic) changes nothing for boxes that are wider than high. What differs: a tilted box is cut out in one step
//! instead of two, and beyond the picture its edge goes on instead of black.

use fast_image_resize as fir;

use crate::crop::Corners;
use crate::{OcrError, Picture};

/// Rows of the recogniser's input.
pub const ROWS: usize = 64;
/// A side at most this many times as long as the other one; longer boxes are squeezed.
pub const MAX_ASPECT: f64 = 75.0;

/// Grey pixels, rows without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    /// Pixels per row, at least 1.
    pub width: usize,
    /// All of them.
    pub pixels: Vec<u8>,
}

/// A box cut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreyStrip {
    /// Its pixels; the shorter side has 64.
    pub grey: Grey,
    /// Columns of the recogniser's input for it: 64 times the longer side over the shorter one, rounded up; its neighbours do not matter.
    pub input_width: usize,
}

impl Grey {
    /// Of a picture.
    pub fn of(picture: &Picture) -> Grey {
        // OpenCV's fixed point.
        let grey = |p: &[u8]| (u32::from(p[0]) * 9798 + u32::from(p[1]) * 19235 + u32::from(p[2]) * 3735 + (1 << 14)) >> 15;
        Grey { width: picture.width(), pixels: picture.rgb().chunks_exact(3).map(|p| grey(p) as u8).collect() }
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.pixels.len() / self.width.max(1)
    }

    /// What lies in a box, as large as the original makes it first: its shorter side has 64 pixels. `None` for a box without area.
    pub fn cut(&self, corners: &Corners) -> Option<GreyStrip> {
        let [a, b, c, d] = *corners;
        let (along, down) = ((b.0 - a.0, b.1 - a.1), (d.0 - a.0, d.1 - a.1));
        let (w, h) = (along.0.hypot(along.1), down.0.hypot(down.1));
        if !(w > 0.0 && h > 0.0 && w.is_finite() && h.is_finite()) || self.pixels.is_empty() {
            return None;
        }
        let aspect = (w.max(h) / w.min(h)).min(MAX_ASPECT);
        let longer = (ROWS as f64 * aspect) as usize;
        let (columns, rows) = if w < h { (ROWS, longer) } else { (longer, ROWS) };
        // An upright box is a picture of its own, whose edge goes on; else the whole picture's does.
        let upright = along.1 == 0.0 && down.0 == 0.0;
        let limit = |low: f64, high: f64, end: usize| {
            let end = (end - 1) as f64;
            if upright && high - low >= 1.0 { ((low + 0.5).clamp(0.0, end), (high - 0.5).clamp(0.0, end)) } else { (0.0, end) }
        };
        let (xs, ys) = (limit(a.0, c.0, self.width), limit(a.1, c.1, self.height()));
        let mut pixels = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            let v = (row as f64 + 0.5) / rows as f64;
            for column in 0..columns {
                let u = (column as f64 + 0.5) / columns as f64;
                let x = (a.0 + u * along.0 + v * down.0).max(xs.0).min(xs.1);
                let y = (a.1 + u * along.1 + v * down.1).max(ys.0).min(ys.1);
                pixels.push(self.bilinear(x, y));
            }
        }
        Some(GreyStrip { grey: Grey { width: columns, pixels }, input_width: ROWS * aspect.ceil() as usize })
    }

    fn bilinear(&self, x: f64, y: f64) -> u8 {
        let (left, top) = (x as usize, y as usize);
        let (right, bottom) = ((left + 1).min(self.width - 1), (top + 1).min(self.height() - 1));
        let (fx, fy) = ((x - left as f64) as f32, (y - top as f64) as f32);
        let at = |x: usize, y: usize| f32::from(self.pixels[y * self.width + x]);
        let above = at(left, top) + (at(right, top) - at(left, top)) * fx;
        let below = at(left, bottom) + (at(right, bottom) - at(left, bottom)) * fx;
        (above + (below - above) * fy).round() as u8
    }

    /// The same with 64 rows, its aspect kept.
    pub fn squeezed(self) -> Result<Grey, OcrError> {
        let (width, height) = (self.width, self.height());
        if height <= ROWS {
            return Ok(self);
        }
        let columns = (ROWS as f64 * (width as f64 / height as f64)).ceil() as usize;
        // Columns first and rounded to bytes in between, as Pillow does.
        let narrow = resized(&self.pixels, (width, height), (columns, height))?;
        Ok(Grey { width: columns, pixels: resized(&narrow, (columns, height), (columns, ROWS))? })
    }

    /// Writes the strip as numbers from -1 to 1 into rows of `stride` columns; its last column goes on to the right.
    pub fn fill(&self, values: &mut [f32], stride: usize) {
        for (line, pixels) in values.chunks_exact_mut(stride).zip(self.pixels.chunks_exact(self.width)) {
            let last = pixels.last().copied().unwrap_or(0);
            let numbers = pixels.iter().copied().chain(std::iter::repeat(last));
            line.iter_mut().zip(numbers).for_each(|(value, p)| *value = (f32::from(p) / 255.0 - 0.5) / 0.5);
        }
    }
}

fn resized(pixels: &[u8], (w, h): (usize, usize), (to_w, to_h): (usize, usize)) -> Result<Vec<u8>, OcrError> {
    let failed = |reason: String| OcrError::Resize { width: w, height: h, reason };
    let side = |v: usize| u32::try_from(v).map_err(|e| failed(e.to_string()));
    let source = fir::images::ImageRef::new(side(w)?, side(h)?, pixels, fir::PixelType::U8).map_err(|e| failed(e.to_string()))?;
    let mut target = fir::images::Image::new(side(to_w)?, side(to_h)?, fir::PixelType::U8);
    // Pillow's bicubic is this one.
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::CatmullRom));
    fir::Resizer::new().resize(&source, &mut target, &options).map_err(|e| failed(e.to_string()))?;
    Ok(target.into_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ramp(width: usize, height: usize) -> Grey {
        Grey { width, pixels: (0..width * height).map(|i| (i % width) as u8).collect() }
    }

    #[test]
    fn grey_is_a_weighted_sum_and_white_stays_white() {
        let rgb = [255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 10, 20, 30];
        assert_eq!(Grey::of(&Picture::new(6, 1, &rgb).unwrap()).pixels, [255, 76, 150, 29, 0, 18]);
    }

    #[test]
    fn the_shorter_side_has_64_pixels_and_edges_go_on() {
        let picture = ramp(200, 100);
        let wide = picture.cut(&[(9.5, 9.5), (109.5, 9.5), (109.5, 59.5), (9.5, 59.5)]).unwrap();
        assert_eq!((wide.grey.width, wide.grey.height(), wide.input_width), (128, 64, 128));
        assert_eq!((wide.grey.pixels[0], wide.grey.pixels[127]), (10, 109), "not the neighbours of the box");
        let high = picture.cut(&[(9.5, 9.5), (29.5, 9.5), (29.5, 69.5), (9.5, 69.5)]).unwrap();
        assert_eq!((high.grey.width, high.grey.height(), high.input_width), (64, 192, 192));
        let squeezed = high.grey.squeezed().unwrap();
        assert_eq!((squeezed.width, squeezed.height()), (22, 64));
        let mut values = vec![9.0; 64 * 64];
        squeezed.fill(&mut values, 64);
        assert!(values[22..64].iter().all(|v| *v == values[21]) && values.iter().all(|v| v.abs() <= 1.0));
        assert!(picture.cut(&[(3.0, 3.0); 4]).is_none() && picture.cut(&[(f64::NAN, 1.0); 4]).is_none());
        assert!(
            picture.cut(&[(-90.0, -90.0), (-50.0, -90.0), (-50.0, -70.0), (-90.0, -70.0)]).is_some(),
            "outside of the picture"
        );
    }

    proptest! {
        /// On a linear picture the samples tell where they were taken.
        #[test]
        fn samples_come_from_where_they_should(x in 60f64..130.0, y in 40f64..60.0, w in 10f64..60.0, h in 5f64..20.0, angle in -0.5f64..0.5) {
            let rect = crate::rect::Rect { x, y, width: w, height: h, angle };
            let strip = ramp(200, 100).cut(&rect.corners()).unwrap().grey;
            let (sin, cos) = angle.sin_cos();
            for (row, column) in [(0, 0), (strip.height() - 1, strip.width - 1), (20, strip.width / 3)] {
                let u = ((column as f64 + 0.5) / strip.width as f64 - 0.5) * w;
                let v = ((row as f64 + 0.5) / strip.height() as f64 - 0.5) * h;
                let want = x + u * cos - v * sin;
                prop_assert!((f64::from(strip.pixels[row * strip.width + column]) - want).abs() < 0.51);
            }
        }
    }
}
