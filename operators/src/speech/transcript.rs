//! `transcript`: what is said in a clip or a video, from whatever knows it.
//!
//! Why a step of its own besides the `videos` source: a manifest knows no sidecars, and speech recognition is worth its time only for the clips
//! that are left after filtering. What can go wrong: a transcript that is there and cannot be read leaves the row unmeasured; that nothing is known of what
//! is said is no error: the new columns are null.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, Columns, Kind, Operator, OperatorError, Pool, Runtime, Secret, StepCheck};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listener::Listener;
use super::whisper::{CODES, Whisper};
use crate::captions::keys::OnServiceDown;
use crate::captions::start::service_url;
use crate::remote::cache::{Cache, default_folder};
use crate::remote::call::{Auth, Service};
use crate::remote::limiter::{Limiters, Limits};
use crate::sources::files::Files;
use crate::sources::sidecars::is_language;
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

/// Finds out what is said in a clip (rows with `start_us` and `end_us`) or a whole video.
///
/// Sources are asked in order; the first that knows something is taken. Rolling duplicates of automatic captions are removed. A word belongs to a clip when its
/// time overlaps the clip's; one that only touches it does not.
///
/// A row of which no source knows anything passes with nulls. Silence is not that: a transcript without words in the span gives empty text, and so does
/// a video without sound when `whisper` is asked (`speech_source` is then `no_audio`).
///
/// Unmeasured codes: `no_span`, `file_missing`, `file_unreadable`, `file_too_large`, `not_a_file`, `bad_address`, `bad_transcript`; of `whisper`: `speech_auth`, `speech_quota`,
/// `speech_timeout`, `speech_service_error`, and those of decoding (`not_a_video`, `damaged`, `stalled`, `timeout`, `unsupported_codec`, ...).
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
    /// `whisper`: steps of one group share limits; see `captioner`. Default: the service's host and port.
    #[serde(default)]
    pub limit_group: String,
    /// `whisper`: a service that has answered nothing for so many seconds is down (1 to 86400).
    #[serde(default = "default_give_up")]
    #[schemars(range(min = 1.0, max = 86_400.0))]
    pub give_up_seconds: f64,
    /// `whisper`: what happens then.
    #[serde(default = "default_on_service_down")]
    pub on_service_down: OnServiceDown,
    /// `whisper`: folder of cached answers, from the pipeline file's folder if relative; `"off"` for none. Default: `curette/speech` in the user's cache folder.
    #[serde(default)]
    pub cache_location: Option<String>,
    /// `whisper`: cached answers may take this many bytes of disk (from 1 MiB), at least 4 KiB each; the oldest go first.
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
    1 << 30
}

/// The most languages that are looked for: each costs two looks at the store.
const MAX_LANGUAGES: usize = 16;
/// The longest that one waits for a service which says 429, as in `captioner`.
const MAX_THROTTLED: Duration = Duration::from_secs(1800);
/// The longest wait that `Retry-After` can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

impl Operator for Transcript {
    const NAME: &'static str = "transcript";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
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
            "timeout_seconds",
            "max_attempts",
            "max_failures",
            "retry_initial_seconds",
            "max_in_flight",
            "requests_per_minute",
            "limit_group",
            "give_up_seconds",
            "on_service_down",
            "cache_location",
            "cache_max_bytes",
        ]
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        if self.sources.is_empty() {
            let help = "for example `sources = [\"column\", \"sidecar\"]`";
            check.error(Some("sources"), Code::OutOfRange, "there is nobody to ask".into(), Some(help.into()));
        }
        if self.languages.len() > MAX_LANGUAGES {
            let message = format!("{} languages; at most {MAX_LANGUAGES} are looked for", self.languages.len());
            check.error(Some("languages"), Code::OutOfRange, message, None);
        }
        if let Some(odd) = self.languages.iter().find(|l| !is_language(l)) {
            let message = format!("`{odd}` is no language tag");
            check.error(Some("languages"), Code::OutOfRange, message, Some("for example `en`, `pt-BR` or `zh-Hans`".into()));
        }
        let whisper = self.asks(SpeechSource::Whisper);
        if whisper && self.model.is_empty() {
            let help = "for example `model = \"whisper-1\"`";
            check.error(None, Code::MissingKey, "source `whisper` needs `model`".into(), Some(help.into()));
        }
        let example = "for example `base_url = \"https://api.openai.com/v1\"`";
        if whisper && self.base_url.is_empty() {
            check.error(None, Code::MissingKey, "source `whisper` needs `base_url`".into(), Some(example.into()));
        } else if whisper && let Err(message) = self.url() {
            check.error(Some("base_url"), Code::OutOfRange, message, Some(example.into()));
        }
        for (key, set) in
            [("base_url", !self.base_url.is_empty()), ("model", !self.model.is_empty()), ("language", self.language.is_some())]
        {
            if set && !whisper {
                let message = format!("`whisper` is not among the sources, so `{key}` has no effect");
                check.error(
                    Some(key),
                    Code::Contradiction,
                    message,
                    Some("remove the key, or add `whisper` to `sources`".into()),
                );
            }
        }
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
            true => Some(self.whisper(context).map_err(fault)?),
            false => None,
        };
        Ok(Runtime::Transform(Box::new(Listener { config: self.clone(), files: context.resources.get(Files::default), whisper })))
    }
}

impl Transcript {
    fn asks(&self, source: SpeechSource) -> bool {
        self.sources.contains(&source)
    }

    fn url(&self) -> Result<reqwest::Url, String> {
        let mut url = service_url(&self.base_url)?;
        url.path_segments_mut()
            .map_err(|()| format!("`{}` is no address that paths can be added to", self.base_url))?
            .pop_if_empty()
            .extend(["audio", "transcriptions"]);
        Ok(url)
    }

    fn whisper(&self, context: &BuildContext) -> Result<Whisper, String> {
        let url = self.url()?;
        let group = match self.limit_group.as_str() {
            "" => format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default()),
            name => name.to_owned(),
        };
        let limits = Limits {
            max_in_flight: self.max_in_flight,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: None,
            retry_share: 1.0,
            give_up: Duration::from_secs_f64(self.give_up_seconds),
        };
        let folder = match self.cache_location.as_deref() {
            Some("off") => None,
            Some(path) => Some(context.paths.resolve(path)),
            None => default_folder("speech"),
        };
        let timeout = Duration::from_secs_f64(self.timeout_seconds);
        let auth = if self.api_key.is_empty() { Auth::None } else { Auth::Bearer(self.api_key.clone()) };
        if !auth.fits_a_header() {
            return Err("`api_key` has characters that no header can hold; is there a line break at its end?".into());
        }
        Ok(Whisper {
            service: Service {
                step: context.step.to_owned(),
                url,
                auth,
                timeout,
                max_attempts: self.max_attempts,
                max_failures: self.max_failures,
                retry_initial: Duration::from_secs_f64(self.retry_initial_seconds),
                max_retry_after: MAX_RETRY_AFTER,
                max_throttled: MAX_THROTTLED,
                limiter: context.resources.get(Limiters::default).named(&group, limits),
                prices: None,
                purse: None,
                codes: CODES,
            },
            model: self.model.clone(),
            language: self.language.clone(),
            piece_us: (self.max_audio_seconds * 1e6) as i64,
            timeout,
            cache: folder.map(|folder| Arc::new(Cache::new(folder, self.cache_max_bytes))),
        })
    }
}
