//! From the captioner's keys to the things that do the work: the service with its limits and its purse, the prompts, the cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use curette_engine::operator::{BuildContext, OperatorError, Paths};
use curette_engine::resources::OutputPlace;

use super::binding::texts_blake3;
use super::captioner::Captioner;
use super::describe::{Describer, Meaning};
use super::keys::{ApiStyle, Backend, OnServiceDown, name_of};
use super::openai::CODES;
use super::pictures::{Look, pictures};
use super::prompt::{BRIEF, DETAILED, MAX_PROMPT_BYTES, Prompt};
use super::writer::Writer;
use crate::remote::cache::{Cache, default_folder};
use crate::remote::call::{Auth, Service};
use crate::remote::limiter::{Limiters, Limits};
use crate::remote::purse::{Most, Prices, Purse};

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
            retry_refused: self.retry_refused,
            largest_prompt: AtomicU64::new(0),
        })
    }

    fn service(&self, context: &BuildContext, folder: Option<&Path>) -> Result<Service, String> {
        let url = url(self)?;
        let group = match self.limit_group.as_str() {
            "" => format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default()),
            name => name.to_owned(),
        };
        let limits = Limits {
            max_in_flight: self.max_in_flight,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            retry_share: self.retry_share,
            give_up: Duration::from_secs_f64(self.give_up_seconds),
        };
        let key = self.api_key.clone();
        let auth = match self.api_style {
            _ if key.is_empty() => Auth::None,
            ApiStyle::Openai => Auth::Bearer(key),
            ApiStyle::Azure => Auth::ApiKey(key),
        };
        if !auth.fits_a_header() {
            return Err("`api_key` has characters that no header can hold; is there a line break at its end?".into());
        }
        Ok(Service {
            step: context.step.to_owned(),
            url,
            auth,
            timeout: Duration::from_secs_f64(self.timeout_seconds),
            max_attempts: self.max_attempts,
            max_failures: self.max_failures,
            retry_initial: Duration::from_secs_f64(self.retry_initial_seconds),
            max_retry_after: Duration::from_secs_f64(self.max_retry_after_seconds),
            max_throttled: Duration::from_secs_f64(self.max_throttled_seconds),
            limiter: context.resources.get(Limiters::default).named(&group, limits),
            prices: self.prices(),
            purse: self.purse(context, folder)?,
            codes: CODES,
        })
    }

    fn prices(&self) -> Option<Prices> {
        self.usd_per_million_prompt_tokens.zip(self.usd_per_million_completion_tokens).map(|(prompt, completion)| Prices {
            usd_per_million_prompt_tokens: prompt,
            usd_per_million_completion_tokens: completion,
        })
    }

    fn purse(&self, context: &BuildContext, folder: Option<&Path>) -> Result<Option<Purse>, String> {
        if self.max_cost_usd.is_none() && self.max_total_tokens.is_none() {
            return Ok(None);
        }
        let folder = folder.ok_or("a budget is kept beside the cache, and there is none; set `cache_location`")?;
        let name = match self.budget_name.as_str() {
            "" => {
                let output = context.resources.get(OutputPlace::default);
                texts_blake3([output.0.as_str(), context.step])
            }
            name => name.to_owned(),
        };
        let most = Most { tokens: self.max_total_tokens, nano_usd: self.max_cost_usd.map(|usd| (usd * 1e9).round() as u64) };
        // Not `.json`: making room in the cache must not remove it.
        let purse = Purse::new(folder.join("budgets").join(format!("{name}.purse")), most);
        let spent = purse.spent().map_err(|e| e.to_string())?;
        if spent.requests > 0 {
            let usd = spent.nano_usd as f64 / 1e9;
            tracing::info!(step = context.step, spent.requests, spent.tokens, usd, "Spent from this budget before");
        }
        Ok(Some(purse))
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
    let base = service_url(&captioner.base_url)?;
    let mut url = base.clone();
    let shown = &captioner.base_url;
    let mut path = url.path_segments_mut().map_err(|()| format!("`{shown}` is no address that paths can be added to"))?;
    path.pop_if_empty();
    match captioner.api_style {
        ApiStyle::Openai => path.extend(["chat", "completions"]),
        ApiStyle::Azure => {
            let deployment = if captioner.azure_deployment.is_empty() { &captioner.model } else { &captioner.azure_deployment };
            path.extend(["openai", "deployments", deployment, "chat", "completions"])
        }
    };
    drop(path);
    if captioner.api_style == ApiStyle::Azure {
        url.query_pairs_mut().append_pair("api-version", &captioner.azure_api_version);
    }
    Ok(url)
}

/// The address where an API starts, if it can be one.
pub fn service_url(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|e| format!("`{text}` is not a URL: {e}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("`{text}` is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("`base_url` holds a user name or password, which logs would show; use `api_key`".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{text}` has a query or fragment; give the address where the API starts"));
    }
    Ok(url)
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
