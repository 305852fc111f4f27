//! `transcript`: what is said in a clip or a video, from whatever knows it.
//!
//! Why a step of its own besides the `videos` source: a manifest knows no sidecars, and speech recognition is worth its time only for the clips
//! that are left after filtering. What can go wrong: a transcript that is there and cannot be read leaves the row unmeasured; that nothing is known
//! of what is said is no error: the new columns are null.

use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, Secret, StepCheck};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listener::Listener;
use crate::captions::keys::OnServiceDown;
use crate::remote::address::ApiStyle;
use crate::sources::files::Files;
use crate::text::transcript_type;

/// Where a transcript can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeechSource {
    /// The row's column `transcript`, as `videos` gives it.
    Column,
    /// A `.vtt` or `.srt` file: the one in the column `transcript_uri`, or beside the video.
    Sidecar,
    /// Speech recognition by a service.
    Whisper,
}

/// In which form a service answers (`response_format` of the request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeechFormat {
    /// Words and segments with their times: `whisper-1` and most servers.
    VerboseJson,
    /// The text alone, which then belongs to the whole piece: `gpt-4o-transcribe` and its kin know nothing else.
    Json,
}

/// Finds out what is said in a clip (rows with `start_us` and `end_us`) or a whole video.
///
/// Sources are asked in order; the first that knows something is taken. One that cannot be read, such as a damaged sidecar, is passed over if a
/// later one knows something; `speech_skipped` says why. Rolling duplicates of automatic captions are removed. A word belongs to a clip when its
/// time overlaps the clip's; one that only touches it does not.
///
/// A row of which no source knows anything passes with nulls. Silence is not that: a transcript without words in the span gives empty text, and so
/// does a video without sound when `whisper` is asked (`speech_source` is then `no_audio`).
///
/// Unmeasured codes: `no_span`, `file_missing`, `file_unreadable`, `file_too_large`, `not_a_file`, `bad_address`, `bad_transcript`; of `whisper`:
/// `speech_auth`, `speech_quota`, `speech_timeout`, `speech_service_error`, `speech_budget_spent`, and those of decoding (`not_a_video`, `damaged`,
/// `stalled`, `timeout`, `unsupported_codec`, ...).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// Who is asked, in this order.
    #[serde(default = "default_sources")]
    pub sources: Vec<SpeechSource>,
    /// `sidecar`: languages in file names, best first: `STEM.LANGUAGE.vtt`, then `.srt`; last comes `STEM.vtt`. At most 16.
    #[serde(default = "default_languages")]
    pub languages: Vec<String>,
    /// Leave out items that only name a sound, such as `[Music]`.
    #[serde(default)]
    pub drop_sounds: bool,
    /// `whisper`: where the API starts, for example `https://api.openai.com/v1`.
    #[serde(default)]
    pub base_url: String,
    /// `whisper`: the model to ask for, for example `whisper-1`.
    #[serde(default)]
    pub model: String,
    /// `whisper`: the key, best as `"${OPENAI_API_KEY}"`. Never shown, stored or hashed.
    #[serde(default)]
    pub api_key: Secret,
    /// `whisper`: how the service wants to be addressed. For `azure`, `base_url` is the resource, such as `https://NAME.openai.azure.com`.
    #[serde(default = "default_api_style")]
    pub api_style: ApiStyle,
    /// `azure`: the deployment; `model` if not set.
    #[serde(default)]
    pub azure_deployment: String,
    /// `azure`: the `api-version`, such as `2024-10-21`.
    #[serde(default)]
    pub azure_api_version: String,
    /// `whisper`: the form of answers.
    #[serde(default = "default_response_format")]
    pub response_format: SpeechFormat,
    /// `whisper`: the language that is spoken, as ISO 639-1 (`en`); found out by the model if not set.
    #[serde(default)]
    pub language: Option<String>,
    /// `whisper`: longest piece of sound in one request, in seconds (1 to 3600). OpenAI takes 25 MB: 780 s.
    #[serde(default = "default_max_audio")]
    #[schemars(range(min = 1.0, max = 3600.0))]
    pub max_audio_seconds: f64,
    /// `whisper`: limit of one request, and of decoding one piece, in seconds (0.1 to 3600).
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 3600.0))]
    pub timeout_seconds: f64,
    /// `whisper`: answers per piece that are no transcription before it is given up (1 to 20).
    #[serde(default = "default_max_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: u32,
    /// `whisper`: failures per piece before it is given up (1 to 100): no connection, no answer in time, 408, 5xx; see `captioner`.
    #[serde(default = "default_max_failures")]
    #[schemars(range(min = 1, max = 100))]
    pub max_failures: u32,
    /// `whisper`: wait before the second attempt in seconds (0 to 60); doubles with each further one, up to 60.
    #[serde(default = "default_retry_initial")]
    #[schemars(range(min = 0.0, max = 60.0))]
    pub retry_initial_seconds: f64,
    /// `whisper`: requests at once, per process (1 to 512).
    #[serde(default = "default_max_in_flight")]
    #[schemars(range(min = 1, max = 512))]
    pub max_in_flight: usize,
    /// `whisper`: requests per minute, per process (from 1); no limit if not set.
    #[serde(default)]
    #[schemars(range(min = 1.0))]
    pub requests_per_minute: Option<f64>,
    /// `whisper`: steps of one group share limits; see `captioner`. Default: those that ask one model at one address.
    #[serde(default)]
    pub limit_group: String,
    /// `whisper`: price of a minute of sound in US dollars (0 to 1000), for `max_cost_usd` and the metrics.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub usd_per_minute: Option<f64>,
    /// `whisper`: the most that may be spent in US dollars (from 0), failed attempts included; needs `usd_per_minute`. See `captioner`.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub max_cost_usd: Option<f64>,
    /// `whisper`: whoever names one budget spends from it (letters, digits, `-`, `_`; up to 64); it is kept with the caches, so steps
    /// with a `cache_location` of their own share only what lies there. Default: one per output and step.
    #[serde(default)]
    pub budget_name: String,
    /// `whisper`: a service that has answered nothing for so many seconds is down (1 to 86400).
    #[serde(default = "default_give_up")]
    #[schemars(range(min = 1.0, max = 86_400.0))]
    pub give_up_seconds: f64,
    /// `whisper`: what happens then, when the key is refused, or when the budget is spent.
    #[serde(default = "default_on_service_down")]
    pub on_service_down: OnServiceDown,
    /// `whisper`: folder of cached answers, from the pipeline file's folder if relative; `"off"` for none. Default: `curette/speech` in the user's
    /// cache folder.
    #[serde(default)]
    pub cache_location: Option<String>,
    /// `whisper`: who answers, for the cache: addresses of one name share what is kept. Default: the full address without its query.
    #[serde(default)]
    pub cache_identity: String,
    /// `whisper`: cached answers may take this many bytes of disk (from 1 MiB; default 100 GiB), at least 4 KiB each. Above it those go that were
    /// not used for longest, with a warning. Pipelines that share the folder share the largest limit.
    #[serde(default = "default_cache_max_bytes")]
    #[schemars(range(min = 1_048_576))]
    pub cache_max_bytes: u64,
}

