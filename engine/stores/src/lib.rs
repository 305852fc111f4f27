//! Object stores by URL, the same for inputs, outputs and models.
//!
//! | file | does |
//! |---|---|
//! | `address` | which URLs name a store, and how one is shown without secrets |
//! | `words` | what a store's error means, in one line with a remedy |
//! | `reader` | one object from its start to its end, for whoever reads plainly |
//!
//! Why a crate of its own: the engine, the media plane and the model store all open stores, and none of them may depend on another.
//!
//! Credentials and endpoints come from the environment alone, under the names that the vendors' own tools use (`AWS_ACCESS_KEY_ID`, `AWS_REGION`,
//! `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, ...), never from a URL or a pipeline.
//!
//! What can go wrong: a store that is away or throttles. Each request is tried again within a budget: at most [`RETRIES`] times and for at most
//! [`RETRY_SECONDS`], or what [`RETRY_VARIABLE`] says; then its error is the caller's.

mod address;
mod reader;
mod words;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

pub use address::{KNOWN, is_known, problem, root, shown};
pub use reader::Reader;
pub use words::{plain, words};

use address::{Kind, kind};

/// A request is tried again at most so many times.
pub const RETRIES: usize = 10;
/// A request is not tried again when this many seconds have passed since the first time.
pub const RETRY_SECONDS: u64 = 180;
/// Environment variable with another number of seconds, 0 to 280; 0 tries nothing again.
pub const RETRY_VARIABLE: &str = "CURETTE_STORE_RETRY_SECONDS";

/// Signatures are made once per request and run out after five minutes.
const MAX_RETRY_SECONDS: u64 = 280;
/// First and longest pause between two tries; in between it doubles, with jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));
/// Prefixes of environment variables that are handed to a store. Others could be taken for options by accident (`REGION`, `TOKEN`).
const VENDORS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// A store that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

/// What the environment says of stores: `AWS_REGION=x` as `("aws_region", "x")`. Names and values that are not UTF-8 are none of ours.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(key, _)| VENDORS.iter().any(|vendor| key.starts_with(vendor)))
        .map(|(key, value)| (key.to_ascii_lowercase(), value))
        .collect()
}

/// The store that a URL is in, with credentials from the environment. What follows the bucket does not matter: keys are the caller's.
pub fn open(url: &str) -> Result<Arc<dyn ObjectStore>, OpenError> {
    open_with(url, &environment())
}

/// As [`open`], with these options in the place of the environment's.
pub fn open_with(url: &str, options: &[(String, String)]) -> Result<Arc<dyn ObjectStore>, OpenError> {
    if let Some(problem) = problem(url) {
        return Err(OpenError(problem));
    }
    let retry = retries(std::env::var(RETRY_VARIABLE).ok().as_deref()).map_err(OpenError)?;
    let root = format!("{}/", root(url));
    macro_rules! built {
        ($builder:expr) => {
            options
                .iter()
                .fold($builder.with_url(root), |builder, (key, value)| match key.parse() {
                    Ok(key) => builder.with_config(key, value),
                    Err(_) => builder,
                })
                .with_retry(retry)
                .build()
                .map(|store| Arc::new(store) as Arc<dyn ObjectStore>)
        };
    }
    let opened = match kind(url) {
        Some(Kind::S3) => built!(AmazonS3Builder::new()),
        Some(Kind::Google) => built!(GoogleCloudStorageBuilder::new()),
        Some(Kind::Azure) => built!(MicrosoftAzureBuilder::new()),
        // `problem` has said so.
        None => return Err(OpenError(KNOWN.to_owned())),
    };
    opened.map_err(|error| OpenError(words(&error)))
}

fn retries(given: Option<&str>) -> Result<RetryConfig, String> {
    let seconds = match given.map(str::trim).filter(|text| !text.is_empty()) {
        None => RETRY_SECONDS,
        Some(text) => match text.parse() {
            Ok(seconds) if seconds <= MAX_RETRY_SECONDS => seconds,
            _ => return Err(format!("{RETRY_VARIABLE} is `{text}`: give whole seconds from 0 to {MAX_RETRY_SECONDS}")),
        },
    };
    Ok(RetryConfig {
        backoff: BackoffConfig { init_backoff: PAUSE.0, max_backoff: PAUSE.1, base: 2.0 },
        max_retries: if seconds == 0 { 0 } else { RETRIES },
        retry_timeout: Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_of_retries_is_bounded() {
        let of = |given| retries(given).map(|r| (r.max_retries, r.retry_timeout.as_secs()));
        assert_eq!(of(None), Ok((RETRIES, RETRY_SECONDS)));
        assert_eq!(of(Some(" ")), Ok((RETRIES, RETRY_SECONDS)));
        assert_eq!(of(Some("0")), Ok((0, 0)));
        assert_eq!(of(Some("7")), Ok((RETRIES, 7)));
        insta::assert_snapshot!(of(Some("5 min")).unwrap_err(), @"CURETTE_STORE_RETRY_SECONDS is `5 min`: give whole seconds from 0 to 280");
        assert!(of(Some("281")).is_err() && of(Some("-1")).is_err());
    }

    #[test]
    fn every_vendor_opens_and_what_is_missing_is_said() {
        let options = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
        let keys = options(&[("aws_access_key_id", "a"), ("aws_secret_access_key", "b"), ("google_skip_signature", "true")]);
        let azure = options(&[("azure_storage_account_name", "me"), ("azure_storage_account_key", "a2V5")]);
        assert!(open_with("s3://bucket/a/b", &keys).is_ok());
        assert!(open_with("gs://bucket/a", &keys).is_ok());
        assert!(open_with("az://container/a", &azure).is_ok());
        assert!(open_with("abfss://container@me.dfs.core.windows.net/a", &azure).is_ok());
        let missing = open_with("az://container/a", &[]).map(drop).unwrap_err().to_string();
        assert!(missing.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{missing}");
    }
}
