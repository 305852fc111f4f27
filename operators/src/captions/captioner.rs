//! `captioner`: a detailed and a brief caption per clip.
//!
//! Two backends: `template` writes what the metadata says and names itself in `caption_model`; `openai` shows frames to a model behind a chat-completions
//! service. The work of the latter is in [`super::describe`] and [`super::openai`]. What can go wrong: services; each way to fail has its own code, and a
//! clip whose caption failed is unmeasured, never captioned with something else.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Builder, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, Secret, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::{Cache, default_folder};
use super::clip::{Clip, clips};
use super::describe::{Captions, Describer, Meaning};
use super::openai::{Endpoint, Http};
use super::pictures::{Look, pictures};
use super::prompt::{BRIEF, DETAILED, MAX_PROMPT_BYTES, Prompt};
use super::template;

/// What writes the captions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Sentences from the metadata; no model looks at the frames. For tests and demonstrations.
    Template,
    /// A model behind a service that speaks OpenAI's chat completions.
    Openai,
}

/// How closely a model looks at each frame (`detail` of the request's image parts).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageDetail {
    /// The service decides.
    Auto,
    /// Few tokens per frame.
    Low,
    /// Many tokens per frame.
    High,
}

/// The name under which the service takes the token limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    /// Most services.
    MaxTokens,
    /// Reasoning models of OpenAI.
    MaxCompletionTokens,
}

/// Writes a detailed and a brief caption for each clip (or whole video, when rows have no `start_us`).
///
/// Backend `openai` sends evenly spaced frames with title, description and clip transcript (prompt of MedGen, section 3), then asks for the brief caption with
/// the detailed one alone. Answers are cached on disk by everything that shaped them, the service's address included.
///
/// Unmeasured codes: `no_video`, `no_span`, `no_frames`, `caption_refused`, `caption_truncated`, `caption_empty`, `caption_auth`, `caption_timeout`,
/// `caption_service_error`; of decoding: `file_missing`, `file_unreadable`, `fetch_failed`, `too_large`, `empty_file`, `not_a_video`, `no_video_stream`, `no_index`,
/// `unsupported_codec`, `damaged`, `stalled`, `timeout`, `encode_failed`. Backend `template` has none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Captioner {
    /// What writes the captions.
    pub backend: Backend,
    /// `openai`: where the API starts, for example `https://api.openai.com/v1`. Changing it redoes no committed row: `model` says
    /// who writes. Cached answers of one address are never used for another.
    #[serde(default)]
    pub base_url: String,
    /// `openai`: the model to ask for.
    #[serde(default)]
    pub model: String,
    /// `openai`: the key, best as `"${OPENAI_API_KEY}"`. Never shown, stored or hashed. Leave out for services without keys.
    #[serde(default)]
    pub api_key: Secret,
    /// `openai`: a text file with the detailed prompt; slots are `{Frame Count}`, `{Video Title}`, `{Video Description}`, `{Clip Transcript}`.
    #[serde(default)]
    pub prompt_file: Option<String>,
    /// `openai`: a text file with the brief prompt; must have the slot `{Detailed Caption}`, may have the others.
    #[serde(default)]
    pub brief_prompt_file: Option<String>,
    /// `openai`: what stands in the prompt for a title, description or transcript that is missing or empty.
    #[serde(default = "default_missing_text")]
    pub missing_text: String,
    /// `openai`: frames shown, evenly spaced over the clip, first and last included (1 to 64).
    #[serde(default = "default_frames")]
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// `openai`: frames are scaled down to this longest side in pixels (64 to 4096).
    #[serde(default = "default_longest_side")]
    #[schemars(range(min = 64, max = 4096))]
    pub longest_side_px: u32,
    /// `openai`: JPEG quality of the frames (1 to 100).
    #[serde(default = "default_jpeg_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub jpeg_quality: u8,
    /// `openai`: how closely the model looks at each frame.
    #[serde(default = "default_image_detail")]
    pub image_detail: ImageDetail,
    /// `openai`: sampling temperature (0 to 2); left to the service by default.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// `openai`: longest detailed caption in tokens (1 to 32768); a longer one is `caption_truncated`.
    #[serde(default = "default_max_tokens")]
    #[schemars(range(min = 1, max = 32_768))]
    pub max_tokens: u32,
    /// `openai`: longest brief caption in tokens (1 to 32768).
    #[serde(default = "default_brief_max_tokens")]
    #[schemars(range(min = 1, max = 32_768))]
    pub brief_max_tokens: u32,
    /// `openai`: the name under which the service takes the token limit.
    #[serde(default = "default_token_limit_field")]
    pub token_limit_field: TokenLimitField,
    /// `openai`: limit of one request, and of decoding the frames, in seconds (0.1 to 3600).
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 0.1, max = 3600.0))]
    pub timeout_seconds: f64,
    /// `openai`: attempts per question (1 to 20). Tried again are 408, 429, 5xx, time-outs and failed connections.
    #[serde(default = "default_max_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: u32,
    /// `openai`: wait before the second attempt in seconds (0 to 60); doubles with each further one, up to 60.
    #[serde(default = "default_retry_initial")]
    #[schemars(range(min = 0.0, max = 60.0))]
    pub retry_initial_seconds: f64,
    /// `openai`: the longest wait in seconds that a service can ask for with `Retry-After` (0 to 3600).
    #[serde(default = "default_max_retry_after")]
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub max_retry_after_seconds: f64,
    /// `openai`: folder of cached answers, from the pipeline file's folder if relative; `"off"` for none. Default: `curette/captions` in the user's cache folder.
    #[serde(default)]
    pub cache_location: Option<String>,
    /// `openai`: cached answers may take this many bytes of disk (from 1 MiB), at least 4 KiB each; the oldest go first.
    #[serde(default = "default_cache_max_bytes")]
    #[schemars(range(min = 1_048_576))]
    pub cache_max_bytes: u64,
}

