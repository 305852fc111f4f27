//! The dataset card: a folder that can be published as it is, with `README.md` (Hugging Face), `croissant.json` and the table's files.
//!
//! The card names every Parquet file of the newest version, because files of older versions may lie in the same folder and are no part of the
//! dataset. A table below the card's folder is named where it lies; another one is linked into `data/`, which takes no space. What can go wrong:
//! another disk, where links are not possible; a `README.md` of somebody else, which is never overwritten; a table in a store.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use curette_models::store::hash_file;

use super::charts::{count, number, percent};
use super::distributions::Shape;
use super::escape::{markdown, yaml};
use super::{Report, croissant, features, utc};
use crate::sources::files::is_url;

/// Says that a card may be replaced.
const MARK: &str = "<!-- Made by `curette report`, which may replace it. -->";
/// More files than this are not named one by one.
const MAX_FILES: usize = 10_000;
/// Where files of a table elsewhere are linked.
const DATA: &str = "data";

/// What is asked of a card.
#[derive(Debug, Clone)]
pub struct CardOptions {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// The licence of the dataset: an id of Hugging Face's list, such as `cc-by-4.0`.
    pub licence: Option<String>,
}

/// A file of the dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardFile {
    /// Below the card's folder, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Of its content.
    pub sha256: String,
}

/// What was written, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Files of the dataset.
    pub files: usize,
    /// Other files in `data/`, which are no part of it.
    pub strangers: usize,
}

/// Writes the card of a report's table.
pub fn write(report: &Report, options: &CardOptions) -> Result<Written, String> {
    let folder = &options.folder;
    let named = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    std::fs::create_dir_all(folder).map_err(|e| named(folder, e))?;
    let folder = folder.canonicalize().map_err(|e| named(folder, e))?;
    let readme = folder.join("README.md");
    match std::fs::read_to_string(&readme) {
        Ok(text) if !text.contains(MARK) => {
            return Err(format!("{} was not made by curette and stays: name another folder, or move it", readme.display()));
        }
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(&readme, e)),
        _ => {}
    }
    let files = place_files(report, &folder)?;
    let licence = options.licence.as_deref().unwrap_or("unknown");
    let text = card(report, &files, licence);
    replace(&readme, text.as_bytes())?;
    let document = serde_json::to_string_pretty(&croissant::croissant(report, &files, licence)).map_err(|e| e.to_string())?;
    replace(&folder.join("croissant.json"), format!("{document}\n").as_bytes())?;
    let ours: Vec<&str> = files.iter().filter_map(|f| f.path.strip_prefix("data/")).collect();
    let others = |entry: &io::Result<std::fs::DirEntry>| {
        entry.as_ref().is_ok_and(|e| !ours.contains(&e.file_name().to_string_lossy().as_ref()))
    };
    let strangers =
        if ours.is_empty() { 0 } else { std::fs::read_dir(folder.join(DATA)).map_or(0, |all| all.filter(others).count()) };
    Ok(Written { files: files.len(), strangers })
}

/// The old file or the new one, never a part.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let named = |e: io::Error| format!("{}: {e}", path.display());
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::Builder::new().prefix(".curette-").tempfile_in(folder).map_err(named)?;
    io::Write::write_all(&mut part, bytes).map_err(named)?;
    // A temporary file is for its owner alone; this one is for whoever may read the folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        part.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(named)?;
    }
    part.persist(path).map_err(|e| named(e.error))?;
    Ok(())
}

fn place_files(report: &Report, folder: &Path) -> Result<Vec<CardFile>, String> {
    let place = &report.subject.place;
    if is_url(place) {
        return Err(format!("{place} is in a store: copy the table to a disk for a card"));
    }
    let files = report.subject.table.files().map_err(|e| e.to_string())?;
    match files.len() {
        0 => return Err("the table has no rows, so there is nothing to describe".into()),
        n if n > MAX_FILES => {
            return Err(format!(
                "the table has {n} files, a card names at most {MAX_FILES}: write larger ones (`target_shard_bytes`)"
            ));
        }
        _ => {}
    }
    let table = Path::new(place);
    let below = table.strip_prefix(folder).ok().map(|path| path.to_string_lossy().into_owned());
    if below.is_none() {
        std::fs::create_dir_all(folder.join(DATA)).map_err(|e| format!("{}: {e}", folder.join(DATA).display()))?;
    }
    let mut out = Vec::with_capacity(files.len());
    for file in files {
        let from = table.join(&file.name);
        let path = match below.as_deref() {
            Some("") => file.name.clone(),
            Some(below) => format!("{below}/{}", file.name),
            None => {
                let path = format!("{DATA}/{}", file.name);
                link(&from, &folder.join(&path))?;
                path
            }
        };
        let (sha256, bytes) = hash_file(&from).map_err(|e| e.message)?;
        out.push(CardFile { path, bytes, sha256 });
    }
    Ok(out)
}

fn link(from: &Path, to: &Path) -> Result<(), String> {
    match std::fs::hard_link(from, to) {
        // A file of a table never changes under its name.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(format!(
            "{} cannot be linked to {}: {e}; name a folder on the table's disk, or the output folder itself",
            from.display(),
            to.display()
        )),
        Ok(()) => Ok(()),
    }
}

/// A sentence or two.
pub fn summary(report: &Report) -> String {
    let s = &report.subject;
    let plan: String = s.state.plan_hash.as_deref().unwrap_or_default().chars().take(12).collect();
    format!(
        "{} rows of the table {}, made by curette (plan {plan}, generation {}, version {}).",
        report.rows,
        s.name(),
        s.state.generation,
        s.state.version
    )
}

