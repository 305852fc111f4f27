//! How wide the black borders of a clip are, by two methods, from the luma of a few frames. Decides from values alone.
//!
//! `cropdetect` says what ffmpeg's filter of that name says. `canny_hough` looks for straight edges ([`super::canny`], [`super::hough`]) with darkness outside.

use super::canny::canny;
use super::hough::{Line, Rule, columns};
use super::luma::Luma;

/// Border widths in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Borders {
    /// Black columns at the left.
    pub left: u32,
    /// Black columns at the right.
    pub right: u32,
    /// Black rows at the top.
    pub top: u32,
    /// Black rows at the bottom.
    pub bottom: u32,
}

impl Borders {
    /// The largest border as a share of the side that it shortens, 0 to 1.
    pub fn max_share(&self, width: u32, height: u32) -> f32 {
        let share = |px: u32, of: u32| px as f32 / of.max(1) as f32;
        share(self.left, width).max(share(self.right, width)).max(share(self.top, height)).max(share(self.bottom, height))
    }
}

/// ffmpeg's cropdetect: a row or column is content when its integer mean luma is above `limit`; the content box only grows over the frames, so that a
/// border is what stays dark in all of them. Its rounding to a multiple of 16 serves cropping and is left out. A clip that is dark everywhere is
/// all border (at the top).
pub fn cropdetect(frames: &[Luma], limit: u32) -> Borders {
    let Some(first) = frames.first() else { return Borders::default() };
    let mut rows = vec![false; first.height];
    let mut columns = vec![false; first.width];
    for frame in frames {
        let content = |sum: u64, length: usize| sum / length.max(1) as u64 > u64::from(limit);
        rows.iter_mut().zip(frame.row_sums()).for_each(|(seen, sum)| *seen |= content(sum, frame.width));
        columns.iter_mut().zip(frame.column_sums()).for_each(|(seen, sum)| *seen |= content(sum, frame.height));
    }
    let ends = |content: &[bool]| {
        let before = content.iter().position(|c| *c)?;
        let after = content.iter().rev().position(|c| *c)?;
        Some((before as u32, after as u32))
    };
    match (ends(&rows), ends(&columns)) {
        (Some((top, bottom)), Some((left, right))) => Borders { left, right, top, bottom },
        _ => Borders { top: first.height as u32, ..Borders::default() },
    }
}

/// Canny thresholds on |gx| + |gy| of 3x3 Sobel.
pub const CANNY: (i32, i32) = (50, 150);
/// Edge pixels on a line, as a share of the side along it.
const VOTES: f64 = 0.5;
/// Length of a line, as a share of the side along it.
const MIN_LENGTH: f64 = 0.8;
/// Gap that a line may bridge, as a share of the side along it.
const MAX_GAP: f64 = 0.02;
/// Lines count within this share of the side across them.
const OUTER: f64 = 0.3;
/// The strip outside a line is at least this share of the side and [`MIN_STRIP_PX`] wide.
const MIN_STRIP: f64 = 0.01;
const MIN_STRIP_PX: usize = 4;
/// A border is persistent when its line is within this many pixels ...
const POSITION_PX: u32 = 2;
/// ... in this share of the frames.
const PERSISTENT: f64 = 0.8;

/// Straight edges parallel to the sides with darkness outside. `None` when every frame is dark all over.
pub fn canny_hough(frames: &[Luma], limit: u32) -> Option<Borders> {
    // A frame that is dark all over (a fade) has no edge to show and no say.
    let lit = |f: &&Luma| f.row_sums().iter().any(|sum| sum / f.width.max(1) as u64 > u64::from(limit));
    let found: Vec<Borders> = frames.iter().filter(lit).map(|f| one_frame(f, limit)).collect();
    let side = |of: fn(&Borders) -> u32| persistent(found.iter().map(of).collect());
    let borders =
        || Borders { left: side(|b| b.left), right: side(|b| b.right), top: side(|b| b.top), bottom: side(|b| b.bottom) };
    (!found.is_empty()).then(borders)
}

/// The median position, if enough frames agree with it; else no border.
fn persistent(mut positions: Vec<u32>) -> u32 {
    positions.sort_unstable();
    let Some(&median) = positions.get(positions.len() / 2) else { return 0 };
    let agree = positions.iter().filter(|p| p.abs_diff(median) <= POSITION_PX).count();
    if agree as f64 >= PERSISTENT * positions.len() as f64 { median } else { 0 }
}

