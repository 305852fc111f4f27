//! From `path` to the videos that it means: a file, a folder, a pattern or a URL prefix.
//!
//! Deciding what is taken is pure (`parse_pattern`, `Select`); only [`list`] looks at disks and stores.

use std::collections::BTreeMap;

use curette_engine::operator::OperatorError;
use glob::{MatchOptions, Pattern};

use super::files::{FileError, FileStat, Files, is_url, split_name};
use super::sidecars::SIDECAR_ENDINGS;

/// Extensions that a folder listing takes for videos.
pub const VIDEO_EXTENSIONS: &[&str] =
    &["3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv"];

/// Whether a name has one of [`VIDEO_EXTENSIONS`], in any case.
pub fn is_video(name: &str) -> bool {
    Select::Videos.takes(name)
}

/// A listing: where names start, everything that lies there, and which of it are inputs.
#[derive(Debug)]
pub struct Listing {
    /// Absolute path or URL that names are relative to, without the final `/`.
    pub root: String,
    /// All files, inputs and others, so that sidecars can be found.
    pub files: BTreeMap<String, Result<FileStat, FileError>>,
    /// Names of the inputs, sorted.
    pub keys: Vec<String>,
    /// Of a folder, what was not taken because of its extension: how many files of which extension (lower case, `""` without any). Sidecars are not among them.
    pub left_out: BTreeMap<String, u64>,
}

/// Extensions that a sentence names; the rest are counted.
const EXTENSIONS_NAMED: usize = 8;

impl Listing {
    /// What was left out, for people, if anything was.
    pub fn note(&self) -> Option<String> {
        let all: u64 = self.left_out.values().sum();
        let mut kinds: Vec<(&String, &u64)> = self.left_out.iter().collect();
        kinds.sort_by_key(|(extension, files)| (std::cmp::Reverse(**files), extension.is_empty(), extension.as_str()));
        let name = |extension: &str| if extension.is_empty() { "without extension".into() } else { format!(".{extension}") };
        let mut parts: Vec<String> =
            kinds.iter().take(EXTENSIONS_NAMED).map(|(e, files)| format!("{} {files}", name(e))).collect();
        if let Some(rest) = kinds.get(EXTENSIONS_NAMED..).filter(|rest| !rest.is_empty()) {
            parts.push(format!("others {}", rest.iter().map(|(_, files)| **files).sum::<u64>()));
        }
        let files = if all == 1 { "1 file is".into() } else { format!("{all} files are") };
        (all > 0).then(|| {
            format!("{files} left out because of the extension: {} (`extensions` says which are taken)", parts.join(", "))
        })
    }
}

fn extension(name: &str) -> Option<String> {
    name.rsplit('/').next().and_then(|n| n.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase())
}

/// Counts by extension what a folder's selection does not take.
fn left_out<'a>(names: impl Iterator<Item = &'a String>, select: &Select) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in names.filter(|name| !select.takes(name) && Select::Everything.takes(name)) {
        *counts.entry(extension(name).unwrap_or_default()).or_default() += 1;
    }
    counts
}

/// Which names of a listing are inputs.
#[derive(Debug)]
enum Select<'a> {
    /// Those with one of these extensions, any case.
    Extensions(&'a [String]),
    /// The default extensions.
    Videos,
    /// All but sidecars.
    Everything,
}

impl Select<'_> {
    fn takes(&self, name: &str) -> bool {
        let extension = extension(name);
        match self {
            Select::Extensions(list) => {
                extension.is_some_and(|e| list.iter().any(|x| x.trim_start_matches('.').eq_ignore_ascii_case(&e)))
            }
            Select::Videos => extension.is_some_and(|e| VIDEO_EXTENSIONS.contains(&e.as_str())),
            Select::Everything => !SIDECAR_ENDINGS.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending)),
        }
    }
}

/// A path with wildcards: the folder before the first of them, and the pattern below it.
#[derive(Debug, PartialEq)]
struct Wild {
    root: String,
    pattern: Pattern,
    depth: usize,
}

fn parse_pattern(path: &str) -> Result<Option<Wild>, OperatorError> {
    let Some(first) = path.find(['*', '?', '[']) else { return Ok(None) };
    let cut = path[..first].rfind('/').map_or(0, |i| i + 1);
    let (root, rest) = path.split_at(cut);
    let pattern = Pattern::new(rest).map_err(|e| {
        OperatorError::new(format!("`{path}` is not a valid pattern: {e}"))
            .help("`*` matches within a name, `**/` any number of folders; write `[` as `[[]`")
    })?;
    let depth = if rest.contains("**") { usize::MAX } else { rest.split('/').count() };
    let root = match root.trim_end_matches('/') {
        "" if root.is_empty() => ".",
        "" => "/",
        trimmed => trimmed,
    };
    Ok(Some(Wild { root: root.into(), pattern, depth }))
}

