//! Drawn frames and tones into a video file, by GStreamer: appsrc, encoder, muxer, filesink.
//!
//! One encoder thread each, so that the same frames give the same bytes. What can go wrong: a missing encoder (the message names the element), an
//! encoder that stops taking frames (a deadline ends it).

use std::path::Path;
use std::time::{Duration, Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use crate::SampleError;
use crate::spec::Format;

/// Longest wait for the encoder to take one frame or to finish.
const ENCODER_DEADLINE: Duration = Duration::from_secs(60);
/// Frames waiting before the encoder.
const QUEUED_FRAMES: u64 = 6;
const AUDIO_RATE: usize = 44_100;
const AUDIO_CHUNK: usize = 1_024;

/// What to encode; `size` is the stored size.
pub struct Job<'a> {
    pub path: &'a Path,
    pub format: Format,
    pub size: (u32, u32),
    /// Frames per second, or of the grid that they lie on. Named for variable rates too: without it the muxer gives the last frame no duration, and
    /// players drop it.
    pub fps: i32,
    /// Frames of that grid are missing.
    pub variable: bool,
    /// Ticks per second of the MP4 video track.
    pub timescale: u32,
    pub times_ns: &'a [u64],
    pub end_ns: u64,
    /// Tone in hertz from each time on (ns); empty = no sound.
    pub tones: &'a [(u64, f32)],
}

fn pipeline_text(job: &Job) -> String {
    let (encoder, muxer) = match job.format {
        Format::Mp4 => (h264(job.variable), format!("mp4mux name=mux movie-timescale={}", job.timescale)),
        Format::Mp4IndexFirst => (h264(job.variable), "mp4mux name=mux faststart=true".to_owned()),
        Format::Mkv => (h264(job.variable), "matroskamux name=mux".to_owned()),
        // A fixed speed: in the encoder's real-time mode the bytes would depend on the clock.
        Format::WebmVp8 => {
            ("vp8enc deadline=1000000 cpu-used=4 threads=1 target-bitrate=900000".to_owned(), "webmmux name=mux".to_owned())
        }
        Format::WebmVp9 => (
            "vp9enc deadline=1000000 cpu-used=5 threads=1 row-mt=false target-bitrate=900000".to_owned(),
            "webmmux name=mux".to_owned(),
        ),
    };
    let mut text = String::new();
    if !job.times_ns.is_empty() {
        text += &format!("appsrc name=video format=time ! {encoder} ! mux. ");
    }
    if !job.tones.is_empty() {
        text += "appsrc name=audio format=time ! audioconvert ! avenc_aac bitrate=64000 ! mux. ";
    }
    text + &format!("{muxer} ! filesink name=sink sync=false")
}

fn h264(variable: bool) -> String {
    // With a variable rate, reordered frames make the muxer's duration too short and players drop the last frames: no B-frames then.
    let b_frames = if variable { 0 } else { 3 };
    format!(
        "x264enc speed-preset=superfast pass=qual quantizer=28 threads=1 key-int-max=72 bframes={b_frames} \
         ! video/x-h264,profile=high ! h264parse"
    )
}

