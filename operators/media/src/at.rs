//! The frames that are on screen at given times, exactly, in one pass from the first time to the last.
//!
//! A frame is on screen from its time until the next frame's, the last one until it ends; before the first frame the first one is taken. What can go wrong: a time
//! behind the end, which has its own reason; the other times have their frames.

use std::time::Instant;

use super::input::localize;
use super::picture::{Converter, shrink};
use super::reader::Decoded;
use super::sniff::sniff;
use super::uniform::open_at;
use super::{Frame, MediaContext, MediaError};

/// A frame that is on screen.
pub struct Shown<'a> {
    /// Which of the times.
    pub index: usize,
    /// Native size, or with the longest side at most what was asked for.
    pub frame: &'a Frame,
    /// The decoder had reported no error by then, from the beginning or from the key frame before the first time.
    pub whole: bool,
}

/// What was asked for and is not there.
pub struct NotShown {
    /// Which of the times.
    pub index: usize,
    /// Why.
    pub error: MediaError,
}

/// Gives the frame that is on screen at each of `times_us` to `visit`, ascending in time, native size or with the longest side at most `longest_side`. Times are
/// compared in whole microseconds, as tables have them. An error of `visit` ends the pass.
pub fn frames_at(
    uri: &str,
    times_us: &[i64],
    longest_side: Option<u32>,
    context: &MediaContext,
    visit: &mut dyn FnMut(Shown) -> Result<(), MediaError>,
) -> Result<Vec<NotShown>, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let mut order: Vec<usize> = (0..times_us.len()).collect();
    order.sort_by_key(|&i| times_us[i]);
    let Some(first) = order.first() else { return Ok(Vec::new()) };
    let mut reader = open_at(&local.input, kind, times_us[*first].saturating_mul(1000).max(0), deadline, context)?;
    let mut converter = Converter::default();
    let mut waiting = order.into_iter().peekable();
    let mut shown: Option<Decoded> = None;
    while waiting.peek().is_some() {
        let next = reader.next()?;
        if next.as_ref().zip(shown.as_ref()).is_some_and(|(next, shown)| next.pts_ns <= shown.pts_ns) {
            continue;
        }
        if let Some(shown) = &shown {
            // The end of the last frame, where it does not say, is its own time.
            let until_us = match &next {
                Some(next) => next.pts_ns / 1000,
                None => (shown.pts_ns + shown.duration_ns.unwrap_or(1000)) / 1000,
            };
            let mut picture: Option<Frame> = None;
            while let Some(index) = waiting.next_if(|&i| times_us[i] < until_us) {
                if picture.is_none() {
                    let native = converter.convert(&shown.sample, reader.orientation(), None, shown.pts_ns)?;
                    picture = Some(match longest_side {
                        Some(side) => shrink(&native, side)?,
                        None => native,
                    });
                }
                if let Some(frame) = &picture {
                    visit(Shown { index, frame, whole: shown.errors == 0 })?;
                }
            }
        }
        match next {
            Some(next) => shown = Some(next),
            None => break,
        }
    }
    let end_s = shown.map_or(0.0, |last| (last.pts_ns + last.duration_ns.unwrap_or(0)) as f64 / 1e9);
    let why = reader.ended_by.as_ref().map_or(String::new(), |e| format!(" ({e})"));
    let missing = |index: usize| {
        let asked_s = times_us[index] as f64 / 1e6;
        let message = format!("{}: no frame at {asked_s} s, its last one ends at {end_s:.6} s{why}", local.input.display());
        NotShown { index, error: MediaError::new("no_frames", message) }
    };
    Ok(waiting.map(missing).collect())
}
