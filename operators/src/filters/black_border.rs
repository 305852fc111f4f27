//! `black_border`: drops clips with black bars, from a few uniformly spaced frames.
//!
//! What can go wrong: medical pictures often stand on black (ultrasound fans, round scope masks). `cropdetect` calls that a border when whole rows or
//! columns stay dark: it drops real laparoscopy, echocardiography and MRI. `canny_hough` asks for a straight edge and does not; it is what
//! `pipelines/medvideocap.toml` uses. It misses bars around a picture that is too small for a line over 80 % of the side. The measured widths are in the row either
//! way.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float32Builder, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::media::{MediaContext, MediaError, plane_of, problem, shown, uniform_frames};
use crate::pixels::borders::{Borders, canny_hough, cropdetect};
use crate::pixels::luma::Luma;
use crate::span::{Span, Spans};
use crate::video::report_missing;

/// Drops clips (or whole videos, where rows have no span) whose picture has a black border.
///
/// `frames` frames are taken at indexes floor(k (N - 1) / (frames - 1)) of the N frames of the span; luma is on the video scale (black is 16). A row is
/// dropped when its widest border is more than `max_border_share` of the side that it shortens. A clip that is dark all over is one border for `cropdetect`.
///
/// Frames are looked at in their native size, because widths are in pixels; together they may take 1 GiB (`too_large`: 8 frames of 8K fit, 64 do not).
/// Unmeasured codes besides those of `probe`: `no_span`, `format_change` (the size changes inside the span), `no_lit_frame` (`canny_hough` on a clip that
/// is dark all over).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BlackBorder {
    /// How borders are found.
    pub method: Method,
    /// Largest border that is kept, as a share of the side (0 to 0.5).
    #[schemars(range(min = 0.0, max = 0.5))]
    pub max_border_share: f64,
    /// Mean luma up to which a row, column or strip is black (16 to 128).
    #[schemars(range(min = 16, max = 128))]
    pub luma_limit: u32,
    /// Frames looked at (1 to 64).
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Time for one row, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`BlackBorder::method`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// ffmpeg's rule: rows and columns from the sides whose mean luma is at most the limit in all frames. Also calls the dark around ultrasound, MRI and round
    /// endoscope pictures a border: use `canny_hough` for medical video.
    #[default]
    Cropdetect,
    /// OpenCV's Canny (50/150) and Hough transform for horizontal and vertical lines: a line over 80 % of the side with gaps of at most 2 %, in the outer 30 %,
    /// black outside (at least 1 % of the side and 4 pixels), within 2 pixels of the same place in 80 % of the frames.
    CannyHough,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Method::Cropdetect => "cropdetect",
            Method::CannyHough => "canny_hough",
        }
    }
}

impl Default for BlackBorder {
    fn default() -> Self {
        BlackBorder { method: Method::Cropdetect, max_border_share: 0.01, luma_limit: 24, frames: 8, timeout_seconds: 600 }
    }
}

impl Operator for BlackBorder {
    const NAME: &'static str = "black_border";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.black_border]\ntype = \"black_border\"\ninputs = [\"clips\"]\nmethod = \"cropdetect\"\nmax_border_share = 0.01\n";

