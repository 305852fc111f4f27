//! `probe`: opens each video, reads its packet times, decodes one frame and hashes the file.
//!
//! Why first in a pipeline: a file that cannot be read ends here with the reason, before anything expensive. What can go wrong: bit errors inside
//! frames are not seen here (one frame is decoded); `frame_embed` counts them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::media::{self, MediaContext, MediaError, VideoInfo};
use crate::span::text_column;

/// Reads what each video is: container, codec, size as displayed, frame rate, duration, audio, content hash.
///
/// A row whose file cannot be used is unmeasured, with the reason as its code: `file_missing`, `file_unreadable`, `empty_file`, `not_a_video`,
/// `no_index`, `no_video_stream`, `unsupported_codec`, `damaged`, `truncated`, `no_frames`, `too_large`, `too_long`, `timeout`, `stalled`;
/// of remote files also `fetch_failed`, `access_denied`, `input_changed` (another etag or length than at first) and `ranges_refused` (the server
/// sends whole files only).
///
/// Remote files are read by ranges. Of an mp4 with an ordinary index, that is the index and the key frames; of other files, all of it once.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Probe {
    /// What to do with a file that ends clearly (more than 1 s and 2 %) before the end that its header states.
    pub truncated_files: TruncatedFiles,
    /// Add `key_frame_times_us`, which `temporal_split` needs to place boundaries at key frames.
    pub key_frames: bool,
    /// Time for one file, reading it over the network included, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`Probe::truncated_files`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TruncatedFiles {
    /// The row is unmeasured with code `truncated`.
    #[default]
    Error,
    /// The row goes on; `duration_us` is what is really there.
    Keep,
}

impl Default for Probe {
    fn default() -> Self {
        Probe { truncated_files: TruncatedFiles::Error, key_frames: false, timeout_seconds: 600 }
    }
}

impl Operator for Probe {
    const NAME: &'static str = "probe";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str = "[step.probe]\ntype = \"probe\"\ninputs = [\"videos\"]\ntruncated_files = \"error\"\n";

