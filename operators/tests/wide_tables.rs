//! How much memory the verbs take for tables that are wide and long: what they keep, not what the table holds. One test, because all memory of the process is counted.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListBuilder, Float32Array, Float32Builder, Int64Builder, ListBuilder, RecordBatch,
    StringArray,
};
use curette_operators::calibrate::quantile::{Question, of_table};
use curette_operators::label::source::Table;
use curette_operators::train_head::flat::FlatTable;
use curette_operators::train_head::labels;
use curette_operators::train_head::samples::Embedder;
use curette_operators::train_head::table::EmbeddingTable;

/// Counts what is allocated.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all work is the system allocator's; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most bytes that the work took at once, over what was there before.
fn peak_of<R>(work: impl FnOnce() -> R) -> (R, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = work();
    (result, PEAK.load(Ordering::Relaxed) - before)
}

/// Rows of the table, of a batch of its writer, and what one row holds in the column that nobody asks for.
const ROWS: usize = 2000;
const BATCH: usize = 50;
const WIDE_BYTES: usize = 50_000;
/// Frames of a video and numbers of an embedding: 32 kB a row.
const FRAMES: usize = 16;
const DIM: usize = 512;
/// Far less than the 100 MB of `wide` or the 64 MB of the vectors.
const LIMIT: usize = 12_000_000;

fn write(path: &Path) {
    let mut writer = None;
    for batch in 0..ROWS / BATCH {
        let at = |i: usize| batch * BATCH + i;
        let text = |f: &dyn Fn(usize) -> Option<String>| Arc::new((0..BATCH).map(f).collect::<StringArray>()) as ArrayRef;
        let (mut times, mut single) =
            (ListBuilder::new(Int64Builder::new()), FixedSizeListBuilder::new(Float32Builder::new(), 8));
        let mut vectors = ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), DIM as i32));
        for i in 0..BATCH {
            for frame in 0..FRAMES {
                times.values().append_value(frame as i64 * 1_000_000);
                let numbers: Vec<f32> = (0..DIM).map(|k| ((at(i) * 31 + frame * 17 + k * 7) % 1009) as f32 + 1.0).collect();
                vectors.values().values().append_slice(&numbers);
                vectors.values().append(true);
            }
            times.append(true);
            vectors.append(true);
            single.values().append_slice(&[at(i) as f32 + 1.0; 8]);
            single.append(true);
        }
        // Distinct, so that no dictionary makes them small.
        let wide = (0..BATCH).map(|i| [at(i).to_le_bytes().as_slice(), &[7; WIDE_BYTES]].concat());
        let rows = RecordBatch::try_from_iter([
            ("video_id", text(&|i| Some(format!("v{}", at(i))))),
            ("title", text(&|i| Some(format!("title {}", at(i))))),
            ("embedding_model", text(&|_| Some("test/1".into()))),
            ("frame_times_us", Arc::new(times.finish())),
            ("frame_embeddings", Arc::new(vectors.finish())),
            ("vector", Arc::new(single.finish())),
            ("label", text(&|i| (at(i) % 10 == 0).then(|| ["0", "1"][at(i) / 10 % 2].to_owned()))),
            ("score", Arc::new((0..BATCH).map(|i| Some(at(i) as f32)).collect::<Float32Array>())),
            ("wide", Arc::new(BinaryArray::from_iter_values(wide))),
        ])
        .unwrap();
        let open = || parquet::arrow::ArrowWriter::try_new(File::create(path).unwrap(), rows.schema(), None).unwrap();
        let writer = writer.get_or_insert_with(open);
        writer.write(&rows).unwrap();
        writer.flush().unwrap();
    }
    writer.unwrap().close().unwrap();
}

#[test]
fn memory_does_not_grow_with_columns_and_rows_that_nobody_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path);
    assert!(std::fs::metadata(&path).unwrap().len() > 2 * LIMIT as u64, "the table must be larger than what may be taken");
    let classes = ["non_medical".to_owned(), "medical".to_owned()];

    let (table, peak) = peak_of(|| EmbeddingTable::read(&path, &|id| ["v3", "v1999"].contains(&id)).unwrap());
    assert!(peak < LIMIT, "embeddings of two videos: {peak}");
    assert_eq!(table.embed("v1999").unwrap().vectors[15].len(), DIM);
    assert_eq!(table.embed("v4").unwrap_err().code, "not_in_table");

    let flat = FlatTable { path: path.clone(), embedding: "vector".into(), label: "label".into(), group: None };
    let (read, peak) = peak_of(|| flat.read(&classes).unwrap());
    assert!(peak < LIMIT, "labelled rows: {peak}");
    assert_eq!((read.samples.len(), read.unlabelled, read.samples.count(true)), (200, 1800, 100));

    let question = Question { column: "score", share: 0.1, among: Some("title <> 'title 0'"), droppable: None };
    let (cut, peak) = peak_of(|| of_table(&path, &question).unwrap());
    assert!(peak < LIMIT, "quantile: {peak}");
    assert_eq!((cut.rows, cut.dropped), (1999, 200));

    let source = Table { path: path.clone(), id: "video_id".into(), group: None, show: vec!["title".into()], pictures: 0 };
    let ((candidates, rows), peak) = peak_of(|| (source.candidates().unwrap(), source.rows(&HashSet::from(["v7"])).unwrap()));
    assert!(peak < LIMIT, "what can be labelled: {peak}");
    assert_eq!((candidates.len(), rows.len(), rows["v7"].shown[0].as_str()), (ROWS, 1, "title 7"));

    let (error, peak) = peak_of(|| labels::read(&path, &classes, None).unwrap_err());
    assert!(peak < LIMIT && error.what.starts_with("row 2: `label` = ``"), "labels: {peak} {error}");
}
