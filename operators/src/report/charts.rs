//! The pictures of a report as SVG inside its page. Pure.
//!
//! Colours are classes that the page's style gives a value to, for light, dark and paper; each bar says its number in a title, and whatever matters
//! is text as well, so that nothing is told by colour alone. What can go wrong: names with `<`; they are escaped.

use std::fmt::Write;

use super::escape::html;
use crate::stats::histogram::Histogram;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const BARS: f64 = 360.0;
const ROW: f64 = 24.0;
const TALL: f64 = 120.0;
/// Characters of a label beside a bar.
const LABEL_CHARS: usize = 28;

/// A part of a bar.
pub struct Segment {
    /// Class of its colour: `kept`, `rejected`, `errors`, `reference`, `plain`.
    pub class: &'static str,
    /// Its length in the unit of the chart.
    pub value: f64,
    /// What a pointer on it shows.
    pub title: String,
}

/// A bar and what is written beside it.
pub struct Bar {
    /// On the left.
    pub label: String,
    /// From left to right.
    pub segments: Vec<Segment>,
    /// On the right.
    pub note: String,
}

/// Horizontal bars on a scale from 0 to the longest.
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let total = |bar: &Bar| bar.segments.iter().map(|s| s.value.max(0.0)).sum::<f64>();
    let most = bars.iter().map(total).fold(0.0, f64::max);
    let scale = if most > 0.0 { BARS / most } else { 0.0 };
    let mut out = open(title, bars.len() as f64 * ROW + 4.0);
    for (at, bar) in bars.iter().enumerate() {
        let y = at as f64 * ROW + 2.0;
        text(&mut out, [LEFT - 8.0, y + 15.0], "end", "", &super::escape::short(&bar.label, LABEL_CHARS));
        let mut x = LEFT;
        for segment in &bar.segments {
            let width = segment.value.max(0.0) * scale;
            rect(&mut out, [x, y + 3.0, width, ROW - 8.0], segment.class, &segment.title);
            x += width;
        }
        text(&mut out, [x + 6.0, y + 15.0], "start", "note", &bar.note);
    }
    out + "</svg>\n"
}

/// Bins of equal width, with a line at the threshold if it lies among them.
pub fn histogram(title: &str, class: &str, h: &Histogram, threshold: Option<f64>) -> String {
    let mut out = open(title, TALL + 26.0);
    let (Some(min), Some(max)) = (h.min, h.max) else { return out + "</svg>\n" };
    let most = h.bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let wide = (WIDTH - 60.0) / h.bins.len().max(1) as f64;
    for (at, count) in h.bins.iter().enumerate() {
        let size = *count as f64 / most * (TALL - 14.0);
        let told = format!("{} to {}: {count}", number(h.edge(at)), number(h.edge(at + 1)));
        rect(&mut out, [30.0 + at as f64 * wide, TALL - size, (wide - 1.5).max(0.5), size], class, &told);
    }
    let _ = writeln!(out, "<line class=\"axis\" x1=\"30\" x2=\"{:.1}\" y1=\"{TALL}\" y2=\"{TALL}\"/>", WIDTH - 30.0);
    text(&mut out, [30.0, TALL + 16.0], "start", "note", &number(min));
    text(&mut out, [WIDTH - 30.0, TALL + 16.0], "end", "note", &number(max));
    text(&mut out, [30.0, 10.0], "start", "note", &format!("{} in the fullest bin", most as u64));
    if let Some(limit) = threshold.filter(|t| (min..=max).contains(t) && max > min) {
        let x = 30.0 + (limit - min) / (max - min) * (WIDTH - 60.0);
        let _ = writeln!(out, "<line class=\"limit\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"14\" y2=\"{TALL}\"/>");
        text(&mut out, [x, TALL + 16.0], "middle", "note", &format!("threshold {}", number(limit)));
    }
    out + "</svg>\n"
}

/// A number as a person writes it: four significant digits, no exponent for what is usual.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    let digits = match size {
        _ if value == value.trunc() && size < 1e15 => 0,
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 1.0 => 3,
        s if s >= 0.001 => 4,
        _ => return format!("{value:.2e}"),
    };
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A count with a space between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{a0}');
        }
        out.push(c);
    }
    out
}

/// `part` of `whole` as a percentage; a dash where there is no whole.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.2} %", 100.0 * part as f64 / whole as f64) }
}

fn open(title: &str, height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>\n", html(title))
}

fn rect(out: &mut String, [x, y, width, height]: [f64; 4], class: &str, title: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
        html(title)
    );
}

fn text(out: &mut String, [x, y]: [f64; 2], anchor: &str, class: &str, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", html(words));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::histogram::Range;

    #[test]
    fn numbers_read_as_people_write_them() {
        let all = [0.0, 7.0, 1_234_567.0, 1234.56, 123.456, 12.3456, 1.23456, 0.01, 0.012_345, 0.000_012, -0.5, f64::NAN];
        let said: Vec<String> = all.into_iter().map(number).collect();
        assert_eq!(said, ["0", "7", "1234567", "1235", "123.5", "12.35", "1.235", "0.01", "0.0123", "1.20e-5", "-0.5", "NaN"]);
        assert_eq!(
            (count(7), count(110_969), count(1_000_000)),
            ("7".into(), "110\u{a0}969".into(), "1\u{a0}000\u{a0}000".into())
        );
        assert_eq!((percent(1, 8), percent(0, 0)), ("12.50 %".into(), "–".into()));
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_the_limit_stands_in_its_place() {
        let segment = |value: f64| Segment { class: "kept", value, title: "<x>".into() };
        let all = [
            Bar { label: "a".into(), segments: vec![segment(1.0), segment(3.0)], note: "4".into() },
            Bar { label: "b".into(), segments: vec![segment(2.0)], note: "2".into() },
        ];
        let svg = bars("t & u", &all);
        for wanted in ["width=\"90.0\"", "width=\"270.0\"", "width=\"180.0\"", "&lt;x&gt;", "t &amp; u"] {
            assert!(svg.contains(wanted), "{wanted}: {svg}");
        }
        assert!(bars("none", &[]).ends_with("</svg>\n"));
        let mut range = Range::default();
        [0.0, 10.0].into_iter().for_each(|v| range.add(v));
        let mut h = Histogram::over(&range);
        [0.0, 5.0, 10.0].into_iter().for_each(|v| h.add(v));
        assert!(histogram("h", "plain", &h, Some(5.0)).contains("class=\"limit\" x1=\"380.0\""));
        assert!(!histogram("h", "plain", &h, Some(11.0)).contains("limit"));
    }
}