fn default_missing_text() -> String {
    "None".into()
}
fn default_frames() -> usize {
    8
}
fn default_longest_side() -> u32 {
    768
}
fn default_jpeg_quality() -> u8 {
    90
}
fn default_image_detail() -> ImageDetail {
    ImageDetail::Auto
}
fn default_max_tokens() -> u32 {
    1024
}
fn default_brief_max_tokens() -> u32 {
    256
}
fn default_token_limit_field() -> TokenLimitField {
    TokenLimitField::MaxTokens
}
fn default_timeout() -> f64 {
    120.0
}
fn default_max_attempts() -> u32 {
    4
}
fn default_retry_initial() -> f64 {
    1.0
}
fn default_max_retry_after() -> f64 {
    120.0
}
fn default_cache_max_bytes() -> u64 {
    1 << 30
}

impl Operator for Captioner {
    const NAME: &'static str = "captioner";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = r#"[step.caption]
type = "captioner"
inputs = ["split"]
backend = "template"
"#;

    fn columns(&self) -> Columns {
        let (utf8, long, int) = ([DataType::Utf8], [DataType::Int64], [DataType::Int32]);
        let mut columns = Columns::none();
        if self.backend == Backend::Openai {
            columns = columns.need("video_uri", &utf8).may_use("content_blake3", &utf8).may_use("description", &utf8);
        }
        columns
            .may_use("title", &utf8)
            .may_use("start_us", &long)
            .may_use("end_us", &long)
            .may_use("duration_us", &long)
            .may_use("width", &int)
            .may_use("height", &int)
            .may_use("transcript", &[])
            .add("caption", DataType::Utf8, "What is shown, in detail.")
            .add("brief_caption", DataType::Utf8, "What is shown, in one short paragraph.")
            .add(
                "caption_model",
                DataType::Utf8,
                "The model that wrote the caption, as its service names it; `curette-template/1` is no model.",
            )
            .add("caption_prompt_blake3", DataType::Utf8, "Hash of prompts, model and parameters; null when no model was asked.")
            .add(
                "caption_frames_us",
                DataType::new_list(DataType::Int64, true),
                "Times of the frames that the model was shown, in microseconds of stream time; null when none were.",
            )
            .add("clip_transcript", DataType::Utf8, "What is said in the clip; null without a transcript.")
    }

    fn pool(&self) -> Pool {
        match self.backend {
            Backend::Template => Pool::Cpu,
            Backend::Openai => Pool::Net,
        }
    }

