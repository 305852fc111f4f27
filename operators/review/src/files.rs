//! Folders in the place of a pipeline's output: generated videos, those of other models beside them, and what `curette label` laid out.
//!
//! A generated video is named by its prompt, as VBench names them, so videos of two models belong together by their names. What can go wrong: a folder
//! without videos, or two without a name in common.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::draw::Draw;
use crate::mode::Mode;
use crate::rating::Outcome;
use crate::rows::Media;
use crate::session::{Ask, Drawn, Item, Source};
use crate::{ReviewError, key};

/// File names that are videos.
const EXTENSIONS: [&str; 7] = ["mp4", "m4v", "webm", "mov", "mkv", "ogv", "avi"];
/// What `curette label` lays out.
const LAID_OUT: [&str; 2] = ["sampling.json", "rows.jsonl"];

/// Videos of a folder by their names without extension, and a hash of names, sizes and times.
fn videos(folder: &Path) -> Result<(BTreeMap<String, PathBuf>, String), ReviewError> {
    let err = |e: &dyn std::fmt::Display| ReviewError::at(folder.display(), e);
    let mut found = BTreeMap::new();
    let mut said = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| err(&e))? {
        let path = entry.map_err(|e| err(&e))?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if !EXTENSIONS.contains(&extension.as_str()) || !path.is_file() {
            continue;
        }
        let full = path.canonicalize().map_err(|e| err(&e))?;
        let about = full.metadata().map_err(|e| err(&e))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let changed = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        said.push(format!("{stem}.{extension} {} {}", about.len(), changed.as_micros()));
        if let Some(before) = found.insert(stem.clone(), full) {
            let what = format!("has two videos called `{stem}` ({} is one); their names must differ", before.display());
            return Err(err(&what));
        }
    }
    if found.is_empty() {
        return Err(err(&format!("holds no videos ({})", EXTENSIONS.join(", "))));
    }
    said.sort();
    let parts: Vec<&str> = said.iter().map(String::as_str).collect();
    Ok((found, blake3::Hash::from_bytes(key(0, &parts)).to_hex().to_string()))
}

fn whole(path: &Path) -> Media {
    Media::File { path: path.to_string_lossy().into_owned(), start_us: None, end_us: None }
}

fn drawn<T: Clone>(all: &BTreeMap<String, T>, ask: &Ask) -> Vec<(String, T)> {
    let mut draw = Draw::new(ask.count, ask.seed);
    all.iter().for_each(|(id, what)| draw.offer(id, what.clone()));
    draw.done()
}

/// Videos of a folder.
pub fn of_videos<'a>(folder: &Path, ask: &'a Ask) -> Result<Source<'a>, ReviewError> {
    let (all, hash) = videos(folder)?;
    let draw = Box::new(move || -> Result<Drawn, ReviewError> {
        let (population, chosen) = (all.len() as u64, drawn(&all, ask));
        let sample = chosen.len() as u64;
        let item = |(id, path): (String, PathBuf)| Item {
            details: [("prompt".to_owned(), json!(id))].into_iter().collect(),
            id,
            outcome: Outcome::Given,
            reason: None,
            opponent: None,
            media: vec![whole(&path)],
            sample,
            population,
        };
        Ok((chosen.into_iter().map(item).collect(), Vec::new()))
    });
    Ok(Source { plan_hash: hash, draw })
}

/// Our videos against those of others.
pub fn of_pairs<'a>(ours: &Path, ask: &'a Ask) -> Result<Source<'a>, ReviewError> {
    let (mine, mut hash) = videos(ours)?;
    let mut all = Vec::new();
    for (name, folder) in &ask.against {
        let (theirs, of) = videos(folder)?;
        hash = blake3::Hash::from_bytes(key(0, &[&hash, name, &of])).to_hex().to_string();
        let both: BTreeMap<String, (PathBuf, PathBuf)> =
            mine.iter().filter_map(|(id, a)| theirs.get(id).map(|b| (id.clone(), (a.clone(), b.clone())))).collect();
        if both.is_empty() {
            let what = format!("has no video with the name of one in {}: videos of one prompt have one name", ours.display());
            return Err(ReviewError::at(folder.display(), what));
        }
        all.push((name.clone(), theirs.len(), both));
    }
    let draw = Box::new(move || -> Result<Drawn, ReviewError> {
        let (mut items, mut notes) = (Vec::new(), Vec::new());
        for (name, theirs, both) in all {
            if both.len() < mine.len() || both.len() < theirs {
                notes.push(format!(
                    "{name}: {} prompts of {} of ours and {theirs} of theirs have both videos",
                    both.len(),
                    mine.len()
                ));
            }
            let (population, chosen) = (both.len() as u64, drawn(&both, ask));
            let sample = chosen.len() as u64;
            items.extend(chosen.into_iter().map(|(id, (a, b))| Item {
                details: [("prompt".to_owned(), json!(id))].into_iter().collect(),
                id,
                outcome: Outcome::Given,
                reason: None,
                opponent: Some(name.clone()),
                media: vec![whole(&a), whole(&b)],
                sample,
                population,
            }));
        }
        Ok((items, notes))
    });
    Ok(Source { plan_hash: hash, draw })
}

