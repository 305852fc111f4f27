//! The story as text. Pure.

use std::fmt::Write;

use super::{Chapter, Event, Standing, Story};
use crate::report::charts::number;

/// Rows of a chapter that are told in full; the others are counted by where they ended.
const IN_FULL: usize = 20;

pub(super) fn text(story: &Story) -> String {
    let mut out = format!("{} in {}\n", story.id, story.output);
    if let Some(why) = &story.unreadable {
        add(&mut out, format_args!("older versions: {why}\n"));
    }
    for chapter in &story.chapters {
        tell(&mut out, story, chapter);
    }
    if !story.is_known() {
        add(
            &mut out,
            format_args!(
                "\nno version has anything of this id: it is neither an input nor a row; ids stand in the columns clip_id, shot_id, video_id\n"
            ),
        );
    }
    out
}

fn add(out: &mut String, words: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(words);
}

fn tell(out: &mut String, story: &Story, chapter: &Chapter) {
    let plan: String = chapter.plan.chars().take(12).collect();
    let when = chapter.committed.as_ref().map(|when| format!(", committed {when}")).unwrap_or_default();
    add(
        out,
        format_args!(
            "\ngeneration {} (plan {plan}, {} splits{when}): {}\n",
            chapter.generation,
            chapter.splits,
            ending(story, chapter)
        ),
    );
    chapter.changed.iter().for_each(|line| add(out, format_args!("  changed: {line}\n")));
    for event in chapter.events.iter().take(IN_FULL) {
        event_line(out, story, event);
    }
    for standing in chapter.tables.iter().take(IN_FULL) {
        standing_lines(out, story, standing);
    }
    let more = chapter.events.len().saturating_sub(IN_FULL) + chapter.tables.len().saturating_sub(IN_FULL);
    let more = more as u64 + chapter.untold;
    if more > 0 {
        add(out, format_args!("  and {more} more rows of it; --format json tells {} of each kind\n", super::MAX_TOLD));
    }
    if !chapter.relatives.is_empty() {
        add(out, format_args!("  other rows of its video: {}\n", chapter.relatives.join(", ")));
    }
    chapter.notes.iter().for_each(|note| add(out, format_args!("  note: {note}\n")));
}

/// In a few words.
fn ending(story: &Story, chapter: &Chapter) -> String {
    let own = |row: &str| row == story.id;
    let lost = |e: &&Event| e.outcome != "error_kept";
    if let Some(event) = chapter.events.iter().filter(lost).find(|e| own(&e.row)) {
        return format!("{} by `{}`", if event.outcome == "rejected" { "dropped" } else { "an error, lost" }, event.step);
    }
    let parts = chapter
        .events
        .iter()
        .filter(lost)
        .filter(|e| super::Item::of(&e.row).video.as_deref() == Some(story.id.as_str()))
        .count();
    if let Some(standing) = chapter.tables.last().filter(|s| own(&s.row)) {
        return format!("kept, in `{}`", standing.table);
    }
    if !chapter.tables.is_empty() || parts > 0 {
        let mut by_table: Vec<(&str, usize)> = Vec::new();
        for standing in &chapter.tables {
            match by_table.iter_mut().find(|(table, _)| *table == standing.table) {
                Some((_, n)) => *n += 1,
                None => by_table.push((&standing.table, 1)),
            }
        }
        let mut said: Vec<String> = by_table.iter().map(|(table, n)| format!("{n} rows in `{table}`")).collect();
        if parts > 0 {
            said.push(format!("{parts} parts of it lost"));
        }
        return said.join(", ");
    }
    if let Some(event) = chapter.events.iter().find(lost) {
        return format!("its video was lost at `{}`", event.step);
    }
    match chapter.is_input {
        _ if !chapter.relatives.is_empty() => "there is no such row; its video was cut otherwise".into(),
        Some(true) => "an input of which nothing is committed".into(),
        Some(false) | None => "nothing is known of it".into(),
    }
}

fn event_line(out: &mut String, story: &Story, event: &Event) {
    let what = match event.outcome {
        "rejected" => "dropped",
        "error" => "error",
        _ => "error, went on",
    };
    let whose = if event.row == story.id { String::new() } else { format!("{}: ", event.row) };
    let compared = match (event.measured, event.threshold) {
        (Some(m), Some(t)) => format!(", measured {}, threshold {}", number(m), number(t)),
        (Some(m), None) => format!(", measured {}", number(m)),
        (None, Some(t)) => format!(", threshold {}", number(t)),
        (None, None) => String::new(),
    };
    let operator = if event.operator == event.step { String::new() } else { format!(" ({})", event.operator) };
    add(out, format_args!("  {whose}{what} at `{}`{operator}: {}{compared}: {}\n", event.step, event.code, event.message));
}

fn standing_lines(out: &mut String, story: &Story, standing: &Standing) {
    let whose = if standing.row == story.id { String::new() } else { format!("{}: ", standing.row) };
    let values: Vec<String> = standing.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
    add(out, format_args!("  {whose}in `{}`: {}\n", standing.table, values.join(", ")));
    standing.passed.iter().for_each(|line| add(out, format_args!("    passed {line}\n")));
}
