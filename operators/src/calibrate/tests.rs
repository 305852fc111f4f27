//! tau from pairs and from videos with known cuts.

use std::collections::BTreeMap;
use std::path::Path;

use curette_engine::verdict::Problem;
use curette_heads::Encoder;
use proptest::prelude::*;

use super::cuts::{Group, clean_clips, halves, judge, pairs_of, read_cuts, read_pairs};
use super::report::calibrate;
use super::tau::{Pair, choose, measure};
use crate::clips::runs::Rule;
use crate::clips::similarity::Comparison;
use crate::label::LabelError;
use crate::train_head::samples::{Embedded, Embedder};

const RULE: Rule = Rule { min_similarity: 0.0, min_length_us: 6_000_000, max_length_us: 0, nominal_period_us: 1e6 };

proptest! {
    #[test]
    fn tau_joins_most_of_one_shot_and_then_finds_most_cuts(set in proptest::collection::vec((0i8..20, any::<bool>()), 1..40), wanted in 0.3f64..1.0) {
        let pairs: Vec<Pair> = set.iter().map(|s| Pair { similarity: f32::from(s.0) / 20.0, same: s.1 }).collect();
        let precise = |tau: f64| measure(&pairs, tau).precision.value().is_some_and(|p| p >= wanted);
        // Every different decision: below all, and between each two neighbouring values.
        let all: Vec<f64> = (0..=20).map(|k| f64::from(k) / 20.0 - 0.025).collect();
        match choose(&pairs, wanted) {
            Ok(tau) => {
                prop_assert!(precise(tau), "{}", tau);
                let quality = |t: f64| (measure(&pairs, t).recall.hits, measure(&pairs, t).cuts_found.hits);
                let most = all.iter().filter(|t| precise(**t)).map(|t| quality(*t)).max();
                prop_assert_eq!(Some(quality(tau)), most);
            }
            Err(_) => prop_assert!(all.iter().all(|t| !precise(*t))),
        }
    }
}

/// Twelve videos of three shots of ten seconds; shots drift a little, a fade between the second and third is nearly alike.
struct Shots;

impl Embedder for Shots {
    fn encoder(&self) -> Encoder {
        Encoder::built_in("test/1")
    }
    fn embed(&self, video: &str) -> Result<Embedded, Problem> {
        let number: usize = video[1..].parse().map_err(|_| Problem::new("not_in_table", "no such video"))?;
        let angle = |k: usize| [0.0, 60.0, 85.0 + (number % 5) as f32][k / 10] + ((k * 37 + number * 11) % 10) as f32;
        Ok(Embedded {
            times_us: (0..30).map(|k| k * 1_000_000).collect(),
            vectors: (0..30).map(|k| vec![angle(k).to_radians().cos(), angle(k).to_radians().sin()]).collect(),
        })
    }
}

fn groups() -> (Vec<Group>, Vec<String>) {
    let mut cuts: BTreeMap<String, Vec<i64>> = (0..12).map(|v| (format!("v{v}"), vec![10_000_000, 20_000_000])).collect();
    cuts.insert("gone".into(), vec![]);
    pairs_of(&cuts, &Shots, Comparison::Adjacent).unwrap()
}

#[test]
fn known_cuts_give_a_tau_and_what_it_is_worth() {
    let (groups, skipped) = groups();
    let report = calibrate(groups.clone(), 0.95, &RULE, skipped).unwrap();
    let chosen = &report.chosen;
    assert!(chosen.clean_clips.unwrap().value().unwrap() >= 0.8 && !report.same_half && report.by_clips);
    // No value of a fine grid is better on the half that it was chosen on: of those that are good enough, it has most time in clean clips, then most cuts.
    let (first, _) = halves(groups);
    let pairs: Vec<Pair> = first.iter().flat_map(|g| g.pairs.clone()).collect();
    let quality = |tau: f64| {
        let (share, clean_us) = judge(&first, &Rule { min_similarity: tau, ..RULE });
        share.value().filter(|s| *s >= 0.95).map(|_| (clean_us, measure(&pairs, tau).cuts_found.hits))
    };
    let chosen_quality = quality(report.tau).unwrap();
    for tau in (-1000..1000).map(|k| f64::from(k) / 1000.0) {
        assert!(quality(tau).is_none_or(|q| q <= chosen_quality), "{tau} is better than {}", report.tau);
    }
    assert_eq!((report.chosen_on, report.measured_on), ((6, 174), (6, 174)));
    insta::assert_snapshot!(report.to_string());
    insta::assert_snapshot!(serde_json::to_string(&report.chosen.pairs).unwrap());
}

