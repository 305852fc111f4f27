//! The times of all packets of a file, without decoding: `filesrc ! parsebin`, every stream into a counting sink.
//!
//! Why: demuxing costs a fiftieth of decoding and answers what the container's header only claims: how many frames there are, when, and where
//! the data really ends. Truncated files end in a normal end of stream; here they become visible, because delivered and stated time differ.
//!
//! What can go wrong: streams with several packets per frame; times are therefore made unique, and callers check decoded times against them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gst::prelude::*;
use gstreamer as gst;

use super::holes::is_left_out;
use super::input::Input;
use super::limits::{END_WAIT, MAX_DURATION_NS, MAX_FRAMES, POLL, TRUNCATION_NS, TRUNCATION_SHARE};
use super::plan::Unit;
use super::reader::{clock_time, make};
use super::structure::{Shape, Syntax, orderly};
use super::track::pixels_of;
use super::watch::{Demuxers, is_demuxer};
use super::{MediaContext, MediaError, locked, runtime, teardown};

/// What the packets of the chosen video stream say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Packets {
    /// Stream times of the presented frames in nanoseconds, ascending, unique.
    pub times_ns: Vec<i64>,
    /// Where the last frame ends.
    pub end_ns: i64,
    /// Where the last packet of any stream ends.
    pub any_end_ns: i64,
    /// What the container claims.
    pub stated_ns: Option<i64>,
    /// True if the container also has audio.
    pub has_audio: bool,
    /// Media type and fields of the chosen stream.
    pub caps: Option<gst::Caps>,
    /// The file asks players to turn or mirror the picture.
    pub turned: bool,
    /// Number of video streams in the file.
    pub video_streams: usize,
    /// What each stream of the file is, where that is known.
    pub streams: Vec<gst::Caps>,
    /// All packets in decoding order; none if their structure is unknown, or one of them has no time.
    pub units: Vec<Unit>,
    /// For each of them, whether it was looked at; of the others only time and size are true, see [`super::outline`]. Empty if all were.
    pub looked_at: Vec<bool>,
}

impl Packets {
    /// Mean distance of frames; 40 ms for a single frame.
    pub fn period_ns(&self) -> i64 {
        match self.times_ns.as_slice() {
            [first, .., last] => ((last - first) / (self.times_ns.len() as i64 - 1)).max(1),
            _ => 40_000_000,
        }
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.times_ns.len() * size_of::<i64>() + self.units.len() * size_of::<Unit>() + self.looked_at.len() + 256
    }

    /// True when the data ends clearly before the stated end.
    pub fn truncated(&self) -> bool {
        self.stated_ns.is_some_and(|stated| is_short(self.any_end_ns, stated))
    }
}

/// True when `delivered` misses `promised` by more than the tolerance.
pub(crate) fn is_short(delivered_ns: i64, promised_ns: i64) -> bool {
    let tolerance = TRUNCATION_NS.max((promised_ns as f64 * TRUNCATION_SHARE) as i64);
    delivered_ns + tolerance < promised_ns
}

#[derive(Default)]
struct Stream {
    caps: Option<gst::Caps>,
    segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    is_video: bool,
    is_audio: bool,
    turned: bool,
    times: Vec<i64>,
    end: i64,
    overflow: bool,
    syntax: Option<Syntax>,
    /// Something in the stream is not understood: no units.
    unclear: bool,
    units: Vec<(Unit, Shape)>,
    /// For each unit, whether its bytes were read.
    looked_at: Vec<bool>,
}

impl Stream {
    /// Notes one packet for the planner.
    fn note(&mut self, buffer: &gst::BufferRef) {
        if self.unclear || !self.is_video {
            return;
        }
        match self.unit(buffer) {
            Some(unit) if self.units.len() < MAX_FRAMES => self.units.push(unit),
            _ => {
                self.unclear = true;
                self.units = Vec::new();
                self.looked_at = Vec::new();
            }
        }
    }

    fn unit(&mut self, buffer: &gst::BufferRef) -> Option<(Unit, Shape)> {
        let bytes = buffer.map_readable().ok()?;
        let left_out = is_left_out(&bytes);
        // The planner's most hopeful guess: see `outline`.
        let shape = match left_out {
            true => Shape { reference: false, ..Shape::chained(false, true) },
            false => self.syntax?.shape(&bytes)?,
        };
        drop(bytes);
        let (pts, segment) = (buffer.pts(), self.segment.as_ref()?);
        let time_ns = match pts {
            None if shape.shown => return None,
            Some(pts) if shape.shown => {
                // As decoders do it: a frame that begins before the segment and reaches into it begins where the segment does.
                let clipped = segment.clip(pts, buffer.duration().map(|d| pts + d));
                clipped.and_then(|(from, _)| segment.to_stream_time(from?)).map(|t| t.nseconds() as i64)
            }
            _ => None,
        };
        let unit = Unit {
            time_ns,
            raw_pts: pts.map(|t| t.nseconds()),
            size: u32::try_from(buffer.size()).ok()?,
            key: shape.key,
            alone: shape.alone,
            sync: shape.sync,
            reference: shape.reference,
        };
        self.looked_at.push(!left_out);
        Some((unit, shape))
    }

