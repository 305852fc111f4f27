//! A finished clip against its source: decoded whole, its frames counted and timed, some of its pictures compared.
//!
//! Which pictures: the first and the last, and the first copied one. A copied picture must be the same bytes as in the source. An encoded one
//! cannot be; it is compared after both are scaled to at most [`LOOK_SIDE`] pixels, where what an encoder takes away averages out and a wrong,
//! green or half-decoded picture does not: the signal-to-noise ratio must be at least [`LEAST_PSNR_DB`].
//!
//! A clip of copied packets alone can be held against them instead, byte by byte, without decoding anything.
//!
//! What can go wrong: a difference inside an encoded clip that its ends, its times and its decoder do not show.

use std::path::Path;
use std::time::Instant;

use gstreamer as gst;
use gstreamer_video as gst_video;
use gstreamer_video::VideoOrientationMethod as Orientation;
use gstreamer_video::prelude::*;

use super::input::Input;
use super::mux::VideoPacket;
use super::picture::{Converter, Geometry, fit};
use super::reader::Reader;
use super::resize::{Layout, Resize, TargetSize};
use super::structure::{Framing, units};
use super::track::Track;
use super::{Frame, MediaContext, MediaError};

/// Two ticks of the clip's time base: what rounding may cost.
const TIME_TOLERANCE_NS: i64 = 25_000;
/// Longest side in pixels of encoded pictures when they are compared.
const LOOK_SIDE: u32 = 64;
/// How alike such pictures must be, in decibels of peak signal to noise. At quality 50 (the worst) real videos have 25 to 30, at 23 more than 35;
/// pictures of two shots of a video 8 to 15.
const LEAST_PSNR_DB: f64 = 20.0;

/// What went into a clip.
pub(crate) struct Written {
    /// Source times of the frames; never empty.
    pub times_ns: Vec<i64>,
    pub last_duration_ns: i64,
    pub size: (u32, u32),
    pub has_audio: bool,
    /// How many of the frames were copied.
    pub copied: usize,
    /// Frames by their number in the clip, ascending, and how they look in the source.
    pub looks: Vec<(usize, Look)>,
}

/// How a frame looks in the source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Look {
    /// This is the hash of its planes.
    Same([u8; 32]),
    /// As displayed, scaled down.
    Alike(Frame),
}

impl Look {
    /// Of a frame that is encoded in its own size.
    pub fn alike(sample: &gst::Sample, orientation: Orientation) -> Result<Look, MediaError> {
        Look::resized(sample, orientation, None)
    }

    /// Of a frame that is encoded.
    pub fn resized(sample: &gst::Sample, orientation: Orientation, size: Option<TargetSize>) -> Result<Look, MediaError> {
        let displayed = Geometry::of(&format_of(sample)?, orientation)?.displayed();
        let small = |size| fit(size, LOOK_SIDE);
        let layout = match size {
            None => Layout { scaled: small(displayed), size: small(displayed) },
            Some(target) => {
                let (width, height) = small(target.layout(displayed).size);
                // The small picture covers what the clip's picture covers.
                TargetSize { width, height, resize: Resize::Cover }.layout(displayed)
            }
        };
        let whole = Converter::default().convert(sample, orientation, Some(layout.scaled), 0)?;
        Ok(Look::Alike(middle(whole, layout.size)))
    }

