//! The verbs `eval ...`: totals, agreement of raters, votes, augmentation scores and paired tests, from CSV files.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curette_engine::exit::Exit;
use curette_evaluation::total::{ErrorTerm, Formula};
use curette_evaluation::{Mistake, Sheet, augment, cells, compare, kappa, pairwise, ratings, total};
use serde_json::{Value, json};

use crate::{Format, complain, print};

#[derive(Args)]
pub(crate) struct EvalArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Add scores up to totals (Med-VBench, VideoScore, or terms of your own), and hold them against printed ones.
    Total(TotalArgs),
    /// Cohen's kappa of every pair of raters, and what the majority of three accepts.
    Kappa(KappaArgs),
    /// Win rates from pairwise votes of several raters, or from counts.
    Pairwise(PairwiseArgs),
    /// Accuracy and macro precision, recall and F1 of predictions or confusion matrices.
    Augment(AugmentArgs),
    /// Paired t-tests of two models on the same prompts, or printed differences (--cells).
    Compare(CompareArgs),
}

#[derive(Args)]
struct Output {
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit 1 if a printed number is not what is computed.
    #[arg(long)]
    strict: bool,
}

#[derive(Args)]
struct TotalArgs {
    /// CSV files with a column `model`, a column per score, and `total` if one is printed.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Which published formula (default: the one whose columns a file has).
    #[arg(long, value_enum, conflicts_with = "terms")]
    formula: Option<Published>,
    /// Columns that are added, in the place of a published formula.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    terms: Vec<String>,
    /// Column with a percentage of bad videos: `scale x (1 - percent / 100)` is added.
    #[arg(long, value_name = "COLUMN", requires = "terms")]
    error_column: Option<String>,
    /// What no error at all is worth.
    #[arg(long, value_name = "NUMBER", requires = "error_column", default_value_t = 100.0)]
    error_scale: f64,
    /// What the sum is divided by (default: the number of terms).
    #[arg(long, value_name = "NUMBER", requires = "terms")]
    divisor: Option<f64>,
    /// Largest difference to a printed total that counts as rounding.
    #[arg(long, value_name = "NUMBER", default_value_t = total::TOLERANCE)]
    tolerance: f64,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::ValueEnum, Clone, Copy)]
enum Published {
    MedVbench,
    Videoscore,
}

#[derive(Args)]
struct KappaArgs {
    /// CSV file: `item`, `rater`, `label`, or `item` and a column per rater (--raters).
    file: PathBuf,
    /// Columns of the raters, where each has one.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    raters: Vec<String>,
    /// All labels from one end of the scale to the other, which linear and quadratic weights need; numbers need none.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    levels: Vec<String>,
    /// Labels that are acceptable: for the binary kappa and the majority rule.
    #[arg(long, value_name = "LABELS", value_delimiter = ',')]
    acceptable: Vec<String>,
    /// A column that groups the items, such as a dimension: each group is counted by itself.
    #[arg(long, value_name = "COLUMN", conflicts_with = "printed")]
    by: Option<String>,
    /// Printed kappas to hold against: `rater_a`, `rater_b`, `kappa`.
    #[arg(long, value_name = "FILE")]
    printed: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct PairwiseArgs {
    /// CSV file: `prompt`, `rater`, `vote` (win, both_loss, loss), or counts `win`, `both_loss`, `loss`; maybe `dimension` and `opponent`.
    file: PathBuf,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
struct AugmentArgs {
    /// CSV file: `truth`, `predicted`, maybe `count`, `dataset`, `setting`.
    file: PathBuf,
    /// Printed scores to hold against: `dataset`, `setting`, `accuracy`, `precision`, `recall`, `f1` in percent.
    #[arg(long, value_name = "FILE")]
    printed: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct CompareArgs {
    /// CSV file with the scores of the first model, a row per prompt.
    #[arg(required_unless_present = "cells")]
    baseline: Option<PathBuf>,
    /// The same of the second model.
    #[arg(required_unless_present = "cells")]
    changed: Option<PathBuf>,
    /// The column that says which rows belong together.
    #[arg(long, default_value = "prompt")]
    key: String,
    /// The columns to compare (default: all that both files have).
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Level of significance.
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Printed cells (`what`, `baseline`, `changed`, `printed`) in the place of scores: their differences are computed again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["baseline", "changed", "metrics"])]
    cells: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// What is found: as text, as JSON, and whether everything that is printed fits.
struct Found {
    text: String,
    json: Value,
    fits: bool,
}

pub(crate) fn eval(args: &EvalArgs) -> Exit {
    let (found, format, strict) = match &args.what {
        What::Total(args) => (totals(args), args.output.format, args.output.strict),
        What::Kappa(args) => (agreement(args), args.output.format, args.output.strict),
        What::Pairwise(args) => (votes(args), args.format, false),
        What::Augment(args) => (macros(args), args.output.format, args.output.strict),
        What::Compare(args) => (comparison(args), args.output.format, args.output.strict),
    };
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            complain(&why);
            return Exit::Mistake;
        }
    };
    let printed = match format {
        Format::Text => print(found.text.trim_end()),
        Format::Json => print(&serde_json::to_string_pretty(&found.json).unwrap_or_default()),
    };
    match printed {
        Exit::Done if strict && !found.fits => Exit::Failed,
        other => other,
    }
}

