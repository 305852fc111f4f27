//! A decoding pipeline pulled from the caller's thread: `filesrc ! decodebin3 ! appsink`, one elementary stream chosen, everything else left alone.
//!
//! Why pull: the caller's loop is the watchdog. It never waits longer than [`POLL`] without looking at the bus, the deadline and the cancel flag,
//! and the bounded sink gives back-pressure. The pipeline is taken down in `Drop`, so no path leaks its threads.
//!
//! What can go wrong: GStreamer ends damaged and truncated files with a normal end of stream; callers hold what came against
//! [`super::packets`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::VideoOrientationMethod as Orientation;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::feed::Feed;
use super::info::codec_name;
use super::input::{Broken, Input, localize};
use super::limits::{END_WAIT, POLL, QUEUED_AUDIO_BUFFERS, QUEUED_FRAMES, QUEUED_PACKETS, SEEK_WAIT};
use super::sniff::sniff;
use super::track::{Track, audio_caps, chosen, link_when_added, select_one, speech_caps, stream_type};
use super::watch::{Seen, is_demuxer, watch_ends, watch_sink};
use super::{MediaContext, MediaError, locked, runtime, teardown};

/// A decoded frame or block of samples with its place in stream time.
pub(crate) struct Decoded {
    /// Stream time of its start.
    pub pts_ns: i64,
    /// Its duration, if the stream says.
    pub duration_ns: Option<i64>,
    /// Data and caps.
    pub sample: gst::Sample,
    /// Errors that the decoder had reported when this came out of it, since the last seek. Counted by the thread that decodes, so that it does not depend on how
    /// far the decoder is ahead of the caller. 0 in a pass over a plan, which ends at the first error.
    pub errors: u64,
}

/// See the module's documentation.
pub(crate) struct Reader<'a> {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
    bus: gst::Bus,
    seen: Arc<Seen>,
    context: &'a MediaContext<'a>,
    shown: String,
    track: Track,
    deadline: Instant,
    /// Counts frames that do not come here.
    progress: Option<Arc<Feed>>,
    decoded: u64,
    /// When the current wait for the pipeline began, or last got something.
    waiting_since: Instant,
    /// Why its bytes cannot be read any further.
    broken: Broken,
    /// A longer wait is a stall.
    pub patience: Duration,
    collection: Option<gst::StreamCollection>,
    /// The stream has come to its end.
    pub finished: bool,
    delivered: u64,
    last_end_ns: i64,
    peeked: Option<Decoded>,
    /// The error that ended the stream after at least one frame had been delivered.
    pub ended_by: Option<MediaError>,
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // Flushing wakes a streaming thread that waits in the full sink; the state change then joins it.
        teardown::take_down(&self.pipeline, &self.shown);
    }
}

impl<'a> Reader<'a> {
    /// Builds the pipeline and brings it to PAUSED: the first frame is decoded (or a typed reason given).
    pub fn open(input: &Input, track: Track, deadline: Instant, context: &'a MediaContext<'a>) -> Result<Self, MediaError> {
        Self::start(input, track, None, deadline, context)
    }