/// The text of `README.md`.
pub fn card(report: &Report, files: &[CardFile], licence: &str) -> String {
    let mut out = front_matter(report, files, licence);
    let mut add = |text: String| out.push_str(&text);
    add(format!("\n{MARK}\n\n# {}\n\n{}\n", markdown(&report.title), markdown(&summary(report))));
    add("\n```python\nfrom datasets import load_dataset\n\n".into());
    add("rows = load_dataset(\"THIS_FOLDER_OR_REPOSITORY\", split=\"train\")\n```\n".into());
    add("\n## How it was made\n\n".into());
    let stage = |s: &curette_engine::run::funnel::Stage| {
        let c = &s.counts;
        let there = s.reference_out.map_or_else(|| "–".to_owned(), count);
        let cells = [count(c.rows_in), count(c.passed), count(c.rows_out), percent(c.passed, c.rows_in), there];
        format!("| {} | {} | {} |\n", markdown(&s.step), markdown(&s.operator), cells.join(" | "))
    };
    add("| step | operator | in | kept | out | share kept | out there |\n|---|---|---:|---:|---:|---:|---:|\n".into());
    report.stats.funnel.stages.iter().for_each(|s| add(stage(s)));
    if let Some(source) = &report.stats.funnel.reference {
        add(format!("\nThere: {}.\n", markdown(source)));
    }
    add("\n## What is in it\n\n| column | type |\n|---|---|\n".into());
    for field in report.subject.table.schema().fields() {
        add(format!("| {} | {} |\n", markdown(field.name()), markdown(&field.data_type().to_string())));
    }
    add(distributions(report));
    add(models(report));
    add(personal(report));
    add("\n## Versions\n\n| generation | version | plan | committed |\n|---:|---:|---|---|\n".into());
    for edition in report.subject.history.editions.iter().rev() {
        let s = &edition.state;
        let when = edition.committed_ms.map_or_else(|| "–".into(), utc);
        add(format!("| {} | {} | `{}` | {when} |\n", s.generation, s.version, s.plan_hash.as_deref().unwrap_or_default()));
    }
    out
}

fn front_matter(report: &Report, files: &[CardFile], licence: &str) -> String {
    let size = match report.rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        _ => "n>1B",
    };
    let schema = report.subject.table.schema();
    let has = |name: &str| schema.field_with_name(name).is_ok();
    let mut out = format!("---\npretty_name: {}\nlicense: {}\nsize_categories:\n- {size}\n", yaml(&report.title), yaml(licence));
    if has("caption") && (has("clip") || has("video_uri")) {
        out += "task_categories:\n- text-to-video\n";
    }
    out += "tags:\n- curette\n";
    if has("video_uri") {
        out += "- video\n";
    }
    out += "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n";
    for file in files {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "    - {}", yaml(&file.path));
    }
    if let Some(features) = features::huggingface(schema, "  ") {
        out += "dataset_info:\n  features:\n";
        out += &features;
    }
    out + "---\n"
}

fn distributions(report: &Report) -> String {
    if report.distributions.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n| what | unit | values | smallest | mean | largest |\n|---|---|---:|---:|---:|---:|\n");
    for d in &report.distributions {
        let cell = |v: Option<f64>| v.map_or_else(|| "–".to_owned(), number);
        let line = match &d.shape {
            Shape::Bins(h) => [count(h.values), cell(h.min), cell(h.mean), cell(h.max)].join(" | "),
            Shape::Counts(counts, others) => {
                let total = counts.iter().map(|c| c.1).sum::<u64>() + others;
                let most: Vec<String> =
                    counts.iter().take(5).map(|(v, n)| format!("{} {}", markdown(v), percent(*n, total))).collect();
                format!("{} | {} | | ", count(total), most.join(", "))
            }
        };
        let _ = writeln!(out, "| {} | {} | {line} |", markdown(d.title), markdown(d.unit));
    }
    out
}

fn models(report: &Report) -> String {
    let p = &report.provenance;
    let mut out = String::new();
    if !p.models.is_empty() {
        out += "\n## Models\n\n| step | model | licence | source |\n|---|---|---|---|\n";
        for m in &p.models {
            let cells = [&m.place, &m.name, &m.licence, &m.source].map(|t| markdown(t));
            let _ = writeln!(out, "| {} |", cells.join(" | "));
        }
    }
    for prompt in &p.prompts {
        let _ = write!(out, "\nPrompt of {}:\n\n> {}\n", markdown(&prompt.place), markdown(&prompt.text));
    }
    if let Some(licences) = p.named.iter().find(|n| n.column == "license") {
        out += "\n## Licences of the sources\n\nAs the platforms state them, which proves nothing:\n\n| licence | rows |\n|---|---:|\n";
        for (value, rows) in &licences.values {
            let _ = writeln!(out, "| {} | {} |", markdown(value), count(*rows));
        }
        for (value, rows) in [("others", licences.others), ("none stated", licences.missing)] {
            if rows > 0 {
                let _ = writeln!(out, "| ({value}) | {} |", count(rows));
            }
        }
    }
    out
}

fn personal(report: &Report) -> String {
    let schema = report.subject.table.schema();
    let has = |name: &str| schema.field_with_name(name).is_ok();
    let mut out = String::from("\n## Personal data\n\nPictures, speech and titles may show or name people. ");
    out += match has("phi_kinds") {
        true => {
            "Text on screen was searched for names, dates and ids of patients; `phi_kinds` says what was found, never the text. "
        }
        false => "Text on screen was not searched for names, dates and ids of patients (`phi_text`). ",
    };
    if has("text_on_screen") {
        out += "The column `text_on_screen` holds what was read from the frames, in clear. ";
    }
    out + "Nobody has looked at every row.\n"
}