    /// Of a frame that is copied.
    pub fn same(sample: &gst::Sample) -> Result<Look, MediaError> {
        let (info, buffer) = (format_of(sample)?, sample.buffer().ok_or_else(unknown)?);
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).map_err(|_| unknown())?;
        let mut hasher = blake3::Hasher::new();
        for plane in 0..frame.n_planes() {
            let stride = frame.plane_stride().get(plane as usize).map_or(0, |s| s.unsigned_abs() as usize);
            let component =
                (0..frame.n_components()).find(|c| info.format_info().plane()[*c as usize] == plane).ok_or_else(unknown)?;
            let row = (frame.comp_width(component) as usize) * frame.comp_pstride(component).unsigned_abs() as usize;
            let rows = frame.comp_height(component) as usize;
            let data = frame.plane_data(plane).map_err(|_| unknown())?;
            data.chunks(stride.max(1)).take(rows).for_each(|line| {
                hasher.update(&line[..row.min(line.len())]);
            });
        }
        Ok(Look::Same(*hasher.finalize().as_bytes()))
    }

    /// How a frame of the clip differs, if it does.
    fn difference(&self, sample: &gst::Sample) -> Result<Option<String>, MediaError> {
        match self {
            Look::Same(_) => Ok((Look::same(sample)? != *self).then(|| "is not the picture that was copied".to_owned())),
            Look::Alike(wanted) => {
                let size = (wanted.width, wanted.height);
                let got = Converter::default().convert(sample, Orientation::Identity, Some(size), 0)?;
                let psnr = psnr_db(&wanted.rgb, &got.rgb);
                tracing::trace!(psnr, "Compared an encoded picture");
                Ok((psnr < LEAST_PSNR_DB)
                    .then(|| format!("differs from the source: {psnr:.1} dB, at least {LEAST_PSNR_DB} are asked")))
            }
        }
    }
}

/// The middle of a picture.
fn middle(frame: Frame, (width, height): (u32, u32)) -> Frame {
    let (left, top) = ((frame.width - width) / 2, (frame.height - height) / 2);
    let row = frame.width as usize * 3;
    let rows = frame.rgb.chunks_exact(row).skip(top as usize).take(height as usize);
    let rgb = rows.flat_map(|r| r[left as usize * 3..(left + width) as usize * 3].to_vec()).collect();
    Frame { width, height, rgb, ..frame }
}

fn unknown() -> MediaError {
    MediaError::new("damaged", "a decoded frame of unknown format")
}

fn format_of(sample: &gst::Sample) -> Result<gst_video::VideoInfo, MediaError> {
    sample.caps().and_then(|c| gst_video::VideoInfo::from_caps(c).ok()).ok_or_else(unknown)
}

fn psnr_db(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(x, y)| f64::from(i32::from(*x) - i32::from(*y)).powi(2)).sum();
    10.0 * (255.0f64.powi(2) / (squares / a.len().max(1) as f64).max(1e-9)).log10()
}

/// How decoded times differ from the times of the packets, if they do.
pub(crate) fn difference(decoded_ns: &[i64], expected_ns: &[i64]) -> Option<String> {
    let shown = |times: &[i64], at: usize| times.get(at).map_or("nothing".into(), |t| format!("{} us", t / 1000));
    let same = |(a, b): (&i64, &i64)| a.abs_diff(*b) <= TIME_TOLERANCE_NS as u64;
    let agree = decoded_ns.iter().zip(expected_ns).take_while(|pair| same(*pair)).count();
    (agree < decoded_ns.len().max(expected_ns.len())).then(|| {
        format!(
            "the span has {} frames, {} were decoded; frame {agree} is at {}, decoded is {}",
            expected_ns.len(),
            decoded_ns.len(),
            shown(expected_ns, agree),
            shown(decoded_ns, agree)
        )
    })
}

