//! The paper's pipeline on the sample corpus, with tiny models of the true contracts and a captioning service on loopback.
//!
//! Needs what `scripts/bootstrap` fetches (ONNX Runtime, PP-OCR); without it the tests say so on one line and pass, except where `CI` is set.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use curette_heads::{Encoder, Head};
use curette_models::store::hash_file;
use serde_json::Value;
use support::service::Service;
use support::{assert_same, cached, corpus, curette, root, rows, succeed, tables};

/// A machine with models, heads and a service.
struct World {
    folder: tempfile::TempDir,
    library: PathBuf,
    service: Service,
    videos: PathBuf,
}

impl World {
    fn new() -> Option<World> {
        let library =
            std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).or_else(|| cached("onnxruntime/libonnxruntime.so"))?;
        let ocr = ["det", "rec"].map(|part| cached(&format!("models/rapidocr/ch_PP-OCRv4_{part}_infer.onnx")));
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("cache/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        for model in ocr {
            let model = model?;
            std::fs::copy(&model, blobs.join(hash_file(&model).unwrap().0)).unwrap();
        }
        tiny_models(&folder.path().join("manifests"));
        heads(folder.path());
        Some(World { folder, library, service: Service::start((9, 1)), videos: corpus().folder.join("videos") })
    }

    /// The pipeline of the repository with this machine's heads, LAION's limit in the units of a random head, and a corpus that has broken files on purpose.
    fn pipeline(&self, output: &str, min_aesthetic: &str) -> PathBuf {
        self.pipeline_of("medvideocap", output, min_aesthetic)
    }

    fn pipeline_of(&self, name: &str, output: &str, min_aesthetic: &str) -> PathBuf {
        let text = std::fs::read_to_string(root().join(format!("pipelines/{name}.toml"))).unwrap();
        let here = |name: &str| self.folder.path().join(name).display().to_string();
        let text = text
            // So that the text of some videos of medical channels says nothing medical.
            .replace("min_hits = 1", "min_hits = 5")
            .replace("../out/medvideocap/medical-text.safetensors", &here("text.safetensors"))
            .replace("../out/medvideocap/medical-frames.safetensors", &here("frames.safetensors"))
            .replace("../datasets/medical_terms.txt", &root().join("datasets/medical_terms.txt").display().to_string())
            .replace("aesthetic_score >= 3.0", &format!("aesthetic_score >= {min_aesthetic}"))
            .replace("type = \"clip_cut\"", "type = \"clip_cut\"\nspeed_preset = \"ultrafast\"") // encoding is most of the time
            .replace("[pipeline]\n", "[pipeline]\nmax_error_rate = 0.5\nsplit_max_items = 4\n");
        let file = self.folder.path().join(format!("{output}.toml"));
        std::fs::write(&file, text).unwrap();
        file
    }

    fn command(&self, verb: &str, pipeline: &Path, output: &str) -> Command {
        let mut command = curette();
        command.arg(verb).arg(pipeline);
        command
            .env("ORT_DYLIB_PATH", &self.library)
            .env("CURETTE_MODELS", self.folder.path().join("manifests"))
            .env("CURETTE_MODEL_CACHE", self.folder.path().join("cache"))
            .env("MEDVIDEOCAP_VIDEOS", &self.videos)
            .env("MEDVIDEOCAP_OUTPUT", self.folder.path().join(output))
            .env("MEDICAL_RECORDS", corpus().folder.join("videos"))
            .env("MEDICAL_OUTPUT", self.output("medical"))
            .env("EXPANSION_CATALOGUE", self.output("medical/catalogue"))
            .env("EXPANSION_MEDICAL", self.output("medical/medical"))
            .env("EXPANSION_OUTPUT", self.output("expansion"))
            .env("MEDVIDEOCAP_CAPTIONS_URL", &self.service.url)
            .env("MEDVIDEOCAP_CAPTIONS_CACHE", self.folder.path().join(format!("{output}-captions")))
            .env("MEDVIDEOCAP_LOW_QUALITY", "dover_overall >= 0.0")
            .env("MEDVIDEOCAP_JOINT", "not (dover_overall < 0.0 and aesthetic_score < 4.0)");
        command
    }

    /// Runs the pipeline; gives its metrics.
    fn run(&self, pipeline: &Path, output: &str, args: &[&str]) -> BTreeMap<String, f64> {
        let file = self.folder.path().join("metrics.txt");
        succeed(self.command("run", pipeline, output).arg("--quiet").arg("--metrics-file").arg(&file).args(args));
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' '));
        lines.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
    }

    fn output(&self, output: &str) -> PathBuf {
        self.folder.path().join(output)
    }
}