/// What each frame says by itself.
pub(crate) fn one_frame(frame: &Luma, limit: u32) -> Borders {
    let edges = canny(frame, CANNY.0, CANNY.1);
    let (left, right) = strips(&frame.column_sums(), frame.height, &vertical_lines(&edges, frame.width), limit);
    let turned = transposed(&edges, frame.width);
    let (top, bottom) = strips(&frame.row_sums(), frame.width, &vertical_lines(&turned, frame.height), limit);
    Borders { left, right, top, bottom }
}

/// Lines along columns, each counted at the left one of two columns: the edge between two columns falls on either of them from row to row, so that both
/// together are the line.
pub(super) fn vertical_lines(edges: &[bool], width: usize) -> Vec<Line> {
    let height = edges.len() / width.max(1);
    let either: Vec<bool> = (0..edges.len()).map(|i| edges[i] || (i % width + 1 < width && edges[i + 1])).collect();
    let share = |of: f64| (of * height as f64).round_ties_even() as usize;
    columns(&either, width, Rule { votes: share(VOTES).max(1), min_length: share(MIN_LENGTH), max_gap: share(MAX_GAP) })
}

pub(super) fn transposed(edges: &[bool], width: usize) -> Vec<bool> {
    (0..width).flat_map(|x| edges.iter().skip(x).step_by(width).copied()).collect()
}

/// The innermost lines in both outer parts that have darkness outside, as widths of what is outside. `sums` are the columns' sums over `height` pixels.
fn strips(sums: &[u64], height: usize, lines: &[Line], limit: u32) -> (u32, u32) {
    let width = sums.len();
    let black = |columns: std::ops::Range<usize>| {
        let most = u64::from(limit) * (columns.len() * height) as u64;
        sums[columns].iter().sum::<u64>() <= most
    };
    let least = ((MIN_STRIP * width as f64).ceil() as usize).max(MIN_STRIP_PX);
    let outer = (OUTER * width as f64) as usize;
    // Which side of the edge a column next to the line is on, its own mean tells.
    let around = |x: usize| x.saturating_sub(1)..(x + 3).min(width);
    let before = |x: usize| around(x).take_while(|&c| black(c..c + 1)).last().map_or(0, |c| c + 1);
    let after = |x: usize| around(x).rev().take_while(|&c| black(c..c + 1)).last().map_or(0, |c| width - c);
    let at = || lines.iter().map(|line| line.at);
    let left = at().rev().filter(|&x| x < outer).map(before).find(|&n| n >= least && black(0..n));
    let right = at().filter(|&x| x + 1 >= width - outer).map(after).find(|&n| n >= least && black(width - n..width));
    (left.unwrap_or(0) as u32, right.unwrap_or(0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A textured picture inside black borders.
    fn framed(w: usize, h: usize, b: Borders, step: usize) -> Luma {
        let data = (0..w * h)
            .map(|i| {
                let (x, y) = (i % w, i / w);
                let inside = x >= b.left as usize && x < w - b.right as usize && y >= b.top as usize && y < h - b.bottom as usize;
                if inside { 120 + ((x * 7 + y * 13 + step * 5) % 60) as u8 } else { 16 }
            })
            .collect();
        Luma { width: w, height: h, data }
    }

    #[test]
    fn both_methods_measure_exact_widths() {
        let cases = [
            Borders::default(),
            Borders { top: 60, bottom: 60, ..Borders::default() },
            Borders { left: 80, right: 40, ..Borders::default() },
            Borders { left: 20, right: 20, top: 12, bottom: 31 },
        ];
        for want in cases {
            let frames: Vec<Luma> = (0..8).map(|i| framed(320, 240, want, i)).collect();
            assert_eq!(cropdetect(&frames, 24), want);
            assert_eq!(canny_hough(&frames, 24), Some(want));
        }
    }

    #[test]
    fn a_border_that_is_lit_in_one_frame_is_none_for_cropdetect() {
        let want = Borders { top: 30, ..Borders::default() };
        let mut frames: Vec<Luma> = (0..8).map(|i| framed(320, 240, want, i)).collect();
        frames[3] = framed(320, 240, Borders::default(), 3);
        assert_eq!(cropdetect(&frames, 24).top, 0);
        assert_eq!(canny_hough(&frames, 24).map(|b| b.top), Some(30)); // 7 of 8 frames agree
        frames[4] = framed(320, 240, Borders::default(), 4);
        assert_eq!(canny_hough(&frames, 24).map(|b| b.top), Some(0)); // 6 of 8 do not suffice
    }

    #[test]
    fn darkness_everywhere_is_all_border() {
        let frames = [Luma { width: 64, height: 48, data: vec![16; 64 * 48] }];
        let b = cropdetect(&frames, 24);
        assert_eq!((b.top, b.max_share(64, 48)), (48, 1.0));
        assert_eq!(canny_hough(&frames, 24), None);
    }
}
