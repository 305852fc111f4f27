//! From the captioner's keys to the things that do the work: the service with its limits and its purse, the prompts, the cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use curette_engine::operator::{BuildContext, OperatorError, Paths};

use super::captioner::Captioner;
use super::describe::{Describer, Meaning};
use super::keys::{Backend, OnServiceDown, name_of};
use super::openai::CODES;
use super::pictures::{Look, pictures};
use super::prompt::{BRIEF, DETAILED, MAX_PROMPT_BYTES, Prompt};
use super::seen::Seen;
use super::writer::Writer;
use crate::remote::address::{Place, identity, limit_group};
use crate::remote::budget;
use crate::remote::cache::{Cache, default_folder};
use crate::remote::call::{Auth, Service};
use crate::remote::limiter::{Limiters, Limits};
use crate::remote::purse::{Most, Prices};

impl Captioner {
    /// The runtime part.
    pub fn writer(&self, context: &BuildContext) -> Result<Writer, OperatorError> {
        let describer = match self.backend {
            Backend::Template => None,
            Backend::Openai => Some(self.describer(context)?),
        };
        Ok(Writer {
            describer,
            id_column: context.id_column.clone(),
            prices: self.prices(),
            stop_when_down: self.on_service_down == OnServiceDown::Stop,
        })
    }

    /// The service behind backend `openai`.
    fn describer(&self, context: &BuildContext) -> Result<Describer, OperatorError> {
        let fault = |message: String| OperatorError::new(format!("step {}: {message}", context.step));
        let resolved = |path: &Option<String>| path.as_ref().map(|p| context.paths.resolve(p));
        let detailed = read_prompt(resolved(&self.prompt_file), DETAILED, false).map_err(fault)?;
        let brief = match self.one_answer {
            true => None,
            false => Some(read_prompt(resolved(&self.brief_prompt_file), BRIEF, true).map_err(fault)?),
        };
        let folder = self.cache_folder(context.paths);
        Ok(Describer {
            meaning: Meaning {
                version: <Self as curette_engine::operator::Operator>::VERSION,
                model: self.model.clone(),
                detailed_prompt: detailed.text().to_owned(),
                brief_prompt: brief.as_ref().map(Prompt::text).unwrap_or_default().to_owned(),
                missing_text: self.missing_text.clone(),
                frames: self.frames,
                longest_side_px: self.longest_side_px,
                jpeg_quality: self.jpeg_quality,
                image_detail: name_of(&self.image_detail),
                temperature: self.temperature,
                token_limit_field: name_of(&self.token_limit_field),
                max_tokens: self.max_tokens,
                brief_max_tokens: self.brief_max_tokens,
                response_format: self.response_format,
            },
            detailed,
            brief,
            service: self.service(context, folder.as_deref()).map_err(fault)?,
            look: Look {
                frames: self.frames,
                longest_side_px: self.longest_side_px,
                jpeg_quality: self.jpeg_quality,
                timeout: Duration::from_secs_f64(self.timeout_seconds),
            },
            eyes: Arc::new(pictures),
            cache: folder.map(|folder| Arc::new(Cache::new(folder, self.cache_max_bytes))),
            identity: identity(&self.cache_identity, &url(self).map_err(fault)?),
            retry_refused: self.retry_refused,
            tokens_per_image: self.tokens_per_image,
            seen: Seen::default(),
        })
    }

    fn service(&self, context: &BuildContext, folder: Option<&Path>) -> Result<Service, String> {
        let url = url(self)?;
        let group = limit_group(&self.limit_group, &url, &self.model);
        let limits = Limits {
            max_in_flight: self.max_in_flight,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            retry_share: self.retry_share,
            give_up: Duration::from_secs_f64(self.give_up_seconds),
        };
        Ok(Service {
            step: context.step.to_owned(),
            url,
            auth: Auth::of(self.api_style, &self.api_key)?,
            timeout: Duration::from_secs_f64(self.timeout_seconds),
            max_attempts: self.max_attempts,
            max_failures: self.max_failures,
            retry_initial: Duration::from_secs_f64(self.retry_initial_seconds),
            max_retry_after: Duration::from_secs_f64(self.max_retry_after_seconds),
            max_throttled: Duration::from_secs_f64(self.max_throttled_seconds),
            limiter: context.resources.get(Limiters::default).named(&group, limits),
            prices: self.prices(),
            purse: budget::open(context, folder, self.cache_location.is_some(), &self.budget_name, self.most())?,
            codes: CODES,
        })
    }

    fn prices(&self) -> Option<Prices> {
        self.usd_per_million_prompt_tokens.zip(self.usd_per_million_completion_tokens).map(|(prompt, completion)| Prices {
            usd_per_million_prompt_tokens: prompt,
            usd_per_million_completion_tokens: completion,
        })
    }

    fn most(&self) -> Most {
        Most { tokens: self.max_total_tokens, nano_usd: self.max_cost_usd.map(budget::nano_usd) }
    }

    fn cache_folder(&self, paths: &Paths) -> Option<PathBuf> {
        match self.cache_location.as_deref() {
            Some("off") => None,
            Some(path) => Some(paths.resolve(path)),
            None => default_folder("captions").or_else(|| {
                tracing::warn!("Neither XDG_CACHE_HOME nor HOME is set: captions are not cached; set `cache_location`");
                None
            }),
        }
    }
}

/// The address of `chat/completions`.
pub fn url(captioner: &Captioner) -> Result<reqwest::Url, String> {
    let place = Place {
        base_url: &captioner.base_url,
        style: captioner.api_style,
        deployment: &captioner.azure_deployment,
        version: &captioner.azure_api_version,
        model: &captioner.model,
    };
    place.url(["chat", "completions"])
}

/// The prompt of a file, or the one given.
pub fn read_prompt(path: Option<PathBuf>, default: &str, brief: bool) -> Result<Prompt, String> {
    let Some(path) = path else { return Prompt::parse(default, brief) };
    let at = |message: String| format!("{}: {message}", path.display());
    let size = std::fs::metadata(&path).map_err(|e| at(format!("cannot be read: {e}")))?.len();
    if size > MAX_PROMPT_BYTES {
        return Err(at(format!("has {size} bytes, a prompt may have {MAX_PROMPT_BYTES}")));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| at(format!("cannot be read: {e}")))?;
    Prompt::parse(text.trim_end(), brief).map_err(at)
}
