//! `captioner`: a detailed and a brief caption per clip.
//!
//! Two backends: `template` writes what the metadata says and names itself in `caption_model`; `openai` shows frames to a model behind a
//! chat-completions service. The work of the latter is in [`super::describe`] and [`crate::remote`]; how the keys become that is in
//! [`super::start`]. What can go wrong: services; each way to fail has its own code, and a clip whose caption failed is unmeasured, never captioned
//! with something else.

use arrow::datatypes::{DataType, SchemaRef};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, Secret, StepCheck,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::ResponseFormat;
use super::keys::{ApiStyle, Backend, ImageDetail, OnServiceDown, TokenLimitField, defaults};

/// Writes a detailed and a brief caption for each clip (or whole video, when rows have no `start_us`).
///
/// Backend `openai` sends evenly spaced frames with title, description and clip transcript (prompt of MedGen, section 3), then asks for the brief
/// caption with the detailed one alone. The transcript is `speech_text` (from `transcript`) where rows have it, else the words of `transcript` (from
/// `videos`) in the span.
///
/// Answers are cached on disk by everything that shaped them: model, prompts, parameters, frames, the service's address. A caption is bound to its
/// clip by a hash of the frames shown, which is checked again when the row is made (`caption_misbound`). Limits of requests and tokens are shared by
/// the steps of a process that ask one model at one address, or name one `limit_group`; money is counted on disk, over restarts and processes.
///
/// What is wrong with the service as a whole costs no clip: a refused key, an empty account, a wrong model or address, a spent budget and a long
/// outage end the run, which goes on when that is mended (`on_service_down`).
///
/// Unmeasured codes: `no_video`, `no_span`, `no_frames`, `caption_refused`, `caption_truncated`, `caption_empty`, `caption_malformed`,
/// `caption_auth`, `caption_quota`, `caption_timeout`, `caption_service_error`, `caption_budget_spent`, `caption_misbound`; of decoding:
/// `file_missing`, `file_unreadable`, `fetch_failed`, `too_large`, `empty_file`, `not_a_video`, `no_video_stream`, `no_index`, `unsupported_codec`,
/// `damaged`, `stalled`, `timeout`, `encode_failed`. Backend `template` has none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Captioner {
    /// What writes the captions.
    pub backend: Backend,
    /// `openai`: where the API starts, for example `https://api.openai.com/v1`. Changing it redoes no committed row: `model` says
    /// who writes. Cached answers of one address are not used for another, unless both have one `cache_identity`.
    #[serde(default)]
    pub base_url: String,
    /// `openai`: the model to ask for.
    #[serde(default)]
    pub model: String,
    /// `openai`: the key, best as `"${OPENAI_API_KEY}"`. Never shown, stored or hashed. Leave out for services without keys.
    #[serde(default)]
    pub api_key: Secret,
    /// `openai`: how the service wants to be addressed. For `azure`, `base_url` is the resource, such as `https://NAME.openai.azure.com`.
    #[serde(default = "defaults::api_style")]
    pub api_style: ApiStyle,
    /// `azure`: the deployment; `model` if not set.
    #[serde(default)]
    pub azure_deployment: String,
    /// `azure`: the `api-version`, such as `2024-10-21`.
    #[serde(default)]
    pub azure_api_version: String,
    /// `openai`: a text file with the detailed prompt; slots are `{Frame Count}`, `{Video Title}`, `{Video Description}`, `{Clip Transcript}`.
    #[serde(default)]
    pub prompt_file: Option<String>,
    /// `openai`: a text file with the brief prompt; must have the slot `{Detailed Caption}`, may have the others.
    #[serde(default)]
    pub brief_prompt_file: Option<String>,
    /// `openai`: what stands in the prompt for a title, description or transcript that is missing or empty.
    #[serde(default = "defaults::missing_text")]
    pub missing_text: String,
    /// `openai`: frames shown, evenly spaced over the clip, first and last included (1 to 64).
    #[serde(default = "defaults::frames")]
    #[schemars(range(min = 1, max = 64))]
    pub frames: usize,
    /// `openai`: frames are scaled down to this longest side in pixels (64 to 4096).
    #[serde(default = "defaults::longest_side")]
    #[schemars(range(min = 64, max = 4096))]
    pub longest_side_px: u32,
    /// `openai`: JPEG quality of the frames (1 to 100).
    #[serde(default = "defaults::jpeg_quality")]
    #[schemars(range(min = 1, max = 100))]
    pub jpeg_quality: u8,
    /// `openai`: how closely the model looks at each frame.
    #[serde(default = "defaults::image_detail")]
    pub image_detail: ImageDetail,
    /// `openai`: sampling temperature (0 to 2); left to the service by default.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 2.0))]
    pub temperature: Option<f64>,
    /// `openai`: longest detailed caption in tokens (1 to 32768); a longer one is `caption_truncated`.
    #[serde(default = "defaults::max_tokens")]
    #[schemars(range(min = 1, max = 32_768))]
    pub max_tokens: u32,
    /// `openai`: longest brief caption in tokens (1 to 32768).
    #[serde(default = "defaults::brief_max_tokens")]
    #[schemars(range(min = 1, max = 32_768))]
    pub brief_max_tokens: u32,
    /// `openai`: the form of answers. `json_schema` for services that enforce one, `json_object` for those that know only that, `text` for all.
    #[serde(default = "defaults::response_format")]
    pub response_format: ResponseFormat,
    /// `openai`: ask for both captions in one request, which halves the number of requests; not with `response_format = "text"`.
    #[serde(default)]
    pub one_answer: bool,
    /// `openai`: the name under which the service takes the token limit.
    #[serde(default = "defaults::token_limit_field")]
    pub token_limit_field: TokenLimitField,
    /// `openai`: limit of one request, and of decoding the frames, in seconds (0.1 to 3600).
    #[serde(default = "defaults::timeout")]
    #[schemars(range(min = 0.1, max = 3600.0))]
    pub timeout_seconds: f64,
    /// `openai`: answers per question that are empty or malformed before it is given up (1 to 20).
    #[serde(default = "defaults::max_attempts")]
    #[schemars(range(min = 1, max = 20))]
    pub max_attempts: u32,
    /// `openai`: failures per question before it is given up (1 to 100): no connection, no answer in time, 408, 5xx, something that is not JSON. An
    /// outage, during which nobody is answered, counts as none.
    #[serde(default = "defaults::max_failures")]
    #[schemars(range(min = 1, max = 100))]
    pub max_failures: u32,
    /// `openai`: wait before the second attempt in seconds (0 to 60); doubles with each further one, up to 60; a random part of up to a half is left
    /// out.
    #[serde(default = "defaults::retry_initial")]
    #[schemars(range(min = 0.0, max = 60.0))]
    pub retry_initial_seconds: f64,
    /// `openai`: the longest wait in seconds that a service can ask for with `Retry-After` (0 to 3600). Nobody asks it meanwhile.
    #[serde(default = "defaults::max_retry_after")]
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub max_retry_after_seconds: f64,
    /// `openai`: a service that answers nothing but 429 for so many seconds is down (0 to 86400); see `on_service_down`. A 429 costs no attempt.
    #[serde(default = "defaults::max_throttled")]
    #[schemars(range(min = 0.0, max = 86_400.0))]
    pub max_throttled_seconds: f64,
    /// `openai`: repeated requests per answered one (0 to 10), besides a reserve of 100 and four per place of `max_in_flight`; beyond it a failed
    /// attempt is the last.
    #[serde(default = "defaults::retry_share")]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub retry_share: f64,
    /// `openai`: a service that has answered nothing for so many seconds is down (1 to 86400). After ten failures in a row it is only probed, so
    /// that an outage costs no clip its attempts.
    #[serde(default = "defaults::give_up")]
    #[schemars(range(min = 1.0, max = 86_400.0))]
    pub give_up_seconds: f64,
    /// `openai`: what happens when no request has a chance: the service is down or refuses the key, the account, the model or the address, or the
    /// budget is spent.
    #[serde(default = "defaults::on_service_down")]
    pub on_service_down: OnServiceDown,
    /// `openai`: requests at once, per process (1 to 512). Fewer while the service answers 429. The `net` pool grows with it.
    #[serde(default = "defaults::max_in_flight")]
    #[schemars(range(min = 1, max = 512))]
    pub max_in_flight: usize,
    /// `openai`: requests per minute, per process (from 1); no limit if not set.
    #[serde(default)]
    #[schemars(range(min = 1.0))]
    pub requests_per_minute: Option<f64>,
    /// `openai`: tokens per minute, per process (from 1), questions and answers; estimated when a request begins, corrected by what it took. No
    /// limit if not set.
    #[serde(default)]
    #[schemars(range(min = 1.0))]
    pub tokens_per_minute: Option<f64>,
    /// `openai`: steps of one group share limits (the smaller of each), the pauses that the service asks for, and what is known of an outage.
    /// Default: those that ask one model at one address.
    #[serde(default)]
    pub limit_group: String,
    /// `openai`: price of a million tokens of questions in US dollars (0 to 100000); without both prices `caption_cost_usd` is null.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100_000.0))]
    pub usd_per_million_prompt_tokens: Option<f64>,
    /// `openai`: price of a million tokens of answers in US dollars (0 to 100000).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 100_000.0))]
    pub usd_per_million_completion_tokens: Option<f64>,
    /// `openai`: the most that may be spent in US dollars (from 0), failed attempts included; needs both prices. What was spent is kept beside the
    /// cache, so it holds over restarts. A request that could exceed it is not sent; what happens then says `on_service_down`: the run ends, and
    /// goes on with a larger budget, or rows are `caption_budget_spent`. Money that requests on their way have reserved is waited for.
    #[serde(default)]
    #[schemars(range(min = 0.0))]
    pub max_cost_usd: Option<f64>,
    /// `openai`: the most tokens that may be spent, questions and answers; as `max_cost_usd`.
    #[serde(default)]
    pub max_total_tokens: Option<u64>,
    /// `openai`: tokens of one frame (1 to 1000000), until the service has said what it takes; budgets and `tokens_per_minute` are estimated with
    /// it. The default is more than most models take; some take 14,000 (OpenAI's `gpt-4o-mini`). With a budget the first question of a process is
    /// asked alone.
    #[serde(default = "defaults::tokens_per_image")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tokens_per_image: u64,
    /// `openai`: whoever names one budget spends from it (letters, digits, `-`, `_`; up to 64); it is kept with the caches, so steps
    /// with a `cache_location` of their own share only what lies there. Default: one per output and step.
    #[serde(default)]
    pub budget_name: String,
    /// `openai`: folder of cached answers, from the pipeline file's folder if relative; `"off"` for none. Default: `curette/captions` in the user's
    /// cache folder.
    #[serde(default)]
    pub cache_location: Option<String>,
    /// `openai`: who answers, for the cache: addresses of one name share what is kept. Default: the full address without its query (so without
    /// `azure_api_version`).
    #[serde(default)]
    pub cache_identity: String,
    /// `openai`: cached answers may take this many bytes of disk (from 1 MiB; default 100 GiB), at least 4 KiB each. Above it those go that were not
    /// used for longest, with a warning. Pipelines that share the folder share the largest limit.
    #[serde(default = "defaults::cache_max_bytes")]
    #[schemars(range(min = 1_048_576))]
    pub cache_max_bytes: u64,
    /// `openai`: ask again where the cache holds a refusal or a cut-off answer. Otherwise these are kept too: they were paid for.
    #[serde(default)]
    pub retry_refused: bool,
}

