//! The files that examples name: a corpus, a head, a video.

use std::path::{Path, PathBuf};

use curette_engine::graph::RuntimeSettings;
use curette_engine::operator::{DynOperator, Kind, Paths};
use curette_engine::resources::Resources;
use curette_heads::{Encoder, Head};
use curette_models::store::hash_file;

/// Width of the embeddings in `rows.rs`.
pub const WIDTH: usize = 4;
/// Width of the tiny text encoder's embeddings.
const TEXT_WIDTH: usize = 16;
/// Their name.
pub const EMBEDDING: &str = "contract/1";

/// What `scripts/bootstrap` fetched.
fn cache() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CURETTE_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from)
}

fn library() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache().join("onnxruntime/libonnxruntime.so"), PathBuf::from)
}

/// Model files that the example of an operator needs, below the cache's `models/`.
fn fetched(operator: &str) -> &'static [&'static str] {
    match operator {
        "subtitles" => &["rapidocr/ch_PP-OCRv4_det_infer.onnx", "rapidocr/ch_PP-OCRv4_rec_infer.onnx"],
        _ => &[],
    }
}

/// A file that an operator with models needs and that this machine lacks. Where `CI` is set that is an error.
pub fn lacks(operator: &str) -> Option<PathBuf> {
    if !["subtitles", "aesthetic", "technical", "text_classifier"].contains(&operator) {
        return None;
    }
    let models = fetched(operator).iter().map(|m| cache().join("models").join(m));
    let missing = models.chain([library()]).find(|f| !f.exists());
    assert!(missing.is_none() || std::env::var_os("CI").is_none(), "{missing:?} is missing: run scripts/bootstrap");
    missing
}

/// Lets operators find ONNX Runtime, the models that `scripts/bootstrap` fetched, and tiny ones below `folder`.
pub fn with_models(folder: &Path, operator: &str, resources: &Resources) {
    let store = folder.join("cache");
    for model in fetched(operator) {
        let file = cache().join("models").join(model);
        let blob = store.join("blobs").join(hash_file(&file).unwrap().0);
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::copy(&file, &blob).unwrap();
    }
    let manifests = folder.join("models");
    tiny_models(&manifests);
    tiny_text_encoder(&manifests);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let onnxruntime = Some(library()).filter(|l| l.exists()).map(|l| text(&l)).unwrap_or_default();
    resources.get(|| RuntimeSettings {
        onnxruntime,
        models: text(&manifests),
        cache: text(&store),
        ..RuntimeSettings::default()
    });
}

