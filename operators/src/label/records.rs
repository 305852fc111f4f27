//! Rows of a table, laid out with the columns that help to decide and, for clips, with a picture of several frames.
//!
//! A clip is decoded from its video (`video_uri`, from `start_us` to `end_us`), else from its own file (`clip_uri`), else from its bytes in the row (`clip`). What can go wrong: none of
//! them can be read; the row is told and left out.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::choose::choose;
use super::folder::Folder;
use super::source::{Clip, Row, Table, picture_of};
use super::{JPEG_QUALITY, LabelError, LaidOut, Settings, failed, write_whole};
use crate::media::{Frame, MediaError, to_jpeg};

/// Columns of the sheet that no column of the table may be called.
const OWN: [&str; 8] = ["sample", "picture", "video_id", "start_seconds", "end_seconds", "time_us", "group", "label"];

/// Lays out `count` rows of a table.
pub fn records(settings: &Settings, table: &Table, count: usize, folder: &Path) -> Result<LaidOut, LabelError> {
    if let Some(taken) = table.show.iter().find(|name| OWN.contains(&name.as_str())) {
        let what = format!("the sheet has a column `{taken}` of its own, so it cannot show the table's; rename that one");
        return Err(LabelError { path: folder.to_path_buf(), what });
    }
    let candidates = table.candidates()?;
    let (pictures, spans) = (table.pictures > 0, table.has_spans()?);
    settings.claim(folder)?;
    let mut columns = vec!["sample"];
    columns.extend(pictures.then_some("picture"));
    columns.push("video_id");
    columns.extend(spans.then_some(["start_seconds", "end_seconds"]).into_iter().flatten());
    columns.extend(table.show.iter().map(String::as_str));
    columns.extend(["group", "label"]);
    let mut laid = Folder::open(folder, &columns)?;
    let mut wanted = Vec::new();
    for i in choose(&candidates, count, settings.seed) {
        if !laid.has(&candidates[i].id)? {
            wanted.push(i);
        }
    }
    let names: HashSet<&str> = wanted.iter().map(|&i| candidates[i].id.as_str()).collect();
    let mut rows = table.rows(&names)?;
    let mut out = Out { folder, laid, skipped: Vec::new() };
    // Why their files cannot be read, of rows whose clip may be in the row itself.
    let mut without = HashMap::new();
    for i in wanted {
        let candidate = &candidates[i];
        let Some(row) = rows.remove(&candidate.id) else {
            out.skipped.push(format!("{}: is gone: the table changed meanwhile", candidate.id));
            continue;
        };
        match pictures.then(|| picture_of(&row.clip, table.pictures)) {
            Some(Err(e)) if table.has_bytes()? => {
                rows.insert(candidate.id.clone(), row);
                without.insert(candidate.id.as_str(), (candidate.group.as_str(), e));
            }
            picture => out.add(&candidate.id, &candidate.group, row, picture)?,
        }
    }
    if !without.is_empty() {
        let names: HashSet<&str> = without.keys().copied().collect();
        table.each_bytes(&names, &mut |id, clip| {
            let (Some(row), Some((group, unread))) = (rows.remove(id), without.remove(id)) else { return Ok(()) };
            let picture = clip.map_or(Err(unread), |clip| picture_of(&Clip::Bytes(clip), table.pictures));
            out.add(id, group, row, Some(picture))
        })?;
    }
    Ok(LaidOut::of(&out.laid, out.skipped))
}

/// Where rows go.
struct Out<'a> {
    folder: &'a Path,
    laid: Folder,
    skipped: Vec<String>,
}

impl Out<'_> {
    fn add(&mut self, id: &str, group: &str, row: Row, picture: Option<Result<Frame, MediaError>>) -> Result<(), LabelError> {
        let mut cells = vec![id.to_owned()];
        match picture.transpose() {
            Ok(None) => {}
            Ok(Some(frame)) => {
                let pictures = self.folder.join("frames");
                std::fs::create_dir_all(&pictures).map_err(|e| failed(&pictures, e))?;
                let name = format!("{}.jpg", &blake3::hash(id.as_bytes()).to_hex()[..16]);
                let path = pictures.join(&name);
                write_whole(&path, &to_jpeg(&frame, JPEG_QUALITY).map_err(|e| failed(&path, e))?)?;
                cells.push(format!("frames/{name}"));
            }
            Err(e) => {
                self.skipped.push(format!("{id}: {e}"));
                return Ok(());
            }
        }
        cells.push(row.video_id);
        cells.extend(row.span_seconds.into_iter().flatten());
        cells.extend(row.shown);
        cells.push(group.to_owned());
        self.laid.add(cells)
    }
}
