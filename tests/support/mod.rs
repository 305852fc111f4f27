//! What the black-box tests share: the sample corpus and its head (made once), the real binary, and tables as sorted rows.

// Test code: what cannot be had is a failed test.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stdout)]

pub mod service;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use curette_engine::commit::Table;

/// The binary under test.
pub fn curette() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_curette"));
    command.env_remove("CURETTE_KILL_AT").env_remove("CURETTE_LOG");
    command
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Real video files that are not part of the repository; `None`, said on one line, where they are not there.
pub fn media() -> Option<PathBuf> {
    let folder = std::env::var_os("CURETTE_MEDIA").map(PathBuf::from).unwrap_or_else(|| root().join("../shared/media"));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("no folder {}: this test ran without real media (set CURETTE_MEDIA)", folder.display());
    None
}

/// What scripts/bootstrap fetched, below .cache; `None` (said on one line) where it is not there, except in CI.
pub fn cached(name: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("CURETTE_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    let path = cache.join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run scripts/bootstrap", path.display());
    eprintln!("skipped: {} is missing (scripts/bootstrap fetches it)", path.display());
    None
}

/// A corpus that all tests share.
pub struct Corpus {
    /// `videos/`, `train/`, `truth.jsonl`, `head.safetensors`.
    pub folder: PathBuf,
}

/// The sample corpus with a trained head; made by the first test that asks, the others wait.
pub fn corpus() -> Corpus {
    let folder = root().join("target/test-corpus");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    curette_sample::write::write_corpus(&folder.join("sample"), 1, false).unwrap();
    let sample = folder.join("sample");
    let head = sample.join("head.safetensors");
    // One of an older format is made again.
    let of_this_format = std::fs::read(&head).is_ok_and(|bytes| bytes.windows(14).any(|w| w == b"curette-head/2"));
    if !of_this_format {
        let mut train = curette();
        train.arg("train-head").arg("--labels").arg(sample.join("train/labels.csv")).arg("--videos").arg(sample.join("train"));
        let made = folder.join("head.part");
        succeed(train.arg("--out").arg(&made));
        std::fs::rename(&made, &head).unwrap();
    }
    Corpus { folder: sample }
}

impl Corpus {
    /// What is true of each video, by file name.
    pub fn truth(&self) -> BTreeMap<String, serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.join("truth.jsonl")).unwrap();
        let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        lines.map(|v| (v["video_id"].as_str().unwrap().to_string(), v)).collect()
    }
}

/// The quickstart pipeline with another output and other videos.
pub fn quickstart(corpus: &Corpus, videos: &Path, output: &Path, settings: &str) -> PathBuf {
    let text = std::fs::read_to_string(root().join("pipelines/quickstart.toml")).unwrap();
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if settings.lines().any(|s| s.split('=').next().unwrap_or_default().trim() == key && !key.is_empty()) {
            continue;
        }
        lines.push(match key {
            "output" => format!("output = {:?}", output.display().to_string()),
            "path" => format!("path = {:?}", videos.display().to_string()),
            "head" => format!("head = {:?}", corpus.folder.join("head.safetensors").display().to_string()),
            "dictionary" => format!("dictionary = {:?}", root().join("datasets/medical_terms.txt").display().to_string()),
            _ => line.to_string(),
        });
        match line.trim() {
            "[pipeline]" => lines.push(settings.to_string()),
            r#"type = "clip_cut""# => lines.push(r#"speed_preset = "ultrafast""#.to_string()), // encoding is most of the time
            _ => {}
        }
    }
    let file = output.with_extension("toml");
    std::fs::create_dir_all(output.parent().unwrap()).unwrap();
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}

/// Runs a command that must succeed; shows what it said if not.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\nstdout: {}\nstderr: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Columns that tell where and in which split, which is no result.
const NOT_COMPARED: [&str; 3] = ["video_uri", "clip_uri", "split"];

/// All rows of a table as text, sorted, without columns that differ between machines.
pub fn rows(location: &Path) -> Vec<String> {
    let table = Table::open_existing("test", &location.to_string_lossy())
        .unwrap()
        .unwrap_or_else(|| panic!("no table at {}", location.display()));
    let mut out: Vec<String> = table.read_batches(None).unwrap().flat_map(|batch| rows_of(&batch.unwrap())).collect();
    out.sort();
    out
}

fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let schema = batch.schema();
    (0..batch.num_rows())
        .map(|row| {
            let cells = schema.fields().iter().enumerate().filter(|(_, f)| !NOT_COMPARED.contains(&f.name().as_str()));
            cells.map(|(i, f)| format!("{}={}", f.name(), cell(batch.column(i), row))).collect::<Vec<_>>().join(" | ")
        })
        .collect()
}

fn cell(column: &dyn Array, row: usize) -> String {
    if column.is_null(row) {
        return "null".into();
    }
    match column.data_type() {
        DataType::Struct(_) => {
            let parts = column.as_struct();
            parts.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(",")
        }
        DataType::Binary => format!(
            "{} bytes {}",
            column.as_binary::<i32>().value(row).len(),
            blake3::hash(column.as_binary::<i32>().value(row)).to_hex()
        ),
        DataType::List(_) => {
            let items = column.as_list::<i32>().value(row);
            let cells: Vec<_> = (0..items.len()).map(|i| cell(&items, i)).collect();
            format!("[{}]", cells.join(","))
        }
        _ => {
            let one = column.slice(row, 1);
            arrow::util::display::array_value_to_string(&one, 0).unwrap()
        }
    }
}

/// The tables of the quickstart, as sorted rows; `stages` left out, because splits may be cut differently.
pub fn tables(output: &Path) -> BTreeMap<&'static str, Vec<String>> {
    ["clips", "rejects", "errors"].into_iter().map(|name| (name, rows(&output.join(name)))).collect()
}

/// Says which rows differ, instead of printing both sides.
pub fn assert_same(what: &str, want: &BTreeMap<&'static str, Vec<String>>, got: &BTreeMap<&'static str, Vec<String>>) {
    for (table, want) in want {
        let got = &got[table];
        let missing: Vec<_> = want.iter().filter(|r| !got.contains(r)).take(3).collect();
        let extra: Vec<_> = got.iter().filter(|r| !want.contains(r)).take(3).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{what}: table {table}: missing {missing:#?}, extra {extra:#?}");
        assert_eq!(want.len(), got.len(), "{what}: table {table}: a row is there twice");
    }
}
