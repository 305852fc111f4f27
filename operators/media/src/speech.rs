//! The sound of a span as speech recognition wants it: one channel, 16 bits, 16,000 samples per second.
//!
//! Samples lie at their time: a gap in the file is silence, so that recognised times are times of the video. What can go wrong: a video without sound is
//! `no_audio`; sound that ends before the span gives a shorter answer, possibly an empty one.

use std::time::Instant;

use super::fetch::localize;
use super::limits::{MAX_SPEECH_US, SPEECH_RATE};
use super::reader::{Decoded, Track};
use super::sniff::sniff;
use super::uniform::open_track_at;
use super::{MediaContext, MediaError};

/// The samples of `[start_us, end_us)`; the first one is at `start_us`.
pub fn speech(uri: &str, start_us: i64, end_us: i64, context: &MediaContext) -> Result<Vec<i16>, MediaError> {
    let length_us = end_us.saturating_sub(start_us);
    if !(0..=MAX_SPEECH_US).contains(&length_us) {
        let message = format!("sound of [{start_us}, {end_us}) us; the limit is {} s at once", MAX_SPEECH_US / 1_000_000);
        return Err(MediaError::new("too_long", message));
    }
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.path)?;
    let (start_ns, end_ns) = (start_us.saturating_mul(1000), end_us.saturating_mul(1000));
    let opened = open_track_at(&local.path, Track::Speech, kind, start_ns, deadline, context);
    let mut reader = match opened {
        // Nothing was said after the sound ended.
        Err(e) if e.code == "no_frames" => return Ok(Vec::new()),
        other => other?,
    };
    let mut samples = Vec::new();
    loop {
        let block = match reader.next() {
            Err(e) if e.code == "no_frames" => break,
            other => other?,
        };
        let Some(block) = block else { break };
        if block.pts_ns >= end_ns {
            break;
        }
        place(&block, start_ns, index(end_ns - start_ns), &mut samples);
    }
    match reader.ended_by.take() {
        Some(e) => Err(e),
        None => Ok(samples),
    }
}

/// How many samples a time has.
fn index(ns: i64) -> i64 {
    ((i128::from(ns) * i128::from(SPEECH_RATE) + 500_000_000).div_euclid(1_000_000_000)) as i64
}

/// Writes a block's samples where they belong, as far as they lie in the span of `most` samples.
fn place(block: &Decoded, start_ns: i64, most: i64, samples: &mut Vec<i16>) {
    let Some(data) = block.sample.buffer().and_then(|b| b.map_readable().ok()) else { return };
    let at = index(block.pts_ns - start_ns);
    let values: Vec<i16> = data.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    let skip = (-at).clamp(0, values.len() as i64);
    let (from, to) = ((at + skip).clamp(0, most) as usize, (at + values.len() as i64).clamp(0, most) as usize);
    if to <= from {
        return;
    }
    if samples.len() < to {
        samples.resize(to, 0);
    }
    samples[from..to].copy_from_slice(&values[skip as usize..skip as usize + (to - from)]);
}

/// A WAV file of samples as [`speech`] gives them.
pub fn wav(samples: &[i16]) -> Vec<u8> {
    let bytes = (samples.len() * 2) as u32;
    let mut out = Vec::with_capacity(44 + samples.len() * 2);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + bytes).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16u32.to_le_bytes());
    for short in [1u16, 1] {
        out.extend_from_slice(&short.to_le_bytes()); // PCM, one channel
    }
    out.extend_from_slice(&SPEECH_RATE.to_le_bytes());
    out.extend_from_slice(&(SPEECH_RATE * 2).to_le_bytes());
    for short in [2u16, 16] {
        out.extend_from_slice(&short.to_le_bytes()); // bytes per sample, bits
    }
    out.extend_from_slice(b"data");
    out.extend_from_slice(&bytes.to_le_bytes());
    samples.iter().for_each(|s| out.extend_from_slice(&s.to_le_bytes()));
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use gstreamer as gst;
    use gstreamer::prelude::*;

    use super::super::tests::Bench;
    use super::*;

    /// Four seconds: a picture, and a tone of 440 Hz from `from_s` on.
    fn video(path: &Path, sound: bool) {
        gst::init().unwrap();
        let sound = match sound {
            true => {
                "audiotestsrc num-buffers=40 samplesperbuffer=4410 freq=440 volume=0.5 ! audio/x-raw,rate=44100,channels=2 ! \
                     avenc_aac ! aacparse ! m. "
            }
            false => "",
        };
        let text = format!(
            "mp4mux name=m ! filesink location=\"{}\" {sound} \
             videotestsrc num-buffers=40 ! video/x-raw,width=64,height=64,framerate=10/1 ! x264enc speed-preset=ultrafast ! m.",
            path.display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &end).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }

    /// Crossings of zero from below, per second.
    fn pitch(samples: &[i16]) -> f64 {
        let up = samples.windows(2).filter(|w| w[0] < 0 && w[1] >= 0).count();
        up as f64 * f64::from(SPEECH_RATE) / samples.len() as f64
    }

    #[test]
    fn a_tone_keeps_its_pitch_its_length_and_its_loudness() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tone.mp4");
        video(&path, true);
        let plane = Bench::new();
        let uri = path.to_str().unwrap();
        for (start, end) in [(0, 2_000_000), (1_000_000, 3_500_000)] {
            let samples = speech(uri, start, end, &plane.context()).unwrap();
            assert_eq!(samples.len() as i64, (end - start) * 16 / 1000);
            let inner = &samples[4_000..samples.len() - 4_000];
            assert!((pitch(inner) - 440.0).abs() < 3.0, "{}", pitch(inner));
            let rms = (inner.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / inner.len() as f64).sqrt();
            // A sine of half the full scale has 0.5 / sqrt(2).
            assert!((rms / 32_768.0 - 0.3536).abs() < 0.02, "{rms}");
        }
        assert!(speech(uri, 20_000_000, 21_000_000, &plane.context()).unwrap().is_empty(), "after the end");
        assert_eq!(speech(uri, 0, i64::MAX, &plane.context()).unwrap_err().code, "too_long");
    }

    #[test]
    fn a_video_without_sound_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("silent.mp4");
        video(&path, false);
        let plane = Bench::new();
        assert_eq!(speech(path.to_str().unwrap(), 0, 1_000_000, &plane.context()).unwrap_err().code, "no_audio");
        std::fs::write(&path, "no video").unwrap();
        assert_eq!(speech(path.to_str().unwrap(), 0, 1_000_000, &plane.context()).unwrap_err().code, "not_a_video");
    }

    #[test]
    fn wav_has_the_header_that_players_know() {
        let bytes = wav(&[0, 1, -1]);
        assert_eq!(bytes.len(), 44 + 6);
        assert_eq!((&bytes[..4], &bytes[8..16], &bytes[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), 36 + 6);
        assert_eq!(u32::from_le_bytes(bytes[24..28].try_into().unwrap()), 16_000);
        assert_eq!(bytes[44..], [0, 0, 1, 0, 255, 255]);
    }
}
