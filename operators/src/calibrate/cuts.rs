//! Labelled pairs, from a table of pairs or from videos whose cuts are known.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use arrow::array::Array;

use super::tau::{Pair, Share, short};
use crate::clips::runs::{Rule, Samples, long_enough, period_us, pieces, runs};
use crate::clips::similarity::{Comparison, between};
use crate::label::{LabelError, failed};
use crate::tables::cast::{cell, need_text, numbers, text};
use crate::tables::{BATCH_ROWS, OpenTable};
use crate::train_head::samples::{Embedded, Embedder};

/// The pairs of one video, or of one group of a pair table.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its pairs.
    pub pairs: Vec<Pair>,
    /// Times of its samples and of its cuts; empty for pair tables.
    pub times_us: Vec<i64>,
    /// Ascending; the first frame of each shot but the first.
    pub cuts_us: Vec<i64>,
}

/// Reads `similarity`, `same` (true or false, 1 or 0) and, if there, `group`.
pub fn read_pairs(path: &Path) -> Result<Vec<Group>, LabelError> {
    let err = |what: String| failed(path, what);
    let table = OpenTable::open(path).map_err(err)?;
    ["similarity", "same"].into_iter().try_for_each(|column| table.need(column)).map_err(err)?;
    let mut groups: BTreeMap<String, Vec<Pair>> = BTreeMap::new();
    let mut number = 0;
    for batch in table.batches(&["similarity", "same", "group"], BATCH_ROWS).map_err(err)? {
        let batch = batch.map_err(err)?;
        let similarity = numbers(&batch, "similarity").map_err(err)?.ok_or_else(|| err("needs a column `similarity`".into()))?;
        let (same, group) = (need_text(&batch, "same").map_err(err)?, text(&batch, "group").map_err(err)?);
        for row in 0..batch.num_rows() {
            number += 1;
            let err = |what: String| failed(path, format!("row {number}: {what}"));
            let value = Some(similarity.value(row)).filter(|v| similarity.is_valid(row) && (-1.0..=1.0).contains(v));
            let value = value.ok_or_else(|| err("`similarity` is not a number from -1 to 1".into()))?;
            let same = match cell(&same, row).unwrap_or_default() {
                "true" | "1" => true,
                "false" | "0" => false,
                other => return Err(err(format!("`same` = `{other}`, expected true or false"))),
            };
            let name = group.as_ref().filter(|g| g.is_valid(row)).map(|g| g.value(row).to_owned());
            let name = name.unwrap_or_else(|| format!("row {number}"));
            groups.entry(name).or_default().push(Pair { similarity: value as f32, same });
        }
    }
    if groups.is_empty() {
        return Err(failed(path, "has no rows"));
    }
    Ok(groups.into_iter().map(|(name, pairs)| Group { name, pairs, times_us: vec![], cuts_us: vec![] }).collect())
}

/// Reads `video_id` and `time_seconds` (or `time_us`) of each cut. A video without cuts has one row without a time.
pub fn read_cuts(path: &Path) -> Result<BTreeMap<String, Vec<i64>>, LabelError> {
    let err = |what: String| failed(path, what);
    let table = OpenTable::open(path).map_err(err)?;
    table.need("video_id").map_err(err)?;
    let scaled = [("time_us", 1.0), ("time_seconds", 1e6)];
    let found = scaled.into_iter().find(|(name, _)| table.has(name));
    let (name, scale) = match found {
        Some(found) => found,
        None if table.schema().fields().is_empty() => return Err(failed(path, "has no rows")),
        None => return Err(failed(path, "needs a column `time_seconds` or `time_us`")),
    };
    let mut out: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut number = 0;
    for batch in table.batches(&["video_id", name], BATCH_ROWS).map_err(err)? {
        let batch = batch.map_err(err)?;
        let (videos, times) = (need_text(&batch, "video_id").map_err(err)?, numbers(&batch, name).map_err(err)?);
        for row in 0..batch.num_rows() {
            number += 1;
            if videos.is_null(row) || videos.value(row).is_empty() {
                return Err(failed(path, format!("row {number}: `video_id` is empty")));
            }
            let cuts = out.entry(videos.value(row).to_owned()).or_default();
            if let Some(times) = times.as_ref().filter(|times| times.is_valid(row)) {
                cuts.push((times.value(row) * scale).round() as i64);
            }
        }
    }
    out.values_mut().for_each(|cuts| cuts.sort_unstable());
    if out.is_empty() { Err(failed(path, "has no rows")) } else { Ok(out) }
}

