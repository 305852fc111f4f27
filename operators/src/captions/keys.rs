//! The values that the captioner's keys can have, and what they are when they are not set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::ResponseFormat;
pub use crate::remote::address::ApiStyle;

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

/// What happens when no request has a chance: the service has answered nothing for `give_up_seconds`, nothing but 429 for `max_throttled_seconds`,
/// or refuses the key, the account, the model or the address; or the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnServiceDown {
    /// The run ends; what was committed stays, the same command goes on from there.
    Stop,
    /// Rows fail with the code of what is wrong, until the service answers again.
    Error,
}

/// The name of an enum's value as it stands in TOML.
pub fn name_of(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What keys are when they are not set.
#[allow(missing_docs)]
pub mod defaults {
    use super::{ApiStyle, ImageDetail, OnServiceDown, ResponseFormat, TokenLimitField};

    pub fn missing_text() -> String {
        "None".into()
    }
    pub fn frames() -> usize {
        8
    }
    pub fn longest_side() -> u32 {
        768
    }
    pub fn jpeg_quality() -> u8 {
        90
    }
    pub fn image_detail() -> ImageDetail {
        ImageDetail::Auto
    }
    pub fn max_tokens() -> u32 {
        1024
    }
    pub fn brief_max_tokens() -> u32 {
        256
    }
    pub fn token_limit_field() -> TokenLimitField {
        TokenLimitField::MaxTokens
    }
    pub fn timeout() -> f64 {
        120.0
    }
    pub fn max_attempts() -> u32 {
        8
    }
    pub fn max_failures() -> u32 {
        16
    }
    pub fn retry_initial() -> f64 {
        1.0
    }
    pub fn max_retry_after() -> f64 {
        120.0
    }
    pub fn cache_max_bytes() -> u64 {
        crate::remote::cache::DEFAULT_MAX_BYTES
    }

    pub fn tokens_per_image() -> u64 {
        1_100
    }
    pub fn api_style() -> ApiStyle {
        ApiStyle::Openai
    }
    pub fn response_format() -> ResponseFormat {
        ResponseFormat::Text
    }
    pub fn max_in_flight() -> usize {
        32
    }
    pub fn retry_share() -> f64 {
        1.0
    }
    pub fn max_throttled() -> f64 {
        1800.0
    }
    pub fn give_up() -> f64 {
        300.0
    }
    pub fn on_service_down() -> OnServiceDown {
        OnServiceDown::Stop
    }
}
