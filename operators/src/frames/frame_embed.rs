//! `frame_embed`: one descriptor per second of video, in one decoding pass.
//!
//! Which frames: see [`crate::media::sample_grid`]. What can go wrong: a file that ends early or decodes with concealed errors still gives
//! frames; `truncated` and `decode_errors` say so.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanBuilder, FixedSizeListBuilder, Float32Builder, Int64Builder, ListBuilder, RecordBatch, StringBuilder,
};
use arrow::datatypes::{DataType, Field};
use curette_engine::operator::{
    BuildContext, Columns, Kind, MODEL_METADATA, Operator, OperatorError, Pool, Runtime, StepCheck, Task, Transform,
};
use curette_engine::verdict::{Processed, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::descriptor::{DIMENSION, NAME, SIDE, describe};
use crate::media::{GridStats, MediaContext, MediaError, PTS_TIMESCALE, sample_grid, shown};
use crate::span::text_column;
use crate::video::report_missing;

/// Samples each video on a regular grid and describes every sampled frame by a vector of length 1.
///
/// The frame for time t is the first one at or after t less half a frame period. The built-in descriptor joins a colour histogram, colour layout,
/// gradient orientations and an 8 x 8 thumbnail (272 numbers); it separates shots, it knows nothing of meaning.
///
/// Unmeasured codes are those of `probe`; `damaged` also stands for more decode errors than `max_errors_per_frame` allows, `too_long` for too many
/// samples. A file that ends early is no error here: see `truncated`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FrameEmbed {
    /// Frames per second of video (0.1 to 10).
    #[schemars(range(min = 0.1, max = 10.0))]
    pub fps: f64,
    /// What describes a frame.
    pub descriptor: Descriptor,
    /// A video whose decoder reports more errors per decoded frame than this is unmeasured with code `damaged` (0 to 1000). Decoders conceal errors
    /// with plausible pixels; their number is in `decode_errors`.
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub max_errors_per_frame: f64,
    /// Time for one video, fetching included, in seconds (1 to 86400).
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u64,
}

/// See [`FrameEmbed::descriptor`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Descriptor {
    /// Colour, gradient orientation and thumbnail; needs no model.
    #[default]
    Builtin,
}

impl Default for FrameEmbed {
    fn default() -> Self {
        FrameEmbed { fps: 1.0, descriptor: Descriptor::Builtin, max_errors_per_frame: 0.1, timeout_seconds: 3600 }
    }
}

/// Samples of one video are bounded: 24 hours at 10 per second.
const MAX_SAMPLES: usize = 24 * 3600 * 10;

impl Operator for FrameEmbed {
    const NAME: &'static str = "frame_embed";
    const KIND: Kind = Kind::Measure;
    const VERSION: u32 = 1;
    const EXAMPLE: &'static str =
        "[step.frame_embed]\ntype = \"frame_embed\"\ninputs = [\"probe\"]\nfps = 1.0\ndescriptor = \"builtin\"\n";

    fn columns(&self) -> Columns {
        let list = |t| DataType::new_list(t, true);
        let vector = DataType::FixedSizeList(Arc::new(Field::new_list_field(DataType::Float32, true)), DIMENSION as i32);
        Columns::none()
            .need("video_uri", &[DataType::Utf8])
            .may_use("content_blake3", &[DataType::Utf8])
            .add("frame_times_us", list(DataType::Int64), "times of the sampled frames, microseconds of stream time")
            .add("frame_pts", list(DataType::Int64), "the same times in ticks of `pts_timescale` per second")
            .add("pts_timescale", DataType::Int64, "ticks per second of `frame_pts`")
            .add("frame_embeddings", list(vector), "one vector of length 1 per sampled frame")
            .note(MODEL_METADATA, NAME)
            .add("embedding_model", DataType::Utf8, "what made the vectors")
            .add("decoded_duration_us", DataType::Int64, "end of the last frame that was decoded, microseconds")
            .add(
                "truncated",
                DataType::Boolean,
                "true if decoding ended more than 1 s and 2 % before the end that the file promises",
            )
            .add(
                "decode_errors",
                DataType::Int64,
                "errors that the decoder reported and concealed (0 for codecs outside libavcodec)",
            )
    }

