//! Paired t-tests: two models on the same prompts, one test for each score.
//!
//! Pairs are made by key; a key of one file alone, and a pair with an empty cell, count apart. With several scores a p below 0.05 is easily
//! luck, so p is also given after Holm's correction. What can go wrong: fewer than two pairs, or differences that are all the same; then
//! there is no test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use statrs::function::beta::beta_reg;

use crate::layout::{columns, number};
use crate::sheet::{Mistake, Sheet};

/// Halvings of the interval in which a quantile is sought: as many as a double has bits, and some.
const HALVINGS: usize = 80;
/// The part of the differences' distribution that the interval holds.
const CONFIDENCE: f64 = 0.95;

/// A test of one score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Test {
    /// The score.
    pub metric: String,
    /// Pairs with both values.
    pub pairs: usize,
    /// Pairs of which a value is missing.
    pub missing: usize,
    /// Mean of the first model.
    pub baseline: Option<f64>,
    /// Mean of the second model.
    pub changed: Option<f64>,
    /// Mean of second minus first.
    pub difference: Option<f64>,
    /// Ends of the 95 % interval of the difference.
    pub interval: Option<[f64; 2]>,
    /// The t statistic.
    pub t: Option<f64>,
    /// Degrees of freedom.
    pub degrees: Option<u64>,
    /// Two-tailed probability of such a difference by luck.
    pub p: Option<f64>,
    /// The same after Holm's correction for the number of scores.
    pub p_holm: Option<f64>,
    /// Difference in standard deviations of the differences.
    pub effect: Option<f64>,
    /// `p` is below the level.
    pub significant: Option<bool>,
    /// Why there is no test.
    pub why_not: Option<&'static str>,
}

/// All tests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The file of the first model.
    pub baseline: String,
    /// The file of the second.
    pub changed: String,
    /// The column that pairs are made by.
    pub key: String,
    /// Keys in both files.
    pub pairs: usize,
    /// Keys in the first alone.
    pub only_baseline: Vec<String>,
    /// Keys in the second alone.
    pub only_changed: Vec<String>,
    /// The level of significance.
    pub alpha: f64,
    /// A test for each score.
    pub tests: Vec<Test>,
}

/// Compares all number columns that both sheets have, or those that are named.
pub fn compare(baseline: &Sheet, changed: &Sheet, key: &str, metrics: &[String], alpha: f64) -> Result<Comparison, Mistake> {
    let metrics: Vec<String> = match metrics {
        [] => baseline.columns.iter().filter(|c| c.as_str() != key && changed.find(c).is_some()).cloned().collect(),
        named => named.to_vec(),
    };
    if metrics.is_empty() {
        return Err(changed.mistake(None, format!("has no column in common with {} besides `{key}`", baseline.file)));
    }
    let (a, b) = (Keyed::of(baseline, key, &metrics)?, Keyed::of(changed, key, &metrics)?);
    let keys: Vec<&str> = a.0.keys().filter(|k| b.0.contains_key(*k)).copied().collect();
    if keys.is_empty() {
        return Err(
            changed.mistake(None, format!("has no `{key}` in common with {}: there is nothing to compare", baseline.file))
        );
    }
    let both: BTreeSet<&str> = keys.iter().copied().collect();
    let alone = |of: &Keyed| of.0.keys().filter(|k| !both.contains(*k)).map(|k| (*k).to_owned()).collect();
    let mut tests: Vec<Test> = Vec::new();
    for (at, metric) in metrics.iter().enumerate() {
        let pairs: Vec<(f64, f64)> = keys.iter().filter_map(|k| a.0[k][at].zip(b.0[k][at])).collect();
        tests.push(test(metric, &pairs, keys.len() - pairs.len(), alpha));
    }
    holm(&mut tests);
    Ok(Comparison {
        baseline: baseline.file.clone(),
        changed: changed.file.clone(),
        key: key.to_owned(),
        pairs: keys.len(),
        only_baseline: alone(&a),
        only_changed: alone(&b),
        alpha,
        tests,
    })
}

/// The values of each key.
struct Keyed<'a>(BTreeMap<&'a str, Vec<Option<f64>>>);

