//! From a decoder's planes to RGB as displayed: matrix and range of the stream, pixel aspect, rotation.
//!
//! Only picked frames come here; converting all of them would cost a quarter more than decoding. GStreamer's converter knows every raw format
//! (10-bit, 4:2:2, 4:4:4, full range); it also scales, with a filter that widens when shrinking. HDR transfer curves are not tone-mapped.

use fast_image_resize as fir;
use gst_video::VideoOrientationMethod as Orientation;
use gst_video::prelude::*;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::limits::MAX_PIXELS;
use super::{Frame, MediaError};

/// A picture's geometry: as coded, and as displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Width and height after pixel aspect, before rotation.
    pub square: (u32, u32),
    /// How to turn it.
    pub orientation: Orientation,
}

impl Geometry {
    /// Reads it off the caps; refuses what is larger than the limit.
    pub fn of(info: &gst_video::VideoInfo, orientation: Orientation) -> Result<Self, MediaError> {
        let (w, h) = (u64::from(info.width()), u64::from(info.height()));
        if w == 0 || h == 0 || w * h > MAX_PIXELS {
            return Err(MediaError::new("too_large", format!("a picture of {w} x {h} pixels; the limit is {MAX_PIXELS} pixels")));
        }
        let par = info.par();
        let (n, d) = (u64::from(par.numer().max(1) as u32), u64::from(par.denom().max(1) as u32));
        let (mut square_w, mut square_h) = (w, h);
        // Stretch the shorter side, so that no detail is lost.
        if n > d {
            square_w = (w * n + d / 2) / d;
        } else {
            square_h = (h * d + n / 2) / n;
        }
        if square_w * square_h > MAX_PIXELS {
            (square_w, square_h) = (w, h); // a nonsensical pixel aspect
        }
        Ok(Geometry { square: (square_w as u32, square_h as u32), orientation })
    }

    /// True when width and height change places.
    pub fn turns(&self) -> bool {
        matches!(self.orientation, Orientation::_90r | Orientation::_90l | Orientation::UlLr | Orientation::UrLl)
    }

    /// Width and height as displayed.
    pub fn displayed(&self) -> (u32, u32) {
        if self.turns() { (self.square.1, self.square.0) } else { self.square }
    }
}

/// Converts frames of one stream; keeps the converter while the caps stay the same.
#[derive(Default)]
pub(crate) struct Converter {
    current: Option<Prepared>,
}

struct Prepared {
    caps: gst::Caps,
    wanted: (u32, u32),
    input: gst_video::VideoInfo,
    output: gst_video::VideoInfo,
    converter: gst_video::VideoConverter,
}

impl Converter {
    /// RGB of `size` as displayed (`None`: native).
    pub fn convert(
        &mut self,
        sample: &gst::Sample,
        orientation: Orientation,
        size: Option<(u32, u32)>,
        pts_ns: i64,
    ) -> Result<Frame, MediaError> {
        let damaged = |what: &str| MediaError::new("damaged", format!("a decoded frame {what}"));
        let caps = sample.caps().ok_or_else(|| damaged("without caps"))?;
        let buffer = sample.buffer().ok_or_else(|| damaged("without data"))?;
        let input = gst_video::VideoInfo::from_caps(caps).map_err(|_| damaged("of unknown format"))?;
        let geometry = Geometry::of(&input, orientation)?;
        let wanted = match size {
            None => geometry.square,
            Some((w, h)) if geometry.turns() => (h, w),
            Some(size) => size,
        };
        let fits = self.current.as_ref().is_some_and(|p| p.wanted == wanted && p.caps.as_ref() == caps);
        if !fits {
            self.current = Some(prepare(caps, input, wanted)?);
        }
        let Some(p) = &self.current else { return Err(damaged("without converter")) };
        let source = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &p.input)
            .map_err(|_| damaged("shorter than its caps say"))?;
        let mut out = gst::Buffer::with_size(p.output.size()).map_err(|_| damaged("too large for memory"))?;
        let rgb = {
            let out = out.get_mut().ok_or_else(|| damaged("in use"))?;
            let mut target = gst_video::VideoFrameRef::from_buffer_ref_writable(out, &p.output).map_err(|_| damaged("in use"))?;
            p.converter.frame_ref(&source, &mut target);
            let stride = target.plane_stride()[0] as usize;
            let data = target.plane_data(0).map_err(|_| damaged("without planes"))?;
            let row = wanted.0 as usize * 3;
            let mut rgb = Vec::with_capacity(row * wanted.1 as usize);
            data.chunks(stride).take(wanted.1 as usize).for_each(|r| rgb.extend_from_slice(&r[..row]));
            rgb
        };
        let frame = Frame { pts_ns, width: wanted.0, height: wanted.1, rgb };
        Ok(turn(frame, orientation))
    }
}

