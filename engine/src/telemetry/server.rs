//! `/metrics` for Prometheus and `/healthz` for whoever restarts things, on an address that the user asks for.
//!
//! Why its own thread and runtime: the workers never block, and a scrape must answer while they are busy. Without a server no recorder is
//! installed and counting costs nothing. What can go wrong: the address is taken (an error at start-up), or open to the world: there is no
//! authentication, so bind it to a private interface.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::oneshot;

use super::{TelemetryError, names};

/// How often histograms are folded into their buckets, so that they stay small between scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Upper bounds of the buckets of every histogram in seconds: from a row of metadata to an hour of surgery.
const SECONDS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 1800.0];

/// How this process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Fine,
    /// It lives but does not get on; the text says why.
    Failing(String),
}

type Check = Arc<dyn Fn() -> Health + Send + Sync>;

/// A running server; it ends when dropped.
pub struct MetricsServer {
    address: SocketAddr,
    metrics: PrometheusHandle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Served {
    metrics: PrometheusHandle,
    check: Check,
}

impl MetricsServer {
    /// Installs the recorder of this process and serves it on `address` (`host:port`, port 0 for any free one). `check` is asked at each
    /// request of `/healthz`; it must not block.
    pub fn start(address: &str, check: impl Fn() -> Health + Send + Sync + 'static) -> Result<MetricsServer, TelemetryError> {
        let listener = listen(address)?;
        let start = |what| move |source| TelemetryError::Start { what, source };
        let bound = listener.local_addr().map_err(start("the metrics server"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(start("the runtime of the metrics server"))?;
        let metrics = install()?;
        let served = Served { metrics: metrics.clone(), check: Arc::new(check) };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("metrics".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, served, stopped)) {
                    tracing::warn!(%error, "The metrics server stopped; the run goes on without it");
                }
            })
            .map_err(start("the thread of the metrics server"))?;
        tracing::info!("Metrics are served on http://{bound}/metrics");
        Ok(MetricsServer { address: bound, metrics, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes all metrics to a file when dropped: for runs that end before anyone could scrape them.
pub struct MetricsFile {
    path: PathBuf,
    metrics: PrometheusHandle,
}

impl MetricsFile {
    /// With the recorder of `server`, else with one of its own.
    pub fn start(path: PathBuf, server: Option<&MetricsServer>) -> Result<MetricsFile, TelemetryError> {
        let metrics = match server {
            Some(server) => server.metrics.clone(),
            None => install()?,
        };
        Ok(MetricsFile { path, metrics })
    }
}

impl Drop for MetricsFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.path, self.metrics.render()) {
            tracing::warn!("The metrics cannot be written to {}: {error}", self.path.display());
        }
    }
}

fn listen(address: &str) -> Result<TcpListener, TelemetryError> {
    let bad = |reason: String| TelemetryError::BadAddress { address: address.into(), reason };
    let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(|e| bad(e.to_string()))?.collect();
    let failed = |source| TelemetryError::Listen { address: address.into(), source };
    if resolved.is_empty() {
        return Err(bad("the name has no address".into()));
    }
    let listener = TcpListener::bind(&resolved[..]).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn install() -> Result<PrometheusHandle, TelemetryError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)
        .and_then(|builder| builder.install_recorder())
        .map_err(|_| TelemetryError::AlreadySet("metrics"))?;
    names::describe();
    Ok(handle)
}

async fn serve(listener: TcpListener, served: Served, stopped: oneshot::Receiver<()>) -> std::io::Result<()> {
    let upkeep = served.metrics.clone();
    let router = Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(served);
    let server = axum::serve(tokio::net::TcpListener::from_std(listener)?, router);
    let tidy = async {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            upkeep.run_upkeep();
        }
    };
    // Not a graceful shutdown: a scraper that keeps its connection open must not hold the process.
    tokio::select! {
        result = server => result,
        () = tidy => Ok(()),
        _ = stopped => Ok(()),
    }
}

async fn metrics(State(served): State<Served>) -> ([(&'static str, &'static str); 1], String) {
    // Linux only; elsewhere the gauge is absent.
    if let Some(bytes) = crate::memory::resident_bytes() {
        ::metrics::gauge!(names::RESIDENT_BYTES).set(bytes as f64);
    }
    ([("content-type", "text/plain; version=0.0.4; charset=utf-8")], served.metrics.render())
}

async fn healthz(State(served): State<Served>) -> (StatusCode, String) {
    match (served.check)() {
        Health::Fine => (StatusCode::OK, "ok\n".into()),
        Health::Failing(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// One test: a process has one recorder.
    #[test]
    fn metrics_and_health_are_served() {
        let sick = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&sick);
        let server = MetricsServer::start("127.0.0.1:0", move || {
            if seen.load(Ordering::Relaxed) { Health::Failing("no split finished for an hour".into()) } else { Health::Fine }
        })
        .unwrap();
        ::metrics::counter!(names::ROWS_OUT, "step" => "probe").increment(42);
        ::metrics::histogram!(names::JOB_SECONDS, "step" => "probe").record(0.3);

        let text = get(server.address(), "/metrics");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.contains("curette_step_rows_out_total{step=\"probe\"} 42"), "{text}");
        assert!(text.contains("curette_step_job_seconds_bucket{step=\"probe\",le=\"0.5\"} 1"), "{text}");
        assert!(text.contains("# HELP curette_step_rows_out_total Rows that a step passed on."), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");

        assert!(get(server.address(), "/healthz").starts_with("HTTP/1.1 200"));
        sick.store(true, Ordering::Relaxed);
        let answer = get(server.address(), "/healthz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no split finished"), "{answer}");
        assert!(get(server.address(), "/other").starts_with("HTTP/1.1 404"));

        let address = server.address();
        let taken = MetricsServer::start(&address.to_string(), || Health::Fine).err().unwrap().to_string();
        assert!(taken.contains(&address.to_string()) && taken.contains("port 0"), "{taken}");

        let idle = TcpStream::connect(address).unwrap();
        drop(server);
        assert!(TcpStream::connect(address).is_err(), "nobody listens after the drop");
        drop(idle);
    }

    #[test]
    fn a_bad_address_says_how_to_write_one() {
        for address in ["9464", "nonsense", "127.0.0.1:99999"] {
            let e = MetricsServer::start(address, || Health::Fine).err().unwrap().to_string();
            assert!(e.contains(address) && e.contains("127.0.0.1:9464"), "{e}");
        }
    }
}
