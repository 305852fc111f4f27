//! From labels and videos to labelled embeddings.
//!
//! What can go wrong: two labels that say different things of one frame are an error, because a head would learn neither. A label where no frame was
//! sampled and a video that cannot be read are counted and reported, unless nothing is left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use curette_engine::verdict::Problem;

use super::TrainError;
use super::labels::{Frames, Label};
use crate::frames::vectors::norm;

/// The sampled frames of one video.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Embedded {
    /// Their times in microseconds, ascending.
    pub times_us: Vec<i64>,
    /// Their embeddings.
    pub vectors: Vec<Vec<f32>>,
}

/// What turns a video into embeddings, in the same way as the pipeline does.
pub trait Embedder: Sync {
    /// The name that `embedding_model` has.
    fn model(&self) -> String;
    /// The sampled frames of a video that a label names.
    fn embed(&self, video: &str) -> Result<Embedded, Problem>;
}

/// Labelled embeddings.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Samples {
    /// Width of the embeddings.
    pub dim: usize,
    /// Embeddings at length 1, one after the other.
    pub values: Vec<f32>,
    /// The label of each.
    pub positive: Vec<bool>,
    /// The video of each, as an index into `videos`.
    pub video_of: Vec<usize>,
    /// Names of the videos, in order.
    pub videos: Vec<String>,
    /// Labels that no frame answers to.
    pub labels_without_frames: usize,
    /// Videos that could not be embedded, and why.
    pub videos_skipped: Vec<String>,
}

impl Samples {
    /// The embeddings.
    pub fn vectors(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.dim.max(1))
    }

    /// Those whose index is wanted.
    pub fn select(&self, wanted: impl Fn(usize) -> bool) -> Samples {
        let mut out = Samples { dim: self.dim, videos: self.videos.clone(), ..Samples::default() };
        for (i, vector) in self.vectors().enumerate().filter(|(i, _)| wanted(*i)) {
            out.values.extend_from_slice(vector);
            out.positive.push(self.positive[i]);
            out.video_of.push(self.video_of[i]);
        }
        out
    }

    /// Hash of embeddings, labels and video names.
    pub fn blake3(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        self.values.iter().for_each(|v| {
            hasher.update(&v.to_le_bytes());
        });
        for (positive, video) in self.positive.iter().zip(&self.video_of) {
            hasher.update(&[u8::from(*positive)]).update(self.videos[*video].as_bytes()).update(b"\0");
        }
        hasher.finalize().to_hex().to_string()
    }

    /// Appends a labelled embedding, brought to length 1 (a zero vector stays).
    fn push(&mut self, vector: &[f32], positive: bool, video: usize) {
        let length = match norm(vector) {
            0.0 => 1.0,
            length => length,
        };
        self.values.extend(vector.iter().map(|v| (f64::from(*v) / length) as f32));
        self.positive.push(positive);
        self.video_of.push(video);
    }
}

/// Embeds the labelled videos on `threads` threads and gives each frame its label. The result does not depend on the threads.
pub fn collect(labels: &[Label], embedder: &dyn Embedder, threads: usize) -> Result<Samples, TrainError> {
    let mut by_video: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    labels.iter().for_each(|label| by_video.entry(&label.video).or_default().push(label));
    let names: Vec<&str> = by_video.keys().copied().collect();
    let embedded = embed_all(&names, embedder, threads);

    let mut samples = Samples { videos: names.iter().map(|n| (*n).to_owned()).collect(), ..Samples::default() };
    for (video, (name, result)) in names.iter().zip(embedded).enumerate() {
        let frames = match result {
            Ok(frames) => frames,
            Err(problem) => {
                samples.videos_skipped.push(format!("{name}: {}: {}", problem.code, problem.message));
                continue;
            }
        };
        let (assigned, unused) = assign(name, &frames.times_us, &by_video[name]).map_err(TrainError::TooLittle)?;
        samples.labels_without_frames += unused;
        for (frame, positive) in assigned {
            let vector = &frames.vectors[frame];
            if samples.dim == 0 {
                samples.dim = vector.len();
            }
            if vector.len() != samples.dim || vector.is_empty() || vector.iter().any(|v| !v.is_finite()) {
                let message = format!("{name}: the embedding of frame {frame} has {} dimensions or is not finite", vector.len());
                return Err(TrainError::Embeddings(message));
            }
            samples.push(vector, positive, video);
        }
    }
    if samples.positive.is_empty() {
        let why = samples.videos_skipped.first().map_or("no label lies where a frame was sampled".to_owned(), |first| {
            format!("{} of {} videos could not be embedded, the first: {first}", samples.videos_skipped.len(), names.len())
        });
        return Err(TrainError::TooLittle(format!("no frame is labelled: {why}")));
    }
    Ok(samples)
}

