//! Where the bytes of a video come from: a local file, or a remote one that is read by ranges.
//!
//! Whoever decodes asks for a pipeline's source, whoever looks at bytes for a reader; neither needs to know which it is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::fetch::shown;
use super::holes::Holes;
use super::limits::{MAX_FILE_BYTES, NO_PROGRESS, REMOTE_READ_WAIT};
use super::ranged_source::RangedSource;
use super::reader::make;
use super::remote::{Cursor, Remote};
use super::{MediaContext, MediaError};

/// What ended the reading of a remote file inside of a pipeline, where only its own errors are heard.
pub(crate) type Broken = Arc<Mutex<Option<MediaError>>>;

/// See the module's documentation.
#[derive(Clone)]
pub(crate) enum Input {
    File(PathBuf),
    Remote {
        remote: Arc<Remote>,
        /// What is left out of reading.
        holes: Option<Arc<Holes>>,
    },
}

/// A video that can be opened, and what names its content.
pub(crate) struct Local {
    /// Its bytes.
    pub input: Input,
    /// Changes when the content changes.
    pub identity: String,
}

/// Opens a path, a `file://` URL, or a URL of any other scheme.
pub(crate) fn localize(uri: &str, deadline: Instant, context: &MediaContext) -> Result<Local, MediaError> {
    let path = match uri.split_once("://") {
        None => PathBuf::from(uri),
        Some(("file", _)) => {
            let path = url::Url::parse(uri).ok().and_then(|u| u.to_file_path().ok());
            path.ok_or_else(|| MediaError::new("file_missing", format!("{} names no local file", shown(uri))))?
        }
        Some(_) => {
            let remote = context.plane.remotes.open(uri, &|| interrupted(deadline, context))?;
            let identity = remote.identity.clone();
            return Ok(Local { input: Input::Remote { remote, holes: None }, identity });
        }
    };
    let identity = match std::fs::metadata(&path) {
        Ok(m) => {
            let modified =
                m.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
            format!("{uri}|{}|{modified}", m.len())
        }
        Err(_) => uri.to_owned(), // sniffing says what is wrong
    };
    Ok(Local { input: Input::File(path), identity })
}

/// Why a call must not wait any longer.
pub(crate) fn interrupted(deadline: Instant, context: &MediaContext) -> Option<MediaError> {
    let late = || {
        let message = format!("not read after {} s; raise timeout_seconds", context.timeout.as_secs());
        MediaError::new("timeout", message)
    };
    context.check_cancelled().err().or_else(|| (Instant::now() > deadline).then(late))
}

impl Input {
    /// A local file.
    pub fn file(path: &Path) -> Self {
        Input::File(path.to_owned())
    }

    /// As messages name it.
    pub fn display(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Remote { remote, .. } => remote.shown.clone(),
        }
    }

    /// The remote file, if it is one.
    pub fn remote(&self) -> Option<&Arc<Remote>> {
        match self {
            Input::File(_) => None,
            Input::Remote { remote, .. } => Some(remote),
        }
    }

    /// How long nothing may come out of a pipeline that reads it.
    pub fn patience(&self) -> Duration {
        match self {
            Input::File(_) => NO_PROGRESS,
            Input::Remote { .. } => NO_PROGRESS + REMOTE_READ_WAIT, // the reading has its own, better reason
        }
    }

    /// The source of a pipeline, and where it tells why it ended.
    pub fn source(&self) -> Result<(gst::Element, Broken), MediaError> {
        match self {
            Input::File(path) => {
                let source = make("filesrc")?;
                source.set_property("location", path.to_string_lossy().as_ref());
                Ok((source, Broken::default()))
            }
            Input::Remote { remote, holes } => {
                let source = RangedSource::of(Arc::clone(remote), holes.clone());
                let broken = source.broken();
                Ok((source.upcast(), broken))
            }
        }
    }

    /// Its bytes, and how many there are.
    pub fn open<'a>(
        &self,
        deadline: Instant,
        context: &'a MediaContext<'a>,
    ) -> Result<(Box<dyn ReadSeek + 'a>, u64), MediaError> {
        let shown = self.display();
        let path = match self {
            Input::File(path) => path,
            Input::Remote { remote, .. } => {
                let reader = Ranged { remote: Arc::clone(remote), at: 0, cursor: Cursor::default(), deadline, context };
                return Ok((Box::new(reader), remote.len));
            }
        };
        let file = File::open(path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => MediaError::new("file_missing", format!("{shown} does not exist")),
            _ => MediaError::new("file_unreadable", format!("{shown} cannot be opened: {e}")),
        })?;
        let metadata = file.metadata().map_err(|e| self.unreadable(e))?;
        if !metadata.is_file() {
            return Err(MediaError::new("file_unreadable", format!("{shown} is not a regular file")));
        }
        if metadata.len() == 0 {
            return Err(MediaError::new("empty_file", format!("{shown} has 0 bytes: fetch it again")));
        }
        if metadata.len() > MAX_FILE_BYTES {
            let message = format!("{shown} has {} bytes, the limit is {MAX_FILE_BYTES}", metadata.len());
            return Err(MediaError::new("too_large", message));
        }
        Ok((Box::new(file), metadata.len()))
    }

    /// An error of what [`Input::open`] gave.
    pub fn unreadable(&self, error: std::io::Error) -> MediaError {
        match error.downcast::<MediaError>() {
            Ok(ours) => ours,
            Err(e) => MediaError::new("file_unreadable", format!("{} cannot be read: {e}", self.display())),
        }
    }
}

/// Bytes at any place.
pub(crate) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A remote file as a reader; its errors are those of the plane.
struct Ranged<'a> {
    remote: Arc<Remote>,
    at: u64,
    cursor: Cursor,
    deadline: Instant,
    context: &'a MediaContext<'a>,
}

impl Read for Ranged<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let length = (self.remote.len.saturating_sub(self.at)).min(out.len() as u64) as usize;
        let (deadline, context) = (self.deadline, self.context);
        let out = &mut out[..length];
        let read = self.remote.read_at(self.at, out, &mut self.cursor, &|| interrupted(deadline, context));
        read.map_err(std::io::Error::other)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Ranged<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.remote.len.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