/// Decodes the clip and holds its frames against those that went in.
pub(crate) fn verify(path: &Path, written: &Written, deadline: Instant, context: &MediaContext) -> Result<(), MediaError> {
    let mut reader = Reader::open(&Input::file(path), Track::Video, deadline, context)?;
    reader.play()?;
    let mut count = 0;
    let mut looks = written.looks.iter().peekable();
    while let Some(frame) = reader.next()? {
        let wanted = written.times_ns.get(count).map(|t| t - written.times_ns[0]);
        if wanted.is_none_or(|w| (w - frame.pts_ns).abs() > TIME_TOLERANCE_NS) {
            let message = format!(
                "frame {count} of the clip is at {} us, in the source at {:?} us",
                frame.pts_ns / 1000,
                wanted.map(|w| w / 1000)
            );
            return Err(MediaError::new("cut_mismatch", message));
        }
        if let Some((_, look)) = looks.next_if(|(at, _)| *at == count)
            && let Some(difference) = look.difference(&frame.sample)?
        {
            return Err(MediaError::new("cut_mismatch", format!("frame {count} of the clip {difference}")));
        }
        count += 1;
    }
    if count != written.times_ns.len() || reader.decode_errors() > 0 || reader.ended_by.is_some() {
        let message =
            format!("{count} of {} frames of the clip decode, with {} errors", written.times_ns.len(), reader.decode_errors());
        return Err(MediaError::new("cut_mismatch", message));
    }
    Ok(())
}

/// Whether two packets of H.264 hold the same but for parameter sets and delimiters: a parser repeats the header's sets in the first packet that it
/// reads.
fn same_slices(a: &[u8], b: &[u8]) -> bool {
    let parts = |packet| {
        let mut parts = units(packet, Framing::Lengths(4))?;
        parts.retain(|unit| !unit.first().is_some_and(|header| matches!(header & 0x1F, 7..=9)));
        Some(parts)
    };
    a == b || parts(a).is_some_and(|a| parts(b) == Some(a))
}

/// Reads the clip back and holds its packets, in the order of decoding, against those that were copied. Decodes nothing.
pub(crate) fn verify_packets(
    path: &Path,
    copied: &[VideoPacket],
    deadline: Instant,
    context: &MediaContext,
) -> Result<(), MediaError> {
    let mut reader = Reader::open(&Input::file(path), Track::VideoPackets, deadline, context)?;
    reader.play()?;
    let mut count = 0;
    while let Some(packet) = reader.next()? {
        let same = copied.get(count).is_some_and(|wanted| {
            let bytes = packet.sample.buffer().and_then(|b| b.map_readable().ok());
            (wanted.pts_ns - packet.pts_ns).abs() <= TIME_TOLERANCE_NS && bytes.is_some_and(|b| same_slices(&b, &wanted.data))
        });
        if !same {
            let message = format!("packet {count} of the clip at {} us is not the one of the source", packet.pts_ns / 1000);
            return Err(MediaError::new("cut_mismatch", message));
        }
        count += 1;
    }
    if count != copied.len() || reader.ended_by.is_some() {
        let message = format!("{count} of {} packets can be read back from the clip", copied.len());
        return Err(MediaError::new("cut_mismatch", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_differ_are_told_from_those_that_are_coded_badly() {
        let ramp: Vec<u8> = (0..3 * 64 * 36).map(|i| (i / 3 % 64 * 4) as u8).collect();
        let noisy: Vec<u8> = ramp.iter().enumerate().map(|(i, v)| v.saturating_add((i * 7 % 11) as u8)).collect();
        let other: Vec<u8> = ramp.iter().map(|v| 255 - v).collect();
        assert!(psnr_db(&ramp, &noisy) > LEAST_PSNR_DB + 10.0);
        assert!(psnr_db(&ramp, &other) < LEAST_PSNR_DB - 10.0);
        assert!(psnr_db(&ramp, &vec![0; ramp.len()]) < LEAST_PSNR_DB);
    }

    #[test]
    fn a_frame_that_the_decoder_did_not_give_is_named() {
        assert_eq!(difference(&[0, 40, 80], &[0, 40, 80]), None);
        assert_eq!(difference(&[1_000_000, 2_010_000], &[1_010_000, 2_000_000]), None);
        let message = difference(&[0, 2_000_000], &[0, 1_000_000, 2_000_000]);
        assert_eq!(message.as_deref(), Some("the span has 3 frames, 2 were decoded; frame 1 is at 1000 us, decoded is 2000 us"));
        assert!(difference(&[0], &[]).is_some_and(|m| m.contains("frame 0 is at nothing")));
    }
}
