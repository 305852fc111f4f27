//! The sound of a span as speech recognition wants it: one channel, 16 bits, 16,000 samples per second.
//!
//! Samples lie at their time: a gap in the file is silence, so that recognised times are times of the video; sound that begins after the span, or
//! after a gap that is longer than it, makes a span of silence. What can go wrong: a video without sound is `no_audio`; only the end of the stream
//! gives fewer samples than the span has, and is told apart from a gap ([`Sound::ended`]).

use std::time::Instant;

use super::input::localize;
use super::limits::{MAX_SPEECH_US, SPEECH_RATE};
use super::reader::Decoded;
use super::sniff::sniff;
use super::track::Track;
use super::uniform::open_track_at;
use super::{MediaContext, MediaError};

/// The sound of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sound {
    /// The first one is at the start of the span; gaps are zeros.
    pub samples: Vec<i16>,
    /// Nothing comes after these: the stream ends within the span, or ended before it. If not, `samples` fill the span.
    pub ended: bool,
}

impl Sound {
    /// True when every sample is zero, as in gaps: there is nothing to hear.
    pub fn is_silent(&self) -> bool {
        self.samples.iter().all(|sample| *sample == 0)
    }
}

/// The samples of `[start_us, end_us)`.
pub fn speech(uri: &str, start_us: i64, end_us: i64, context: &MediaContext) -> Result<Sound, MediaError> {
    let length_us = end_us.saturating_sub(start_us);
    if !(0..=MAX_SPEECH_US).contains(&length_us) {
        let message = format!("sound of [{start_us}, {end_us}) us; the limit is {} s at once", MAX_SPEECH_US / 1_000_000);
        return Err(MediaError::new("too_long", message));
    }
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let (start_ns, end_ns) = (start_us.saturating_mul(1000), end_us.saturating_mul(1000));
    let opened = open_track_at(&local.input, Track::Speech, kind, start_ns, deadline, context);
    let mut reader = match opened {
        // Nothing was said after the sound ended.
        Err(e) if e.code == "no_frames" => return Ok(Sound { samples: Vec::new(), ended: true }),
        other => other?,
    };
    let most = index(end_ns - start_ns);
    let (mut samples, mut ended) = (Vec::new(), true);
    loop {
        let block = match reader.next() {
            Err(e) if e.code == "no_frames" => break,
            other => other?,
        };
        let Some(block) = block else { break };
        if block.pts_ns >= end_ns {
            // There is more, but not here: what is missing up to the end of the span is a gap.
            ended = false;
            samples.resize(most as usize, 0);
            break;
        }
        place(&block, start_ns, most, &mut samples);
    }
    match reader.ended_by.take() {
        Some(e) => Err(e),
        None => Ok(Sound { samples, ended }),
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
pub(crate) mod tests {
    use std::path::Path;

    use gstreamer as gst;
    use gstreamer::prelude::*;

    use super::super::tests::Bench;
    use super::*;

    /// Runs a pipeline that writes a file, to its end.
    pub(crate) fn draw(pipeline: &str) {
        let pipeline = gst::parse::launch(pipeline).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = pipeline.bus().unwrap().timed_pop_filtered(gst::ClockTime::from_seconds(60), &end).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }

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
        draw(&text);
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
            let Sound { samples, ended } = speech(uri, start, end, &plane.context()).unwrap();
            assert!(!ended, "{start}");
            assert_eq!(samples.len() as i64, (end - start) * 16 / 1000);
            let inner = &samples[4_000..samples.len() - 4_000];
            assert!((pitch(inner) - 440.0).abs() < 3.0, "{}", pitch(inner));
            let rms = (inner.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / inner.len() as f64).sqrt();
            // A sine of half the full scale has 0.5 / sqrt(2).
            assert!((rms / 32_768.0 - 0.3536).abs() < 0.02, "{rms}");
        }
        let after = Sound { samples: Vec::new(), ended: true };
        assert_eq!(speech(uri, 20_000_000, 21_000_000, &plane.context()).unwrap(), after, "after the end");
        assert_eq!(speech(uri, 0, i64::MAX, &plane.context()).unwrap_err().code, "too_long");
    }

    /// Two seconds of tone that begin at 3 s, and one more second of it at 8 s, beside ten seconds of pictures.
    fn with_gaps(path: &Path) {
        gst::init().unwrap();
        let tone = |from_s: u64, buffers: u32| {
            format!(
                "audiotestsrc num-buffers={buffers} samplesperbuffer=1600 freq=440 volume=0.5 timestamp-offset={} ! \
                 audio/x-raw,format=S16LE,rate=16000,channels=1 ! c. ",
                from_s * 1_000_000_000
            )
        };
        let text = format!(
            "concat name=c adjust-base=false ! queue ! m.audio_0 {} {} matroskamux name=m ! filesink location=\"{}\" \
             videotestsrc num-buffers=100 ! video/x-raw,width=64,height=64,framerate=10/1 ! x264enc speed-preset=ultrafast ! \
             queue max-size-time=0 max-size-buffers=0 max-size-bytes=0 ! m.video_0",
            tone(3, 20),
            tone(8, 10),
            path.display()
        );
        draw(&text);
    }

    #[test]
    fn a_gap_is_silence_and_not_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gaps.mkv");
        with_gaps(&path);
        let plane = Bench::new();
        let of = |from_s: i64, to_s: i64| {
            speech(path.to_str().unwrap(), from_s * 1_000_000, to_s * 1_000_000, &plane.context()).unwrap()
        };
        // In tenths of a second: what is heard of each.
        let heard = |sound: &Sound| -> String {
            sound.samples.chunks(1600).map(|c| if c.iter().any(|s| s.abs() > 1000) { '#' } else { '.' }).collect()
        };
        let late = of(0, 2);
        assert_eq!((heard(&late), late.ended, late.is_silent()), (".".repeat(20), false, true), "sound that has not begun");
        let begins = of(2, 4);
        assert_eq!((heard(&begins), begins.ended), (format!("{}{}", ".".repeat(10), "#".repeat(10)), false));
        let pauses = of(4, 6);
        assert_eq!((heard(&pauses), pauses.ended), (format!("{}{}", "#".repeat(10), ".".repeat(10)), false));
        assert!(of(5, 8).is_silent() && !of(5, 8).ended, "a gap over the whole span");
        let last = of(7, 10);
        assert_eq!((heard(&last), last.ended), (format!("{}{}", ".".repeat(10), "#".repeat(10)), true), "nothing comes after");
        assert_eq!(of(9, 10), Sound { samples: Vec::new(), ended: true });
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
