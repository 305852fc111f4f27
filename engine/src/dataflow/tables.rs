//! The tables that every run writes beside its sinks: `rejects`, `errors` and `stages`.
//!
//! `stages` holds the sums of each step of each split and is committed last: a split that stands there stands everywhere.

use std::sync::Arc;

use arrow::array::builder::{Int64Builder, ListBuilder, StringBuilder, StructBuilder};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};

use super::compile::Program;
use super::ledger::{Counts, Entry};

/// Name and folder of the table of rows dropped by a rule.
pub const REJECTS: &str = "rejects";
/// Name and folder of the table of rows that could not be measured.
pub const ERRORS: &str = "errors";
/// Name and folder of the table of sums.
pub const STAGES: &str = "stages";
/// The tables in the order in which they are committed, after the sinks.
pub const SYSTEM_TABLES: [&str; 3] = [REJECTS, ERRORS, STAGES];
/// Row groups of these.
pub const SYSTEM_ROW_GROUP_BYTES: u64 = 8 << 20;

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

/// The schema of a system table.
pub fn schema(table: &str) -> SchemaRef {
    let id = |name: &str| text(name);
    let split = Field::new("split", DataType::Int32, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let fields = match table {
        REJECTS => vec![
            id("item_id"),
            id("root_id"),
            text("step"),
            text("operator"),
            text("code"),
            Field::new("measured", DataType::Float64, true),
            Field::new("threshold", DataType::Float64, true),
            text("message"),
            split,
        ],
        ERRORS => vec![
            id("item_id"),
            id("root_id"),
            text("step"),
            text("operator"),
            text("code"),
            text("message"),
            Field::new("kept", DataType::Boolean, true),
            split,
        ],
        _ => vec![
            split,
            text("step"),
            text("operator"),
            number("rows_in"),
            number("passed"),
            number("rows_out"),
            number("rejected"),
            number("errors"),
            number("kept_errors"),
            Field::new_list("reasons", Field::new("item", DataType::Struct(reason_fields()), true), true),
        ],
    };
    Arc::new(Schema::new(fields))
}

fn reason_fields() -> Fields {
    Fields::from(vec![text("outcome"), text("code"), Field::new("rows", DataType::Int64, true)])
}

/// The rows that one complete split adds to the system tables, in the order of [`SYSTEM_TABLES`].
pub fn batches(program: &Program, split: u32, entries: &[Entry], counts: &[Counts]) -> [RecordBatch; 3] {
    let make = |table: &str, columns: Vec<ArrayRef>| {
        RecordBatch::try_new(schema(table), columns).unwrap_or_else(|e| panic!("table {table}: {e}"))
    };
    let step = |e: &Entry| &program.steps[e.step as usize];
    let strings = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let splits = |n: usize| Arc::new(Int32Array::from_value(split as i32, n)) as ArrayRef;

    let mut rejects: Vec<_> = entries.iter().flat_map(|e| e.rejects.iter().map(move |r| (e, r))).collect();
    rejects.sort_by(|a, b| (a.0.step, &a.1.item_id, &a.1.code).cmp(&(b.0.step, &b.1.item_id, &b.1.code)));
    let rejects = make(
        REJECTS,
        vec![
            strings(rejects.iter().map(|(_, r)| r.item_id.as_str()).collect()),
            strings(rejects.iter().map(|(_, r)| r.root_id.as_str()).collect()),
            strings(rejects.iter().map(|(e, _)| &*step(e).name).collect()),
            strings(rejects.iter().map(|(e, _)| step(e).operator).collect()),
            strings(rejects.iter().map(|(_, r)| r.code.as_str()).collect()),
            Arc::new(Float64Array::from_iter(rejects.iter().map(|(_, r)| r.measured))),
            Arc::new(Float64Array::from_iter(rejects.iter().map(|(_, r)| r.threshold))),
            strings(rejects.iter().map(|(_, r)| r.message.as_str()).collect()),
            splits(rejects.len()),
        ],
    );

    let mut errors: Vec<_> = entries.iter().flat_map(|e| e.errors.iter().map(move |r| (e, r))).collect();
    errors.sort_by(|a, b| (a.0.step, &a.1.item_id, &a.1.code).cmp(&(b.0.step, &b.1.item_id, &b.1.code)));
    let errors = make(
        ERRORS,
        vec![
            strings(errors.iter().map(|(_, r)| r.item_id.as_str()).collect()),
            strings(errors.iter().map(|(_, r)| r.root_id.as_str()).collect()),
            strings(errors.iter().map(|(e, _)| &*step(e).name).collect()),
            strings(errors.iter().map(|(e, _)| step(e).operator).collect()),
            strings(errors.iter().map(|(_, r)| r.code.as_str()).collect()),
            strings(errors.iter().map(|(_, r)| r.message.as_str()).collect()),
            Arc::new(BooleanArray::from_iter(errors.iter().map(|(_, r)| Some(r.kept)))),
            splits(errors.len()),
        ],
    );

    let rows: Vec<_> = program.steps.iter().zip(counts).filter(|(_, c)| c.rows_in > 0).collect();
    let number =
        |f: fn(&Counts) -> u64| Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, c)| f(c) as i64))) as ArrayRef;
    let stages = make(
        STAGES,
        vec![
            splits(rows.len()),
            strings(rows.iter().map(|(s, _)| &*s.name).collect()),
            strings(rows.iter().map(|(s, _)| s.operator).collect()),
            number(|c| c.rows_in),
            number(|c| c.passed),
            number(|c| c.rows_out),
            number(Counts::rejected_total),
            number(Counts::errors_total),
            number(|c| c.kept_errors.values().sum()),
            reasons(rows.iter().map(|(_, c)| *c)),
        ],
    );
    [rejects, errors, stages]
}