    fn rows_per_task(&self) -> usize {
        match self.backend {
            Backend::Template => 64,
            Backend::Openai => 1,
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &[
            "api_key",
            "base_url",
            "timeout_seconds",
            "max_attempts",
            "retry_initial_seconds",
            "max_retry_after_seconds",
            "cache_location",
            "cache_max_bytes",
        ]
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        let file = |key, path: &Option<String>| path.as_ref().map(|p| FileRef { key, path: paths.resolve(p) });
        file("prompt_file", &self.prompt_file).into_iter().chain(file("brief_prompt_file", &self.brief_prompt_file)).collect()
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        match self.backend {
            Backend::Template => {
                let set = [
                    ("base_url", !self.base_url.is_empty()),
                    ("model", !self.model.is_empty()),
                    ("api_key", !self.api_key.is_empty()),
                    ("prompt_file", self.prompt_file.is_some()),
                    ("brief_prompt_file", self.brief_prompt_file.is_some()),
                ];
                for (key, _) in set.into_iter().filter(|(_, set)| *set) {
                    let message = format!("backend `template` asks no model, so `{key}` has no effect");
                    check.error(
                        Some(key),
                        Code::Contradiction,
                        message,
                        Some("remove the key, or set `backend = \"openai\"`".into()),
                    );
                }
            }
            Backend::Openai => {
                if self.model.is_empty() {
                    check.error(
                        None,
                        Code::MissingKey,
                        "backend `openai` needs `model`".into(),
                        Some("for example `model = \"gpt-4o\"`".into()),
                    );
                }
                let example = "for example `base_url = \"https://api.openai.com/v1\"`";
                if self.base_url.is_empty() {
                    check.error(None, Code::MissingKey, "backend `openai` needs `base_url`".into(), Some(example.into()));
                } else if let Err(message) = self.url() {
                    check.error(Some("base_url"), Code::OutOfRange, message, Some(example.into()));
                }
                for (key, path, brief) in
                    [("prompt_file", &self.prompt_file, false), ("brief_prompt_file", &self.brief_prompt_file, true)]
                {
                    let Some(path) = path.as_ref().map(|p| check.paths().resolve(p)).filter(|p| p.exists()) else { continue };
                    if let Err(message) = read_prompt(Some(path), "", brief) {
                        check.error(Some(key), Code::BadModel, message, None);
                    }
                }
            }
        }
    }

    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        let has = |name: &str| input.column_with_name(name).is_some();
        if self.backend == Backend::Openai && !(has("start_us") && has("end_us")) && !has("duration_us") {
            let message =
                "rows have neither `start_us` and `end_us` (a clip) nor `duration_us` (a video): there is no span to look at";
            check.error(
                None,
                Code::MissingColumn,
                message.into(),
                Some("put `temporal_split` or `probe` before this step".into()),
            );
        }
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let describer = match self.backend {
            Backend::Template => None,
            Backend::Openai => Some(self.describer(context)?),
        };
        Ok(Runtime::Transform(Box::new(Writer { describer })))
    }
}

/// The name of an enum's value as it stands in TOML.
fn name_of(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Captioner {
    /// The service behind backend `openai`.
    pub(super) fn describer(&self, context: &BuildContext) -> Result<Describer, OperatorError> {
        let fault = |message: String| OperatorError::new(format!("step {}: {message}", context.step));
        let resolved = |path: &Option<String>| path.as_ref().map(|p| context.paths.resolve(p));
        let detailed = read_prompt(resolved(&self.prompt_file), DETAILED, false).map_err(fault)?;
        let brief = read_prompt(resolved(&self.brief_prompt_file), BRIEF, true).map_err(fault)?;
        let timeout = Duration::from_secs_f64(self.timeout_seconds);
        Ok(Describer {
            meaning: Meaning {
                version: Self::VERSION,
                model: self.model.clone(),
                detailed_prompt: detailed.text().to_owned(),
                brief_prompt: brief.text().to_owned(),
                missing_text: self.missing_text.clone(),
                frames: self.frames,
                longest_side_px: self.longest_side_px,
                jpeg_quality: self.jpeg_quality,
                image_detail: name_of(&self.image_detail),
                temperature: self.temperature,
                token_limit_field: name_of(&self.token_limit_field),
                max_tokens: self.max_tokens,
                brief_max_tokens: self.brief_max_tokens,
            },
            detailed,
            brief,
            endpoint: Endpoint {
                url: self.url().map_err(fault)?,
                api_key: self.api_key.clone(),
                timeout,
                max_attempts: self.max_attempts,
                retry_initial: Duration::from_secs_f64(self.retry_initial_seconds),
                max_retry_after: Duration::from_secs_f64(self.max_retry_after_seconds),
            },
            look: Look { frames: self.frames, longest_side_px: self.longest_side_px, jpeg_quality: self.jpeg_quality, timeout },
            eyes: Arc::new(pictures),
            cache: self.cache(context.paths),
        })
    }

    /// The address of `chat/completions`.
    fn url(&self) -> Result<reqwest::Url, String> {
        let url = reqwest::Url::parse(&format!("{}/chat/completions", self.base_url.trim_end_matches('/')));
        let url = url.map_err(|e| format!("`{}` is not a URL: {e}", self.base_url))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(format!("`{}` is not an http or https URL", self.base_url));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("`base_url` holds a user name or password, which logs would show; use `api_key`".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("`{}` has a query or fragment; give the address where the API starts", self.base_url));
        }
        Ok(url)
    }

    fn cache(&self, paths: &Paths) -> Option<Arc<Cache>> {
        let folder: PathBuf = match self.cache_location.as_deref() {
            Some("off") => return None,
            Some(path) => paths.resolve(path),
            None => match default_folder() {
                Some(folder) => folder,
                None => {
                    tracing::warn!("neither XDG_CACHE_HOME nor HOME is set: captions are not cached; set `cache_location`");
                    return None;
                }
            },
        };
        Some(Arc::new(Cache::new(folder, self.cache_max_bytes)))
    }
}