/// Makes what an operator's example needs below `folder`.
pub fn fill(folder: &Path, operator: &dyn DynOperator) {
    let corpus = folder.join("corpus");
    std::fs::create_dir_all(&corpus).unwrap();
    std::fs::write(corpus.join("text.mp4"), "this is no video\n").unwrap();
    std::fs::write(corpus.join("empty.mp4"), "").unwrap();
    if ["channel_expansion", "dedup"].contains(&operator.name()) {
        tables(&corpus);
    }
    if operator.kind() == Kind::Source {
        std::fs::write(corpus.join("empty.info.json"), r#"{"id": "abc", "title": "Heart", "tags": ["a", null]}"#).unwrap();
        std::fs::write(corpus.join("text.info.json"), "{broken").unwrap();
        std::fs::write(corpus.join("empty.en.vtt"), "WEBVTT\n\n00:00.000 --> 00:02.000\nthe heart\n").unwrap();
    }
    if operator.name() == "metadata" {
        let catalogue = folder.join("catalogue");
        std::fs::create_dir_all(&catalogue).unwrap();
        std::fs::write(catalogue.join("a.jsonl"), "{\"id\": \"a\", \"title\": 1}\n{broken\n{\"title\": \"no id\"}\n").unwrap();
        std::fs::write(catalogue.join("b.csv"), "id,title\nb,x\n").unwrap();
        std::fs::write(catalogue.join("c.parquet"), "no Parquet").unwrap();
    }
    for file in operator.files(&Paths { base: folder.to_path_buf() }) {
        match (operator.name(), file.key) {
            ("frame_classifier", "head") => std::fs::write(&file.path, head().to_bytes()).unwrap(),
            ("category", "head") => std::fs::write(&file.path, categories().to_bytes()).unwrap(),
            ("text_classifier", "head") => {
                let encoder = Encoder::built_in("arctic-embed-m");
                let head = Head::linear(vec![0.01; TEXT_WIDTH], 0.5, encoder, ["no".into(), "yes".into()]);
                std::fs::write(&file.path, head.to_bytes()).unwrap();
            }
            (name, key) => panic!("the example of {name} names a file in `{key}`: make one in tests/contract/world.rs"),
        }
    }
    let reads = |name: &str| operator.columns().needs.iter().any(|need| need.name == name);
    if reads("transcript_uri") {
        std::fs::write(folder.join("speech.en.vtt"), "WEBVTT\n\n00:00.000 --> 00:02.000\nthe heart\n").unwrap();
    }
    if reads("video_uri") {
        video(&folder.join("video.mp4"));
    }
}

/// Manifests and files of tiny models with random weights, under the names that examples use.
fn tiny_models(folder: &Path) {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quality-models");
    std::fs::create_dir_all(folder).unwrap();
    for (name, kind, role, file) in [
        ("clip-vit-l14", "onnx", "graph", "clip.onnx"),
        ("laion-aesthetic", "head", "head", "head.safetensors"),
        ("dover-technical", "onnx", "graph", "dover-technical.onnx"),
        ("dover-aesthetic", "onnx", "graph", "dover-aesthetic.onnx"),
    ] {
        std::fs::copy(goldens.join(file), folder.join(file)).unwrap();
        let port = |name: &str, shape: &str| format!("[{{ name = \"{name}\", dtype = \"f32\", shape = {shape} }}]");
        let (input, output) = match file {
            "clip.onnx" => (port("pixel_values", "[\"batch\", 3, 224, 224]"), port("image_embeds", "[\"batch\", 8]")),
            _ => (port("view", "[\"batch\", 3, 32, 224, 224]"), port("score", "[\"batch\"]")),
        };
        let contract = if kind == "onnx" { format!("[contract]\ninputs = {input}\noutputs = {output}\n") } else { String::new() };
        let text = format!(
            "name = \"{name}\"\nversion = \"0\"\ntitle = \"random weights\"\nkind = \"{kind}\"\n\
             files = [{{ role = \"{role}\", path = \"{file}\" }}]\n[origin]\nlicence = \"MIT\"\ncommercial_use = \"yes\"\n{contract}"
        );
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    }
}

/// The text encoder of the models crate's own tests, under the name that the example uses.
fn tiny_text_encoder(folder: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/fixtures");
    for file in ["text.onnx", "tokenizer.json"] {
        std::fs::copy(fixtures.join(file), folder.join(file)).unwrap();
    }
    let port = |name: &str| format!("{{ name = \"{name}\", dtype = \"i64\", shape = [\"batch\", \"seq\"] }}");
    let text = format!(
        "name = \"arctic-embed-m\"\nversion = \"0\"\ntitle = \"made-up weights\"\nkind = \"onnx\"\n\
         files = [{{ role = \"graph\", path = \"text.onnx\" }}, {{ role = \"tokenizer\", path = \"tokenizer.json\" }}]\n\
         [origin]\nlicence = \"CC0-1.0\"\ncommercial_use = \"yes\"\n[contract]\ninputs = [{}, {}]\n\
         outputs = [{{ name = \"embedding\", dtype = \"f32\", shape = [\"batch\", {TEXT_WIDTH}] }}]\n[tokenizer]\nmax_length = 12\n",
        port("input_ids"),
        port("attention_mask"),
    );
    std::fs::write(folder.join("arctic-embed-m.toml"), text).unwrap();
}

/// Tables of records: two crawls of a channel, of which one video is medical.
fn tables(folder: &Path) {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    let write = |name: &str, rows: &[[Option<&str>; 4]]| {
        let column = |at: usize| -> ArrayRef { std::sync::Arc::new(rows.iter().map(|row| row[at]).collect::<StringArray>()) };
        let names = ["video_id", "channel_id", "title", "content_blake3"].into_iter().enumerate();
        let batch = RecordBatch::try_from_iter_with_nullable(names.map(|(at, name)| (name, column(at), true))).unwrap();
        let file = std::fs::File::create(folder.join(name)).unwrap();
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    };
    let heart = [Some("v1"), Some("UC1"), Some("heart"), Some("aa")];
    let other = [Some("v2"), Some("UC1"), None, None];
    write("catalogue.parquet", &[heart, other, [Some("v3"), None, Some("alone"), Some("bb")], [None; 4]]);
    write("medical.parquet", &[heart]);
    write("probed.parquet", &[heart, other, [Some("v3"), None, Some(""), None], [None; 4]]);
}

/// Removes all inputs of sources.
pub fn empty(folder: &Path) {
    std::fs::remove_dir_all(folder.join("corpus")).unwrap();
    // Only one source has it.
    let _ = std::fs::remove_dir_all(folder.join("catalogue"));
}

fn head() -> Head {
    Head::linear(vec![2.0; WIDTH], -1.0, Encoder::built_in(EMBEDDING), ["no".into(), "yes".into()])
}

/// Five classes, of which each but the last looks at one number.
fn categories() -> Head {
    let classes = ["teaching", "clinical_practice", "popular_science", "animation", "imaging"].map(String::from).to_vec();
    let mut weight = vec![0.0; 5 * WIDTH];
    (0..WIDTH).for_each(|i| weight[i * WIDTH + i] = 3.0);
    let output = curette_heads::head::Layer { inputs: WIDTH, weight, bias: vec![0.0; 5] };
    Head { output, classes, ..head() }
}

/// Eight seconds at 854x480 of a picture that fills its frame (noise: `ball` would be a ball between black borders).
fn video(path: &Path) {
    use gstreamer::prelude::*;
    gstreamer::init().expect("GStreamer; run scripts/bootstrap");
    let text = format!(
        "videotestsrc pattern=snow num-buffers=80 ! video/x-raw,width=854,height=480,framerate=10/1 ! \
         x264enc speed-preset=ultrafast key-int-max=20 ! mp4mux ! filesink location=\"{}\"",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&text).expect("GStreamer with x264enc and mp4mux; run scripts/bootstrap");
    let bus = pipeline.bus().unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let end = bus.timed_pop_filtered(
        gstreamer::ClockTime::from_seconds(60),
        &[gstreamer::MessageType::Eos, gstreamer::MessageType::Error],
    );
    assert!(end.is_some_and(|m| m.type_() == gstreamer::MessageType::Eos), "the test video could not be made");
    pipeline.set_state(gstreamer::State::Null).unwrap();
}