    fn pool(&self) -> Pool {
        Pool::Decode
    }

    fn rows_per_task(&self) -> usize {
        1
    }

    fn check_environment(&self, check: &mut dyn StepCheck) {
        report_missing(check);
    }

    fn cosmetic_keys(&self) -> &'static [&'static str] {
        &["timeout_seconds"]
    }

    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Some(vec!["content_blake3"])
    }

    fn build(&self, _context: &BuildContext) -> Result<Runtime, OperatorError> {
        Ok(Runtime::Transform(Box::new(self.clone())))
    }
}

struct Described {
    times_ns: Vec<i64>,
    vectors: Vec<f32>,
    stats: GridStats,
}

impl FrameEmbed {
    fn describe(&self, uri: &str, context: &MediaContext) -> Result<Described, MediaError> {
        let (mut times_ns, mut vectors) = (Vec::new(), Vec::new());
        let stats = sample_grid(uri, self.fps, SIDE as u32, SIDE as u32, context, &mut |frame| {
            if times_ns.len() >= MAX_SAMPLES {
                return Err(MediaError { code: "too_long", message: format!("{}: more than {MAX_SAMPLES} samples", shown(uri)) });
            }
            times_ns.push(frame.pts_ns);
            vectors.extend(describe(&frame.rgb));
            Ok(())
        })?;
        if stats.decode_errors as f64 > self.max_errors_per_frame * stats.frames_decoded as f64 {
            let message = format!(
                "{}: the decoder reported {} errors in {} frames; fetch it again, or raise max_errors_per_frame (now {})",
                shown(uri),
                stats.decode_errors,
                stats.frames_decoded,
                self.max_errors_per_frame
            );
            return Err(MediaError { code: "damaged", message });
        }
        Ok(Described { times_ns, vectors, stats })
    }
}

impl Transform for FrameEmbed {
    fn process(&self, rows: &RecordBatch, task: &Task) -> Result<Processed, OperatorError> {
        let uris = text_column(rows, "video_uri")?;
        let context = MediaContext {
            cancelled: task.cancelled,
            resources: task.resources,
            timeout: Duration::from_secs(self.timeout_seconds),
        };
        let (mut verdicts, mut out) = (Vec::with_capacity(rows.num_rows()), Builders::default());
        for uri in uris {
            match self.describe(uri.unwrap_or_default(), &context) {
                Ok(found) => {
                    out.append(Some(&found));
                    verdicts.push(Verdict::Pass);
                }
                Err(e) => {
                    out.append(None);
                    verdicts.push(Verdict::Unmeasured(e.into()));
                }
            }
        }
        Ok(Processed::rows(verdicts, out.finish()))
    }
}

struct Builders {
    times: ListBuilder<Int64Builder>,
    pts: ListBuilder<Int64Builder>,
    timescale: Int64Builder,
    vectors: ListBuilder<FixedSizeListBuilder<Float32Builder>>,
    model: StringBuilder,
    decoded: Int64Builder,
    truncated: BooleanBuilder,
    errors: Int64Builder,
}

impl Default for Builders {
    fn default() -> Self {
        Builders {
            times: ListBuilder::default(),
            pts: ListBuilder::default(),
            timescale: Int64Builder::default(),
            vectors: ListBuilder::new(FixedSizeListBuilder::new(Float32Builder::new(), DIMENSION as i32)),
            model: StringBuilder::default(),
            decoded: Int64Builder::default(),
            truncated: BooleanBuilder::default(),
            errors: Int64Builder::default(),
        }
    }
}

