//! Training from label file to head file.

use std::fs::File;
use std::path::PathBuf;

use curette_engine::verdict::Problem;
use curette_heads::threshold::ThresholdRule;

use super::samples::Embedded;
use super::table::EmbeddingTable;
use super::*;
use crate::frames::fixtures::{Frames, batch};

/// Videos named `m*` point one way with some scatter, the others another way.
struct Directions;

impl Embedder for Directions {
    fn encoder(&self) -> Encoder {
        Encoder::built_in("test/1")
    }
    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        if video == "broken" {
            return Err(Problem::new("damaged", "no frame"));
        }
        let base: f32 = if video.starts_with('m') { 20.0 } else { 70.0 };
        let number: f32 = video[1..].parse().unwrap();
        let angle = |k: usize| (base + number + k as f32 * 0.7).to_radians();
        Ok(Embedded {
            times_us: (0..20).map(|k| k * 1_000_000).collect(),
            vectors: (0..20).map(|k| vec![3.0 * angle(k).cos(), 3.0 * angle(k).sin()]).collect(),
        })
    }
}

fn labels(dir: &tempfile::TempDir) -> PathBuf {
    let path = dir.path().join("labels.csv");
    let mut text = "video_id,start_seconds,end_seconds,label\n".to_owned();
    for k in 0..10 {
        text += &format!("m{k},0,100,medical\nn{k},0,8,non_medical\nn{k},50,60,non_medical\n");
    }
    text += "broken,,,medical\n";
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn separable_videos_are_separated_and_the_bytes_are_always_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("out/a.safetensors"), dir.path().join("b.safetensors"));
    let outcome = run(&labels(&dir), None, &Directions, None, &Settings::default(), &a).unwrap();
    assert_eq!(outcome, run(&labels(&dir), None, &Directions, None, &Settings::default(), &b).unwrap());
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());

    let (head, _) = Head::load(&a).unwrap();
    assert_eq!((head.dim(), head.encoder.to_string().as_str()), (2, "test/1"));
    let threshold = head.threshold().unwrap() as f32;
    assert!(head.score(&[1.0, 0.3]) > threshold && head.score(&[0.2, 1.0]) < threshold);
    assert_eq!(outcome.report.validation.metrics.auc, Some(1.0));
    assert_eq!(outcome.report.test.as_ref().unwrap().metrics.accuracy, Some(1.0));
    assert_eq!(outcome.labels_without_frames, 10);
    assert!(outcome.to_string().ends_with("skipped     broken: damaged: no frame\n"), "{outcome}");
}

#[test]
fn samples_do_not_depend_on_threads() {
    let dir = tempfile::tempdir().unwrap();
    let labels = labels::read(&labels(&dir), &Settings::default().classes, None).unwrap();
    let of = |threads| samples::collect(&labels, &Directions, threads).unwrap();
    assert_eq!(of(1), of(4));
}

fn parquet(path: &std::path::Path, rows: &arrow::array::RecordBatch) {
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

#[test]
fn embeddings_of_a_table_train_the_same_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let frames = |a: f32| Some(Frames::at(&(0..20).map(|k| a + 0.5 * k as f32).collect::<Vec<_>>(), &[true; 20]));
    let mut videos: Vec<_> = (0..16).map(|v| frames(if v % 2 == 0 { 20.0 } else { 70.0 } + v as f32)).collect();
    videos.push(None);
    parquet(&path, &batch(&videos));
    let labels = dir.path().join("l.csv");
    let lines: String = (0..17).map(|v| format!("v{v},{}\n", (v + 1) % 2)).collect();
    std::fs::write(&labels, format!("video_id,label\n{lines}")).unwrap();
    let train = |wanted: Option<&Encoder>| run_table(&labels, None, &path, wanted, &Settings::default(), &dir.path().join("h"));
    let outcome = train(None).unwrap();
    assert_eq!(outcome.report.test.unwrap().metrics.f1, Some(1.0));
    assert_eq!(outcome.videos_skipped, ["v16: not_in_table: the embedding table has no such `video_id`"]);
    assert!(EmbeddingTable::read(&labels, &|_| true).is_err());
    let error = train(Some(&Encoder::built_in("clip"))).unwrap_err().to_string();
    assert_eq!(error, "the embeddings are of `test/1`, not of `clip` as --encoder says");
}

