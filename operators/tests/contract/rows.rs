//! Rows for an operator, made from the columns that it reads: ordinary ones, and every way of being wrong that we know.

use std::path::Path;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use curette_engine::operator::{DynOperator, ID_METADATA, Need};

/// The column that identifies rows.
pub const ID: &str = "video_id";

/// What kind of value a cell holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Case {
    Typical,
    Null,
    Empty,
    Huge,
    Poison,
}

const WRONG: [Case; 4] = [Case::Null, Case::Empty, Case::Huge, Case::Poison];

/// All columns in each case together, then each column wrong by itself among ordinary ones.
pub fn for_operator(operator: &dyn DynOperator, folder: &Path) -> RecordBatch {
    let mut needs = operator.columns().needs;
    needs.retain(|need| need.name != ID);
    let mut cases: Vec<Vec<Case>> = vec![vec![Case::Typical; needs.len()]];
    cases.extend(WRONG.map(|case| vec![case; needs.len()]));
    for column in 0..needs.len() {
        for case in WRONG {
            let mut row = vec![Case::Typical; needs.len()];
            row[column] = case;
            cases.push(row);
        }
    }
    cases.push(vec![Case::Typical; needs.len()]);

    let ids: StringArray = (0..cases.len()).map(|i| Some(format!("v{i}"))).collect();
    let mut fields = vec![Field::new(ID, DataType::Utf8, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(ids)];
    for (i, need) in needs.iter().enumerate() {
        let column = column(need, &cases.iter().map(|row| row[i]).collect::<Vec<_>>(), folder, operator.name());
        fields.push(Field::new(&need.name, column.data_type().clone(), true));
        columns.push(column);
    }
    let metadata = [(ID_METADATA.to_owned(), ID.to_owned())].into();
    RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, metadata)), columns).unwrap()
}

/// The type of a column that its reader leaves open.
fn open_type(name: &str) -> Option<DataType> {
    let item = |t| Arc::new(Field::new_list_field(t, true));
    Some(match name {
        "frame_embeddings" => DataType::List(item(DataType::FixedSizeList(item(DataType::Float32), super::world::WIDTH as i32))),
        "transcript" => {
            let fields: Fields = [("start_us", DataType::Int64), ("end_us", DataType::Int64), ("text", DataType::Utf8)]
                .map(|(name, t)| Field::new(name, t, true))
                .into_iter()
                .collect();
            DataType::List(item(DataType::Struct(fields)))
        }
        "duration_us" => DataType::Int64,
        "fps" => DataType::Float64,
        _ => return None,
    })
}

fn column(need: &Need, cases: &[Case], folder: &Path, operator: &str) -> ArrayRef {
    let name = need.name.as_str();
    let data_type = need.types.first().cloned().or_else(|| open_type(name));
    let unknown = || -> ! {
        panic!("{operator} reads `{name}` of {data_type:?}, for which tests/contract/rows.rs has no values: add them")
    };
    match &data_type {
        Some(DataType::Utf8) => Arc::new(cases.iter().map(|c| text(name, *c, folder)).collect::<StringArray>()),
        Some(DataType::Int64) => Arc::new(cases.iter().map(|c| long(name, *c)).collect::<Int64Array>()),
        Some(DataType::Int32) => Arc::new(
            cases
                .iter()
                .map(|c| long(name, *c).map(|v| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32))
                .collect::<Int32Array>(),
        ),
        Some(DataType::Float64) => Arc::new(cases.iter().map(|c| float(*c)).collect::<Float64Array>()),
        Some(DataType::Float32) => Arc::new(cases.iter().map(|c| float(*c).map(|v| v as f32)).collect::<Float32Array>()),
        Some(DataType::Boolean) => {
            Arc::new(cases.iter().map(|c| (*c != Case::Null).then_some(*c == Case::Typical)).collect::<BooleanArray>())
        }
        Some(DataType::List(item)) => match item.data_type() {
            DataType::Int64 => times(name, cases),
            DataType::Float32 => list(cases, Float32Builder::new(), |b, case, n| match case {
                Case::Poison => b.append_slice(&[f32::NAN, f32::INFINITY, -1.0]),
                _ => b.append_slice(&vec![0.75; n]),
            }),
            DataType::Boolean => list(cases, BooleanBuilder::new(), |b, case, n| match case {
                Case::Poison => b.append_null(),
                _ => b.append_slice(&vec![true; n]),
            }),
            DataType::Utf8 => list(cases, StringBuilder::new(), |b, case, n| match case {
                Case::Poison => [Some(""), None, Some(POISON)].iter().for_each(|v| b.append_option(*v)),
                _ => (0..n).for_each(|k| b.append_value(format!("tag {k}"))),
            }),
            DataType::FixedSizeList(_, width) => embeddings(*width, cases),
            DataType::Struct(fields) => transcripts(fields, cases),
            _ => unknown(),
        },
        _ => unknown(),
    }
}

