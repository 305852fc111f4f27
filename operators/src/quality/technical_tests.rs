//! `technical` on models of random weights.

use super::super::model_tests::{drawn, folder, goldens};
use super::*;
use crate::testing;

#[test]
fn raw_scores_are_those_of_onnxruntime() {
    let Some(goldens) = goldens() else { return };
    let networks = Networks::open(
        &goldens.models(),
        ("dover-technical.onnx", "dover-aesthetic.onnx"),
        Constants::Upstream,
        &Paths { base: folder() },
    );
    let networks = networks.unwrap_or_else(|e| panic!("{}", e.full()));
    for one in goldens.golden["technical"].as_array().unwrap() {
        let number = |key: &str| one[key].as_u64().unwrap();
        let (choice, frames) = (Choice::of(one["id"].as_str().unwrap()), number("frames") as usize);
        let frame = |i: usize| drawn(number("width") as u32, number("height") as u32, i as u32);
        let looks: Vec<Look> = wanted(choice, frames).into_iter().map(|i| look(choice, frames, i, &frame(i))).collect();
        let Ok((technical, aesthetic)) = networks.raw(choice, frames, &looks, &goldens.bench.context()) else { panic!("{one}") };
        for (got, key) in [(technical, "technical_raw"), (aesthetic, "aesthetic_raw")] {
            assert!((got - one[key].as_f64().unwrap()).abs() < 1e-5, "{one}: {key} {got}");
        }
    }
}

#[test]
fn a_limit_needs_its_scale() {
    let toml = |more: &str| format!("type = 'technical'\ntechnical_model = 'a'\naesthetic_model = 'b'\n{more}");
    assert_eq!(
        testing::mistakes(&toml("keep_at_least = 0.1"), &[]),
        ["score E-Contradiction: a limit is set, but not the scale that it is on"]
    );
    assert_eq!(
        testing::mistakes(&toml("score = 'overall'\nkeep_at_least = 0.2\nkeep_at_most = 0.1\nagainst_direction = true"), &[])
            .len(),
        1
    );
    assert!(testing::mistakes(&toml("score = 'logit'\nkeep_at_most = 0.0\nagainst_direction = true"), &[]).is_empty());
    assert_eq!(
        testing::mistakes(&toml("score = 'logit'\nkeep_at_most = 0.0"), &[]),
        [
            "keep_at_most E-Contradiction: at most 0 is kept, but higher is better on every scale of DOVER: it would keep the worse"
        ]
    );
    for scale in ["overall", "technical_norm", "aesthetic_norm"] {
        assert_eq!(
            testing::mistakes(&toml(&format!("score = '{scale}'\nkeep_at_least = 50.0")), &[]),
            [format!("keep_at_least E-Contradiction: 50 is not on the scale `{scale}`, which goes from 0 to 1")]
        );
    }
    assert!(testing::mistakes(&toml("score = 'technical_raw'\nkeep_at_least = 50.0"), &[]).is_empty(), "only a manifest knows");
}

#[test]
fn limits_decide_on_the_scale_that_they_name() {
    let settings =
        |text: &str| -> Technical { toml::from_str(&format!("technical_model = 'a'\naesthetic_model = 'b'\n{text}")).unwrap() };
    let branch = |name| curette_models::store::built_in(name).unwrap();
    let fusion = Fusion::of(&branch("dover-technical"), &branch("dover-aesthetic"), Constants::Upstream).unwrap();
    let demo = Scores::of(-0.079, 0.148, &fusion); // overall 0.692, technical 0.07
    assert_eq!(settings("score = 'overall'\nkeep_at_least = 0.6").judge(&demo), Verdict::Pass);
    assert!(
        matches!(settings("score = 'technical_norm'\nkeep_at_least = 0.6").judge(&demo), Verdict::Fail(r) if r.code == "low_quality")
    );
    assert!(
        matches!(settings("score = 'overall'\nkeep_at_most = 0.0").judge(&demo), Verdict::Fail(r) if r.code == "above_limit")
    );
    assert_eq!(settings("").judge(&demo), Verdict::Pass);
}
