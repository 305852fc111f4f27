//! `subtitles`: drops clips with much text on screen, read from a few uniformly spaced frames.
//!
//! The models are a detector and a recogniser of PP-OCR or of EasyOCR; the pipeline around them is the crate `curette-ocr`. What can go wrong: a
//! script that the recogniser's dictionary does not hold is found but not read, so that its words do not count; `text_boxes` tells of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int32Builder, RecordBatch, StringBuilder};
use arrow::datatypes::DataType;
use curette_engine::diag::Code;
use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Processed, Verdict};
use curette_models::FileRole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::media::{MediaContext, MediaError, plane_of, problem, shown, uniform_frames};
use crate::models;
use crate::span::{Span, Spans};
use crate::video::report_missing;

#[cfg(test)]
mod easyocr_tests;
pub mod kinds;
pub mod reading;
#[cfg(test)]
mod tests;
pub mod words;

use kinds::Role;
use reading::{Failure, OcrModels, Reader, failure, picture};
use words::{Count, Tally};

/// Drops clips (or whole videos, where rows have no span) with more than `max_words` words of text on screen.
///
/// `frames` frames are taken at indexes floor(k (N - 1) / (frames - 1)) of the N frames of the span, and the words of all of them are added up: a
/// caption that stands through the whole clip counts `frames` times, as in the paper's rule (5 frames, more than 20 words). Counting stops at the
/// frame that takes the sum above `max_words`; for a dropped row `words_on_screen` and `text_boxes` are then what had been found up to there.
///
/// A frame is shrunk so that its longest side has `longest_side_px` for finding text, and read from up to 1280 pixels (or that). With PP-OCR, lines
/// of 0.045 of the picture's height and more were all read with 640 (`benches/RESULTS.md`); a larger side takes about the square of the time and read
/// fewer of them, but may find smaller print.
///
/// Models: PP-OCRv4 (`curette models list` tells how to get `ppocrv4-det` and `ppocrv4-rec`; none comes with curette), or a later PP-OCR exported to
/// ONNX with the same preprocessing. Of PP-OCRv4's 6,623 characters 6,280 are Chinese, the rest are digits, signs and Latin letters with a few
/// accents (e.g. é, ä, ü; no ö, ñ, ç), and single Greek and Cyrillic letters. Text in other scripts (Cyrillic, Arabic, Hangul, kana, ...) is found
/// but read as nothing or as a few wrong letters, and hardly counts: see `text_boxes`. In scripts without spaces a line is one word, or a fifth of
/// its characters with `words_or_chars`. Upside-down text is not turned.
///
/// EasyOCR, with which the paper reads, is accepted as two models whose manifests say `preset = "craft"` and `preset = "easyocr-rec"`:
/// `easyocr-craft` and `easyocr-english-g2` come out of `scripts/convert/easyocr.py`. Thresholds, the grouping of words to lines, the second look at
/// faint strips and the score are those of `Reader.readtext`, whose defaults keep every line. Frames are looked at in the size in which they are
/// read, which takes CRAFT several times as long as PP-OCR. A detector of one family goes with a recogniser of the other. Counts by PP-OCR and by
/// EasyOCR cannot be compared one to one.
///
/// Unmeasured codes besides those of `probe`: `no_span`, `no_frames`, `model_input`, `model_output_not_finite`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subtitles {
    /// Model that finds text: the name of a manifest, or the path of one (`.toml`) or of a bare graph (`.onnx`).
    #[serde(default = "default_detector")]
    pub detector: String,
    /// Model that reads it, likewise.
    #[serde(default = "default_recogniser")]
    pub recogniser: String,
    /// The recogniser's characters: a file with one a line, or a YAML file of EasyOCR with `character_list`. Default: the file in the recogniser's
    /// manifest, else the key `character` of its metadata.
    #[serde(default)]
    pub dictionary: Option<String>,
    /// Largest number of words that is kept (0 to 100000).
    #[serde(default = "default_max_words")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_words: usize,
    /// What counts as a word.
    #[serde(default)]
    pub count: Count,
    /// Frames looked at (1 to 64).
    #[serde(default = "default_frames")]
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// Longest side of the picture in which text is searched, in pixels (128 to 2560; with PP-OCR rounded to a multiple of 32).
    /// Default: 640 with PP-OCR's detector, 1280 with EasyOCR's, whose own limit is 2560.
    #[serde(default)]
    #[schemars(range(min = 128, max = 2560))]
    pub longest_side_px: Option<u32>,
    /// Lines with a lower score are not counted (0 to 1). It is the mean probability of the characters with PP-OCR's recogniser, default 0.5; with
    /// EasyOCR's it is EasyOCR's own, which falls with the length of a line, default 0.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_line_score: Option<f32>,
    /// Time for one row, in seconds (1 to 86400).
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