/// Zero bytes, text that runs backwards, quotes, line breaks, a slot of a prompt, a formula, half an escape.
const POISON: &str = "\0\u{202e}abc\"'\r\n\t{Clip Transcript} =1+1 \\u00 %s <c> \u{1F9E0}\u{FFFD}";

fn text(name: &str, case: Case, folder: &Path) -> Option<String> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    Some(match (case, name) {
        (Case::Null, _) => return None,
        (Case::Empty, _) => String::new(),
        (Case::Typical, "video_uri") => path("video.mp4"),
        (Case::Huge, "video_uri") => path(&"long/".repeat(2_000)),
        (Case::Poison, "video_uri") => path("corpus/text.mp4"),
        (Case::Typical, "transcript_uri") => path("speech.en.vtt"),
        (Case::Typical, "embedding_model") => super::world::EMBEDDING.to_owned(),
        (Case::Typical, "content_blake3") => "c0ffee".repeat(10),
        (Case::Typical, _) => "Surgery for heart failure under ultrasound".to_owned(),
        (Case::Huge, _) => "surgery é ".repeat(20_000),
        (Case::Poison, _) => POISON.to_owned(),
    })
}

fn long(name: &str, case: Case) -> Option<i64> {
    Some(match (case, name) {
        (Case::Null, _) => return None,
        (Case::Empty, _) => 0,
        (Case::Huge, _) => i64::MAX,
        (Case::Poison, _) => i64::MIN,
        (Case::Typical, "start_us") => 1_000_000,
        (Case::Typical, "end_us" | "shot_end_us") => 3_000_000,
        (Case::Typical, "duration_us") => 8_000_000,
        (Case::Typical, "width") => 854,
        (Case::Typical, "height") => 480,
        (Case::Typical, _) => 1_000_000,
    })
}

fn float(case: Case) -> Option<f64> {
    Some(match case {
        Case::Null => return None,
        Case::Typical => 25.0,
        Case::Empty => 0.0,
        Case::Huge => f64::MAX,
        Case::Poison => f64::NAN,
    })
}

/// Sampled frames of a case; all frame columns agree on it where they are in the same case.
fn frames(case: Case) -> usize {
    match case {
        Case::Typical => 9,
        Case::Huge => 20_000,
        Case::Null | Case::Empty | Case::Poison => 0,
    }
}

fn list<B: ArrayBuilder>(cases: &[Case], values: B, append: impl Fn(&mut B, Case, usize)) -> ArrayRef {
    let mut builder = ListBuilder::new(values);
    for case in cases {
        append(builder.values(), *case, frames(*case));
        builder.append(*case != Case::Null);
    }
    Arc::new(builder.finish())
}

fn times(name: &str, cases: &[Case]) -> ArrayRef {
    let unit = if name == "frame_pts" { 1_000_000_000 } else { 1_000_000 };
    list(cases, Int64Builder::new(), |b, case, n| match case {
        Case::Poison => b.append_slice(&[5, 3, i64::MIN, i64::MAX]),
        _ => (0..n as i64).for_each(|k| b.append_value(k * unit)),
    })
}

fn embeddings(width: i32, cases: &[Case]) -> ArrayRef {
    list(cases, FixedSizeListBuilder::new(Float32Builder::new(), width), |b, case, n| {
        for k in 0..n {
            (0..width).for_each(|i| b.values().append_value(if i == 0 { 1.0 } else { (k % 3) as f32 * 0.01 }));
            b.append(true);
        }
        if case == Case::Poison {
            (0..width).for_each(|_| b.values().append_value(f32::NAN));
            b.append(true);
            (0..width).for_each(|_| b.values().append_null());
            b.append(false);
        }
    })
}

fn transcripts(fields: &Fields, cases: &[Case]) -> ArrayRef {
    list(cases, StructBuilder::from_fields(fields.clone(), 0), |b, case, n| {
        let mut cue = |start: Option<i64>, end: Option<i64>, text: Option<&str>, valid: bool| {
            b.field_builder::<Int64Builder>(0).unwrap().append_option(start);
            b.field_builder::<Int64Builder>(1).unwrap().append_option(end);
            b.field_builder::<StringBuilder>(2).unwrap().append_option(text);
            b.append(valid);
        };
        if case == Case::Poison {
            cue(Some(i64::MAX), Some(i64::MIN), Some(POISON), true);
            cue(None, Some(1), None, true);
            cue(None, None, None, false);
        }
        (0..n as i64).for_each(|k| cue(Some(k * 500_000), Some(k * 500_000 + 400_000), Some("the left ventricle"), true));
    })
}
