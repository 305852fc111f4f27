//! What a step of `lora_trainer` finds wrong with itself.

use arrow::datatypes::{Field, Fields};

use super::*;
use crate::testing;

const CLIP: &str =
    "type = 'lora_trainer'\ncommand = ['x']\nweights = 'w'\nmax_hours = 400\nranks = 8\nframes = 93\nheight = 256\nwidth = 448\n";

fn mistakes(more: &str) -> Vec<String> {
    let clip = DataType::Struct(Fields::from(vec![Field::new("bytes", DataType::Binary, true)]));
    let input = [("id", DataType::Utf8), ("caption", DataType::Utf8), ("clip", clip)];
    testing::mistakes(&format!("{CLIP}{more}"), &input)
}

#[test]
fn what_would_cost_months_or_lose_frames_is_found_before_anything_runs() {
    let all = [
        "preset = 'paper_code'\narchitecture = 'hunyuan'",
        "preset = 'paper_text'\narchitecture = 'hunyuan'\nsteps = 100\nseed = 3",
        "preset = 'custom'\narchitecture = 'hunyuan'\nrank = 8\nema = { decay = 0.99 }",
        "preset = 'paper_code'\narchitecture = 'hunyuan'\nrank = 8\ntrain_shift = 7.0",
        "preset = 'paper_code'\narchitecture = 'mochi'",
        "preset = 'custom'\narchitecture = 'hunyuan'\nglobal_batch = 12\nema = { decay = 1.0 }",
        "preset = 'custom'\narchitecture = 'hunyuan'\nsteps = 500000",
        "preset = 'custom'\narchitecture = 'wan_14b'\ndevice_memory_gb = 8.0\nsteps = 10",
        "preset = 'custom'\narchitecture = 'hunyuan'\nlocation = 's3://bucket/x'",
    ];
    let told: Vec<String> = all.iter().map(|more| format!("{more}\n  {}\n", mistakes(more).join("\n  "))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn clips_must_be_there_in_the_row_or_in_a_file() {
    let with = |columns: &[(&str, DataType)]| {
        testing::mistakes(&format!("{CLIP}preset = 'paper_code'\narchitecture = 'hunyuan'"), columns)
    };
    assert_eq!(with(&[("clip_uri", DataType::Utf8)]), Vec::<String>::new());
    assert_eq!(
        with(&[("id", DataType::Utf8)]),
        ["- E-MissingColumn: there is neither a column `clip` with clips nor `clip_uri` with their files"]
    );
    assert_eq!(with(&[("clip", DataType::Utf8)]), ["clip_column E-WrongColumnType: column `clip` holds no clips, but Utf8"]);
}