    fn columns(&self) -> Columns {
        let columns = Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .add("content_blake3", DataType::Utf8, "blake3 of the whole file, hex; of a file in a store or on a web server, of its URL, length and etag (or time of last change)")
            .add("container", DataType::Utf8, "mp4, matroska, webm, avi, mpegts, ...: from the bytes, not the name")
            .add("video_codec", DataType::Utf8, "h264, hevc, vp9, av1, ... of the video stream with the most pixels")
            .add("pixel_format", DataType::Utf8, "decoded format in GStreamer's naming, lower case: i420, i420_10le, y444, ...")
            .add("width", DataType::Int32, "pixels as displayed, after rotation and pixel aspect")
            .add("height", DataType::Int32, "pixels as displayed, after rotation and pixel aspect")
            .add("rotation_degrees", DataType::Int32, "clockwise turn that the file asks for: 0, 90, 180, 270")
            .add("fps", DataType::Float64, "mean frame rate: (frames - 1) / (time of the last frame - time of the first)")
            .add("duration_us", DataType::Int64, "end of the last frame that is in the file, in microseconds of stream time")
            .add("has_audio", DataType::Boolean, "true if there is an audio stream");
        if !self.key_frames {
            return columns;
        }
        columns.add(
            "key_frame_times_us",
            DataType::new_list(DataType::Int64, true),
            "times of the frames at which decoding can restart, ascending, in microseconds of stream time; null where the packets do not tell; of \
             more than 100000, every second (third, ...) one",
        )
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

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

/// Tells `check` which GStreamer elements are missing and which package has them.
pub(crate) fn report_missing(check: &mut dyn StepCheck) {
    for missing in media::missing_software() {
        let message = format!("the GStreamer element `{}` is not installed", missing.element);
        check.error(None, Code::MissingSoftware, message, Some(format!("apt-get install {}", missing.package)));
    }
}

impl Transform for Probe {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let uris = text_column(rows, "video_uri")?;
        let plane = media::plane_of(task);
        let context =
            MediaContext { cancelled: task.cancelled, plane: &plane, timeout: Duration::from_secs(self.timeout_seconds) };
        let (mut verdicts, mut out) = (Vec::with_capacity(rows.num_rows()), Builders::default());
        let mut key_frames = ListBuilder::new(Int64Builder::new());
        for row in 0..rows.num_rows() {
            let uri = if uris.is_null(row) { "" } else { uris.value(row) };
            let found = media::probe(uri, &context).and_then(|info| self.accept(uri, info));
            out.append(found.as_ref().ok());
            let times = found.as_ref().ok().and_then(|info| info.key_frame_times_us.as_ref());
            key_frames.append_option(times.map(|times| times.iter().map(|t| Some(*t))));
            verdicts.push(found.map_or_else(|e| Verdict::Unmeasured(media::problem(e)), |_| Verdict::Pass));
        }
        let mut columns = out.finish();
        if self.key_frames {
            columns.push(Arc::new(key_frames.finish()));
        }
        Ok(Processed::rows(verdicts, columns))
    }
}

impl Probe {
    fn accept(&self, uri: &str, info: VideoInfo) -> Result<VideoInfo, MediaError> {
        if info.truncated && self.truncated_files == TruncatedFiles::Error {
            let (there, stated) = (info.duration_us as f64 / 1e6, info.stated_duration_us.unwrap_or(0) as f64 / 1e6);
            let message = format!(
                "{}: data ends at {there:.2} s of {stated:.2} s; fetch it again, or set truncated_files = \"keep\"",
                media::shown(uri)
            );
            return Err(MediaError { code: "truncated", message });
        }
        Ok(info)
    }
}

#[derive(Default)]
struct Builders {
    hash: StringBuilder,
    container: StringBuilder,
    codec: StringBuilder,
    format: StringBuilder,
    width: Int32Builder,
    height: Int32Builder,
    rotation: Int32Builder,
    fps: Float64Builder,
    duration: Int64Builder,
    audio: BooleanBuilder,
}

impl Builders {
    fn append(&mut self, info: Option<&VideoInfo>) {
        self.hash.append_option(info.map(|i| &i.content_blake3));
        self.container.append_option(info.map(|i| i.container));
        self.codec.append_option(info.map(|i| &i.codec));
        self.format.append_option(info.map(|i| &i.pixel_format));
        self.width.append_option(info.map(|i| i.width as i32));
        self.height.append_option(info.map(|i| i.height as i32));
        self.rotation.append_option(info.map(|i| i.rotation_degrees));
        self.fps.append_option(info.map(|i| i.fps));
        self.duration.append_option(info.map(|i| i.duration_us));
        self.audio.append_option(info.map(|i| i.has_audio));
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.hash.finish()),
            Arc::new(self.container.finish()),
            Arc::new(self.codec.finish()),
            Arc::new(self.format.finish()),
            Arc::new(self.width.finish()),
            Arc::new(self.height.finish()),
            Arc::new(self.rotation.finish()),
            Arc::new(self.fps.finish()),
            Arc::new(self.duration.finish()),
            Arc::new(self.audio.finish()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::media::tests::{media_folder, process_uris};

    #[test]
    fn broken_files_are_unmeasured_with_their_reason_and_good_ones_pass() {
        let Some(folder) = media_folder() else { return };
        let names = [
            ("broken-no-moov.mp4", Some("no_index")),
            ("broken-random.mp4", Some("not_a_video")),
            ("broken-text.mp4", Some("not_a_video")),
            ("broken-zero-byte.mp4", Some("empty_file")),
            ("audio-only.mp3", Some("no_video_stream")),
            ("broken-truncated-45pct.mp4", Some("truncated")),
            ("broken-truncated-moov-first.mp4", Some("truncated")),
            ("vp8-dancer-360p.webm", Some("truncated")),
            ("no-such-file.mp4", Some("file_missing")),
            ("h264-10bit-200p.mp4", None),
        ];
        let uris: Vec<String> = names.iter().map(|(n, _)| folder.join(n).to_string_lossy().into_owned()).collect();
        let done = process_uris(&Probe::default(), &uris);
        for ((name, want), verdict) in names.iter().zip(&done.verdicts) {
            match (want, verdict) {
                (None, Verdict::Pass) => {}
                (Some(code), Verdict::Unmeasured(p)) if p.code == *code => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(done.check(names.len()).is_ok());
    }

    #[test]
    fn a_truncated_file_can_be_kept() {
        let Some(folder) = media_folder() else { return };
        let operator = Probe { truncated_files: TruncatedFiles::Keep, ..Probe::default() };
        let done = process_uris(&operator, &[folder.join("broken-truncated-45pct.mp4").to_string_lossy().into_owned()]);
        assert_eq!(done.verdicts, [Verdict::Pass]);
    }

    #[test]
    fn key_frames_are_told_where_they_are_asked_for() {
        let Some(folder) = media_folder() else { return };
        let uris: Vec<String> = ["ultrasound-cardiac-240p.mp4", "no-such-file.mp4"]
            .iter()
            .map(|n| folder.join(n).to_string_lossy().into_owned())
            .collect();
        let operator = Probe { key_frames: true, ..Probe::default() };
        let done = process_uris(&operator, &uris);
        let column = done.columns[operator.columns().adds.len() - 1].as_list::<i32>();
        let times = column.value(0).as_primitive::<Int64Type>().values().to_vec();
        assert_eq!(times.iter().map(|t| (t + 500_000) / 1_000_000).collect::<Vec<_>>(), [0, 2, 4, 6, 8, 10, 12, 14], "{times:?}");
        assert!(column.is_null(1));
        assert_eq!(process_uris(&Probe::default(), &uris).columns.len() + 1, done.columns.len());
    }
}
