//! One number out of several scores.
//!
//! The totals of the MedGen paper are (sum of the scores + scale x (1 - warping error / 100)) / 6, although five terms are added: one
//! dimension was left out of the sum but not of the divisor. So terms and divisor are settings. What can go wrong: a printed total that its
//! own cells do not give; it is told, with the cell that would explain it.

use std::fmt;

use serde::Serialize;

use crate::layout::{columns, number};
use crate::sheet::{Mistake, Sheet};
use crate::{ROUNDING, fits};

/// How a total is made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Formula {
    /// Its name.
    pub name: String,
    /// Columns that are added.
    pub terms: Vec<String>,
    /// A share of bad videos that is turned round, scaled and added.
    pub error: Option<ErrorTerm>,
    /// What the sum is divided by.
    pub divisor: f64,
}

/// `scale x (1 - error / 100)`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorTerm {
    /// The column, in percent.
    pub column: String,
    /// What no error at all is worth: the top of the scale of the terms.
    pub scale: f64,
}

impl Formula {
    /// Med-VBench: the paper's tables 2, 4 and 10.
    pub fn med_vbench() -> Formula {
        let terms = ["imaging_quality", "subject_consistency", "background_consistency", "motion_smoothness"];
        Formula::published("med-vbench", &terms, 100.0)
    }

    /// VideoScore: the paper's table 8.
    pub fn videoscore() -> Formula {
        let terms = ["visual_quality", "temporal_consistency", "text_to_video_alignment", "factual_consistency"];
        Formula::published("videoscore", &terms, 4.0)
    }

    fn published(name: &str, terms: &[&str], scale: f64) -> Formula {
        let error = Some(ErrorTerm { column: "warping_error".into(), scale });
        Formula { name: name.into(), terms: terms.iter().map(|t| (*t).to_owned()).collect(), error, divisor: 6.0 }
    }

    /// The published formula whose columns a sheet has.
    pub fn of(sheet: &Sheet) -> Result<Formula, Mistake> {
        let known = [Formula::med_vbench(), Formula::videoscore()];
        let found = known.iter().find(|formula| formula.columns().all(|c| sheet.find(c).is_some()));
        found.cloned().ok_or_else(|| {
            let needs: Vec<String> =
                known.iter().map(|f| format!("{} needs {}", f.name, f.columns().collect::<Vec<_>>().join(", "))).collect();
            let what =
                format!("has the columns {}; {}. Or say what is added with --terms", sheet.columns.join(", "), needs.join("; "));
            sheet.mistake(None, what)
        })
    }

    /// The columns that it reads.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(String::as_str).chain(self.error.as_ref().map(|e| e.column.as_str()))
    }

    fn total(&self, terms: &[f64], error: Option<f64>) -> f64 {
        let turned = self.error.as_ref().zip(error).map_or(0.0, |(term, percent)| term.scale * (1.0 - percent / 100.0));
        (terms.iter().sum::<f64>() + turned) / self.divisor
    }
}

/// The total of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The model.
    pub model: String,
    /// From the scores.
    pub computed: f64,
    /// From the column `total`, if there is one.
    pub printed: Option<f64>,
    /// `computed - printed`.
    pub residual: Option<f64>,
    /// Whether the two are the same up to rounding.
    pub fits: Option<bool>,
    /// Where they are not: what any one of the cells would have to be instead.
    pub would_fit: Vec<WouldFit>,
}

/// A cell that would explain a printed total.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WouldFit {
    /// The column.
    pub column: String,
    /// What it says.
    pub printed: f64,
    /// What would give the total.
    pub needed: f64,
}

/// The totals of a sheet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// The file.
    pub file: String,
    /// How they are made.
    pub formula: Formula,
    /// Largest difference that is rounding.
    pub tolerance: f64,
    /// The models.
    pub rows: Vec<Row>,
    /// How many have a printed total.
    pub printed: usize,
    /// How many of these fit.
    pub fitting: usize,
}

