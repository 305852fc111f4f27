//! Cohen's kappa of every pair of raters, and the share of items that the majority accepts.
//!
//! kappa = 1 - sum(w O) / sum(w E): O counts what the two gave, E what they would give by chance with the same habits, w says how bad a
//! difference is (1; the distance on the scale; its square). Both are counted over the items that both have rated. What can go wrong: two
//! raters who give one and the same label to everything; then chance explains all, and there is no kappa.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::interval::Share;
use crate::layout::{columns, number};
use crate::ratings::Ratings;
use crate::sheet::{Mistake, Sheet};
use crate::{ROUNDING, fits};

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// All are equally bad.
    Unweighted,
    /// As bad as they are far apart.
    Linear,
    /// As bad as the square of that.
    Quadratic,
}

impl Weights {
    fn of(self, a: usize, b: usize) -> f64 {
        let apart = a.abs_diff(b) as f64;
        match self {
            Weights::Unweighted => f64::from(a != b),
            Weights::Linear => apart,
            Weights::Quadratic => apart * apart,
        }
    }
}

/// Cohen's kappa of a square table of counts: rows are one rater's labels, columns the other's.
pub fn kappa(counts: &[Vec<u64>], weights: Weights) -> Option<f64> {
    let n: u64 = counts.iter().flatten().sum();
    let rows: Vec<f64> = counts.iter().map(|row| row.iter().sum::<u64>() as f64).collect();
    let columns: Vec<f64> = (0..counts.len()).map(|c| counts.iter().map(|row| row[c]).sum::<u64>() as f64).collect();
    let (mut observed, mut expected) = (0.0, 0.0);
    for (a, row) in counts.iter().enumerate() {
        for (b, count) in row.iter().enumerate() {
            let w = weights.of(a, b);
            observed += w * *count as f64;
            expected += w * rows[a] * columns[b] / n as f64;
        }
    }
    (n > 0 && expected > 0.0).then(|| 1.0 - observed / expected)
}

/// Two raters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// One.
    pub a: String,
    /// The other.
    pub b: String,
    /// Where both gave the same label, of the items that both have rated.
    pub agreement: Share,
    /// Cohen's kappa.
    pub kappa: Option<f64>,
    /// With linear weights; only of labels with an order.
    pub linear: Option<f64>,
    /// With quadratic weights; only of labels with an order.
    pub quadratic: Option<f64>,
    /// Of acceptable against unacceptable.
    pub binary: Option<f64>,
    /// How often `a` gave the label of the row and `b` that of the column.
    pub confusion: Vec<Vec<u64>>,
}

/// What the majority of three accepts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Acceptance {
    /// Labels that are acceptable.
    pub acceptable: Vec<String>,
    /// Items that at least two of their three raters find acceptable.
    pub accepted: Share,
    /// The others in percent: the paper's warping error.
    pub error_percent: Option<f64>,
    /// Items without exactly three ratings: the rule says nothing about them.
    pub left_out: u64,
}

/// How far raters agree.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// What the items have in common, where they are grouped.
    pub group: Option<String>,
    /// Items with a rating.
    pub items: usize,
    /// The labels.
    pub labels: Vec<String>,
    /// Whether their order means anything.
    pub ordered: bool,
    /// Every pair of raters.
    pub pairs: Vec<Pair>,
    /// What the majority accepts, if it is said which labels are acceptable.
    pub acceptance: Option<Acceptance>,
}

/// The raters whom the majority rule is about.
const JURY: usize = 3;
/// How many of them must agree.
const MAJORITY: usize = 2;

/// How far the raters of a group agree; `acceptable` may be empty.
pub fn agreement(ratings: &Ratings, acceptable: &[String]) -> Result<Agreement, String> {
    if let Some(stranger) = acceptable.iter().find(|a| !ratings.labels.contains(a)) {
        return Err(format!("the acceptable label `{stranger}` is none of the labels {}", ratings.labels.join(", ")));
    }
    let good: Vec<bool> = ratings.labels.iter().map(|l| acceptable.contains(l)).collect();
    let mut pairs = Vec::new();
    for a in 0..ratings.raters.len() {
        for b in a + 1..ratings.raters.len() {
            pairs.push(pair(ratings, a, b, (!acceptable.is_empty()).then_some(&good)));
        }
    }
    let acceptance = (!acceptable.is_empty()).then(|| accepted(ratings, acceptable, &good));
    let Ratings { group, labels, ordered, items, .. } = ratings;
    Ok(Agreement { group: group.clone(), items: items.len(), labels: labels.clone(), ordered: *ordered, pairs, acceptance })
}

