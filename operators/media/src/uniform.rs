//! `count` uniformly spaced frames of a span, by the rule index_k = floor(k (N - 1) / (count - 1)) over its N frames.
//!
//! N and the wanted times come from the packet times, without decoding; then one pass decodes from the last key frame before the span and stops
//! after the last wanted frame. If the decoder delivers other times than the packets promised (damage, odd streams), the span is decoded twice: once
//! to count, once to pick. Either way the result is the rule's.
//!
//! A span is `[start, end)`: the frames of a clip here are the frames of its cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use gstreamer_video::VideoOrientationMethod;

use super::input::{Input, localize};
use super::limits::{MAX_REQUEST_BYTES, NATIVE_REQUEST_BYTES, SEEK_FROM_US};
use super::outline::timed_packets;
use super::picture::{Converter, Geometry, fit, shrink};
use super::reader::{Decoded, Reader};
use super::sniff::{Kind, sniff};
use super::track::Track;
use super::{Frame, MediaContext, MediaError};

/// `count` uniformly spaced frames of `[start_us, end_us)`, first and last included (fewer if the span has fewer frames; one: the first), with the
/// longest side at most `longest_side` (`None`: native). Kept in the frame store for the next operator on the same span.
pub fn uniform_frames(
    uri: &str,
    start_us: i64,
    end_us: i64,
    count: usize,
    longest_side: Option<u32>,
    context: &MediaContext,
) -> Result<Arc<Vec<Frame>>, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let store = &context.plane.frames;
    // Native frames serve every size; very large pictures are only kept at the size that was asked for.
    let native_key = format!("{}|{start_us}|{end_us}|{count}", local.identity);
    let sized_key = format!("{native_key}|{}", longest_side.unwrap_or(0));
    if let Some(frames) = store.get(&sized_key) {
        return Ok(frames);
    }
    // Scaled once for all that ask for this size.
    let keep = |native: &Arc<Vec<Frame>>| {
        let frames = scaled(native, longest_side)?;
        if !Arc::ptr_eq(native, &frames) {
            store.put(&sized_key, Arc::clone(&frames), bytes_of(&frames));
        }
        Ok(frames)
    };
    if let Some(native) = store.get(&native_key) {
        return keep(&native);
    }
    let kind = sniff(&local.input, deadline, context)?;
    let span = Span {
        input: &local.input,
        identity: &local.identity,
        kind,
        start_ns: start_us * 1000,
        end_ns: end_us * 1000,
        deadline,
        context,
    };
    context.plane.span_decodes.fetch_add(1, Ordering::Relaxed);
    metrics::counter!("curette_media_span_decodes_total").increment(1);
    let (frames, native) = span.pick(count, longest_side)?;
    let bytes = bytes_of(&frames);
    let frames = Arc::new(frames);
    metrics::gauge!("curette_frame_store_bytes").set(store.bytes() as f64);
    if native {
        store.put(&native_key, Arc::clone(&frames), bytes);
        return keep(&frames);
    }
    store.put(&sized_key, Arc::clone(&frames), bytes);
    Ok(frames)
}

/// Chosen frames of `[start_us, end_us)` in native size, one at a time. `choose` gives indexes, ascending and each once, for the span's number of frames; `make`
/// keeps what the caller needs of each. Nothing is kept in the frame store: for callers that want too many frames to hold.
pub fn chosen_frames<T>(
    uri: &str,
    (start_us, end_us): (i64, i64),
    choose: &dyn Fn(usize) -> Vec<usize>,
    make: &mut dyn FnMut(usize, Frame) -> Result<T, MediaError>,
    context: &MediaContext,
) -> Result<Vec<T>, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let (start_ns, end_ns) = (start_us * 1000, end_us * 1000);
    let span = Span { input: &local.input, identity: &local.identity, kind, start_ns, end_ns, deadline, context };
    let mut converter = Converter::default();
    span.pick_with(choose, &mut |index, _, frame, orientation| {
        make(index, converter.convert(&frame.sample, orientation, None, frame.pts_ns)?)
    })
}

