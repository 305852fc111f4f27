//! What ratings say: shares with intervals, how far raters agree, who wins. All numbers come from [`curette_evaluation`]; here ratings become its sheets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use curette_evaluation::interval::Share;
use curette_evaluation::kappa::{Agreement, agreement};
use curette_evaluation::pairwise::{Outcomes, outcomes};
use curette_evaluation::ratings::{How, ratings as read};
use curette_evaluation::sheet::{Row, Sheet};
use serde::Serialize;

use crate::mode::{MODES, Mode};
use crate::rating::{Outcome, Rating, latest};

/// Which ratings are counted.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Of this mode only.
    pub mode: Option<Mode>,
    /// Of this step only.
    pub stage: Option<String>,
    /// Of plans whose hash begins so.
    pub plan: Option<String>,
}

/// What is found of one mode, stage and plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// What was asked.
    pub mode: Mode,
    /// Of which step.
    pub stage: String,
    /// Of which plan.
    pub plan_hash: String,
    /// Which side of the step.
    pub outcome: &'static str,
    /// Items with a rating.
    pub items: usize,
    /// Items by the number of their raters.
    pub raters: BTreeMap<String, u64>,
    /// Ratings by label.
    pub labels: BTreeMap<String, u64>,
    /// Ratings by tag.
    pub tags: BTreeMap<String, u64>,
    /// Items that most of their raters find acceptable.
    pub acceptable: Option<Share>,
    /// How far raters agree, by dimension where there are several; absent with one rater.
    pub agreement: Vec<Agreement>,
    /// Of pairs.
    pub pairwise: Option<Outcomes>,
}

/// All results of these ratings, by mode, stage and plan.
pub fn results(ratings: &[Rating], choice: &Choice) -> Result<Vec<Finding>, String> {
    let mut groups: BTreeMap<(Mode, &str, &str, Outcome), Vec<&Rating>> = BTreeMap::new();
    for rating in latest(ratings) {
        let wanted = choice.mode.is_none_or(|mode| mode == rating.mode)
            && choice.stage.as_ref().is_none_or(|stage| *stage == rating.stage)
            && choice.plan.as_ref().is_none_or(|plan| rating.plan_hash.starts_with(plan.as_str()));
        if wanted {
            groups.entry((rating.mode, &rating.stage, &rating.plan_hash, rating.outcome)).or_default().push(rating);
        }
    }
    groups.into_iter().map(|((mode, stage, plan, outcome), of)| one(mode, stage, plan, outcome, &of)).collect()
}

fn one(mode: Mode, stage: &str, plan: &str, outcome: Outcome, of: &[&Rating]) -> Result<Finding, String> {
    let mut items: BTreeMap<(&str, Option<&str>), Vec<bool>> = BTreeMap::new();
    let (mut labels, mut tags): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
    let mut raters: BTreeMap<String, u64> = BTreeMap::new();
    for rating in of {
        let good = mode.acceptable().contains(&rating.label.as_str());
        items.entry((&rating.item_id, rating.opponent.as_deref())).or_default().push(good);
        *labels.entry(rating.label.clone()).or_default() += 1;
        *raters.entry(rating.rater.clone()).or_default() += 1;
        rating.tags.iter().for_each(|tag| *tags.entry(tag.clone()).or_default() += 1);
    }
    let good = items.values().filter(|votes| 2 * votes.iter().filter(|good| **good).count() > votes.len()).count();
    let acceptable = (!mode.acceptable().is_empty()).then(|| Share::new(good as u64, items.len() as u64));
    let agreement = if raters.len() > 1 { agree(mode, of)? } else { Vec::new() };
    let pairwise = (mode == Mode::Pairwise).then(|| votes(of)).transpose()?;
    let (stage, plan_hash, n) = (stage.to_owned(), plan.to_owned(), items.len());
    Ok(Finding {
        mode,
        stage,
        plan_hash,
        outcome: outcome.name(),
        items: n,
        raters,
        labels,
        tags,
        acceptable,
        agreement,
        pairwise,
    })
}