    /// What was noted. Of temporal layers, only the highest one's are free of references from above.
    fn take_units(&mut self) -> Vec<Unit> {
        let top = self.units.iter().map(|(_, shape)| shape.layer).max().unwrap_or(0);
        let units = std::mem::take(&mut self.units);
        let timed = units.iter().filter(|(_, shape)| shape.shown).filter_map(|(unit, shape)| Some((*shape, unit.raw_pts?)));
        if !self.syntax.is_some_and(|syntax| orderly(syntax, timed)) {
            return Vec::new();
        }
        let layered = |unit: &Unit, shape: &Shape, looked_at: bool| unit.reference || (looked_at && shape.layer < top);
        let units = units.into_iter().zip(&self.looked_at);
        units.map(|((unit, shape), looked_at)| Unit { reference: layered(&unit, &shape, *looked_at), ..unit }).collect()
    }
}

/// Reads all packets, or takes them from the process's store.
pub(crate) fn packets(
    input: &Input,
    identity: &str,
    deadline: Instant,
    context: &MediaContext,
) -> Result<Arc<Packets>, MediaError> {
    let store = &context.plane.packets;
    if let Some(known) = store.get(identity) {
        return Ok(known);
    }
    let packets = Arc::new(scan(input, deadline, context)?);
    if packets.units.is_empty() {
        tracing::debug!(file = %input.display(), "Structure unknown: every frame will be decoded");
    }
    store.put(identity, Arc::clone(&packets), packets.bytes());
    Ok(packets)
}

/// The pipeline of a scan; taken down whichever way the scan ends.
struct Scan(gst::Pipeline, String);

impl Drop for Scan {
    fn drop(&mut self) {
        teardown::take_down(&self.0, &self.1);
    }
}

pub(crate) fn scan(input: &Input, deadline: Instant, context: &MediaContext) -> Result<Packets, MediaError> {
    runtime::start()?;
    let shown = input.display();
    let pipeline = gst::Pipeline::new();
    let (source, broken_off) = input.source()?;
    let parse = make("parsebin")?;
    let broken = |e: gst::glib::BoolError| MediaError::new("unsupported_codec", format!("pipeline cannot be built: {e}"));
    pipeline.add_many([&source, &parse]).map_err(broken)?;
    source.link(&parse).map_err(broken)?;
    let streams: Arc<Mutex<Vec<Arc<Mutex<Stream>>>>> = Arc::default();
    let activity = Arc::new(AtomicU64::new(0));
    let (weak, list, counter) = (pipeline.downgrade(), Arc::clone(&streams), Arc::clone(&activity));
    parse.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        let Ok(sink) = gst::ElementFactory::make("fakesink").property("sync", false).property("async", false).build() else {
            return;
        };
        if pipeline.add(&sink).is_err() || sink.sync_state_with_parent().is_err() {
            return;
        }
        let Some(target) = sink.static_pad("sink") else { return };
        let stream = Arc::new(Mutex::new(Stream::default()));
        count_packets(&target, &stream, &counter);
        list.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        let _ = pad.link(&target);
    });
    let demuxers = Arc::new(Demuxers::default());
    let list_of_demuxers = Arc::clone(&demuxers);
    pipeline.connect_deep_element_added(move |_, _, element| {
        if is_demuxer(element) {
            list_of_demuxers.add(element);
        }
    });
    let scan = Scan(pipeline, shown.to_string());
    let bus = scan.0.bus().ok_or_else(|| MediaError::new("unsupported_codec", "pipeline without a bus"))?;
    let mut failure = None;
    if scan.0.set_state(gst::State::Playing).is_err() {
        failure = Some("the pipeline cannot start".to_owned());
    }
    let (mut last, mut progress) = (0, Instant::now());
    while failure.is_none() {
        match bus.timed_pop_filtered(clock_time(POLL), &[gst::MessageType::Eos, gst::MessageType::Error]) {
            Some(message) => match message.view() {
                gst::MessageView::Error(e) => failure = Some(e.error().to_string()),
                _ => break,
            },
            None => {
                context.check_cancelled()?;
                let now = activity.load(Ordering::Relaxed);
                if now != last {
                    (last, progress) = (now, Instant::now());
                }
                if Instant::now() > deadline {
                    return Err(MediaError::new(
                        "timeout",
                        format!("{shown}: its packets were not read after {} s", context.timeout.as_secs()),
                    ));
                }
                if progress.elapsed() > END_WAIT
                    && demuxers.gave_up()
                    && streams.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
                {
                    failure = Some("no stream was found in what could be read".into());
                }
                if progress.elapsed() > input.patience() {
                    return Err(MediaError::new("stalled", format!("{shown}: no packet for {} s", input.patience().as_secs())));
                }
            }
        }
    }
    let stated_ns = scan.0.query_duration::<gst::ClockTime>().map(|d| d.nseconds() as i64);
    drop(scan);
    if let Some(e) = locked(&broken_off).take() {
        return Err(e);
    }
    summarise(&shown, &streams, stated_ns, failure)
}

