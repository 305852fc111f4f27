//! The frames that are on screen at given times, exactly, in one pass from the first time to the last.
//!
//! A frame is on screen from its time until the next frame's, the last one until it ends; before the first frame the first one is taken. What can go wrong: a time
//! behind the end, which has its own reason; the other times have their frames.

use std::path::Path;
use std::time::Instant;

use super::fetch::localize;
use super::picture::{Converter, shrink};
use super::reader::Decoded;
use super::sniff::sniff;
use super::uniform::open_at;
use super::{Frame, MediaContext, MediaError};

/// For each of `times_us`, in their order: the frame that is on screen, native size or with the longest side at most `longest_side`.
pub fn frames_at(
    uri: &str,
    times_us: &[i64],
    longest_side: Option<u32>,
    context: &MediaContext,
) -> Result<Vec<Result<Frame, MediaError>>, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.path)?;
    let mut order: Vec<usize> = (0..times_us.len()).collect();
    order.sort_by_key(|&i| times_us[i]);
    let Some(first) = order.first() else { return Ok(Vec::new()) };
    let mut reader = open_at(&local.path, kind, times_us[*first].saturating_mul(1000).max(0), deadline, context)?;
    let mut converter = Converter::default();
    let mut frames: Vec<Option<Frame>> = vec![None; times_us.len()];
    let mut waiting = order.into_iter().peekable();
    let mut shown: Option<Decoded> = None;
    while waiting.peek().is_some() {
        let next = reader.next()?;
        if next.as_ref().zip(shown.as_ref()).is_some_and(|(next, shown)| next.pts_ns <= shown.pts_ns) {
            continue;
        }
        if let Some(shown) = &shown {
            // The end of the last frame, where it does not say, is its own time.
            let until_ns = match &next {
                Some(next) => next.pts_ns,
                None => shown.pts_ns + shown.duration_ns.unwrap_or(1),
            };
            while let Some(i) = waiting.next_if(|&i| times_us[i].saturating_mul(1000) < until_ns) {
                let frame = converter.convert(&shown.sample, reader.orientation(), None, shown.pts_ns)?;
                frames[i] = Some(match longest_side {
                    Some(side) => shrink(&frame, side)?,
                    None => frame,
                });
            }
        }
        match next {
            Some(next) => shown = Some(next),
            None => break,
        }
    }
    let end_s = shown.map_or(0.0, |last| (last.pts_ns + last.duration_ns.unwrap_or(0)) as f64 / 1e9);
    let answer = |(frame, time_us): (Option<Frame>, &i64)| frame.ok_or_else(|| too_late(&local.path, *time_us, end_s));
    Ok(frames.into_iter().zip(times_us).map(answer).collect())
}

fn too_late(path: &Path, time_us: i64, end_s: f64) -> MediaError {
    let message = format!("{}: no frame at {} s, its last one ends at {end_s:.6} s", path.display(), time_us as f64 / 1e6);
    MediaError::new("no_frames", message)
}
