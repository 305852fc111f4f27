//! Frames on a regular grid over a whole video, in one decoding pass.
//!
//! The rule: for t = 0, 1/fps, 2/fps, ... the first frame whose time is >= t - half a frame period; a frame is given once, even if it is the
//! answer for several t (a late start, a gap). The frame period is the mean distance of the file's frames, so that an NTSC frame at 0.9997 s is the
//! frame of second 1. Only picked frames are converted.
//!
//! What need not be decoded is left out before the decoder: see [`super::plan`]. The pass decodes everything where packets do not tell enough, and
//! starts again so when a planned one meets a decode error, other packets, or a promised frame that does not come: the answer never depends on luck.

use std::sync::Arc;
use std::time::Instant;

use super::feed::Feed;
use super::input::{Input, localize};
use super::mp4_index::Index;
use super::outline::{LEADS, is_certain, outline};
use super::packets::{Packets, is_short, packets};
use super::picture::Converter;
use super::plan::{Plan, Sampling, plan};
use super::reader::{Decoded, Reader};
use super::sniff::{Kind, sniff};
use super::track::Track;
use super::uniform::open_at;
use super::{Frame, MediaContext, MediaError};

/// What a pass over a video delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridStats {
    /// Frames that came out of the decoder; fewer than the file has when packets were left out.
    pub frames_decoded: u64,
    /// Frames given to the visitor.
    pub frames_picked: u64,
    /// Where the last frame ends that was decoded, or left out because the packets around it told enough.
    pub decoded_duration_us: i64,
    /// Where it should have ended: what the container states, or where its packets end if that is later; the end of the span where only a span was wanted.
    pub promised_duration_us: i64,
    /// True when less was delivered than the container promised (more than 1 s and 2 % short).
    pub truncated: bool,
    /// Up to where everything decoded without an error: the end of the last frame that came out before the decoder's first one. `decoded_duration_us` where there
    /// is none.
    pub whole_duration_us: i64,
    /// Errors that the decoder reported in what was decoded: concealed by libavcodec, left out by others.
    pub decode_errors: u64,
    /// What stopped the decoder early, if something did.
    pub ended_by: Option<String>,
}

/// Ends of frames to the nearest: demuxers round 30 s down to 29.999999999 s.
pub(crate) fn microseconds(ns: i64) -> i64 {
    ns.saturating_add(500) / 1000
}

/// What a full decode has delivered so far.
#[derive(Default)]
pub(crate) struct Progress {
    /// Frames given on.
    pub picked: u64,
    decoded: u64,
    end_ns: i64,
    whole_end_ns: i64,
    /// Errors that the decoder had reported at the last frame.
    errors: u64,
    /// Of those, the ones that cannot concern what is wanted: before the last restart in front of it.
    errors_before: u64,
}

impl Progress {
    /// One more frame.
    pub fn note(&mut self, frame: &Decoded, period_ns: i64) {
        self.decoded += 1;
        self.end_ns = self.end_ns.max(frame.pts_ns.saturating_add(frame.duration_ns.unwrap_or(period_ns)));
        self.errors = frame.errors;
        if frame.errors <= self.errors_before {
            self.whole_end_ns = self.end_ns;
        }
    }

    /// The pass is over; it was to go from `from_ns` to `until_ns`.
    pub fn finish(self, reader: &Reader, packets: &Packets, (from_ns, until_ns): (i64, i64)) -> GridStats {
        // Behind the end of a part the decoder is ahead of what was taken from it.
        let errors = if reader.finished || reader.ended_by.is_some() { reader.decode_errors() } else { self.errors };
        let errors = errors.saturating_sub(self.errors_before);
        let promised_ns = packets.end_ns.min(until_ns);
        let stated_ns = packets.stated_ns.unwrap_or(0).max(packets.end_ns).min(until_ns);
        GridStats {
            frames_decoded: self.decoded,
            frames_picked: self.picked,
            decoded_duration_us: microseconds(self.end_ns),
            promised_duration_us: microseconds(stated_ns),
            // A file that ends early is whole up to there: a shot before its end lacks nothing.
            truncated: (packets.truncated() && packets.end_ns < until_ns)
                || is_short(self.end_ns - from_ns, promised_ns - from_ns)
                || reader.ended_by.is_some(),
            whole_duration_us: microseconds(if errors == 0 { self.end_ns } else { self.whole_end_ns }),
            decode_errors: errors,
            ended_by: reader.ended_by.as_ref().map(ToString::to_string),
        }
    }
}