fn count_packets(pad: &gst::Pad, stream: &Arc<Mutex<Stream>>, activity: &Arc<AtomicU64>) {
    let (stream, activity) = (Arc::clone(stream), Arc::clone(activity));
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        activity.fetch_add(1, Ordering::Relaxed);
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Segment(s) => {
                    if let Some(time) = s.segment().downcast_ref::<gst::ClockTime>() {
                        // A second segment gives times a second meaning.
                        stream.unclear |= stream.segment.as_ref().is_some_and(|known| known != time) && !stream.units.is_empty();
                        stream.segment = Some(time.clone());
                    }
                }
                gst::EventView::Caps(c) => {
                    let caps = c.caps_owned();
                    let name = caps.structure(0).map(|s| s.name().to_string()).unwrap_or_default();
                    stream.is_video = name.starts_with("video/") || name.starts_with("image/");
                    stream.is_audio = name.starts_with("audio/");
                    stream.syntax = Syntax::of(&caps);
                    stream.caps = Some(caps);
                }
                gst::EventView::Tag(t) => {
                    let turn = t.tag().get::<gst::tags::ImageOrientation>();
                    stream.turned |= turn.is_some_and(|turn| turn.get() != "rotate-0");
                }
                _ => {}
            },
            Some(gst::PadProbeData::Buffer(buffer)) => {
                stream.note(buffer);
                let time = buffer.pts().or_else(|| buffer.dts());
                let time = time.and_then(|t| stream.segment.as_ref()?.to_stream_time(t));
                if let Some(time) = time {
                    let time = time.nseconds() as i64;
                    stream.end = stream.end.max(time + buffer.duration().map_or(0, |d| d.nseconds() as i64));
                    if stream.times.len() >= MAX_FRAMES {
                        stream.overflow = true;
                    } else if stream.is_video {
                        stream.times.push(time);
                    }
                }
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}

fn summarise(
    shown: &str,
    streams: &Mutex<Vec<Arc<Mutex<Stream>>>>,
    stated_ns: Option<i64>,
    failure: Option<String>,
) -> Result<Packets, MediaError> {
    let list = streams.lock().unwrap_or_else(PoisonError::into_inner);
    let mut best: Option<(i64, Packets)> = None;
    let (mut any_end_ns, mut has_audio, mut overflow) = (0, false, false);
    for stream in list.iter() {
        let mut stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        any_end_ns = any_end_ns.max(stream.end);
        has_audio |= stream.is_audio;
        let pixels = stream.caps.as_ref().map_or(0, pixels_of);
        if !stream.is_video || best.as_ref().is_some_and(|(most, _)| pixels <= *most) {
            continue;
        }
        let mut times_ns = std::mem::take(&mut stream.times);
        times_ns.sort_unstable();
        times_ns.dedup();
        overflow = stream.overflow;
        let (caps, turned) = (stream.caps.clone(), stream.turned);
        let units = if stream.unclear { Vec::new() } else { stream.take_units() };
        let mut looked_at = std::mem::take(&mut stream.looked_at);
        if looked_at.iter().all(|looked_at| *looked_at) {
            looked_at = Vec::new();
        }
        best = Some((
            pixels,
            Packets {
                times_ns,
                end_ns: stream.end,
                any_end_ns: 0,
                stated_ns,
                has_audio: false,
                caps,
                turned,
                video_streams: 0,
                streams: Vec::new(),
                units,
                looked_at,
            },
        ));
    }
    let found_any = !list.is_empty();
    let Some((_, mut packets)) = best else {
        return Err(match failure {
            Some(e) if !found_any => MediaError::new("damaged", format!("{shown}: {e}")),
            _ => MediaError::new("no_video_stream", format!("{shown}: no video stream in it")),
        });
    };
    if packets.times_ns.is_empty() {
        let why = failure.unwrap_or_else(|| "the video stream has no packets".into());
        return Err(MediaError::new("no_frames", format!("{shown}: {why}")));
    }
    let last = packets.times_ns.last().copied().unwrap_or(0);
    if packets.end_ns <= last {
        packets.end_ns = last + packets.period_ns(); // the last packet has no duration
    }
    packets.any_end_ns = any_end_ns.max(packets.end_ns);
    packets.has_audio = has_audio;
    packets.streams = list.iter().filter_map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).caps.clone()).collect();
    packets.video_streams = list.iter().filter(|s| s.lock().unwrap_or_else(PoisonError::into_inner).is_video).count();
    if overflow || packets.any_end_ns > MAX_DURATION_NS || packets.stated_ns.is_some_and(|s| s > MAX_DURATION_NS) {
        return Err(MediaError::new("too_long", format!("{shown}: longer than {} h", MAX_DURATION_NS / 3_600_000_000_000)));
    }
    Ok(packets)
}
