//! Which elementary stream of a file is read, and how a pipeline is told.
//!
//! What can go wrong: a file that has no such stream; the caller asks the collection.

use gst::prelude::*;
use gstreamer as gst;

use super::limits::SPEECH_RATE;

/// Which elementary stream is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Track {
    /// The video stream with the most pixels; the first of equals.
    Video,
    /// The first audio stream, as interleaved samples of one or two channels.
    Audio,
    /// The first audio stream, as one channel of [`SPEECH_RATE`] samples per second.
    Speech,
    /// The packets of the first video stream, parsed but not decoded. Their times are those of pictures, before edit lists hide some.
    VideoPackets,
    /// The packets of the first audio stream.
    AudioPackets,
}

impl Track {
    /// What the caps of its stream begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Track::Video | Track::VideoPackets => "video/",
            Track::Audio | Track::Speech | Track::AudioPackets => "audio/",
        }
    }

    /// False for packets.
    pub fn decodes(self) -> bool {
        !matches!(self, Track::VideoPackets | Track::AudioPackets)
    }
}

/// The stream of a collection that [`Track`] means.
pub(crate) fn chosen(collection: &gst::StreamCollection, track: Track) -> Option<gst::glib::GString> {
    let wanted = stream_type(track);
    let mut best: Option<(i64, gst::glib::GString)> = None;
    for stream in collection.iter().filter(|s| s.stream_type().contains(wanted)) {
        let size = stream.caps().as_ref().map_or(0, pixels_of);
        if let Some(id) = stream.stream_id()
            && best.as_ref().is_none_or(|(most, _)| size > *most)
        {
            best = Some((size, id));
        }
    }
    best.map(|(_, id)| id)
}

/// Pixels of a picture by its caps, 0 if they do not say.
pub(crate) fn pixels_of(caps: &gst::Caps) -> i64 {
    let Some(s) = caps.structure(0) else { return 0 };
    i64::from(s.get::<i32>("width").unwrap_or(0)) * i64::from(s.get::<i32>("height").unwrap_or(0))
}

/// What GStreamer calls its kind.
pub(crate) fn stream_type(track: Track) -> gst::StreamType {
    match track {
        Track::Video | Track::VideoPackets => gst::StreamType::VIDEO,
        Track::Audio | Track::Speech | Track::AudioPackets => gst::StreamType::AUDIO,
    }
}

/// Has `decodebin3` decode that stream and no other.
pub(crate) fn select_one(decode: &gst::Element, track: Track) {
    decode.connect("select-stream", false, move |values| {
        let wanted = (|| {
            let collection = values.get(1)?.get::<gst::StreamCollection>().ok()?;
            let stream = values.get(2)?.get::<gst::Stream>().ok()?;
            Some(chosen(&collection, track) == stream.stream_id())
        })();
        Some(i32::from(wanted.unwrap_or(false)).to_value())
    });
}

/// Links that stream's output to `first` as soon as it is there.
pub(crate) fn link_when_added(decode: &gst::Element, first: &gst::Element, track: Track) {
    let prefix = track.prefix();
    let first = first.downgrade();
    decode.connect_pad_added(move |_, pad| {
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let fits = caps.structure(0).is_some_and(|s| s.name().starts_with(prefix));
        let Some(target) = first.upgrade().and_then(|s| s.static_pad("sink")) else { return };
        if fits && !target.is_linked() {
            // A failed link shows as "not-linked" on the bus, which becomes a typed error.
            let _ = pad.link(&target);
        }
    });
}

/// Interleaved 16-bit samples of one or two channels: what every encoder takes.
pub(crate) fn audio_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("layout", "interleaved")
        .field("channels", gst::IntRange::new(1, 2))
        .build()
}

/// What speech recognition takes.
pub(crate) fn speech_caps() -> gst::Caps {
    gst::Caps::builder("audio/x-raw")
        .field("format", "S16LE")
        .field("layout", "interleaved")
        .field("channels", 1)
        .field("rate", SPEECH_RATE as i32)
        .build()
}