fn sheet(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Sheet {
    let rows = rows.zip(2..).map(|(cells, line)| Row { line, cells }).collect();
    Sheet { file: "ratings".into(), columns: columns.iter().map(|c| (*c).to_owned()).collect(), rows }
}

fn agree(mode: Mode, of: &[&Rating]) -> Result<Vec<Agreement>, String> {
    let by = (!mode.dimensions().is_empty()).then(|| "dimension".to_owned());
    let levels = mode.labels().iter().map(|l| (*l).to_owned()).collect();
    let acceptable: Vec<String> = mode.acceptable().iter().map(|l| (*l).to_owned()).collect();
    let item = |r: &Rating| r.opponent.as_ref().map_or_else(|| r.item_id.clone(), |o| format!("{} / {o}", r.item_id));
    // A dimension that one rater alone has voted about tells nothing about agreement.
    let raters_of = |dimension: &Option<String>| {
        of.iter().filter(|r| r.dimension == *dimension).map(|r| r.rater.as_str()).collect::<BTreeSet<_>>().len()
    };
    let rows: Vec<Vec<String>> = of
        .iter()
        .filter(|r| raters_of(&r.dimension) > 1)
        .map(|r| vec![item(r), r.rater.clone(), r.label.clone(), r.dimension.clone().unwrap_or_else(|| "-".into())])
        .collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let sheet = sheet(&["item", "rater", "label", "dimension"], rows.into_iter());
    let groups = read(&sheet, &How { levels, by, ..How::default() }).map_err(|e| e.to_string())?;
    groups.iter().map(|group| agreement(group, &acceptable)).collect()
}

fn votes(of: &[&Rating]) -> Result<Outcomes, String> {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    let rows =
        of.iter().map(|r| vec![r.item_id.clone(), r.rater.clone(), r.label.clone(), text(&r.dimension), text(&r.opponent)]);
    outcomes(&sheet(&["prompt", "rater", "vote", "dimension", "opponent"], rows)).map_err(|e| e.to_string())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = &self.plan_hash[..self.plan_hash.len().min(12)];
        let side = if self.outcome == "given" { String::new() } else { format!(", {} rows", self.outcome) };
        writeln!(f, "{} of `{}` at {short}{side}: {} items", self.mode, self.stage, self.items)?;
        for (what, counts) in [("ratings", &self.raters), ("labels", &self.labels), ("tags", &self.tags)] {
            let counts: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
            if !counts.is_empty() {
                writeln!(f, "  {what}: {}", counts.join(", "))?;
            }
        }
        if let Some(share) = &self.acceptable {
            writeln!(f, "  acceptable to most: {share}")?;
        }
        for text in self.agreement.iter().map(ToString::to_string).chain(self.pairwise.iter().map(ToString::to_string)) {
            writeln!(f)?;
            text.lines().try_for_each(|line| writeln!(f, "{}", format!("  {line}").trim_end()))?;
        }
        Ok(())
    }
}

/// Names of all modes, for messages.
pub fn mode_names() -> String {
    MODES.map(Mode::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::tests::rating;

    #[test]
    fn ratings_become_shares_kappas_and_win_rates() {
        let mut all = Vec::new();
        for (item, labels) in [("v1", "none minor none"), ("v2", "severe moderate minor"), ("v3", "minor minor severe")] {
            for (rater, label) in ["A", "B", "C"].into_iter().zip(labels.split(' ')) {
                let outcome = Outcome::Given;
                all.push(Rating { mode: Mode::Warping, stage: "files".into(), outcome, ..rating(item, rater, label) });
            }
        }
        for (item, votes) in [("p1", "win win loss"), ("p2", "both_loss loss loss")] {
            for (rater, vote) in ["A", "B", "C"].into_iter().zip(votes.split(' ')) {
                for dimension in Mode::Pairwise.dimensions() {
                    all.push(Rating {
                        mode: Mode::Pairwise,
                        stage: "files".into(),
                        outcome: Outcome::Given,
                        opponent: Some("other".into()),
                        dimension: Some((*dimension).into()),
                        tags: Vec::new(),
                        ..rating(item, rater, vote)
                    });
                }
            }
        }
        all.push(rating("c1", "A", "clean"));
        let found = results(&all, &Choice::default()).unwrap();
        assert_eq!(found.iter().map(|r| r.mode).collect::<Vec<_>>(), [Mode::Audit, Mode::Warping, Mode::Pairwise]);
        let warping = found[1].agreement[0].acceptance.as_ref().unwrap();
        assert_eq!((warping.accepted.hits, warping.accepted.of), (2, 3), "two of three find v1 and v3 acceptable");
        let pairs = found[2].pairwise.as_ref().unwrap();
        assert!(pairs.outcomes.iter().all(|o| (o.win, o.both_loss, o.loss) == (1, 0, 1)), "{pairs:?}");
        assert!(found[0].agreement.is_empty(), "one rater");
        let only = Choice { mode: Some(Mode::Audit), ..Choice::default() };
        assert_eq!(results(&all, &only).unwrap().len(), 1);
        insta::assert_snapshot!(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
}
