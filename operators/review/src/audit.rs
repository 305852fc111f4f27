//! How a stage stands: who has rated how much of its sample, which share is acceptable, and whether that is enough. Pure.
//!
//! All audits of a stage at one plan are put together, so nobody draws samples until one pleases. An item counts when so many raters as are asked for have rated
//! it, and is acceptable when more than half of them say so. The paper's rule is a share of the sample; with a confidence the lower end of Wilson's interval
//! must reach the limit, so a small sample passes only if it is very clean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use curette_evaluation::interval::{Share, lower_bound};
use serde::{Deserialize, Serialize};

use crate::mode::Mode;
use crate::rating::{Outcome, Rating, latest};

/// When an audit has passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Smallest share of acceptable rows.
    pub min_share: f64,
    /// How certain it must be, if at all.
    pub confidence: Option<f64>,
    /// Rows that must be rated, unless there are fewer.
    pub sample: u64,
    /// Raters that each of them needs.
    pub raters: u64,
}

/// What is found of one side of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Rows of the side.
    pub population: u64,
    /// Rows of it that are in a sample which somebody has begun to rate.
    pub drawn: u64,
    /// Acceptable ones of those that are rated by as many as are asked for.
    pub acceptable: Share,
    /// Those that are rated by fewer.
    pub begun: u64,
    /// How often each label was given.
    pub labels: BTreeMap<String, u64>,
    /// How often each tag was given.
    pub tags: BTreeMap<String, u64>,
}

/// How a stage stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The step.
    pub stage: String,
    /// The plan whose rows were looked at.
    pub plan_hash: String,
    /// Items that each rater has rated.
    pub raters: BTreeMap<String, u64>,
    /// What the stage kept.
    pub kept: Side,
    /// What it dropped: acceptable ones were dropped without need.
    pub rejected: Side,
    /// Ratings of this stage that are about other plans.
    pub of_other_plans: u64,
}

/// Whether an audit has passed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// Enough was looked at and it was good enough.
    Passed(String),
    /// Enough was looked at and it was not.
    Failed(String),
    /// More must be looked at.
    Missing(String),
}

impl Standing {
    /// Of a stage at a plan, with so many raters for each item.
    pub fn of(ratings: &[Rating], stage: &str, plan_hash: &str, raters_needed: u64) -> Standing {
        let of_stage = |r: &&Rating| r.mode == Mode::Audit && r.stage == stage;
        let of_other_plans = ratings.iter().filter(of_stage).filter(|r| r.plan_hash != plan_hash).count() as u64;
        let mine: Vec<&Rating> = latest(ratings).into_iter().filter(of_stage).filter(|r| r.plan_hash == plan_hash).collect();
        let mut raters: BTreeMap<String, u64> = BTreeMap::new();
        mine.iter().for_each(|r| *raters.entry(r.rater.clone()).or_default() += 1);
        Standing {
            stage: stage.to_owned(),
            plan_hash: plan_hash.to_owned(),
            raters,
            kept: Side::of(&mine, Outcome::Kept, raters_needed),
            rejected: Side::of(&mine, Outcome::Rejected, raters_needed),
            of_other_plans,
        }
    }
}

impl Side {
    fn of(ratings: &[&Rating], outcome: Outcome, raters_needed: u64) -> Side {
        let mine: Vec<&&Rating> = ratings.iter().filter(|r| r.outcome == outcome).collect();
        let mut items: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
        let (mut labels, mut tags): (BTreeMap<String, u64>, BTreeMap<String, u64>) = Default::default();
        for rating in &mine {
            let good = Mode::Audit.acceptable().contains(&rating.label.as_str());
            items.entry(&rating.item_id).or_default().push(good);
            *labels.entry(rating.label.clone()).or_default() += 1;
            rating.tags.iter().for_each(|tag| *tags.entry(tag.clone()).or_default() += 1);
        }
        let rated: Vec<&Vec<bool>> = items.values().filter(|votes| votes.len() as u64 >= raters_needed).collect();
        let good = rated.iter().filter(|votes| 2 * votes.iter().filter(|good| **good).count() > votes.len()).count();
        let sessions: BTreeSet<(&str, i64)> = mine.iter().map(|r| (r.session.as_str(), r.sample)).collect();
        Side {
            population: mine.iter().map(|r| r.population).max().map_or(0, |n| u64::try_from(n).unwrap_or(0)),
            drawn: sessions.iter().map(|(_, n)| u64::try_from(*n).unwrap_or(0)).sum(),
            acceptable: Share::new(good as u64, rated.len() as u64),
            begun: (items.len() - rated.len()) as u64,
            labels,
            tags,
        }
    }
}