/// A row per embedding: channel, label and encoder beside it.
fn flat(path: &std::path::Path, rows: usize, encoder: &str, edit: impl Fn(usize, &mut [f32; 2])) {
    use arrow::array::{ArrayRef, FixedSizeListBuilder, Float32Builder, StringArray};
    let mut vectors = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for i in 0..rows {
        let angle = (if i % 2 == 0 { 20.0 } else { 70.0 } + (i % 17) as f32).to_radians();
        let mut vector = [angle.cos(), angle.sin()];
        edit(i, &mut vector);
        vectors.values().append_slice(&vector);
        vectors.append(true);
    }
    let text = |f: &dyn Fn(usize) -> String| -> ArrayRef { std::sync::Arc::new(StringArray::from_iter_values((0..rows).map(f))) };
    let columns = [
        ("video_id", text(&|i| format!("v{i}"))),
        ("channel_id", text(&|i| format!("c{}", i / 6))),
        ("label", text(&|i| if i % 2 == 0 { "medical".into() } else { "non_medical".into() })),
        ("embedding_model", text(&|_| encoder.into())),
        ("embedding", std::sync::Arc::new(vectors.finish()) as ArrayRef),
    ];
    parquet(path, &arrow::array::RecordBatch::try_from_iter(columns).unwrap());
}

#[test]
fn a_table_with_labels_and_channels_trains_a_head() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("t.parquet"), dir.path().join("h"));
    let encoder = |digit: &str| format!("arctic@sha256:{}", digit.repeat(64));
    flat(&path, 200, &encoder("a"), |_, _| ());
    let table = flat::FlatTable {
        path: path.clone(),
        embedding: "embedding".into(),
        label: "label".into(),
        group: Some("channel_id".into()),
    };
    let outcome = run_flat(&table, Some(&encoder("a").parse().unwrap()), &Settings::default(), &out).unwrap();
    assert_eq!((outcome.report.encoder.clone(), outcome.report.dim), (encoder("a"), 2));
    let groups = |part: &curette_heads::report::PartReport| part.groups;
    let report = &outcome.report;
    assert_eq!(groups(&report.training) + groups(&report.validation) + groups(report.test.as_ref().unwrap()), 34);
    // The same rows through a label table and one vector an id.
    let labels = dir.path().join("l.csv");
    let lines: String = (0..200).map(|i| format!("v{i},c{},{}\n", i / 6, (i + 1) % 2)).collect();
    std::fs::write(&labels, format!("video_id,channel_id,label\n{lines}")).unwrap();
    let single = EmbeddingTable::read(&path, &|_| true).unwrap();
    let again = run(&labels, Some("channel_id"), &single, None, &Settings::default(), &dir.path().join("h2")).unwrap();
    assert_eq!((again.report.training.groups, again.report.dim), (report.training.groups, 2));

    let refused = |table: &flat::FlatTable, encoder: Option<String>, rows: usize, edit: &dyn Fn(usize, &mut [f32; 2])| {
        flat(&path, rows, &self::encoder_name(), edit);
        let wanted = encoder.map(|e| e.parse().unwrap());
        run_flat(table, wanted.as_ref(), &Settings::default(), &out)
            .unwrap_err()
            .to_string()
            .replace(&path.display().to_string(), "T")
    };
    let with = |edit: &dyn Fn(&mut flat::FlatTable)| {
        let mut table = table.clone();
        edit(&mut table);
        table
    };
    let said = [
        refused(&table, Some(encoder("b")), 200, &|_, _| ()),
        refused(&table, Some("clip".into()), 200, &|_, _| ()),
        refused(&table, None, 90, &|_, _| ()),
        refused(&table, None, 200, &|i, v| {
            if i == 7 {
                v[1] = f32::NAN
            }
        }),
        refused(&with(&|t| t.label = "video_id".into()), None, 200, &|_, _| ()),
        refused(&with(&|t| t.embedding = "vector".into()), None, 200, &|_, _| ()),
        refused(&with(&|t| t.embedding = "label".into()), None, 200, &|_, _| ()),
        refused(&with(&|t| t.group = Some("channel".into())), None, 200, &|_, _| ()),
    ];
    insta::assert_snapshot!(said.join("\n").replace(&"a".repeat(64), "A").replace(&"b".repeat(64), "B"));
}