/// What is wrong with the wildcards of a path.
pub fn pattern_problem(path: &str) -> Option<String> {
    parse_pattern(path).err().map(|e| e.to_string())
}

/// What a `path` turned out to be.
#[derive(Debug, PartialEq)]
enum Meaning {
    File(String),
    Folder,
    Pattern(Pattern, usize),
}

/// Where the names of a `path` (absolute, or a URL) start, as an absolute path or URL without the final `/`, and what the path means.
fn resolve(files: &Files, path: &str) -> Result<(String, Meaning), OperatorError> {
    let trimmed = path.trim_end_matches('/');
    // A single file first, also one whose name looks like a pattern: `Title [id].mp4`.
    let (root, meaning) = match files.stat(trimmed) {
        Ok(_) => {
            let (root, name) = split_name(trimmed);
            (root.to_string(), Meaning::File(name.to_string()))
        }
        Err(FileError::NotAFile { .. }) => (trimmed.to_string(), Meaning::Folder),
        // Stores have no folders and answer oddly to a look at a bare prefix; listing it tells what is wrong.
        Err(error) if is_url(path) || matches!(error, FileError::Missing { .. }) => match parse_pattern(path)? {
            Some(wild) => (wild.root, Meaning::Pattern(wild.pattern, wild.depth)),
            None => (trimmed.to_string(), Meaning::Folder),
        },
        Err(error) => return Err(fail(&error)),
    };
    if is_url(&root) {
        return Ok((root, meaning));
    }
    let root = if root.is_empty() { "/" } else { root.as_str() };
    let canonical = std::fs::canonicalize(root).map_or_else(|_| root.to_string(), |p| p.to_string_lossy().into_owned());
    Ok((canonical.trim_end_matches('/').to_string(), meaning))
}

fn fail(error: &FileError) -> OperatorError {
    OperatorError::new(error.to_string()).help("check `path`, its permissions, and for a store its credentials")
}

/// How messages call what is looked for.
pub struct Wanted {
    /// One of them: `video`.
    pub one: &'static str,
    /// What to do when there is none.
    pub help: &'static str,
}

const VIDEO: Wanted = Wanted {
    one: "video",
    help: "set `path` to a video, a folder or a pattern; `extensions` says which files of a folder are taken",
};

/// Lists what `path` (absolute, or a URL) means. `extensions`: as configured, empty for the defaults.
pub fn list(files: &Files, path: &str, extensions: &[String]) -> Result<Listing, OperatorError> {
    list_of(files, path, extensions, &VIDEO)
}

