//! Clips with captions, and spools, in the forms that other trainers read.
//!
//! A folder is made aside and appears as a whole. Clips go to trainers that encode for themselves; a spool goes to those that read encoded samples
//! ([`Target::takes_spools`]). What can go wrong: clips that a tool would drop without a word, since their length or shape does not suit it; they are
//! exported and counted in [`Report::warnings`]. A clip that lacks what the form needs is left out and named.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::disk::{self, Result, TrainerError};
use crate::spool::{Sample, Spool};

mod fastvideo;
mod fastvideo_v0;
mod finetrainers;
mod hf;
mod musubi;
pub mod torch_file;
mod webdataset;

/// Longest file name without its extension.
const MAX_NAME: usize = 150;
/// Stands before the two hexadecimal digits of a byte that a file name had better not hold.
const ESCAPE: char = '~';
/// So many clips that were left out are named.
const MAX_NAMED: usize = 20;
/// Where the clips lie in an export.
pub(crate) const VIDEOS: &str = "videos";

/// Whose form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// FastVideo of July 2025, which trained with files of `torch.save`.
    FastvideoV0,
    /// FastVideo of today.
    Fastvideo,
    /// finetrainers.
    Finetrainers,
    /// musubi-tuner.
    Musubi,
    /// WebDataset: tar files.
    Webdataset,
    /// Hugging Face `datasets`: a folder of videos with a table.
    Hf,
}

impl Target {
    /// All of them with their names on the command line.
    pub const ALL: [(Target, &'static str); 6] = [
        (Target::FastvideoV0, "fastvideo-v0"),
        (Target::Fastvideo, "fastvideo"),
        (Target::Finetrainers, "finetrainers"),
        (Target::Musubi, "musubi"),
        (Target::Webdataset, "webdataset"),
        (Target::Hf, "hf"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Target::ALL.into_iter().find(|(target, _)| *target == self).map_or("", |(_, name)| name)
    }

    /// Whether the tool reads encoded samples in a form that is known; the others encode for themselves.
    pub fn takes_spools(self) -> bool {
        matches!(self, Target::FastvideoV0 | Target::Fastvideo | Target::Musubi)
    }
}

/// A clip to export.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportClip {
    /// Names it.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// The mp4.
    pub bytes: Vec<u8>,
    /// Why there is none, if that is known.
    pub missing: Option<String>,
    /// Its pictures, as far as the table says.
    pub facts: crate::rules::ClipFacts,
    /// Its length, likewise.
    pub duration_s: Option<f64>,
}

/// A clip with all its numbers, and the name of its file.
pub(crate) struct Whole<'a> {
    clip: &'a ExportClip,
    name: String,
    frames: u64,
    height: u64,
    width: u64,
    fps: f64,
    duration_s: f64,
}

/// How it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Clips or samples that were exported.
    pub exported: u64,
    /// Clips that were left out: how many, and why for the first few.
    pub left_out: u64,
    /// See [`Report::left_out`].
    pub left_out_why: Vec<String>,
    /// What the tool will do to some of them, with their number.
    pub warnings: BTreeMap<String, u64>,
}

impl Report {
    fn leave_out(&mut self, id: &str, why: &str) {
        self.left_out += 1;
        if self.left_out_why.len() < MAX_NAMED {
            self.left_out_why.push(format!("`{id}`: {why}"));
        }
    }
    pub(crate) fn warn(&mut self, what: &str) {
        *self.warnings.entry(what.to_owned()).or_default() += 1;
    }
}

/// Takes clips one by one and writes the lists at the end.
pub(crate) trait ClipSink {
    /// Adds one.
    fn add(&mut self, clip: &Whole<'_>, report: &mut Report) -> Result<()>;
    /// All are there.
    fn finish(&mut self) -> Result<()>;
}

/// Exports clips to a folder that is not there yet.
pub fn export_clips(target: Target, clips: impl Iterator<Item = Result<ExportClip>>, out: &Path) -> Result<Report> {
    whole_folder(out, |half| {
        let mut sink: Box<dyn ClipSink> = match target {
            Target::FastvideoV0 => Box::new(fastvideo_v0::Clips::new(half)?),
            Target::Fastvideo => Box::new(fastvideo::Clips::new(half)?),
            Target::Finetrainers => Box::new(finetrainers::Clips::new(half)?),
            Target::Musubi => Box::new(musubi::Clips::new(half)?),
            Target::Webdataset => Box::new(webdataset::Clips::new(half)),
            Target::Hf => Box::new(hf::Clips::new(half)?),
        };
        let (mut report, mut names) = (Report::default(), std::collections::BTreeSet::new());
        for clip in clips {
            let clip = clip?;
            match whole(&clip) {
                Err(why) => report.leave_out(&clip.id, &why),
                Ok(clip) if !names.insert(clip.name.clone()) => {
                    return Err(TrainerError(format!("two clips are called `{}`; ids must be distinct", clip.clip.id)));
                }
                Ok(clip) => {
                    sink.add(&clip, &mut report)?;
                    report.exported += 1;
                }
            }
        }
        if report.exported == 0 {
            let why = report.left_out_why.first().map(|why| format!("; {why}")).unwrap_or_default();
            return Err(TrainerError(format!("there is no clip to export ({} were left out{why})", report.left_out)));
        }
        sink.finish()?;
        Ok(report)
    })
}

/// Exports the samples of a spool to a folder that is not there yet.
pub fn export_spool(target: Target, spool: &Spool, out: &Path) -> Result<Report> {
    if !target.takes_spools() {
        let with: Vec<&str> = Target::ALL.into_iter().filter(|(t, _)| t.takes_spools()).map(|(_, name)| name).collect();
        let what = format!("{} encodes clips itself and has no form for encoded ones", target.name());
        return Err(TrainerError(format!("{what}; export the table of clips, or to one of {}", with.join(", "))));
    }
    whole_folder(out, |half| {
        let report = match target {
            Target::FastvideoV0 => fastvideo_v0::samples(spool, half),
            Target::Musubi => musubi::samples(spool, half),
            _ => fastvideo::samples(spool, half),
        }?;
        match report.exported {
            0 => Err(TrainerError::new("the spool holds no samples")),
            _ => Ok(report),
        }
    })
}

/// Every sample of a spool with the name of its files, in order.
pub(crate) fn each_sample(spool: &Spool, mut each: impl FnMut(&Sample, &str) -> Result<()>) -> Result<u64> {
    let mut count = 0;
    for line in &spool.manifest.shards {
        for sample in spool.shard(line)? {
            each(&sample, &file_name(&sample.info.id))?;
            count += 1;
        }
    }
    Ok(count)
}

fn whole(clip: &ExportClip) -> std::result::Result<Whole<'_>, String> {
    let positive =
        |what: Option<f64>, name: &str| what.filter(|v| v.is_finite() && *v > 0.0).ok_or(format!("its {name} is not known"));
    let count = |what: Option<u64>, name: &str| what.filter(|v| *v > 0).ok_or(format!("its {name} is not known"));
    if clip.caption.trim().is_empty() {
        return Err("it has no caption".into());
    }
    if let Some(why) = &clip.missing {
        return Err(why.clone());
    }
    if clip.bytes.is_empty() {
        return Err("it has no video".into());
    }
    Ok(Whole {
        clip,
        name: file_name(&clip.id),
        frames: count(clip.facts.frames, "number of frames")?,
        height: count(clip.facts.height, "height")?,
        width: count(clip.facts.width, "width")?,
        fps: positive(clip.facts.fps, "frame rate")?,
        duration_s: positive(clip.duration_s, "duration")?,
    })
}