fn default_detector() -> String {
    "ppocrv4-det".to_owned()
}
fn default_recogniser() -> String {
    "ppocrv4-rec".to_owned()
}
fn default_max_words() -> usize {
    20
}
fn default_frames() -> usize {
    5
}
fn default_timeout_seconds() -> u64 {
    600
}

/// Frames are read at no more than this, unless text is searched in larger ones: a strip has 48 or 64 rows, so that larger letters are shrunk anyway.
const READ_SIDE_PX: u32 = 1280;

impl Operator for Subtitles {
    const NAME: &'static str = "subtitles";
    const KIND: Kind = Kind::Filter;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"[step.subtitles]
type = "subtitles"
inputs = ["clips"]
detector = "ppocrv4-det"
recogniser = "ppocrv4-rec"
max_words = 20
"#;

    fn columns(&self) -> Columns {
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .may_use("start_us", &[DataType::Int64])
            .may_use("end_us", &[DataType::Int64])
            .may_use("duration_us", &[DataType::Int64])
            .add("words_on_screen", DataType::Int32, "words over all frames that were looked at")
            .add("text_boxes", DataType::Int32, "places with text over all frames that were looked at, readable or not")
            .add("text_on_screen", DataType::Utf8, "what was read, a line each, the first 1000 characters")
            .add("ocr_models", DataType::Utf8, "detector and recogniser, each with the start of its SHA-256")
    }

    /// Decoding and reading take turns in one task; how many readings run at once is bounded by the models' replicas.
    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        self.dictionary.iter().map(|d| FileRef { key: "dictionary", path: paths.resolve(d) }).collect()
    }

    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        let mut files = models::files("detector", &self.detector, paths, runtime);
        files.extend(models::files("recogniser", &self.recogniser, paths, runtime));
        files
    }

    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        let detector = models::check("detector", &self.detector, runtime, check);
        kinds::report(Role::Detector, detector.as_ref(), check);
        let recogniser = models::check("recogniser", &self.recogniser, runtime, check);
        kinds::report(Role::Recogniser, recogniser.as_ref(), check);
        let Some(recogniser) = recogniser else { return };
        let own = recogniser.require(FileRole::Dictionary).ok().map(Path::to_path_buf);
        let (key, file) = match &self.dictionary {
            Some(named) => ("dictionary", Some(check.paths().resolve(named))),
            None => ("recogniser", own),
        };
        // One that cannot be read is reported by `check_environment`, or when it is opened.
        let dictionary = file.and_then(|path| reading::read_dictionary(&path).ok());
        if let (Some(dictionary), Some(contract)) = (dictionary, &recogniser.manifest.contract)
            && let Some(mistake) = kinds::foreign(&dictionary, contract)
        {
            check.error(Some(key), Code::BadModel, mistake.message, Some(mistake.help));
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
        // A missing file is reported by the check of `files`.
        let dictionary = self.dictionary.as_ref().map(|d| check.paths().resolve(d)).filter(|p| p.exists());
        if let Some(Err(message)) = dictionary.map(|path| reading::read_dictionary(&path)) {
            check.error(Some("dictionary"), Code::BadModel, message, None);
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(crate::span::OF_PIXELS.to_vec())
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let dictionary = self.dictionary.as_ref().map(|d| context.paths.resolve(d));
        let models = OcrModels::open(
            &models::of(context.resources),
            &models::reference(&self.detector, context.paths),
            &models::reference(&self.recogniser, context.paths),
            dictionary.as_deref(),
        )?;
        let identity = models.identity();
        Ok(Runtime::Transform(Box::new(Counter { settings: self.clone(), models, identity })))
    }
}

