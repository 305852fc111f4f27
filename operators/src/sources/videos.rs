//! The `videos` source: one row per video, from a folder, a pattern, an object store or a manifest, with what lies next to it.
//!
//! Why sidecars are read here and not in a step of their own: title, tags and transcript decide most of what is dropped, so they must be there
//! before anything costly. Their identity is part of the plan (through the item's payload), as the video's is.
//!
//! What can go wrong: files vanish or change between planning and reading, sidecars are damaged. Each is a problem of its row with a code (see
//! [`Videos`]), never of the run. Only what makes the list itself impossible ends the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use curette_engine::diag::Code;
use curette_engine::operator::{
    BuildContext, Columns, InputItem, Kind, Operator, OperatorError, Paths, Pool, Runtime, Source, StepCheck, Task,
};
use curette_engine::verdict::{Problem, Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::files::{FileError, FileStat, Files, is_url, is_web, split_name};
use super::info_json::{self, Info, MAX_INFO_JSON_BYTES};
use super::metadata::{self, Metadata};
use super::sidecars::{self, Origin, Role};
use super::{listing, manifest};
use crate::text::{self, MAX_TRANSCRIPT_BYTES, TimedText};

/// Lists videos and reads what lies next to them: yt-dlp's `.info.json` and transcripts (`.vtt`, `.srt`).
///
/// Give either `path` or `manifest`. Videos are ordered by their id. The video itself is not opened here.
///
/// Sidecars are found by the video's name without its extension: `NAME.info.json`, `NAME.LANGUAGE.vtt`, `NAME.LANGUAGE.srt`, `NAME.vtt`, `NAME.srt`.
/// Of several transcripts the best is taken: manual before automatic, then English, then WebVTT. `LANGUAGE` is a tag such as `en`, `pt-BR`, `zh-Hans`
/// or `en-orig`; `talk.en.srt` belongs to `talk.en.mp4` where there is one, else to `talk.mp4`. Rolling duplicates of automatic captions are removed.
/// A missing sidecar or field is null.
///
/// The address of each video (`video_uri`) is part of the plan, however `path` spells it: after a corpus was moved, a run is refused (or begins a new
/// version) instead of mixing addresses that are dead with new ones. So is each file's size and time of last change (in a store: size and etag), and
/// that of its sidecars: what tells content apart without reading it. A file that was only touched, or copied without its times (`cp -p` and
/// `rsync -a` keep them), counts as changed.
///
/// A manifest may name videos on web servers (`http://`, `https://`). They are read by ranges when they are decoded, never downloaded whole, and have
/// no sidecars. The server must support `Range`; it is asked for each file's length and etag (else the time of last change) when inputs are listed,
/// and again when they are read.
///
/// Of a folder, files without a video extension are left out; `curette plan` and the report of a run count them by extension. Folders that cannot be
/// read are left out, with a warning and their number.
///
/// Unmeasured codes: `file_missing` (it was there when the inputs were listed, or a manifest names it), `input_changed` (size, time or etag
/// differ from the plan: plan again), `not_a_file`, `file_unreadable`, `bad_address` (also: the name of the file is not UTF-8), `bad_info_json`,
/// `bad_transcript`, of web servers `access_denied`, `ranges_refused` and `fetch_failed`, `file_too_large` (an info file above 64 MiB, a transcript
/// above 16 MiB). With `on_unmeasured = "keep"` the row goes on with what could be read.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Videos {
    /// A video, a folder (taken with all folders below it), a pattern (`clips/**/*.mp4`) or a URL (`s3://bucket/prefix`, also with a pattern).
    /// Relative paths start at the pipeline file. Names that start with `.` are left out.
    #[serde(default)]
    pub path: Option<String>,
    /// A Parquet, JSON Lines or CSV file with a column `uri` (or `path`; relative ones start at the manifest's folder; URLs are `s3://`, `http://`
    /// and `https://`) and optionally `id`, `title`, `description`, `channel_id`, `channel`, `tags` (in CSV separated by `;`), `upload_date`,
    /// `webpage_url`, `license`, `source_id`. Its values win over those of sidecars.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Take only files with these extensions. Default: of a folder all usual video extensions, of a pattern everything that it matches except
    /// sidecars.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Take only the first so many, in the order of their ids.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// Read `.info.json` and transcripts next to each video.
    #[serde(default = "yes")]
    pub sidecars: bool,
}