fn reasons<'a>(counts: impl Iterator<Item = &'a Counts>) -> ArrayRef {
    let values = StructBuilder::new(
        reason_fields(),
        vec![Box::new(StringBuilder::new()), Box::new(StringBuilder::new()), Box::new(Int64Builder::new())],
    );
    let mut list = ListBuilder::new(values);
    for c in counts {
        for (outcome, map) in [("rejected", &c.rejected), ("error", &c.errors), ("kept_error", &c.kept_errors)] {
            for (code, rows) in map {
                let item = list.values();
                for (at, value) in [outcome, code.as_str()].into_iter().enumerate() {
                    if let Some(field) = item.field_builder::<StringBuilder>(at) {
                        field.append_value(value);
                    }
                }
                if let Some(field) = item.field_builder::<Int64Builder>(2) {
                    field.append_value(*rows as i64);
                }
                item.append(true);
            }
        }
        list.append(true);
    }
    Arc::new(list.finish())
}

/// Adds rows of the `stages` table to the sums of the steps in `names`.
pub fn add_stages(names: &[String], batch: &RecordBatch, sums: &mut [Counts]) -> Result<(), String> {
    let missing = |name: &str| format!("the stages table has no column `{name}` of the expected type");
    let steps = batch.column_by_name("step").and_then(|c| c.as_string_opt::<i32>()).ok_or_else(|| missing("step"))?;
    let number =
        |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(|| missing(name));
    let (rows_in, passed, rows_out) = (number("rows_in")?, number("passed")?, number("rows_out")?);
    let reasons = batch.column_by_name("reasons").and_then(|c| c.as_list_opt::<i32>()).ok_or_else(|| missing("reasons"))?;
    for row in 0..batch.num_rows() {
        let Some(step) = names.iter().position(|n| n == steps.value(row)) else {
            return Err(format!("the stages table has a step `{}` that the pipeline does not have", steps.value(row)));
        };
        let sum = &mut sums[step];
        sum.rows_in += rows_in.value(row) as u64;
        sum.passed += passed.value(row) as u64;
        sum.rows_out += rows_out.value(row) as u64;
        let items = reasons.value(row);
        let items = items.as_struct_opt().ok_or_else(|| missing("reasons"))?;
        let part = |name: &str| items.column_by_name(name).ok_or_else(|| missing("reasons"));
        let (outcome, code, rows) = (part("outcome")?, part("code")?, part("rows")?);
        let (Some(outcome), Some(code), Some(rows)) =
            (outcome.as_string_opt::<i32>(), code.as_string_opt::<i32>(), rows.as_primitive_opt::<Int64Type>())
        else {
            return Err(missing("reasons"));
        };
        for i in 0..items.len() {
            let map = match outcome.value(i) {
                "rejected" => &mut sum.rejected,
                "error" => &mut sum.errors,
                "kept_error" => &mut sum.kept_errors,
                other => return Err(format!("the stages table has an unknown outcome `{other}`")),
            };
            *map.entry(code.value(i).to_string()).or_default() += rows.value(i) as u64;
        }
    }
    Ok(())
}