/// The totals of a sheet with a column `model`, the columns of the formula, and maybe `total`.
pub fn totals(sheet: &Sheet, formula: &Formula, tolerance: f64) -> Result<Totals, Mistake> {
    let model = sheet.column("model")?;
    let terms = formula.terms.iter().map(|t| sheet.column(t)).collect::<Result<Vec<_>, _>>()?;
    let error = formula.error.as_ref().map(|e| sheet.column(&e.column)).transpose()?;
    let total = sheet.find("total");
    let mut rows = Vec::new();
    for row in &sheet.rows {
        let values = terms.iter().map(|&c| sheet.number(row, c)).collect::<Result<Vec<_>, _>>()?;
        let percent = error.map(|c| sheet.number(row, c)).transpose()?;
        if let Some(percent) = percent.filter(|p| !(0.0..=100.0).contains(p)) {
            let column = formula.error.as_ref().map_or("", |e| e.column.as_str());
            return Err(sheet.at(row, format!("column `{column}` says {percent}; it is a percentage, from 0 to 100")));
        }
        let computed = formula.total(&values, percent);
        let printed = total.map(|c| sheet.maybe_number(row, c)).transpose()?.flatten();
        let fit = printed.map(|p| fits(computed, p, tolerance));
        let would_fit = match printed {
            Some(printed) if fit == Some(false) => explain(formula, &values, percent, printed - computed),
            _ => Vec::new(),
        };
        let model = sheet.text(row, model)?.to_owned();
        rows.push(Row { model, computed, printed, residual: printed.map(|p| computed - p), fits: fit, would_fit });
    }
    let printed = rows.iter().filter(|r| r.printed.is_some()).count();
    let fitting = rows.iter().filter(|r| r.fits == Some(true)).count();
    Ok(Totals { file: sheet.file.clone(), formula: formula.clone(), tolerance, rows, printed, fitting })
}

/// Each cell alone, moved by what the total is short of.
fn explain(formula: &Formula, terms: &[f64], percent: Option<f64>, missing: f64) -> Vec<WouldFit> {
    let by = missing * formula.divisor;
    let term = |(name, value): (&String, &f64)| WouldFit { column: name.clone(), printed: *value, needed: value + by };
    let mut out: Vec<WouldFit> = formula.terms.iter().zip(terms).map(term).collect();
    if let Some((error, percent)) = formula.error.as_ref().zip(percent).filter(|(e, _)| e.scale != 0.0) {
        out.push(WouldFit { column: error.column.clone(), printed: percent, needed: percent - by * 100.0 / error.scale });
    }
    out
}

impl Totals {
    /// Models whose printed total is not what their cells give.
    pub fn misfits(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.fits == Some(false))
    }
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}", self.terms.join(" + "))?;
        if let Some(error) = &self.error {
            write!(f, " + {} x (1 - {} / 100)", error.scale, error.column)?;
        }
        write!(f, ") / {}", self.divisor)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: total = {}\n", self.file, self.formula)?;
        let cells = |r: &Row| {
            let verdict = match r.fits {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            };
            vec![r.model.clone(), number(Some(r.computed), 4), number(r.printed, 2), number(r.residual, 4), verdict.to_owned()]
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        f.write_str(&columns(&["model", "computed", "printed", "residual", "fits"], &rows))?;
        if self.printed > 0 {
            writeln!(f, "\n{} of {} printed totals are within {} of their cells", self.fitting, self.printed, self.tolerance)?;
        }
        for row in self.misfits() {
            let cells: Vec<String> =
                row.would_fit.iter().map(|w| format!("{} {:.2} instead of {:.2}", w.column, w.needed, w.printed)).collect();
            writeln!(f, "{} does not fit; one of these cells would explain it: {}", row.model, cells.join(", or "))?;
        }
        Ok(())
    }
}

/// The default tolerance: what rounding to two decimals can do.
pub const TOLERANCE: f64 = ROUNDING;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_found_by_its_columns_and_mistakes_are_told() {
        let parse = |text: &str| Sheet::parse("t.csv", text.as_bytes()).unwrap();
        let head = "model,imaging_quality,subject_consistency,background_consistency,motion_smoothness,warping_error";
        assert_eq!(Formula::of(&parse(&format!("{head}\nx,1,2,3,4,5"))).unwrap(), Formula::med_vbench());
        let of = |rows: &str| totals(&parse(&format!("{head}\n{rows}")), &Formula::med_vbench(), TOLERANCE);
        let mine = Formula { name: "mine".into(), terms: vec!["a".into()], error: None, divisor: 2.0 };
        let no_model = totals(&parse("a,b\n1,2"), &mine, TOLERANCE).unwrap_err();
        let all = [
            Formula::of(&parse("model,x\na,1")).unwrap_err(),
            of("x,1,2,3,4,500").unwrap_err(),
            of("x,1,2,n/a,4,5").unwrap_err(),
            of("x,1,2,3,4,5\n,1,2,3,4,5").unwrap_err(),
            no_model,
        ];
        insta::assert_snapshot!(all.map(|m| m.to_string()).join("\n"));
        assert_eq!(totals(&parse("model,a\nx,3"), &mine, TOLERANCE).unwrap().rows[0].computed, 1.5);
    }
}
