//! Clips without video: rows, and frames in which the clip's name can be read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use curette_engine::operator::{BuildContext, OperatorError, Paths, Task, Transform};
use curette_engine::pool::Pools;
use curette_engine::resources::Resources;
use curette_engine::verdict::Processed;
use curette_operators::captions::captioner::Captioner;
use curette_operators::captions::pictures::{Look, Picture};
use curette_operators::captions::writer::Writer;

/// Clip `n` is `[n, n + 1)` seconds of a video that has one clip.
pub fn rows(from: usize, to: usize) -> RecordBatch {
    let texts = |f: &dyn Fn(usize) -> String| Arc::new((from..to).map(|n| Some(f(n))).collect::<StringArray>()) as ArrayRef;
    let times = |add: i64| Arc::new((from..to).map(|n| Some((n as i64 + add) * 1_000_000)).collect::<Int64Array>()) as ArrayRef;
    RecordBatch::try_from_iter([
        ("clip_id", texts(&|n| format!("clip-{n}"))),
        ("video_uri", texts(&|n| format!("/videos/{n}.mp4"))),
        ("content_blake3", texts(&|n| format!("content-{n}"))),
        ("title", texts(&|_| "The same title".to_owned())),
        ("start_us", times(0)),
        ("end_us", times(1)),
    ])
    .unwrap()
}

/// A captioner of a table of keys, whose frames are made, filled up to some bytes, and counted.
pub fn writer(
    keys: serde_json::Value,
    base: &Path,
    resources: &Arc<Resources>,
    frame_bytes: usize,
) -> (Arc<Writer>, Arc<AtomicUsize>) {
    let captioner: Captioner = serde_json::from_value(keys).unwrap();
    let paths = Paths { base: base.to_path_buf() };
    let context =
        BuildContext { step: "caption", input: rows(0, 1).schema(), id_column: "clip_id".into(), paths: &paths, resources };
    let looked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&looked);
    let eyes = move |_: &str, (start, end): (i64, i64), look: &Look, _: &Task| {
        count.fetch_add(1, Ordering::Relaxed);
        let frame = |k: usize| {
            let mut jpeg = super::server::FRAME.to_vec();
            jpeg.extend_from_slice(format!("{}|frame {k}", start / 1_000_000).as_bytes());
            jpeg.resize(jpeg.len().max(frame_bytes), b'.');
            Picture { at_us: start + (end - start) * k as i64 / look.frames as i64, jpeg }
        };
        Ok((0..look.frames).map(frame).collect())
    };
    (Arc::new(captioner.writer(&context).unwrap().with_eyes(Arc::new(eyes))), looked)
}

/// Each row as a task of its own on the `net` pool, as the engine does it; answers in the order of the rows.
pub fn run(
    writer: &Arc<Writer>,
    rows: &RecordBatch,
    pools: &Pools,
    resources: &Arc<Resources>,
) -> Vec<Result<Processed, OperatorError>> {
    let (send, receive) = std::sync::mpsc::channel();
    for row in 0..rows.num_rows() {
        let (writer, resources, send, rows) = (Arc::clone(writer), Arc::clone(resources), send.clone(), rows.slice(row, 1));
        pools.spawn(curette_engine::operator::Pool::Net, move || {
            let task = Task { step: "caption", resources: &resources, cancelled: &AtomicBool::new(false) };
            send.send((row, writer.process(&rows, &task))).unwrap();
        });
    }
    drop(send);
    let mut done: Vec<_> = receive.into_iter().collect();
    done.sort_by_key(|(row, _)| *row);
    done.into_iter().map(|(_, answer)| answer).collect()
}
