//! A decoded frame scaled down as PySceneDetect has it: the longer side becomes 256 pixels, by OpenCV's bilinear resize, which looks at four pixels of the full
//! picture and no others; the pixel aspect is left alone.
//!
//! Why not the converter of [`super::picture`]: it looks at all pixels, which is better and gives other scores than the ones that thresholds are known for; and
//! converting four pixels for each that is wanted costs less than a tenth of decoding. Arithmetic: `cv::resize` with `INTER_LINEAR` on 8 bits (coefficients of 11 bits,
//! two roundings). What can go wrong: formats that are no plain 8 to 16 bit YUV; they go through the converter first.

use gst_video::VideoOrientationMethod as Orientation;
use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::limits::DETECTION_SIDE_PX;
use super::matrix::Matrix;
use super::picture::{Converter, Geometry};
use super::{Frame, MediaError};

/// Scales frames of one stream; keeps its tables while caps and orientation stay the same.
#[derive(Default)]
pub(crate) struct Shrinker {
    /// Of the first frame: frames of another size later on are brought to it, so that neighbours can be compared.
    size: Option<(u32, u32)>,
    current: Option<Prepared>,
    converter: Converter,
}

struct Prepared {
    caps: gst::Caps,
    orientation: Orientation,
    input: gst_video::VideoInfo,
    matrix: Matrix,
    /// For each column and row of the result.
    x: Vec<Tap>,
    y: Vec<Tap>,
}

/// Between which two pixels, and their weights in 1/2048.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tap {
    at: (usize, usize),
    weight: (i32, i32),
}

/// Width and height in the detector.
pub(crate) fn detection_size((width, height): (u32, u32)) -> (u32, u32) {
    let factor = f64::from(width.max(height)) / f64::from(DETECTION_SIDE_PX);
    if factor <= 1.0 {
        return (width, height);
    }
    let scale = |side: u32| (f64::from(side) / factor).round_ties_even().max(1.0) as u32;
    (scale(width), scale(height))
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    (0..to)
        .map(|i| {
            let place = ((i as f64 + 0.5) * scale - 0.5) as f32;
            let floor = place.floor();
            let (at, part) = match floor as i64 {
                k if k < 0 => (0, 0.0),
                k if k as usize >= from - 1 => (from - 1, 0.0),
                k => (k as usize, place - floor),
            };
            let weight = |part: f32| (part * 2048.0).round_ties_even() as i32;
            Tap { at: (at, (at + 1).min(from - 1)), weight: (weight(1.0 - part), weight(part)) }
        })
        .collect()
}

/// One component of a frame in memory.
#[derive(Clone, Copy)]
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    step: usize,
    offset: usize,
    right: u32,
    wide: bool,
    sub: (u32, u32),
}

impl Plane<'_> {
    /// The value at a pixel, in eight bits; 0 outside of what the buffer holds.
    #[inline]
    fn at(&self, x: usize, y: usize) -> i32 {
        let at = (y >> self.sub.1) * self.stride + (x >> self.sub.0) * self.step + self.offset;
        let byte = |i: usize| self.data.get(i).copied().map_or(0, i32::from);
        if self.wide { ((byte(at) | byte(at + 1) << 8) >> self.right) & 0xFF } else { byte(at) }
    }
}

impl Shrinker {
    /// The frame in the detector's size, turned as displayed, RGB.
    pub fn shrink(&mut self, sample: &gst::Sample, orientation: Orientation, pts_ns: i64) -> Result<Frame, MediaError> {
        let damaged = |what: &str| MediaError::new("damaged", format!("a decoded frame {what}"));
        let caps = sample.caps().ok_or_else(|| damaged("without caps"))?;
        let buffer = sample.buffer().ok_or_else(|| damaged("without data"))?;
        let fits = self.current.as_ref().is_some_and(|p| p.orientation == orientation && p.caps.as_ref() == caps);
        if !fits {
            let input = gst_video::VideoInfo::from_caps(caps).map_err(|_| damaged("of unknown format"))?;
            Geometry::of(&input, orientation)?; // refuses what is too large
            self.current = Some(prepare(caps.to_owned(), input, orientation, &mut self.size));
        }
        let Some(p) = &self.current else { return Err(damaged("without tables")) };
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &p.input)
            .map_err(|_| damaged("shorter than its caps say"))?;
        match planes(&frame) {
            Some(planes) => {
                let matrix = p.matrix;
                let pixel = move |x: usize, y: usize| matrix.rgb(planes.map(|plane| plane.at(x, y)));
                Ok(p.resize(pixel, pts_ns))
            }
            None => {
                let native =
                    self.converter.convert(sample, Orientation::Identity, Some((p.input.width(), p.input.height())), pts_ns)?;
                let width = native.width as usize;
                let pixel = |x: usize, y: usize| {
                    let at = (y * width + x) * 3;
                    [0, 1, 2].map(|c| native.rgb.get(at + c).copied().map_or(0, i32::from))
                };
                Ok(p.resize(pixel, pts_ns))
            }
        }
    }
}