/// A file name for an id, another one for each. Dots go, since some readers take what follows the first for the extension.
pub fn file_name(id: &str) -> String {
    let mut name = String::new();
    for byte in id.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' => name.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(name, "{ESCAPE}{byte:02x}")),
        }
    }
    if name.len() <= MAX_NAME {
        return name;
    }
    let hash = disk::sha256(id.as_bytes());
    format!("{}{ESCAPE}{ESCAPE}{}", &name[..MAX_NAME - hash.len()], hash)
}

/// Captions stand on one line in some lists.
pub(crate) fn one_line(caption: &str) -> String {
    caption.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Makes a folder aside and lets it appear when `make` has succeeded.
fn whole_folder<T>(out: &Path, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    if out.exists() {
        return Err(TrainerError(format!("{} is there already; name a folder that is not, or remove it", out.display())));
    }
    let name = out.file_name().ok_or_else(|| TrainerError(format!("{} is no name for a folder", out.display())))?;
    let half = out.with_file_name(format!(".{}.tmp", name.to_string_lossy()));
    if half.exists() {
        fs::remove_dir_all(&half).map_err(|e| TrainerError::at("remove the half-made", &half, e))?;
    }
    disk::make_folder(&half)?;
    let made = make(&half);
    if made.is_err() {
        // What is left is removed by the next export; the error is what counts.
        let _ = fs::remove_dir_all(&half);
        return made;
    }
    fs::rename(&half, out).map_err(|e| TrainerError::at("make", out, e))?;
    disk::sync_parent(out)?;
    made
}

/// Writes `videos/NAME.mp4`; gives its path in the export.
pub(crate) fn write_video(folder: &Path, clip: &Whole<'_>) -> Result<String> {
    let name = format!("{VIDEOS}/{}.mp4", clip.name);
    write_file(&folder.join(&name), &clip.clip.bytes)?;
    Ok(name)
}

pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).map_err(|e| TrainerError::at("write", path, e))
}

/// A list that is written while the clips come.
pub(crate) struct ListFile {
    path: PathBuf,
    file: BufWriter<File>,
    items: u64,
}

impl ListFile {
    pub(crate) fn new(path: &Path) -> Result<ListFile> {
        let file = File::create(path).map_err(|e| TrainerError::at("write", path, e))?;
        Ok(ListFile { path: path.to_owned(), file: BufWriter::new(file), items: 0 })
    }
    pub(crate) fn text(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| TrainerError::at("write", &self.path, e))
    }
    /// An item of a JSON array.
    pub(crate) fn item(&mut self, item: &Value) -> Result<()> {
        let before = if self.items == 0 { "[\n" } else { ",\n" };
        self.items += 1;
        self.text(&format!("{before}{item}"))
    }
    /// Ends a JSON array.
    pub(crate) fn end_items(&mut self) -> Result<()> {
        let end = if self.items == 0 { "[]\n" } else { "\n]\n" };
        self.text(end)?;
        self.end()
    }
    pub(crate) fn end(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| TrainerError::at("write", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_files_are_plain_and_short() {
        assert_eq!(file_name("Ab_1-2"), "Ab_1-2");
        assert_eq!(file_name("a/b.mp4#3 ü"), "a~2fb~2emp4~233~20~c3~bc");
        assert_eq!(file_name(&"x".repeat(400)).len(), MAX_NAME + 2);
        assert_ne!(file_name(&"x".repeat(400)), file_name(&"x".repeat(401)));
    }

    proptest! {
        #[test]
        fn different_ids_have_different_names(a in "\\PC{0,80}", b in "\\PC{0,80}") {
            prop_assert_eq!(a == b, file_name(&a) == file_name(&b));
        }
    }
}