fn yes() -> bool {
    true
}

impl Operator for Videos {
    const NAME: &'static str = "videos";
    const KIND: Kind = Kind::Source;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str = "[step.videos]\ntype = \"videos\"\npath = \"corpus\"\n";

    fn columns(&self) -> Columns {
        let text = |columns: Columns, name: &str, doc: &str| columns.add(name, DataType::Utf8, doc);
        let mut columns = Columns::none()
            .add_id("video_id", "The manifest's id, else the path below the listed folder, with `/`.")
            .add("video_uri", DataType::Utf8, "Absolute path or URL (keys as the store names them, not percent-encoded).")
            .add("video_bytes", DataType::Int64, "File size in bytes.");
        columns = text(columns, "source_id", "Id on the platform that it came from (`id` of the info file).");
        columns = text(columns, "title", "Title.");
        columns = text(columns, "description", "Description.");
        columns = text(columns, "channel_id", "Channel id, else the uploader's id.");
        columns = text(columns, "channel", "Channel name, else the uploader's name.");
        columns = columns.add("tags", string_list(), "Tags as the uploader gave them.");
        columns = text(columns, "upload_date", "Upload date in UTC, `YYYYMMDD`.");
        columns = text(columns, "webpage_url", "Address of the page that it came from.");
        columns = text(columns, "license", "Licence as the platform states it, free text.");
        columns = text(columns, "transcript_kind", "`manual` or `automatic`; null without transcript.");
        columns = text(columns, "transcript_language", "Language as in the transcript's file name.");
        columns.add(
            "transcript",
            text::transcript_type(),
            "Words (or lines, where words are not timed) with their times in microseconds.",
        )
    }

    fn pool(&self) -> Pool {
        let remote = self.manifest.is_some() || self.path.as_deref().is_some_and(is_url);
        if remote { Pool::Net } else { Pool::Cpu }
    }

    fn rows_per_task(&self) -> usize {
        16
    }

    fn validate(&self, check: &mut dyn StepCheck) {
        for (key, given) in [("path", &self.path), ("manifest", &self.manifest)] {
            let Some(given) = given else { continue };
            if let Some((scheme, _)) = given.split_once("://").filter(|(scheme, _)| !matches!(*scheme, "s3" | "file")) {
                let message = format!("videos cannot be listed at `{scheme}://`");
                let help = match is_web(given) {
                    true => "a web server has no list of its files: name their URLs in the column `uri` of a local `manifest`",
                    false => "known are local paths, file:// and s3://",
                };
                check.error(Some(key), Code::OutOfRange, message, Some(help.into()));
            } else if given.trim().is_empty() {
                let help = "`.` is the folder of the pipeline file".to_owned();
                check.error(Some(key), Code::OutOfRange, format!("`{key}` is empty"), Some(help));
            }
        }
        match (&self.path, &self.manifest) {
            (None, None) => check.error(
                None,
                Code::MissingKey,
                "neither `path` nor `manifest` is given".into(),
                Some("set `path` to a folder of videos, or `manifest` to a list of them".into()),
            ),
            (Some(_), Some(_)) => check.error(
                Some("manifest"),
                Code::Contradiction,
                "`path` and `manifest` are both given".into(),
                Some("keep one of them".into()),
            ),
            (None, Some(_)) if !self.extensions.is_empty() => check.error(
                Some("extensions"),
                Code::Contradiction,
                "`extensions` has no meaning with `manifest`, which names each file".into(),
                Some("remove it".into()),
            ),
            _ => {}
        }
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        let here = |path: &str| check.paths().resolve(path);
        if let Some(path) = self.path.as_deref().filter(|p| !is_url(p)) {
            let full = here(path);
            if !full.exists() && !path.contains(['*', '?', '[']) {
                let message = format!("`{}` does not exist", full.display());
                check.error(Some("path"), Code::NoInput, message, Some("relative paths start at the pipeline file".into()));
            } else if let Some(problem) = (!full.exists()).then(|| super::listing::pattern_problem(path)).flatten() {
                check.error(Some("path"), Code::OutOfRange, problem, None);
            }
        }
        let manifest = self.manifest.as_deref().filter(|p| !is_url(p)).map(|p| check.paths().resolve(p));
        if let Some(full) = manifest.filter(|full| !full.is_file()) {
            let message = format!("`{}` does not exist or is no file", full.display());
            check.error(Some("manifest"), Code::MissingFile, message, Some("relative paths start at the pipeline file".into()));
        }
    }