fn pair(ratings: &Ratings, a: usize, b: usize, good: Option<&Vec<bool>>) -> Pair {
    let mut confusion = vec![vec![0_u64; ratings.labels.len()]; ratings.labels.len()];
    for item in &ratings.items {
        if let (Some(&of_a), Some(&of_b)) = (item.get(&a), item.get(&b)) {
            confusion[of_a][of_b] += 1;
        }
    }
    let binary = good.and_then(|good| {
        let mut two = vec![vec![0_u64; 2]; 2];
        for (of_a, row) in confusion.iter().enumerate() {
            row.iter().enumerate().for_each(|(of_b, n)| two[usize::from(good[of_a])][usize::from(good[of_b])] += *n);
        }
        kappa(&two, Weights::Unweighted)
    });
    let weighted = |weights| ratings.ordered.then(|| kappa(&confusion, weights)).flatten();
    let agree = (0..confusion.len()).map(|l| confusion[l][l]).sum();
    Pair {
        a: ratings.raters[a].clone(),
        b: ratings.raters[b].clone(),
        agreement: Share::new(agree, confusion.iter().flatten().sum()),
        kappa: kappa(&confusion, Weights::Unweighted),
        linear: weighted(Weights::Linear),
        quadratic: weighted(Weights::Quadratic),
        binary,
        confusion,
    }
}

fn accepted(ratings: &Ratings, acceptable: &[String], good: &[bool]) -> Acceptance {
    let judged: Vec<usize> = ratings
        .items
        .iter()
        .filter(|item| item.len() == JURY)
        .map(|item| item.values().filter(|&&label| good[label]).count())
        .collect();
    let accepted = Share::new(judged.iter().filter(|&&votes| votes >= MAJORITY).count() as u64, judged.len() as u64);
    Acceptance {
        acceptable: acceptable.to_vec(),
        accepted,
        error_percent: accepted.share.map(|s| 100.0 * (1.0 - s)),
        left_out: (ratings.items.len() - judged.len()) as u64,
    }
}

/// A printed kappa against the computed ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Printed {
    /// One rater.
    pub a: String,
    /// The other.
    pub b: String,
    /// What is printed.
    pub printed: f64,
    /// What is computed, by kind, and whether it is what is printed. Empty: no such pair.
    pub computed: BTreeMap<&'static str, (f64, bool)>,
}

