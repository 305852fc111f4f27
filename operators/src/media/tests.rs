//! What tests of operators need of the media plane: the folder of real videos, a context, and operators run over rows.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use curette_engine::operator::{Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::Processed;

use super::{MediaContext, MediaPlane, plane};

/// The videos of the sample corpus that all tests share; made by the first one that asks, the others wait.
pub(crate) fn sample_folder() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/test-corpus");
    std::fs::create_dir_all(&folder).unwrap();
    let lock = std::fs::File::create(folder.join(".lock")).unwrap();
    lock.lock().unwrap();
    curette_sample::write::write_corpus(&folder.join("sample"), 1, false).unwrap();
    folder.join("sample/videos")
}

/// The folder with real videos (`$CURETTE_MEDIA`, else `../shared/media` beside the workspace), if this machine has it.
pub(crate) fn media_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("CURETTE_MEDIA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/media"), PathBuf::from);
    if !folder.join("bunny-480p.mp4").exists() {
        eprintln!("skipped: no test media at {} (set CURETTE_MEDIA)", folder.display());
        return None;
    }
    Some(folder)
}

/// A context that nobody cancels.
pub(crate) struct Bench {
    /// What the operators of this process share.
    pub resources: Arc<Resources>,
    plane: Arc<MediaPlane>,
    cancelled: AtomicBool,
}

impl Bench {
    pub fn new() -> Self {
        let resources = Arc::default();
        Bench { plane: plane(&resources), resources, cancelled: AtomicBool::new(false) }
    }
    pub fn context(&self) -> MediaContext<'_> {
        MediaContext { cancelled: &self.cancelled, plane: &self.plane, timeout: Duration::from_secs(120) }
    }
}

/// Runs an operator over rows that only have a `video_uri`.
pub(crate) fn process_uris(operator: &dyn Transform, uris: &[String]) -> Processed {
    let rows = arrow::array::RecordBatch::try_from_iter([(
        "video_uri",
        Arc::new(arrow::array::StringArray::from(uris.to_vec())) as arrow::array::ArrayRef,
    )])
    .unwrap();
    process(operator, &rows)
}

/// Runs an operator over rows and checks the shape of its answer.
pub(crate) fn process(operator: &dyn Transform, rows: &arrow::array::RecordBatch) -> Processed {
    let bench = Bench::new();
    let task = Task { step: "test", resources: &bench.resources, cancelled: &bench.cancelled };
    let done = operator.process(rows, &task).unwrap();
    done.check(rows.num_rows()).unwrap();
    done
}
