//! `clip_cut`: makes the clip itself, an mp4 of the row's span, checked by decoding it.
//!
//! Why last in a pipeline: encoding costs about six times decoding; copying packets costs little, where the span allows it. What can go wrong: the
//! encoder is missing (`check` says which package has it); a clip does not hold what the source holds (`cut_mismatch`, never silent).

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, RecordBatch, StringBuilder, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::media::{
    Clip, CutMode, CutSettings, Encoder, MediaContext, Resize, SpeedPreset, TargetSize, VerifyCopies, cut, missing_encoders,
    plane_of, problem, put_object,
};
use crate::span::{Spans, text_column};
use crate::video::report_missing;

/// Cuts each row's span `[start_us, end_us)` (the whole video where rows have no span) into an mp4: H.264 4:2:0, AAC audio, index in front. With
/// `mode = "exact"` or `"smart"` every frame of the source whose time is in the span is in the clip, and no other. Encoded clips have constant
/// quality, rotation and pixel aspect baked in, and odd sides cut down by one pixel.
///
/// Packets are copied from H.264 in mp4, 8-bit 4:2:0, progressive, with square pixels and no rotation. Where a span cannot be copied the clip is
/// encoded, and `clip_fallback` says why: `container`, `several_video_streams`, `codec`, `interlaced`, `rotation`, `framing`, `parameter_sets`,
/// `pixel_aspect`, `pixel_format`, `profile`, `structure_unknown`, `odd_size`, `picture_size`, `no_key_frame` (none in the span at which decoding
/// restarts; open groups have none), `hidden_frames` (by an edit list), `frame_times`, `reordering` (the stream does not tell how far), `encoder`
/// (only x264 joins copied packets), `packets_differ`, `frames_differ`, `source_damaged`, `not_verified`, `too_wide`
/// (longer than 10 minutes up to the key frames around), `too_large`, `copy_failed`, `resized`, `frame_rate`.
///
/// Each clip is held against the source: the frames that the file lists for the span must all decode without error, and the finished clip is
/// decoded again, its frames counted and timed, its first and last picture and the first copied one compared (copied: the same bytes; encoded: at
/// least 20 dB at 64 pixels); a difference is `cut_mismatch`. With `verify = "packets"` a clip in which all is copied is read back and its packets
/// compared instead. Unmeasured codes besides those of `probe`: `no_span`, `too_long` (over 10 minutes),
/// `clip_too_large`, `format_change`, `encode_failed`, `cut_mismatch`, `write_failed`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClipCut {
    /// Where the bytes go.
    pub storage: Storage,
    /// Folder or URL for `storage = "objects"`, from the pipeline file's folder if relative. Files are named by the blake3 of their content.
    pub location: Option<String>,
    /// What is encoded again and what is copied.
    pub mode: CutMode,
    /// Width of the clip in pixels, even (16 to 8192); with `height`. The clip is then encoded as a whole.
    #[schemars(range(min = 16, max = 8192))]
    pub width: Option<u32>,
    /// Height of the clip in pixels, even (16 to 8192); with `width`.
    #[schemars(range(min = 16, max = 8192))]
    pub height: Option<u32>,
    /// How a picture of another shape is brought to `width` and `height`.
    pub resize: Resize,
    /// Frames per second of the clip (1 to 240). The clip is then encoded as a whole; at k / fps it shows the last frame whose time, rounded to a
    /// multiple of 1 / fps, is not later: ffmpeg's `fps` filter with `round=near`.
    #[schemars(range(min = 1.0, max = 240.0))]
    pub fps: Option<f64>,
    /// Constant quality: 1 (best, large) to 50 (worst, small). x264's CRF; the quantizer for openh264.
    #[schemars(range(min = 1, max = 50))]
    pub quality: u8,
    /// x264's speed preset.
    pub speed_preset: SpeedPreset,
    /// Which encoder; never chosen by what a machine happens to have, so that all machines make the same bytes.
    pub encoder: Encoder,
    /// Keep the first audio stream, as AAC of 128 kbit/s with at most two channels.
    pub keep_audio: bool,
    /// How a clip in which every packet is copied is checked. Clips with encoded pictures are always decoded.
    pub verify: VerifyCopies,
    /// Larger clips are unmeasured, in bytes (1000 to 1000000000).
    #[schemars(range(min = 1_000, max = 1_000_000_000))]
    pub max_clip_bytes: u64,
    /// Time for one clip, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`ClipCut::storage`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// In the row: `clip.bytes`.
    #[default]
    Table,
    /// As a file or object under `location`; the row has its path, size and hash.
    Objects,
}

