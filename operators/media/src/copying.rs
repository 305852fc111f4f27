//! A clip whose packets are copied where they can be: see [`super::splice`] for where that is.
//!
//! In `smart` mode the frames before the first key frame of the span, and the few at its end whose packets need later ones, are encoded with
//! parameter sets of their own number, and joined in one track. In `keyframe` mode nothing is encoded and the span is widened. All frames in the
//! file are shown.
//!
//! What can go wrong: whatever cannot be copied is a [`Stop::Fallback`] with a word for it, and the clip is encoded as a whole.

use gst_video::VideoColorRange;
use gstreamer as gst;
use gstreamer_video as gst_video;

use super::MediaError;
use super::clip_audio::audio_track;
use super::cut::{CutSettings, Source, VerifyCopies};
use super::encode_packets::{EncodedFrames, PacketEncoding};
use super::encoders::Encoder;
use super::exact::sound;
use super::joint::Stream;
use super::limits::MAX_CLIP_US;
use super::mux::{VideoPacket, VideoTrack, write};
use super::reader::{Decoded, Reader};
use super::splice::{Ends, Splice, splice};
use super::track::Track;
use super::uniform::{open_at, open_track_at};
use super::verify::{Look, Written};

/// Why there is no clip of copied packets.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The span can be encoded instead. The word says why; none if copying was not asked for.
    Fallback(Option<&'static str>),
    /// Something went wrong on the way.
    Failed(MediaError),
}

impl From<&'static str> for Stop {
    fn from(why: &'static str) -> Self {
        Stop::Fallback(Some(why))
    }
}

impl From<MediaError> for Stop {
    fn from(e: MediaError) -> Self {
        Stop::Failed(e)
    }
}

/// Makes the clip: its bytes, what must be in them, and its packets. Looks at no picture where nothing is encoded and packets are to be compared.
pub(crate) fn copying(source: &Source, settings: &CutSettings, ends: Ends) -> Result<(Vec<u8>, Written, Vec<VideoPacket>), Stop> {
    let stream = Stream::of(source)?;
    if source.times_ns(source.start_ns, source.end_ns).is_empty() {
        return Err(source.no_frames().into());
    }
    let plan = splice(&source.packets.units, source.start_ns, source.end_ns, ends)?;
    let until_ns = plan.until_ns.unwrap_or(i64::MAX);
    if (until_ns.min(source.packets.end_ns) - plan.from_ns) / 1000 > MAX_CLIP_US {
        return Err("too_wide".into());
    }
    let (head, tail) = match ends {
        Ends::Inside => (source.times_ns(source.start_ns, plan.from_ns), source.times_ns(until_ns, source.end_ns)),
        Ends::Around => Default::default(),
    };
    let middle = source.times_ns(plan.from_ns, until_ns);
    if middle.len() != plan.copied.len() {
        return Err("frame_times".into());
    }
    let work = Work { source, settings, stream: &stream, plan: &plan };
    let copied = work.copy()?;
    if stream.set.usability.limits.is_none() && copied.windows(2).any(|w| w[0].pts_ns > w[1].pts_ns) {
        return Err("reordering".into()); // players would have to guess how long to wait for the copied frames
    }
    let mut looks = Vec::new();
    let (mut before, mut after) = (None, None);
    if settings.verify == VerifyCopies::Decode || !head.is_empty() || !tail.is_empty() {
        before = work.head(head, &mut looks)?;
        after = work.tail(head.len() + middle.len() - 1, middle[middle.len() - 1], tail, &mut looks)?;
        looks.dedup_by_key(|look| look.0);
    }
    let avcc = match (&before, &after) {
        (Some(a), Some(b)) if a.avcc != b.avcc => return Err("parameter_sets".into()),
        (Some(e), _) | (None, Some(e)) => stream.joined(&e.avcc)?,
        (None, None) => stream.avcc.clone(),
    };
    let times_ns = [head, middle, tail].concat();
    let (zero, last) = (times_ns[0], times_ns[times_ns.len() - 1]);
    let next = source.packets.times_ns.partition_point(|&t| t <= last);
    let end_ns = source.packets.times_ns.get(next).copied().unwrap_or(source.packets.end_ns).max(last + 1);
    let mut packets = encoded(before, head)?;
    packets.extend(copied);
    packets.extend(encoded(after, tail)?);
    packets.iter_mut().for_each(|p| p.pts_ns -= zero);
    let audio = audio_track(source, zero, end_ns, settings)?;
    let video = VideoTrack { size: stream.size, avcc: avcc.bytes(), colour: colour(source), packets, end_ns: end_ns - zero };
    let bytes = write(&video, audio.as_ref());
    let (last_duration_ns, has_audio, copied) = (end_ns - last, audio.is_some(), middle.len());
    let written = Written { times_ns, last_duration_ns, size: stream.size, has_audio, copied, looks };
    Ok((bytes, written, video.packets))
}

