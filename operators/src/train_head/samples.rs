//! From labels and videos to labelled embeddings.
//!
//! What can go wrong: two labels that say different things of one frame are an error, because a head would learn neither. A label where no frame was
//! sampled and a video that cannot be read are counted and reported, unless nothing is left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use curette_engine::verdict::Problem;
use curette_heads::Encoder;
use curette_heads::samples::Samples;

use super::TrainError;
use super::labels::{Frames, Label};

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
    /// What makes the embeddings.
    fn encoder(&self) -> Encoder;
    /// The sampled frames of a video that a label names.
    fn embed(&self, video: &str) -> Result<Embedded, Problem>;
}

/// Labelled embeddings, and what was left over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Collected {
    /// The embeddings.
    pub samples: Samples,
    /// Labels that no frame answers to.
    pub labels_without_frames: usize,
    /// Videos that could not be embedded, and why.
    pub videos_skipped: Vec<String>,
}

/// Embeds the labelled videos on `threads` threads and gives each frame its label. The result does not depend on the threads. The group of a video is what its
/// labels say, else the video itself.
pub fn collect(labels: &[Label], embedder: &dyn Embedder, threads: usize) -> Result<Collected, TrainError> {
    let mut by_video: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    labels.iter().for_each(|label| by_video.entry(&label.video).or_default().push(label));
    let names: Vec<&str> = by_video.keys().copied().collect();
    let embedded = embed_all(&names, embedder, threads);

    let mut out = Collected::default();
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, result) in names.iter().zip(embedded) {
        let labels = &by_video[name];
        let group = group_of(name, labels).map_err(TrainError::TooLittle)?;
        let frames = match result {
            Ok(frames) => frames,
            Err(problem) => {
                out.videos_skipped.push(format!("{name}: {}: {}", problem.code, problem.message));
                continue;
            }
        };
        let (assigned, unused) = assign(name, &frames.times_us, labels).map_err(TrainError::TooLittle)?;
        out.labels_without_frames += unused;
        let group = *groups.entry(group).or_insert_with(|| {
            out.samples.groups.push(group.to_owned());
            out.samples.groups.len() - 1
        });
        for (frame, positive) in assigned {
            let pushed = out.samples.push(&frames.vectors[frame], positive, group);
            pushed.map_err(|what| TrainError::Embeddings(format!("{name}: the embedding of frame {frame} {what}")))?;
        }
    }
    if out.samples.is_empty() {
        let why = out.videos_skipped.first().map_or("no label lies where a frame was sampled".to_owned(), |first| {
            format!("{} of {} videos could not be embedded, the first: {first}", out.videos_skipped.len(), names.len())
        });
        return Err(TrainError::TooLittle(format!("no frame is labelled: {why}")));
    }
    Ok(out)
}

/// The one group that all labels of a video name.
fn group_of<'a>(name: &'a str, labels: &[&'a Label]) -> Result<&'a str, String> {
    let group = |label: &'a Label| label.group.as_deref().unwrap_or(name);
    let Some(first) = labels.first() else { return Ok(name) };
    match labels.iter().find(|l| group(l) != group(first)) {
        None => Ok(group(first)),
        Some(other) => Err(format!(
            "{name}: rows {} and {} of the label table put it in the groups `{}` and `{}`; it would be in two parts of the split",
            first.row,
            other.row,
            group(first),
            group(other)
        )),
    }
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

/// The label of each labelled frame, and how many labels found none. A time is answered by the nearest frame within half the median
/// distance of frames, and half a second: a label of one second must not fall on the picture of another.
fn assign(name: &str, times: &[i64], labels: &[&Label]) -> Result<(BTreeMap<usize, bool>, usize), String> {
    let mut gaps: Vec<i64> = times.windows(2).map(|w| w[1].saturating_sub(w[0])).collect();
    gaps.sort_unstable();
    // A lone frame answers for its second, as sampling at 1 per second would have it.
    let reach = gaps.get(gaps.len() / 2).copied().unwrap_or(1_000_000).min(1_000_000) / 2;
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
        Label { video: "v".into(), group: None, frames, positive, row }
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
    fn a_video_is_in_one_group() {
        let of = |group: &str, row| Label { group: Some(group.into()), ..label(Frames::Whole, true, row) };
        let (a, b) = (of("a", 1), of("b", 2));
        assert_eq!(group_of("v", &[&a, &a]), Ok("a"));
        assert_eq!(group_of("v", &[&label(Frames::Whole, true, 1)]), Ok("v"));
        let said = group_of("v", &[&a, &b]).unwrap_err();
        assert_eq!(
            said,
            "v: rows 1 and 2 of the label table put it in the groups `a` and `b`; it would be in two parts of the split"
        );
    }

    #[test]
    fn labels_that_disagree_are_named() {
        let labels = [label(Frames::Whole, true, 1), label(Frames::At(S), false, 7)];
        let said = assign("v", &[0, S], &labels.iter().collect::<Vec<_>>()).unwrap_err();
        assert_eq!(said, "v: rows 1 and 7 of the label table disagree about the frame at 1 s");
    }
}