    fn columns(&self) -> Columns {
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add("border_left_px", DataType::Int32, "black columns at the left, pixels as displayed")
            .add("border_right_px", DataType::Int32, "black columns at the right")
            .add("border_top_px", DataType::Int32, "black rows at the top")
            .add("border_bottom_px", DataType::Int32, "black rows at the bottom")
            .add("border_max_share", DataType::Float32, "widest border as a share of the side that it shortens, 0 to 1")
            .add("border_method", DataType::Utf8, "cropdetect or canny_hough")
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(crate::span::OF_PIXELS.to_vec())
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

struct Measured {
    borders: Borders,
    share: f32,
}

impl BlackBorder {
    fn measure(&self, span: Span, context: &MediaContext) -> Result<Measured, MediaError> {
        let frames = uniform_frames(span.uri, span.start_us, span.end_us, self.frames, None, context)?;
        let Some(first) = frames.first() else {
            return Err(MediaError { code: "no_frames", message: format!("{}: no frame in the span", shown(span.uri)) });
        };
        let (width, height) = (first.width, first.height);
        if frames.iter().any(|f| (f.width, f.height) != (width, height)) {
            return Err(MediaError {
                code: "format_change",
                message: format!("{}: the picture changes its size inside the span", shown(span.uri)),
            });
        }
        let luma: Vec<Luma> = frames.iter().map(|f| Luma::of_rgb(f.width, f.height, &f.rgb)).collect();
        let borders = match self.method {
            Method::Cropdetect => cropdetect(&luma, self.luma_limit),
            Method::CannyHough => canny_hough(&luma, self.luma_limit).ok_or_else(|| MediaError {
                code: "no_lit_frame",
                message: format!(
                    "{}: all {} frames are dark all over, so that no edge can show a border",
                    shown(span.uri),
                    luma.len()
                ),
            })?,
        };
        Ok(Measured { borders, share: borders.max_share(width, height) })
    }

    fn judge(&self, m: &Measured) -> Verdict {
        // Both rounded to the column's type: a border of exactly the limit is kept.
        if m.share <= self.max_border_share as f32 {
            return Verdict::Pass;
        }
        let Borders { left, right, top, bottom } = m.borders;
        let message = format!("black border of {left}, {right}, {top}, {bottom} pixels (left, right, top, bottom)");
        Verdict::fail("black_border", f64::from(m.share), self.max_border_share, message)
    }
}

impl Transform for BlackBorder {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let plane = plane_of(task);
        let context =
            MediaContext { cancelled: task.cancelled, plane: &plane, timeout: Duration::from_secs(self.timeout_seconds) };
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut sides: [Int32Builder; 4] = Default::default();
        let (mut share, mut method) = (Float32Builder::new(), StringBuilder::new());
        for row in 0..rows.num_rows() {
            let measured = spans.row(row).and_then(|span| self.measure(span, &context).map_err(problem));
            let found = measured.as_ref().ok();
            let Borders { left, right, top, bottom } = found.map(|m| m.borders).unwrap_or_default();
            for (side, px) in sides.iter_mut().zip([left, right, top, bottom]) {
                side.append_option(found.map(|_| px as i32));
            }
            share.append_option(found.map(|m| m.share));
            method.append_option(found.map(|_| self.method.name()));
            verdicts.push(measured.map_or_else(Verdict::Unmeasured, |m| self.judge(&m)));
        }
        let mut columns: Vec<ArrayRef> = sides.iter_mut().map(|s| Arc::new(s.finish()) as ArrayRef).collect();
        columns.push(Arc::new(share.finish()));
        columns.push(Arc::new(method.finish()));
        Ok(Processed::rows(verdicts, columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::{Bench, media_folder, process_uris};

    #[test]
    fn letterbox_is_measured_to_the_pixel_and_dropped_and_full_pictures_are_kept() {
        let Some(folder) = media_folder() else { return };
        let bench = Bench::new();
        for method in [Method::Cropdetect, Method::CannyHough] {
            let operator = BlackBorder { method, ..BlackBorder::default() };
            let mut report = Vec::new();
            for name in [
                "letterbox-480p.mp4",
                "nature-butterfly-720p.mp4",
                "portrait-rotate90-720p.mp4",
                "surgery-laparoscopy-720p.mp4",
                "ultrasound-cardiac-240p.mp4",
                "mri-brain-slices-288p.mp4",
                "bunny-480p.mp4",
            ] {
                let uri = folder.join(name).to_string_lossy().into_owned();
                let m = operator.measure(Span { uri: &uri, start_us: 0, end_us: i64::MAX / 1000 }, &bench.context()).unwrap();
                eprintln!("{method:?} {name}: {:?} share {:.3} {:?}", m.borders, m.share, operator.judge(&m));
                report.push((m, uri));
            }
            assert_eq!(report[0].0.borders, Borders { left: 0, right: 0, top: 60, bottom: 60 }, "{method:?}");
            assert!(matches!(operator.judge(&report[0].0), Verdict::Fail(_)));
            assert_eq!(operator.judge(&report[1].0), Verdict::Pass);
            assert_eq!(operator.judge(&report[2].0), Verdict::Pass);
        }
    }

    /// `operators/tests/goldens/borders.json` holds what OpenCV and ffmpeg find in frames that ffmpeg decoded. Colours convert a little otherwise there, so that
    /// the number of edge pixels differs (speckle of ultrasound lies at the threshold: by 5 %); widths and decisions must not. On the same pixels edges are equal to
    /// the last one: see the drawn pictures in `pixels::canny`.
    #[test]
    fn real_files_have_the_borders_that_opencv_and_ffmpeg_find() {
        let golden = crate::pixels::goldens::read("borders.json");
        let sample = crate::media::tests::sample_folder();
        let bench = Bench::new();
        let (mut compared, mut left_out) = (0, 0);
        for one in golden["files"].as_array().unwrap() {
            let folder = if one["folder"] == "media" { media_folder() } else { Some(sample.clone()) };
            let path = folder.unwrap_or_default().join(one["name"].as_str().unwrap());
            if !path.exists() {
                left_out += 1;
                continue;
            }
            let uri = path.to_string_lossy();
            let frames = uniform_frames(&uri, 0, i64::MAX / 1000, 8, None, &bench.context()).unwrap();
            let luma: Vec<Luma> = frames.iter().map(|f| Luma::of_rgb(f.width, f.height, &f.rgb)).collect();
            let sides = |b: Borders| serde_json::json!([b.left, b.right, b.top, b.bottom]);
            assert_eq!(canny_hough(&luma, 24).map(sides), Some(one["canny_hough"].clone()), "{uri}");
            // Where a picture fades into black, one grey level moves the border: ffmpeg's lies between ours for a limit less and a limit more.
            let (less, more) = (sides(cropdetect(&luma, 23)), sides(cropdetect(&luma, 25)));
            for side in 0..4 {
                let [less, want, more] = [&less, &one["cropdetect"], &more].map(|b| b[side].as_u64().unwrap());
                assert!((less..=more).contains(&want), "{uri}: side {side}: {less} to {more}, ffmpeg {want}");
            }
            for ((luma, want), edges) in
                luma.iter().zip(one["by_frame"].as_array().unwrap()).zip(one["edges"].as_array().unwrap())
            {
                assert_eq!(sides(crate::pixels::borders::one_frame(luma, 24)), *want, "{uri}");
                let got = crate::pixels::canny::canny(luma, 50, 150).iter().filter(|e| **e).count() as f64;
                let want = edges.as_f64().unwrap();
                assert!((got - want).abs() <= 0.08 * want + 30.0, "{uri}: {got} edge pixels, OpenCV {want}");
            }
            compared += 1;
        }
        eprintln!("{compared} files agree, {left_out} are not on this machine");
    }

    #[test]
    fn a_border_of_exactly_the_limit_is_kept() {
        for (px, height, limit) in [(54, 1080, 0.05), (36, 720, 0.05), (108, 1080, 0.1), (12, 1200, 0.01), (7, 700, 0.01)] {
            let operator = BlackBorder { max_border_share: limit, ..BlackBorder::default() };
            let measured = |top| {
                let borders = Borders { top, ..Borders::default() };
                Measured { borders, share: borders.max_share(1920, height) }
            };
            assert_eq!(operator.judge(&measured(px)), Verdict::Pass, "{px} of {height}");
            assert!(matches!(operator.judge(&measured(px + 1)), Verdict::Fail(_)), "{px} of {height}");
        }
    }

    #[test]
    fn rows_are_judged_and_broken_ones_are_unmeasured() {
        let Some(folder) = media_folder() else { return };
        let uris = ["letterbox-480p.mp4", "nature-bee-720p.mp4", "broken-text.mp4"]
            .map(|n| folder.join(n).to_string_lossy().into_owned());
        let done = process_uris(&BlackBorder::default(), &uris);
        assert!(matches!(done.verdicts[..], [Verdict::Fail(_), Verdict::Pass, Verdict::Unmeasured(_)]), "{:?}", done.verdicts);
        for (column, added) in done.columns.iter().zip(BlackBorder::default().columns().adds) {
            assert_eq!(column.data_type(), added.field.data_type());
        }
    }
}
