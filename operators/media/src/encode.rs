//! The encoding half of a cut: frames and samples in, an mp4 file out.
//!
//! `appsrc ! videoconvertscale ! videoflip ! videocrop ! x264enc ! mp4mux ! filesink`, and an AAC branch. The caller feeds it and is its watchdog, as
//! for reading. Audio is fed whole and first, so that the muxer never waits for it while the caller feeds video.
//!
//! What can go wrong: AAC encoders delay their output by about one frame (21 ms at 48 kHz) and say so nowhere in an mp4 made here.

use std::path::Path;
use std::time::Instant;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::encoders::{aac_chain, encoder};
use super::limits::{ENCODER_POLL, ENCODER_QUEUED_FRAMES, POLL};
use super::picture::Geometry;
use super::reader::{clock_time, make};
use super::resize::Layout;
use super::{CutSettings, MediaContext, MediaError, teardown};

/// Divides the frame times of 24, 25, 30, 50, 60 fps, their NTSC variants and milliseconds.
const TRACK_TIMESCALE: u32 = 90_000;

/// A block of decoded audio at its place in the clip.
pub(crate) struct AudioBlock {
    pub pts_ns: i64,
    pub duration_ns: i64,
    pub samples: Vec<u8>,
}

/// Audio of a clip.
pub(crate) struct Audio {
    pub caps: gst::Caps,
    pub blocks: Vec<AudioBlock>,
}

/// A running encoder.
pub(crate) struct Encoding<'a> {
    pipeline: gst::Pipeline,
    video: gst_app::AppSrc,
    bus: gst::Bus,
    deadline: Instant,
    context: &'a MediaContext<'a>,
    /// Width and height of the clip: as displayed, cut down to even numbers.
    pub size: (u32, u32),
}

impl Drop for Encoding<'_> {
    fn drop(&mut self) {
        teardown::take_down(&self.pipeline, "the encoder of a clip");
    }
}