impl Builders {
    fn append(&mut self, found: Option<&Described>) {
        if let Some(d) = found {
            for &t in &d.times_ns {
                self.times.values().append_value(t / 1000);
                self.pts.values().append_value(t);
            }
            for vector in d.vectors.chunks_exact(DIMENSION) {
                self.vectors.values().values().append_slice(vector);
                self.vectors.values().append(true);
            }
        }
        self.times.append(found.is_some());
        self.pts.append(found.is_some());
        self.vectors.append(found.is_some());
        self.timescale.append_option(found.map(|_| PTS_TIMESCALE));
        self.model.append_option(found.map(|_| NAME));
        self.decoded.append_option(found.map(|d| d.stats.decoded_duration_us));
        self.truncated.append_option(found.map(|d| d.stats.truncated));
        self.errors.append_option(found.map(|d| d.stats.decode_errors as i64));
    }

    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.times.finish()),
            Arc::new(self.pts.finish()),
            Arc::new(self.timescale.finish()),
            Arc::new(self.vectors.finish()),
            Arc::new(self.model.finish()),
            Arc::new(self.decoded.finish()),
            Arc::new(self.truncated.finish()),
            Arc::new(self.errors.finish()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::tests::{Bench, media_folder, process_uris};
    use arrow::array::{Array, AsArray};

    #[test]
    fn columns_have_the_declared_types() {
        let Some(folder) = media_folder() else { return };
        let uris = ["nature-bee-720p.mp4", "broken-text.mp4"].map(|n| folder.join(n).to_string_lossy().into_owned());
        let done = process_uris(&FrameEmbed::default(), &uris);
        assert!(matches!(done.verdicts[..], [Verdict::Pass, Verdict::Unmeasured(_)]));
        for (column, added) in done.columns.iter().zip(FrameEmbed::default().columns().adds) {
            assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
            assert!(column.is_valid(0) && column.is_null(1));
        }
    }

    #[test]
    fn concealed_damage_is_unmeasured_unless_allowed() {
        let Some(folder) = media_folder() else { return };
        let uri = [folder.join("broken-bitflips-480p.mp4").to_string_lossy().into_owned()];
        let done = process_uris(&FrameEmbed::default(), &uri);
        assert!(matches!(&done.verdicts[..], [Verdict::Unmeasured(p)] if p.code == "damaged"), "{:?}", done.verdicts);
        let lenient = FrameEmbed { max_errors_per_frame: 1000.0, ..FrameEmbed::default() };
        let done = process_uris(&lenient, &uri);
        assert_eq!(done.verdicts, [Verdict::Pass]);
        let errors = done.columns[7].as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert!(errors > 100, "{errors}");
    }

    /// Cosines of neighbouring samples, with the time of the later one.
    fn neighbours(folder: &std::path::Path, name: &str) -> Vec<(f64, f32)> {
        let bench = Bench::new();
        let found = FrameEmbed::default().describe(&folder.join(name).to_string_lossy(), &bench.context()).unwrap();
        let vectors: Vec<&[f32]> = found.vectors.chunks_exact(DIMENSION).collect();
        vectors
            .windows(2)
            .zip(&found.times_ns[1..])
            .map(|(v, t)| (*t as f64 / 1e9, v[0].iter().zip(v[1]).map(|(a, b)| a * b).sum()))
            .collect()
    }

    #[test]
    fn hard_cuts_stand_out_and_shots_hold_together() {
        let Some(folder) = media_folder() else { return };
        let found = neighbours(&folder, "multishot-720p.mp4");
        let rounded: Vec<(i64, f32)> = found.iter().map(|(t, s)| (t.round() as i64, (s * 1000.0).round() / 1000.0)).collect();
        eprintln!("multishot {rounded:?}");
        // Cuts at 6, 10, 15, 18 and 21 s (shown from the frame after it) by construction, and a film cut at 23.07 s.
        let cuts = [6, 10, 15, 18, 22, 24];
        let (at_cut, inside): (Vec<_>, Vec<_>) = rounded.iter().partition(|(t, _)| cuts.contains(t));
        assert!(at_cut.iter().all(|(_, s)| *s < 0.7), "{at_cut:?}");
        assert!(inside.iter().filter(|(_, s)| *s > 0.9).count() * 10 >= inside.len() * 9, "{inside:?}");
        for name in ["surgery-laparoscopy-720p.mp4", "ultrasound-cardiac-240p.mp4", "nature-butterfly-720p.mp4", "bunny-480p.mp4"]
        {
            let mut s: Vec<f32> = neighbours(&folder, name).iter().map(|n| n.1).collect();
            s.sort_by(f32::total_cmp);
            eprintln!("{name}: min {:.3} median {:.3}", s[0], s[s.len() / 2]);
            assert!(s[s.len() / 2] > 0.9, "{name}");
        }
    }
}