fn prepare(caps: &gst::CapsRef, input: gst_video::VideoInfo, wanted: (u32, u32)) -> Result<Prepared, MediaError> {
    let no_converter = |e: gst::glib::BoolError| {
        MediaError::new("unsupported_codec", format!("no conversion of {:?} to RGB: {e}", input.format()))
    };
    let output = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, wanted.0, wanted.1)
        .fps(input.fps())
        .interlace_mode(input.interlace_mode())
        .build()
        .map_err(no_converter)?;
    let mut config = gst_video::VideoConverterConfig::new();
    config.set_threads(1);
    config.set_resampler_method(gst_video::VideoResamplerMethod::Linear);
    config.set_dither_method(gst_video::VideoDitherMethod::None);
    let converter = gst_video::VideoConverter::new(&input, &output, Some(config)).map_err(no_converter)?;
    Ok(Prepared { caps: caps.to_owned(), wanted, input, output, converter })
}

/// Turns a picture for display.
fn turn(frame: Frame, orientation: Orientation) -> Frame {
    let (w, h) = (frame.width as usize, frame.height as usize);
    // For each pixel of the result: where it comes from.
    let from: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        Orientation::_90r => |x, y, _, h| (y, h - 1 - x),
        Orientation::_180 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        Orientation::_90l => |x, y, w, _| (w - 1 - y, x),
        Orientation::Horiz => |x, y, w, _| (w - 1 - x, y),
        Orientation::Vert => |x, y, _, h| (x, h - 1 - y),
        Orientation::UlLr => |x, y, _, _| (y, x),
        Orientation::UrLl => |x, y, w, h| (w - 1 - y, h - 1 - x),
        _ => return frame,
    };
    let turns = Geometry { square: (1, 1), orientation }.turns();
    let (tw, th) = if turns { (h, w) } else { (w, h) };
    let mut rgb = Vec::with_capacity(frame.rgb.len());
    for y in 0..th {
        for x in 0..tw {
            let (sx, sy) = from(x, y, w, h);
            let at = (sy * w + sx) * 3;
            rgb.extend_from_slice(&frame.rgb[at..at + 3]);
        }
    }
    Frame { pts_ns: frame.pts_ns, width: tw as u32, height: th as u32, rgb }
}

/// Width and height with the longest side at most `longest`; never enlarged, never zero.
pub(crate) fn fit(size: (u32, u32), longest: u32) -> (u32, u32) {
    let (w, h) = size;
    let most = w.max(h);
    if most <= longest {
        return size;
    }
    let scale = |side: u32| ((u64::from(side) * u64::from(longest) + u64::from(most) / 2) / u64::from(most)).max(1) as u32;
    (scale(w), scale(h))
}

/// A smaller copy whose longest side is at most `longest` (Lanczos, widened when shrinking).
pub(crate) fn shrink(frame: &Frame, longest: u32) -> Result<Frame, MediaError> {
    let (width, height) = fit((frame.width, frame.height), longest.max(1));
    if (width, height) == (frame.width, frame.height) {
        return Ok(frame.clone());
    }
    let failed = |e: String| MediaError::new("damaged", format!("a frame cannot be scaled: {e}"));
    // Typed views: the untyped call would compile every kernel of every pixel type into this crate, which takes minutes.
    let source = fir::images::TypedImageRef::<fir::pixels::U8x3>::from_buffer(frame.width, frame.height, &frame.rgb);
    let source = source.map_err(|e| failed(e.to_string()))?;
    let mut rgb = vec![0; 3 * width as usize * height as usize];
    let target = fir::images::TypedImage::<fir::pixels::U8x3>::from_buffer(width, height, &mut rgb);
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3));
    let resize = |mut target| fir::Resizer::new().resize_typed(&source, &mut target, &options).map_err(|e| e.to_string());
    target.map_err(|e| e.to_string()).and_then(resize).map_err(failed)?;
    Ok(Frame { pts_ns: frame.pts_ns, width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered() -> Frame {
        // 0 1 2
        // 3 4 5
        Frame { pts_ns: 0, width: 3, height: 2, rgb: (0..6u8).flat_map(|v| [v; 3]).collect() }
    }

    fn turned(orientation: Orientation) -> (u32, Vec<u8>) {
        let f = turn(numbered(), orientation);
        (f.width, f.rgb.chunks(3).map(|p| p[0]).collect())
    }

    #[test]
    fn every_orientation_turns_the_right_way() {
        assert_eq!(turned(Orientation::Identity), (3, vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(turned(Orientation::_90r), (2, vec![3, 0, 4, 1, 5, 2]));
        assert_eq!(turned(Orientation::_180), (3, vec![5, 4, 3, 2, 1, 0]));
        assert_eq!(turned(Orientation::_90l), (2, vec![2, 5, 1, 4, 0, 3]));
        assert_eq!(turned(Orientation::Horiz), (3, vec![2, 1, 0, 5, 4, 3]));
        assert_eq!(turned(Orientation::Vert), (3, vec![3, 4, 5, 0, 1, 2]));
        assert_eq!(turned(Orientation::UlLr), (2, vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(turned(Orientation::UrLl), (2, vec![5, 2, 4, 1, 3, 0]));
    }

    #[test]
    fn fitting_keeps_the_aspect_and_never_enlarges() {
        assert_eq!(fit((1280, 720), 768), (768, 432));
        assert_eq!(fit((406, 720), 768), (406, 720));
        assert_eq!(fit((5000, 1), 100), (100, 1));
    }
}