impl Default for ClipCut {
    fn default() -> Self {
        ClipCut {
            storage: Storage::Table,
            location: None,
            mode: CutMode::Exact,
            width: None,
            height: None,
            resize: Resize::Fit,
            fps: None,
            quality: 23,
            speed_preset: SpeedPreset::Veryfast,
            encoder: Encoder::X264,
            keep_audio: true,
            verify: VerifyCopies::Decode,
            max_clip_bytes: 100_000_000,
            timeout_seconds: 1800,
        }
    }
}

/// Longest file name made from an id.
const MAX_NAME: usize = 150;

/// The parts of the column `clip`.
pub(crate) fn clip_fields() -> Fields {
    Fields::from(vec![Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)])
}

impl Operator for ClipCut {
    const NAME: &'static str = "clip_cut";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str = "[step.clip_cut]\ntype = \"clip_cut\"\ninputs = [\"clips\"]\nstorage = \"table\"\nquality = 23\nspeed_preset = \"veryfast\"\n";

    fn columns(&self) -> Columns {
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("clip_id", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add(
                "clip",
                DataType::Struct(clip_fields()),
                "the mp4 as Hugging Face `Video` reads it: bytes, or the path of the object",
            )
            .add("clip_uri", DataType::Utf8, "where the object is; null when the bytes are in the row")
            .add("clip_bytes", DataType::Int64, "size of the mp4 in bytes")
            .add("clip_blake3", DataType::Utf8, "blake3 of the mp4, hex")
            .add("clip_codec", DataType::Utf8, "h264")
            .add("clip_width", DataType::Int32, "pixels, even")
            .add("clip_height", DataType::Int32, "pixels, even")
            .add("clip_fps", DataType::Float64, "mean frame rate of the clip")
            .add("clip_duration_us", DataType::Int64, "from the first frame to the end of the last, microseconds")
            .add("clip_frames", DataType::Int32, "frames, counted by decoding the clip")
            .add("clip_has_audio", DataType::Boolean, "true if the clip has audio")
            .add("clip_start_us", DataType::Int64, "time of the clip's first frame in the video, microseconds")
            .add("clip_end_us", DataType::Int64, "end of the clip's last frame in the video, microseconds")
            .add("clip_mode", DataType::Utf8, "how the clip was made: exact, smart or keyframe")
            .add(
                "clip_fallback",
                DataType::Utf8,
                "why it was encoded although `mode` asked for copies; null if it was made as asked",
            )
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        match (self.storage, &self.location) {
            (Storage::Objects, None) => check.error(
                Some("storage"),
                Code::Contradiction,
                "`storage = \"objects\"` needs `location`".into(),
                Some("add location = \"clips/\" or an s3:// URL".into()),
            ),
            (Storage::Table, Some(_)) => check.error(
                Some("location"),
                Code::Contradiction,
                "`location` has no meaning with `storage = \"table\"`".into(),
                Some("remove it, or set storage = \"objects\"".into()),
            ),
            (Storage::Table, None) | (Storage::Objects, Some(_)) => {}
        }
        for (key, value, other, also) in
            [("width", self.width, "height", self.height), ("height", self.height, "width", self.width)]
        {
            let Some(pixels) = value else { continue };
            if also.is_none() {
                let message = format!("`{key}` has no meaning without `{other}`");
                check.error(Some(key), Code::Contradiction, message, Some(format!("add {other}, or remove {key}")));
            }
            if pixels % 2 == 1 {
                let message = format!("`{key}` = {pixels} is odd; 4:2:0 pictures have even sides");
                check.error(Some(key), Code::OutOfRange, message, Some(format!("use {}", pixels & !1)));
            }
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
        for missing in missing_encoders(self.encoder, self.keep_audio) {
            let message = format!("the GStreamer element `{}` is not installed", missing.element);
            check.error(Some("encoder"), Code::MissingSoftware, message, Some(format!("apt-get install {}", missing.package)));
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // Beside the pixels: the name of the file, which is the clip.
        if self.storage == Storage::Objects {
            // The object may have been deleted since.
            return None;
        }
        Some([crate::span::OF_PIXELS.as_slice(), &["clip_id"]].concat())
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let location = self.location.as_ref().map(|l| context.paths.resolve(l).to_string_lossy().into_owned());
        Ok(Runtime::Transform(Box::new(Cutter { config: self.clone(), location, id_column: context.id_column.clone() })))
    }
}

struct Cutter {
    config: ClipCut,
    /// Set exactly when the bytes go to objects.
    location: Option<String>,
    id_column: String,
}

/// A clip that is where it belongs.
struct Stored {
    clip: Clip,
    path: String,
    uri: Option<String>,
}

impl Cutter {
    fn cut_row(&self, spans: &Spans, row: usize, id: &str, context: &MediaContext) -> Result<Stored, Problem> {
        let span = spans.row(row)?;
        let resize = self.config.resize;
        let size = self.config.width.zip(self.config.height).map(|(width, height)| TargetSize { width, height, resize });
        let settings = CutSettings {
            mode: self.config.mode,
            size,
            fps: self.config.fps,
            encoder: self.config.encoder,
            quality: self.config.quality,
            speed_preset: self.config.speed_preset,
            audio: self.config.keep_audio,
            verify: self.config.verify,
            max_bytes: self.config.max_clip_bytes,
        };
        let mut clip = cut(span.uri, span.start_us, span.end_us, &settings, context).map_err(problem)?;
        let Some(location) = &self.location else {
            return Ok(Stored { clip, path: file_name(id), uri: None });
        };
        let uri = put_object(location, &format!("{}.mp4", clip.blake3), &clip.bytes).map_err(problem)?;
        clip.bytes = Vec::new(); // they are in the object now
        Ok(Stored { clip, path: uri.clone(), uri: Some(uri) })
    }
}

/// A name that every file system takes.
fn file_name(id: &str) -> String {
    let keep = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' };
    let name: String = id.chars().map(keep).take(MAX_NAME).collect();
    format!("{}.mp4", name.trim_start_matches('.'))
}

impl Transform for Cutter {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let ids = text_column(rows, &self.id_column)?;
        let timeout = Duration::from_secs(self.config.timeout_seconds);
        let plane = plane_of(task);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let (mut verdicts, mut out) = (Vec::with_capacity(rows.num_rows()), Builders::default());
        for row in 0..rows.num_rows() {
            let stored = self.cut_row(&spans, row, ids.value(row), &context);
            out.append(stored.as_ref().ok());
            verdicts.push(stored.map_or_else(Verdict::Unmeasured, |_| Verdict::Pass));
        }
        Ok(Processed::rows(verdicts, out.finish()))
    }
}

#[derive(Default)]
struct Builders {
    valid: Vec<bool>,
    bytes: BinaryBuilder,
    path: StringBuilder,
    uri: StringBuilder,
    size: Int64Builder,
    hash: StringBuilder,
    codec: StringBuilder,
    width: Int32Builder,
    height: Int32Builder,
    fps: Float64Builder,
    duration: Int64Builder,
    frames: Int32Builder,
    audio: BooleanBuilder,
    start: Int64Builder,
    end: Int64Builder,
    mode: StringBuilder,
    fallback: StringBuilder,
}

impl Builders {
    fn append(&mut self, stored: Option<&Stored>) {
        let clip = stored.map(|s| &s.clip);
        self.valid.push(stored.is_some());
        self.bytes.append_option(stored.filter(|s| s.uri.is_none()).map(|s| &s.clip.bytes));
        self.path.append_option(stored.map(|s| &s.path));
        self.uri.append_option(stored.and_then(|s| s.uri.as_ref()));
        self.size.append_option(clip.map(|c| c.size as i64));
        self.hash.append_option(clip.map(|c| &c.blake3));
        self.codec.append_option(clip.map(|_| "h264"));
        self.width.append_option(clip.map(|c| c.width as i32));
        self.height.append_option(clip.map(|c| c.height as i32));
        self.fps.append_option(clip.map(|c| c.fps));
        self.duration.append_option(clip.map(|c| c.duration_us));
        self.frames.append_option(clip.map(|c| c.frames as i32));
        self.audio.append_option(clip.map(|c| c.has_audio));
        self.start.append_option(clip.map(|c| c.start_us));
        self.end.append_option(clip.map(|c| c.end_us));
        self.mode.append_option(clip.map(|c| c.mode.name()));
        self.fallback.append_option(clip.and_then(|c| c.fallback));
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        let parts: Vec<ArrayRef> = vec![Arc::new(self.bytes.finish()), Arc::new(self.path.finish())];
        let clip = StructArray::new(clip_fields(), parts, Some(NullBuffer::from(self.valid)));
        vec![
            Arc::new(clip),
            Arc::new(self.uri.finish()),
            Arc::new(self.size.finish()),
            Arc::new(self.hash.finish()),
            Arc::new(self.codec.finish()),
            Arc::new(self.width.finish()),
            Arc::new(self.height.finish()),
            Arc::new(self.fps.finish()),
            Arc::new(self.duration.finish()),
            Arc::new(self.frames.finish()),
            Arc::new(self.audio.finish()),
            Arc::new(self.start.finish()),
            Arc::new(self.end.finish()),
            Arc::new(self.mode.finish()),
            Arc::new(self.fallback.finish()),
        ]
    }
}

#[cfg(test)]
mod tests;
