//! A store in memory whose log writes and reads go wrong on demand.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use url::Url;

use crate::commit::location::Location;

/// What happens to the next creation of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing.
    None,
    /// It lands, and an error is answered.
    LostResponse,
    /// It lands, and the client's own retry says that it exists.
    LostThenExists,
    /// It does not land, and an error is answered: 503, after all retries of the client.
    Fails,
    /// It does not land, and "exists" is answered: what S3's 409 becomes.
    FalseConflict,
    /// It does not land, and a failed precondition is answered: what 412 becomes in some stores.
    Precondition,
    /// It lands, and a failed precondition is answered.
    LostThenPrecondition,
    /// It lands after a while.
    Slow,
}

/// What happens to the next read of a log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadFault {
    /// An error is answered: 503, after all retries of the client.
    Fails,
    /// Half of the bytes come, then the connection is cut.
    Truncated,
    /// They come after a while.
    Slow,
}

#[derive(Debug, Default)]
pub(super) struct FaultyStore {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    read_faults: Mutex<VecDeque<ReadFault>>,
}

impl FaultyStore {
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub fn plan_reads(&self, faults: impl IntoIterator<Item = ReadFault>) {
        self.read_faults.lock().unwrap().extend(faults);
    }

    pub fn is_drained(&self) -> bool {
        self.faults.lock().unwrap().is_empty() && self.read_faults.lock().unwrap().is_empty()
    }

    /// No more faults.
    pub fn is_well(&self) {
        self.faults.lock().unwrap().clear();
        self.read_faults.lock().unwrap().clear();
    }

    /// A table's folder in this store.
    pub fn location(self: &Arc<Self>) -> Location {
        let store: Arc<dyn ObjectStore> = Arc::<FaultyStore>::clone(self);
        Location { url: Url::parse("memory:///out/clips/").unwrap(), store, base: Path::from("out/clips"), local: None }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty store")
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "the connection was cut".into() }
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let is_log = opts.mode == PutMode::Create && location.as_ref().contains("_delta_log");
        let fault = is_log.then(|| self.faults.lock().unwrap().pop_front()).flatten().unwrap_or(Fault::None);
        let exists = || Error::AlreadyExists { path: location.to_string(), source: "taken".into() };
        let precondition = || Error::Precondition { path: location.to_string(), source: "taken".into() };
        match fault {
            Fault::None => self.inner.put_opts(location, payload, opts).await,
            Fault::LostResponse => self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(broken())),
            Fault::LostThenExists => self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(exists())),
            Fault::LostThenPrecondition => self.inner.put_opts(location, payload, opts).await.and_then(|_| Err(precondition())),
            Fault::Fails => Err(broken()),
            Fault::FalseConflict => Err(exists()),
            Fault::Precondition => Err(precondition()),
            Fault::Slow => {
                a_while().await;
                self.inner.put_opts(location, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_log = !options.head && location.as_ref().contains("_delta_log/0");
        let fault = is_log.then(|| self.read_faults.lock().unwrap().pop_front()).flatten();
        match fault {
            None => {}
            Some(ReadFault::Fails) => return Err(broken()),
            Some(ReadFault::Slow) => a_while().await,
            Some(ReadFault::Truncated) => {
                let found = self.inner.get_opts(location, options).await?;
                let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
                let bytes = found.bytes().await?;
                let half = stream::iter([Ok(bytes.slice(..bytes.len() / 2)), Err(broken())]).boxed();
                return Ok(GetResult { payload: GetResultPayload::Stream(half), meta, range, attributes });
            }
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