/// The pairs of each labelled video. The second list names videos that have no embeddings.
pub fn pairs_of(
    cuts: &BTreeMap<String, Vec<i64>>,
    embedder: &dyn Embedder,
    comparison: Comparison,
) -> Result<(Vec<Group>, Vec<String>), String> {
    let (mut groups, mut skipped) = (Vec::new(), Vec::new());
    for (name, cuts_us) in cuts {
        match embedder.embed(name) {
            Err(problem) => skipped.push(format!("{name}: {}: {}", problem.code, problem.message)),
            Ok(Embedded { times_us, vectors }) => {
                let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
                let similarity = between(&vectors, comparison).map_err(|e| format!("{name}: {}", e.message))?;
                let pair = |(k, similarity): (usize, f32)| {
                    let same = !cut_between(cuts_us, times_us[k], times_us[k + 1]);
                    Pair { similarity, same }
                };
                let pairs = similarity.into_iter().enumerate().map(pair).collect();
                groups.push(Group { name: name.clone(), pairs, times_us, cuts_us: cuts_us.clone() });
            }
        }
    }
    Ok((groups, skipped))
}

/// Whether a shot begins after the one time and not after the other.
fn cut_between(cuts_us: &[i64], from: i64, to: i64) -> bool {
    let at = cuts_us.partition_point(|c| *c <= from);
    cuts_us.get(at).is_some_and(|c| *c <= to)
}

/// Clips without a cut inside, of all clips that `temporal_split` makes of positive frames.
pub fn clean_clips(groups: &[Group], rule: &Rule) -> Share {
    judge(groups, rule).0
}

/// [`clean_clips`], and how many microseconds the clean ones have together.
pub(super) fn judge(groups: &[Group], rule: &Rule) -> (Share, i64) {
    let (mut clean, mut all, mut clean_us) = (0, 0, 0);
    for group in groups {
        let Some(period) = period_us(&group.times_us) else { continue };
        let similarity: Vec<f32> = group.pairs.iter().map(|p| p.similarity).collect();
        let positive = vec![true; group.times_us.len()];
        let samples = Samples { times_us: &group.times_us, positive: &positive, similarity: &similarity };
        let fits = |run: &(usize, usize)| long_enough(&group.times_us, *run, period, rule);
        for run in runs(&samples, period, rule).into_iter().filter(fits) {
            for (i, j) in pieces(run, period, rule).into_iter().filter(fits) {
                let (from, to) = (group.times_us[i], group.times_us[j]);
                all += 1;
                if !cut_between(&group.cuts_us, from, to) {
                    clean += 1;
                    clean_us += to - from;
                }
            }
        }
    }
    (Share::new(clean, all), clean_us)
}

/// More values of tau than this are not tried; of more, evenly spaced ones are.
const MAX_TRIED: usize = 512;

/// Of the values with the wanted share of clean clips the one that leaves most time in clean clips; of several the one that finds most cuts. The share alone would do with a
/// tau that finds no cut at all, where few clips have one. Raising tau makes clips clean only where it passes the similarity over a cut, so those are tried.
pub fn choose_by_clips(groups: &[Group], wanted: f64, rule: &Rule) -> Result<f64, String> {
    let mut all: Vec<f32> = groups.iter().flat_map(|g| g.pairs.iter().map(|p| p.similarity)).collect();
    all.sort_by(f32::total_cmp);
    let mut cuts: Vec<f32> = groups.iter().flat_map(|g| g.pairs.iter().filter(|p| !p.same).map(|p| p.similarity)).collect();
    cuts.sort_by(f32::total_cmp);
    cuts.dedup();
    let above = |s: f32| all.get(all.partition_point(|a| *a <= s)).map_or(1.0 + f64::EPSILON, |a| f64::from(*a));
    let step = cuts.len().div_ceil(MAX_TRIED).max(1);
    let tried = [-1.0].into_iter().chain(cuts.iter().rev().step_by(step).rev().map(|s| short(f64::from(*s), above(*s))));
    let (mut best, mut found) = (0.0f64, None);
    for tau in tried {
        let (share, clean_us) = judge(groups, &Rule { min_similarity: tau, ..*rule });
        // Each value finds more cuts than the one before, so of equals the later one wins.
        if share.value().is_some_and(|s| s >= wanted) && found.is_none_or(|(most, _)| clean_us >= most) {
            found = Some((clean_us, tau));
        }
        best = best.max(share.value().unwrap_or(0.0));
    }
    found.map(|(_, tau)| tau).ok_or_else(|| {
        format!(
            "no similarity leaves {wanted} of the clips of {} videos without a cut inside, the best leaves {best:.4}; label more, or ask for less",
            groups.len()
        )
    })
}

/// Halves of the groups, by a hash of their names: one to choose on, one to measure on. One group is both.
pub fn halves(groups: Vec<Group>) -> (Vec<Group>, Vec<Group>) {
    if groups.len() < 2 {
        return (groups.clone(), groups);
    }
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_cached_key(|&i| *blake3::hash(groups[i].name.as_bytes()).as_bytes());
    let place: HashMap<usize, usize> = order.into_iter().enumerate().map(|(at, i)| (i, at)).collect();
    let (first, second): (Vec<_>, Vec<_>) = groups.into_iter().enumerate().partition(|(i, _)| place[i].is_multiple_of(2));
    let plain = |half: Vec<(usize, Group)>| half.into_iter().map(|(_, g)| g).collect();
    (plain(first), plain(second))
}
