//! Removes the rolling duplicates of automatic captions.
//!
//! YouTube shows two lines: the finished one above, the one being spoken below. Its file has a cue of some seconds (finished line, new
//! words with inline times), then one of 10 ms that repeats the finished line plainly, then the next, which carries that line on top.
//! The rule: skip cues shorter than [`MIN_CUE_US`]; of each other cue keep the lines that are left after removing the longest run of
//! first lines that equals the last lines of the cue before, if that one ended less than [`TOUCH_US`] earlier. Word times come from the inline tags; a word without one before it starts with its cue.
//!
//! What can go wrong: a speaker who says "Yes." in two cues without a pause between loses the second one. That is the price of the rule, and it is
//! small: the words are the same. With a pause both stay.

use super::markup::{Segment, segments};
use super::parse::Cue;
use super::{TimedText, Transcript};

/// Shorter cues are the repetitions that YouTube puts between two lines (10 ms).
pub const MIN_CUE_US: i64 = 50_000;
/// Lines are carried only between cues that touch: a screen that was empty for longer than this (0.2 s) carries nothing, so the words were said again.
pub const TOUCH_US: i64 = 200_000;
/// More lines than this are never compared: a screen does not hold them.
const MAX_CARRIED_LINES: usize = 32;

/// A line of a cue that has text.
struct Line {
    text: String,
    segments: Vec<Segment>,
}

/// Cues to words or lines by start time. Cues are taken in the order of their start times, equal ones in file order.
pub fn clean(mut cues: Vec<Cue>) -> Transcript {
    cues.sort_by_key(|cue| cue.start_us);
    let mut out = Transcript { items: Vec::new(), has_word_times: false };
    let (mut before, mut before_ended): (Vec<String>, i64) = (Vec::new(), i64::MIN);
    for cue in cues.iter().filter(|cue| cue.end_us - cue.start_us >= MIN_CUE_US) {
        let lines: Vec<Line> = cue.lines.iter().filter_map(|raw| line(raw)).collect();
        if lines.is_empty() {
            continue;
        }
        let carried = match cue.start_us.saturating_sub(before_ended) < TOUCH_US {
            true => carried(&before, &lines),
            false => 0,
        };
        for line in &lines[carried..] {
            out.has_word_times |= line.segments.iter().any(|s| s.at_us.is_some());
            emit(cue, line, &mut out.items);
        }
        before = lines.into_iter().map(|line| line.text).collect();
        before_ended = cue.end_us;
    }
    out.items.sort_by_key(|item| item.start_us);
    out
}

fn line(raw: &str) -> Option<Line> {
    let segments: Vec<Segment> = segments(raw).into_iter().filter(|s| !s.text.is_empty()).collect();
    let text = segments.iter().map(|s| s.text.as_str()).collect::<Vec<_>>().join(" ");
    (!text.is_empty()).then_some(Line { text, segments })
}

/// How many first lines repeat the last lines of the cue before.
fn carried(before: &[String], lines: &[Line]) -> usize {
    let most = before.len().min(lines.len()).min(MAX_CARRIED_LINES);
    (1..=most).rev().find(|&n| before[before.len() - n..].iter().zip(&lines[..n]).all(|(a, b)| *a == b.text)).unwrap_or(0)
}

/// One item per inline-timed segment, or one for the whole line. Times never run backwards nor leave the cue.
fn emit(cue: &Cue, line: &Line, out: &mut Vec<TimedText>) {
    let first = out.len();
    let mut start_us = cue.start_us;
    for segment in &line.segments {
        start_us = segment.at_us.unwrap_or(start_us).clamp(start_us, cue.end_us);
        if let Some(before) = out[first..].last_mut() {
            before.end_us = start_us;
        }
        out.push(TimedText { start_us, end_us: cue.end_us, text: segment.text.clone() });
    }
    debug_assert!(out[first..].iter().all(|item| item.start_us <= item.end_us));
}