/// Which grid times a frame answers.
pub(crate) struct Grid {
    start_ns: i64,
    step_ns: f64,
    half_ns: i64,
    next: u64,
}

impl Grid {
    /// A grid that begins at `start_ns`.
    pub fn new(start_ns: i64, fps: f64, frame_period_ns: i64) -> Self {
        Grid { start_ns, step_ns: 1e9 / fps, half_ns: frame_period_ns / 2, next: 0 }
    }

    fn due_ns(&self) -> i64 {
        self.time_ns() - self.half_ns
    }

    /// The next grid time.
    pub fn time_ns(&self) -> i64 {
        self.start_ns + (self.next as f64 * self.step_ns).round() as i64
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

/// Which frames, and their size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridSettings {
    /// Grid times per second, more than 0.
    pub fps: f64,
    /// Width and height in pixels; the aspect is not kept. `None`: as they are.
    pub size: Option<(u32, u32)>,
    /// Which frame answers a grid time.
    pub sampling: Sampling,
    /// Only frames at `[start, end)` nanoseconds; the grid begins at the start.
    pub span_ns: (i64, i64),
}

/// The span of a whole video.
pub const WHOLE_NS: (i64, i64) = (0, i64::MAX);

/// [`sample`] with the exact rule.
pub fn sample_grid(
    uri: &str,
    fps: f64,
    width: u32,
    height: u32,
    context: &MediaContext,
    visit: &mut dyn FnMut(Frame) -> Result<(), MediaError>,
) -> Result<GridStats, MediaError> {
    sample(uri, &GridSettings { fps, size: Some((width, height)), sampling: Sampling::Exact, span_ns: WHOLE_NS }, context, visit)
}

/// Gives every frame of the grid to `visit`, in order of time.
///
/// An error after the first decoded frame does not lose what was delivered: it is reported in the statistics. Errors of `visit` end the pass.
pub fn sample(
    uri: &str,
    settings: &GridSettings,
    context: &MediaContext,
    visit: &mut dyn FnMut(Frame) -> Result<(), MediaError>,
) -> Result<GridStats, MediaError> {
    let deadline = Instant::now() + context.timeout;
    let local = localize(uri, deadline, context)?;
    let kind = sniff(&local.input, deadline, context)?;
    let mut pass = Pass { input: local.input.clone(), kind, settings, deadline, context, visit, visited_ns: None };
    if let Some(stats) = pass.outlined(&local.identity)? {
        return Ok(stats);
    }
    let packets = packets(&local.input, &local.identity, deadline, context);
    let packets = match packets {
        Ok(packets) => packets,
        // A stream without a decoder has the better reason.
        Err(e) => return Err(Reader::open(&local.input, Track::Video, deadline, context).err().unwrap_or(e)),
    };
    let (start_ns, end_ns) = settings.span_ns;
    if settings.span_ns != WHOLE_NS && !packets.times_ns.iter().any(|t| (start_ns..end_ns).contains(t)) {
        let (from, to, end) = (start_ns / 1000, end_ns / 1000, packets.end_ns / 1000);
        return Err(MediaError::new(
            "no_frames",
            format!("{}: no frame in [{from}, {to}) us, it ends at {end} us", local.input.display()),
        ));
    }
    metrics::counter!("curette_media_grid_decodes_total").increment(1);
    let plan = plan(&packets.units, settings.span_ns, settings.fps, packets.period_ns(), settings.sampling);
    // The frames of a file that ends early are known only when they have been decoded.
    if let Some(plan) = plan.as_ref().filter(|_| !packets.truncated())
        && let Some(stats) = pass.planned(plan, &packets)?
    {
        return Ok(stats);
    }
    pass.whole(&packets, plan.as_ref())
}

/// How a planned pass went.
enum Followed {
    Done(GridStats),
    /// The reason.
    Not(&'static str),
}

/// One call's work, over one or two decoding passes.
struct Pass<'a> {
    input: Input,
    kind: Kind,
    settings: &'a GridSettings,
    deadline: Instant,
    context: &'a MediaContext<'a>,
    visit: &'a mut dyn FnMut(Frame) -> Result<(), MediaError>,
    /// Time of the last frame that `visit` has.
    visited_ns: Option<i64>,
}

impl Pass<'_> {
    fn give(&mut self, frame: &Decoded, reader: &Reader, converter: &mut Converter) -> Result<(), MediaError> {
        let size = self.settings.size;
        self.visited_ns = Some(frame.pts_ns);
        (self.visit)(converter.convert(&frame.sample, reader.orientation(), size, frame.pts_ns)?)
    }

