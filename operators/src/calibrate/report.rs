//! tau with what it is worth, as numbers and as text.

use std::fmt;

use serde::Serialize;

use super::cuts::{Group, choose_by_clips, clean_clips, halves};
use super::tau::{Measured, Pair, Share, choose, measure};
use crate::clips::runs::Rule;

/// Values shown beside the chosen one.
const SHOWN: [f64; 7] = [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95];

/// One value of tau.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The value.
    pub tau: f64,
    /// On pairs.
    pub pairs: Measured,
    /// Clips without a cut inside; absent for pair tables.
    pub clean_clips: Option<Share>,
}

/// What calibration came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The recommended `min_similarity`.
    pub tau: f64,
    /// The share that was asked for.
    pub wanted: f64,
    /// True: of clips without a cut inside; false: of joined pairs that are of one shot.
    pub by_clips: bool,
    /// Groups and pairs that tau was chosen on.
    pub chosen_on: (usize, usize),
    /// Groups and pairs that the numbers below are of.
    pub measured_on: (usize, usize),
    /// True when both are the same, because there is only one group: the numbers are then too good.
    pub same_half: bool,
    /// The chosen tau.
    pub chosen: Row,
    /// Others, for comparison.
    pub others: Vec<Row>,
    /// Why the numbers are worth little, if so.
    pub warning: Option<String>,
    /// Videos without embeddings.
    pub skipped: Vec<String>,
}

/// Chooses and measures.
pub fn calibrate(groups: Vec<Group>, wanted: f64, rule: &Rule, skipped: Vec<String>) -> Result<Report, String> {
    if groups.iter().all(|g| g.pairs.is_empty()) {
        let why = skipped.first().map(|s| format!("; the first that was left out: {s}")).unwrap_or_default();
        return Err(format!("there is no labelled pair{why}"));
    }
    let same_half = groups.len() < 2;
    let (first, second) = halves(groups);
    let pairs = |half: &[Group]| half.iter().flat_map(|g| g.pairs.clone()).collect::<Vec<Pair>>();
    let (chosen_on, measured_on) = (pairs(&first), pairs(&second));
    let by_clips = first.iter().any(|g| !g.times_us.is_empty());
    let tau = if by_clips { choose_by_clips(&first, wanted, rule)? } else { choose(&chosen_on, wanted)? };
    let row = |tau: f64| {
        let clips = clean_clips(&second, &Rule { min_similarity: tau, ..*rule });
        let has_times = second.iter().any(|g| !g.times_us.is_empty());
        Row { tau, pairs: measure(&measured_on, tau), clean_clips: has_times.then_some(clips) }
    };
    let chosen = row(tau);
    Ok(Report {
        tau,
        wanted,
        by_clips,
        chosen_on: (first.len(), chosen_on.len()),
        measured_on: (second.len(), measured_on.len()),
        same_half,
        warning: warning(&chosen.pairs.cuts_found),
        chosen,
        others: SHOWN.into_iter().map(row).collect(),
        skipped,
    })
}

/// Whether tau did anything where it was measured.
fn warning(cuts_found: &Share) -> Option<String> {
    let advice = "do not use it: label videos with more cuts, or ask for a larger --share";
    match (cuts_found.hits, cuts_found.of) {
        (0, 0) => {
            Some("no cut is labelled where tau was measured, so nothing is known of what it cuts; label videos with cuts".into())
        }
        (0, cuts) => Some(format!("none of {cuts} cuts is found: this value joins everything, {advice}")),
        _ => None,
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value(), self.interval) {
            (Some(value), Some((low, high))) => write!(f, "{}/{} = {value:.4} ({low:.4} to {high:.4})", self.hits, self.of),
            _ => f.write_str("none"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "min_similarity = {}", self.tau)?;
        if let Some(warning) = &self.warning {
            writeln!(f, "warning        {warning}")?;
        }
        let most = if self.by_clips { "time in such clips" } else { "pairs of one shot joined" };
        let what = if self.by_clips { "clips without a cut inside" } else { "joined pairs of one shot" };
        let (groups, pairs) = self.chosen_on;
        writeln!(
            f,
            "chosen on      {groups} groups, {pairs} pairs: of all with a share of {} {what} the one with most {most}",
            self.wanted
        )?;
        let note = if self.same_half { " (the same ones, so the numbers are too good)" } else { "" };
        writeln!(f, "measured on    {} groups, {} pairs{note}, with 95 % intervals", self.measured_on.0, self.measured_on.1)?;
        let m = &self.chosen.pairs;
        writeln!(f, "precision      {} of joined pairs are of one shot", m.precision)?;
        writeln!(f, "recall         {} of pairs of one shot are joined", m.recall)?;
        writeln!(f, "cuts found     {}", m.cuts_found)?;
        if let Some(clips) = &self.chosen.clean_clips {
            writeln!(f, "clean clips    {clips} have no cut inside")?;
        }
        let number = |share: &Share| share.value().map_or("-".into(), |v| format!("{v:.4}"));
        for row in &self.others {
            write!(
                f,
                "at {:<5}       precision {}, recall {}",
                row.tau,
                number(&row.pairs.precision),
                number(&row.pairs.recall)
            )?;
            match &row.clean_clips {
                Some(clips) => writeln!(f, ", clean clips {} of {}", number(clips), clips.of)?,
                None => writeln!(f)?,
            }
        }
        self.skipped.iter().try_for_each(|s| writeln!(f, "skipped        {s}"))
    }
}
