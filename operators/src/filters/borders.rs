//! How wide the black borders of a clip are, by two methods, from the luma of a few frames. Decides from values alone.
//!
//! Luma is on the video scale (black 16, white 235), as the published limits assume.

use crate::media::Frame;

/// Border widths in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Borders {
    pub left: u32,
    pub right: u32,
    pub top: u32,
    pub bottom: u32,
}

impl Borders {
    /// The largest border as a share of the side that it shortens, 0 to 1.
    pub fn max_share(&self, width: u32, height: u32) -> f32 {
        let share = |px: u32, of: u32| px as f32 / of.max(1) as f32;
        share(self.left, width).max(share(self.right, width)).max(share(self.top, height)).max(share(self.bottom, height))
    }
}

/// One frame's luma.
pub struct Luma {
    pub width: usize,
    pub height: usize,
    pub data: Vec<u8>,
}

impl Luma {
    /// BT.601 luma on the video scale.
    pub fn of(frame: &Frame) -> Self {
        let y = |p: &[u8]| (16 + ((66 * u32::from(p[0]) + 129 * u32::from(p[1]) + 25 * u32::from(p[2]) + 128) >> 8)) as u8;
        Luma { width: frame.width as usize, height: frame.height as usize, data: frame.rgb.chunks_exact(3).map(y).collect() }
    }

    fn at(&self, x: usize, y: usize) -> i32 {
        i32::from(self.data[y * self.width + x])
    }

    /// Mean luma of each row.
    fn rows(&self) -> Vec<u32> {
        self.data.chunks_exact(self.width).map(|row| row.iter().map(|&v| u32::from(v)).sum::<u32>() / self.width as u32).collect()
    }