/// As [`list`], of other files than videos.
pub fn list_of(files: &Files, path: &str, extensions: &[String], wanted: &Wanted) -> Result<Listing, OperatorError> {
    let (root, meaning) = resolve(files, path)?;
    let depth = match &meaning {
        Meaning::File(_) => 1,
        Meaning::Folder => usize::MAX,
        Meaning::Pattern(_, depth) => *depth,
    };
    let found = files.list(if root.is_empty() { "/" } else { &root }, depth).map_err(|e| fail(&e))?;
    let select = |default| if extensions.is_empty() { default } else { Select::Extensions(extensions) };
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::default() };
    let mut not_taken = BTreeMap::new();
    let (keys, why): (Vec<String>, _) = match meaning {
        Meaning::File(name) => (vec![name], ""),
        Meaning::Folder => {
            let select = select(Select::Videos);
            not_taken = left_out(found.keys(), &select);
            (found.keys().filter(|k| select.takes(k)).cloned().collect(), "none of them has a fitting extension")
        }
        Meaning::Pattern(pattern, _) => {
            let select = select(Select::Everything);
            let matches = |k: &&String| pattern.matches_with(k, options) && select.takes(k);
            (found.keys().filter(matches).cloned().collect(), "none of them matches the pattern")
        }
    };
    if keys.is_empty() {
        let why = if found.is_empty() { String::new() } else { format!(", {why}") };
        let why = why.replace("a fitting extension", &format!("a {} extension", wanted.one));
        let message = format!("`{path}` holds no {}: {} files lie below {root}{why}", wanted.one, found.len());
        return Err(OperatorError::new(message).help(wanted.help));
    }
    Ok(Listing { root, files: found, keys, left_out: not_taken })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        dir
    }

    fn keys(dir: &tempfile::TempDir, path: &str, extensions: &[&str]) -> Result<Vec<String>, String> {
        let extensions: Vec<String> = extensions.iter().map(|e| e.to_string()).collect();
        let path = if path.is_empty() { dir.path().display().to_string() } else { format!("{}/{path}", dir.path().display()) };
        list(&Files::default(), &path, &extensions).map(|l| l.keys).map_err(|e| e.to_string())
    }

    #[test]
    fn a_folder_gives_its_videos_and_a_pattern_all_that_it_matches() {
        let dir = tree(&[
            "b.mp4",
            "a/c.MKV",
            "a/d/e.webm",
            "a/notes.txt",
            "s.mp3",
            "b.info.json",
            "b.en.vtt",
            ".hidden.mp4",
            ".git/x.mp4",
        ]);
        assert_eq!(keys(&dir, "", &[]).unwrap(), ["a/c.MKV", "a/d/e.webm", "b.mp4"]);
        assert_eq!(keys(&dir, "/", &[]).unwrap(), ["a/c.MKV", "a/d/e.webm", "b.mp4"]);
        assert_eq!(keys(&dir, "", &["mp3", ".MP4"]).unwrap(), ["b.mp4", "s.mp3"]);
        assert_eq!(keys(&dir, "*", &[]).unwrap(), ["b.mp4", "s.mp3"]);
        assert_eq!(keys(&dir, "**/*.webm", &[]).unwrap(), ["a/d/e.webm"]);
        assert_eq!(keys(&dir, "a/*", &[]).unwrap(), ["c.MKV", "notes.txt"]);
        assert_eq!(keys(&dir, "s.mp3", &[]).unwrap(), ["s.mp3"]);
        assert_eq!(keys(&dir, "**/*", &["vtt"]).unwrap(), ["b.en.vtt"]);
    }

    #[test]
    fn what_a_folder_leaves_out_is_counted_by_extension() {
        let names: Vec<String> =
            ["a.mp4", "s.mp3", "t.MP3", "README", "a.info.json", "a.en.vtt", "d.dir/x"].map(String::from).into();
        let listing = |left_out| Listing { root: String::new(), files: BTreeMap::new(), keys: Vec::new(), left_out };
        let note = |select: &Select| listing(left_out(names.iter(), select)).note();
        insta::assert_snapshot!(note(&Select::Videos).unwrap(), @"4 files are left out because of the extension: .mp3 2, without extension 2 (`extensions` says which are taken)");
        insta::assert_snapshot!(note(&Select::Extensions(&["mp3".into()])).unwrap(), @"3 files are left out because of the extension: without extension 2, .mp4 1 (`extensions` says which are taken)");
        assert_eq!(note(&Select::Everything), None);
        let many = (0..12).map(|i| (format!("x{i:02}"), 12 - i)).collect();
        insta::assert_snapshot!(listing(many).note().unwrap(), @"78 files are left out because of the extension: .x00 12, .x01 11, .x02 10, .x03 9, .x04 8, .x05 7, .x06 6, .x07 5, others 10 (`extensions` says which are taken)");
    }

    #[test]
    fn a_name_that_looks_like_a_pattern_is_a_name() {
        let dir = tree(&["Title [x1].mp4", "Title x.mp4"]);
        assert_eq!(keys(&dir, "Title [x1].mp4", &[]).unwrap(), ["Title [x1].mp4"]);
    }

    #[test]
    fn nothing_found_says_what_was_there() {
        let dir = tree(&["a.txt"]);
        assert!(keys(&dir, "", &[]).unwrap_err().contains("none of them has a video extension"));
        assert!(keys(&dir, "*.mp4", &[]).unwrap_err().contains("none of them matches the pattern"));
        assert!(keys(&dir, "nowhere", &[]).unwrap_err().contains("does not exist"));
        assert!(keys(&dir, "[", &[]).unwrap_err().contains("not a valid pattern"));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_never_in_circles_and_dangling_ones_are_listed() {
        use std::os::unix::fs::symlink;
        let dir = tree(&["a/x.mp4"]);
        symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        symlink(dir.path().join("a"), dir.path().join("b")).unwrap();
        symlink("gone", dir.path().join("dangling.mp4")).unwrap();
        assert_eq!(keys(&dir, "", &[]).unwrap(), ["a/x.mp4", "b/x.mp4", "dangling.mp4"]);
    }
}