    fn in_span(&self, pts_ns: i64) -> bool {
        (self.settings.span_ns.0..self.settings.span_ns.1).contains(&pts_ns)
    }

    /// Of a remote file whose index tells enough, reads and decodes what a plan keeps. `None` if all packets must be looked at.
    fn outlined(&mut self, identity: &str) -> Result<Option<GridStats>, MediaError> {
        let (deadline, context) = (self.deadline, self.context);
        if self.settings.sampling == Sampling::Exact || self.kind != Kind::Mp4 || context.plane.packets.get(identity).is_some() {
            return Ok(None);
        }
        let Some(index) = Index::of(&self.input, deadline, context)? else { return Ok(None) };
        for lead in LEADS {
            let Some(packets) = outline(&self.input, identity, &index, lead, deadline, context)? else { break };
            let (span_ns, fps) = (self.settings.span_ns, self.settings.fps);
            let Some(plan) = plan(&packets.units, span_ns, fps, packets.period_ns(), self.settings.sampling) else { break };
            if packets.truncated() {
                break;
            }
            if !is_certain(&plan, &packets.units, &packets.looked_at) {
                continue;
            }
            metrics::counter!("curette_media_grid_decodes_total").increment(1);
            let holes = Arc::new(index.holes(|i| plan.keep[i]));
            let sparse = match self.input.remote() {
                Some(remote) => Input::Remote { remote: Arc::clone(remote), holes: Some(holes) },
                None => break,
            };
            let whole = std::mem::replace(&mut self.input, sparse);
            let done = self.planned(&plan, &packets);
            self.input = whole;
            return done;
        }
        Ok(None)
    }

    /// Decodes what the plan keeps. `None` if the decoder does not do what the packets promised: then everything must be decoded.
    fn planned(&mut self, plan: &Plan, packets: &Arc<Packets>) -> Result<Option<GridStats>, MediaError> {
        match self.follow(plan, packets)? {
            Followed::Done(stats) => Ok(Some(stats)),
            Followed::Not(why) => {
                tracing::debug!(file = %self.input.display(), why, "Decoding everything instead of the planned part");
                Ok(None)
            }
        }
    }