    /// As [`Reader::open`] for the video track, at the place where `feed` begins; the decoder gets only what it lets through. `None` if the file does not let
    /// itself be sought.
    pub fn open_fed(
        input: &Input,
        feed: Arc<Feed>,
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<Option<Self>, MediaError> {
        let seek_ns = feed.seek_ns();
        let mut reader = Self::start(input, Track::Video, Some(feed), deadline, context)?;
        let there = seek_ns.map_or(Ok(true), |to_ns| reader.seek_before(to_ns))?;
        Ok(there.then_some(reader))
    }

    fn start(
        input: &Input,
        track: Track,
        feed: Option<Arc<Feed>>,
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<Self, MediaError> {
        runtime::start()?;
        let pipeline = gst::Pipeline::new();
        let (source, broken_off) = input.source()?;
        let decode = make(if track.decodes() { "decodebin3" } else { "parsebin" })?;
        let (caps, queued) = match track {
            Track::Video => (gst::Caps::new_empty_simple("video/x-raw"), QUEUED_FRAMES),
            Track::Audio => (audio_caps(), QUEUED_AUDIO_BUFFERS),
            Track::Speech => (speech_caps(), QUEUED_AUDIO_BUFFERS),
            Track::VideoPackets | Track::AudioPackets => (gst::Caps::new_any(), QUEUED_PACKETS),
        };
        let sink = gst_app::AppSink::builder().caps(&caps).sync(false).max_buffers(queued).enable_last_sample(false).build();
        let broken = |e: gst::glib::BoolError| MediaError::new("unsupported_codec", format!("pipeline cannot be built: {e}"));
        pipeline.add_many([&source, &decode, sink.upcast_ref()]).map_err(broken)?;
        source.link(&decode).map_err(broken)?;
        let first: gst::Element = match track {
            Track::Video | Track::VideoPackets | Track::AudioPackets => sink.clone().upcast(),
            Track::Audio | Track::Speech => {
                let convert = make("audioconvert")?;
                convert.set_property_from_str("dithering", "none"); // dither is random
                pipeline.add(&convert).map_err(broken)?;
                if track == Track::Speech {
                    let resample = make("audioresample")?;
                    pipeline.add(&resample).map_err(broken)?;
                    gst::Element::link_many([&convert, &resample, sink.upcast_ref()]).map_err(broken)?;
                } else {
                    convert.link(&sink).map_err(broken)?;
                }
                convert
            }
        };
        let seen = Arc::new(Seen::default());
        if track.decodes() {
            select_one(&decode, track);
        }
        link_when_added(&decode, &first, track);
        watch_sink(&sink, &seen, feed.is_none());
        if let Some(feed) = &feed {
            feed.skim(&sink);
            // Made with the bin, before anyone can ask to be told.
            for element in decode.downcast_ref::<gst::Bin>().iter().flat_map(|bin| bin.iterate_elements()).flatten() {
                feed.place(&element, "");
            }
        }
        let progress = feed.clone();
        let (errors, told) = (Arc::clone(&seen.errors), Arc::clone(&seen));
        pipeline.connect_deep_element_added(move |_, _, element| {
            let klass = element.factory().and_then(|f| f.metadata("klass").map(str::to_owned)).unwrap_or_default();
            if is_demuxer(element) {
                told.demuxers.add(element);
                watch_ends(element, &told);
            }
            if klass.contains("Decoder") {
                runtime::single_thread(element);
                runtime::count_errors_of(element, &errors);
            }
            if let Some(feed) = &feed {
                feed.place(element, &klass);
            }
        });
        let bus = pipeline.bus().ok_or_else(|| MediaError::new("unsupported_codec", "pipeline without a bus"))?;
        let shown = input.display();
        let now = Instant::now();
        let mut reader = Reader {
            pipeline,
            sink,
            bus,
            seen,
            context,
            shown,
            track,
            deadline,
            progress,
            decoded: 0,
            waiting_since: now,
            patience: input.patience(),
            broken: broken_off,
            collection: None,
            finished: false,
            delivered: 0,
            last_end_ns: 0,
            peeked: None,
            ended_by: None,
        };
        reader.set_state(gst::State::Paused)?;
        reader.wait_for_preroll()?;
        Ok(reader)
    }

    fn set_state(&mut self, state: gst::State) -> Result<(), MediaError> {
        if self.pipeline.set_state(state).is_err() {
            self.look_at_bus()?;
            return Err(MediaError::new("unsupported_codec", format!("{}: the pipeline cannot start", self.shown)));
        }
        Ok(())
    }

    fn wait_for_preroll(&mut self) -> Result<(), MediaError> {
        loop {
            let (result, current, _) = self.pipeline.state(clock_time(POLL));
            self.look_at_bus()?;
            // Nothing will ever come out of a file that has other streams only.
            if self.collection.as_ref().is_some_and(|c| !c.is_empty()) && !self.has_wanted_stream() {
                return Err(self.no_stream_or("no_video_stream", ""));
            }
            match result {
                Ok(_) if current >= gst::State::Paused => return Ok(()),
                Err(_) => return Err(self.no_stream_or("damaged", "the pipeline stopped while it read the header")),
                Ok(_) => self.check_limits()?,
            }
        }
    }

    /// Moves to the last key frame at or before `start_ns`; false when the container cannot. Call before [`Reader::next`].
    pub fn seek_before(&mut self, start_ns: i64) -> Result<bool, MediaError> {
        let target = gst::ClockTime::from_nseconds(start_ns.max(0) as u64);
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::KEY_UNIT | gst::SeekFlags::SNAP_BEFORE;
        if self.pipeline.seek_simple(flags, target).is_err() {
            return Ok(false);
        }
        self.waiting_since = Instant::now();
        let give_up = self.waiting_since + SEEK_WAIT;
        loop {
            let (result, current, pending) = self.pipeline.state(clock_time(POLL));
            self.look_at_bus()?;
            match result {
                Ok(_) if current >= gst::State::Paused && pending == gst::State::VoidPending => return Ok(true),
                Err(_) => return Ok(false),
                Ok(_) if Instant::now() > give_up => return Ok(false),
                Ok(_) => self.check_limits()?,
            }
        }
    }

    /// Lets the pipeline run. Call once, before the first [`Reader::next`].
    pub fn play(&mut self) -> Result<(), MediaError> {
        self.set_state(gst::State::Playing)
    }

    /// The time of the next frame, which stays the next one; `None` at the end.
    pub fn peek_time(&mut self) -> Result<Option<i64>, MediaError> {
        if self.peeked.is_none() {
            self.peeked = self.next()?;
        }
        Ok(self.peeked.as_ref().map(|d| d.pts_ns))
    }

    /// The next frame or block of samples in presentation order; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Decoded>, MediaError> {
        if let Some(decoded) = self.peeked.take() {
            return Ok(Some(decoded));
        }
        // What the caller did since the last frame is not the decoder's stall.
        self.waiting_since = Instant::now();
        loop {
            self.check_limits()?;
            let Some(sample) = self.sink.try_pull_sample(clock_time(POLL)) else {
                let at_end = self.sink.is_eos();
                if let Err(e) = self.look_at_bus() {
                    if self.delivered == 0 || e.is_final() {
                        return Err(e);
                    }
                    self.ended_by = Some(e);
                    return Ok(None);
                }
                match at_end {
                    true if self.delivered == 0 => return Err(self.no_stream_or("no_frames", "no frame could be decoded")),
                    true => {
                        self.finished = true;
                        return Ok(None);
                    }
                    false => {
                        let decoded = self.progress.as_ref().map_or(0, |feed| feed.decoded());
                        if decoded != self.decoded {
                            (self.decoded, self.waiting_since) = (decoded, Instant::now());
                        }
                        continue;
                    }
                }
            };
            self.waiting_since = Instant::now();
            let stamp = locked(&self.seen.stamps).pop_front();
            if let Some(decoded) = self.place(sample, stamp.unwrap_or(0)) {
                self.delivered += 1;
                return Ok(Some(decoded));
            }
        }
    }

    /// Works out stream time; drops what an edit list hides.
    fn place(&mut self, sample: gst::Sample, errors: u64) -> Option<Decoded> {
        let buffer = sample.buffer()?;
        let duration_ns = buffer.duration().map(|d| d.nseconds() as i64);
        let pts_ns = match buffer.pts() {
            Some(pts) => {
                let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
                match self.track.decodes() {
                    true => segment.to_stream_time(pts)?.nseconds() as i64,
                    false => match segment.to_stream_time_full(pts)? {
                        gst::Signed::Positive(t) => t.nseconds() as i64,
                        gst::Signed::Negative(t) => -(t.nseconds() as i64),
                    },
                }
            }
            // A decoder that gives no time: the frame follows the last one.
            None => self.last_end_ns,
        };
        self.last_end_ns = pts_ns.saturating_add(duration_ns.unwrap_or(0));
        Some(Decoded { pts_ns, duration_ns, sample, errors })
    }

    /// The first decoded frame's caps and tags without leaving PAUSED.
    pub fn preroll(&mut self) -> Result<gst::Sample, MediaError> {
        self.waiting_since = Instant::now();
        loop {
            self.check_limits()?;
            if let Some(sample) = self.sink.try_pull_preroll(clock_time(POLL)) {
                return Ok(sample);
            }
            self.look_at_bus()?;
            if self.sink.is_eos() {
                return Err(self.no_stream_or("no_frames", "no frame could be decoded"));
            }
        }
    }

    fn check_limits(&self) -> Result<(), MediaError> {
        self.context.check_cancelled()?;
        let now = Instant::now();
        if now > self.deadline {
            let message = format!(
                "{}: not done after {} s; raise timeout_seconds if the file is sound",
                self.shown,
                self.context.timeout.as_secs()
            );
            return Err(MediaError::new("timeout", message));
        }
        if now > self.waiting_since + END_WAIT && self.nothing_left() {
            let found = self.seen.outputs.load(Ordering::Relaxed) > 0;
            let (code, what) = match found {
                true => ("no_frames", "it ends before its first frame"),
                false => ("damaged", "no stream was found in what could be read"),
            };
            return Err(self.no_stream_or(code, what));
        }
        if now > self.waiting_since + self.patience {
            let message = format!("{}: nothing came out of the decoder for {} s", self.shown, self.patience.as_secs());
            return Err(MediaError::new("stalled", message));
        }
        Ok(())
    }

    /// The container has been read to its end, and what it held was too little for a decoder to be made: no end of stream reaches the sink. Or its
    /// demuxer has given up and no stream was found.
    fn nothing_left(&self) -> bool {
        let outputs = self.seen.outputs.load(Ordering::Relaxed);
        let linked = self.sink.static_pad("sink").is_some_and(|pad| pad.is_linked());
        let over = match outputs {
            0 => self.seen.demuxers.gave_up(),
            _ => self.seen.ended.load(Ordering::Relaxed) >= outputs,
        };
        over && !linked
    }

    /// Reads all waiting messages; the first error becomes a typed one.
    fn look_at_bus(&mut self) -> Result<(), MediaError> {
        if let Some(e) = locked(&self.broken).clone() {
            return Err(e); // whatever the pipeline says comes from it
        }
        let mut failure: Option<MediaError> = None;
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::StreamCollection(m) => self.collection = Some(m.stream_collection()),
                gst::MessageView::Element(m) if failure.is_none() => {
                    if let Some(s) = m.structure().filter(|s| s.name() == "missing-plugin" && self.concerns_us(s)) {
                        let what = s.get::<String>("name").unwrap_or_else(|_| "a decoder".into());
                        let message = format!(
                            "{}: no decoder for this stream ({what}); install the GStreamer plugin that has it",
                            self.shown
                        );
                        failure = self.has_wanted_stream().then(|| MediaError::new("unsupported_codec", message));
                    }
                }
                gst::MessageView::Error(e) if failure.is_none() => {
                    failure = Some(self.classify(&e.error(), e.debug().as_deref()))
                }
                _ => {}
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn classify(&self, error: &gst::glib::Error, debug: Option<&str>) -> MediaError {
        if !self.has_wanted_stream() && self.collection.is_some() {
            return self.no_stream_or("no_video_stream", "");
        }
        let code = match error.kind::<gst::StreamError>() {
            Some(gst::StreamError::CodecNotFound) => "unsupported_codec",
            Some(gst::StreamError::TypeNotFound | gst::StreamError::WrongType) => "not_a_video",
            _ if error.kind::<gst::CoreError>() == Some(gst::CoreError::MissingPlugin) => "unsupported_codec",
            _ if error.kind::<gst::ResourceError>().is_some() => "file_unreadable",
            _ => "damaged",
        };
        let detail = debug.and_then(|d| d.lines().last()).unwrap_or_default();
        MediaError::new(code, format!("{}: {error} ({detail})", self.shown))
    }

    /// False for a missing decoder of a stream of another kind: an unknown sound codec is no reason to refuse the pictures.
    fn concerns_us(&self, missing: &gst::StructureRef) -> bool {
        let Ok(caps) = missing.get::<gst::Caps>("detail") else { return true };
        let kinds: &[&str] = match self.track {
            Track::Video | Track::VideoPackets => &["video/", "image/"],
            Track::Audio | Track::Speech | Track::AudioPackets => &["audio/"],
        };
        let name = caps.structure(0).map_or("", |s| s.name().as_str());
        let media = ["video/", "image/", "audio/", "text/", "subpicture/", "application/x-subtitle"];
        kinds.iter().any(|k| name.starts_with(k)) || !media.iter().any(|k| name.starts_with(k))
    }

    fn has_wanted_stream(&self) -> bool {
        let wanted = stream_type(self.track);
        self.collection.as_ref().is_some_and(|c| c.iter().any(|s| s.stream_type().contains(wanted)))
    }

    fn no_stream_or(&self, code: &'static str, message: &str) -> MediaError {
        if self.collection.is_some() && !self.has_wanted_stream() {
            let (code, what) = match self.track {
                Track::Video | Track::VideoPackets => ("no_video_stream", "video"),
                Track::Audio | Track::AudioPackets => ("no_video_stream", "audio"),
                Track::Speech => ("no_audio", "audio"),
            };
            return MediaError::new(code, format!("{}: no {what} stream in it", self.shown));
        }
        MediaError::new(code, format!("{}: {message}", self.shown))
    }

    /// The codec of the chosen stream.
    pub fn codec(&self) -> Option<String> {
        let collection = self.collection.as_ref()?;
        let id = chosen(collection, self.track)?;
        let stream = collection.iter().find(|s| s.stream_id().as_ref() == Some(&id))?;
        codec_name(&stream.caps()?)
    }

    /// How the picture must be turned for display.
    pub fn orientation(&self) -> Orientation {
        locked(&self.seen.orientation).unwrap_or(Orientation::Identity)
    }

    /// Errors that the decoder concealed so far, since the last seek.
    pub fn decode_errors(&self) -> u64 {
        self.seen.errors.load(Ordering::Relaxed)
    }
}

pub(crate) fn make(name: &str) -> Result<gst::Element, MediaError> {
    gst::ElementFactory::make(name)
        .build()
        .map_err(|_| MediaError::new("unsupported_codec", format!("the GStreamer element {name} is not installed")))
}

pub(crate) fn clock_time(d: std::time::Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(d.as_nanos().min(u128::from(u64::MAX - 1)) as u64)
}

/// Stream times of all frames in nanoseconds, in the order in which the decoder gives them: everything is decoded.
pub fn decoded_times(uri: &str, context: &MediaContext) -> Result<Vec<i64>, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    sniff(&local.input, deadline, context)?;
    let mut reader = Reader::open(&local.input, Track::Video, deadline, context)?;
    reader.play()?;
    let mut times = Vec::new();
    while let Some(frame) = reader.next()? {
        times.push(frame.pts_ns);
    }
    Ok(times)
}