fn read_prompt(path: Option<PathBuf>, default: &str, brief: bool) -> Result<Prompt, String> {
    let Some(path) = path else { return Prompt::parse(default, brief) };
    let at = |message: String| format!("{}: {message}", path.display());
    let size = std::fs::metadata(&path).map_err(|e| at(format!("cannot be read: {e}")))?.len();
    if size > MAX_PROMPT_BYTES {
        return Err(at(format!("has {size} bytes, a prompt may have {MAX_PROMPT_BYTES}")));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| at(format!("cannot be read: {e}")))?;
    Prompt::parse(text.trim_end(), brief).map_err(at)
}

/// `describer` is absent for the backend that asks nobody.
pub(super) struct Writer {
    pub(super) describer: Option<Describer>,
}

impl Writer {
    fn captions(&self, clip: &Clip, task: &Task) -> Result<Captions, Problem> {
        let Some(describer) = &self.describer else {
            let (detailed, brief) = template::captions(clip);
            return Ok(Captions { detailed, brief, model: template::MODEL.into(), frames_us: Vec::new() });
        };
        let http = task.resources.get(Http::start);
        let http = http.as_ref().as_ref().map_err(|e| Problem::new("caption_service_error", format!("no HTTP client: {e}")))?;
        describer.describe(clip, http, task)
    }
}

impl Transform for Writer {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let mut verdicts = Vec::with_capacity(rows.num_rows());
        let mut texts: [StringBuilder; 4] = std::array::from_fn(|_| StringBuilder::new());
        let mut frames = ListBuilder::new(Int64Builder::new());
        let mut transcripts = StringBuilder::new();
        let hash = self.describer.as_ref().map(|d| d.meaning.blake3());
        for clip in clips(rows) {
            let answer = match task.is_cancelled() {
                true => Err(Problem::new("cancelled", "the run is being stopped")),
                false => self.captions(&clip, task),
            };
            let mut put = |values: [Option<&str>; 4]| texts.iter_mut().zip(values).for_each(|(b, v)| b.append_option(v));
            match answer {
                Ok(c) => {
                    put([Some(&c.detailed), Some(&c.brief), Some(&c.model), hash.as_deref()]);
                    frames.values().append_slice(&c.frames_us);
                    frames.append(self.describer.is_some());
                    transcripts.append_option(clip.transcript);
                    verdicts.push(Verdict::Pass);
                }
                Err(problem) => {
                    put([None; 4]);
                    frames.append(false);
                    transcripts.append_null();
                    verdicts.push(Verdict::Unmeasured(problem));
                }
            }
        }
        let mut columns: Vec<ArrayRef> = texts.iter_mut().map(|b| Arc::new(b.finish()) as ArrayRef).collect();
        columns.push(Arc::new(frames.finish()));
        columns.push(Arc::new(transcripts.finish()));
        Ok(Processed::rows(verdicts, columns))
    }
}