fn bytes_of(frames: &[Frame]) -> usize {
    frames.iter().map(|f| f.rgb.len() + size_of::<Frame>()).sum()
}

fn scaled(native: &Arc<Vec<Frame>>, longest_side: Option<u32>) -> Result<Arc<Vec<Frame>>, MediaError> {
    match longest_side {
        Some(side) if native.iter().any(|f| f.width.max(f.height) > side) => {
            Ok(Arc::new(native.iter().map(|f| shrink(f, side)).collect::<Result<_, _>>()?))
        }
        _ => Ok(Arc::clone(native)),
    }
}

/// The indexes of the rule; ascending, each once.
pub(crate) fn uniform_indexes(frames: usize, count: usize) -> Vec<usize> {
    match (frames, count) {
        (0, _) | (_, 0) => Vec::new(),
        (_, 1) => vec![0],
        (n, k) if n <= k => (0..n).collect(),
        (n, k) => (0..k).map(|i| i * (n - 1) / (k - 1)).collect(),
    }
}

struct Span<'a> {
    input: &'a Input,
    identity: &'a str,
    kind: Kind,
    start_ns: i64,
    end_ns: i64,
    deadline: Instant,
    context: &'a MediaContext<'a>,
}

enum Pass<T> {
    /// What was made of all wanted frames.
    Picked(Vec<T>),
    /// The decoder's times are not the ones that were expected; these are the span's.
    Differs(Vec<i64>),
}

/// Makes something of a picked frame: its index in the span, how many are wanted, the decoder's frame, how to turn it.
type Take<'a, T> = dyn FnMut(usize, usize, &Decoded, VideoOrientationMethod) -> Result<T, MediaError> + 'a;

impl Span<'_> {
    fn pick(&self, count: usize, longest_side: Option<u32>) -> Result<(Vec<Frame>, bool), MediaError> {
        let mut converter = Converter::default();
        let mut policy: Option<Size> = None;
        let mut take = |_: usize, wanted: usize, frame: &Decoded, orientation: VideoOrientationMethod| {
            let size = match policy {
                Some(size) => size,
                None => *policy.insert(size_for(&frame.sample, orientation, wanted, longest_side)?),
            };
            let full = converter.convert(&frame.sample, orientation, None, frame.pts_ns)?;
            match size {
                Size::Native => Ok(full),
                Size::Longest(side) => shrink(&full, side),
            }
        };
        let frames = self.pick_with(&|frames| uniform_indexes(frames, count), &mut take)?;
        Ok((frames, matches!(policy, Some(Size::Native))))
    }

    fn pick_with<T>(&self, choose: &dyn Fn(usize) -> Vec<usize>, take: &mut Take<'_, T>) -> Result<Vec<T>, MediaError> {
        let packets = timed_packets(self.input, self.identity, self.kind, self.deadline, self.context)?;
        let from = packets.times_ns.partition_point(|&t| t < self.start_ns);
        let to = packets.times_ns.partition_point(|&t| t < self.end_ns);
        let expected = &packets.times_ns[from..to.max(from)];
        let times = match self.pass(expected, &choose(expected.len()), take)? {
            Pass::Picked(frames) => return Ok(frames),
            Pass::Differs(times) => times,
        };
        if times.is_empty() {
            let (start, end) = (self.start_ns / 1000, self.end_ns / 1000);
            return Err(MediaError::new(
                "no_frames",
                format!("{}: no frame could be decoded in [{start}, {end}) us", self.input.display()),
            ));
        }
        match self.pass(&times, &choose(times.len()), take)? {
            Pass::Picked(frames) => Ok(frames),
            Pass::Differs(_) => Err(MediaError::new(
                "damaged",
                format!("{}: two passes of the decoder gave different frames", self.input.display()),
            )),
        }
    }

    /// Decodes the span and picks, as long as its times are the expected ones.
    fn pass<T>(&self, expected: &[i64], wanted: &[usize], take: &mut Take<'_, T>) -> Result<Pass<T>, MediaError> {
        let mut reader = open_at(self.input, self.kind, self.start_ns, self.deadline, self.context)?;
        let (mut seen, mut picked, mut same) = (Vec::new(), Vec::with_capacity(wanted.len()), !expected.is_empty());
        while let Some(frame) = reader.next()? {
            if frame.pts_ns < self.start_ns {
                continue;
            }
            if frame.pts_ns >= self.end_ns {
                break;
            }
            let index = seen.len();
            seen.push(frame.pts_ns);
            same &= expected.get(index) == Some(&frame.pts_ns);
            if same && wanted.get(picked.len()) == Some(&index) {
                picked.push(take(index, wanted.len(), &frame, reader.orientation())?);
                if picked.len() == wanted.len() {
                    return Ok(Pass::Picked(picked));
                }
            }
        }
        Ok(Pass::Differs(seen))
    }
}

