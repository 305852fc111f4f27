//! Statistics as one SVG picture: a bar for each step, a panel for each histogram. Pure.
//!
//! Written by hand because it is bars and text; fonts are left to the viewer. What can go wrong: names with `<` or `&`; they are escaped.

use std::fmt::Write;

use super::{Spread, Stats};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 200.0;
const BARS: f64 = 520.0;
const ROW: f64 = 26.0;
const PANEL: f64 = 150.0;
const COLORS: [(&str, &str); 3] = [("kept", "#3b7a57"), ("rejected", "#d08c2b"), ("errors", "#b33a3a")];

/// The picture.
pub fn svg(stats: &Stats) -> String {
    let steps = stats.funnel.stages.len() as f64;
    let height = 70.0 + steps * ROW + stats.histograms.len() as f64 * PANEL;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (at, (name, color)) in COLORS.iter().enumerate() {
        let x = LEFT + at as f64 * 110.0;
        rect(&mut out, [x, 12.0, 12.0, 12.0], color, name);
        text(&mut out, x + 18.0, 22.0, "start", name);
    }
    let most = stats.funnel.stages.iter().map(|s| s.counts.rows_in).max().unwrap_or(0).max(1) as f64;
    let mut y = 40.0;
    for stage in &stats.funnel.stages {
        let c = &stage.counts;
        text(&mut out, LEFT - 8.0, y + 15.0, "end", &stage.step);
        let mut x = LEFT;
        for ((name, color), n) in COLORS.iter().zip([c.passed, c.rejected_total(), c.errors_total()]) {
            let width = n as f64 / most * BARS;
            rect(&mut out, [x, y, width, ROW - 8.0], color, &format!("{name}: {n}"));
            x += width;
        }
        let beside = stage.reference_out.map(|n| format!(", {} out ({n} there)", c.rows_out)).unwrap_or_default();
        text(&mut out, x + 6.0, y + 15.0, "start", &format!("{} in, {} kept{beside}", c.rows_in, c.passed));
        y += ROW;
    }
    if let Some(reference) = &stats.funnel.reference {
        text(&mut out, LEFT, y + 12.0, "start", &format!("there: {reference}"));
    }
    y += 20.0;
    for spread in &stats.histograms {
        panel(&mut out, y, spread);
        y += PANEL;
    }
    out += "</svg>\n";
    out
}

fn panel(out: &mut String, y: f64, spread: &Spread) {
    let h = &spread.histogram;
    text(out, LEFT, y + 12.0, "start", &format!("{}: {} ({} values)", spread.of, spread.what, h.values));
    let (Some(min), Some(max)) = (h.min, h.max) else { return };
    let (top, tall) = (y + 20.0, PANEL - 60.0);
    let most = h.bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let wide = BARS / h.bins.len().max(1) as f64;
    for (at, count) in h.bins.iter().enumerate() {
        let size = *count as f64 / most * tall;
        let title = format!("{:.4} to {:.4}: {count}", h.edge(at), h.edge(at + 1));
        rect(out, [LEFT + at as f64 * wide, top + tall - size, (wide - 1.0).max(0.5), size], COLORS[1].1, &title);
    }
    text(out, LEFT, top + tall + 16.0, "start", &format!("{min:.4}"));
    text(out, LEFT + BARS, top + tall + 16.0, "end", &format!("{max:.4}"));
    if let Some(threshold) = spread.threshold {
        text(out, LEFT + BARS / 2.0, top + tall + 16.0, "middle", &format!("threshold {threshold}"));
    }
}

fn rect(out: &mut String, [x, y, width, height]: [f64; 4], color: &str, title: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{color}\"><title>{}</title></rect>",
        escaped(title)
    );
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
