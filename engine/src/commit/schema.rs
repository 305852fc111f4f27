//! From Arrow types to what a Delta table can hold, and the difference between two schemas in words.
//!
//! Delta knows no fixed-size lists, no unsigned numbers, no views and no dictionaries: they become lists, the next larger signed number and
//! plain values. Everything inside a column is nullable; a column itself keeps its nullability. Field metadata is dropped: the table's
//! schema must depend on names and types alone. What can go wrong: a type that has no counterpart; it is told with the column's path.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow_cast::cast::{CastOptions, cast_with_options};

use super::error::CommitError;

/// The schema that a table for these columns has: what readers will see.
pub fn table_schema(table: &str, schema: &Schema) -> Result<SchemaRef, CommitError> {
    let mut fields = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let data_type = delta_type(field.data_type(), field.name()).map_err(|(column, data_type, help)| {
            CommitError::UnsupportedColumn { table: table.to_owned(), column, data_type: data_type.to_string(), help }
        })?;
        fields.push(Field::new(field.name(), data_type, field.is_nullable()));
    }
    Ok(Arc::new(Schema::new(fields)))
}

type Unsupported = (String, DataType, &'static str);

fn delta_type(data_type: &DataType, path: &str) -> Result<DataType, Unsupported> {
    use DataType::*;
    let unsupported = |help| Err((path.to_owned(), data_type.clone(), help));
    Ok(match data_type {
        Boolean | Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Utf8 | Binary | Date32 => data_type.clone(),
        UInt8 => Int16,
        UInt16 => Int32,
        UInt32 => Int64,
        UInt64 => return unsupported("Delta has no unsigned 64-bit number: make it Int64"),
        Float16 => Float32,
        LargeUtf8 | Utf8View => Utf8,
        LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
        Date64 => Date32,
        Decimal128(precision, scale) if *scale >= 0 => Decimal128(*precision, *scale),
        Timestamp(_, Some(_)) => Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Timestamp(_, None) => return unsupported("a time without a zone: make it a UTC timestamp or microseconds as Int64"),
        Dictionary(_, value) => delta_type(value, path)?,
        List(item) | LargeList(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item) => {
            let item = delta_type(item.data_type(), &format!("{path}[]"))?;
            List(Arc::new(Field::new("element", item, true)))
        }
        Struct(fields) if fields.is_empty() => return unsupported("a struct without fields has no Parquet form"),
        Struct(fields) => {
            let fields = fields.iter().map(|f| {
                let inner = delta_type(f.data_type(), &format!("{path}.{}", f.name()))?;
                Ok(Field::new(f.name(), inner, true))
            });
            Struct(fields.collect::<Result<Fields, Unsupported>>()?)
        }
        _ => return unsupported("use a number, string, binary, boolean, date, UTC timestamp, list or struct"),
    })
}

/// The same rows with the table's columns, in the table's order and types.
pub(crate) fn to_table(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name()).ok_or_else(|| format!("the rows have no column `{}`", field.name()))?;
        convert(column, field)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, String>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|e| e.to_string())
}

fn convert(column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    // Not the default, which turns values that do not fit into nulls.
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &options).map_err(|e| format!("column `{}`: {e}", field.name()))
}