impl Rule {
    /// Whether a stage's audit has passed.
    pub fn judge(&self, standing: &Standing) -> Verdict {
        let side = &standing.kept;
        let stage = &standing.stage;
        let needed = if side.population > 0 { self.sample.min(side.population) } else { self.sample };
        let of = side.acceptable.of;
        let raters = if self.raters > 1 { format!(" by {} raters", self.raters) } else { String::new() };
        if of < needed {
            let others = match standing.of_other_plans {
                0 => String::new(),
                n => format!("; {n} ratings are about rows of other plans"),
            };
            return Verdict::Missing(format!(
                "{of} of {needed} rows that `{stage}` kept are rated{raters}{others}; rate them with: curette review OUTPUT --stage {stage} --n {needed}"
            ));
        }
        let open = side.drawn.saturating_sub(of);
        if open > 0 {
            // Otherwise a rater could stop when it looks good.
            return Verdict::Missing(format!(
                "{open} rows of the sample that `{stage}` kept are not rated{raters} yet, {of} are; finish the sample"
            ));
        }
        let share = side.acceptable.share.unwrap_or(0.0);
        let (value, how) = match self.confidence {
            None => (share, String::new()),
            Some(confidence) => {
                let low = lower_bound(side.acceptable.hits, of, confidence).unwrap_or(0.0);
                (low, format!(", at least {:.2} % with confidence {confidence}", 100.0 * low))
            }
        };
        let what = format!(
            "{} of {of} rows that `{stage}` kept are acceptable ({:.2} %{how}), {:.2} % are needed",
            side.acceptable.hits,
            100.0 * share,
            100.0 * self.min_share
        );
        // A share such as 190 / 200 is 0.95 in binary, too, but 0.95 x 200 need not be 190.
        if value + 1e-12 >= self.min_share {
            Verdict::Passed(what)
        } else {
            Verdict::Failed(format!("{what}; change what is before the gate, and audit what comes of it"))
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = &self.plan_hash[..self.plan_hash.len().min(12)];
        writeln!(f, "stage `{}` at plan {short}", self.stage)?;
        for (name, side) in [("kept", &self.kept), ("dropped", &self.rejected)] {
            if side.drawn == 0 {
                writeln!(f, "  {name}: nothing is rated")?;
                continue;
            }
            let begun = if side.begun > 0 { format!(", {} more by too few", side.begun) } else { String::new() };
            let of = side.acceptable.of;
            writeln!(f, "  {name}: {of} of {} in the sample are rated{begun}; {} rows in all", side.drawn, side.population)?;
            writeln!(f, "    acceptable: {}", side.acceptable)?;
            for (what, counts) in [("labels", &side.labels), ("tags", &side.tags)] {
                let counts: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
                if !counts.is_empty() {
                    writeln!(f, "    {what}: {}", counts.join(", "))?;
                }
            }
        }
        let raters: Vec<String> = self.raters.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if !raters.is_empty() {
            writeln!(f, "  ratings: {}", raters.join(", "))?;
        }
        if self.of_other_plans > 0 {
            writeln!(f, "  {} ratings are about rows of other plans and do not count", self.of_other_plans)?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Passed(why) => write!(f, "passed: {why}"),
            Verdict::Failed(why) => write!(f, "FAILED: {why}"),
            Verdict::Missing(why) => write!(f, "open: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rating::tests::rating;

    fn rule(min_share: f64, confidence: Option<f64>, sample: u64, raters: u64) -> Rule {
        Rule { min_share, confidence, sample, raters }
    }

    /// `good` clean and `bad` noisy ones of a sample of so many.
    fn rated(good: usize, bad: usize, sample: i64, population: i64) -> Vec<Rating> {
        let one = |i: usize| {
            let label = if i < good { ["clean", "slightly_noisy"][i % 2] } else { "noisy" };
            Rating { sample, population, ..rating(&format!("i{i}"), "A", label) }
        };
        (0..good + bad).map(one).collect()
    }

    fn judged(ratings: &[Rating], rule: &Rule) -> (String, String) {
        let verdict = rule.judge(&Standing::of(ratings, "clean", "p", rule.raters));
        let text = verdict.to_string();
        let (word, why) = text.split_once(": ").unwrap();
        (word.to_owned(), why.to_owned())
    }

    #[test]
    fn the_papers_rule_is_a_share_of_all_of_the_sample() {
        let paper = rule(0.95, None, 200, 1);
        let word = |good, bad, sample, population| judged(&rated(good, bad, sample, population), &paper).0;
        assert_eq!(word(190, 10, 200, 5000), "passed");
        assert_eq!(word(189, 11, 200, 5000), "FAILED");
        assert_eq!(word(199, 0, 200, 5000), "open");
        assert_eq!(word(200, 0, 300, 5000), "open", "a sample is rated to its end");
        assert_eq!(word(40, 0, 40, 5000), "open", "too small a sample");
        assert_eq!(word(40, 1, 41, 41), "passed", "there are no more");
        assert_eq!(judged(&[], &paper).0, "open");
    }

    #[test]
    fn a_confidence_asks_for_more() {
        assert_eq!(judged(&rated(200, 0, 200, 5000), &rule(0.95, Some(0.95), 200, 1)).0, "passed");
        assert_eq!(judged(&rated(194, 6, 200, 5000), &rule(0.95, Some(0.95), 200, 1)).0, "FAILED");
        assert_eq!(judged(&rated(194, 6, 200, 5000), &rule(0.95, None, 200, 1)).0, "passed");
    }

    #[test]
    fn most_raters_decide_and_other_plans_stages_and_modes_do_not_count() {
        let mut all = rated(4, 0, 4, 4);
        all.extend(rated(2, 2, 4, 4).into_iter().map(|r| Rating { rater: "B".into(), ..r }));
        all.extend(rated(0, 4, 4, 4).into_iter().map(|r| Rating { plan_hash: "q".into(), ..r }));
        all.extend(rated(0, 4, 4, 4).into_iter().map(|r| Rating { stage: "other".into(), ..r }));
        all.extend(rated(0, 4, 4, 4).into_iter().map(|r| Rating { mode: Mode::Caption, ..r }));
        all.extend(rated(1, 1, 2, 9).into_iter().map(|r| Rating {
            outcome: Outcome::Rejected,
            item_id: format!("r{}", r.item_id),
            ..r
        }));
        let standing = Standing::of(&all, "clean", "p", 2);
        assert_eq!((standing.kept.acceptable.hits, standing.kept.acceptable.of), (2, 4), "half is not most");
        assert_eq!((standing.rejected.acceptable.of, standing.rejected.begun, standing.of_other_plans), (0, 2, 4));
        assert_eq!(judged(&all, &rule(0.5, None, 200, 2)).0, "passed");
        assert_eq!(judged(&all, &rule(0.5, None, 200, 3)).0, "open");
        insta::assert_snapshot!(format!("{}{}", Standing::of(&all, "clean", "p", 1), judged(&all, &rule(0.95, None, 200, 1)).1));
    }
}