    fn transposed(&self) -> Luma {
        let data = (0..self.width).flat_map(|x| (0..self.height).map(move |y| self.data[y * self.width + x])).collect();
        Luma { width: self.height, height: self.width, data }
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
        for (content, mean) in rows.iter_mut().zip(frame.rows()) {
            *content |= mean > limit;
        }
        let mut sums = vec![0u32; frame.width];
        for row in frame.data.chunks_exact(frame.width) {
            sums.iter_mut().zip(row).for_each(|(s, &v)| *s += u32::from(v));
        }
        for (content, sum) in columns.iter_mut().zip(sums) {
            *content |= sum / frame.height as u32 > limit;
        }
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
const CANNY_LOW: i32 = 50;
const CANNY_HIGH: i32 = 150;
/// Edge pixels on a line, as a share of the side along it.
const VOTES: f64 = 0.5;
/// Length of the longest piece of a line, as a share of the side along it.
const MIN_LENGTH: f64 = 0.8;
/// Gap that a piece may bridge, as a share of the side along it.
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

/// Straight edges parallel to the sides with darkness outside: Canny, then a Hough transform restricted to angles of 0 and 90 degrees (one counter per row
/// and per column; a line is its longest run of edge pixels). Deterministic, unlike the probabilistic transform that it stands for.
///
/// `None` when every frame is dark all over.
pub fn canny_hough(frames: &[Luma], limit: u32) -> Option<Borders> {
    // A frame that is dark all over (a fade) has no edge to show and no say.
    let lit = |f: &&Luma| f.rows().iter().any(|mean| *mean > limit);
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

fn one_frame(frame: &Luma, limit: u32) -> Borders {
    let (top, bottom) = horizontal(frame, limit);
    let (left, right) = horizontal(&frame.transposed(), limit);
    Borders { left, right, top, bottom }
}

/// The innermost lines at the top and at the bottom that have darkness outside, as widths of what is outside.
fn horizontal(frame: &Luma, limit: u32) -> (u32, u32) {
    let (w, h) = (frame.width, frame.height);
    if w < 8 || h < 8 {
        return (0, 0);
    }
    let edges = canny(frame);
    let rows = frame.rows();
    let dark = |range: std::ops::Range<usize>| {
        let n = range.len().max(1) as u32;
        rows[range].iter().sum::<u32>() / n <= limit
    };
    let least = ((MIN_STRIP * h as f64).ceil() as usize).max(MIN_STRIP_PX);
    let outer = (OUTER * h as f64) as usize;
    // The edge between two rows falls on either of them from pixel to pixel: both count as one line.
    let line = |y: usize| {
        let (a, b) = (&edges[y * w..(y + 1) * w], &edges[(y + 1) * w..(y + 2) * w]);
        is_line(&a.iter().zip(b).map(|(a, b)| *a || *b).collect::<Vec<_>>())
    };
    // Around the line, the mean of each row tells on which side of the edge it lies.
    let top = |y: usize| (y.saturating_sub(1)..(y + 3).min(h)).take_while(|&r| rows[r] <= limit).last().map_or(0, |r| r + 1);
    let bottom =
        |y: usize| (y.saturating_sub(1)..(y + 3).min(h)).rev().take_while(|&r| rows[r] <= limit).last().map_or(0, |r| h - r);
    let top = (0..outer).rev().filter(|&y| line(y)).map(top).find(|&n| n >= least && dark(0..n)).unwrap_or(0);
    let bottom = (h - outer..h - 1).filter(|&y| line(y)).map(bottom).find(|&n| n >= least && dark(h - n..h)).unwrap_or(0);
    (top as u32, bottom as u32)
}

fn is_line(row: &[bool]) -> bool {
    let side = row.len() as f64;
    if (row.iter().filter(|e| **e).count() as f64) < VOTES * side {
        return false;
    }
    let gap = (MAX_GAP * side) as usize;
    let (mut longest, mut start, mut last) = (0, None, 0);
    for (x, _) in row.iter().enumerate().filter(|(_, e)| **e) {
        match start {
            Some(s) if x - last <= gap + 1 => longest = longest.max(x - s + 1),
            _ => start = Some(x),
        }
        last = x;
    }
    longest as f64 >= MIN_LENGTH * side
}

/// Canny without smoothing, as OpenCV's: Sobel, non-maximum suppression, hysteresis.
fn canny(frame: &Luma) -> Vec<bool> {
    let (w, h) = (frame.width, frame.height);
    let mut magnitude = vec![0i32; w * h];
    let mut direction = vec![(0i32, 0i32); w * h];
    for y in 1..h - 1 {
        for x in 1..w - 1 {
            let p = |dx: usize, dy: usize| frame.at(x + dx - 1, y + dy - 1);
            let gx = p(2, 0) + 2 * p(2, 1) + p(2, 2) - p(0, 0) - 2 * p(0, 1) - p(0, 2);
            let gy = p(0, 2) + 2 * p(1, 2) + p(2, 2) - p(0, 0) - 2 * p(1, 0) - p(2, 0);
            magnitude[y * w + x] = gx.abs() + gy.abs();
            direction[y * w + x] = (gx, gy);
        }
    }
    let mut state = vec![0u8; w * h]; // 0 nothing, 1 weak, 2 edge
    let mut open = Vec::new();
    for y in 1..h - 1 {
        for x in 1..w - 1 {
            let at = y * w + x;
            let m = magnitude[at];
            if m <= CANNY_LOW {
                continue;
            }
            let (gx, gy) = direction[at];
            // tan 22.5 degrees = 0.4142, tan 67.5 degrees = 2.4142, in 1/10000
            let (ax, ay) = (i64::from(gx.abs()), i64::from(gy.abs()));
            let (before, after) = if ay * 10_000 < ax * 4142 {
                (at - 1, at + 1)
            } else if ay * 10_000 > ax * 24142 {
                (at - w, at + w)
            } else if (gx ^ gy) < 0 {
                (at - w + 1, at + w - 1)
            } else {
                (at - w - 1, at + w + 1)
            };
            if m > magnitude[before] && m >= magnitude[after] {
                state[at] = 1;
                if m > CANNY_HIGH {
                    state[at] = 2;
                    open.push(at);
                }
            }
        }
    }
    while let Some(at) = open.pop() {
        for next in [at - w - 1, at - w, at - w + 1, at - 1, at + 1, at + w - 1, at + w, at + w + 1] {
            if state[next] == 1 {
                state[next] = 2;
                open.push(next);
            }
        }
    }
    state.into_iter().map(|s| s == 2).collect()
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
