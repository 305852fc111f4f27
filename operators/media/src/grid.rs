//! Frames on a regular grid over a whole video, in one decoding pass.
//!
//! The rule: for t = 0, 1/fps, 2/fps, ... the first frame whose time is >= t - half a frame period; a frame is given once, even if it is the
//! answer for several t (a late start, a gap). The frame period is the mean distance of the file's frames, so that an NTSC frame at 0.9997 s is the
//! frame of second 1. Only picked frames are converted.

use std::time::Instant;

use super::fetch::localize;
use super::packets::{is_short, packets};
use super::picture::Converter;
use super::reader::{Reader, Track};
use super::sniff::sniff;
use super::{Frame, MediaContext, MediaError};

/// What a pass over a video delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridStats {
    /// Frames that came out of the decoder.
    pub frames_decoded: u64,
    /// Frames given to the visitor.
    pub frames_picked: u64,
    /// Where the last decoded frame ends.
    pub decoded_duration_us: i64,
    /// True when less was delivered than the container promised (more than 1 s and 2 % short).
    pub truncated: bool,
    /// Errors that the decoder logged and concealed.
    pub decode_errors: u64,
    /// What stopped the decoder early, if something did.
    pub ended_by: Option<String>,
}

/// Which grid times a frame answers.
pub(crate) struct Grid {
    step_ns: f64,
    half_ns: i64,
    next: u64,
}

impl Grid {
    pub fn new(fps: f64, frame_period_ns: i64) -> Self {
        Grid { step_ns: 1e9 / fps, half_ns: frame_period_ns / 2, next: 0 }
    }

    fn due_ns(&self) -> i64 {
        (self.next as f64 * self.step_ns).round() as i64 - self.half_ns
    }

    /// True if the frame at `pts_ns` is the first one at or after a grid time.
    pub fn takes(&mut self, pts_ns: i64) -> bool {
        if pts_ns < self.due_ns() {
            return false;
        }
        while self.due_ns() <= pts_ns {
            self.next += 1;
        }
        true
    }
}

/// Gives every frame of the grid to `visit`, in order, scaled to `width` x `height` (`fps` > 0; aspect not kept).
///
/// An error after the first decoded frame does not lose what was delivered: it is reported in the statistics. Errors of `visit` end the pass.
pub fn sample_grid(
    uri: &str,
    fps: f64,
    width: u32,
    height: u32,
    context: &MediaContext,
    visit: &mut dyn FnMut(Frame) -> Result<(), MediaError>,
) -> Result<GridStats, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    sniff(&local.path)?;
    // A stream without a decoder fails here, with the better reason.
    let mut reader = Reader::open(&local.path, Track::Video, deadline, context)?;
    let packets = packets(&local.path, &local.identity, deadline, context)?;
    let mut grid = Grid::new(fps, packets.period_ns());
    let mut converter = Converter::default();
    let (mut decoded, mut picked, mut end_ns) = (0, 0, 0);
    reader.play()?;
    while let Some(frame) = reader.next()? {
        decoded += 1;
        end_ns = end_ns.max(frame.pts_ns + frame.duration_ns.unwrap_or_else(|| packets.period_ns()));
        if grid.takes(frame.pts_ns) {
            picked += 1;
            visit(converter.convert(&frame.sample, reader.orientation(), Some((width, height)), frame.pts_ns)?)?;
        }
    }
    Ok(GridStats {
        frames_decoded: decoded,
        frames_picked: picked,
        decoded_duration_us: end_ns / 1000,
        truncated: packets.truncated() || is_short(end_ns, packets.end_ns) || reader.ended_by.is_some(),
        decode_errors: reader.decode_errors(),
        ended_by: reader.ended_by.as_ref().map(ToString::to_string),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as written: for each grid time, search the first frame; give each frame once.
    fn oracle(times: &[i64], fps: f64, period: i64) -> Vec<i64> {
        let mut out: Vec<i64> = Vec::new();
        for k in 0.. {
            let t = (f64::from(k) * 1e9 / fps).round() as i64 - period / 2;
            match times.iter().find(|&&p| p >= t) {
                None => return out,
                Some(&p) if out.last() != Some(&p) => out.push(p),
                Some(_) => {}
            }
        }
        out
    }

    fn picks(times: &[i64], fps: f64, period: i64) -> Vec<i64> {
        let mut grid = Grid::new(fps, period);
        times.iter().copied().filter(|&t| grid.takes(t)).collect()
    }

    #[test]
    fn ntsc_frames_just_before_a_second_are_that_second() {
        let times: Vec<i64> = (0..100).map(|i| i * 1_001_000_000 / 30 - if i == 30 { 1_100_000 } else { 0 }).collect();
        assert_eq!(picks(&times, 1.0, 33_366_666), vec![0, times[30], times[60], times[90]]);
    }

    proptest! {
        #[test]
        fn streaming_equals_the_rule(gaps in prop::collection::vec(1_000_000i64..3_000_000_000, 1..60), fps in 0.1f64..10.0, start in 0i64..5_000_000_000) {
            let mut at = start;
            let times: Vec<i64> = gaps.iter().map(|g| { at += g; at }).collect();
            let period = gaps.iter().sum::<i64>() / gaps.len() as i64;
            prop_assert_eq!(picks(&times, fps, period), oracle(&times, fps, period));
        }
    }
}
