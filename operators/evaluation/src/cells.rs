//! Printed differences against those of the printed cells: columns `what`, `baseline`, `changed`, maybe `printed` and `table`.
//!
//! What can go wrong: nothing but cells; a difference that its cells do not give is told, not corrected.

use std::fmt;

use serde::Serialize;

use crate::layout::{columns, number};
use crate::sheet::{Mistake, Sheet};
use crate::{ROUNDING, fits};

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which table, if the sheet says it.
    pub table: Option<String>,
    /// Of what.
    pub what: String,
    /// Before.
    pub baseline: f64,
    /// After.
    pub changed: f64,
    /// After minus before.
    pub computed: f64,
    /// What is printed.
    pub printed: Option<f64>,
    /// Whether it is the same, up to rounding.
    pub fits: Option<bool>,
}

/// All differences of a sheet.
pub fn differences(sheet: &Sheet) -> Result<Vec<Difference>, Mistake> {
    let (what, baseline, changed) = (sheet.column("what")?, sheet.column("baseline")?, sheet.column("changed")?);
    let (printed, table) = (sheet.find("printed"), sheet.find("table"));
    let one = |row: &crate::sheet::Row| {
        let (before, after) = (sheet.number(row, baseline)?, sheet.number(row, changed)?);
        let printed = printed.map(|c| sheet.maybe_number(row, c)).transpose()?.flatten();
        Ok(Difference {
            table: table.map(|c| sheet.text(row, c)).transpose()?.map(str::to_owned),
            what: sheet.text(row, what)?.to_owned(),
            baseline: before,
            changed: after,
            computed: after - before,
            printed,
            // Both cells are rounded themselves, so their difference is exact only in what is printed.
            fits: printed.map(|p| fits(after - before, p, ROUNDING)),
        })
    };
    sheet.rows.iter().map(one).collect()
}

/// Differences as text.
pub struct Text<'a>(pub &'a [Difference]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |d: &Difference| {
            let name = d.table.as_ref().map_or_else(|| d.what.clone(), |t| format!("table {t}, {}", d.what));
            let verdict = d.fits.map_or("-", |fits| if fits { "yes" } else { "NO" });
            let numbers = [Some(d.baseline), Some(d.changed), Some(d.computed), d.printed].map(|v| number(v, 2));
            [vec![name], numbers.to_vec(), vec![verdict.to_owned()]].concat()
        };
        let rows: Vec<Vec<String>> = self.0.iter().map(cells).collect();
        f.write_str(&columns(&["what", "first", "second", "difference", "printed", "fits"], &rows))?;
        let printed = self.0.iter().filter(|d| d.printed.is_some()).count();
        let fitting = self.0.iter().filter(|d| d.fits == Some(true)).count();
        writeln!(f, "\n{fitting} of {printed} printed differences are those of their cells")
    }
}
