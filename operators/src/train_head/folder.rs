//! Videos of a folder, embedded by the operator `frame_embed` itself, so that a head is trained on exactly what the pipeline will show it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Int64Type};
use curette_engine::operator::{Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Problem, Verdict};
use curette_heads::Encoder;
use curette_models::{ModelError, ModelRef, Models, Settings};

use super::samples::{Embedded, Embedder};
use crate::frames::descriptor::NAME;
use crate::frames::frame_embed::{FrameEmbed, Started};
use crate::models::encoder_of;

/// Embeds the videos below a folder, named by their path in it.
pub struct FolderEmbedder {
    folder: PathBuf,
    operator: Started,
    encoder: Encoder,
    resources: Arc<Resources>,
    cancelled: AtomicBool,
}

impl FolderEmbedder {
    /// Takes `fps` frames per second, as `frame_embed` does, and embeds them with the CLIP encoder `model` (a manifest's name, or the path of one), or with the
    /// built-in descriptor. Models and ONNX Runtime are found as the environment says.
    pub fn new(folder: PathBuf, fps: f64, model: Option<&str>) -> Result<Self, ModelError> {
        let reference = model.map(|name| ModelRef::parse(name, Path::new("")));
        let clip = reference.map(|r| Models::new(Settings::from_environment()).image_encoder(&r)).transpose()?;
        let encoder = clip.as_ref().map_or_else(|| Encoder::built_in(NAME), |clip| encoder_of(clip.model()));
        let operator = Started::new(FrameEmbed { fps, ..FrameEmbed::default() }, clip);
        Ok(FolderEmbedder { folder, operator, encoder, resources: Arc::default(), cancelled: AtomicBool::new(false) })
    }
}

impl Embedder for FolderEmbedder {
    fn encoder(&self) -> Encoder {
        self.encoder.clone()
    }

    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        let internal = |what: &dyn std::fmt::Display| Problem::new("internal", format!("{video}: {what}"));
        let path = self.folder.join(video);
        if !path.is_file() {
            return Err(Problem::new("file_missing", format!("there is no file {}", path.display())));
        }
        let uri: ArrayRef = Arc::new(StringArray::from(vec![path.to_string_lossy().into_owned()]));
        let rows = RecordBatch::try_from_iter([("video_uri", uri)]).map_err(|e| internal(&e))?;
        let task = Task { step: "train-head", resources: &self.resources, cancelled: &self.cancelled };
        let processed = self.operator.process(&rows, &task).map_err(|e| internal(&e))?;
        match processed.verdicts.into_iter().next() {
            Some(Verdict::Pass) => {}
            Some(Verdict::Unmeasured(problem)) => return Err(problem),
            other => return Err(internal(&format!("unexpected verdict {other:?}"))),
        }
        // Columns as `frame_embed` declares them: times, pts, timescale, vectors, ...
        let list = |i: usize| processed.columns.get(i).and_then(|c| c.as_list_opt::<i32>()).map(|l| l.value(0));
        let times = list(0).and_then(|t| t.as_primitive_opt::<Int64Type>().cloned()).ok_or_else(|| internal(&"no times"))?;
        let vectors = list(3).and_then(|v| v.as_fixed_size_list_opt().cloned()).ok_or_else(|| internal(&"no embeddings"))?;
        let vector = |i: usize| vectors.value(i).as_primitive_opt::<Float32Type>().map(|v| v.values().to_vec());
        Ok(Embedded {
            times_us: times.values().to_vec(),
            vectors: (0..vectors.len())
                .map(vector)
                .collect::<Option<_>>()
                .ok_or_else(|| internal(&"embeddings are not numbers"))?,
        })
    }
}
