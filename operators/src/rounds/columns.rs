//! The columns that are carried over from a table, as the pipeline declares them: types are known at check time, before there is a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, new_null_array};
use arrow::datatypes::{DataType, Field};
use curette_engine::diag::Code;
use curette_engine::operator::{Columns, StepCheck};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clips::clip_cut::clip_fields;

/// The type of a carried column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Text.
    Text,
    /// A list of texts.
    Texts,
    /// A whole number of 64 bits.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A clip as `clip_cut` makes it: its bytes, or the path of its file.
    Clip,
}

impl ColumnType {
    fn arrow(self) -> DataType {
        match self {
            ColumnType::Text => DataType::Utf8,
            ColumnType::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            ColumnType::Integer => DataType::Int64,
            ColumnType::Number => DataType::Float64,
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Clip => DataType::Struct(clip_fields()),
        }
    }
}

/// Whether clips are among them, which take a thousand times the memory of other values.
pub fn has_clips(carried: &Carried) -> bool {
    carried.values().any(|kind| *kind == ColumnType::Clip)
}

/// Names and types of carried columns.
pub type Carried = BTreeMap<String, ColumnType>;

/// What a record of yt-dlp has and later steps read.
pub fn usual() -> Carried {
    let text = ["title", "description", "channel", "upload_date", "webpage_url", "license"];
    let mut all: Carried = text.map(|name| (name.to_owned(), ColumnType::Text)).into();
    all.insert("tags".into(), ColumnType::Texts);
    all.insert("duration".into(), ColumnType::Number);
    all
}

/// Declares them.
pub fn declare(carried: &Carried, mut columns: Columns) -> Columns {
    for (name, kind) in carried {
        columns = columns.add(
            name,
            kind.arrow(),
            "As in the table; null where the table has no such column or a value of another type.",
        );
    }
    columns
}

/// Names that the step itself adds cannot be carried.
pub fn validate(carried: &Carried, own: &[&str], check: &mut dyn StepCheck) {
    for name in carried.keys().filter(|name| own.contains(&name.as_str())) {
        let message = format!("`columns` names `{name}`, which the step adds itself");
        check.error(Some("columns"), Code::Contradiction, message, Some("remove it from `columns`".into()));
    }
}

/// The carried columns of some rows. A value of another type is null.
pub fn carry(carried: &Carried, rows: &RecordBatch) -> Vec<ArrayRef> {
    let options = arrow_cast::CastOptions { safe: true, ..Default::default() };
    let one = |(name, kind): (&String, &ColumnType)| {
        let column = rows.column_by_name(name);
        let there = match kind {
            ColumnType::Clip => column.and_then(clips),
            _ => column.and_then(|column| arrow_cast::cast_with_options(column, &kind.arrow(), &options).ok()),
        };
        there.unwrap_or_else(|| new_null_array(&kind.arrow(), rows.num_rows()))
    };
    carried.iter().map(one).collect()
}

/// A column of clips part by part, found by name, whatever else and in whatever order it holds.
fn clips(column: &ArrayRef) -> Option<ArrayRef> {
    let clips = column.as_struct_opt()?;
    let part = |field: &Arc<Field>| {
        let there = clips.column_by_name(field.name()).map(|part| arrow_cast::cast(part, field.data_type()));
        there.unwrap_or_else(|| Ok(new_null_array(field.data_type(), clips.len()))).ok()
    };
    let parts = clip_fields().iter().map(part).collect::<Option<Vec<_>>>()?;
    Some(Arc::new(StructArray::try_new(clip_fields(), parts, clips.nulls().cloned()).ok()?))
}

/// One row of the carried columns that is nothing but null.
pub fn blank(carried: &Carried) -> Vec<ArrayRef> {
    carried.values().map(|kind| new_null_array(&kind.arrow(), 1)).collect()
}