/// How far before the first wanted packet packets are read from. The parser puts parameter sets in front of the first one after a seek, so that it is
/// not what is in the file; that one must not be wanted. More than frames are ever reordered by.
const EARLIER_NS: i64 = 1_000_000_000;

/// Bytes of pictures that the muxer can write.
const LARGEST_COPY: u64 = u32::MAX as u64 / 2;

/// Frames by their number in the clip.
type Looks = Vec<(usize, Look)>;

struct Work<'a> {
    source: &'a Source<'a>,
    settings: &'a CutSettings,
    stream: &'a Stream,
    plan: &'a Splice,
}

impl Work<'_> {
    /// The planned packets, held against what the scan of the file said of them.
    fn copy(&self) -> Result<Vec<VideoPacket>, Stop> {
        let s = self.source;
        let units = &s.packets.units;
        let (first, last) = (self.plan.copied[0], self.plan.copied[self.plan.copied.len() - 1]);
        let seek_ns = self.plan.from_ns - EARLIER_NS;
        let mut reader = open_track_at(s.input, Track::VideoPackets, s.kind, seek_ns, s.deadline, s.context)?;
        // A seek may move what the demuxer counts from, but not stream time.
        let same = |packet: &Decoded, at: usize| {
            let (buffer, unit) = (packet.sample.buffer(), &units[at]);
            let time_fits = unit.time_ns.is_some_and(|t| same_time(t, packet.pts_ns))
                || buffer.and_then(|b| b.pts()).map(|t| t.nseconds()) == unit.raw_pts;
            time_fits && buffer.is_some_and(|b| b.size() == unit.size as usize)
        };
        let mut packet = reader.next()?;
        while packet.as_ref().is_some_and(|p| !same(p, first)) {
            packet = reader.next()?;
        }
        let mut wanted = self.plan.copied.iter().peekable();
        let (mut packets, mut bytes) = (Vec::with_capacity(self.plan.copied.len()), 0);
        for (at, unit) in units.iter().enumerate().take(last + 1).skip(first) {
            let Some(this) = packet.take().filter(|p| same(p, at)) else {
                return Err("packets_differ".into());
            };
            if !self.stream.described_by(this.sample.caps()) {
                return Err("parameter_sets".into());
            }
            if wanted.next_if(|w| **w == at).is_some() {
                let buffer = this.sample.buffer().and_then(|b| b.map_readable().ok()).ok_or("packets_differ")?;
                if !self.stream.covers(&buffer) {
                    return Err("parameter_sets".into());
                }
                bytes += buffer.len() as u64;
                if bytes > self.settings.max_bytes.min(LARGEST_COPY) {
                    return Err("too_large".into()); // an encoded one may be smaller
                }
                let pts_ns = unit.time_ns.ok_or("hidden_frames")?;
                packets.push(VideoPacket { data: buffer.to_vec(), pts_ns, sync: unit.sync });
            }
            if at < last {
                packet = reader.next()?;
            }
        }
        Ok(packets)
    }

    /// Encodes the frames before the copied ones. Looks at the first of the clip and the first that is copied.
    fn head(&self, times: &[i64], looks: &mut Looks) -> Result<Option<EncodedFrames>, Stop> {
        let from_ns = times.first().copied().unwrap_or(self.plan.from_ns);
        let mut frames = Frames::at(self.source, from_ns)?;
        let encoded = self.encode(times, &mut frames, None, looks)?;
        let copied = frames.exactly(self.plan.from_ns)?;
        looks.push((times.len(), Look::same(&copied.sample)?));
        sound(self.source, &mut frames.reader, frames.errors).map_err(|_| Stop::from("source_damaged"))?;
        Ok(encoded)
    }

    /// Encodes the frames behind the copied ones, the last of which is the clip's frame number `at`.
    fn tail(&self, at: usize, last_copied_ns: i64, times: &[i64], looks: &mut Looks) -> Result<Option<EncodedFrames>, Stop> {
        if times.is_empty() && at == 0 {
            return Ok(None); // one copied frame: the head has looked at it
        }
        let mut frames = Frames::at(self.source, last_copied_ns)?;
        let copied = frames.exactly(last_copied_ns)?;
        looks.push((at, Look::same(&copied.sample)?));
        let encoded = self.encode(times, &mut frames, Some(at + times.len()), looks)?;
        sound(self.source, &mut frames.reader, frames.errors).map_err(|_| Stop::from("source_damaged"))?;
        Ok(encoded)
    }

    /// Encodes the next frames, which must have these times. Looks at the first one, or at the last one as the clip's frame number `last`.
    fn encode(
        &self,
        times: &[i64],
        frames: &mut Frames,
        last: Option<usize>,
        looks: &mut Looks,
    ) -> Result<Option<EncodedFrames>, Stop> {
        let Some(zero) = times.first() else { return Ok(None) };
        if self.settings.encoder != Encoder::X264 {
            return Err("encoder".into()); // the numbers of openh264's parameter sets cannot be chosen
        }
        let mut encoding: Option<(PacketEncoding, gst::Caps)> = None;
        for (k, time) in times.iter().enumerate() {
            let frame = frames.exactly(*time)?;
            let caps = frame.sample.caps_owned().ok_or("pixel_format")?;
            let buffer = frame.sample.buffer_owned().ok_or("pixel_format")?;
            let (encoding, known) = match &mut encoding {
                Some(running) => running,
                None => encoding.insert((self.start(&caps)?, caps.clone())),
            };
            if *known != caps {
                return Err("picture_size".into());
            }
            let duration_ns = times.get(k + 1).map_or(self.source.packets.period_ns(), |next| next - time);
            encoding.push(buffer, time - zero, duration_ns)?;
            let looked_at = if last.is_some() { k + 1 == times.len() } else { k == 0 };
            if looked_at {
                looks.push((last.unwrap_or(0), Look::alike(&frame.sample, frames.reader.orientation())?));
            }
        }
        Ok(encoding.map(|(encoding, _)| encoding.finish()).transpose()?)
    }

    fn start(&self, caps: &gst::CapsRef) -> Result<PacketEncoding<'_>, Stop> {
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| "pixel_format")?;
        if info.format() != gst_video::VideoFormat::I420 || info.is_interlaced() {
            return Err("pixel_format".into());
        }
        let id = self.stream.free_set_id()?;
        Ok(PacketEncoding::start(caps, self.settings, id, self.source.deadline, self.source.context)?)
    }
}

