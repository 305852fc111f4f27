//! A plan at work: packets that need not be decoded are taken out before the decoder's queue, frames that nobody wants before the caller's.
//!
//! What can go wrong: the demuxer gives other packets than in the scan. The feed then lets everything through and says so.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

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
    failed: AtomicBool,
    decoded: AtomicU64,
}

impl Feed {
    /// For a plan over the packets' units.
    pub fn new(packets: Arc<Packets>, plan: &Plan) -> Self {
        let wanted = |u: &&Unit| u.time_ns.is_none_or(|t| plan.picks_ns.binary_search(&t).is_ok());
        let kept = packets.units.iter().zip(&plan.keep).filter(|(_, keep)| **keep).map(|(unit, _)| unit);
        let unwanted = kept.filter(|u| !wanted(u)).filter_map(|u| u.raw_pts).collect();
        // Beside other streams the queue must see every packet: one that gets nothing for a while lets the others fill up, and the demuxer, which has
        // nowhere to put their packets, never comes to ours.
        let behind_queue = packets.streams.len() != 1;
        let keep = plan.keep.clone();
        Feed { packets, keep, unwanted, behind_queue, failed: AtomicBool::new(false), decoded: AtomicU64::new(0) }
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
        let (feed, count) = (Arc::clone(self), AtomicUsize::new(0));
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(gst::PadProbeData::Buffer(buffer)) = &info.data else { return gst::PadProbeReturn::Ok };
            let at = count.fetch_add(1, Ordering::Relaxed);
            let expected = feed.packets.units.get(at);
            let same =
                expected.is_some_and(|u| u.raw_pts == buffer.pts().map(|t| t.nseconds()) && u.size as usize == buffer.size());
            if !same {
                feed.failed.store(true, Ordering::Relaxed);
            }
            if feed.failed() || feed.keep.get(at).copied().unwrap_or(true) {
                return gst::PadProbeReturn::Ok;
            }
            // `Drop` would make GStreamer complain about the buffer that the binding has taken.
            info.data = None;
            gst::PadProbeReturn::Handled
        });
    }
}
