//! Clips of a wanted size and frame rate: how a picture is scaled, and which frame is shown when.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How pictures of another shape are brought to a wanted size. The shape of what is shown never changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The largest picture that fits inside, nothing cut off; sides are rounded down to even numbers, so one of them may be smaller than what was
    /// asked for.
    #[default]
    Fit,
    /// The smallest picture that covers the size; what stands over is cut off, as much on either side.
    Cover,
}

/// A wanted size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetSize {
    /// Pixels, even.
    pub width: u32,
    /// Pixels, even.
    pub height: u32,
    /// For pictures of another shape.
    pub resize: Resize,
}

/// A picture is scaled, then its middle is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub scaled: (u32, u32),
    pub size: (u32, u32),
}

impl TargetSize {
    /// For a picture that is displayed with this size.
    pub(crate) fn layout(&self, (w, h): (u32, u32)) -> Layout {
        let (w, h) = (u64::from(w.max(1)), u64::from(h.max(1)));
        let (tw, th) = (u64::from(self.width), u64::from(self.height));
        let wider = w * th >= h * tw;
        let by_width = (tw, (h * tw + w / 2) / w);
        let by_height = ((w * th + h / 2) / h, th);
        match self.resize {
            Resize::Fit => {
                let (w, h) = if wider { by_width } else { by_height };
                let even = |side: u64| (side as u32 & !1).max(2);
                let size = (even(w), even(h));
                Layout { scaled: size, size }
            }
            Resize::Cover => {
                let (w, h) = if wider { by_height } else { by_width };
                Layout { scaled: (w.max(tw) as u32, h.max(th) as u32), size: (self.width, self.height) }
            }
        }
    }
}

/// Where a frame stands in a clip of `fps` frames per second: it is shown at k / fps for each k of the range. ffmpeg's filter `fps` with
/// `round=near`: a time is rounded to the nearest k, and of several frames with the same k the last one is shown.
pub(crate) fn places(from_ns: i64, until_ns: i64, fps: f64) -> Range<i64> {
    let place = |ns: i64| (ns as f64 * fps / 1e9).round() as i64;
    place(from_ns)..place(until_ns)
}

/// When the frame at a place is shown.
pub(crate) fn place_ns(place: i64, fps: f64) -> i64 {
    (place as f64 * 1e9 / fps).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_fit_inside_or_cover() {
        let target = |resize| TargetSize { width: 720, height: 480, resize };
        let fit = |size| target(Resize::Fit).layout(size).size;
        assert_eq!(
            (fit((1280, 720)), fit((640, 480)), fit((720, 1280)), fit((100, 3))),
            ((720, 404), (640, 480), (270, 480), (720, 22))
        );
        let cover = |size| target(Resize::Cover).layout(size).scaled;
        assert_eq!((cover((1280, 720)), cover((640, 480)), cover((1440, 960))), ((853, 480), (720, 540), (720, 480)));
        assert_eq!(target(Resize::Cover).layout((1280, 720)).size, (720, 480));
    }

    /// The filter as its documentation has it: for each output time the last frame whose rounded time is not later.
    fn oracle(times: &[i64], end: i64, fps: f64) -> Vec<usize> {
        let rounded = |t: i64| (t as f64 * fps / 1e9).round() as i64;
        (0..rounded(end)).map(|k| times.iter().rposition(|t| rounded(*t) <= k).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn frames_are_shown_when_the_filter_shows_them(gaps in prop::collection::vec(1_000_000i64..200_000_000, 1..60), fps in 1.0f64..60.0) {
            let mut times = vec![0];
            gaps.iter().for_each(|g| times.push(times[times.len() - 1] + g));
            let end = times.pop().unwrap();
            let ends = times.iter().copied().skip(1).chain([end]);
            let shown: Vec<usize> = times.iter().zip(ends).enumerate()
                .flat_map(|(i, (from, until))| places(*from, until, fps).map(move |_| i)).collect();
            prop_assert_eq!(shown, oracle(&times, end, fps));
        }

        #[test]
        fn layouts_keep_the_shape(w in 16u32..4000, h in 16u32..4000, tw in 8u32..1000, th in 8u32..1000) {
            let (tw, th) = (tw * 2, th * 2);
            for resize in [Resize::Fit, Resize::Cover] {
                let l = TargetSize { width: tw, height: th, resize }.layout((w, h));
                prop_assert!(l.size.0.is_multiple_of(2) && l.size.1.is_multiple_of(2) && l.size.0 <= tw && l.size.1 <= th);
                prop_assert!(l.size.0 <= l.scaled.0 && l.size.1 <= l.scaled.1);
                // One side follows from the other and the shape, within rounding.
                let follows = |side: u32, from: u32, to: u32, is: u32| {
                    (f64::from(side) * f64::from(to) / f64::from(from) - f64::from(is)).abs() <= 2.0
                };
                let near = follows(l.scaled.0, w, h, l.scaled.1) || follows(l.scaled.1, h, w, l.scaled.0);
                prop_assert!(near, "{:?} for {w} x {h} in {tw} x {th}", l);
            }
        }
    }
}
