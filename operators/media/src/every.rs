//! Every frame of a video, scaled down for a detector of cuts.
//!
//! A detector compares neighbours, so nothing can be left out before the decoder; see [`super::grid`] for what can when frames are sampled.

use std::time::Instant;

use super::grid::{GridStats, Progress, WHOLE_NS};
use super::input::localize;
use super::packets::packets;
use super::reader::{Decoded, Reader};
use super::small::Shrinker;
use super::sniff::sniff;
use super::track::Track;
use super::{Frame, MediaContext, MediaError};

/// Gives every frame to `visit` in order of time, as PySceneDetect sees it: the longer side at most 256 pixels. A frame that is not later than the one before is
/// left out.
///
/// An error after the first decoded frame does not lose what was delivered: it is reported in the statistics. Errors of `visit` end the pass.
pub fn every_frame(
    uri: &str,
    context: &MediaContext,
    visit: &mut dyn FnMut(Frame) -> Result<(), MediaError>,
) -> Result<GridStats, MediaError> {
    let (mut shrinker, mut last_ns) = (Shrinker::default(), None);
    pass(uri, context, &mut |frame, reader| {
        if last_ns.is_some_and(|last| frame.pts_ns <= last) {
            return Ok(false);
        }
        last_ns = Some(frame.pts_ns);
        visit(shrinker.shrink(&frame.sample, reader.orientation(), frame.pts_ns)?)?;
        Ok(true)
    })
}

/// Decodes every frame and looks at none: whether a video decodes whole.
pub(crate) fn decode_whole(uri: &str, context: &MediaContext) -> Result<GridStats, MediaError> {
    pass(uri, context, &mut |_, _| Ok(false))
}

/// Decodes everything; `take` says whether it wanted the frame.
fn pass(
    uri: &str,
    context: &MediaContext,
    take: &mut dyn FnMut(&Decoded, &Reader) -> Result<bool, MediaError>,
) -> Result<GridStats, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    sniff(&local.input, deadline, context)?;
    let packets = match packets(&local.input, &local.identity, deadline, context) {
        Ok(packets) => packets,
        // A stream without a decoder has the better reason.
        Err(e) => return Err(Reader::open(&local.input, Track::Video, deadline, context).err().unwrap_or(e)),
    };
    let mut reader = Reader::open(&local.input, Track::Video, deadline, context)?;
    let mut progress = Progress::default();
    reader.play()?;
    while let Some(frame) = reader.next()? {
        progress.note(&frame, packets.period_ns());
        progress.picked += u64::from(take(&frame, &reader)?);
    }
    Ok(progress.finish(&reader, &packets, WHOLE_NS))
}
