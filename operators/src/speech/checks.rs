//! Keys of `transcript` that contradict each other, found before anything is read.

use curette_engine::diag::Code;
use curette_engine::operator::StepCheck;

use super::start::url;
use super::transcript::{SpeechSource, Transcript};
use crate::remote::address::ApiStyle;
use crate::remote::budget;
use crate::sources::sidecars::is_language;

/// The most languages that are looked for: each costs two looks at the store.
const MAX_LANGUAGES: usize = 16;

/// Reports what is wrong with a step's keys.
pub fn validate(step: &Transcript, check: &mut dyn StepCheck) {
    if step.sources.is_empty() {
        let help = "for example `sources = [\"column\", \"sidecar\"]`";
        check.error(Some("sources"), Code::OutOfRange, "there is nobody to ask".into(), Some(help.into()));
    }
    if step.languages.len() > MAX_LANGUAGES {
        let message = format!("{} languages; at most {MAX_LANGUAGES} are looked for", step.languages.len());
        check.error(Some("languages"), Code::OutOfRange, message, None);
    }
    if let Some(odd) = step.languages.iter().find(|l| !is_language(l)) {
        let message = format!("`{odd}` is no language tag");
        check.error(Some("languages"), Code::OutOfRange, message, Some("for example `en`, `pt-BR` or `zh-Hans`".into()));
    }
    let whisper = step.asks(SpeechSource::Whisper);
    if whisper && step.model.is_empty() {
        let help = "for example `model = \"whisper-1\"`";
        check.error(None, Code::MissingKey, "source `whisper` needs `model`".into(), Some(help.into()));
    }
    let example = "for example `base_url = \"https://api.openai.com/v1\"`";
    if whisper && step.base_url.is_empty() {
        check.error(None, Code::MissingKey, "source `whisper` needs `base_url`".into(), Some(example.into()));
    } else if whisper && let Err(message) = url(step) {
        check.error(Some("base_url"), Code::OutOfRange, message, Some(example.into()));
    }
    let azure = step.api_style == ApiStyle::Azure;
    if whisper && azure && step.azure_api_version.is_empty() {
        let help = "for example `azure_api_version = \"2024-10-21\"`";
        let message = "`api_style = \"azure\"` needs `azure_api_version`";
        check.error(Some("api_style"), Code::MissingKey, message.into(), Some(help.into()));
    }
    for (key, value) in [("azure_deployment", &step.azure_deployment), ("azure_api_version", &step.azure_api_version)] {
        if !value.is_empty() && !azure {
            let message = format!("`{key}` has no effect with `api_style = \"openai\"`");
            check.error(Some(key), Code::Contradiction, message, Some("remove the key, or set `api_style = \"azure\"`".into()));
        }
    }
    if step.max_cost_usd.is_some() && step.usd_per_minute.is_none() {
        let message = "a budget in dollars needs a price";
        check.error(Some("max_cost_usd"), Code::MissingKey, message.into(), Some("set `usd_per_minute`".into()));
    }
    let limits = [("max_cost_usd", step.max_cost_usd.is_some())];
    budget::check(&limits, step.cache_location.as_deref(), &step.budget_name, check);
    for (key, set) in [
        ("base_url", !step.base_url.is_empty()),
        ("model", !step.model.is_empty()),
        ("language", step.language.is_some()),
        ("max_cost_usd", step.max_cost_usd.is_some()),
    ] {
        if set && !whisper {
            let message = format!("`whisper` is not among the sources, so `{key}` has no effect");
            check.error(Some(key), Code::Contradiction, message, Some("remove the key, or add `whisper` to `sources`".into()));
        }
    }
}
