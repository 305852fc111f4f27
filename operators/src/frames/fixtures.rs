//! Rows of sampled frames for unit tests, and a way to run one operator on them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Int64Builder, ListBuilder, RecordBatch, StringArray,
};
use curette_engine::operator::{BuildContext, Operator, OperatorError, Paths, Runtime, Task};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Processed, Verdict};

/// The frames of one video; `None` gives nulls in all columns.
#[derive(Clone)]
pub struct Frames {
    pub times_us: Vec<i64>,
    pub vectors: Vec<[f32; 2]>,
    pub labels: Vec<bool>,
    pub scores: Vec<f32>,
    pub model: &'static str,
}

impl Frames {
    /// One sample per second; the vector of each is at the given angle in degrees.
    pub fn at(angles: &[f32], labels: &[bool]) -> Self {
        Frames {
            times_us: (0..angles.len() as i64).map(|k| k * 1_000_000).collect(),
            vectors: angles.iter().map(|a| [a.to_radians().cos(), a.to_radians().sin()]).collect(),
            labels: labels.to_vec(),
            scores: labels.iter().map(|l| if *l { 0.75 } else { 0.25 }).collect(),
            model: "test/1",
        }
    }
}

pub fn batch(videos: &[Option<Frames>]) -> RecordBatch {
    let ids: Vec<String> = (0..videos.len()).map(|i| format!("v{i}")).collect();
    let mut times = ListBuilder::new(Int64Builder::new());
    let mut pts = ListBuilder::new(Int64Builder::new());
    let mut vectors = ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), 2));
    let mut labels = ListBuilder::new(BooleanBuilder::new());
    let mut scores = ListBuilder::new(Float32Builder::new());
    for video in videos {
        for f in video.iter() {
            times.values().append_slice(&f.times_us);
            pts.values().append_slice(&f.times_us.iter().map(|t| t.saturating_mul(1000)).collect::<Vec<_>>());
            labels.values().append_slice(&f.labels);
            scores.values().append_slice(&f.scores);
            for v in &f.vectors {
                vectors.values().values().append_slice(v);
                vectors.values().append(true);
            }
        }
        times.append(video.is_some());
        pts.append(video.is_some());
        vectors.append(video.is_some());
        labels.append(video.is_some());
        scores.append(video.is_some());
    }
    let models: StringArray = videos.iter().map(|v| v.as_ref().map(|v| v.model)).collect();
    RecordBatch::try_from_iter([
        ("video_id", Arc::new(StringArray::from(ids)) as ArrayRef),
        ("frame_times_us", Arc::new(times.finish())),
        ("frame_pts", Arc::new(pts.finish())),
        ("frame_embeddings", Arc::new(vectors.finish())),
        ("embedding_model", Arc::new(models)),
        ("frame_labels", Arc::new(labels.finish())),
        ("frame_scores", Arc::new(scores.finish())),
    ])
    .unwrap()
}

pub fn build(operator: &impl Operator, rows: &RecordBatch, base: &std::path::Path) -> Result<Runtime, OperatorError> {
    operator.build(&BuildContext {
        step: "it",
        input: rows.schema(),
        id_column: "video_id".into(),
        paths: &Paths { base: base.to_path_buf() },
        resources: &Arc::new(Resources::default()),
    })
}

/// Runs a transform and checks that it accounts for all rows.
pub fn run(operator: &impl Operator, rows: &RecordBatch, base: &std::path::Path) -> Processed {
    let Runtime::Transform(transform) = build(operator, rows, base).unwrap() else { panic!("not a transform") };
    let task = Task { step: "it", resources: &Arc::new(Resources::default()), cancelled: &AtomicBool::new(false) };
    let processed = transform.process(rows, &task).unwrap();
    processed.check(rows.num_rows()).unwrap();
    for (column, added) in processed.columns.iter().zip(&operator.columns().adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
        assert!(added.field.is_nullable() || column.null_count() == 0);
    }
    processed
}

/// `pass`, or the code of the reject or problem.
pub fn codes(processed: &Processed) -> Vec<String> {
    let code = |v: &Verdict| match v {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Fail(r) => r.code.to_string(),
        Verdict::Unmeasured(p) => p.code.to_string(),
    };
    processed.verdicts.iter().map(code).collect()
}
