//! A clip that is encoded as a whole: every frame of the source whose time lies in the span, with its distance to its neighbours kept (variable frame
//! rates too).
//!
//! Rotation and pixel aspect are baked in, the picture is 8-bit 4:2:0, odd sides lose their last line. Encoder and muxer run single-threaded and
//! creation times are zeroed: the same input gives the same bytes on the same software.

use std::path::Path;

use gstreamer_video as gst_video;

use super::MediaError;
use super::clip_audio::decoded_audio;
use super::cut::{CutSettings, Source};
use super::encode::Encoding;
use super::info::codec_name;
use super::picture::Geometry;
use super::reader::{Decoded, Reader};
use super::resize::{place_ns, places};
use super::uniform::open_at;
use super::verify::{Look, Written, difference};

/// Encodes the span into the file `target`.
pub(crate) fn exact(source: &Source, target: &Path, settings: &CutSettings) -> Result<Written, MediaError> {
    // Elsewhere a packet need not be a frame: field pairs, hidden VP8 frames, containers without presentation times.
    let codec = source.packets.caps.as_ref().and_then(codec_name);
    let one_packet_one_frame =
        source.kind.seeks_exactly() && codec.is_some_and(|c| ["h264", "hevc", "vp9", "av1"].contains(&c.as_str()));
    let expected_ns = one_packet_one_frame.then(|| source.times_ns(source.start_ns, source.end_ns));

    let mut reader = open_at(source.input, source.kind, source.start_ns, source.deadline, source.context)?;
    let first = next_inside(source, &mut reader, None)?.ok_or_else(|| source.no_frames())?;
    let audio = match settings.audio && source.packets.has_audio {
        true => decoded_audio(source, first.pts_ns, source.end_ns)?,
        false => None,
    };
    let has_audio = audio.is_some();
    let unknown = || MediaError::new("damaged", format!("{}: a decoded frame of unknown format", source.input.display()));
    let caps = first.sample.caps_owned().ok_or_else(unknown)?;
    let info = gst_video::VideoInfo::from_caps(&caps).map_err(|_| unknown())?;
    let geometry = Geometry::of(&info, reader.orientation())?;
    let encoding = Encoding::start(target, geometry, &caps, audio, settings, source.deadline, source.context)?;
    let zero = first.pts_ns;
    let last_ns = |frame: &Decoded| frame.duration_ns.unwrap_or_else(|| source.packets.period_ns());
    let (mut decoded_ns, mut times_ns) = (Vec::new(), Vec::new());
    let mut looks = Vec::new();
    let mut shown: Option<Decoded> = None;
    let mut current = first;
    let last_duration_ns = loop {
        if current.sample.caps() != Some(caps.as_ref()) {
            let message = format!("{}: the picture changes its format inside the clip", source.input.display());
            return Err(MediaError::new("format_change", message));
        }
        let next = next_inside(source, &mut reader, Some(current.pts_ns))?;
        let duration_ns = match &next {
            Some(next) => next.pts_ns - current.pts_ns,
            // Of a frame that is shown for longer than the span, a clip of another rate repeats what lies in the span.
            None if settings.fps.is_some() => last_ns(&current).min(source.end_ns - current.pts_ns).max(1),
            None => last_ns(&current).max(1),
        };
        decoded_ns.push(current.pts_ns);
        let from_ns = current.pts_ns - zero;
        for (pts_ns, duration_ns) in places_of(from_ns, duration_ns, next.is_none() && times_ns.is_empty(), settings.fps) {
            if times_ns.is_empty() {
                looks.push((0, Look::resized(&current.sample, reader.orientation(), settings.size)?));
            }
            let buffer = current.sample.buffer_owned().ok_or_else(unknown)?;
            encoding.push(buffer, pts_ns, duration_ns)?;
            times_ns.push(zero + pts_ns);
            shown = Some(Decoded {
                pts_ns: zero + pts_ns,
                duration_ns: Some(duration_ns),
                sample: current.sample.clone(),
                errors: current.errors,
            });
        }
        match next {
            Some(next) => current = next,
            None => break shown.as_ref().and_then(|s| s.duration_ns).unwrap_or(duration_ns),
        }
    };
    sound(source, &mut reader, current.errors)?;
    if let Some(difference) = expected_ns.and_then(|expected| difference(&decoded_ns, expected)) {
        return Err(MediaError::new("cut_mismatch", format!("{}: {difference}", source.input.display())));
    }
    let size = encoding.size;
    encoding.finish()?;
    if let Some(last) = shown.filter(|_| times_ns.len() > 1) {
        looks.push((times_ns.len() - 1, Look::resized(&last.sample, reader.orientation(), settings.size)?));
    }
    Ok(Written { times_ns, last_duration_ns, size, has_audio, copied: 0, looks })
}

/// When and how long a frame is shown in the clip: once, or as often as the wanted frame rate says. A clip shows at least one.
fn places_of(from_ns: i64, duration_ns: i64, needed: bool, fps: Option<f64>) -> Vec<(i64, i64)> {
    let Some(fps) = fps else { return vec![(from_ns, duration_ns)] };
    let mut places = places(from_ns, from_ns + duration_ns, fps);
    if places.is_empty() && needed {
        places = 0..1;
    }
    places.map(|k| (place_ns(k, fps), place_ns(k + 1, fps) - place_ns(k, fps))).collect()
}

/// An error if the source broke or was concealed up to the last frame that was used, which has this many errors.
pub(crate) fn sound(source: &Source, reader: &mut Reader, errors: u64) -> Result<(), MediaError> {
    if let Some(e) = reader.ended_by.take() {
        return Err(MediaError::new(e.code, format!("{} (inside the clip)", e.message)));
    }
    // Behind the end of a clip the decoder is ahead of what was taken from it.
    match if reader.finished { reader.decode_errors() } else { errors } {
        0 => Ok(()),
        errors => {
            let path = source.input.display();
            let message = format!("{path}: the source decodes with {errors} errors inside the clip; fetch it again");
            Err(MediaError::new("cut_mismatch", message))
        }
    }
}

/// The next frame of the span; frames that do not move forward in time are dropped, as players do.
pub(crate) fn next_inside(source: &Source, reader: &mut Reader, after_ns: Option<i64>) -> Result<Option<Decoded>, MediaError> {
    while let Some(frame) = reader.next()? {
        if frame.pts_ns >= source.end_ns {
            return Ok(None);
        }
        if frame.pts_ns >= source.start_ns && after_ns.is_none_or(|t| frame.pts_ns > t) {
            return Ok(Some(frame));
        }
    }
    Ok(None)
}
