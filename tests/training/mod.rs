//! From clips to a published adapter and to the forms of other trainers, with the real binary and the toy trainer.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{corpus, curette, root, succeed};

/// Videos of the corpus, each with its metadata or without, which gives it no title.
fn videos(folder: &Path, names: &[(&str, bool)]) {
    std::fs::create_dir_all(folder).unwrap();
    let from = corpus().folder.join("videos");
    for (name, titled) in names {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
        if *titled {
            let info = Path::new(name).with_extension("info.json");
            std::fs::copy(from.join(&info), folder.join(&info)).unwrap();
        }
    }
}

/// A committed table of clips of 32 x 16 pixels: bytes in the rows, or files.
fn table(folder: &Path, name: &str, videos: &str, storage: &str) -> PathBuf {
    let file = folder.join(format!("{name}.toml"));
    let text = format!(
        r#"
[pipeline]
name = "clips"
output = "{name}"
max_error_rate = 1.0

[step.videos]
type = "videos"
path = "{videos}"

[step.captions]
type = "captioner"
inputs = ["videos"]
backend = "template"

[step.cut]
type = "clip_cut"
inputs = ["captions"]
on_unmeasured = "keep"
width = 32
height = 16
resize = "cover"
fps = 24.0
keep_audio = false
{storage}

[step.clips]
type = "parquet"
inputs = ["cut"]
exclude = ["transcript"]
"#
    );
    std::fs::write(&file, text).unwrap();
    succeed(curette().arg("run").arg(&file).args(["-q", "-w", "2"]));
    folder.join(name).join("clips")
}

fn export(table: &Path, to: &str, out: &Path, more: &[&str]) -> Output {
    curette().arg("export").arg(table).args(["--to", to, "--out"]).arg(out).args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const FORMS: [&str; 6] = ["fastvideo-v0", "fastvideo", "finetrainers", "musubi", "webdataset", "hf"];

#[test]
fn clips_are_exported_in_every_form_and_what_is_missing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    videos(&dir.path().join("two"), &[("fundus-360p.mp4", true), ("endoscopy-blurred.mp4", true), ("broken-text.mp4", true)]);
    let in_rows = table(dir.path(), "rows", "two", "");
    let in_files = table(dir.path(), "files", "two", "storage = \"objects\"\nlocation = \"objects\"");
    for form in FORMS {
        let [a, b] = [("rows", &in_rows), ("files", &in_files)].map(|(from, table)| {
            let out = dir.path().join(format!("{form}-{from}"));
            let report: Value = serde_json::from_slice(&export(table, form, &out, &["--format", "json"]).stdout).unwrap();
            assert_eq!((&report["exported"], &report["left_out"]), (&json!(2), &json!(1)), "{form}: {report}");
            let why = report["left_out_why"][0].as_str().unwrap();
            assert_eq!(why, "`broken-text.mp4`: has no clip: `clip` holds no bytes and `clip_uri` names no file");
            files(&out)
        });
        assert!(a == b && !a.is_empty(), "{form}: wherever the bytes are, the export is the same");
    }
    let listed = std::fs::read_to_string(dir.path().join("hf-rows/train/metadata.jsonl")).unwrap();
    let row: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!((&row["clip_id"], &row["width"], &row["fps"]), (&json!("endoscopy-blurred.mp4"), &json!(32), &json!(24.0)));
    let mp4 = std::fs::read(dir.path().join("hf-rows/train").join(row["file_name"].as_str().unwrap())).unwrap();
    assert_eq!(&mp4[4..8], b"ftyp");

    // A file that is gone, and tables that are none or lack what is needed.
    let gone = std::fs::read_dir(dir.path().join("objects")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&gone).unwrap();
    let out = dir.path().join("out");
    let missing = export(&in_files, "hf", &out, &[]);
    assert!(missing.status.success(), "{}", said(&missing));
    let text = String::from_utf8(missing.stdout).unwrap();
    assert!(text.contains("1 clips in the form of hf; 2 left out:") && text.contains("its clip cannot be read: "), "{text}");
    assert!(text.contains(gone.file_name().unwrap().to_str().unwrap()), "{text}");
    let refused = [
        export(&dir.path().join("nowhere"), "hf", &dir.path().join("x"), &[]),
        export(&dir.path().join("rows"), "hf", &dir.path().join("x"), &[]),
        export(&dir.path().join("rows/stages"), "hf", &dir.path().join("x"), &["--id", "step"]),
        export(&in_rows, "hf", &dir.path().join("x"), &["--caption", "words"]),
        export(&in_rows, "hf", &dir.path().join("x"), &["--caption", "license"]),
        export(&in_rows, "hf", &out, &[]),
    ];
    let here = dir.path().display().to_string();
    let told = |o: &Output| {
        let columns = said(o).split("its columns are: ").next().unwrap_or_default().replace(&here, "DIR");
        format!("code {}: {}", o.status.code().unwrap(), columns.trim_end())
    };
    insta::assert_snapshot!(refused.each_ref().map(told).join("\n"), @"");
    assert!(!dir.path().join("x").exists());
}

