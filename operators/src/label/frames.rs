//! Frames of videos below a folder, laid out as pictures.

use std::path::Path;

use super::choose::choose;
use super::folder::Folder;
use super::source::Videos;
use super::{JPEG_QUALITY, LabelError, LaidOut, Settings, failed, write_whole};
use crate::media::to_jpeg;

/// Columns of the sheet.
const COLUMNS: [&str; 6] = ["sample", "picture", "video_id", "time_us", "group", "label"];

/// Lays out `count` frames of the videos below `settings.source`.
pub fn frames(settings: &Settings, count: usize, folder: &Path) -> Result<LaidOut, LabelError> {
    let videos = Videos::of(&settings.source);
    let (all, mut skipped) = videos.candidates()?;
    let candidates: Vec<_> = all.iter().map(|(_, c)| c.clone()).collect();
    settings.claim(folder)?;
    let pictures = folder.join("frames");
    std::fs::create_dir_all(&pictures).map_err(|e| failed(&pictures, e))?;
    let mut laid = Folder::open(folder, &COLUMNS)?;
    for i in choose(&candidates, count, settings.seed) {
        let (id, candidate) = &all[i];
        if laid.has(&candidate.id)? {
            continue;
        }
        let frame = match videos.picture(id) {
            Ok(frame) => frame,
            Err(e) => {
                skipped.push(format!("{}: {e}", candidate.id));
                continue;
            }
        };
        // Named by what it shows, so that a picture is found again whatever the count was.
        let name = format!("{}-{}.jpg", &blake3::hash(id.video.as_bytes()).to_hex()[..12], id.second);
        let path = pictures.join(&name);
        write_whole(&path, &to_jpeg(&frame, JPEG_QUALITY).map_err(|e| failed(&path, e))?)?;
        let time_us = (frame.pts_ns / 1000).to_string();
        laid.add(vec![candidate.id.clone(), format!("frames/{name}"), id.video.clone(), time_us, candidate.group.clone()])?;
    }
    Ok(LaidOut::of(&laid, skipped))
}