/// Whether `curette label` has laid something out here.
pub fn is_laid_out(folder: &Path) -> bool {
    LAID_OUT.iter().all(|name| folder.join(name).is_file())
}

/// The classes that a folder was laid out for.
pub fn classes_of(folder: &Path) -> Result<Vec<String>, ReviewError> {
    let path = folder.join(LAID_OUT[0]);
    let err = |e: &dyn std::fmt::Display| ReviewError::at(path.display(), e);
    let settings: Value = serde_json::from_slice(&std::fs::read(&path).map_err(|e| err(&e))?).map_err(|e| err(&e))?;
    let classes = settings["classes"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Ok(classes.collect())
}

/// What `curette label` laid out: frames, or records of a table.
pub fn of_laid_out<'a>(folder: &Path, ask: &'a Ask) -> Result<Source<'a>, ReviewError> {
    let path = folder.join(LAID_OUT[1]);
    let err = |e: &dyn std::fmt::Display| ReviewError::at(path.display(), e);
    let bytes = std::fs::read(&path).map_err(|e| err(&e))?;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let mut rows: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for (at, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let row: Map<String, Value> = serde_json::from_slice(line).map_err(|e| err(&format!("line {}: {e}", at + 1)))?;
        let sample = row.get("sample").and_then(Value::as_str).map(str::to_owned);
        rows.insert(sample.ok_or_else(|| err(&format!("line {} has no `sample`", at + 1)))?, row);
    }
    let folder = folder.canonicalize().map_err(|e| err(&e))?;
    let draw = Box::new(move || -> Result<Drawn, ReviewError> {
        let population = rows.len() as u64;
        let mut draw = Draw::new(ask.count, ask.seed);
        for (id, row) in &rows {
            match &ask.nearest {
                Some((column, target)) => {
                    let value = row.get(column).and_then(Value::as_str).and_then(|v| v.parse::<f64>().ok());
                    draw.offer_by(value.map_or(f64::NAN, |v| (v - target).abs()), id, row);
                }
                None => draw.offer(id, row),
            }
        }
        let chosen = draw.done();
        let sample = chosen.len() as u64;
        let item = |(id, row): (String, &Map<String, Value>)| Item {
            media: picture(&folder, row).into_iter().collect(),
            details: row.iter().filter(|(name, _)| *name != "picture").map(|(n, v)| (n.clone(), v.clone())).collect(),
            id,
            outcome: Outcome::Given,
            reason: None,
            opponent: None,
            sample,
            population,
        };
        Ok((chosen.into_iter().map(item).collect(), Vec::new()))
    });
    Ok(Source { plan_hash: hash, draw })
}

/// The picture of a row, if it lies below the folder.
fn picture(folder: &Path, row: &Map<String, Value>) -> Option<Media> {
    let name = Path::new(row.get("picture")?.as_str()?);
    name.components().all(|part| matches!(part, Component::Normal(_))).then(|| whole(&folder.join(name)))
}

/// Which modes a folder of videos can be rated in.
pub fn fits(mode: Mode, pairs: bool) -> Result<(), String> {
    match (mode, pairs) {
        (Mode::Pairwise, true) | (Mode::Warping | Mode::Audit | Mode::Label | Mode::Caption, false) => Ok(()),
        (Mode::Pairwise, false) => Err("pairs need --against NAME=FOLDER with the other model's videos".into()),
        (other, true) => Err(format!("--against is for --mode pairwise, not {other}")),
    }
}
