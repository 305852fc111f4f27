//! Training from label file to head file.

use std::fs::File;
use std::path::PathBuf;

use curette_engine::verdict::Problem;

use super::samples::Embedded;
use super::table::EmbeddingTable;
use super::*;
use crate::frames::fixtures::{Frames, batch};

/// Videos named `m*` point one way with some scatter, the others another way.
struct Directions;

impl Embedder for Directions {
    fn model(&self) -> String {
        "test/1".into()
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
    for k in 0..6 {
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
    let one = Settings { threads: 1, ..Settings::default() };
    let report = run(&labels(&dir), &Directions, &Settings { threads: 4, ..one.clone() }, &a).unwrap();
    assert_eq!(report, run(&labels(&dir), &Directions, &one, &b).unwrap());
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());

    let (head, _) = Head::load(&a).unwrap();
    assert_eq!((head.dim(), head.embedding_model.as_str()), (2, "test/1"));
    assert!(head.score(&[1.0, 0.3]) > head.threshold as f32 && head.score(&[0.2, 1.0]) < head.threshold as f32);
    let validation = report.validation.clone().unwrap();
    assert_eq!((validation.accuracy, validation.auc, report.validation_videos), (Some(1.0), Some(1.0), 4));
    assert_eq!(report.labels_without_frames, 6);
    assert_eq!(serde_json::from_str::<Report>(&head.notes["report"]).unwrap(), report);
    insta::assert_snapshot!(report.to_string().replace(&format!("{:.4}", report.threshold), "T"), @r#"
        embedding   test/1 (2 dimensions)
        training    8 videos, 112 frames: accuracy 1.0000, precision 1.0000, recall 1.0000, F1 1.0000, AUC 1.0000 (TP 80, FP 0, TN 32, FN 0)
        validation  4 videos, 56 frames: accuracy 1.0000, precision 1.0000, recall 1.0000, F1 1.0000, AUC 1.0000 (TP 40, FP 0, TN 16, FN 0)
        threshold   T (highest F1 on the training frames); `medical` from there on
        unused      6 labels lie where no frame was sampled
        skipped     broken: damaged: no frame
        "#);
}

#[test]
fn embeddings_of_a_table_train_the_same_head() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let frames = |a: f32, b: f32| Some(Frames::at(&(0..20).map(|k| a + b * k as f32).collect::<Vec<_>>(), &[true; 20]));
    let rows = batch(&[frames(20.0, 0.5), frames(25.0, 0.5), frames(70.0, 0.5), frames(75.0, 0.5), None]);
    let mut writer = parquet::arrow::ArrowWriter::try_new(File::create(&path).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let labels = dir.path().join("l.csv");
    std::fs::write(&labels, "video_id,label\nv0,1\nv1,1\nv2,0\nv3,0\nv4,0\n").unwrap();
    let report = run(&labels, &EmbeddingTable::read(&path).unwrap(), &Settings::default(), &dir.path().join("h")).unwrap();
    assert_eq!(report.validation.unwrap().f1, Some(1.0));
    assert_eq!(report.videos_skipped, ["v4: not_in_table: the embedding table has no such `video_id`"]);
    assert!(EmbeddingTable::read(&labels).is_err());
}

#[test]
fn too_little_to_learn_from_is_an_error_that_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let train = |text: &str| {
        let path = dir.path().join("l.csv");
        std::fs::write(&path, text).unwrap();
        run(&path, &Directions, &Settings::default(), &dir.path().join("h")).unwrap_err().to_string()
    };
    let said = [
        train("video_id,label\nm1,medical\n"),
        train("video_id,label\nbroken,medical\n"),
        train("video_id,label,time_us\nm1,medical,90000000\n"),
        train("video_id,label,time_us\nm1,medical,\nm1,non_medical,3000000\n"),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
        0 training frames are labelled `non_medical`, at least 10 are needed; label more, or keep fewer videos for validation
        no frame is labelled: 1 of 1 videos could not be embedded, the first: broken: damaged: no frame
        no frame is labelled: no label lies where a frame was sampled
        m1: rows 1 and 2 of the label table disagree about the frame at 3 s
        "#);
    assert!(!dir.path().join("h").exists());
}

#[test]
fn a_fixed_threshold_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("h");
    let settings = Settings { threshold: ThresholdRule::Fixed(0.25), validation_share: 0.0, ..Settings::default() };
    let report = run(&labels(&dir), &Directions, &settings, &out).unwrap();
    assert_eq!((Head::load(&out).unwrap().0.threshold, report.validation), (0.25, None));
}
