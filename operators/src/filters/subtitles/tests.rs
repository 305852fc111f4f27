//! The operator on videos whose words are known, with the real models. Without them (`scripts/bootstrap` brings them) a test says so and passes; where
//! `CI` is set it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{Int32Type, Schema};
use curette_engine::resources::Resources;

use super::*;

/// The cache of `scripts/bootstrap`.
fn cache() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::var_os("CURETTE_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from)
}

fn there(file: PathBuf) -> Option<PathBuf> {
    if !file.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run scripts/bootstrap", file.display());
        eprintln!("skipped: no {} (run scripts/bootstrap)", file.display());
        return None;
    }
    Some(file)
}

/// ONNX Runtime, if this machine has it.
pub fn library() -> Option<PathBuf> {
    there(std::env::var_os("ORT_DYLIB_PATH").map_or_else(|| cache().join("onnxruntime/libonnxruntime.so"), PathBuf::from))
}

/// A process with models and library, if this machine has them.
fn resources() -> Option<Arc<Resources>> {
    let library = library()?;
    there(cache().join("models/rapidocr/ch_PP-OCRv4_det_infer.onnx"))?;
    let resources = Arc::new(Resources::default());
    let onnxruntime = library.to_string_lossy().into_owned();
    resources.get(|| RuntimeSettings { onnxruntime, ..RuntimeSettings::default() });
    Some(resources)
}

pub fn operator() -> Subtitles {
    let model = |name: &str| cache().join("models/rapidocr").join(name).to_string_lossy().into_owned();
    Subtitles {
        detector: model("ch_PP-OCRv4_det_infer.onnx"),
        recogniser: model("ch_PP-OCRv4_rec_infer.onnx"),
        dictionary: None,
        max_words: default_max_words(),
        count: Count::Words,
        frames: default_frames(),
        longest_side_px: None,
        min_line_score: None,
        timeout_seconds: default_timeout_seconds(),
    }
}

pub fn build(operator: &Subtitles, resources: &Arc<Resources>) -> Result<Box<dyn Transform>, OperatorError> {
    let paths = Paths { base: PathBuf::from(".") };
    let input = Arc::new(Schema::empty());
    let runtime = operator.build(&BuildContext { step: "test", input, id_column: String::new(), paths: &paths, resources })?;
    match runtime {
        Runtime::Transform(transform) => Ok(transform),
        _ => panic!("no transform"),
    }
}

pub fn run(operator: &Subtitles, resources: &Arc<Resources>, files: &[PathBuf]) -> Processed {
    let uris = files.iter().map(|f| Some(f.to_string_lossy())).collect::<StringArray>();
    let rows = RecordBatch::try_from_iter([("video_uri", Arc::new(uris) as ArrayRef)]).unwrap();
    let task = Task { step: "test", resources, cancelled: &AtomicBool::new(false) };
    let done = build(operator, resources).unwrap().process(&rows, &task).unwrap();
    done.check(files.len()).unwrap();
    for (column, added) in done.columns.iter().zip(operator.columns().adds) {
        assert_eq!(column.data_type(), added.field.data_type());
    }
    done
}

pub fn numbers(done: &Processed, column: usize) -> Vec<Option<i32>> {
    done.columns[column].as_primitive::<Int32Type>().iter().collect()
}

/// Videos of the sample corpus, written into a folder.
pub fn sample(folder: &Path, names: &[&str]) -> (Vec<PathBuf>, Vec<curette_sample::truth::Truth>) {
    gstreamer::init().unwrap();
    let videos = curette_sample::corpus::videos();
    names
        .iter()
        .map(|name| {
            let video = videos.iter().find(|v| v.file == *name).unwrap();
            curette_sample::generate::write_video(video, 1, folder).unwrap();
            (folder.join(name), curette_sample::truth::truth(video, 1))
        })
        .unzip()
}

