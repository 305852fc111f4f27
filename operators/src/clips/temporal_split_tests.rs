//! Videos in, clips and verdicts out.

use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float32Type, Int64Type};

use super::*;
use crate::frames::fixtures::{Frames, batch, codes, run};

fn clips(operator: &TemporalSplit, videos: &[Option<Frames>]) -> (Vec<String>, Vec<String>, Processed) {
    let out = run(operator, &batch(videos), Path::new("."));
    let ids = out.columns[0].as_string::<i32>().iter().map(|i| i.unwrap().to_owned()).collect();
    (codes(&out), ids, out)
}

fn steady(n: usize) -> Frames {
    Frames::at(&vec![0.0; n], &vec![true; n])
}

#[test]
fn each_shot_of_positive_frames_becomes_a_clip() {
    // 8 frames of one shot, a cut, 7 of another, 3 negative frames, 9 positive ones.
    let mut angles = vec![0.0; 8];
    angles.extend([90.0; 19]);
    let mut labels = vec![true; 15];
    labels.extend([false; 3]);
    labels.extend([true; 9]);
    let (codes, ids, out) = clips(&TemporalSplit::default(), &[Some(Frames::at(&angles, &labels)), Some(steady(7))]);
    assert_eq!(codes, ["pass", "pass"]);
    assert_eq!(ids, ["v0#0-7000000", "v0#8000000-14000000", "v0#18000000-26000000", "v1#0-6000000"]);
    assert_eq!(out.parents, Some(vec![0, 0, 0, 1]));
    let column = |i: usize| out.columns[i].as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(column(4), [0, 8_000_000_000, 18_000_000_000, 0], "start_pts");
    assert_eq!(column(5), [7_000_000_000, 14_000_000_000, 26_000_000_000, 6_000_000_000], "end_pts");
    assert_eq!(out.columns[9].as_primitive::<Float32Type>().values().to_vec(), [0.75; 4]);
    assert_eq!(out.columns[7].as_primitive::<Float32Type>().values().to_vec(), [1.0; 4]);
}