fn text(mistake: &Mistake) -> String {
    mistake.to_string()
}

fn read(path: &Path) -> Result<Sheet, String> {
    Sheet::read(path).map_err(|e| text(&e))
}

fn totals(args: &TotalArgs) -> Result<Found, String> {
    if !args.tolerance.is_finite() || args.tolerance < 0.0 || !args.error_scale.is_finite() {
        return Err("--tolerance and --error-scale are finite numbers, and --tolerance is at least 0".into());
    }
    let own = (!args.terms.is_empty()).then(|| own_formula(args)).transpose()?;
    let mut all = Vec::new();
    for file in &args.files {
        let sheet = read(file)?;
        let formula = match (&own, args.formula) {
            (Some(own), _) => own.clone(),
            (None, Some(Published::MedVbench)) => Formula::med_vbench(),
            (None, Some(Published::Videoscore)) => Formula::videoscore(),
            (None, None) => Formula::of(&sheet).map_err(|e| text(&e))?,
        };
        all.push(total::totals(&sheet, &formula, args.tolerance).map_err(|e| text(&e))?);
    }
    let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
    let fits = all.iter().all(|t| t.misfits().next().is_none());
    Ok(Found { text: shown.join("\n"), json: json!(all), fits })
}

fn own_formula(args: &TotalArgs) -> Result<Formula, String> {
    let error = args.error_column.clone().map(|column| ErrorTerm { column, scale: args.error_scale });
    let divisor = args.divisor.unwrap_or((args.terms.len() + usize::from(error.is_some())) as f64);
    if !divisor.is_finite() || divisor == 0.0 {
        return Err("--divisor is a finite number other than 0".into());
    }
    Ok(Formula { name: "own".into(), terms: args.terms.clone(), error, divisor })
}

fn agreement(args: &KappaArgs) -> Result<Found, String> {
    let how = ratings::How { raters: args.raters.clone(), levels: args.levels.clone(), by: args.by.clone() };
    let sheet = read(&args.file)?;
    let groups = ratings::ratings(&sheet, &how).map_err(|e| text(&e))?;
    let groups = groups.iter().map(|group| kappa::agreement(group, &args.acceptable)).collect::<Result<Vec<_>, _>>();
    let groups = groups.map_err(|e| format!("{}: {e}", args.file.display()))?;
    let mut shown: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let mut found = json!({ "groups": groups });
    let mut fits = true;
    if let (Some(printed), Some(agreement)) = (&args.printed, groups.first()) {
        let printed = kappa::against(agreement, &read(printed)?).map_err(|e| text(&e))?;
        fits = printed.iter().all(|p| p.computed.values().any(|(_, fits)| *fits));
        shown.push(printed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        found["printed"] = json!(printed);
    }
    Ok(Found { text: shown.join("\n"), json: found, fits })
}

fn votes(args: &PairwiseArgs) -> Result<Found, String> {
    let found = pairwise::outcomes(&read(&args.file)?).map_err(|e| text(&e))?;
    Ok(Found { text: found.to_string(), json: json!(found), fits: true })
}

fn macros(args: &AugmentArgs) -> Result<Found, String> {
    let mut found = augment::scores(&read(&args.file)?).map_err(|e| text(&e))?;
    if let Some(printed) = &args.printed {
        augment::against(&mut found, &read(printed)?).map_err(|e| text(&e))?;
    }
    let fits = found.iter().filter_map(|s| s.fits).all(|fits| fits.iter().all(|fits| *fits));
    Ok(Found { text: augment::Text(&found).to_string(), json: json!(found), fits })
}

fn comparison(args: &CompareArgs) -> Result<Found, String> {
    if !(args.alpha > 0.0 && args.alpha < 1.0) {
        return Err("--alpha is between 0 and 1".into());
    }
    if let Some(cells) = &args.cells {
        let found = cells::differences(&read(cells)?).map_err(|e| text(&e))?;
        let fits = found.iter().all(|d| d.fits != Some(false));
        return Ok(Found { text: cells::Text(&found).to_string(), json: json!(found), fits });
    }
    let (Some(baseline), Some(changed)) = (&args.baseline, &args.changed) else {
        return Err("two files of scores are needed, or --cells".into());
    };
    let found = compare::compare(&read(baseline)?, &read(changed)?, &args.key, &args.metrics, args.alpha);
    let found = found.map_err(|e| text(&e))?;
    Ok(Found { text: found.to_string(), json: json!(found), fits: true })
}