    /// The list of inputs is in the plan hash by itself: their ids, identities and addresses.
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["path", "manifest", "extensions", "limit"]
    }

    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        let given = self.path.as_ref().or(self.manifest.as_ref());
        let given =
            given.ok_or_else(|| OperatorError::new(format!("step {}: neither `path` nor `manifest` is given", context.step)))?;
        Ok(Runtime::Source(Box::new(VideoSource {
            step: context.step.to_string(),
            location: absolute(context.paths, given)?,
            config: self.clone(),
            files: context.resources.get(Files::default),
            notes: Mutex::default(),
        })))
    }
}

fn string_list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

pub(crate) fn absolute(paths: &Paths, given: &str) -> Result<String, OperatorError> {
    let given = given.strip_prefix("file://").unwrap_or(given);
    if is_url(given) {
        return Ok(given.to_string());
    }
    let full = std::path::absolute(paths.resolve(given)).map_err(|e| OperatorError::new(format!("`{given}`: {e}")))?;
    full.into_os_string().into_string().map_err(|p| OperatorError::new(format!("{} is not UTF-8", p.to_string_lossy())))
}

/// What reading an item needs besides its key.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Payload {
    /// Absolute path or URL. It becomes a column, so it must be in the plan hash.
    uri: String,
    /// What follows the stem, and identity: `en.vtt`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    sidecars: BTreeMap<String, String>,
    /// From the manifest.
    #[serde(default, skip_serializing_if = "is_default")]
    metadata: Metadata,
}

fn is_default(metadata: &Metadata) -> bool {
    *metadata == Metadata::default()
}

struct VideoSource {
    step: String,
    /// `path` or `manifest`, absolute.
    location: String,
    config: Videos,
    files: Arc<Files>,
    /// Of the last listing.
    notes: Mutex<Vec<String>>,
}

