//! How good generated videos are, from scores and ratings that others made: what a paper prints is computed again from its own cells.
//!
//! Why a crate of its own: it needs numbers and text only, no video, no model and no table of ours. Everything is a pure function from sheets to
//! results that print as text and as JSON.
//!
//! | file | does |
//! |---|---|
//! | `sheet` | CSV files, with the place of every mistake |
//! | `total` | one number out of several scores, held against the printed one |
//! | `ratings` | who gave which item which label |
//! | `kappa` | Cohen's kappa of every pair of raters, and the share of items that the majority accepts |
//! | `pairwise` | votes of several raters about pairs of videos become win rates |
//! | `augment` | accuracy and macro averages of predictions or confusion matrices |
//! | `compare` | paired t-tests of scores of the same prompts |
//! | `cells` | printed differences against those of the printed cells |
//! | `interval` | shares with Wilson's interval |
//! | `layout` | columns of text |
//!
//! What can go wrong: files. A wrong cell is an error with file and line; a number that does not exist (a kappa of raters that never
//! differ) is absent, never 0.

pub mod augment;
pub mod cells;
pub mod compare;
pub mod interval;
pub mod kappa;
mod layout;
pub mod pairwise;
pub mod ratings;
pub mod sheet;
pub mod total;

pub use sheet::{Mistake, Sheet};

/// Printed numbers have two decimals, so what they were rounded from is at most this far away.
pub const ROUNDING: f64 = 0.005;
/// What sums of decimal fractions may be off in binary.
const BINARY_SLACK: f64 = 1e-9;

/// Whether a computed number is what was printed, up to rounding.
pub fn fits(computed: f64, printed: f64, tolerance: f64) -> bool {
    (computed - printed).abs() <= tolerance + BINARY_SLACK
}