fn metric(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of_name = |key: &&String| key.as_str() == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'));
    metrics.keys().filter(of_name).map(|key| metrics[key]).sum()
}

/// The manifests that the pipeline names, over graphs of random weights.
fn tiny_models(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let quality = root().join("operators/tests/goldens/quality-models");
    let fixtures = root().join("operators/models/tests/fixtures");
    for (from, files) in [
        (&quality, &["clip.onnx", "head.safetensors", "dover-technical.onnx", "dover-aesthetic.onnx"][..]),
        (&fixtures, &["text.onnx", "tokenizer.json"]),
    ] {
        for file in files {
            std::fs::copy(from.join(file), folder.join(file)).unwrap();
        }
    }
    let port = |name: &str, dtype: &str, shape: &str| format!("{{ name = \"{name}\", dtype = \"{dtype}\", shape = [{shape}] }}");
    let ids = |name: &str| port(name, "i64", "\"batch\", \"seq\"");
    let view = port("view", "f32", "\"batch\", 3, 32, 224, 224");
    let score = port("score", "f32", "\"batch\"");
    let pixels = port("pixel_values", "f32", "\"batch\", 3, 224, 224");
    let text_inputs = format!("{}, {}", ids("input_ids"), ids("attention_mask"));
    let models = [
        (
            "arctic-embed-m",
            vec!["graph:text.onnx", "tokenizer:tokenizer.json"],
            Some((text_inputs, port("embedding", "f32", "\"batch\", 16"))),
        ),
        ("clip-vit-l14", vec!["graph:clip.onnx"], Some((pixels, port("image_embeds", "f32", "\"batch\", 8")))),
        ("laion-aesthetic", vec!["head:head.safetensors"], None),
        ("dover-technical", vec!["graph:dover-technical.onnx"], Some((view.clone(), score.clone()))),
        ("dover-aesthetic", vec!["graph:dover-aesthetic.onnx"], Some((view, score))),
    ];
    for (name, files, contract) in models {
        let file =
            |f: &&str| f.split_once(':').map(|(role, path)| format!("{{ role = \"{role}\", path = \"{path}\" }}")).unwrap();
        let files: Vec<String> = files.iter().map(file).collect();
        let kind = if contract.is_some() { "onnx" } else { "head" };
        let contract = contract.map(|(i, o)| format!("[contract]\ninputs = [{i}]\noutputs = [{o}]\n")).unwrap_or_default();
        let tokenizer = if name == "arctic-embed-m" { "[tokenizer]\nmax_length = 12\n" } else { "" };
        let text = format!(
            "name = \"{name}\"\nversion = \"0\"\ntitle = \"random weights\"\nkind = \"{kind}\"\nfiles = [{}]\n\
             [origin]\nlicence = \"CC0-1.0\"\ncommercial_use = \"yes\"\n{contract}{tokenizer}",
            files.join(", ")
        );
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
}

/// Heads set by hand: whatever has text is medical, and so is every frame.
fn heads(folder: &Path) {
    let manifests = folder.join("manifests");
    for (file, model, graph, width) in
        [("text.safetensors", "arctic-embed-m", "text.onnx", 16), ("frames.safetensors", "clip-vit-l14", "clip.onnx", 8)]
    {
        let sha256 = Some(hash_file(&manifests.join(graph)).unwrap().0);
        let head = Head::linear(vec![0.0; width], 1.0, Encoder { name: model.into(), sha256 }, ["no".into(), "yes".into()]);
        std::fs::write(folder.join(file), head.to_bytes()).unwrap();
    }
}

fn field<'a>(row: &'a str, name: &str) -> &'a str {
    row.split(" | ").find_map(|c| c.strip_prefix(name)?.strip_prefix('=')).unwrap_or_else(|| panic!("no {name} in {row}"))
}