impl Source for VideoSource {
    fn list(&self) -> Result<Vec<InputItem>, OperatorError> {
        let mut items = if self.config.manifest.is_some() { self.list_manifest() } else { self.list_path() }
            .map_err(|e| OperatorError { message: format!("step {}: {}", self.step, e.message), help: e.help })?;
        items.sort_by(|a, b| a.key.cmp(&b.key));
        if let Some(limit) = self.config.limit {
            items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        Ok(items)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn read(&self, items: &[InputItem], task: &Task) -> Result<Processed, OperatorError> {
        let mut rows = Vec::with_capacity(items.len());
        for item in items {
            if task.is_cancelled() {
                rows.push(Row::of(String::new(), Some(Problem::new("cancelled", "the run is being stopped"))));
                continue;
            }
            let payload: Payload = serde_json::from_str(&item.payload).map_err(|e| {
                OperatorError::new(format!("step {}: the plan's entry for `{}` is damaged: {e}", self.step, item.key))
            })?;
            rows.push(self.read_one(item, payload));
        }
        Ok(to_columns(items, &rows))
    }
}

impl VideoSource {
    fn list_path(&self) -> Result<Vec<InputItem>, OperatorError> {
        let listing = listing::list(&self.files, &self.location, &self.config.extensions)?;
        *self.notes.lock().unwrap_or_else(PoisonError::into_inner) = listing.note().into_iter().collect();
        let is_video = |name: &str| listing::is_video(name) || listing.keys.binary_search_by(|k| k.as_str().cmp(name)).is_ok();
        listing
            .keys
            .iter()
            .map(|key| {
                let uri = join(&listing.root, key);
                // A single file whose name starts with `.` is not in the listing.
                let stat = listing.files.get(key).cloned().unwrap_or_else(|| self.files.stat(&uri));
                let sidecars =
                    if self.config.sidecars { sidecars::find(key, &listing.files, &is_video) } else { BTreeMap::new() };
                item(key, &stat, &Payload { uri, sidecars, metadata: Metadata::default() })
            })
            .collect()
    }

    /// Where relative entries start: the folder that the manifest is named in, also if it is a link to elsewhere.
    fn manifest_folder(&self) -> String {
        let folder = split_name(&self.location).0;
        if is_url(folder) {
            return folder.to_string();
        }
        let folder = if folder.is_empty() { "/" } else { folder };
        std::fs::canonicalize(folder).ok().and_then(|p| p.into_os_string().into_string().ok()).unwrap_or(folder.to_string())
    }

    fn list_manifest(&self) -> Result<Vec<InputItem>, OperatorError> {
        let base = self.manifest_folder();
        let mut folders = BTreeMap::new();
        let mut items = Vec::new();
        let rows = manifest::read(&self.files, &self.location)?;
        let named: BTreeSet<String> = rows.iter().map(|row| join(&base, &row.uri)).collect();
        let web: Vec<&str> = named.iter().map(String::as_str).filter(|uri| is_web(uri)).collect();
        let web: BTreeMap<&str, _> = web.iter().copied().zip(self.files.stat_all(&web)).collect();
        for row in rows {
            let uri = join(&base, &row.uri);
            if let Some(stat) = web.get(uri.as_str()) {
                let key = row.key().to_string();
                items.push(item(&key, stat, &Payload { uri, sidecars: BTreeMap::new(), metadata: row.metadata })?);
                continue;
            }
            let (folder, name) = split_name(&uri);
            // Looking at each folder once instead of at each file finds the sidecars too.
            if !folders.contains_key(folder) {
                folders.insert(folder.to_string(), unless_store_fails(self.files.list(folder, 1))?.unwrap_or_default());
            }
            let beside = &folders[folder];
            let stat = match beside.get(name) {
                Some(stat) => stat.clone(),
                None => unless_store_fails(self.files.stat(&uri))?,
            };
            let is_video = |name: &str| listing::is_video(name) || named.contains(&format!("{folder}/{name}"));
            let sidecars = if self.config.sidecars { sidecars::find(name, beside, &is_video) } else { BTreeMap::new() };
            let key = row.key().to_string();
            items.push(item(&key, &stat, &Payload { uri, sidecars, metadata: row.metadata })?);
        }
        Ok(items)
    }

    fn read_one(&self, item: &InputItem, payload: Payload) -> Row {
        let mut row = Row::of(payload.uri.clone(), None);
        match self.files.stat(&row.uri) {
            Ok(stat) => {
                row.bytes = i64::try_from(stat.bytes).ok();
                if stat.identity != item.identity {
                    row.problem = Some(changed(&row.uri, &item.identity, &stat.identity));
                }
            }
            Err(error) => row.problem = Some(of_file(&error)),
        }
        if row.problem.is_some() {
            row.metadata = payload.metadata;
            return row;
        }
        let info = self.read_info(&row.uri, &payload).unwrap_or_else(|problem| {
            row.problem = Some(problem);
            Info::default()
        });
        match self.read_transcript(&row.uri, &payload, &info) {
            Ok(transcript) => row.transcript = transcript,
            Err(problem) => row.problem = row.problem.or(Some(problem)),
        }
        row.metadata = payload.metadata.or(info.metadata);
        row
    }

    fn read_info(&self, video: &str, payload: &Payload) -> Result<Info, Problem> {
        let Some((ending, identity)) = payload.sidecars.iter().find(|(e, _)| sidecars::role(e) == Some(Role::Info)) else {
            return Ok(Info::default());
        };
        let uri = format!("{}.{ending}", sidecars::stem(video));
        let bytes = self.read_sidecar(&uri, identity, MAX_INFO_JSON_BYTES)?;
        info_json::parse(&bytes).map_err(|reason| {
            Problem::new(
                "bad_info_json",
                format!("{uri} cannot be read: {reason}. Repair or remove it, or set `sidecars = false`"),
            )
        })
    }

    fn read_transcript(&self, video: &str, payload: &Payload, info: &Info) -> Result<Option<RowTranscript>, Problem> {
        let best = payload
            .sidecars
            .iter()
            .filter_map(|(ending, identity)| match sidecars::role(ending)? {
                Role::Transcript { language, vtt } => {
                    let origin = sidecars::origin(language.as_deref(), info);
                    Some((sidecars::rank(language.as_deref(), vtt, origin), language, origin, ending, identity))
                }
                Role::Info => None,
            })
            .min_by(|a, b| a.0.cmp(&b.0));
        let Some((_, language, origin, ending, identity)) = best else { return Ok(None) };
        let uri = format!("{}.{ending}", sidecars::stem(video));
        let bytes = self.read_sidecar(&uri, identity, MAX_TRANSCRIPT_BYTES)?;
        let transcript =
            text::read(&bytes).map_err(|e| Problem::new("bad_transcript", format!("{uri}: {e}. Repair or remove it")))?;
        let automatic = match origin {
            Origin::Manual => false,
            Origin::Automatic => true,
            Origin::Unknown => transcript.has_word_times,
        };
        Ok(Some(RowTranscript { language, kind: if automatic { "automatic" } else { "manual" }, items: transcript.items }))
    }

    fn read_sidecar(&self, uri: &str, identity: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        let (bytes, stat) = self.files.read(uri, limit).map_err(|e| of_file(&e))?;
        if stat.identity == identity { Ok(bytes) } else { Err(changed(uri, identity, &stat.identity)) }
    }
}

/// What is wrong with one file is left to its reading. A store that does not answer is not: the whole plan would be wrong.
fn unless_store_fails<T>(found: Result<T, FileError>) -> Result<Result<T, FileError>, OperatorError> {
    match found {
        Err(FileError::Unreadable { uri, reason }) if is_url(&uri) => {
            let help = "check the credentials and the endpoint (`AWS_*` environment variables)";
            Err(OperatorError::new(format!("{uri} cannot be looked at: {reason}")).help(help))
        }
        other => Ok(other),
    }
}

fn item(key: &str, stat: &Result<FileStat, FileError>, payload: &Payload) -> Result<InputItem, OperatorError> {
    let payload = serde_json::to_string(payload).map_err(|e| OperatorError::new(format!("`{key}`: {e}")))?;
    let (identity, cost) = match stat {
        Ok(stat) => (stat.identity.clone(), stat.bytes),
        Err(error) => (error.code().to_string(), 0),
    };
    Ok(InputItem { key: key.into(), identity, cost, payload })
}

/// `name` from a folder; absolute ones and URLs stay. Stores know no `..`, so it is resolved here; on disks it is left to the system, which
/// knows links.
fn join(folder: &str, name: &str) -> String {
    let name = name.strip_prefix("file://").unwrap_or(name);
    if name.starts_with('/') || is_url(name) {
        return name.to_string();
    }
    let Some((scheme, rest)) = folder.split_once("://") else {
        return format!("{folder}/{}", name.trim_start_matches("./"));
    };
    let mut parts: Vec<&str> = rest.split('/').collect();
    for part in name.split('/') {
        match part {
            "." => {}
            ".." if parts.len() > 1 => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("{scheme}://{}", parts.join("/"))
}

fn of_file(error: &FileError) -> Problem {
    Problem::new(error.code(), error.to_string())
}

fn changed(uri: &str, planned: &str, found: &str) -> Problem {
    Problem::new(
        "input_changed",
        format!("{uri} changed after the inputs were listed ({planned} then, {found} now); run again to plan anew"),
    )
}

/// One row before it becomes columns.
struct Row {
    uri: String,
    bytes: Option<i64>,
    metadata: Metadata,
    transcript: Option<RowTranscript>,
    problem: Option<Problem>,
}

struct RowTranscript {
    language: Option<String>,
    kind: &'static str,
    items: Vec<TimedText>,
}

impl Row {
    fn of(uri: String, problem: Option<Problem>) -> Row {
        Row { uri, bytes: None, metadata: Metadata::default(), transcript: None, problem }
    }
}

/// Columns in the order of [`Videos::columns`].
fn to_columns(items: &[InputItem], rows: &[Row]) -> Processed {
    let transcripts = || rows.iter().map(|row| row.transcript.as_ref());
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(items.iter().map(|item| &item.key))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.uri))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.bytes))),
    ];
    columns.extend(metadata::columns(rows.iter().map(|row| &row.metadata)));
    columns.push(Arc::new(StringArray::from_iter(transcripts().map(|t| t.map(|t| t.kind)))));
    columns.push(Arc::new(StringArray::from_iter(transcripts().map(|t| t.and_then(|t| t.language.as_deref())))));
    columns.push(Arc::new(text::transcript_column(transcripts().map(|t| t.map(|t| t.items.as_slice())))));
    let verdict = |row: &Row| row.problem.clone().map_or(Verdict::Pass, Verdict::Unmeasured);
    Processed::rows(rows.iter().map(verdict).collect(), columns)
}

#[cfg(test)]
#[path = "videos_tests.rs"]
mod tests;
