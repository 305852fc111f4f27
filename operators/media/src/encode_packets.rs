//! Frames or samples in, packets out: what is put into a clip beside packets that are copied.
//!
//! The same encoders and settings as in [`super::encode`]. The numbers of the parameter sets are chosen by the caller, so that they do not clash with
//! those of the copied stream.

use std::time::Instant;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use super::avcc::Avcc;
use super::clip_audio::aac_track;
use super::encode::{Audio, Encoding, app_source, broken, timed};
use super::encoders::{aac_chain, encoder};
use super::limits::POLL;
use super::mux::{AudioPacket, AudioTrack};
use super::reader::clock_time;
use super::{CutSettings, MediaContext, MediaError};

/// Encoded frames: each packet, and whether decoding can begin there; in the order of display.
pub(crate) struct EncodedFrames {
    pub packets: Vec<(Vec<u8>, bool)>,
    pub avcc: Avcc,
}

/// A running H.264 encoder whose packets are kept. It gets frames as decoded, 8-bit 4:2:0, and leaves them their size and colours.
pub(crate) struct PacketEncoding<'a> {
    encoding: Encoding<'a>,
    sink: gst_app::AppSink,
}

impl<'a> PacketEncoding<'a> {
    /// `set_id` numbers the parameter sets.
    pub fn start(
        caps: &gst::CapsRef,
        settings: &CutSettings,
        set_id: u32,
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<Self, MediaError> {
        let (pipeline, source) = (gst::Pipeline::new(), app_source(&caps.to_owned()));
        let format = gst::Caps::builder("video/x-h264").field("stream-format", "avc").field("alignment", "au").build();
        let sink = packet_sink(&format);
        let elements = [source.clone().upcast(), encoder(settings, Some(set_id))?, sink.clone().upcast()];
        pipeline.add_many(&elements).map_err(broken)?;
        gst::Element::link_many(&elements).map_err(broken)?;
        let encoding = Encoding::over(pipeline, source, (0, 0), deadline, context)?;
        Ok(PacketEncoding { encoding, sink })
    }

    /// See [`Encoding::push`].
    pub fn push(&self, frame: gst::Buffer, pts_ns: i64, duration_ns: i64) -> Result<(), MediaError> {
        self.encoding.push(frame, pts_ns, duration_ns)
    }

    /// Ends the stream and takes the packets.
    pub fn finish(self) -> Result<EncodedFrames, MediaError> {
        let (samples, _pipeline) = drain(self.encoding, &self.sink)?;
        let caps = samples.first().and_then(|s| s.caps_owned());
        let avcc = caps.as_ref().and_then(|c| c.structure(0)?.get::<gst::Buffer>("codec_data").ok());
        let avcc = avcc.and_then(|d| Avcc::parse(&d.map_readable().ok()?)).filter(|a| a.length_bytes == 4);
        let avcc = avcc.ok_or_else(|| MediaError::new("encode_failed", "the encoder does not tell its parameter sets"))?;
        let packets = samples.iter().filter_map(|s| {
            let buffer = s.buffer()?;
            Some((buffer.map_readable().ok()?.to_vec(), !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT)))
        });
        Ok(EncodedFrames { packets: packets.collect(), avcc })
    }
}

/// Encodes samples whose times count from the clip's first frame.
pub(crate) fn encode_audio(audio: Audio, deadline: Instant, context: &MediaContext) -> Result<Option<AudioTrack>, MediaError> {
    let (pipeline, source) = (gst::Pipeline::new(), app_source(&audio.caps));
    let format = gst::Caps::builder("audio/mpeg").field("mpegversion", 4).field("stream-format", "raw").build();
    let sink = packet_sink(&format);
    let mut elements = vec![source.clone().upcast::<gst::Element>()];
    elements.extend(aac_chain()?);
    elements.push(sink.clone().upcast());
    pipeline.add_many(&elements).map_err(broken)?;
    gst::Element::link_many(&elements).map_err(broken)?;
    let encoding = Encoding::over(pipeline, source.clone(), (0, 0), deadline, context)?;
    for block in audio.blocks {
        let buffer = timed(gst::Buffer::from_mut_slice(block.samples), block.pts_ns, block.duration_ns);
        source.push_buffer(buffer).map_err(|e| encoding.refused(e))?;
    }
    let (samples, _pipeline) = drain(encoding, &sink)?;
    let Some(mut track) = samples.first().and_then(|s| s.caps_owned()).and_then(|caps| aac_track(&caps)) else { return Ok(None) };
    track.packets = samples.iter().filter_map(audio_packet).collect();
    Ok(Some(track))
}

fn audio_packet(sample: &gst::Sample) -> Option<AudioPacket> {
    let buffer = sample.buffer()?;
    let time = |t: Option<gst::ClockTime>| t.map(|t| t.nseconds() as i64);
    let pts_ns = time(buffer.pts())?;
    Some(AudioPacket { data: buffer.map_readable().ok()?.to_vec(), pts_ns, duration_ns: time(buffer.duration())? })
}

/// Takes every packet without end: a clip's packets are no larger than the clip.
fn packet_sink(caps: &gst::Caps) -> gst_app::AppSink {
    let sink = gst_app::AppSink::builder().caps(caps).sync(false).enable_last_sample(false).build();
    sink.set_property("wait-on-eos", false);
    sink
}

fn drain<'a>(encoding: Encoding<'a>, sink: &gst_app::AppSink) -> Result<(Vec<gst::Sample>, Encoding<'a>), MediaError> {
    encoding.end()?;
    let mut samples = Vec::new();
    while let Some(sample) = sink.try_pull_sample(clock_time(POLL)) {
        samples.push(sample);
    }
    Ok((samples, encoding))
}