#[test]
fn the_papers_pipeline_runs_and_its_funnel_adds_up() {
    let Some(world) = World::new() else { return };
    let all = "-1000.0";
    let pipeline = world.pipeline("one", all);
    let metrics = world.run(&pipeline, "one", &["-w", "1"]);
    let one = tables(&world.output("one"));
    let clips = &one["clips"];
    assert!(!clips.is_empty(), "the pipeline must keep some clips");
    for row in clips {
        assert!(field(row, "caption").starts_with("caption ") && field(row, "brief_caption").starts_with("caption "), "{row}");
        assert!(field(row, "embedding_model").starts_with("clip-vit-l14@sha256:"), "{row}");
        let number = |name: &str| field(row, name).parse::<f64>().unwrap();
        assert!(number("end_us") - number("start_us") >= 5.9e6, "{row}");
        assert!((0.0..=1.0).contains(&number("dover_overall")) && number("aesthetic_score").is_finite(), "{row}");
        assert!(number("height").min(number("width")) >= 480.0, "{row}");
        assert_eq!((number("clip_width"), number("clip_height")), (720.0, 480.0), "{row}");
    }
    assert_eq!(world.service.asked(), 2 * clips.len(), "one detailed and one brief question a clip");

    // In = out + rejected + errors at every step; what leaves a step enters the next; `rejects` and `errors` hold a row for each that was dropped.
    let mut funnel: BTreeMap<String, [u64; 5]> = BTreeMap::new();
    for row in rows(&world.output("one").join("stages")) {
        let counts = funnel.entry(field(&row, "step").to_owned()).or_default();
        for (sum, name) in counts.iter_mut().zip(["rows_in", "passed", "rows_out", "rejected", "errors"]) {
            *sum += field(&row, name).parse::<u64>().unwrap();
        }
    }
    let order = [
        "videos",
        "probe",
        "large_enough",
        "frames",
        "medical_frames",
        "clips",
        "no_borders",
        "no_subtitles",
        "aesthetic",
        "beautiful",
        "dover",
        "low_quality",
        "joint",
        "speech",
        "captions",
        "cut",
        "medvideocap",
    ];
    let mut dropped = 0;
    for (i, step) in order.iter().enumerate() {
        let [rows_in, passed, rows_out, rejected, errors] = funnel[*step];
        assert_eq!(rows_in, passed + rejected + errors, "{step}: {funnel:#?}");
        if let Some(next) = order.get(i + 1) {
            assert_eq!(rows_out, funnel[*next][0], "from {step} to {next}: {funnel:#?}");
        }
        dropped += rejected + errors;
    }
    assert_eq!(dropped as usize, one["rejects"].len() + one["errors"].len(), "{funnel:#?}");
    assert_eq!(funnel["medvideocap"][0] as usize, clips.len());
    assert_eq!(funnel["scores"][0], funnel["dover"][2]);
    assert!(funnel["clips"][3] > 0, "it drops nothing: {funnel:#?}");

    // One pass of CLIP for class, similarity and aesthetic: as many pictures as frames were sampled, each once.
    let passes = metric(&metrics, "curette_media_grid_decodes_total");
    let pictures = metric(&metrics, "curette_model_rows_total{model=\"clip-vit-l14\"}");
    assert!(passes > 0.0 && pictures >= 7.0 * clips.len() as f64, "{pictures} pictures, {passes} passes");

    let pipeline = world.pipeline("two", all);
    let again = world.run(&pipeline, "two", &["-w", "2"]);
    assert_same("-w 2", &one, &tables(&world.output("two")));
    assert_eq!(metric(&again, "curette_model_rows_total{model=\"clip-vit-l14\"}"), pictures);
}