fn prepare(caps: gst::Caps, input: gst_video::VideoInfo, orientation: Orientation, size: &mut Option<(u32, u32)>) -> Prepared {
    let coded = (input.width(), input.height());
    let turns = Geometry { square: coded, orientation }.turns();
    let shown = if turns { (coded.1, coded.0) } else { coded };
    let (width, height) = *size.get_or_insert_with(|| detection_size(shown));
    Prepared {
        caps,
        orientation,
        matrix: Matrix::of(&input.colorimetry()),
        input,
        x: taps(shown.0 as usize, width as usize),
        y: taps(shown.1 as usize, height as usize),
    }
}

/// The three components of a plain YUV frame.
fn planes<'a>(frame: &'a gst_video::VideoFrameRef<&gst::BufferRef>) -> Option<[Plane<'a>; 3]> {
    let format = frame.format_info();
    let plain = format.is_yuv() && format.n_components() >= 3 && !format.has_palette() && !format.has_subtiles();
    let sizes = (0..3).map(|c| (format.depth()[c], format.shift()[c]));
    if !plain
        || format.flags().contains(gst_video::VideoFormatFlags::COMPLEX)
        || sizes.clone().any(|(d, _)| !(8..=16).contains(&d))
    {
        return None;
    }
    let little = format.flags().contains(gst_video::VideoFormatFlags::LE) || sizes.clone().all(|(d, _)| d == 8);
    if !little {
        return None;
    }
    let plane = |c: usize| {
        let at = format.plane()[c];
        Some(Plane {
            data: frame.plane_data(at).ok()?,
            stride: usize::try_from(*frame.plane_stride().get(at as usize)?).ok()?,
            step: usize::try_from(format.pixel_stride()[c]).ok()?,
            offset: format.poffset()[c] as usize,
            right: format.shift()[c] + format.depth()[c] - 8,
            wide: format.depth()[c] > 8,
            sub: (format.w_sub()[c], format.h_sub()[c]),
        })
    };
    Some([plane(0)?, plane(1)?, plane(2)?])
}

impl Prepared {
    /// `pixel` is asked by column and row of the coded picture.
    fn resize(&self, pixel: impl Fn(usize, usize) -> [i32; 3], pts_ns: i64) -> Frame {
        let (w, h) = (self.input.width() as usize, self.input.height() as usize);
        let shown = |x: usize, y: usize| match self.orientation {
            Orientation::_90r => pixel(y, h - 1 - x),
            Orientation::_180 => pixel(w - 1 - x, h - 1 - y),
            Orientation::_90l => pixel(w - 1 - y, x),
            Orientation::Horiz => pixel(w - 1 - x, y),
            Orientation::Vert => pixel(x, h - 1 - y),
            Orientation::UlLr => pixel(y, x),
            Orientation::UrLl => pixel(w - 1 - y, h - 1 - x),
            _ => pixel(x, y),
        };
        let mut rgb = Vec::with_capacity(self.x.len() * self.y.len() * 3);
        for row in &self.y {
            for column in &self.x {
                let across = |y: usize| {
                    let left = shown(column.at.0, y);
                    // An unscaled picture needs no neighbours.
                    let right = if column.weight.1 == 0 { left } else { shown(column.at.1, y) };
                    [0, 1, 2].map(|c| left[c] * column.weight.0 + right[c] * column.weight.1)
                };
                let above = across(row.at.0);
                let below = if row.weight.1 == 0 { above } else { across(row.at.1) };
                rgb.extend([0, 1, 2].map(|c| {
                    let part = |sum: i32, weight: i32| (weight * (sum >> 4)) >> 16;
                    ((part(above[c], row.weight.0) + part(below[c], row.weight.1) + 2) >> 2) as u8
                }));
            }
        }
        Frame { pts_ns, width: self.x.len() as u32, height: self.y.len() as u32, rgb }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_those_of_pyscenedetect() {
        let sizes = [(1280, 720), (854, 480), (406, 720), (2160, 3840), (256, 100), (257, 99), (97, 61), (320, 240), (4000, 3)];
        let want = [(256, 144), (256, 144), (144, 256), (144, 256), (256, 100), (256, 99), (97, 61), (256, 192), (256, 1)];
        assert_eq!(sizes.map(detection_size), want);
    }

    #[test]
    fn a_stream_that_changes_its_size_keeps_that_of_its_first_frame() {
        super::super::runtime::start().unwrap();
        let grey = |width: u32, height: u32| {
            let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, width, height).build().unwrap();
            let buffer = gst::Buffer::from_slice(vec![128u8; info.size()]);
            gst::Sample::builder().buffer(&buffer).caps(&info.to_caps().unwrap()).build()
        };
        let mut shrinker = Shrinker::default();
        for (width, height) in [(1280, 720), (320, 240), (64, 36), (1280, 720)] {
            let frame = shrinker.shrink(&grey(width, height), Orientation::Identity, 0).unwrap();
            assert_eq!((frame.width, frame.height, frame.rgb.len()), (256, 144, 256 * 144 * 3));
            assert!(frame.rgb.iter().all(|v| *v == frame.rgb[0]), "{width}x{height}");
        }
    }

    proptest! {
        #[test]
        fn taps_lie_in_the_picture_and_weigh_one(from in 1usize..5000, to in 1usize..300) {
            for tap in taps(from, to) {
                prop_assert!(tap.at.0 < from && tap.at.1 < from && tap.at.1 - tap.at.0 <= 1);
                prop_assert!((tap.weight.0 + tap.weight.1 - 2048).abs() <= 1 && tap.weight.0 >= 0 && tap.weight.1 >= 0);
            }
        }
    }
}