/// As Polars and pandas write it: large types, 64 bits, and labels for a part of the rows.
#[test]
fn tables_of_other_writers_and_rows_without_labels_are_taken() {
    use arrow::array::{Array, ArrayRef, StringArray};
    use arrow::datatypes::{DataType, Field};
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("t.parquet"), dir.path().join("h"));
    flat(&path, 240, &encoder_name(), |_, _| ());
    let read = |path: &std::path::Path| {
        let table = crate::tables::OpenTable::open(path).unwrap();
        let names: Vec<&str> = table.schema().fields().iter().map(|f| f.name().as_str()).collect();
        let batches: Vec<_> = table.batches(&names, 1000).unwrap().map(Result::unwrap).collect();
        batches.into_iter().next().unwrap()
    };
    let ours = read(&path);
    let item = |t| std::sync::Arc::new(Field::new_list_field(t, true));
    let columns: Vec<(&str, ArrayRef)> = [
        ("video_id", DataType::LargeUtf8),
        ("channel_id", DataType::Utf8View),
        ("embedding_model", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
        ("embedding", DataType::LargeList(item(DataType::Float64))),
    ]
    .into_iter()
    .map(|(name, to)| (name, arrow_cast::cast(ours.column_by_name(name).unwrap(), &to).unwrap()))
    .collect();
    let said = ours.column_by_name("label").unwrap();
    let said = said.as_any().downcast_ref::<StringArray>().unwrap();
    let label = |i: usize| if i % 6 == 5 { ["", " "].get(i / 6 % 3).copied() } else { Some(said.value(i)) };
    let some: ArrayRef = std::sync::Arc::new((0..240).map(label).collect::<StringArray>());
    let theirs = arrow::array::RecordBatch::try_from_iter(columns.into_iter().chain([("label", some)])).unwrap();
    let file = dir.path().join("theirs.parquet");
    parquet(&file, &theirs);
    let table = flat::FlatTable {
        path: file.clone(),
        embedding: "embedding".into(),
        label: "label".into(),
        group: Some("channel_id".into()),
    };
    let outcome = run_flat(&table, None, &Settings::default(), &out).unwrap();
    assert_eq!((outcome.rows_unlabelled, outcome.report.encoder.clone()), (40, encoder_name()));
    assert!(outcome.to_string().contains("unused      40 rows have no label\n"), "{outcome}");
    let single = EmbeddingTable::read(&file, &|id| id == "v7").unwrap();
    assert_eq!(single.embed("v7").unwrap(), EmbeddingTable::read(&path, &|_| true).unwrap().embed("v7").unwrap());
    assert_eq!(single.embed("v8").unwrap_err().code, "not_in_table");
    let none = flat::FlatTable { path: path.clone(), label: "nothing".into(), ..table.clone() };
    flat(&path, 3, &encoder_name(), |_, _| ());
    assert!(run_flat(&none, None, &Settings::default(), &out).unwrap_err().to_string().ends_with("needs a column `nothing`"));

    // A list of vectors a video.
    let videos: Vec<_> = (0..4).map(|v| Some(Frames::at(&[20.0 + v as f32, 30.0], &[true; 2]))).collect();
    let ours = batch(&videos);
    let (mut names, mut columns): (Vec<String>, Vec<ArrayRef>) = (vec![], vec![]);
    for (field, column) in ours.schema().fields().iter().zip(ours.columns()) {
        let to = match field.name().as_str() {
            "video_id" | "embedding_model" => DataType::LargeUtf8,
            "frame_times_us" => DataType::LargeList(item(DataType::Int64)),
            "frame_embeddings" => DataType::LargeList(item(DataType::LargeList(item(DataType::Float64)))),
            _ => continue,
        };
        names.push(field.name().clone());
        columns.push(arrow_cast::cast(column, &to).unwrap());
    }
    parquet(&file, &arrow::array::RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap());
    parquet(&path, &ours);
    let of = |path: &std::path::Path| EmbeddingTable::read(path, &|id| id != "v2").unwrap();
    for id in ["v0", "v1", "v3"] {
        assert_eq!(of(&file).embed(id).unwrap(), of(&path).embed(id).unwrap());
    }
    assert!(of(&file).embed("v2").is_err());
}

fn encoder_name() -> String {
    format!("arctic@sha256:{}", "a".repeat(64))
}

#[test]
fn too_little_to_learn_from_is_an_error_that_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let train = |text: &str| {
        let path = dir.path().join("l.csv");
        std::fs::write(&path, text).unwrap();
        run(&path, None, &Directions, None, &Settings::default(), &dir.path().join("h")).unwrap_err().to_string()
    };
    let said = [
        train("video_id,label\nm1,medical\n"),
        train("video_id,label\nbroken,medical\n"),
        train("video_id,label,time_us\nm1,medical,90000000\n"),
        train("video_id,label,time_us\nm1,medical,\nm1,non_medical,3000000\n"),
    ];
    insta::assert_snapshot!(said.join("\n"));
    assert!(!dir.path().join("h").exists());
}

#[test]
fn a_fixed_threshold_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("h");
    let settings = Settings { threshold: ThresholdRule::Fixed(0.25), ..Settings::default() };
    run(&labels(&dir), None, &Directions, None, &settings, &out).unwrap();
    let head = Head::load(&out).unwrap().0;
    assert_eq!((head.threshold, head.threshold_rule.as_str()), (Some(0.25), "as given"));
}