impl Subtitles {
    fn judge(&self, found: &Found) -> Verdict {
        let words = found.tally.count(self.count);
        if words <= self.max_words {
            return Verdict::Pass;
        }
        let message = format!("{words} words on screen in the first {} of up to {} frames", found.frames, self.frames);
        Verdict::fail("subtitles", words as f64, self.max_words as f64, message)
    }
}

struct Counter {
    settings: Subtitles,
    models: OcrModels,
    identity: String,
}

#[derive(Debug, Clone, Default)]
struct Found {
    tally: Tally,
    boxes: usize,
    frames: usize,
}

impl Counter {
    fn measure(&self, span: Span, reader: &mut Reader, context: &MediaContext) -> Result<Found, Failure> {
        let row = |e: MediaError| Failure::Row(problem(e));
        let side_px = self.settings.longest_side_px.map_or(READ_SIDE_PX, |side| side.max(READ_SIDE_PX));
        let frames =
            uniform_frames(span.uri, span.start_us, span.end_us, self.settings.frames, Some(side_px), context).map_err(row)?;
        if frames.is_empty() {
            return Err(row(MediaError { code: "no_frames", message: format!("{}: no frame in the span", shown(span.uri)) }));
        }
        let mut found = Found::default();
        for frame in frames.iter() {
            context.check_cancelled().map_err(row)?;
            let reading = picture(frame).and_then(|p| reader.read(&p)).map_err(failure)?;
            found.frames += 1;
            found.boxes += reading.boxes.len();
            reading.lines.iter().for_each(|line| found.tally.add(&line.text));
            if found.tally.count(self.settings.count) > self.settings.max_words {
                break;
            }
        }
        Ok(found)
    }
}

impl Transform for Counter {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let spans = Spans::of(rows)?;
        let timeout = Duration::from_secs(self.settings.timeout_seconds);
        let plane = plane_of(task);
        let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout };
        let settings = self.models.settings(self.settings.longest_side_px, self.settings.min_line_score);
        let mut reader = self.models.reader(settings, task.cancelled);
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let (mut words, mut boxes) = (Int32Builder::new(), Int32Builder::new());
        let (mut text, mut models) = (StringBuilder::new(), StringBuilder::new());
        let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
        for row in 0..rows.num_rows() {
            let found = spans.row(row).map_err(Failure::Row).and_then(|span| self.measure(span, &mut reader, &context));
            let found = match found {
                Ok(found) => Ok(found),
                Err(Failure::Row(problem)) => Err(problem),
                Err(Failure::Run(error)) => return Err(error),
            };
            let measured = found.as_ref().ok();
            words.append_option(measured.map(|f| number(f.tally.count(self.settings.count))));
            boxes.append_option(measured.map(|f| number(f.boxes)));
            text.append_option(measured.map(|f| f.tally.text()));
            models.append_option(measured.map(|_| &self.identity));
            verdicts.push(found.map_or_else(Verdict::Unmeasured, |f| self.settings.judge(&f)));
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(words.finish()), Arc::new(boxes.finish()), Arc::new(text.finish()), Arc::new(models.finish())];
        Ok(Processed::rows(verdicts, columns))
    }
}