#[test]
fn the_whole_paper_is_three_pipelines_from_records_to_clips() {
    let Some(mut world) = World::new() else { return };
    let run = |world: &World, name: &str| {
        let file = world.pipeline_of(name, name, "-1000.0");
        succeed(world.command("run", &file, name).args(["--quiet", "-w", "2"]));
    };
    run(&world, "medical_text");
    let (catalogue, medical) = (rows(&world.output("medical/catalogue")), rows(&world.output("medical/medical")));
    assert!(medical.iter().all(|row| field(row, "text_model").starts_with("arctic-embed-m@0#")));
    run(&world, "expansion");
    let listed = rows(&world.output("expansion/to_fetch"));
    // All videos of the channels of the medical ones, and those that have no channel themselves: by sets.
    let channels: BTreeSet<&str> = medical.iter().map(|r| field(r, "channel_id")).filter(|c| *c != "null").collect();
    let found: BTreeSet<&str> = medical.iter().map(|r| field(r, "video_id")).collect();
    let wanted = |row: &&String| channels.contains(field(row, "channel_id")) || found.contains(field(row, "video_id"));
    let want: BTreeSet<&str> = catalogue.iter().filter(wanted).map(|r| field(r, "video_id")).collect();
    let got: BTreeSet<&str> = listed.iter().map(|r| field(r, "video_id")).collect();
    assert_eq!(got, want);
    assert!(found.len() < want.len() && want.len() < catalogue.len(), "{} of {} of {}", found.len(), want.len(), catalogue.len());

    // Fetched, as yt-dlp would: each video with its record beside it.
    let fetched = world.output("fetched");
    std::fs::create_dir_all(&fetched).unwrap();
    for entry in std::fs::read_dir(&world.videos).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(stem) = name.strip_suffix(".info.json") else { continue };
        let record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        if !got.contains(record["id"].as_str().unwrap()) {
            continue;
        }
        for beside in std::fs::read_dir(&world.videos).unwrap().map(|e| e.unwrap().path()) {
            let name = beside.file_name().unwrap().to_str().unwrap();
            if name.starts_with(&format!("{stem}.")) {
                std::fs::copy(&beside, fetched.join(name)).unwrap();
            }
        }
    }
    world.videos = fetched;
    run(&world, "medvideocap");
    let clips = rows(&world.output("medvideocap/clips"));
    assert!(!clips.is_empty() && clips.iter().all(|r| field(r, "caption").starts_with("caption ")));

    // Beside the counts of the paper.
    let stats = |format: &str| {
        let said = succeed(curette().arg("stats").arg(world.output("medvideocap")).args(["--format", format]));
        String::from_utf8(said.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&stats("json")).unwrap();
    let of = |step: &str| json["stages"].as_array().unwrap().iter().find(|s| s["step"] == step).unwrap().clone();
    assert_eq!((&of("clips")["reference_out"], &of("joint")["reference_out"]), (&110_969.into(), &55_803.into()));
    assert_eq!(of("joint")["rows_out"], clips.len());
    assert!(of("probe").get("reference_out").is_none() && json["reference"].as_str().unwrap().contains("Figure 4"), "{json}");
    let text = stats("text");
    assert!(text.contains("reference") && text.contains("110969"), "{text}");
    assert!(stats("svg").contains("(110969 there)"));
}