fn default_sources() -> Vec<SpeechSource> {
    vec![SpeechSource::Column, SpeechSource::Sidecar]
}
fn default_languages() -> Vec<String> {
    ["en", "en-orig"].map(str::to_owned).to_vec()
}
fn default_api_style() -> ApiStyle {
    ApiStyle::Openai
}
fn default_response_format() -> SpeechFormat {
    SpeechFormat::VerboseJson
}
fn default_max_audio() -> f64 {
    600.0
}
fn default_timeout() -> f64 {
    300.0
}
fn default_max_attempts() -> u32 {
    8
}
fn default_max_failures() -> u32 {
    16
}
fn default_retry_initial() -> f64 {
    1.0
}
fn default_max_in_flight() -> usize {
    8
}
fn default_give_up() -> f64 {
    300.0
}
fn default_on_service_down() -> OnServiceDown {
    OnServiceDown::Stop
}
fn default_cache_max_bytes() -> u64 {
    crate::remote::cache::DEFAULT_MAX_BYTES
}

impl Operator for Transcript {
    const NAME: &'static str = "transcript";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str = r#"[step.speech]
type = "transcript"
inputs = ["split"]
sources = ["column", "sidecar"]
languages = ["en", "en-US"]
"#;

    fn columns(&self) -> Columns {
        let (utf8, long) = ([DataType::Utf8], [DataType::Int64]);
        let mut columns = Columns::none();
        if self.asks(SpeechSource::Sidecar) || self.asks(SpeechSource::Whisper) {
            columns = columns.need("video_uri", &utf8);
        }
        if self.asks(SpeechSource::Column) {
            columns = columns.may_use("transcript", &[]).may_use("transcript_language", &utf8);
        }
        if self.asks(SpeechSource::Sidecar) {
            columns = columns.may_use("transcript_uri", &utf8);
        }
        columns
            .may_use("start_us", &long)
            .may_use("end_us", &long)
            .may_use("duration_us", &long)
            .add(
                "speech",
                transcript_type(),
                "Words or lines in the span with their times in the video; null when nothing is known of what is said.",
            )
            .add("speech_text", DataType::Utf8, "The same as one text; empty for silence, null when nothing is known.")
            .add(
                "speech_source",
                DataType::Utf8,
                "Who knew it: `column`, `sidecar`, `whisper`, or `no_audio` for a video without sound; else null.",
            )
            .add("speech_language", DataType::Utf8, "Language as the source names it; null when it does not.")
            .add(
                "speech_skipped",
                DataType::Utf8,
                "Why an earlier source was passed over, such as a damaged sidecar; null when none was.",
            )
    }

    fn pool(&self) -> Pool {
        Pool::Net
    }

    fn rows_per_task(&self) -> usize {
        if self.asks(SpeechSource::Whisper) { 1 } else { 64 }
    }

    fn threads_wanted(&self) -> usize {
        if self.asks(SpeechSource::Whisper) { 2 * self.max_in_flight } else { 0 }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &[
            "base_url",
            "api_key",
            "api_style",
            "azure_api_version",
            "timeout_seconds",
            "max_attempts",
            "max_failures",
            "retry_initial_seconds",
            "max_in_flight",
            "requests_per_minute",
            "limit_group",
            "give_up_seconds",
            "on_service_down",
            "usd_per_minute",
            "max_cost_usd",
            "budget_name",
            "cache_location",
            "cache_identity",
            "cache_max_bytes",
        ]
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        super::checks::validate(self, check);
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        if self.sources == [SpeechSource::Column] && input.column_with_name("transcript").is_none() {
            let message = "rows have no column `transcript`, which is the only source";
            check.error(
                Some("sources"),
                Code::MissingColumn,
                message.into(),
                Some("add `sidecar` or `whisper` to `sources`".into()),
            );
        }
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let fault = |message: String| OperatorError::new(format!("step {}: {message}", context.step));
        let whisper = match self.asks(SpeechSource::Whisper) {
            true => Some(super::start::whisper(self, context).map_err(fault)?),
            false => None,
        };
        Ok(Runtime::Transform(Box::new(Listener { config: self.clone(), files: context.resources.get(Files::default), whisper })))
    }
}

impl Transcript {
    /// Is this source asked at all?
    pub fn asks(&self, source: SpeechSource) -> bool {
        self.sources.contains(&source)
    }
}