#[test]
fn a_video_without_a_clip_says_why() {
    let (codes, _, out) = clips(
        &TemporalSplit::default(),
        &[
            Some(steady(6)),
            Some(Frames::at(&[0.0; 9], &[false; 9])),
            Some(Frames::at(&[0., 0., 0., 0., 90., 90., 90., 90.], &[true; 8])),
            Some(steady(1)),
            Some(steady(0)),
            None,
        ],
    );
    assert_eq!(
        codes,
        ["too_few_frames", "no_positive_frame", "no_run_long_enough", "too_few_frames", "too_few_frames", "no_frames"]
    );
    let rejects: Vec<String> = out
        .verdicts
        .iter()
        .filter_map(|v| match v {
            Verdict::Fail(r) => Some(format!("{:?} {:?} {}", r.measured, r.threshold, r.message)),
            Verdict::Pass | Verdict::Unmeasured(_) => None,
        })
        .collect();
    insta::assert_snapshot!(rejects.join("\n"), @r#"
    Some(6.0) Some(7.0) 6 sampled frames, a clip of 6 s needs 7
    Some(0.25) None none of 9 sampled frames is positive
    Some(3.0) Some(6.0) the longest unbroken positive stretch has 3.000 s in 3 steps, a clip needs 6 s in 6 steps
    Some(1.0) Some(2.0) 1 sampled frame(s): no clip has fewer than two
    Some(0.0) Some(2.0) 0 sampled frame(s): no clip has fewer than two
    "#);
}

#[test]
fn rows_that_contradict_themselves_are_unmeasured() {
    let mut short = steady(8);
    short.labels.pop();
    let mut backwards = steady(8);
    backwards.times_us[4] = 3_000_000;
    let mut nan = steady(8);
    nan.vectors[2] = [f32::NAN, 0.0];
    let mut far = steady(2);
    far.times_us = vec![i64::MIN, i64::MAX];
    let (codes, _, _) = clips(&TemporalSplit::default(), &[Some(short), Some(backwards), Some(nan), Some(far)]);
    assert_eq!(codes[..3], ["columns_disagree", "times_not_ascending", "bad_embedding"]);
}

#[test]
fn black_frames_are_like_nothing() {
    let mut frames = steady(8);
    frames.vectors = vec![[0.0, 0.0]; 8];
    let (codes, _, _) = clips(&TemporalSplit::default(), &[Some(frames)]);
    assert_eq!(codes, ["no_run_long_enough"]);
}

#[test]
fn a_video_of_few_frames_needs_as_many_samples() {
    let sparse = |n: usize| {
        let mut frames = steady(n);
        frames.times_us = (0..n as i64).map(|k| k * 2_500_000).collect();
        Some(frames)
    };
    let (codes, ids, out) = clips(&TemporalSplit::default(), &[sparse(6), sparse(7)]);
    assert_eq!((codes[0].as_str(), ids), ("too_few_frames", vec!["v1#0-15000000".to_owned()]));
    assert!(matches!(&out.verdicts[0], Verdict::Fail(r) if r.threshold == Some(7.0)));
    let asked = TemporalSplit { samples_per_second: 0.4, ..TemporalSplit::default() };
    assert_eq!(clips(&asked, &[sparse(4)]).1, ["v0#0-7500000"]);
}

#[test]
fn options_bound_and_extend_clips() {
    let long = TemporalSplit { max_length_seconds: 10.0, ..TemporalSplit::default() };
    assert_eq!(clips(&long, &[Some(steady(25))]).1, ["v0#0-8000000", "v0#8000000-16000000", "v0#16000000-24000000"]);

    let mut labels = vec![true; 8];
    labels.push(false);
    let frames = || Some(Frames::at(&[0.0; 9], &labels));
    let extended = TemporalSplit { extend_to_next_sample: true, ..TemporalSplit::default() };
    assert_eq!(clips(&TemporalSplit::default(), &[frames()]).1, ["v0#0-7000000"]);
    assert_eq!(clips(&extended, &[frames()]).1, ["v0#0-8000000"]);
    assert_eq!(clips(&extended, &[Some(steady(8))]).1, ["v0#0-7000000"], "nothing follows");
}

#[test]
fn a_window_looks_over_a_flash_and_sees_a_dissolve() {
    let window = TemporalSplit { comparison: Comparison::Window, ..TemporalSplit::default() };
    // A flash: one frame of another look in twelve.
    let mut flash = vec![0.0; 12];
    flash[6] = 70.0;
    let flash = || Some(Frames::at(&flash, &[true; 12]));
    assert_eq!(clips(&TemporalSplit::default(), &[flash()]).0, ["no_run_long_enough"]);
    assert_eq!(clips(&window, &[flash()]).1, ["v0#0-11000000"]);
    // A dissolve: from one look to another by steps that are all small.
    let dissolve: Vec<f32> = (0..24).map(|k| (k as f32 - 10.0).clamp(0.0, 4.0) * 22.5).collect();
    let dissolve = || Some(Frames::at(&dissolve, &[true; 24]));
    assert_eq!(clips(&TemporalSplit::default(), &[dissolve()]).1, ["v0#0-23000000"]);
    assert_eq!(clips(&window, &[dissolve()]).1, ["v0#0-10000000", "v0#14000000-23000000"]);
}

/// A batch with the column that `probe` adds for `key_frames = true`.
fn with_key_frames(videos: &[Option<Frames>], keys: &[Option<Vec<i64>>]) -> arrow::array::RecordBatch {
    let rows = batch(videos);
    let mut list = arrow::array::ListBuilder::new(Int64Builder::new());
    for keys in keys {
        list.append_option(keys.as_ref().map(|k| k.iter().map(|t| Some(*t))));
    }
    let mut columns: Vec<(String, ArrayRef)> =
        rows.schema().fields().iter().map(|f| f.name().clone()).zip(rows.columns().iter().cloned()).collect();
    columns.push(("key_frame_times_us".into(), Arc::new(list.finish())));
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn ends_move_to_key_frames_within_the_tolerance() {
    let operator = TemporalSplit { keyframe_tolerance_seconds: 0.5, ..TemporalSplit::default() };
    let keys = vec![400_000, 2_000_000, 7_700_000, 9_000_000];
    let rows = with_key_frames(
        &[Some(steady(9)), Some(steady(7)), Some(steady(9)), Some(steady(9))],
        &[Some(keys.clone()), Some(keys), None, Some(vec![7, 3])],
    );
    let out = run(&operator, &rows, Path::new("."));
    assert_eq!(codes(&out), ["pass", "pass", "pass", "times_not_ascending"]);
    let ids: Vec<_> = out.columns[0].as_string::<i32>().iter().flatten().collect();
    // The second has seven samples, 6 s: no room to move.
    assert_eq!(ids, ["v0#400000-7700000", "v1#0-6000000", "v2#0-8000000"]);
    let column = |i: usize| out.columns[i].as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(column(4), [400_000_000, 0, 0], "start_pts");
    assert_eq!(column(5), [7_700_000_000, 6_000_000_000, 8_000_000_000], "end_pts");
    assert_eq!((column(10), column(11)), (vec![400_000, 0, 0], vec![300_000, 0, 0]));
    for (column, added) in out.columns.iter().zip(operator.columns().adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{}", added.field.name());
    }
    assert_eq!(out.columns.len(), operator.columns().adds.len());
}

#[test]
fn a_tolerance_without_key_frames_is_a_mistake() {
    let step = |tolerance: &str| format!("type = \"temporal_split\"\nkeyframe_tolerance_seconds = {tolerance}");
    let found = crate::testing::mistakes(&step("0.5"), &[]);
    assert!(found[0].starts_with("keyframe_tolerance_seconds E-MissingColumn"), "{found:?}");
    assert!(crate::testing::mistakes(&step("0.0"), &[]).is_empty());
    let list = DataType::new_list(DataType::Int64, true);
    assert!(crate::testing::mistakes(&step("0.5"), &[("key_frame_times_us", list)]).is_empty());
}
