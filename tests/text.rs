//! The text funnel with a real model: embeddings of all-MiniLM-L6-v2, a head trained on them, and a pipeline that drops what the head finds off topic.
//!
//! Needs what `scripts/bootstrap` fetches (ONNX Runtime, the model); without it the test says so on one line and passes, except where `CI` is set.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use support::{cached, curette, root, rows, succeed};

const MEDICAL: [&str; 8] = [
    "Laparoscopic removal of the gallbladder, step by step",
    "How to read a chest X-ray",
    "Knee replacement surgery in the operating room",
    "Echocardiography basics: the four chambers of the heart",
    "Suturing techniques for medical students",
    "Dental implant placement with bone graft",
    "Endoscopic view of a stomach ulcer",
    "Physiotherapy after a stroke: exercises for the arm",
];
const OTHER: [&str; 8] = [
    "How to bake sourdough bread at home",
    "Minecraft castle build timelapse",
    "Top ten football goals of the season",
    "Guitar lesson: three easy chords",
    "Road trip through the mountains in a camper van",
    "Unboxing the newest smartphone",
    "Funny cats falling off shelves",
    "Learn to paint a sunset with acrylics",
];
/// What the head has not seen: the first four are medical.
const UNSEEN: [&str; 8] = [
    "Open heart bypass operation explained by a surgeon",
    "MRI scan of a torn ligament",
    "Cataract surgery under the microscope",
    "Inserting a central venous catheter with ultrasound",
    "Restoring a rusty bicycle",
    "Chess opening traps for beginners",
    "Drone footage of a volcano",
    "Street food tour in Bangkok",
];

/// A folder of empty videos with titles: `text_classifier` reads only what is written about them.
fn records(folder: &Path, titles: &[(String, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for (index, (title, topic)) in titles.iter().enumerate() {
        std::fs::write(folder.join(format!("{index:03}.mp4")), "").unwrap();
        let info = serde_json::json!({ "id": format!("{index:03}"), "title": title, "channel_id": topic });
        std::fs::write(folder.join(format!("{index:03}.info.json")), info.to_string()).unwrap();
    }
}

fn pipeline(folder: &Path, name: &str, step: &str) -> PathBuf {
    let text = format!(
        "[pipeline]\nname = \"{name}\"\noutput = \"{name}-out\"\n\n[step.videos]\ntype = \"videos\"\npath = \"{name}\"\n\n\
         [step.text]\ntype = \"text_classifier\"\ninputs = [\"videos\"]\nmodel = \"all-minilm-l6-v2\"\nfields = [\"title\"]\n{step}\n\n\
         [step.table]\ntype = \"parquet\"\ninputs = [\"text\"]\n"
    );
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_head_on_real_embeddings_tells_medical_titles_from_others() {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).or_else(|| cached("onnxruntime/libonnxruntime.so"));
    let (Some(library), Some(graph), Some(tokenizer)) =
        (library, cached("models/minilm/all-minilm-l6-v2.onnx"), cached("models/minilm/tokenizer.json"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let command = |args: &[&str]| {
        let mut command = curette();
        command.current_dir(folder.path()).args(args);
        command.env("ORT_DYLIB_PATH", &library).env("CURETTE_MODEL_CACHE", at("cache"));
        command
    };
    let added = succeed(
        command(&["models", "add", "all-minilm-l6-v2"])
            .args([format!("graph={}", graph.display()), format!("tokenizer={}", tokenizer.display())]),
    );
    assert!(String::from_utf8_lossy(&added.stdout).contains("tried: fine"), "{added:?}");

    // Each title in some variations, so that each class has the 50 rows that training asks for.
    let mut train = Vec::new();
    for round in ["", "Part 2: ", "Full video: ", "HD: ", "Lecture: ", "Shorts: ", "Live: "] {
        train.extend(MEDICAL.iter().map(|t| (format!("{round}{t}"), "medical")));
        train.extend(OTHER.iter().map(|t| (format!("{round}{t}"), "other")));
    }
    records(&at("train"), &train);
    let embed = pipeline(folder.path(), "train", "keep_embedding = true");
    succeed(command(&["run", "--quiet"]).arg(&embed));
    let trained = succeed(&mut command(&[
        "train-head",
        "--embeddings=train-out/table",
        "--embedding-column=text_embedding",
        "--label=channel_id",
        "--positive=medical",
        "--negative=other",
        "--out=text.safetensors",
        "--format=json",
    ]));
    let report: serde_json::Value = serde_json::from_slice(&trained.stdout).unwrap();
    let name = report["encoder"]["name"].as_str().or_else(|| report["encoder"].as_str()).unwrap_or_default();
    assert!(name.starts_with("all-minilm-l6-v2"), "{report}");

    let unseen: Vec<_> = UNSEEN.iter().map(|t| ((*t).to_owned(), "")).collect();
    records(&at("unseen"), &unseen);
    let classify = pipeline(folder.path(), "unseen", "head = \"text.safetensors\"\nthreshold = 0.5");
    succeed(command(&["check"]).arg(&classify));
    succeed(command(&["run", "--quiet", "-w", "2"]).arg(&classify));
    let kept = rows(&at("unseen-out/table"));
    let title = |row: &String| row.split(" | ").find_map(|c| c.strip_prefix("title=")).unwrap().to_owned();
    let mut kept: Vec<String> = kept.iter().map(title).collect();
    kept.sort();
    let mut wanted = UNSEEN[..4].to_vec();
    wanted.sort_unstable();
    assert_eq!(kept, wanted);
    let rejects = rows(&at("unseen-out/rejects"));
    assert!(rejects.len() == 4 && rejects.iter().all(|r| r.contains("off_topic")), "{rejects:?}");

    // Another model's file in its place is refused, and what was there stays.
    let other = root().join("operators/models/tests/fixtures/text.onnx");
    let refused = command(&["models", "add", "all-minilm-l6-v2"]).arg(other).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is not what its manifest says"), "{said}");
    succeed(command(&["check"]).arg(&classify));
}