/// Printed kappas (columns `rater_a`, `rater_b`, `kappa`) against those of an agreement. Papers seldom say which kind they print, so all are shown.
pub fn against(agreement: &Agreement, sheet: &Sheet) -> Result<Vec<Printed>, Mistake> {
    let (a, b, value) = (sheet.column("rater_a")?, sheet.column("rater_b")?, sheet.column("kappa")?);
    let one = |row: &crate::sheet::Row| {
        let (a, b, printed) = (sheet.text(row, a)?, sheet.text(row, b)?, sheet.number(row, value)?);
        if !(-1.0..=1.0).contains(&printed) {
            return Err(sheet.at(row, format!("column `kappa` says {printed}; it is between -1 and 1")));
        }
        let same = |p: &&Pair| (p.a == a && p.b == b) || (p.a == b && p.b == a);
        let found = agreement.pairs.iter().find(same);
        let kinds = found.map(|p| [("kappa", p.kappa), ("linear", p.linear), ("quadratic", p.quadratic), ("binary", p.binary)]);
        let computed =
            kinds.into_iter().flatten().filter_map(|(kind, k)| k.map(|k| (kind, (k, fits(k, printed, ROUNDING))))).collect();
        Ok(Printed { a: a.to_owned(), b: b.to_owned(), printed, computed })
    };
    sheet.rows.iter().map(one).collect()
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {}: {} is printed", self.a, self.b, self.printed)?;
        if self.computed.is_empty() {
            return write!(f, ", nothing is computed: no items that both have rated");
        }
        for (kind, (value, fits)) in &self.computed {
            write!(f, ", {kind} {value:.4} {}", if *fits { "fits" } else { "does not" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            writeln!(f, "{group}")?;
        }
        writeln!(f, "{} items, labels: {}\n", self.items, self.labels.join(if self.ordered { " < " } else { ", " }))?;
        let cells = |p: &Pair| {
            let kappas = [p.kappa, p.linear, p.quadratic, p.binary].map(|k| number(k, 4));
            [vec![format!("{} - {}", p.a, p.b), p.agreement.of.to_string()], kappas.to_vec()].concat()
        };
        let rows: Vec<Vec<String>> = self.pairs.iter().map(cells).collect();
        f.write_str(&columns(&["pair", "items", "kappa", "linear", "quadratic", "binary"], &rows))?;
        f.write_str("\nsame label\n")?;
        self.pairs.iter().try_for_each(|p| writeln!(f, "  {} - {}: {}", p.a, p.b, p.agreement))?;
        f.write_str("\nkappa\n")?;
        f.write_str(&matrix(&self.pairs))?;
        if let Some(found) = &self.acceptance {
            writeln!(f, "\nacceptable ({}) to two of three: {}", found.acceptable.join(", "), found.accepted)?;
            writeln!(
                f,
                "error: {} %; {} items without three ratings are left out",
                number(found.error_percent, 2),
                found.left_out
            )?;
        }
        Ok(())
    }
}

/// Kappas as a square.
fn matrix(pairs: &[Pair]) -> String {
    let mut names: Vec<&str> = pairs.iter().flat_map(|p| [p.a.as_str(), p.b.as_str()]).collect();
    names.sort_unstable();
    names.dedup();
    let between = |x: &str, y: &str| {
        if x == y {
            return "1".to_owned();
        }
        let found = pairs.iter().find(|p| (p.a == x && p.b == y) || (p.a == y && p.b == x));
        number(found.and_then(|p| p.kappa), 4)
    };
    let row = |x: &&str| [vec![format!("  {x}")], names.iter().map(|y| between(x, y)).collect()].concat();
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    columns(&[&[""][..], names.as_slice()].concat(), &rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// (p_o - p_e) / (1 - p_e), counted over the list of ratings.
        #[test]
        fn unweighted_kappa_is_its_definition(list in proptest::collection::vec((0usize..4, 0usize..4), 1..60)) {
            let mut counts = vec![vec![0; 4]; 4];
            list.iter().for_each(|(a, b)| counts[*a][*b] += 1);
            let n = list.len() as f64;
            let p_o = list.iter().filter(|(a, b)| a == b).count() as f64 / n;
            let share = |l: usize, of: &dyn Fn(&(usize, usize)) -> usize| list.iter().filter(|r| of(r) == l).count() as f64 / n;
            let p_e: f64 = (0..4).map(|l| share(l, &|r| r.0) * share(l, &|r| r.1)).sum();
            match kappa(&counts, Weights::Unweighted) {
                Some(k) => prop_assert!((k - (p_o - p_e) / (1.0 - p_e)).abs() < 1e-9),
                None => prop_assert!((p_e - 1.0).abs() < 1e-12),
            }
            // Whoever is named first.
            let turned: Vec<Vec<u64>> = (0..4).map(|c| counts.iter().map(|row| row[c]).collect()).collect();
            for weights in [Weights::Unweighted, Weights::Linear, Weights::Quadratic] {
                let (one, other) = (kappa(&counts, weights), kappa(&turned, weights));
                prop_assert!(one.is_some() == other.is_some() && (one.unwrap_or(0.0) - other.unwrap_or(0.0)).abs() < 1e-12);
            }
        }
    }

    fn ratings(text: &str, levels: &str) -> Ratings {
        let how = crate::ratings::How { levels: levels.split_whitespace().map(str::to_owned).collect(), ..Default::default() };
        crate::ratings::ratings(&Sheet::parse("r.csv", text.as_bytes()).unwrap(), &how).unwrap().remove(0)
    }

    #[test]
    fn raters_without_a_difference_have_no_kappa() {
        let same = agreement(&ratings("item,rater,label\n1,A,x\n1,B,x\n2,A,x\n2,B,x\n", ""), &[]).unwrap();
        assert_eq!((same.pairs[0].kappa, same.pairs[0].agreement.hits), (None, 2));
        // Never on the same item.
        let apart = agreement(&ratings("item,rater,label\n1,A,x\n2,B,x\n", ""), &[]).unwrap();
        assert_eq!((apart.pairs[0].kappa, apart.pairs[0].agreement.of), (None, 0));
    }

    #[test]
    fn two_of_three_decide_and_other_numbers_of_raters_do_not() {
        let text = "item,rater,label\n1,A,none\n1,B,minor\n1,C,severe\n2,A,none\n2,B,moderate\n2,C,severe\n3,A,none\n3,B,none\n";
        let ratings = ratings(text, "none minor moderate severe");
        let good = ["none".to_owned(), "minor".to_owned()];
        let found = agreement(&ratings, &good).unwrap().acceptance.unwrap();
        assert_eq!((found.accepted.hits, found.accepted.of, found.error_percent, found.left_out), (1, 2, Some(50.0), 1));
        assert!(agreement(&ratings, &["fine".to_owned()]).unwrap_err().contains("none, minor, moderate, severe"));
    }
}
