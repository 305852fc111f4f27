//! Finds cues in WebVTT and SRT text.
//!
//! One lenient reader for both: a cue is a line with `-->` between two times, and the lines up to the next empty line. Headers, cue
//! numbers, NOTE, STYLE and REGION blocks are whatever lies between cues, so they need no rules.
//!
//! What can go wrong: editors that trim blanks turn YouTube's " " first line into an empty one, which ends a cue by the letter of the format
//! and orphans its words. An empty line is therefore taken as part of the cue while the cue has no text yet.

/// One cue as written: times in microseconds and raw lines with their markup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// Start.
    pub start_us: i64,
    /// End, never before the start.
    pub end_us: i64,
    /// Raw lines.
    pub lines: Vec<String>,
}

/// The cues of a file in file order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cues {
    /// Cues in file order; those with unreadable or reversed times are left out.
    pub cues: Vec<Cue>,
    /// The file starts with `WEBVTT`.
    pub has_header: bool,
}

/// Bytes to text: UTF-8 or, if marked so, UTF-16; byte order marks removed, damaged bytes replaced by U+FFFD.
pub fn decode(bytes: &[u8]) -> String {
    let wide = |pair: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|c| pair([c[0], c[1]])).collect();
        String::from_utf16_lossy(&units)
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// All readable cues.
pub fn cues(text: &str) -> Cues {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let has_header = lines.first().is_some_and(|l| l.trim_start().starts_with("WEBVTT"));
    let mut cues = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(times) = timing(lines[at]) else {
            at += 1;
            continue;
        };
        at += 1;
        let (payload, next) = payload(&lines, at);
        at = next;
        if let Some((start_us, end_us)) = times {
            cues.push(Cue { start_us, end_us, lines: payload.into_iter().map(str::to_string).collect() });
        }
    }
    Cues { cues, has_header }
}

/// The lines of a cue that starts at `at`, and where to go on; always `>= at`.
fn payload<'a>(lines: &[&'a str], mut at: usize) -> (Vec<&'a str>, usize) {
    let mut found: Vec<&str> = Vec::new();
    while at < lines.len() {
        let line = lines[at];
        if timing(line).is_some() {
            // The next cue began without an empty line: the line before it may be its number.
            if found.last().is_some_and(|l| is_number(l)) {
                found.pop();
            }
            return (found, at);
        }
        if line.is_empty() && (found.iter().any(|l| !l.trim().is_empty()) || !text_follows(lines, at)) {
            return (found, at + 1);
        }
        found.push(line);
        at += 1;
    }
    (found, at)
}

/// After an empty line in a cue without text: is the next line that is not blank its text, rather than the start of something else?
fn text_follows(lines: &[&str], at: usize) -> bool {
    /// Blank lines looked over before giving up: keeps the reader linear.
    const MAX_BLANK_LINES: usize = 4;
    let Some(next) = (at + 1..lines.len()).take(MAX_BLANK_LINES).find(|&i| !lines[i].trim().is_empty()) else {
        return false;
    };
    let starts_block = ["NOTE", "STYLE", "REGION", "WEBVTT"].iter().any(|word| lines[next].starts_with(word));
    !starts_block && timing(lines[next]).is_none() && lines.get(next + 1).is_none_or(|l| timing(l).is_none())
}

fn is_number(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
}

/// `None`: not a timing line. `Some(None)`: one whose times cannot be read or run backwards.
#[allow(clippy::option_option)]
fn timing(line: &str) -> Option<Option<(i64, i64)>> {
    let (left, right) = line.split_once("-->")?;
    let start = time_us(left.trim());
    let end = right.split_whitespace().next().and_then(time_us);
    Some(start.zip(end).filter(|(start, end)| start <= end))
}

/// `[hours:]minutes:seconds[.,]fraction` in microseconds. The fraction may be absent or have any number of digits.
pub fn time_us(text: &str) -> Option<i64> {
    let (clock, fraction) = match text.split_once(['.', ',']) {
        Some((clock, fraction)) => (clock, fraction),
        None => (text, ""),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [h, m, s] => (digits(h, 6)?, digits(m, 2)?, digits(s, 2)?),
        [m, s] => (0, digits(m, 6)?, digits(s, 2)?),
        _ => return None,
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |v, b| v * 10 + i64::from(b - b'0'));
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

fn digits(text: &str, max: usize) -> Option<i64> {
    if text.is_empty() || text.len() > max || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}
