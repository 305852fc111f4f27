//! Where rows end.

pub mod jsonl;
pub mod lora_trainer;
pub mod parquet;

use arrow::datatypes::{DataType, Schema};
use curette_engine::diag::Code;
use curette_engine::operator::StepCheck;

/// Mistakes in the `columns` and `exclude` of a sink that do not need its input.
fn validate_columns(columns: Option<&[String]>, exclude: &[String], check: &mut dyn StepCheck) {
    if columns.is_some() && !exclude.is_empty() {
        let help = Some("keep one of them".to_string());
        check.error(Some("exclude"), Code::Contradiction, "`columns` and `exclude` are both given".into(), help);
    }
    if columns.is_some_and(<[String]>::is_empty) {
        let help = Some("leave the key out to write all columns".to_string());
        check.error(Some("columns"), Code::OutOfRange, "`columns` is empty".into(), help);
    }
    for (key, names) in [("columns", columns.unwrap_or(&[])), ("exclude", exclude)] {
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                check.error(Some(key), Code::Contradiction, format!("column `{name}` is named twice"), None);
            }
        }
    }
}

/// `exclude` must leave something. Unknown names are found by the engine, which reads these keys to know what is written.
fn check_columns(columns: Option<&[String]>, exclude: &[String], input: &Schema, check: &mut dyn StepCheck) {
    let names = input.fields().iter().map(|f| f.name());
    let mut left = names.filter(|n| columns.is_none_or(|c| c.contains(n)) && !exclude.contains(n));
    if !exclude.is_empty() && left.next().is_none() {
        check.error(Some("exclude"), Code::Contradiction, "no column is left to write".into(), None);
    }
}

/// Columns that hold bytes, which JSON has no form for.
fn has_bytes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => true,
        DataType::Struct(fields) => fields.iter().any(|f| has_bytes(f.data_type())),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => has_bytes(f.data_type()),
        _ => false,
    }
}