#[test]
fn another_threshold_asks_for_no_caption_and_decodes_nothing() {
    let Some(world) = World::new() else { return };
    let pipeline = world.pipeline("out", "-1000.0");
    let first = world.run(&pipeline, "out", &["-w", "2"]);
    let before = rows(&world.output("out").join("clips"));
    let asked = world.service.asked();
    assert!(metric(&first, "curette_media_grid_decodes_total") > 0.0);
    assert!(metric(&first, "curette_media_span_decodes_total") > 0.0);

    let mut scores: Vec<f64> = before.iter().map(|row| field(row, "aesthetic_score").parse().unwrap()).collect();
    scores.sort_by(f64::total_cmp);
    let (low, high) = (scores[0], scores[scores.len() - 1]);
    assert!(low < high, "the threshold must separate clips: {scores:?}");
    let limit = (low + high) / 2.0;
    let second = world.run(&world.pipeline("out", &format!("{limit:.9}")), "out", &["-w", "1", "--new-version"]);
    let after = rows(&world.output("out").join("clips"));
    let kept: Vec<&str> = before
        .iter()
        .filter(|r| field(r, "aesthetic_score").parse::<f64>().unwrap() >= limit)
        .map(|r| field(r, "clip_id"))
        .collect();
    assert_eq!(after.iter().map(|r| field(r, "clip_id")).collect::<Vec<_>>(), kept);
    assert!(!kept.is_empty() && kept.len() < before.len());
    for name in ["curette_media_grid_decodes_total", "curette_media_span_decodes_total", "curette_model_rows_total"] {
        assert_eq!(metric(&second, name), 0.0, "{name}: {second:#?}");
    }
    assert_eq!(world.service.asked(), asked, "every caption was there already");
}

#[test]
fn every_reading_of_the_dover_rule_can_be_run() {
    let Some(world) = World::new() else { return };
    let pipeline = world.pipeline("readings", "-1000.0");
    // The first pass of `quantile` measures and pays for nothing.
    let low_quality = |value: &str, joint: &str| {
        let mut command = world.command("run", &pipeline, "readings");
        command.env("MEDVIDEOCAP_LOW_QUALITY", value).env("MEDVIDEOCAP_JOINT", joint).args(["--quiet", "--new-version"]);
        command
    };
    succeed(&mut low_quality("false", "true"));
    assert_eq!(world.service.asked(), 0);
    let scores = world.output("readings").join("scores");
    let all = rows(&scores);
    let quantile = |share: f64, more: &[&str]| -> Value {
        let mut command = curette();
        command.arg("calibrate-quantile").arg(&scores).args(["--column", "dover_overall", "--format", "json"]);
        serde_json::from_slice(&succeed(command.arg("--share").arg(share.to_string()).args(more)).stdout).unwrap()
    };
    let cut = quantile(0.2, &[]);
    let wanted = (0.2 * all.len() as f64).round();
    assert_eq!((cut["rows"].as_f64().unwrap(), cut["dropped"].as_f64().unwrap()), (all.len() as f64, wanted), "{cut}");
    let limit = cut["limit"].as_f64().unwrap();
    let among = format!("dover_overall >= {limit}");
    let second = quantile(0.0, &["--among", &among, "--droppable", "aesthetic_score < 1000000.0"]);
    assert_eq!(second["rows"].as_f64().unwrap(), all.len() as f64 - wanted);

    succeed(&mut low_quality(&among, "true"));
    assert_eq!(rows(&world.output("readings").join("clips")).len() as f64, all.len() as f64 - wanted);
    // As printed.
    succeed(&mut low_quality("dover_logit <= 0", "not (dover_logit > 0.3 and aesthetic_score < 4.0)"));
    let literal = rows(&world.output("readings").join("clips"));
    let want = all.iter().filter(|r| field(r, "dover_logit").parse::<f64>().unwrap() <= 0.0).count();
    assert_eq!(literal.len(), want);
}