#[test]
fn burnt_in_words_of_the_sample_corpus_are_counted_and_medical_pictures_have_none() {
    let Some(resources) = resources() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (files, truths) = sample(folder.path(), &["mri-subtitles.mp4", "mri-brain.mkv", "broken-text.mp4"]);
    // The five frames show each line of the truth once: frames 0, 29, 59, 89 and 119 at 12 fps.
    let shown: u32 = [0i64, 29, 59, 89, 119]
        .iter()
        .flat_map(|n| truths[0].subtitles.iter().filter(move |s| (s.start_us..s.end_us).contains(&(n * 1_000_000 / 12))))
        .map(|s| s.words)
        .sum();
    assert_eq!((shown, truths[0].subtitle_words, truths[1].subtitle_words), (18, 18, 0));

    let done = run(&operator(), &resources, &files);
    let text = done.columns[2].as_string::<i32>();
    println!("{:?}", text.value(0));
    // What the models make of these pictures: every line, one letter of 70 wrong, and two rings of the skull read as zeros in the last one.
    let total = 19;
    assert_eq!(numbers(&done, 0), [Some(total), Some(0), None]);
    let read: Vec<&str> = text.value(0).lines().collect();
    for line in truths[0].subtitles.iter().map(|s| s.text.as_str()) {
        let wrong =
            |other: &&str| other.chars().zip(line.chars()).filter(|(a, b)| a != b).count() + other.len().abs_diff(line.len());
        assert!(read.iter().any(|r| wrong(r) <= 1), "{line} was not read: {read:?}");
    }
    assert!(done.columns[3].as_string::<i32>().value(0).starts_with("ch_PP-OCRv4_det_infer@unversioned#d2a7720d45a5"));
    assert!(matches!(&done.verdicts[..], [Verdict::Pass, Verdict::Pass, Verdict::Unmeasured(p)] if p.code == "not_a_video"));

    let strict = |max_words| run(&Subtitles { max_words, ..operator() }, &resources, &files[..1]);
    assert_eq!(strict(total as usize).verdicts, [Verdict::Pass], "the limit itself is kept");
    assert!(
        matches!(&strict(total as usize - 1).verdicts[..], [Verdict::Fail(r)] if r.measured == Some(19.0) && r.threshold == Some(18.0))
    );
    // 0, 6, 10: counting stops at the third frame.
    let early = strict(9);
    assert_eq!(numbers(&early, 0), [Some(10)]);
    assert!(matches!(&early.verdicts[..], [Verdict::Fail(r)] if r.message.contains("first 3 of")), "{:?}", early.verdicts);
}

#[test]
fn a_real_film_with_a_burnt_in_line_is_told_from_the_same_film_without() {
    let Some(folder) = crate::media::tests::media_folder() else { return };
    let Some(resources) = resources() else { return };
    let files = ["subtitles-burntin-480p.mp4", "nature-bee-720p.mp4", "surgery-laparoscopy-720p.mp4"].map(|n| folder.join(n));
    for count in [Count::Words, Count::WordsOrChars] {
        let done = run(&Subtitles { count, max_words: 1000, ..operator() }, &resources, &files);
        let text = done.columns[2].as_string::<i32>();
        println!("{count:?} {:?} {:?} {:?}", numbers(&done, 0), numbers(&done, 1), text.iter().collect::<Vec<_>>());
        assert!(numbers(&done, 0)[0] >= Some(20), "the line stands in all five frames");
        assert_eq!(numbers(&done, 0)[1], Some(0), "a bee");
    }
    assert!(matches!(run(&operator(), &resources, &files[..1]).verdicts[..], [Verdict::Fail(_)]));
}

#[test]
fn models_that_do_not_fit_are_refused_before_the_first_row() {
    let Some(resources) = resources() else { return };
    let refused = |operator: &Subtitles| build(operator, &resources).map(|_| ()).unwrap_err().to_string();
    let good = operator();
    let swapped = Subtitles { detector: good.recogniser.clone(), recogniser: good.detector.clone(), ..good.clone() };
    assert!(refused(&swapped).contains("dictionary") || refused(&swapped).contains("no text detector"), "{}", refused(&swapped));
    let gone = Subtitles { detector: "nowhere.onnx".into(), ..good.clone() };
    assert!(refused(&gone).contains("nowhere.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.txt");
    std::fs::write(&keys, "a\nb\n").unwrap();
    let foreign = Subtitles { dictionary: Some(keys.to_string_lossy().into_owned()), ..good };
    let message = refused(&foreign);
    assert!(message.contains("6625 classes") && message.contains("3 characters"), "{message}");
}

#[test]
fn models_and_dictionary_are_part_of_the_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths { base: folder.path().to_path_buf() };
    let names = ["a.onnx", "b.onnx", "keys.txt"];
    names.iter().for_each(|n| std::fs::write(folder.path().join(n), n).unwrap());
    let operator =
        Subtitles { detector: "a.onnx".into(), recogniser: "b.onnx".into(), dictionary: Some("keys.txt".into()), ..operator() };
    let mut files = operator.model_files(&paths, &RuntimeSettings::default());
    files.extend(operator.files(&paths));
    let found: Vec<_> = files.iter().map(|f| (f.key, f.path.file_name().unwrap().to_str().unwrap())).collect();
    assert!(["detector", "recogniser", "dictionary"].iter().zip(names).all(|(k, n)| found.contains(&(k, n))), "{found:?}");
}
