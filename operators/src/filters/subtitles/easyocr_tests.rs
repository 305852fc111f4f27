//! EasyOCR's models: what `check` says of them, and a run with two tiny networks of the true shapes (`scripts/goldens/easyocr.py`; the real weights
//! are not on a package index). The run needs ONNX Runtime: see `tests.rs`.

use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use curette_engine::resources::Resources;
use curette_models::manifest::{Contract, Manifest};

use super::kinds::{Family, Role, foreign, mistake};
use super::tests::{library, numbers, operator, run, sample};
use super::*;
use crate::testing::Mistakes;

fn datasets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/models")
}

fn manifest(name: &str) -> Manifest {
    let path = datasets().join(format!("{name}.toml"));
    Manifest::parse(&std::fs::read_to_string(&path).unwrap(), &path).unwrap()
}

fn contract(input: &str, output: &str) -> Contract {
    let port = |shape: &str| format!("[{{ name = \"p\", dtype = \"f32\", shape = {shape} }}]");
    toml::from_str(&format!("inputs = {}\noutputs = {}", port(input), port(output))).unwrap()
}

/// The tiny networks under the names of the real ones, in a folder of their own.
fn tiny(folder: &Path) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("ocr/tests/golden/easyocr");
    for (from, to) in [
        ("craft-tiny.onnx", "easyocr-craft.onnx"),
        ("rec-tiny.onnx", "easyocr-english-g2.onnx"),
        ("english.yaml", "easyocr-english-g2.yaml"),
    ] {
        std::fs::copy(golden.join(from), folder.join(to)).unwrap();
    }
    for name in ["easyocr-craft.toml", "easyocr-english-g2.toml"] {
        std::fs::copy(datasets().join(name), folder.join(name)).unwrap();
    }
}

fn easyocr() -> Subtitles {
    Subtitles { detector: "easyocr-craft".into(), recogniser: "easyocr-english-g2".into(), max_words: 1000, ..operator() }
}

fn runtime(folder: &Path) -> RuntimeSettings {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    RuntimeSettings { models: text(folder), cache: text(&folder.join("cache")), ..RuntimeSettings::default() }
}

#[test]
fn a_manifest_says_whose_model_it_is_and_what_it_is_for() {
    let of = |role, name: &str| mistake(role, &manifest(name), manifest(name).contract.as_ref());
    for (detector, recogniser, family) in
        [("easyocr-craft", "easyocr-english-g2", Family::EasyOcr), ("ppocrv4-det", "ppocrv4-rec", Family::PpOcr)]
    {
        assert_eq!((of(Role::Detector, detector), of(Role::Recogniser, recogniser)), (None, None));
        assert_eq!((Family::of(&manifest(detector)), Family::of(&manifest(recogniser))), (family, family));
        assert!(of(Role::Recogniser, detector).is_some() && of(Role::Detector, recogniser).is_some());
    }
    let swapped = of(Role::Recogniser, "easyocr-craft").unwrap();
    assert!(swapped.message.contains("no text recogniser") && swapped.help.contains("key `detector`"), "{swapped:?}");
    let other = of(Role::Detector, "clip-vit-b32").unwrap();
    assert!(other.message.contains("preset = \"clip-224\""), "{other:?}");
}

#[test]
fn a_bare_graph_of_easyocr_is_told_what_it_lacks() {
    let bare = Manifest::bare(Path::new("craft.onnx"));
    let craft = contract(r#"["n", 3, "h", "w"]"#, r#"["n", "r", "c", 2]"#);
    let reads = contract(r#"["n", 1, 64, "w"]"#, r#"["n", "s", 97]"#);
    let help = |role, contract: &Contract| mistake(role, &bare, Some(contract)).unwrap().help;
    assert!(help(Role::Detector, &craft).contains("preset = \"craft\""));
    assert!(help(Role::Recogniser, &reads).contains("preset = \"easyocr-rec\""));
    let wrong = mistake(Role::Detector, &manifest("easyocr-craft"), Some(&reads)).unwrap();
    assert!(wrong.message.contains("of EasyOCR") && wrong.message.contains("[any, any, any, 2]"), "{wrong:?}");
    let characters = curette_ocr::Dictionary::from_characters("abc");
    assert!(foreign(&characters, &reads).unwrap().message.contains("97 classes"));
    assert_eq!(foreign(&characters, &craft_without_classes()), None);
}

fn craft_without_classes() -> Contract {
    contract(r#"["n", 1, 64, "w"]"#, r#"["n", "s", "classes"]"#)
}

#[test]
fn check_tells_swapped_models_and_a_foreign_dictionary_before_a_run() {
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let said = |operator: &Subtitles| {
        let mut found = Mistakes { paths: Paths { base: folder.path().into() }, lines: Vec::new() };
        operator.check_models(&runtime(folder.path()), &mut found);
        found.lines.retain(|line| !line.contains("ONNX Runtime"));
        found.lines
    };
    assert_eq!(said(&easyocr()), Vec::<String>::new());
    let swapped = Subtitles { detector: "easyocr-english-g2".into(), recogniser: "easyocr-craft".into(), ..easyocr() };
    let lines = said(&swapped);
    assert!(lines.len() == 2 && lines[0].contains("no text detector") && lines[1].contains("no text recogniser"), "{lines:?}");
    std::fs::write(folder.path().join("keys.txt"), "a\nb\n").unwrap();
    let lines = said(&Subtitles { dictionary: Some("keys.txt".into()), ..easyocr() });
    assert!(lines.len() == 1 && lines[0].contains("97 classes"), "{lines:?}");
}

#[test]
fn subtitles_are_found_and_read_with_models_of_easyocr() {
    let Some(library) = library() else { return };
    let folder = tempfile::tempdir().unwrap();
    tiny(folder.path());
    let resources = Arc::new(Resources::default());
    let settings = RuntimeSettings { onnxruntime: library.to_string_lossy().into_owned(), ..runtime(folder.path()) };
    resources.get(|| settings);
    let (files, truths) = sample(folder.path(), &["mri-subtitles.mp4", "broken-text.mp4"]);
    assert_eq!(truths[0].subtitle_words, 18);

    let done = run(&easyocr(), &resources, &files);
    let text = done.columns[2].as_string::<i32>();
    println!("{:?} {:?} {:?}", numbers(&done, 0), numbers(&done, 1), text.iter().collect::<Vec<_>>());
    // The tiny detector finds what is bright, so every line that is shown; what the tiny recogniser makes of it means nothing, but is something.
    assert!(numbers(&done, 1)[0] >= Some(3) && numbers(&done, 0)[0] >= Some(3) && !text.value(0).is_empty());
    assert_eq!(numbers(&done, 0)[1], None);
    let models = done.columns[3].as_string::<i32>();
    assert!(models.value(0).starts_with("easyocr-craft@1#") && models.value(0).contains("+easyocr-english-g2@1#"));
    assert!(matches!(&done.verdicts[1], Verdict::Unmeasured(p) if p.code == "not_a_video"));
    // A score of 1 is reached by nothing: boxes stay, words go.
    let strict = run(&Subtitles { min_line_score: Some(1.0), ..easyocr() }, &resources, &files[..1]);
    assert_eq!((numbers(&strict, 0), numbers(&strict, 1)[0]), (vec![Some(0)], numbers(&done, 1)[0]));
}
