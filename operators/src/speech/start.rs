//! From the keys of `transcript` to the service that it asks.

use std::sync::Arc;
use std::time::Duration;

use curette_engine::operator::BuildContext;

use super::transcript::Transcript;
use super::whisper::{CODES, Whisper};
use crate::remote::address::{Place, identity, limit_group};
use crate::remote::budget;
use crate::remote::cache::{Cache, default_folder};
use crate::remote::call::{Auth, Service};
use crate::remote::limiter::{Limiters, Limits};
use crate::remote::purse::Most;

/// The longest that one waits for a service which says 429, as in `captioner`.
const MAX_THROTTLED: Duration = Duration::from_secs(1800);
/// The longest wait that `Retry-After` can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The address of `audio/transcriptions`.
pub fn url(step: &Transcript) -> Result<reqwest::Url, String> {
    let place = Place {
        base_url: &step.base_url,
        style: step.api_style,
        deployment: &step.azure_deployment,
        version: &step.azure_api_version,
        model: &step.model,
    };
    place.url(["audio", "transcriptions"])
}

/// The service behind source `whisper`.
pub fn whisper(step: &Transcript, context: &BuildContext) -> Result<Whisper, String> {
    let url = url(step)?;
    let group = limit_group(&step.limit_group, &url, &step.model);
    let limits = Limits {
        max_in_flight: step.max_in_flight,
        requests_per_minute: step.requests_per_minute,
        tokens_per_minute: None,
        retry_share: 1.0,
        give_up: Duration::from_secs_f64(step.give_up_seconds),
    };
    let folder = match step.cache_location.as_deref() {
        Some("off") => None,
        Some(path) => Some(context.paths.resolve(path)),
        None => default_folder("speech"),
    };
    let timeout = Duration::from_secs_f64(step.timeout_seconds);
    let most = Most { tokens: None, nano_usd: step.max_cost_usd.map(budget::nano_usd) };
    Ok(Whisper {
        identity: identity(&step.cache_identity, &url),
        service: Service {
            step: context.step.to_owned(),
            url,
            auth: Auth::of(step.api_style, &step.api_key)?,
            timeout,
            max_attempts: step.max_attempts,
            max_failures: step.max_failures,
            retry_initial: Duration::from_secs_f64(step.retry_initial_seconds),
            max_retry_after: MAX_RETRY_AFTER,
            max_throttled: MAX_THROTTLED,
            limiter: context.resources.get(Limiters::default).named(&group, limits),
            prices: None,
            purse: budget::open(context, folder.as_deref(), step.cache_location.is_some(), &step.budget_name, most)?,
            codes: CODES,
        },
        model: step.model.clone(),
        language: step.language.clone(),
        format: step.response_format,
        usd_per_minute: step.usd_per_minute.unwrap_or(0.0),
        piece_us: (step.max_audio_seconds * 1e6) as i64,
        timeout,
        cache: folder.map(|folder| Arc::new(Cache::new(folder, step.cache_max_bytes))),
    })
}
