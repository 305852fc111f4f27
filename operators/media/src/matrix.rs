//! From one YUV pixel to RGB as libswscale does it on x86 where it need not scale: products of 16 bits, each rounded down.
//!
//! Why another conversion than [`super::picture`]: shot detectors are calibrated on the frames that OpenCV gives, which come from libswscale, and a cut must
//! not depend on how a product is rounded. Coefficients: `ff_yuv2rgb_coeffs` of FFmpeg (ITU-R BT.601, BT.709, BT.2020, SMPTE 240M, FCC). What can go wrong:
//! a stream that does not say its matrix and is larger than 576 rows; GStreamer takes BT.709 there, libswscale BT.601.

use gstreamer_video::{VideoColorMatrix, VideoColorRange, VideoColorimetry};

/// The coefficients of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matrix {
    offset: i32,
    luma: i32,
    red_v: i32,
    green_u: i32,
    green_v: i32,
    blue_u: i32,
}

impl Matrix {
    /// By what the stream says of its colours.
    pub fn of(colours: &VideoColorimetry) -> Matrix {
        // In 1/65536, for the video range: V to red, U to blue, U and V to green.
        let table: [i64; 4] = match colours.matrix() {
            VideoColorMatrix::Bt709 => [117_489, 138_438, 13_975, 34_925],
            VideoColorMatrix::Bt2020 => [110_013, 140_363, 12_277, 42_626],
            VideoColorMatrix::Smpte240m => [117_579, 136_230, 16_907, 35_559],
            VideoColorMatrix::Fcc => [104_448, 132_798, 24_759, 53_109],
            _ => [104_597, 132_201, 25_675, 53_279],
        };
        let full = colours.range() == VideoColorRange::Range0_255;
        let (luma, offset) = if full { (1 << 16, 0) } else { ((255 << 16) / 219, 16 << 3) };
        let [red_v, blue_u, green_u, green_v] = table.map(|c| if full { c * 224 / 255 } else { c });
        // Sixteen bits, of which the value's three additional ones make up for three.
        let short = |c: i64| ((c * (1 << 13) + (1 << 15)) >> 16) as i32;
        Matrix {
            offset,
            luma: short(luma),
            red_v: short(red_v),
            green_u: short(-green_u),
            green_v: short(-green_v),
            blue_u: short(blue_u),
        }
    }

    /// Eight bits in, eight bits out.
    #[inline]
    pub fn rgb(&self, [y, u, v]: [i32; 3]) -> [i32; 3] {
        let product = |value: i32, by: i32| (value * by) >> 16;
        let (y, u, v) = (product((y << 3) - self.offset, self.luma), (u << 3) - 1024, (v << 3) - 1024);
        let red = y + product(v, self.red_v);
        let green = y + product(u, self.green_u) + product(v, self.green_v);
        let blue = y + product(u, self.blue_u);
        [red.clamp(0, 255), green.clamp(0, 255), blue.clamp(0, 255)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gstreamer_video::{VideoColorPrimaries, VideoTransferFunction};

    fn matrix(range: VideoColorRange, matrix: VideoColorMatrix) -> Matrix {
        Matrix::of(&VideoColorimetry::new(range, matrix, VideoTransferFunction::Bt709, VideoColorPrimaries::Bt709))
    }

    /// What real numbers say, rounded: never more than the three roundings away.
    #[test]
    fn every_pixel_is_near_the_exact_formula() {
        for (kind, kr, kb) in [(VideoColorMatrix::Bt601, 0.299, 0.114), (VideoColorMatrix::Bt709, 0.2126, 0.0722)] {
            for full in [false, true] {
                let range = if full { VideoColorRange::Range0_255 } else { VideoColorRange::Range16_235 };
                let made = matrix(range, kind);
                let kg = 1.0 - kr - kb;
                for i in 0..16_i32.pow(3) {
                    let [y, u, v] = [i / 256 * 17, i / 16 % 16 * 17, i % 16 * 17];
                    let (scale_y, scale_c, black) = if full { (1.0, 1.0, 0.0) } else { (255.0 / 219.0, 255.0 / 224.0, 16.0) };
                    let l = (f64::from(y) - black) * scale_y;
                    let (cb, cr) = (f64::from(u - 128) * scale_c, f64::from(v - 128) * scale_c);
                    let (r, b) = (l + 2.0 * (1.0 - kr) * cr, l + 2.0 * (1.0 - kb) * cb);
                    let g = l - 2.0 * (1.0 - kb) * kb / kg * cb - 2.0 * (1.0 - kr) * kr / kg * cr;
                    for (got, want) in made.rgb([y, u, v]).into_iter().zip([r, g, b]) {
                        assert!((f64::from(got) - want.clamp(0.0, 255.0)).abs() < 3.1, "{y} {u} {v}: {got} {want}");
                    }
                }
            }
        }
    }

    /// Pixels of OpenCV 5.0.0 and FFmpeg.
    #[test]
    fn black_and_white_are_exact() {
        let video = matrix(VideoColorRange::Range16_235, VideoColorMatrix::Bt709);
        assert_eq!((video.rgb([16, 128, 128]), video.rgb([0, 128, 128])), ([0; 3], [0; 3]));
        assert!(video.rgb([235, 128, 128]).iter().all(|v| *v >= 254));
    }
}
