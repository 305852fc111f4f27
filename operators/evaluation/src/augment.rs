//! How good a classifier is with other training data: accuracy and macro averages of its predictions.
//!
//! A sheet has columns `truth` and `predicted`, maybe `count` (then it is a confusion matrix, a row per cell), maybe `dataset` and
//! `setting`. Averages are over the classes that occur, as truth or as prediction, each of the same weight; F1 is the mean of the classes'
//! F1 (not made of the mean precision and recall); a class that is never predicted has precision 0. So scikit-learn counts with
//! `average="macro", zero_division=0`. What can go wrong: a class that no test row has and nobody predicts is not in the sheet, so it
//! cannot lower the mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use crate::layout::{columns, number};
use crate::sheet::{Mistake, Sheet};
use crate::{ROUNDING, fits};

/// The numbers that are reported, in percent.
pub const MEASURES: [&str; 4] = ["accuracy", "precision", "recall", "f1"];

/// A class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Class {
    /// Its name.
    pub class: String,
    /// Rows of it.
    pub support: u64,
    /// Rows that were taken for it.
    pub predicted: u64,
    /// Rows of it that were taken for it.
    pub right: u64,
    /// Right of predicted, 0 without any.
    pub precision: f64,
    /// Right of support, 0 without any.
    pub recall: f64,
    /// Harmonic mean of the two, 0 where nothing is right.
    pub f1: f64,
}

/// One classifier on one dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// The dataset, `-` if the sheet has no such column.
    pub dataset: String,
    /// What it was trained on, `-` if the sheet has no such column.
    pub setting: String,
    /// Test rows.
    pub rows: u64,
    /// Accuracy, macro precision, macro recall and macro F1 in percent.
    pub percent: [f64; 4],
    /// What is printed, if it is known.
    pub printed: Option<[f64; 4]>,
    /// Which of the four are what is printed, up to rounding.
    pub fits: Option<[bool; 4]>,
    /// Each class.
    pub classes: Vec<Class>,
}

type Counts<'a> = BTreeMap<(&'a str, &'a str), u64>;

/// The scores of each dataset and setting of a sheet, in its order.
pub fn scores(sheet: &Sheet) -> Result<Vec<Scores>, Mistake> {
    let (truth, predicted) = (sheet.column("truth")?, sheet.column("predicted")?);
    let (count, dataset, setting) = (sheet.find("count"), sheet.find("dataset"), sheet.find("setting"));
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut all: BTreeMap<(&str, &str), Counts> = BTreeMap::new();
    let mut lines: BTreeMap<[&str; 4], u64> = BTreeMap::new();
    for row in &sheet.rows {
        let name = |column: Option<usize>| column.map_or(Ok("-"), |column| sheet.text(row, column));
        let key = (name(dataset)?, name(setting)?);
        let cell = (sheet.text(row, truth)?, sheet.text(row, predicted)?);
        let n = count.map_or(Ok(1), |column| sheet.count(row, column))?;
        if let Some(before) = lines.insert([key.0, key.1, cell.0, cell.1], row.line).filter(|_| count.is_some()) {
            return Err(
                sheet.at(row, format!("the cell `{}` taken for `{}` is counted before, in line {before}", cell.0, cell.1))
            );
        }
        if !order.contains(&key) {
            order.push(key);
        }
        *all.entry(key).or_default().entry(cell).or_default() += n;
    }
    let one = |key: (&str, &str)| {
        let counts = all.get(&key).cloned().unwrap_or_default();
        score(key, &counts).ok_or_else(|| sheet.mistake(None, format!("{} {} has no test rows: all counts are 0", key.0, key.1)))
    };
    order.into_iter().map(one).collect()
}