/// True for times that differ by rounding only: a demuxer that has moved may count from elsewhere.
fn same_time(a_ns: i64, b_ns: i64) -> bool {
    const ROUNDING_NS: u64 = 1000;
    a_ns.abs_diff(b_ns) <= ROUNDING_NS
}

/// The source's decoded frames from somewhere on.
struct Frames<'a> {
    reader: Reader<'a>,
    /// What the decoder had reported at the last one.
    errors: u64,
}

impl<'a> Frames<'a> {
    fn at(source: &Source<'a>, from_ns: i64) -> Result<Self, MediaError> {
        Ok(Frames { reader: open_at(source.input, source.kind, from_ns, source.deadline, source.context)?, errors: 0 })
    }

    /// The next frame, which must be the one of this time; only before the first one may others come.
    fn exactly(&mut self, time_ns: i64) -> Result<Decoded, Stop> {
        while let Some(frame) = self.reader.next()? {
            self.errors = frame.errors;
            if same_time(frame.pts_ns, time_ns) {
                return Ok(frame);
            }
            if frame.pts_ns > time_ns {
                break;
            }
        }
        Err("frames_differ".into())
    }
}

/// Encoded packets with the times of their frames.
fn encoded(frames: Option<EncodedFrames>, times: &[i64]) -> Result<Vec<VideoPacket>, Stop> {
    let packets = frames.map_or_else(Vec::new, |f| f.packets);
    if packets.len() != times.len() || packets.first().is_some_and(|p| !p.1) {
        return Err("encoder".into());
    }
    Ok(packets.into_iter().zip(times).map(|((data, sync), pts_ns)| VideoPacket { data, pts_ns: *pts_ns, sync }).collect())
}

/// What the source's container or stream says of its colours.
fn colour(source: &Source) -> Option<(u16, u16, u16, bool)> {
    let text = source.packets.caps.as_ref()?.structure(0)?.get::<&str>("colorimetry").ok()?;
    let c: gst_video::VideoColorimetry = text.parse().ok()?;
    let full = c.range() == VideoColorRange::Range0_255;
    Some((c.primaries().to_iso() as u16, c.transfer().to_iso() as u16, c.matrix().to_iso() as u16, full))
}
