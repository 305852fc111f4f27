//! The HTTP side of this process: one runtime and one client for all steps.
//!
//! Redirects are not followed: they would carry pictures to another host. A proxy of the environment is for others than this machine's own services.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a waiting call looks whether the run is being stopped. Hundreds wait at once, and each look wakes a thread.
const CANCEL_POLL: Duration = Duration::from_millis(500);

/// See the module's documentation.
pub struct Http {
    runtime: Option<tokio::runtime::Runtime>,
    client: reqwest::Client,
    local: reqwest::Client,
}

impl Http {
    /// Starts the runtime's two threads.
    pub fn start() -> Result<Http, String> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("curette-http").enable_all().build();
        let client = |builder: reqwest::ClientBuilder| {
            builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|e| e.to_string())
        };
        Ok(Http {
            runtime: Some(runtime.map_err(|e| e.to_string())?),
            client: client(reqwest::Client::builder())?,
            local: client(reqwest::Client::builder().no_proxy())?,
        })
    }

    /// The client for an address.
    pub fn client(&self, url: &reqwest::Url) -> &reqwest::Client {
        let loopback = |host: &str| host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match url.host_str().is_some_and(|host| host == "localhost" || loopback(host)) {
            true => &self.local,
            false => &self.client,
        }
    }

    /// Blocks until the work is done; `None` when the run is stopped before. Not for threads of an async runtime.
    pub fn wait<T>(&self, cancelled: &AtomicBool, work: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        let stopped = async {
            while !cancelled.load(Ordering::Relaxed) {
                tokio::time::sleep(CANCEL_POLL).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                // Who is told to stop before he has begun begins nothing.
                biased;
                () = stopped => None,
                done = work => Some(done),
            }
        })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // Dropping a runtime waits for its tasks, and must not happen inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
