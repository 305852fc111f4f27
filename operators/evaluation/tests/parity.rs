//! The same numbers as scikit-learn, statsmodels and scipy: `scripts/goldens/evaluation.py` made the golden vectors.

#![allow(clippy::unwrap_used)]

use curette_evaluation::interval::Share;
use curette_evaluation::kappa::{Weights, agreement, kappa};
use curette_evaluation::ratings::{How, ratings};
use curette_evaluation::{Sheet, augment, compare};
use serde_json::Value;

fn goldens() -> Value {
    serde_json::from_str(include_str!("goldens/evaluation.json")).unwrap()
}

fn near(ours: f64, theirs: &Value, relative: f64, what: &str) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() <= relative * theirs.abs().max(1e-12), "{what}: {ours} is not {theirs}");
}

fn integers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn kappas_are_those_of_scikit_learn() {
    let all = goldens();
    let cases = all["kappa"].as_array().unwrap();
    assert!(cases.len() >= 15);
    for case in cases {
        let (a, b) = (integers(&case["a"]), integers(&case["b"]));
        let mut counts = vec![vec![0; case["labels"].as_u64().unwrap() as usize]; case["labels"].as_u64().unwrap() as usize];
        a.iter().zip(&b).for_each(|(a, b)| counts[*a][*b] += 1);
        for (name, weights) in
            [("unweighted", Weights::Unweighted), ("linear", Weights::Linear), ("quadratic", Weights::Quadratic)]
        {
            let theirs = &case["kappa"][name];
            match kappa(&counts, weights) {
                // A kappa near 0 is the difference of numbers near 1.
                Some(ours) => assert!((ours - theirs.as_f64().unwrap()).abs() < 1e-12, "{name}: {ours} is not {theirs}"),
                None => assert!(theirs.is_null(), "{name}: {theirs}"),
            }
        }
    }
}

#[test]
fn intervals_are_those_of_statsmodels() {
    for case in goldens()["wilson"].as_array().unwrap() {
        let share = Share::new(case["hits"].as_u64().unwrap(), case["of"].as_u64().unwrap());
        for (ours, theirs) in [share.low, share.high].into_iter().zip(case["interval"].as_array().unwrap()) {
            assert!((ours.unwrap() - theirs.as_f64().unwrap()).abs() < 1e-12, "{share:?} is not {theirs}");
        }
    }
}

#[test]
fn macro_averages_are_those_of_scikit_learn() {
    for case in goldens()["macro"].as_array().unwrap() {
        let pairs = integers(&case["truth"]).into_iter().zip(integers(&case["predicted"]));
        let lines: Vec<String> = pairs.map(|(t, p)| format!("c{t},c{p}")).collect();
        let sheet = Sheet::parse("p.csv", format!("truth,predicted\n{}\n", lines.join("\n")).as_bytes()).unwrap();
        let found = augment::scores(&sheet).unwrap().remove(0);
        for (ours, theirs) in found.percent.iter().zip(case["percent"].as_array().unwrap()) {
            near(*ours, theirs, 1e-12, "macro");
        }
    }
}

fn sheet(name: &str, columns: &[Vec<f64>]) -> Sheet {
    let head: Vec<String> = (0..columns.len()).map(|c| format!("m{c}")).collect();
    let mut text = format!("prompt,{}\n", head.join(","));
    for row in 0..columns[0].len() {
        let cells: Vec<String> = columns.iter().map(|c| format!("{:?}", c[row])).collect();
        text += &format!("{row},{}\n", cells.join(","));
    }
    Sheet::parse(name, text.as_bytes()).unwrap()
}

#[test]
fn paired_tests_are_those_of_scipy() {
    for case in goldens()["tests"].as_array().unwrap() {
        let (a, b) = (sheet("a.csv", &[numbers(&case["a"])]), sheet("b.csv", &[numbers(&case["b"])]));
        let test = compare::compare(&a, &b, "prompt", &[], 0.05).unwrap().tests.remove(0);
        near(test.t.unwrap(), &case["t"], 1e-9, "t");
        near(test.p.unwrap(), &case["p"], 1e-9, "p");
        near(test.effect.unwrap(), &case["effect"], 1e-9, "effect");
        assert_eq!(test.degrees, case["degrees"].as_u64());
        assert_eq!(test.significant.unwrap(), case["p"].as_f64().unwrap() < 0.05);
        for (ours, theirs) in test.interval.unwrap().into_iter().zip(case["interval"].as_array().unwrap()) {
            near(ours, theirs, 1e-9, "interval");
        }
    }
}

#[test]
fn corrected_tests_are_those_of_statsmodels() {
    let all = goldens();
    let column = |of: &Value, at: usize| of.as_array().unwrap().iter().map(|row| row[at].as_f64().unwrap()).collect::<Vec<f64>>();
    let columns = |name: &str| (0..5).map(|at| column(&all["holm"][name], at)).collect::<Vec<_>>();
    let found = compare::compare(&sheet("a.csv", &columns("a")), &sheet("b.csv", &columns("b")), "prompt", &[], 0.05).unwrap();
    for (at, test) in found.tests.iter().enumerate() {
        near(test.p.unwrap(), &all["holm"]["p"][at], 1e-9, "p");
        near(test.p_holm.unwrap(), &all["holm"]["p_holm"][at], 1e-9, "p after Holm");
    }
}

/// The ratings are made up; what the paper prints is a check that three such kappas are possible together and come out to two decimals.
#[test]
fn three_raters_give_the_kappas_that_the_paper_prints() {
    let all = goldens();
    for case in all["papers"].as_array().unwrap() {
        let raters: Vec<Vec<usize>> = case["raters"].as_array().unwrap().iter().map(integers).collect();
        let mut text = "item,rater,label\n".to_owned();
        for item in 0..raters[0].len() {
            raters.iter().enumerate().for_each(|(rater, labels)| text += &format!("v{item},E{},{}\n", rater + 1, labels[item]));
        }
        let groups = ratings(&Sheet::parse("r.csv", text.as_bytes()).unwrap(), &How::default()).unwrap();
        let found = agreement(&groups[0], &[]).unwrap();
        for (pair, (kappa, printed)) in found.pairs.iter().zip(numbers(&case["kappa"]).into_iter().zip(numbers(&case["printed"])))
        {
            assert!((pair.kappa.unwrap() - kappa).abs() < 1e-12);
            assert_eq!((pair.kappa.unwrap() * 100.0).round() / 100.0, printed);
        }
    }
}
