//! The tables of the MedGen paper from their own printed cells in `datasets/paper`.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use curette_evaluation::total::{Formula, TOLERANCE, Totals, totals};
use curette_evaluation::{Sheet, augment, cells, pairwise};

fn sheet(name: &str) -> Sheet {
    Sheet::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/paper").join(name)).unwrap()
}

fn of(name: &str) -> Totals {
    let sheet = sheet(name);
    totals(&sheet, &Formula::of(&sheet).unwrap(), TOLERANCE).unwrap()
}

#[test]
fn all_totals_of_med_vbench_follow_from_their_cells() {
    let (table2, table4) = (of("table2.csv"), of("table4.csv"));
    assert_eq!((table2.formula.clone(), table2.rows.len(), table2.fitting), (Formula::med_vbench(), 20, 20));
    assert_eq!((table4.rows.len(), table4.fitting), (2, 2));
    // The model that table 4 begins with is in table 2, so the two tables hold 21 models.
    let mochi = table2.rows.iter().find(|r| r.model == "Mochi-1-preview").unwrap();
    assert_eq!((mochi.computed, mochi.printed), (table4.rows[0].computed, table4.rows[0].printed));
    // Another divisor or one term less fits nowhere; but for the two models with a warping error of 100 %, whose term is 0 anyway.
    let sheet = sheet("table2.csv");
    let others = [
        Formula { divisor: 5.0, ..Formula::med_vbench() },
        Formula { error: None, ..Formula::med_vbench() },
        Formula { terms: Formula::med_vbench().terms[..3].to_vec(), ..Formula::med_vbench() },
    ];
    let fitting: Vec<usize> = others.iter().map(|formula| totals(&sheet, formula, TOLERANCE).unwrap().fitting).collect();
    assert_eq!(fitting, [0, 2, 0], "of 20 rows");
}

#[test]
fn two_totals_of_videoscore_do_not_follow_from_their_cells() {
    let found = of("table8.csv");
    assert_eq!((found.formula.clone(), found.printed, found.fitting), (Formula::videoscore(), 20, 18));
    let misfits: Vec<(&str, f64)> = found.misfits().map(|r| (r.model.as_str(), (r.residual.unwrap() * 1e3).round())).collect();
    assert_eq!(misfits, [("Wan2.1-T2V-14B", -22.0), ("Kling (v1.6)", 87.0)]);
    let kling = found.misfits().nth(1).unwrap();
    let needed = kling.would_fit.iter().find(|w| w.column == "factual_consistency").unwrap();
    assert_eq!((needed.printed, (needed.needed * 100.0).round()), (3.86, 334.0));
    // What is said to explain a total does.
    let formula = Formula::videoscore();
    for misfit in found.misfits() {
        for cell in &misfit.would_fit {
            let mut sheet = sheet("table8.csv");
            let column = sheet.column(&cell.column).unwrap();
            let row = sheet.rows.iter_mut().find(|r| r.cells[1] == misfit.model).unwrap();
            row.cells[column] = format!("{:?}", cell.needed);
            // Outside of the percentages nothing can be tried.
            if let Ok(again) = totals(&sheet, &formula, 1e-9) {
                let again = again.rows.into_iter().find(|r| r.model == misfit.model).unwrap();
                assert_eq!(again.fits, Some(true), "{} {}", misfit.model, cell.column);
            }
        }
    }
    insta::assert_snapshot!(found.to_string().lines().skip(1).collect::<Vec<_>>().join("\n"));
}

#[test]
fn macro_scores_follow_from_confusion_matrices() {
    let mut found = augment::scores(&sheet("table3_confusion.csv")).unwrap();
    augment::against(&mut found, &sheet("table3.csv")).unwrap();
    assert_eq!(found.len(), 6);
    assert!(found.iter().all(|s| s.fits == Some([true; 4])), "{}", augment::Text(&found));
    let supports = |s: &augment::Scores| s.classes.iter().map(|c| c.support).collect::<Vec<_>>();
    // One test set for the three settings of a dataset.
    assert!(found[..3].iter().all(|s| (s.rows, supports(s)) == (9, vec![4, 2, 2, 1])));
    assert!(found[3..].iter().all(|s| (s.rows, supports(s)) == (7, vec![3, 2, 2])));
    insta::assert_snapshot!(augment::Text(&found));
}

#[test]
fn differences_follow_from_their_cells() {
    let found = cells::differences(&sheet("differences.csv")).unwrap();
    assert_eq!(found.len(), 29);
    assert!(found.iter().all(|d| d.fits == Some(true)), "{}", cells::Text(&found));
    // The cells of a difference are those of its table.
    let table4 = of("table4.csv");
    let totals = found.iter().find(|d| d.table.as_deref() == Some("4")).unwrap();
    assert_eq!((Some(totals.baseline), Some(totals.changed)), (table4.rows[0].printed, table4.rows[1].printed));
}

#[test]
fn votes_of_doctors_sum_up_to_the_prompts() {
    let found = pairwise::outcomes(&sheet("figure6.csv")).unwrap();
    assert_eq!(found.outcomes.len(), 18);
    for outcome in &found.outcomes {
        let prompts = if outcome.opponent == "all" { 1000 } else { 200 };
        assert_eq!(outcome.win + outcome.both_loss + outcome.loss, prompts, "{outcome:?}");
    }
    let mut lines = found.to_string();
    lines.drain(..lines.find('\n').unwrap() + 1);
    insta::assert_snapshot!(lines);
}

#[test]
fn warping_errors_are_shares_of_whole_videos() {
    // 200 prompts were asked for; of some models fewer videos, or more, were rated.
    let sheet = sheet("table2.csv");
    let (model, error) = (sheet.column("model").unwrap(), sheet.column("warping_error").unwrap());
    let whole = |percent: f64, of: u32| (0..=of).any(|k| (100.0 * f64::from(k) / f64::from(of) - percent).abs() <= 0.005 + 1e-9);
    let odd: Vec<&str> = sheet
        .rows
        .iter()
        .filter(|row| !whole(sheet.number(row, error).unwrap(), 200))
        .map(|row| row.cells[model].as_str())
        .collect();
    assert_eq!(odd, ["OpenSoraPlan (v1.3)", "Pika (v2.0)", "Hailuo (video-01)", "Kling (v1.6)", "Sora"]);
    for (percent, of) in [(93.03, 201), (42.29, 201), (42.27, 194), (26.70, 191), (28.40, 162)] {
        assert!(whole(percent, of), "{percent} of {of}");
    }
}