/// The files of an export by name, but for those that name the version of the writer.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => {
                out.extend(files(&path).into_iter().map(|(name, bytes)| (Path::new(path.file_name().unwrap()).join(name), bytes)))
            }
            false => out.push((path.file_name().unwrap().into(), std::fs::read(&path).unwrap())),
        }
    }
    out.sort();
    out
}

/// A training in the form of `pipelines/lora.toml`, over a tiny table.
struct Training {
    folder: tempfile::TempDir,
    clips: PathBuf,
}

impl Training {
    fn new() -> Training {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            ("fundus-360p.mp4", true),
            ("endoscopy-blurred.mp4", true),
            ("fundus-portrait.mp4", false),
            ("broken-text.mp4", true),
        ];
        videos(&folder.path().join("videos"), &names);
        let clips = table(folder.path(), "made", "videos", "");
        Training { folder, clips }
    }

    /// The pipeline, with further lines for the trainer.
    fn pipeline(&self, more: &str) -> PathBuf {
        let mut text = std::fs::read_to_string(root().join("pipelines/lora.toml")).unwrap();
        for (from, to) in [
            ("id_column = \"clip_id\"", "id_column = \"video_id\""),
            // What has no title has no caption here.
            ("caption = \"text\"", "title = \"text\""),
            ("frames = 93 ", "caption_column = \"title\"\nrank = 4\nalpha = 8.0\nglobal_batch = 4\nframes = 5 "),
            ("height = 480", "height = 16"),
            ("width = 720", "width = 32"),
            ("steps = 2000", "steps = 40"),
            ("learning_rate = 5e-5", "learning_rate = 0.05"),
            ("checkpoint_every = 100", "checkpoint_every = 10"),
            ("ranks = 8", "ranks = 1\nclips_per_shard = 1\nmax_bad_fraction = 0.6"),
        ] {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        let file = self.folder.path().join("lora.toml");
        std::fs::write(&file, format!("{text}{more}\n")).unwrap();
        file
    }

    fn command(&self, verb: &str, pipeline: &Path, output: &str) -> Command {
        let toy = Path::new(env!("CARGO_BIN_EXE_curette")).with_file_name("curette-toy-trainer");
        assert!(toy.is_file(), "{} is missing: cargo build --workspace --bins", toy.display());
        let mut command = curette();
        command.arg(verb).arg(pipeline).env("LORA_CLIPS", &self.clips).env("LORA_TRAINER", toy);
        command.env("LORA_OUTPUT", self.folder.path().join(output));
        command
    }

    fn run(&self, pipeline: &Path, output: &str, args: &[&str]) -> Output {
        self.command("run", pipeline, output).arg("--quiet").args(args).output().unwrap()
    }

    /// Runs it until a checkpoint of this step is there, then sends the signal; gives the exit code, if it ended by itself, and what it said.
    fn signalled_at(&self, pipeline: &Path, output: &str, step: u64, signal: i32) -> (Option<i32>, String) {
        let mut command = self.command("run", pipeline, output);
        let child = command.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while !self.checkpoints(output).contains(&format!("ckpt-{step:06}")) {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint of step {step}");
            std::thread::sleep(Duration::from_millis(5));
        }
        // SAFETY: the child has not been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let ended = child.wait_with_output().unwrap();
        (ended.status.code(), said(&ended))
    }

    fn below(&self, output: &str, name: &str) -> Vec<PathBuf> {
        let folder = self.folder.path().join(output).join("adapter").join(name);
        let entries = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap().path());
        let mut all: Vec<_> = entries.filter(|p| p.is_dir()).collect();
        all.sort();
        all
    }

    fn checkpoints(&self, output: &str) -> Vec<String> {
        let runs = self.below(output, "jobs").into_iter().map(|job| job.join("run"));
        let entries = runs.filter_map(|run| std::fs::read_dir(run).ok()).flatten();
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// The only adapter, and its provenance.
    fn adapter(&self, output: &str) -> (Vec<u8>, Value) {
        let all = self.below(output, "adapters");
        assert_eq!(all.len(), 1, "{all:?}");
        let read = |name: &str| std::fs::read(all[0].join(name)).unwrap();
        (read("pytorch_lora_weights.safetensors"), serde_json::from_slice(&read("provenance.json")).unwrap())
    }
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_training_is_published_once_also_when_it_is_stopped_and_killed_on_its_way() {
    let training = Training::new();
    let plain = training.pipeline("");
    let first = ok(&training.run(&plain, "one", &["-w", "2", "--binary"]));
    assert!(first.contains("step `adapter`: the adapter is published: "), "{first}");
    assert!(first.contains("2 clips are not trained on (no_caption 1, no_clip 1); each is in "), "{first}");
    let (bytes, provenance) = training.adapter("one");
    let data = &provenance["job"]["data"];
    assert_eq!((data["samples"].as_u64(), provenance["step"].as_u64()), (Some(2), Some(40)), "{provenance}");
    assert_eq!((data["plan_hash"].as_str().unwrap().len(), &provenance["versions"]["toy"]), (64, &json!("1")), "{provenance}");
    assert!(data["table"].as_str().unwrap().ends_with("one/adapter/clips") && data["table_version"].as_u64().unwrap() > 0);

    // The same again: nothing is encoded or trained.
    let again = ok(&training.run(&plain, "one", &[]));
    assert!(again.contains("the adapter of this training is published already: "), "{again}");
    let job = training.below("one", "jobs").remove(0);
    assert_eq!(std::fs::read_dir(job.join("attempts")).unwrap().count(), 1);
    // Its spool is for those who read spools.
    let spool = std::fs::read_dir(training.folder.path().join("one/adapter")).unwrap().map(|e| e.unwrap().path());
    let spool = spool.into_iter().find(|p| p.file_name().unwrap().to_string_lossy().starts_with("spool-")).unwrap();
    assert!(ok(&export(&spool, "musubi", &training.folder.path().join("caches"), &[])).contains("2 clips in the form of musubi"));

    // Slower, so that there is a middle. Pauses change no number.
    let slow = training.pipeline("trainer_options = { step_ms = 60 }");
    let (code, told) = training.signalled_at(&slow, "two", 10, libc::SIGTERM);
    assert_eq!(code, Some(143), "{told}");
    assert!(told.contains("everything is committed, and step `adapter` was stopped after the checkpoint of step 1"), "{told}");
    assert_eq!(training.signalled_at(&slow, "two", 20, libc::SIGKILL).0, None);
    assert!(training.below("two", "adapters").is_empty(), "nothing is published before the end");
    ok(&training.run(&slow, "two", &[]));
    let (resumed, provenance) = training.adapter("two");
    assert_eq!(resumed, bytes, "the same bytes as undisturbed");
    let events = std::fs::read_to_string(training.below("two", "jobs")[0].join("events.jsonl")).unwrap();
    assert_eq!(events.matches("\"t\":\"resumed\"").count(), 2, "{events}");
    assert_eq!(provenance["job"]["trainer"], json!({"step_ms": 60}));

    // Other settings are another training on the same spool, and need no new version; what learned nothing is not published.
    let zero = training.pipeline("trainer_options = { zero_b = true }");
    let refused = training.run(&zero, "one", &["--processes", "2", "-w", "1"]);
    assert_eq!(refused.status.code(), Some(5), "{}", said(&refused));
    for part in ["everything is committed, but step `adapter` came to no result", "is not published", "it did not learn"] {
        assert!(said(&refused).contains(part), "{part}: {}", said(&refused));
    }
    assert_eq!((training.below("one", "adapters").len(), training.below("one", "jobs").len()), (1, 2));
}

#[test]
fn what_cannot_be_trained_is_told_by_check() {
    let training = Training { folder: tempfile::tempdir().unwrap(), clips: PathBuf::from("/nowhere") };
    let plain = training.pipeline("");
    let fine = ok(&training.command("check", &plain, "out").arg("--no-environment").output().unwrap());
    assert!(fine.contains("adapter: time  ") && fine.contains("adapter: passes over the clips   not known yet"), "{fine}");
    let text = std::fs::read_to_string(&plain).unwrap();
    let wrong =
        text.replace("frames = 5 ", "frames = 8 ").replace("steps = 40", "steps = 900000000").replace("ranks = 1", "ranks = 3");
    let wrong = wrong.replace("preset = \"custom\"", "preset = \"paper_text\"").replace("global_batch = 4\n", "");
    std::fs::write(&plain, wrong).unwrap();
    let mut command = training.command("check", &plain, "out");
    let refused = command.env("LORA_TRAINER", "./no-such-trainer").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let here = training.folder.path().display().to_string();
    insta::assert_snapshot!("training_refused_by_check", said(&refused).replace(&here, "DIR"));

    // The stage that medvideocap.toml ends with is fine when it is taken in.
    let text = std::fs::read_to_string(root().join("pipelines/medvideocap.toml")).unwrap();
    let (before, stage) = text.split_once("# [step.adapter]").unwrap();
    let stage: Vec<&str> = stage.lines().map(|line| line.trim_start_matches("# ")).collect();
    let file = training.folder.path().join("medvideocap.toml");
    std::fs::write(&file, format!("{before}[step.adapter]{}", stage.join("\n"))).unwrap();
    let head = "cannot read";
    let checked = curette().arg("check").arg(&file).arg("--no-environment").output().unwrap();
    let mistakes: Vec<String> =
        said(&checked).lines().filter(|l| l.contains("error") || l.contains('×')).map(str::to_owned).collect();
    assert!(mistakes.iter().all(|l| l.contains(head)), "only the head is missing: {mistakes:?}");
}
