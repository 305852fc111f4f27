//! Where a service is, how it wants to be addressed, and who it is for caches and limits.
//!
//! What can go wrong: an address that is none; messages name the key `base_url`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the service wants to be addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiStyle {
    /// `BASE_URL/chat/completions` (`BASE_URL/audio/transcriptions` for speech), the key as a bearer token: OpenAI, vLLM, llama.cpp, Ollama, most
    /// others.
    Openai,
    /// `BASE_URL/openai/deployments/DEPLOYMENT/chat/completions?api-version=VERSION` (or `audio/transcriptions`), the key as `api-key`.
    Azure,
}

/// The keys that say where a service is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Where the API starts.
    pub base_url: &'a str,
    /// See [`ApiStyle`].
    pub style: ApiStyle,
    /// Azure: the deployment; the model if empty.
    pub deployment: &'a str,
    /// Azure: the version of the API.
    pub version: &'a str,
    /// The model.
    pub model: &'a str,
}

impl Place<'_> {
    /// The full address of a method, such as `chat`, `completions`.
    pub fn url(&self, method: [&str; 2]) -> Result<reqwest::Url, String> {
        let mut url = service_url(self.base_url)?;
        let no_paths = |()| format!("`{}` is no address that paths can be added to", self.base_url);
        let mut path = url.path_segments_mut().map_err(no_paths)?;
        path.pop_if_empty();
        if self.style == ApiStyle::Azure {
            let deployment = if self.deployment.is_empty() { self.model } else { self.deployment };
            path.extend(["openai", "deployments", deployment]);
        }
        path.extend(method);
        drop(path);
        if self.style == ApiStyle::Azure {
            url.query_pairs_mut().append_pair("api-version", self.version);
        }
        Ok(url)
    }
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

/// An address without its query: what stands there, such as the version of an API, does not decide who answers.
pub fn without_query(url: &reqwest::Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.into()
}

/// Who shares limits: whoever says so, else those that ask one model at one address, because that is what services limit.
pub fn limit_group(name: &str, url: &reqwest::Url, model: &str) -> String {
    if name.is_empty() { format!("{} {model}", without_query(url)) } else { name.to_owned() }
}

/// Who answers, for caches.
pub fn identity(name: &str, url: &reqwest::Url) -> String {
    if name.is_empty() { without_query(url) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_in_either_style_and_versions_are_nobody() {
        let place = |style| Place { base_url: "https://h/v1/", style, deployment: "", version: "2024-10-21", model: "my model" };
        let of = |style| place(style).url(["audio", "transcriptions"]).unwrap();
        assert_eq!(of(ApiStyle::Openai).as_str(), "https://h/v1/audio/transcriptions");
        let azure = "https://h/v1/openai/deployments/my%20model/audio/transcriptions";
        assert_eq!(of(ApiStyle::Azure).as_str(), format!("{azure}?api-version=2024-10-21"));
        assert_eq!((identity("", &of(ApiStyle::Azure)), identity("us", &of(ApiStyle::Azure))), (azure.into(), "us".into()));
        assert_eq!(limit_group("", &of(ApiStyle::Azure), "m"), format!("{azure} m"));
    }
}
