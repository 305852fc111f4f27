//! Bringing files in: `fetch` downloads, `add` takes files that are on this machine.
//!
//! Only files whose hash is known are downloaded. Never called by a run.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blobs::{Put, hash_file, io, lock_folder_of};
use super::resume::{Body, Resuming};
use super::{FileRole, Known, Lock, Pin, Store, known_hash, licence_gate};
use crate::manifest::ModelFile;
use crate::{ErrorKind, ModelError, Result};

/// Longest wait for a server to accept a connection and answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Longest download.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(6 * 3600);

/// What happened to one file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Brought {
    /// Its role.
    pub role: FileRole,
    /// Its hash.
    pub sha256: String,
    /// Bytes written; `None` if it was there.
    pub bytes: Option<u64>,
}

/// What a download needs besides the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct FetchOptions {
    /// The user accepted a licence that forbids commercial use.
    pub accept_licence: bool,
    /// Refuse to use the network; `file://` still works.
    pub offline: bool,
}

impl Store {
    /// Downloads what is missing of a model.
    pub fn fetch(&self, known: &Known, options: FetchOptions) -> Result<Vec<Brought>> {
        licence_gate(&known.manifest, options.accept_licence)?;
        let lock = Lock::read(&self.lock_file)?;
        let mut out = Vec::new();
        for file in &known.manifest.files {
            let Some(sha256) = known_hash(&known.manifest, file, &lock).filter(|h| self.blobs.has(h) || !file.urls.is_empty())
            else {
                // The one text that says how such a file is obtained.
                self.locate_file(known, file, &lock)?;
                continue;
            };
            let put = self.blobs.put(&sha256, &known.manifest.name, file.bytes, || first_that_opens(file, options.offline))?;
            out.push(Brought { role: file.role, sha256, bytes: if let Put::Brought(n) = put { Some(n) } else { None } });
        }
        Ok(out)
    }

    /// Copies files into the store and pins them in the lock file where the manifest has no hash.
    pub fn add(&self, known: &Known, files: &[(FileRole, PathBuf)], accept_licence: bool) -> Result<Vec<Brought>> {
        let manifest = &known.manifest;
        licence_gate(manifest, accept_licence)?;
        let (mut out, mut pins) = (Vec::new(), Vec::new());
        for (role, path) in files {
            let Some(file) = manifest.file(*role) else {
                let roles: Vec<_> = manifest.files.iter().map(|f| f.role.name()).collect();
                let message = format!("model `{}` has no {} file", manifest.name, role.name());
                return Err(ModelError::new(ErrorKind::BadInput, message).help(format!("its files are: {}", roles.join(", "))));
            };
            let (sha256, size) = hash_file(path)?;
            if let Some(want) = file.sha256.as_ref().filter(|want| **want != sha256) {
                return Err(super::blobs::wrong_hash(&manifest.name, path, want, &sha256, size));
            }
            let put = self.blobs.put(&sha256, &manifest.name, Some(size), || open_file(path))?;
            if file.sha256.is_none() {
                let (model, version) = (manifest.name.clone(), manifest.version.clone());
                pins.push(Pin { model, version, role: *role, sha256: sha256.clone(), bytes: size });
            }
            out.push(Brought { role: *role, sha256, bytes: if let Put::Brought(n) = put { Some(n) } else { None } });
        }
        // Read only now, and alone: hashing took a while, and another process may have pinned something meanwhile.
        let _alone = lock_folder_of(&self.lock_file)?;
        let mut lock = Lock::read(&self.lock_file)?;
        pins.into_iter().for_each(|pin| lock.set(pin));
        lock.write(&self.lock_file)?;
        Ok(out)
    }
}

fn open_file(path: &Path) -> Result<Box<dyn Read>> {
    Ok(Box::new(File::open(path).map_err(|e| io(path, &e))?))
}

fn first_that_opens(file: &ModelFile, offline: bool) -> Result<Box<dyn Read>> {
    let mut failures = Vec::new();
    for url in &file.urls {
        if let Some(path) = url.strip_prefix("file://") {
            match open_file(Path::new(path)) {
                Ok(reader) => return Ok(reader),
                Err(e) => failures.push(e.message),
            }
        } else if offline {
            failures.push(format!("{url}: not tried, --offline"));
        } else if curette_stores::is_known(url) {
            match curette_stores::Reader::open(url) {
                Ok(reader) => return Ok(Box::new(reader)),
                Err(e) => failures.push(format!("{}: {e}", curette_stores::shown(url))),
            }
        } else {
            match download(url) {
                Ok(reader) => return Ok(reader),
                Err(e) => failures.push(format!("{url}: {e}")),
            }
        }
    }
    Err(ModelError::new(ErrorKind::Download, format!("cannot fetch `{}`: {}", file.path, failures.join("; ")))
        .help("check the network and proxy (HTTPS_PROXY); or download it elsewhere and use `curette models add`"))
}

fn download(url: &str) -> std::result::Result<Box<dyn Read>, ureq::Error> {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(ANSWER_LIMIT))
        .timeout_recv_response(Some(ANSWER_LIMIT))
        .timeout_global(Some(DOWNLOAD_LIMIT))
        .user_agent(concat!("curette/", env!("CARGO_PKG_VERSION")))
        .build();
    let (agent, url) = (ureq::Agent::new_with_config(config), url.to_owned());
    let ask = move |from: u64| -> std::result::Result<Body, ureq::Error> {
        let request = agent.get(&url);
        let response = if from == 0 { request } else { request.header("range", format!("bytes={from}-")) }.call()?;
        let start = if response.status() == ureq::http::StatusCode::PARTIAL_CONTENT { from } else { 0 };
        Ok(Body { reader: Box::new(response.into_body().into_reader()), start })
    };
    Ok(Box::new(Resuming::new(ask(0)?, move |from| ask(from).map_err(std::io::Error::other))))
}
