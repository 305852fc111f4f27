//! `aesthetic` on models of random weights.

use arrow::array::{Int64Builder, ListBuilder};

use super::super::model_tests::{Goldens, drawn, goldens};
use super::*;

fn open(goldens: &Goldens, head: &str) -> Result<Scorer, ModelError> {
    let paths = Paths { base: super::super::model_tests::folder() };
    Scorer::open(&goldens.models(), "clip.onnx", head, &paths)
}

#[test]
fn scores_are_those_of_onnxruntime_behind_pillow() {
    let Some(goldens) = goldens() else { return };
    let scorer = open(&goldens, "head.safetensors").unwrap_or_else(|e| panic!("{}", e.full()));
    for one in goldens.golden["aesthetic"].as_array().unwrap() {
        let number = |key: &str| one[key].as_u64().unwrap() as u32;
        let frames: Vec<Frame> = (0..number("frames")).map(|t| drawn(number("width"), number("height"), t)).collect();
        let Ok(scores) = scorer.score(&frames, &goldens.bench.context()) else { panic!("{one}") };
        for (got, want) in scores.iter().zip(one["scores"].as_array().unwrap()) {
            // Pillow and the resize library differ by one grey level here and there.
            assert!((got - want.as_f64().unwrap()).abs() < 2e-3, "{one}: {scores:?}");
        }
    }
}

#[test]
fn a_head_of_another_encoder_is_refused() {
    let Some(goldens) = goldens() else { return };
    for (head, said) in [
        ("narrow-head.safetensors", "it reads 5 numbers, the encoder gives 8"),
        ("foreign-head.safetensors", "it was trained on graph 00"),
    ] {
        let refused = open(&goldens, head).err().unwrap();
        assert_eq!(refused.kind, ErrorKind::Contract);
        assert!(refused.message.contains(said), "{}", refused.message);
    }
}

/// Five of the vectors inside the span, in `frame_embed`'s column, and not one run of the encoder.
#[test]
fn sampled_frames_are_scored_without_decoding_and_without_the_encoder() {
    let Some(goldens) = goldens() else { return };
    let paths = Paths { base: super::super::model_tests::folder() };
    let decoding = open(&goldens, "head.safetensors").unwrap_or_else(|e| panic!("{}", e.full()));
    let scorer = Scorer::of_sampled(&goldens.models(), "clip.onnx", "head.safetensors", &paths).unwrap();
    assert_eq!((&scorer.name, scorer.made_by.to_string()), (&decoding.name, decoding.made_by.to_string()));
    let encoder = decoding.encoder.as_ref().unwrap();
    let frames: Vec<Frame> = (0..12).map(|t| drawn(320, 240, t)).collect();
    let pictures: Vec<Rgb> = frames.iter().map(|f| Rgb { pixels: &f.rgb, width: f.width, height: f.height }).collect();
    let vectors = encoder.embed(&pictures).unwrap();

    let mut times = ListBuilder::new(Int64Builder::new());
    let mut column = ListBuilder::new(ListBuilder::new(Float32Builder::new()));
    for (t, vector) in vectors.iter().enumerate() {
        times.values().append_value(t as i64 * 1_000_000);
        column.values().append_value(vector.iter().copied().map(Some));
    }
    times.append(true);
    column.append(true);
    let text = |text: String| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let batch = |model: String, end: i64| {
        RecordBatch::try_from_iter([
            ("video_uri", text("there is no such file".into())),
            ("start_us", Arc::new(Int64Array::from(vec![2_000_000])) as ArrayRef),
            ("end_us", Arc::new(Int64Array::from(vec![end]))),
            ("frame_times_us", Arc::new(times.finish_cloned())),
            ("frame_embeddings", Arc::new(column.finish_cloned())),
            ("embedding_model", text(model)),
        ])
        .unwrap()
    };
    let ours = scorer.made_by.to_string();
    let settings: Aesthetic = toml::from_str("encoder = 'a'\nhead = 'b'\nlook_at = 'sampled_frames'").unwrap();
    let started = Started { settings, scorer };
    let before = encoder.model().rows_run();
    let resources = Arc::new(curette_engine::resources::Resources::default());
    let task = Task { step: "it", resources: &resources, cancelled: &std::sync::atomic::AtomicBool::new(false) };
    let run = |batch: RecordBatch| started.process(&batch, &task).unwrap();
    // Inside are 2 to 10 s; of these nine the first, third, fifth, seventh and ninth.
    let done = run(batch(ours.clone(), 10_500_000));
    assert_eq!(done.verdicts, [Verdict::Pass]);
    let scores: Vec<f64> = [2, 4, 6, 8, 10].map(|t| f64::from(started.scorer.head.head.score(&vectors[t]))).to_vec();
    let got = done.columns[0].as_primitive::<arrow::datatypes::Float32Type>().value(0);
    assert_eq!(got, (scores.iter().sum::<f64>() / 5.0) as f32);
    for (model, end, code) in [("clip@other".to_owned(), 10_500_000, "wrong_embedding_model"), (ours, 2_000_000, "no_span")] {
        let done = run(batch(model, end));
        assert!(matches!(&done.verdicts[0], Verdict::Unmeasured(p) if p.code == code), "{:?}", done.verdicts);
    }
    assert_eq!(encoder.model().rows_run(), before);
}