impl<'a> Keyed<'a> {
    fn of(sheet: &'a Sheet, key: &str, metrics: &[String]) -> Result<Keyed<'a>, Mistake> {
        let key = sheet.column(key)?;
        let columns = metrics.iter().map(|m| sheet.column(m)).collect::<Result<Vec<_>, _>>()?;
        let (mut out, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for row in &sheet.rows {
            let name = sheet.text(row, key)?;
            if let Some(before) = lines.insert(name, row.line) {
                let what = format!("`{name}` is there before, in line {before}; each {} has one row", sheet.columns[key]);
                return Err(sheet.at(row, what));
            }
            out.insert(name, columns.iter().map(|&c| sheet.maybe_number(row, c)).collect::<Result<Vec<_>, _>>()?);
        }
        Ok(Keyed(out))
    }
}

fn test(metric: &str, pairs: &[(f64, f64)], missing: usize, alpha: f64) -> Test {
    let n = pairs.len() as f64;
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| (n > 0.0).then(|| pairs.iter().map(values).sum::<f64>() / n);
    let difference = mean(&|(a, b)| b - a);
    let mut out = Test {
        metric: metric.to_owned(),
        pairs: pairs.len(),
        missing,
        baseline: mean(&|p| p.0),
        changed: mean(&|p| p.1),
        difference,
        interval: None,
        t: None,
        degrees: None,
        p: None,
        p_holm: None,
        effect: None,
        significant: None,
        why_not: None,
    };
    let Some(d) = difference.filter(|_| pairs.len() > 1) else {
        out.why_not = Some("fewer than two pairs");
        return out;
    };
    let deviation = (pairs.iter().map(|(a, b)| (b - a - d).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    // Differences that are equal on paper differ in the last bits.
    let scale = pairs.iter().flat_map(|(a, b)| [a.abs(), b.abs()]).fold(0.0, f64::max);
    if deviation <= scale * f64::EPSILON {
        out.why_not = Some("all differences are the same");
        return out;
    }
    let (error, degrees) = (deviation / n.sqrt(), pairs.len() as u64 - 1);
    let (t, half) = (d / error, quantile(degrees) * error);
    let p = two_tailed(t, degrees);
    out.interval = Some([d - half, d + half]);
    (out.t, out.degrees, out.p) = (Some(t), Some(degrees), Some(p));
    (out.effect, out.significant) = (Some(d / deviation), Some(p < alpha));
    out
}

/// The probability of a t at least so far from 0, on either side.
pub fn two_tailed(t: f64, degrees: u64) -> f64 {
    let df = degrees as f64;
    beta_reg(df / 2.0, 0.5, df / (df + t * t))
}

/// The t that [`CONFIDENCE`] of all values lie within.
fn quantile(degrees: u64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while two_tailed(high, degrees) > 1.0 - CONFIDENCE {
        high *= 2.0;
    }
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if two_tailed(middle, degrees) > 1.0 - CONFIDENCE { low = middle } else { high = middle }
    }
    high
}

/// Holm's correction (Holm 1979): the smallest p times the number of tests, the next times one less, and none below the one before.
fn holm(tests: &mut [Test]) {
    let mut order: Vec<(usize, f64)> = tests.iter().enumerate().filter_map(|(at, t)| t.p.map(|p| (at, p))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (many, mut least) = (order.len(), 0.0_f64);
    for (rank, (at, p)) in order.into_iter().enumerate() {
        least = least.max((p * (many - rank) as f64).min(1.0));
        tests[at].p_holm = Some(least);
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} against {}, paired by `{}`: {} pairs", self.changed, self.baseline, self.key, self.pairs)?;
        for (file, alone) in [(&self.baseline, &self.only_baseline), (&self.changed, &self.only_changed)] {
            if !alone.is_empty() {
                writeln!(f, "only in {file}: {} ({}{})", alone.len(), alone[0], if alone.len() > 1 { ", ..." } else { "" })?;
            }
        }
        let cells = |t: &Test| {
            let interval = t.interval.map_or_else(|| "-".to_owned(), |[low, high]| format!("[{low:.4}, {high:.4}]"));
            vec![
                t.metric.clone(),
                t.pairs.to_string(),
                t.missing.to_string(),
                number(t.baseline, 4),
                number(t.changed, 4),
                number(t.difference, 4),
                interval,
                number(t.t, 3),
                t.p.map_or_else(|| "-".to_owned(), |p| format!("{p:.4e}")),
                t.p_holm.map_or_else(|| "-".to_owned(), |p| format!("{p:.4e}")),
                match (t.significant, t.why_not) {
                    (Some(true), _) => "yes".to_owned(),
                    (Some(false), _) => "no".to_owned(),
                    (None, why) => why.unwrap_or("-").to_owned(),
                },
            ]
        };
        let rows: Vec<Vec<String>> = self.tests.iter().map(cells).collect();
        let header =
            ["score", "pairs", "missing", "first", "second", "difference", "95 %", "t", "p", "p (Holm)", "p below level"];
        write!(f, "\n{}\nlevel {}, two-tailed\n", columns(&header, &rows), self.alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(a: &str, b: &str) -> Result<Comparison, Mistake> {
        let sheet = |name: &str, text: &str| Sheet::parse(name, text.as_bytes()).unwrap();
        compare(&sheet("a.csv", a), &sheet("b.csv", b), "prompt", &[], 0.05)
    }

    #[test]
    fn what_cannot_be_tested_says_why() {
        let same = run("prompt,x,y\n1,0.1,\n2,0.2,\n3,0.3,1\n", "prompt,x,y\n1,0.2,1\n2,0.3,2\n3,0.4,3\n4,9,9\n").unwrap();
        assert_eq!((same.pairs, same.only_changed.len(), same.only_baseline.len()), (3, 1, 0));
        let [x, y] = &same.tests[..] else { panic!("{:?}", same.tests) };
        assert_eq!((x.why_not, x.p, y.why_not), (Some("all differences are the same"), None, Some("fewer than two pairs")));
        assert_eq!((y.pairs, y.missing), (1, 2));
        insta::assert_snapshot!(same);
    }

    #[test]
    fn the_quantile_is_that_of_tables() {
        for (degrees, expected) in [(1, 12.706_204_736), (9, 2.262_157_163), (199, 1.971_956_544)] {
            assert!((quantile(degrees) - expected).abs() < 1e-8, "{degrees}: {}", quantile(degrees));
        }
    }

    #[test]
    fn mistakes_are_told() {
        let all = [
            run("prompt,x\n1,2\n", "prompt,y\n1,2\n"),
            run("prompt,x\n1,2\n", "prompt,x\n2,2\n"),
            run("prompt,x\n1,2\n1,3\n", "prompt,x\n2,2\n"),
            run("name,x\n1,2\n", "prompt,x\n2,2\n"),
            run("prompt,x\n1,high\n", "prompt,x\n1,2\n"),
        ];
        insta::assert_snapshot!(all.map(|r| r.unwrap_err().to_string()).join("\n"));
    }
}