fn embed_all(names: &[&str], embedder: &dyn Embedder, threads: usize) -> Vec<Result<Embedded, Problem>> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<Embedded, Problem>>>> = names.iter().map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, names.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = names.get(i) else { break };
                    *results[i].lock().unwrap_or_else(PoisonError::into_inner) = Some(embedder.embed(name));
                }
            });
        }
    });
    let missing = || Err(Problem::new("not_embedded", "the thread that embeds it ended early"));
    results.into_iter().map(|r| r.into_inner().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(missing)).collect()
}

/// The label of each labelled frame, and how many labels found none. A time is answered by the nearest frame within half the median distance of frames.
fn assign(name: &str, times: &[i64], labels: &[&Label]) -> Result<(BTreeMap<usize, bool>, usize), String> {
    let mut gaps: Vec<i64> = times.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
    gaps.sort_unstable();
    // A lone frame answers for its second, as sampling at 1 per second would have it.
    let reach = gaps.get(gaps.len() / 2).copied().unwrap_or(1_000_000) / 2;
    let mut assigned: BTreeMap<usize, (bool, usize)> = BTreeMap::new();
    let mut unused = 0;
    for label in labels {
        let range = match label.frames {
            Frames::Whole => 0..times.len(),
            Frames::Within(start, end) => times.partition_point(|t| *t < start)..times.partition_point(|t| *t < end),
            Frames::At(time) => {
                let nearest = (0..times.len()).min_by_key(|&i| times[i].abs_diff(time));
                match nearest.filter(|&i| times[i].abs_diff(time) <= reach.unsigned_abs()) {
                    Some(i) => i..i + 1,
                    None => 0..0,
                }
            }
        };
        unused += usize::from(range.is_empty());
        for frame in range {
            let (positive, row) = *assigned.entry(frame).or_insert((label.positive, label.row));
            if positive != label.positive {
                let at = times[frame] as f64 / 1e6;
                return Err(format!(
                    "{name}: rows {row} and {} of the label table disagree about the frame at {at} s",
                    label.row
                ));
            }
        }
    }
    Ok((assigned.into_iter().map(|(frame, (positive, _))| (frame, positive)).collect(), unused))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn label(frames: Frames, positive: bool, row: usize) -> Label {
        Label { video: "v".into(), frames, positive, row }
    }

    #[test]
    fn labels_find_their_frames() {
        let times: Vec<i64> = (0..5).map(|k| k * S).collect();
        let labels = [
            label(Frames::Within(S / 2, 3 * S), true, 1),
            label(Frames::At(3 * S + 400_000), false, 2),
            label(Frames::At(9 * S), true, 3),
            label(Frames::At(2 * S), true, 4),
        ];
        let (assigned, unused) = assign("v", &times, &labels.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(assigned, BTreeMap::from([(1, true), (2, true), (3, false)]));
        assert_eq!(unused, 1);
    }

    #[test]
    fn labels_that_disagree_are_named() {
        let labels = [label(Frames::Whole, true, 1), label(Frames::At(S), false, 7)];
        let said = assign("v", &[0, S], &labels.iter().collect::<Vec<_>>()).unwrap_err();
        assert_eq!(said, "v: rows 1 and 7 of the label table disagree about the frame at 1 s");
    }
}
