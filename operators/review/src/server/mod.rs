//! The page: a small server on this machine alone.
//!
//! | file | does |
//! |---|---|
//! | `guard` | who may ask: the right host, a rater's token, not too many at once |
//! | `page` | the page itself, built into the program |
//! | `api` | what the page asks for |
//! | `clip` | bytes of clips, whole or in part |
//! | `seat` | a rater's place: token, order, journal, own ratings |
//! | `listen` | connections, not too many of them |
//!
//! It listens on the loopback address; every address of it begins with a token that only the rater's link has. A browser that another site has tricked is turned
//! away by the `Host` and `Origin` headers. Raters see nothing of each other. What can go wrong: a stop in the middle; what was acknowledged is in a journal.

mod api;
mod clip;
mod guard;
mod listen;
mod page;
pub mod seat;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::media::Cache;
use crate::session::Session;
use crate::{ReviewError, labels, ledger};
use seat::Seat;

/// Bytes of a request's body.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Requests that are worked on at once; more are told to come again.
const MAX_REQUESTS: usize = 64;
/// Open connections; more wait.
const MAX_CONNECTIONS: usize = 128;
/// An answer takes no longer, apart from the bytes of a clip.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// After a stop, open connections have so long to end.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// Raters that one server serves.
pub const MAX_RATERS: usize = 32;

/// What is served.
pub struct Review {
    /// The sample.
    pub session: Session,
    /// Its raters.
    pub seats: Vec<Seat>,
    /// Folder or URL below which the table `ratings` is.
    pub output: String,
    /// Where sessions and journals are.
    pub journals: PathBuf,
    /// Where labels are written, if they are.
    pub labels: Option<PathBuf>,
    cache: Cache,
    requests: Arc<Semaphore>,
    port: u16,
}

/// What a commit has done.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Committed {
    /// Ratings that are new in the table.
    pub committed: usize,
    /// What was written for `train-head`.
    pub labels: Option<labels::Written>,
}

impl Review {
    /// Seats the raters. The listener is on a loopback address.
    pub fn new(
        session: Session,
        raters: &[String],
        output: String,
        journals: PathBuf,
        labels: Option<PathBuf>,
        listener: &TcpListener,
    ) -> Result<Review, ReviewError> {
        let folder = session.folder(&journals);
        let seats = raters.iter().map(|rater| Seat::new(&session, &folder, rater)).collect::<Result<Vec<_>, _>>()?;
        let port = listener.local_addr().map_err(|e| ReviewError::at("the server's address", e))?.port();
        let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
        Ok(Review { session, seats, output, journals, labels, cache: Cache::default(), requests, port })
    }

    /// The address of a rater's page.
    pub fn link(&self, seat: &Seat) -> String {
        format!("http://127.0.0.1:{}/{}/", self.port, seat.token)
    }

    /// Commits what stands in journals, and writes labels. Blocking.
    pub fn commit(&self) -> Result<Committed, ReviewError> {
        let committed = ledger::commit(&self.output, &self.journals)?;
        let labels = match &self.labels {
            Some(out) => Some(labels::write(&self.session, &ledger::read(&self.output)?, out)?),
            None => None,
        };
        Ok(Committed { committed, labels })
    }
}

/// A listener on a loopback address; port 0: any that is free.
pub fn listen(port: u16) -> Result<TcpListener, ReviewError> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    listener.map_err(|e| ReviewError::at(address, format!("{e}; choose another --port, or 0 for any that is free")))
}

/// Serves until the process is told to stop (SIGINT, SIGTERM), then commits. Blocking.
pub fn serve(review: Review, listener: TcpListener) -> Result<Committed, ReviewError> {
    let err = |e: std::io::Error| ReviewError::at("the review server", e);
    let review = Arc::new(review);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(err)?;
    runtime.block_on(until_stopped(Arc::clone(&review), listener)).map_err(err)?;
    // Ratings on their way to a journal come to their end.
    runtime.shutdown_timeout(STOP_LIMIT);
    review.commit()
}

async fn until_stopped(review: Arc<Review>, listener: TcpListener) -> std::io::Result<()> {
    let listener = listen::Limited::new(tokio::net::TcpListener::from_std(listener)?, MAX_CONNECTIONS);
    let (stop, mut told) = tokio::sync::watch::channel(false);
    let graceful = async move {
        let _ = told.wait_for(|stop| *stop).await;
    };
    let server = axum::serve(listener, router(review)).with_graceful_shutdown(graceful);
    let server = std::future::IntoFuture::into_future(server);
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = signal() => {}
    }
    tracing::info!("Stopping: what is being kept is kept, then the ratings are committed");
    stop.send_replace(true);
    // A video that is paused keeps its connection open for ever.
    match tokio::time::timeout(STOP_LIMIT, server).await {
        Ok(ended) => ended,
        Err(_) => Ok(()),
    }
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        // Signals end the process at once then, which loses nothing that was acknowledged.
        return std::future::pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}

fn router(review: Arc<Review>) -> Router {
    Router::new()
        .route("/{token}/", get(page::html))
        .route("/{token}/app.js", get(page::script))
        .route("/{token}/app.css", get(page::style))
        .route("/{token}/icon.svg", get(page::icon))
        .route("/{token}/api/session", get(api::session))
        .route("/{token}/api/item/{at}", get(api::item))
        .route("/{token}/api/rating", post(api::rate))
        .route("/{token}/api/finish", post(api::finish))
        .route("/{token}/media/{at}/{side}", get(clip::clip))
        .fallback(guard::nothing)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&review), guard::guard))
        .with_state(review)
}