    fn follow(&mut self, plan: &Plan, packets: &Arc<Packets>) -> Result<Followed, MediaError> {
        let ends_early = self.settings.span_ns.1 < packets.end_ns;
        let feed = Arc::new(Feed::new(Arc::clone(packets), plan, self.kind.seeks_exactly(), ends_early));
        let mut reader = match Reader::open_fed(&self.input, Arc::clone(&feed), self.deadline, self.context) {
            Err(e) if !e.is_final() => return Ok(Followed::Not("the decoder does not start")),
            reader => match reader? {
                Some(reader) => reader,
                None => return Ok(Followed::Not("the file cannot be sought")),
            },
        };
        reader.play()?;
        let mut converter = Converter::default();
        let mut picks = plan.picks_ns.iter().peekable();
        loop {
            if ends_early && picks.peek().is_none() {
                break; // whatever is left belongs to no wanted frame
            }
            let frame = match reader.next() {
                Err(e) if !e.is_final() => return Ok(Followed::Not("no frame was decoded")),
                frame => frame?,
            };
            // Whatever came before this frame was decoded without an error: frames come in the order in which they are decoded, or later.
            if feed.failed() {
                return Ok(Followed::Not("the demuxer gave other packets than in the scan"));
            }
            if reader.decode_errors() > 0 || reader.ended_by.is_some() {
                return Ok(Followed::Not("the decoder reported an error"));
            }
            let Some(frame) = frame else { break };
            match picks.peek() {
                Some(&&pick) if frame.pts_ns > pick => return Ok(Followed::Not("a promised frame did not come")),
                Some(&&pick) if frame.pts_ns == pick => {
                    picks.next();
                    self.give(&frame, &reader, &mut converter)?;
                }
                _ => {}
            }
        }
        if picks.next().is_some() {
            return Ok(Followed::Not("the stream ended before the last promised frame"));
        }
        let end_us = microseconds(packets.end_ns.min(self.settings.span_ns.1));
        Ok(Followed::Done(GridStats {
            frames_decoded: feed.decoded(),
            frames_picked: plan.picks_ns.len() as u64,
            decoded_duration_us: end_us,
            promised_duration_us: end_us,
            truncated: false,
            whole_duration_us: end_us,
            decode_errors: 0,
            ended_by: None,
        }))
    }

    /// Decodes everything, and gives what was not given yet.
    fn whole(&mut self, packets: &Packets, plan: Option<&Plan>) -> Result<GridStats, MediaError> {
        let (start_ns, end_ns) = self.settings.span_ns;
        let mut grid = Grid::new(start_ns, self.settings.fps, packets.period_ns());
        // What was planned stays wanted, so that it does not matter how far a planned pass came. The exact rule needs no plan for that.
        let planned = plan.filter(|_| self.settings.sampling != Sampling::Exact);
        let mut planned = planned.map(|plan| plan.picks_ns.iter().peekable());
        let mut converter = Converter::default();
        let given_ns = self.visited_ns;
        let mut progress = Progress::default();
        // What is wrong before this is not wrong with the span; what is wrong behind it spreads, as frames refer to frames.
        let restarts = packets.units.iter().filter(|u| u.sync).filter_map(|u| u.time_ns).filter(|t| *t <= start_ns);
        let restart_ns = restarts.max().unwrap_or(i64::MIN);
        let mut reader = open_at(&self.input, self.kind, start_ns, self.deadline, self.context)?;
        while let Some(frame) = reader.next()? {
            if frame.pts_ns >= end_ns {
                break;
            }
            if frame.pts_ns >= start_ns {
                progress.note(&frame, packets.period_ns());
            } else if frame.pts_ns < restart_ns {
                progress.errors_before = frame.errors;
            }
            let takes = match &mut planned {
                None => self.in_span(frame.pts_ns) && grid.takes(frame.pts_ns),
                Some(picks) => std::iter::from_fn(|| picks.next_if(|t| **t <= frame.pts_ns)).count() > 0,
            };
            progress.picked += u64::from(takes);
            if takes && given_ns.is_none_or(|t| frame.pts_ns > t) {
                self.give(&frame, &reader, &mut converter)?;
            }
        }
        Ok(progress.finish(&reader, packets, (start_ns, end_ns)))
    }
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
        let mut grid = Grid::new(0, fps, period);
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