/// What differs between the table that is there and the one that is wanted, one sentence each. Empty: nothing.
pub(crate) fn difference(there: &Schema, wanted: &Schema) -> Vec<String> {
    let mut out = Vec::new();
    for want in wanted.fields() {
        match there.field_with_name(want.name()) {
            Err(_) => out.push(format!("column `{}` is missing in the table", want.name())),
            Ok(have) if have.data_type() != want.data_type() => {
                out.push(format!("column `{}` is {} in the table and {} here", want.name(), have.data_type(), want.data_type()));
            }
            Ok(have) if have.is_nullable() != want.is_nullable() => {
                let nulls = |nullable: bool| if nullable { "may be null" } else { "is never null" };
                let (have, here) = (nulls(have.is_nullable()), nulls(want.is_nullable()));
                out.push(format!("column `{}` {have} in the table and {here} here", want.name()));
            }
            Ok(_) => {}
        }
    }
    for have in there.fields() {
        if wanted.field_with_name(have.name()).is_err() {
            out.push(format!("the table has a column `{}` that this pipeline does not make", have.name()));
        }
    }
    let names = |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    if out.is_empty() && names(there) != names(wanted) {
        out.push(format!("the columns have another order in the table: {}", names(there).join(", ")));
    }
    out
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array, Int32Array, UInt64Array};
    use arrow::datatypes::{Float32Type, Int32Type};

    use super::*;

    #[test]
    fn fixed_size_lists_become_lists_in_schema_and_rows() {
        let embedding = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0), Some(2.0)]), None, Some(vec![Some(3.0), Some(4.0)])],
            2,
        );
        let nested =
            DataType::List(Arc::new(Field::new("item", DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), 2), true)));
        let schema = Schema::new(vec![Field::new("e", embedding.data_type().clone(), true), Field::new("n", nested.clone(), true)]);
        let n = arrow::array::new_null_array(&nested, 3);
        let batch = RecordBatch::try_new(Arc::new(schema.clone()), vec![Arc::new(embedding), n]).unwrap();
        let wanted = table_schema("t", &schema).unwrap();
        insta::assert_snapshot!(wanted.field(1).data_type(), @r#"List(List(Float32, field: 'element'), field: 'element')"#);
        let rows = to_table(&batch, &wanted).unwrap();
        let first = rows.column(0).as_list::<i32>();
        assert!(first.is_null(1));
        assert_eq!(first.value(2).as_primitive::<Float32Type>(), &Float32Array::from(vec![3.0, 4.0]));
    }

    #[test]
    fn rows_are_taken_by_name_and_never_nulled() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
        let batch = RecordBatch::try_from_iter([
            ("b", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
            ("a", Arc::new(Int32Array::from(vec![2])) as ArrayRef),
        ]);
        let rows = to_table(&batch.unwrap(), &schema).unwrap();
        assert_eq!(rows.column(0).as_primitive::<Int32Type>().value(0), 2);
        let too_big = RecordBatch::try_from_iter([("a", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef)]).unwrap();
        assert!(to_table(&too_big, &schema).is_err());
        let other = RecordBatch::try_from_iter([("c", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
        assert_eq!(to_table(&other, &schema).unwrap_err(), "the rows have no column `a`");
    }

    #[test]
    fn a_type_without_counterpart_is_told_with_its_path() {
        let inner = DataType::Struct(vec![Field::new("n", DataType::UInt64, true)].into());
        let schema = Schema::new(vec![Field::new("list", DataType::List(Arc::new(Field::new("item", inner, true))), true)]);
        let error = table_schema("clips", &schema).unwrap_err().to_string();
        insta::assert_snapshot!(error, @"table `clips`: column `list[].n` of type UInt64 cannot be stored in a Delta table (Delta has no unsigned 64-bit number: make it Int64)");
    }

    #[test]
    fn differences_are_told_one_by_one() {
        let field = |name: &str, t: DataType, nullable| Field::new(name, t, nullable);
        let there = Schema::new(vec![field("id", DataType::Utf8, false), field("w", DataType::Int32, true), field("old", DataType::Utf8, true)]);
        let wanted = Schema::new(vec![field("id", DataType::Utf8, true), field("w", DataType::Int64, true), field("new", DataType::Utf8, true)]);
        insta::assert_snapshot!(difference(&there, &wanted).join("\n"), @r"
        column `id` is never null in the table and may be null here
        column `w` is Int32 in the table and Int64 here
        column `new` is missing in the table
        the table has a column `old` that this pipeline does not make
        ");
        assert!(difference(&there, &there).is_empty());
    }
}