/// Encodes; `draw` gives the stored picture of frame `n` as planar YUV 4:2:0.
pub fn encode(job: &Job, mut draw: impl FnMut(usize) -> Vec<u8>) -> Result<(), SampleError> {
    let fail = |what: String| SampleError::Encode { path: job.path.to_owned(), what };
    let text = pipeline_text(job);
    let element = gst::parse::launch(&text).map_err(|e| fail(format!("{e} (pipeline: {text})")))?;
    let pipeline = element.downcast::<gst::Pipeline>().map_err(|_| fail("not a pipeline".into()))?;
    let stop = Stop(&pipeline);
    let bus = pipeline.bus().ok_or_else(|| fail("pipeline without bus".into()))?;
    let sink = pipeline.by_name("sink").ok_or_else(|| fail("no file sink".into()))?;
    sink.set_property("location", job.path.to_string_lossy().as_ref());
    let source = |name: &str| pipeline.by_name(name).and_then(|e| e.downcast::<AppSrc>().ok());
    let (video, audio) = (source("video"), source("audio"));
    if let Some(video) = &video {
        let (w, h) = job.size;
        let rate = gst::Fraction::new(job.fps, 1);
        let caps = gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", w as i32)
            .field("height", h as i32)
            .field("framerate", rate)
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .field("colorimetry", "bt601")
            .field("interlace-mode", "progressive")
            .build();
        video.set_caps(Some(&caps));
        if let (true, Some(pad)) = (job.variable, pipeline.by_name("mux").and_then(|m| m.sink_pads().into_iter().next())) {
            pad.set_property("trak-timescale", job.timescale);
        }
    }
    pipeline.set_state(gst::State::Playing).map_err(|e| fail(e.to_string()))?;
    if let Some(audio) = &audio {
        push_tones(audio, job).map_err(fail)?;
    }
    if let Some(video) = &video {
        for (n, &pts) in job.times_ns.iter().enumerate() {
            wait_for_room(video, &bus).map_err(fail)?;
            let end = job.times_ns.get(n + 1).copied().unwrap_or(job.end_ns);
            push(video, draw(n), pts, end).map_err(fail)?;
        }
        video.end_of_stream().map_err(|e| fail(e.to_string()))?;
    }
    let timeout = gst::ClockTime::from_mseconds(ENCODER_DEADLINE.as_millis() as u64);
    let message = bus.timed_pop_filtered(timeout, &[gst::MessageType::Eos, gst::MessageType::Error]);
    let outcome = match message.as_ref().map(|m| m.view()) {
        Some(gst::MessageView::Eos(_)) => Ok(()),
        Some(gst::MessageView::Error(e)) => Err(fail(format!("{} ({:?})", e.error(), e.debug()))),
        _ => Err(fail(format!("the encoder did not finish within {} s", ENCODER_DEADLINE.as_secs()))),
    };
    drop(stop);
    outcome
}

/// Stops the pipeline on every way out.
struct Stop<'a>(&'a gst::Pipeline);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        // Going to Null cannot fail in a way that anyone could act on.
        let _ = self.0.set_state(gst::State::Null);
    }
}

fn push(source: &AppSrc, bytes: Vec<u8>, start_ns: u64, end_ns: u64) -> Result<(), String> {
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    if let Some(b) = buffer.get_mut() {
        b.set_pts(gst::ClockTime::from_nseconds(start_ns));
        b.set_duration(gst::ClockTime::from_nseconds(end_ns.saturating_sub(start_ns)));
    }
    source.push_buffer(buffer).map(|_| ()).map_err(|e| format!("the encoder refused a buffer: {e}"))
}

fn wait_for_room(source: &AppSrc, bus: &gst::Bus) -> Result<(), String> {
    let started = Instant::now();
    while source.current_level_buffers() >= QUEUED_FRAMES {
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(e) = message.view()
        {
            return Err(format!("{} ({:?})", e.error(), e.debug()));
        }
        if started.elapsed() > ENCODER_DEADLINE {
            return Err(format!("the encoder took no frame for {} s", ENCODER_DEADLINE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// All sound at once: a few megabytes at most, and the muxer needs both streams to go on.
fn push_tones(source: &AppSrc, job: &Job) -> Result<(), String> {
    let caps = gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("layout", "interleaved")
        .field("rate", AUDIO_RATE as i32)
        .field("channels", 1i32)
        .build();
    source.set_caps(Some(&caps));
    source.set_max_bytes(0);
    let total = (job.end_ns as u128 * AUDIO_RATE as u128 / 1_000_000_000) as usize;
    let time_of = |sample: usize| (sample as u128 * 1_000_000_000 / AUDIO_RATE as u128) as u64;
    let mut phase = 0.0f64;
    for first in (0..total).step_by(AUDIO_CHUNK) {
        let last = (first + AUDIO_CHUNK).min(total);
        let mut bytes = Vec::with_capacity((last - first) * 2);
        for sample in first..last {
            let now = time_of(sample);
            let hertz = job.tones.iter().rev().find(|(from, _)| *from <= now).map_or(0.0, |t| t.1);
            phase = (phase + f64::from(hertz) / AUDIO_RATE as f64).fract();
            bytes.extend_from_slice(&(((phase * std::f64::consts::TAU).sin() * 6_000.0).round() as i16).to_le_bytes());
        }
        push(source, bytes, time_of(first), time_of(last))?;
    }
    source.end_of_stream().map(|_| ()).map_err(|e| e.to_string())
}
