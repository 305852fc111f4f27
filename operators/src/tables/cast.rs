//! Columns of tables that others wrote, in the type that is computed with: Polars writes LargeUtf8 and LargeList, pandas Float64, Spark dictionaries.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use std::sync::Arc;

use crate::frames::vectors::Vectors;

fn strictly(column: &ArrayRef, name: &str, to: &DataType) -> Result<ArrayRef, String> {
    let strict = arrow_cast::CastOptions { safe: false, ..Default::default() };
    arrow_cast::cast_with_options(column, to, &strict).map_err(|e| format!("column `{name}`: {e}"))
}

/// The column, if there is one, as text.
pub fn text(batch: &RecordBatch, name: &str) -> Result<Option<StringArray>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    Ok(strictly(column, name, &DataType::Utf8)?.as_string_opt::<i32>().cloned())
}

/// As [`text`], of a column that must be there.
pub fn need_text(batch: &RecordBatch, name: &str) -> Result<StringArray, String> {
    text(batch, name)?.ok_or_else(|| format!("needs a column `{name}`"))
}

/// The column, if there is one, as 64-bit floats.
pub fn numbers(batch: &RecordBatch, name: &str) -> Result<Option<Float64Array>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    Ok(strictly(column, name, &DataType::Float64)?.as_primitive_opt::<Float64Type>().cloned())
}

/// The column, if there is one, as 64-bit integers.
pub fn integers(batch: &RecordBatch, name: &str) -> Result<Option<Int64Array>, String> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    Ok(strictly(column, name, &DataType::Int64)?.as_primitive_opt::<Int64Type>().cloned())
}

/// What a cell says: nothing where it is null or blank.
pub fn cell(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row).trim()).filter(|v| !v.is_empty())
}

/// The type of the items of a list of any layout.
fn item(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item.data_type()),
        _ => None,
    }
}

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// A vector per row; `None` when the type holds none. A text would become a list of one number, so what is no list of numbers is not cast.
pub fn vectors(column: &ArrayRef) -> Option<ListArray> {
    item(column.data_type()).filter(|item| item.is_numeric())?;
    arrow_cast::cast(column, &list_of(DataType::Float32)).ok()?.as_list_opt::<i32>().cloned()
}

/// A list of vectors per row, as [`Vectors`] reads it; `None` when the type holds none.
pub fn lists_of_vectors(column: &ArrayRef) -> Option<ArrayRef> {
    if Vectors::of(column).is_some() {
        return Some(Arc::clone(column));
    }
    item(column.data_type()).and_then(item).filter(|item| item.is_numeric())?;
    arrow_cast::cast(column, &list_of(list_of(DataType::Float32))).ok()
}

/// A list of whole numbers per row; `None` when the type holds none.
pub fn integer_lists(column: &ArrayRef) -> Option<ListArray> {
    item(column.data_type()).filter(|item| item.is_integer())?;
    arrow_cast::cast(column, &list_of(DataType::Int64)).ok()?.as_list_opt::<i32>().cloned()
}