impl Operator for Captioner {
    const NAME: &'static str = "captioner";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 2;
    const EXAMPLE: &'static str = r#"[step.caption]
type = "captioner"
inputs = ["split"]
backend = "template"
"#;

    fn columns(&self) -> Columns {
        let (utf8, long, int) = ([DataType::Utf8], [DataType::Int64], [DataType::Int32]);
        let mut columns = Columns::none();
        if self.backend == Backend::Openai {
            columns = columns
                .need("video_uri", &utf8)
                .may_use("content_blake3", &utf8)
                .may_use("clip_id", &utf8)
                .may_use("description", &utf8);
        }
        columns
            .may_use("title", &utf8)
            .may_use("start_us", &long)
            .may_use("end_us", &long)
            .may_use("duration_us", &long)
            .may_use("width", &int)
            .may_use("height", &int)
            .may_use("transcript", &[])
            .may_use("speech_text", &utf8)
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
            .add("caption_frames_blake3", DataType::Utf8, "Hash of the frames that the model was shown; null when none were.")
            .add(
                "caption_binding_blake3",
                DataType::Utf8,
                "Hash of the row's id, frames hash, prompt hash, model, caption and brief caption, each behind its length in bytes (8 bytes, little endian); null when no model was asked.",
            )
            .add("caption_prompt_tokens", DataType::Int64, "Tokens of the questions when they were asked; null when the service does not say.")
            .add("caption_completion_tokens", DataType::Int64, "Tokens of the answers when they were given; null when the service does not say.")
            .add("caption_cost_usd", DataType::Float64, "What these tokens cost by the step's prices, in US dollars; null without them.")
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

    fn threads_wanted(&self) -> usize {
        match self.backend {
            Backend::Template => 0,
            // While as many wait for the service, as many others prepare frames, look into the cache, or wait for their turn.
            Backend::Openai => 2 * self.max_in_flight,
        }
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &[
            "api_key",
            "base_url",
            "api_style",
            "azure_api_version",
            "timeout_seconds",
            "max_attempts",
            "max_failures",
            "retry_initial_seconds",
            "max_retry_after_seconds",
            "max_throttled_seconds",
            "retry_share",
            "give_up_seconds",
            "on_service_down",
            "max_in_flight",
            "requests_per_minute",
            "tokens_per_minute",
            "limit_group",
            "max_cost_usd",
            "max_total_tokens",
            "tokens_per_image",
            "budget_name",
            "cache_location",
            "cache_identity",
            "cache_max_bytes",
            "retry_refused",
        ]
    }

    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        let file = |key, path: &Option<String>| path.as_ref().map(|p| FileRef { key, path: paths.resolve(p) });
        file("prompt_file", &self.prompt_file).into_iter().chain(file("brief_prompt_file", &self.brief_prompt_file)).collect()
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        super::checks::validate(self, check);
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

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        // The cache of answers saves the money; this saves decoding the frames to find them there. The id is part of the binding.
        (self.backend == Backend::Openai).then(|| [crate::span::OF_PIXELS.as_slice(), &["clip_id"]].concat())
    }

    fn also_decided_by(&self) -> Vec<String> {
        ["title", "description", "transcript", "speech_text", "duration_us", "width", "height"].map(String::from).to_vec()
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.writer(context)?)))
    }
}
