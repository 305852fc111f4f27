//! Markup inside one caption line: tags, inline word times, character references.
//!
//! What can go wrong: `<` is also an ordinary character ("pH < 7"). It opens a tag only when it looks like one: a letter, `/` or a time follows
//! and a `>` comes within [`MAX_TAG_BYTES`]; otherwise it stays text.

use super::parse::time_us;

/// A tag longer than this is text; keeps reading linear in the length of the line.
pub const MAX_TAG_BYTES: usize = 200;
/// A character reference longer than this is text.
const MAX_ENTITY_BYTES: usize = 10;

/// A piece of a line and the inline time before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Inline time tag before the text, if there was one.
    pub at_us: Option<i64>,
    /// Text without markup, single spaces, trimmed. May be empty.
    pub text: String,
}

/// Splits a raw line at its inline times. The first segment has no time.
pub fn segments(line: &str) -> Vec<Segment> {
    let mut out = Vec::new();
    let mut at_us = None;
    let mut raw = String::new();
    let mut rest = line;
    while let Some(position) = rest.find(['<', '{']) {
        raw.push_str(&rest[..position]);
        rest = &rest[position..];
        match tag(rest) {
            Some((content, length)) => {
                if let Some(time) = time_us(content) {
                    out.push(Segment { at_us, text: plain(&raw) });
                    raw.clear();
                    at_us = Some(time);
                }
                rest = &rest[length..];
            }
            None => {
                raw.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    raw.push_str(rest);
    out.push(Segment { at_us, text: plain(&raw) });
    out
}

/// The content and whole length of the tag that `text` starts with: `<c>`, `</c>`, `<00:00:01.000>`, or SubStation's `{\an8}`.
fn tag(text: &str) -> Option<(&str, usize)> {
    let close = if text.starts_with('<') { b'>' } else { b'}' };
    let end = text.bytes().take(MAX_TAG_BYTES).position(|b| b == close)?;
    let content = &text[1..end];
    let is_tag = match close {
        b'>' => content.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') || time_us(content).is_some(),
        _ => content.starts_with('\\'),
    };
    is_tag.then_some((content, end + 1))
}

/// Resolves character references, drops invisible characters, collapses blanks.
fn plain(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(position) = rest.find('&') {
        text.push_str(&rest[..position]);
        rest = &rest[position..];
        match entity(rest) {
            Some((c, length)) => {
                text.push(c);
                rest = &rest[length..];
            }
            None => {
                text.push('&');
                rest = &rest[1..];
            }
        }
    }
    text.push_str(rest);
    text.retain(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\0'));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The character and length of the reference that `text` starts with.
fn entity(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(MAX_ENTITY_BYTES).position(|b| b == b';')?;
    let name = &text[1..end];
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "lrm" => '\u{200e}',
        "rlm" => '\u{200f}',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c, end + 1))
}
