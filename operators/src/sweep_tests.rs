use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn table(dir: &tempfile::TempDir, rows: &[(Option<f64>, Option<f64>)]) -> PathBuf {
    let file = dir.path().join("scores.jsonl");
    let lines: Vec<String> = rows.iter().map(|(a, b)| serde_json::json!({"a": a, "b": b}).to_string()).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    file
}

fn ask(rows: &[(Option<f64>, Option<f64>)], question: &Question) -> Result<Sweep, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = table(&dir, rows);
    sweep(&file, question).map_err(|e| e.replace(&file.display().to_string(), "FILE"))
}

fn question(columns: &[&str], keep: &[&str], share: Option<f64>) -> Question {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Question { columns: own(columns), keep: own(keep), share, ..Question::default() }
}

#[test]
fn what_is_not_measured_is_in_no_share() {
    let rows = [(Some(1.5), Some(0.5)), (Some(2.5), None), (None, Some(0.5)), (Some(3.5), Some(0.25)), (Some(4.5), Some(0.75))];
    let mut asked = question(&["a"], &["a >= 2.0", "b >= 0.5"], Some(0.25));
    asked.at = vec![2.5, 9.0];
    let found = ask(&rows, &asked).unwrap();
    let joint = found.joint.clone().unwrap();
    assert_eq!((found.rows, found.columns[0].measured, found.columns[0].unmeasured), (5, 4, 1));
    assert_eq!((joint.kept, joint.dropped, joint.unmeasured), (1, 2, 2));
    assert_eq!(found.columns[0].target.as_ref().unwrap().found.unwrap().threshold, 4.5);
    insta::assert_snapshot!(found);
    asked.share = Some(0.5);
    assert!(ask(&rows, &asked).unwrap().to_string().contains("no threshold does, since the conditions alone keep 25.00 %"));
}

#[test]
fn a_division_by_zero_is_one_rows_problem() {
    let rows = [(Some(1.0), Some(0.0)), (Some(4.0), Some(2.0)), (Some(1.0), Some(2.0))];
    let found = ask(&rows, &question(&[], &["cast(a as int) / cast(b as int) >= 1"], None)).unwrap().joint.unwrap();
    assert_eq!((found.kept, found.dropped, found.unmeasured), (1, 1, 1));
}

#[test]
fn text_tables_and_single_precision_are_read_as_they_are_meant() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.csv");
    std::fs::write(&file, "id,s\na,0.9\nb,\nc, 0.5 \n").unwrap();
    let mut asked = question(&["s"], &[], None);
    asked.at = vec![0.9];
    let found = sweep(&file, &asked).unwrap();
    assert_eq!((found.columns[0].measured, found.columns[0].unmeasured, found.columns[0].thresholds[0].kept), (2, 1, 1));
    std::fs::write(&file, "id,s\na,high\n").unwrap();
    assert!(sweep(&file, &asked).unwrap_err().contains("says `high`, which is not a number"));
    // A stored 0.9 is 0.89999998 in Float32, and yet `>= 0.9` keeps it.
    let scores = arrow::array::Float32Array::from(vec![0.9, 0.89]);
    let column: arrow::array::ArrayRef = std::sync::Arc::new(scores);
    let batch = RecordBatch::try_from_iter([("s", column)]).unwrap();
    let file = dir.path().join("t.parquet");
    let mut writer = parquet::arrow::ArrowWriter::try_new(std::fs::File::create(&file).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let found = sweep(&file, &asked).unwrap();
    assert_eq!(found.columns[0].thresholds[0].kept, 1);
    assert!(found.to_string().contains(">= 0.9 "), "{found}");
}

#[test]
fn mistakes_are_told() {
    let rows = [(Some(1.5), Some(0.5))];
    let at = |number: f64| Question { at: vec![number], ..question(&["a"], &[], None) };
    let all = [
        ask(&rows, &question(&[], &[], None)),
        ask(&rows, &question(&["c"], &[], None)),
        ask(&rows, &question(&["a"], &["c > 1"], None)),
        ask(&rows, &question(&["a"], &["a >"], None)),
        ask(&rows, &question(&["a"], &[], Some(0.0))),
        ask(&rows, &at(f64::NAN)),
    ];
    insta::assert_snapshot!(all.map(Result::unwrap_err).join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Against the obvious: each threshold is applied to each row.
    #[test]
    fn counts_and_targets_are_those_of_plain_loops(
        rows in prop::collection::vec((prop::option::of(0u8..12), prop::option::of(0u8..12)), 1..40),
        share in 0.05f64..=1.0,
        lower in any::<bool>(),
        limit in 0u8..12,
    ) {
        // Halves, so that JSON Lines make floats of all of them.
        let half = |v: Option<u8>| v.map(|v| f64::from(v) + 0.5);
        // A column without a value has no type.
        let mut rows: Vec<_> = rows.into_iter().map(|(a, b)| (half(a), half(b))).collect();
        rows.push((Some(0.5), Some(0.5)));
        let limit = f64::from(limit) + 0.5;
        let keep = format!("b >= {limit:.1}");
        let asked = Question { lower_is_better: lower, ..question(&["a"], &[&keep], Some(share)) };
        let found = ask(&rows, &asked).unwrap();
        let passes = |a: f64, t: f64| if lower { a <= t } else { a >= t };
        let column = &found.columns[0];
        let measured = rows.iter().filter(|r| r.0.is_some()).count();
        prop_assert_eq!(column.measured, measured);
        for kept in &column.thresholds {
            let plain = rows.iter().filter(|r| r.0.is_some_and(|a| passes(a, kept.threshold))).count();
            prop_assert_eq!(kept.kept, plain);
        }
        let both = |t: f64| rows.iter().filter(|r| r.0.is_some_and(|a| passes(a, t)) && r.1.is_some_and(|b| b >= limit)).count();
        let enough = |t: f64| both(t) as f64 >= share * measured as f64 - 1e-9;
        // Of all scores that keep enough the strictest.
        let scores = rows.iter().filter_map(|r| r.0).filter(|t| enough(*t));
        let strictest = scores.reduce(|x, y| if passes(x, y) { x } else { y });
        let target = column.target.as_ref().unwrap();
        prop_assert_eq!(target.found.map(|k| both(k.threshold)), strictest.map(both));
        let joint = found.joint.as_ref().unwrap();
        prop_assert_eq!(joint.kept + joint.dropped + joint.unmeasured, rows.len());
        prop_assert_eq!(joint.kept, rows.iter().filter(|r| r.1.is_some_and(|b| b >= limit)).count());
        prop_assert_eq!(joint.conditions[0].dropped_by_it_alone, joint.dropped);
        prop_assert_eq!(joint.conditions[0].left_in_order, joint.kept);
    }
}
