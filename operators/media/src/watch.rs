//! What the streaming threads of a pipeline tell its reader, by probes on their pads.
//!
//! Why not messages: damage ends in a normal end of stream, and what a demuxer says while `parsebin` tries it can be lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::VideoOrientationMethod as Orientation;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;

use super::locked;

/// What the streaming threads tell the caller.
#[derive(Default)]
pub(crate) struct Seen {
    pub orientation: Mutex<Option<Orientation>>,
    pub errors: Arc<AtomicU64>,
    /// See [`Decoded::errors`], of what waits in the sink.
    pub stamps: Mutex<VecDeque<u64>>,
    /// Outputs of demuxers, and those of them that have come to their end.
    pub outputs: AtomicU64,
    pub ended: AtomicU64,
    pub demuxers: Demuxers,
}

/// The demuxers of a pipeline.
#[derive(Default)]
pub(crate) struct Demuxers(Mutex<Vec<gst::glib::WeakRef<gst::Element>>>);

impl Demuxers {
    /// One more.
    pub fn add(&self, demuxer: &gst::Element) {
        locked(&self.0).push(demuxer.downgrade());
    }

    /// Each of those that are left has stopped reading. With no stream found, nothing will come. `parsebin` loses the error of a demuxer that gives up while it
    /// is being tried; its task tells.
    pub fn gave_up(&self) -> bool {
        let stopped = |pad: gst::Pad| pad.mode() == gst::PadMode::Pull && pad.task_state() == gst::TaskState::Paused;
        let mut left = 0;
        let all = locked(&self.0).iter().filter_map(|d| d.upgrade()).all(|demuxer| {
            left += 1;
            demuxer.static_pad("sink").is_some_and(stopped)
        });
        all && left > 0
    }
}

/// Whether it takes a container apart.
pub(crate) fn is_demuxer(element: &gst::Element) -> bool {
    element.factory().and_then(|f| f.metadata("klass").map(|k| k.contains("Demuxer"))).unwrap_or(false)
}

/// Counts the outputs of a demuxer, and those that end.
pub(crate) fn watch_ends(demuxer: &gst::Element, seen: &Arc<Seen>) {
    let seen = Arc::clone(seen);
    demuxer.connect_pad_added(move |_, pad| {
        seen.outputs.fetch_add(1, Ordering::Relaxed);
        let seen = Arc::clone(&seen);
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && event.type_() == gst::EventType::Eos
            {
                seen.ended.fetch_add(1, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    });
}

/// `stamped`: each buffer that comes here is taken from the sink.
pub(crate) fn watch_sink(sink: &gst_app::AppSink, seen: &Arc<Seen>, stamped: bool) {
    let Some(pad) = sink.static_pad("sink") else { return };
    let seen = Arc::clone(seen);
    let mask = gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH | gst::PadProbeType::BUFFER;
    pad.add_probe(mask, move |_, info| {
        match &info.data {
            Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::FlushStop => {
                // A seek: nothing that came before it was taken, and nothing decodes at this moment.
                seen.errors.store(0, Ordering::Relaxed);
                locked(&seen.stamps).clear();
            }
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Tag(tag) = event.view()
                    && tag.tag().get::<gst::tags::ImageOrientation>().is_some()
                {
                    let turned = gst_video::VideoOrientationMethod::from_tag(tag.tag()).unwrap_or(Orientation::Identity);
                    *locked(&seen.orientation) = Some(turned);
                }
            }
            Some(gst::PadProbeData::Buffer(_)) if stamped => {
                locked(&seen.stamps).push_back(seen.errors.load(Ordering::Relaxed));
            }
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
}