#[derive(Clone, Copy)]
enum Size {
    Native,
    Longest(u32),
}

/// Whether the pictures are kept native; depends on the request alone, never on what the store holds.
fn size_for(
    sample: &gstreamer::Sample,
    orientation: VideoOrientationMethod,
    count: usize,
    longest_side: Option<u32>,
) -> Result<Size, MediaError> {
    let info = sample.caps().and_then(|c| gstreamer_video::VideoInfo::from_caps(c).ok());
    let info = info.ok_or_else(|| MediaError::new("damaged", "a decoded frame of unknown format"))?;
    let native = Geometry::of(&info, orientation)?.displayed();
    let bytes = |(w, h): (u32, u32)| w as usize * h as usize * 3 * count;
    let (size, need) = match longest_side {
        Some(side) if bytes(native) > NATIVE_REQUEST_BYTES => (Size::Longest(side), bytes(fit(native, side))),
        _ => (Size::Native, bytes(native)),
    };
    if need > MAX_REQUEST_BYTES {
        let message = format!("{count} frames of {}x{} need {need} bytes; the limit is {MAX_REQUEST_BYTES}", native.0, native.1);
        return Err(MediaError::new("too_large", message));
    }
    Ok(size)
}

/// A playing reader whose first frame is at or before `start_ns`: by a seek where the container's index can be trusted, else from the start.
pub(crate) fn open_at<'a>(
    input: &Input,
    kind: Kind,
    start_ns: i64,
    deadline: Instant,
    context: &'a MediaContext<'a>,
) -> Result<Reader<'a>, MediaError> {
    open_track_at(input, Track::Video, kind, start_ns, deadline, context)
}

/// As [`open_at`], for either track.
pub(crate) fn open_track_at<'a>(
    input: &Input,
    track: Track,
    kind: Kind,
    start_ns: i64,
    deadline: Instant,
    context: &'a MediaContext<'a>,
) -> Result<Reader<'a>, MediaError> {
    if kind.seeks_exactly() && start_ns > SEEK_FROM_US * 1000 {
        let mut reader = Reader::open(input, track, deadline, context)?;
        if reader.seek_before(start_ns)? {
            reader.play()?;
            // Hold the seek against what it must deliver; a file with a wrong index is decoded from its start.
            if reader.peek_time()?.is_some_and(|t| t <= start_ns) {
                return Ok(reader);
            }
        }
    }
    let mut reader = Reader::open(input, track, deadline, context)?;
    reader.play()?;
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_follow_the_rule() {
        assert_eq!(uniform_indexes(240, 8), [0, 34, 68, 102, 136, 170, 204, 239]);
        assert_eq!(uniform_indexes(3, 8), [0, 1, 2]);
        assert_eq!(uniform_indexes(9, 1), [0]);
        assert!(uniform_indexes(0, 8).is_empty());
    }
}