fn score((dataset, setting): (&str, &str), counts: &Counts) -> Option<Scores> {
    let rows: u64 = counts.values().sum();
    let names: BTreeSet<&str> = counts.iter().filter(|(_, n)| **n > 0).flat_map(|((t, p), _)| [*t, *p]).collect();
    let sum = |of: &dyn Fn(&str, &str) -> bool| counts.iter().filter(|((t, p), _)| of(t, p)).map(|(_, n)| n).sum::<u64>();
    let ratio = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
    let class = |name: &&str| {
        let (support, predicted) = (sum(&|t, _| t == *name), sum(&|_, p| p == *name));
        let right = sum(&|t, p| t == *name && p == *name);
        Class {
            class: (*name).to_owned(),
            support,
            predicted,
            right,
            precision: ratio(right, predicted),
            recall: ratio(right, support),
            f1: ratio(2 * right, support + predicted),
        }
    };
    let classes: Vec<Class> = names.iter().map(class).collect();
    let mean = |of: &dyn Fn(&Class) -> f64| 100.0 * classes.iter().map(of).sum::<f64>() / classes.len() as f64;
    let accuracy = 100.0 * ratio(classes.iter().map(|c| c.right).sum(), rows);
    let percent = [accuracy, mean(&|c| c.precision), mean(&|c| c.recall), mean(&|c| c.f1)];
    let (dataset, setting) = (dataset.to_owned(), setting.to_owned());
    (rows > 0).then_some(Scores { dataset, setting, rows, percent, printed: None, fits: None, classes })
}

/// Holds scores against printed ones: columns `dataset`, `setting` and the four measures. Printed rows that were not computed are left alone.
pub fn against(scores: &mut [Scores], sheet: &Sheet) -> Result<(), Mistake> {
    let (dataset, setting) = (sheet.column("dataset")?, sheet.column("setting")?);
    let places = MEASURES.map(|m| sheet.column(m));
    let mut measures = Vec::new();
    for place in places {
        measures.push(place?);
    }
    for row in &sheet.rows {
        let (dataset, setting) = (sheet.text(row, dataset)?, sheet.text(row, setting)?);
        let mut printed = [0.0; 4];
        for (value, &column) in printed.iter_mut().zip(&measures) {
            *value = sheet.number(row, column)?;
        }
        for found in scores.iter_mut().filter(|s| s.dataset == dataset && s.setting == setting) {
            found.printed = Some(printed);
            found.fits = Some(std::array::from_fn(|at| fits(found.percent[at], printed[at], ROUNDING)));
        }
    }
    Ok(())
}

/// Scores as text.
pub struct Text<'a>(pub &'a [Scores]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |s: &Scores| {
            let shown = |at: usize| {
                let printed = s.printed.zip(s.fits).map(|(p, fits)| (p[at], fits[at]));
                let mark = match printed {
                    Some((_, true)) => " =".to_owned(),
                    Some((printed, false)) => format!(" not {printed:.2}"),
                    None => String::new(),
                };
                number(Some(s.percent[at]), 2) + &mark
            };
            let name = vec![format!("{}, {}", s.dataset, s.setting), s.rows.to_string(), s.classes.len().to_string()];
            name.into_iter().chain((0..4).map(shown)).collect::<Vec<_>>()
        };
        let rows: Vec<Vec<String>> = self.0.iter().map(cells).collect();
        let header = ["dataset, setting", "rows", "classes", "accuracy %", "macro precision %", "macro recall %", "macro F1 %"];
        f.write_str(&columns(&header, &rows))?;
        if self.0.iter().any(|s| s.printed.is_some()) {
            f.write_str("\n=: as printed\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Scores>, Mistake> {
        scores(&Sheet::parse("p.csv", text.as_bytes()).unwrap())
    }

    #[test]
    fn predictions_and_their_matrix_give_the_same() {
        let rows = read("truth,predicted\na,a\na,b\nb,b\nc,b\n").unwrap();
        let cells = read("truth,predicted,count\na,a,1\na,b,1\nb,b,1\nc,b,1\nc,c,0\n").unwrap();
        assert_eq!(rows, cells);
        // Classes a, b, c: precision 1, 1/3, 0; recall 1/2, 1, 0; F1 2/3, 1/2, 0.
        let expected = [50.0, 400.0 / 9.0, 50.0, 700.0 / 18.0];
        assert!(rows[0].percent.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{:?}", rows[0].percent);
    }

    #[test]
    fn mistakes_are_told() {
        let mut scores = read("dataset,setting,truth,predicted\nd,s,a,a\n").unwrap();
        let printed = |text: &str| Sheet::parse("t.csv", text.as_bytes()).unwrap();
        let all = [
            read("truth,count\na,1\n").unwrap_err(),
            read("truth,predicted,count\na,b,1\na,b,2\n").unwrap_err(),
            read("truth,predicted,count\na,b,x\n").unwrap_err(),
            read("truth,predicted,count\na,b,0\n").unwrap_err(),
            against(&mut scores, &printed("dataset,setting,accuracy\nd,s,100\n")).unwrap_err(),
        ];
        insta::assert_snapshot!(all.map(|m| m.to_string()).join("\n"));
    }
}