impl<'a> Encoding<'a> {
    /// Starts an encoder that writes to `target`.
    pub fn start(
        target: &Path,
        geometry: Geometry,
        caps: &gst::CapsRef,
        audio: Option<Audio>,
        settings: &CutSettings,
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<Self, MediaError> {
        let pipeline = gst::Pipeline::new();
        let mux = make("mp4mux")?;
        mux.set_property("faststart", true);
        let sink = make("filesink")?;
        sink.set_property("location", target.to_string_lossy().as_ref());
        pipeline.add_many([&mux, &sink]).map_err(broken)?;
        mux.link(&sink).map_err(broken)?;
        let (video, size) = video_branch(&pipeline, &mux, geometry, caps, settings)?;
        let audio = audio.map(|a| Ok::<_, MediaError>((audio_branch(&pipeline, &mux, &a.caps)?, a.blocks))).transpose()?;
        let encoding = Encoding::over(pipeline, video, size, deadline, context)?;
        if let Some((source, blocks)) = audio {
            for block in blocks {
                let buffer = timed(gst::Buffer::from_mut_slice(block.samples), block.pts_ns, block.duration_ns);
                source.push_buffer(buffer).map_err(|e| encoding.refused(e))?;
            }
            source.end_of_stream().map_err(|e| encoding.refused(e))?;
        }
        Ok(encoding)
    }

    /// Starts a finished pipeline whose frames come from `video`.
    pub fn over(
        pipeline: gst::Pipeline,
        video: gst_app::AppSrc,
        size: (u32, u32),
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<Self, MediaError> {
        let bus = pipeline.bus().ok_or_else(|| MediaError::new("encode_failed", "pipeline without a bus"))?;
        let encoding = Encoding { pipeline, video, bus, deadline, context, size };
        if encoding.pipeline.set_state(gst::State::Playing).is_err() {
            encoding.look_at_bus()?;
            return Err(MediaError::new("encode_failed", "the encoder cannot start"));
        }
        Ok(encoding)
    }

    /// Hands over a frame at its time in the clip, as soon as the encoder has room.
    pub fn push(&self, frame: gst::Buffer, pts_ns: i64, duration_ns: i64) -> Result<(), MediaError> {
        while self.video.current_level_buffers() >= ENCODER_QUEUED_FRAMES {
            self.check_limits()?;
            if let Some(message) = self.bus.timed_pop_filtered(clock_time(ENCODER_POLL), &[gst::MessageType::Error]) {
                return Err(encode_error(&message));
            }
        }
        self.video.push_buffer(timed(frame, pts_ns, duration_ns)).map_err(|e| self.refused(e))?;
        Ok(())
    }

    /// Ends the streams and waits until the file is complete.
    pub fn finish(self) -> Result<(), MediaError> {
        self.end()
    }

    /// As [`Encoding::finish`]; the pipeline stays.
    pub fn end(&self) -> Result<(), MediaError> {
        self.video.end_of_stream().map_err(|e| self.refused(e))?;
        loop {
            self.check_limits()?;
            match self.bus.timed_pop_filtered(clock_time(POLL), &[gst::MessageType::Error, gst::MessageType::Eos]) {
                Some(message) if message.type_() == gst::MessageType::Eos => return Ok(()),
                Some(message) => return Err(encode_error(&message)),
                None => {}
            }
        }
    }

    fn check_limits(&self) -> Result<(), MediaError> {
        self.context.check_cancelled()?;
        match Instant::now() > self.deadline {
            true => {
                let seconds = self.context.timeout.as_secs();
                Err(MediaError::new("timeout", format!("the clip was not encoded after {seconds} s; raise timeout_seconds")))
            }
            false => Ok(()),
        }
    }

    fn look_at_bus(&self) -> Result<(), MediaError> {
        self.bus.pop_filtered(&[gst::MessageType::Error]).map_or(Ok(()), |m| Err(encode_error(&m)))
    }

    pub fn refused(&self, error: gst::FlowError) -> MediaError {
        self.look_at_bus()
            .err()
            .unwrap_or_else(|| MediaError::new("encode_failed", format!("the encoder takes no more data: {error}")))
    }
}

fn encode_error(message: &gst::Message) -> MediaError {
    match message.view() {
        gst::MessageView::Error(e) => MediaError::new(
            "encode_failed",
            format!("{} ({})", e.error(), e.debug().unwrap_or_default().lines().last().unwrap_or("")),
        ),
        _ => MediaError::new("encode_failed", "the encoder stopped"),
    }
}

pub(crate) fn broken(e: gst::glib::BoolError) -> MediaError {
    MediaError::new("encode_failed", format!("pipeline cannot be built: {e}"))
}

pub(crate) fn timed(mut buffer: gst::Buffer, pts_ns: i64, duration_ns: i64) -> gst::Buffer {
    let time = |ns: i64| gst::ClockTime::from_nseconds(ns.max(0) as u64);
    let inner = buffer.make_mut();
    inner.set_pts(time(pts_ns));
    inner.set_dts(gst::ClockTime::NONE);
    inner.set_duration(time(duration_ns));
    buffer
}

pub(crate) fn app_source(caps: &gst::Caps) -> gst_app::AppSrc {
    gst_app::AppSrc::builder().caps(caps).format(gst::Format::Time).max_bytes(0).build()
}

fn chain(pipeline: &gst::Pipeline, elements: &[gst::Element], into: &gst::Pad) -> Result<(), MediaError> {
    pipeline.add_many(elements).map_err(broken)?;
    gst::Element::link_many(elements).map_err(broken)?;
    let last = elements.last().and_then(|e| e.static_pad("src"));
    let last = last.ok_or_else(|| MediaError::new("encode_failed", "an encoder without a source pad"))?;
    last.link(into).map_err(|e| MediaError::new("encode_failed", format!("the encoder does not fit the muxer: {e}")))?;
    Ok(())
}

fn mux_pad(mux: &gst::Element, template: &str) -> Result<gst::Pad, MediaError> {
    mux.request_pad_simple(template).ok_or_else(|| MediaError::new("encode_failed", format!("mp4mux has no {template}")))
}

fn video_branch(
    pipeline: &gst::Pipeline,
    mux: &gst::Element,
    geometry: Geometry,
    caps: &gst::CapsRef,
    settings: &CutSettings,
) -> Result<(gst_app::AppSrc, (u32, u32)), MediaError> {
    let info = gst_video::VideoInfo::from_caps(caps).map_err(broken)?;
    let mut source_caps = caps.to_owned();
    if info.is_interlaced() {
        source_caps.make_mut().set("interlace-mode", "progressive"); // frames are kept as they are
    }
    if let Some(rate) = settings.fps.and_then(gst::Fraction::approximate_f64) {
        source_caps.make_mut().set("framerate", rate);
    }
    let source = app_source(&source_caps);
    let displayed = geometry.displayed();
    let layout = match settings.size {
        // 4:2:0 needs even sides: the last odd column and row go.
        None => Layout { scaled: displayed, size: (displayed.0 & !1, displayed.1 & !1) },
        Some(target) => target.layout(displayed),
    };
    let (width, height) = if geometry.turns() { (layout.scaled.1, layout.scaled.0) } else { layout.scaled };
    let mut raw = gst::Caps::builder("video/x-raw")
        .field("format", "I420")
        .field("width", width as i32)
        .field("height", height as i32)
        .field("pixel-aspect-ratio", gst::Fraction::new(1, 1));
    let colours = info.colorimetry();
    if colours.range() == gst_video::VideoColorRange::Range0_255 {
        let limited = gst_video::VideoColorimetry::new(
            gst_video::VideoColorRange::Range16_235,
            colours.matrix(),
            colours.transfer(),
            colours.primaries(),
        );
        raw = raw.field("colorimetry", limited.to_string());
    }
    let convert = make("videoconvertscale")?;
    convert.set_property_from_str("dither", "none");
    let filter = make("capsfilter")?;
    filter.set_property("caps", raw.build());
    let flip = make("videoflip")?;
    flip.set_property("video-direction", geometry.orientation);
    let size = layout.size;
    if size.0 == 0 || size.1 == 0 {
        return Err(MediaError::new(
            "encode_failed",
            format!("a picture of {}x{} is too small for H.264", displayed.0, displayed.1),
        ));
    }
    let crop = make("videocrop")?;
    let spare = (layout.scaled.0 - size.0, layout.scaled.1 - size.1);
    if settings.size.is_some() {
        convert.set_property("add-borders", false); // rounding to even sides is no reason for borders
        crop.set_property("left", (spare.0 / 2) as i32);
        crop.set_property("top", (spare.1 / 2) as i32);
        crop.set_property("right", (spare.0 - spare.0 / 2) as i32);
        crop.set_property("bottom", (spare.1 - spare.1 / 2) as i32);
    } else {
        crop.set_property("right", spare.0 as i32);
        crop.set_property("bottom", spare.1 as i32);
    }
    let pad = mux_pad(mux, "video_%u")?;
    pad.set_property("trak-timescale", TRACK_TIMESCALE);
    chain(pipeline, &[source.clone().upcast(), convert, filter, flip, crop, encoder(settings, None)?], &pad)?;
    Ok((source, size))
}

fn audio_branch(pipeline: &gst::Pipeline, mux: &gst::Element, caps: &gst::Caps) -> Result<gst_app::AppSrc, MediaError> {
    let source = app_source(caps);
    let mut elements = vec![source.clone().upcast()];
    elements.extend(aac_chain()?);
    chain(pipeline, &elements, &mux_pad(mux, "audio_%u")?)?;
    Ok(source)
}