/// Twenty videos of one minute in pieces of ten seconds, one cut in one of them: with no tau at all 95 % of the clips are clean.
#[test]
fn a_tau_that_finds_no_cut_is_not_chosen_where_another_is_as_good() {
    let rule = Rule { max_length_us: 10_000_000, ..RULE };
    let video = |name: &str, cut: bool, alike: f32| {
        let pairs =
            (0..59).map(|k| Pair { similarity: if cut && k == 24 { alike } else { 0.9 }, same: !(cut && k == 24) }).collect();
        let times_us = (0..60).map(|k| k * 1_000_000).collect();
        Group { name: name.into(), pairs, times_us, cuts_us: if cut { vec![25_000_000] } else { vec![] } }
    };
    let groups: Vec<Group> = (0..20).map(|v| video(&format!("v{v}"), v < 4, 0.3)).collect();
    assert!(clean_clips(&groups, &Rule { min_similarity: -1.0, ..rule }).value().unwrap() >= 0.95);
    let report = calibrate(groups, 0.95, &rule, vec![]).unwrap();
    assert!((0.3..0.9).contains(&report.tau), "{}", report.tau);
    assert_eq!(report.chosen.pairs.cuts_found.value(), Some(1.0));
    assert_eq!(report.warning, None);

    // Cuts that look more alike than their shots: all that is good enough finds none, and the report says so.
    let groups: Vec<Group> = (0..20).map(|v| video(&format!("v{v}"), v < 4, 0.95)).collect();
    let report = calibrate(groups, 0.9, &rule, vec![]).unwrap();
    assert_eq!(report.chosen.pairs.cuts_found.hits, 0);
    let said = report.to_string();
    assert!(said.contains("cuts is found: this value joins everything") && said.contains("warning  "), "{said}");
    let groups: Vec<Group> = (0..20).map(|v| video(&format!("v{v}"), false, 0.0)).collect();
    assert!(calibrate(groups, 0.9, &rule, vec![]).unwrap().warning.unwrap().starts_with("no cut is labelled"));
}

#[test]
fn one_group_is_said_to_be_both_halves() {
    let (mut groups, _) = groups();
    groups.truncate(1);
    let report = calibrate(groups, 0.9, &RULE, vec![]).unwrap();
    assert!(report.same_half && report.to_string().contains("the same ones, so the numbers are too good"));
}

#[test]
fn tables_are_read_and_their_mistakes_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.csv");
    let with = |text: &str| {
        std::fs::write(&path, text).unwrap();
        path.clone()
    };
    let read = read_pairs(&with("similarity,same,group\n0.9,true,a\n0.2,0,b\n0.8,1,a\n")).unwrap();
    assert_eq!(read.iter().map(|g| (g.name.as_str(), g.pairs.len())).collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    let cuts = read_cuts(&with("video_id,time_seconds\na,7.5\nb,\na,2\n")).unwrap();
    assert_eq!((cuts["a"].clone(), cuts["b"].clone()), (vec![2_000_000, 7_500_000], vec![]));
    assert_eq!(read_cuts(&with("video_id,time_us\na,7\n")).unwrap()["a"], [7]);

    let text = |e: LabelError, path: &Path| e.to_string().replace(&path.display().to_string(), "T");
    let mut said = Vec::new();
    for table in [
        "similarity,same\n2,true\n",
        "similarity,same\n0.5,maybe\n",
        "same\ntrue\n",
        "similarity,same\n",
        "similarity,same\nhigh,1\n",
    ] {
        said.push(text(read_pairs(&with(table)).unwrap_err(), &path));
    }
    for table in ["video_id\na\n", "video_id,time_us\n,5\n", "time_us\n5\n", "video_id,time_us\n"] {
        said.push(text(read_cuts(&with(table)).unwrap_err(), &path));
    }
    said.push(calibrate(vec![], 0.9, &RULE, vec!["v: gone".into()]).unwrap_err());
    let pair = |similarity, same| Group {
        name: format!("{similarity}"),
        pairs: vec![Pair { similarity, same }],
        times_us: vec![],
        cuts_us: vec![],
    };
    said.push(calibrate(vec![pair(0.9, false), pair(0.8, false)], 0.9, &RULE, vec![]).unwrap_err());
    insta::assert_snapshot!(said.join("\n"));
}