/// The head as a manifest that says this of its score; what `check` says of a limit.
fn said_of_limit(score: &str, limit: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let base = super::super::model_tests::folder();
    std::fs::copy(base.join("head.safetensors"), dir.path().join("head.safetensors")).unwrap();
    let manifest = format!(
        "name = 'h'\nversion = '1'\ntitle = 't'\nkind = 'head'\nfiles = [{{ role = 'head', path = 'head.safetensors' }}]\n\
         [origin]\nlicence = 'MIT'\ncommercial_use = 'yes'\n{score}"
    );
    std::fs::write(dir.path().join("head.toml"), manifest).unwrap();
    let step = format!("encoder = '{}'\nhead = 'head.toml'\n{limit}", base.join("clip.onnx").display());
    let operator: Aesthetic = toml::from_str(&step).unwrap();
    let mut found = crate::testing::Mistakes { paths: Paths { base: dir.path().to_owned() }, lines: Vec::new() };
    operator.check_models(&RuntimeSettings::default(), &mut found);
    found.lines.into_iter().filter(|line| line.starts_with("min_score")).collect()
}

#[test]
fn a_limit_off_the_heads_scale_or_against_its_direction_is_found() {
    let score = |scale: &str, direction: &str| format!("[score]\nscale = '{scale}'\ndirection = '{direction}'\n");
    let up = score("1-10", "higher_is_better");
    assert_eq!(said_of_limit(&up, "min_score = 3.0"), [""; 0]);
    assert_eq!(said_of_limit(&up, ""), [""; 0]);
    assert_eq!(said_of_limit("", "min_score = 50.0"), [""; 0], "a head without a scale says nothing");
    assert_eq!(
        said_of_limit(&up, "min_score = 0.5"),
        ["min_score E-Contradiction: 0.5 is not on the scale `1-10`, which goes from 1 to 10"]
    );
    assert_eq!(
        said_of_limit(&score("1-10", "lower_is_better"), "min_score = 3.0"),
        ["min_score E-Contradiction: at least 3 is kept, but on the scale `1-10` lower is better: it would keep the worse"]
    );
    assert!(said_of_limit(&format!("{}range = [0.0, 1.0]\n", score("raw", "higher_is_better")), "min_score = 2.0").len() == 1);
    let laion = curette_models::store::built_in("laion-aesthetic").unwrap().score.unwrap();
    assert_eq!((scale::range(&laion), scale::against(3.0, &laion)), (Some([1.0, 10.0]), None));
}

#[test]
fn exactly_the_limit_is_kept() {
    let Some(goldens) = goldens() else { return };
    let scorer = open(&goldens, "head.safetensors").unwrap_or_else(|e| panic!("{}", e.full()));
    let settings: Aesthetic = toml::from_str("encoder = 'a'\nhead = 'b'\nmin_score = 3.1").unwrap();
    let started = Started { settings, scorer };
    assert_eq!(started.judge(3.1), Verdict::Pass);
    let Verdict::Fail(reject) = started.judge(3.0999) else { panic!() };
    assert_eq!((reject.code.as_ref(), reject.threshold), ("low_aesthetic", Some(3.1)));
}
