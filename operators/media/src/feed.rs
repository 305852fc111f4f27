//! A plan at work: packets that need not be decoded are taken out before the decoder's queue, frames that nobody wants before the caller's.
//!
//! What can go wrong: the demuxer gives other packets than in the scan. The feed then lets everything through and says so.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use super::limits::SEEK_FROM_US;
use super::packets::Packets;
use super::plan::{Plan, Unit};

/// Which packets the decoder gets.
pub(crate) struct Feed {
    packets: Arc<Packets>,
    keep: Vec<bool>,
    /// Presentation times of frames that are decoded for others' sake, as the decoder gives them.
    unwanted: HashSet<u64>,
    /// Packets are taken out before the decoder instead of before its queue.
    behind_queue: bool,
    /// The pass begins with a seek to here: the time of the first packet that is kept.
    seek_ns: Option<i64>,
    /// Number of the next packet, or one of the two states before it is known.
    next: AtomicUsize,
    /// The last packet that is kept; what follows it is not even read.
    last: Option<usize>,
    failed: AtomicBool,
    decoded: AtomicU64,
}

/// Everything goes through until the seek.
const BEFORE_SEEK: usize = usize::MAX;
/// The next packet tells where the seek went.
const AFTER_SEEK: usize = usize::MAX - 1;

impl Feed {
    /// For a plan over the packets' units. So that the cost of a part of a video does not grow with the video, `seeks` begins with a seek, if the part is not
    /// at the beginning, and `ends` ends the stream behind the last packet that is kept.
    pub fn new(packets: Arc<Packets>, plan: &Plan, seeks: bool, ends: bool) -> Self {
        let wanted = |u: &&Unit| u.time_ns.is_none_or(|t| plan.picks_ns.binary_search(&t).is_ok());
        let kept = || packets.units.iter().zip(&plan.keep).filter(|(_, keep)| **keep).map(|(unit, _)| unit);
        let unwanted = kept().filter(|u| !wanted(u)).filter_map(|u| u.raw_pts).collect();
        let first = kept().next().and_then(|unit| unit.time_ns);
        let seek_ns = first.filter(|t| seeks && *t > SEEK_FROM_US * 1000);
        // Beside other streams the queue must see every packet: one that gets nothing for a while lets the others fill up, and the demuxer, which has
        // nowhere to put their packets, never comes to ours.
        let behind_queue = packets.streams.len() != 1;
        Feed {
            unwanted,
            behind_queue,
            seek_ns,
            next: AtomicUsize::new(if seek_ns.is_some() { BEFORE_SEEK } else { 0 }),
            last: plan.keep.iter().rposition(|keep| *keep).filter(|_| ends),
            keep: plan.keep.clone(),
            packets,
            failed: AtomicBool::new(false),
            decoded: AtomicU64::new(0),
        }
    }

    /// Where the reader must seek to before anything else.
    pub fn seek_ns(&self) -> Option<i64> {
        self.seek_ns
    }

    /// Frames that came out of the decoder, wanted or not.
    pub fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// True if other packets came than were expected; from then on all of them went to the decoder.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Stands behind the parsers, where that can be: a packet that is not decoded needs no queue. Else before the decoder.
    pub fn place(self: &Arc<Self>, element: &gst::Element, klass: &str) {
        if !self.behind_queue && element.factory().is_some_and(|f| f.name() == "parsebin") {
            let feed = Arc::clone(self);
            element.connect_pad_added(move |_, pad| {
                let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
                if caps.structure(0).is_some_and(|s| s.name().starts_with("video/")) {
                    feed.watch(pad);
                }
            });
        } else if self.behind_queue
            && klass.contains("Decoder")
            && klass.contains("Video")
            && let Some(pad) = element.static_pad("sink")
        {
            self.watch(&pad);
        }
    }

    /// Stands before the sink: frames that nobody wants need not wake the caller.
    pub fn skim(self: &Arc<Self>, sink: &gst_app::AppSink) {
        let Some(pad) = sink.static_pad("sink") else { return };
        let feed = Arc::clone(self);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else { return gst::PadProbeReturn::Ok };
            feed.decoded.fetch_add(1, Ordering::Relaxed);
            if !buffer.pts().is_some_and(|t| feed.unwanted.contains(&t.nseconds())) {
                return gst::PadProbeReturn::Ok;
            }
            info.data = None;
            gst::PadProbeReturn::Handled
        });
    }

    fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let feed = Arc::clone(self);
        pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_FLUSH, move |pad, info| {
            let buffer = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer,
                Some(gst::PadProbeData::Event(event)) => {
                    if event.type_() == gst::EventType::FlushStop {
                        feed.decoded.store(0, Ordering::Relaxed);
                        let _ = feed.next.compare_exchange(BEFORE_SEEK, AFTER_SEEK, Ordering::Relaxed, Ordering::Relaxed);
                    }
                    return gst::PadProbeReturn::Ok;
                }
                _ => return gst::PadProbeReturn::Ok,
            };
            let Some(at) = feed.number(buffer) else { return gst::PadProbeReturn::Ok };
            let ends = feed.last.is_some_and(|last| at > last) && !feed.failed();
            if ends {
                // The decoder gives what it holds; whoever pushes here hears that no more is wanted.
                match pad.direction() {
                    gst::PadDirection::Src => pad.push_event(gst::event::Eos::new()),
                    _ => pad.send_event(gst::event::Eos::new()),
                };
            } else if feed.failed() || feed.keep.get(at).copied().unwrap_or(true) {
                return gst::PadProbeReturn::Ok;
            }
            // `Drop` would make GStreamer complain about the buffer that the binding has taken.
            info.data = None;
            gst::PadProbeReturn::Handled
        });
    }

    /// The number of this packet, held against the scan; none before a seek.
    fn number(&self, buffer: &gst::BufferRef) -> Option<usize> {
        let (pts, size) = (buffer.pts().map(|t| t.nseconds()), buffer.size());
        let units = &self.packets.units;
        let at = match self.next.load(Ordering::Relaxed) {
            BEFORE_SEEK => return None,
            AFTER_SEEK => {
                let first = self.keep.iter().position(|keep| *keep);
                // Its size is not compared: parsers put parameter sets before the first packet after a seek.
                let landed = units.iter().position(|u| u.sync && u.raw_pts == pts).filter(|at| first.is_some_and(|f| *at <= f));
                if landed.is_none() {
                    self.failed.store(true, Ordering::Relaxed);
                }
                landed.unwrap_or(0)
            }
            at => {
                if !units.get(at).is_some_and(|u| u.raw_pts == pts && u.size as usize == size) {
                    self.failed.store(true, Ordering::Relaxed);
                }
                at
            }
        };
        self.next.store(at + 1, Ordering::Relaxed);
        Some(at)
    }
}
