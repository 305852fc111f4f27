//! Statistics of a shard, as the Delta log wants them: how many rows, how many nulls, smallest and largest value of each simple column.
//! Readers skip files by them. Columns that would not help (binary, lists, structs) have none.
//!
//! What can go wrong: a bound that is too tight hides rows from readers. So long strings are cut to a prefix (and the upper bound raised
//! above everything that starts with it), and a float column that holds a NaN has no bounds.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema};
use serde_json::{Map, Value, json};

/// Strings are cut to this many characters.
const MAX_STRING_CHARS: usize = 32;

/// Columns beyond these many have no statistics: Delta's own default.
const MAX_COLUMNS: usize = 32;

#[derive(Debug, Default)]
struct Bounds<T> {
    min: Option<T>,
    max: Option<T>,
}

impl<T: PartialOrd + Clone> Bounds<T> {
    fn add(&mut self, value: T) {
        if self.min.as_ref().is_none_or(|min| value < *min) {
            self.min = Some(value.clone());
        }
        if self.max.as_ref().is_none_or(|max| value > *max) {
            self.max = Some(value);
        }
    }
}

#[derive(Debug)]
enum Range {
    Ints(Bounds<i64>),
    Floats(Bounds<f64>),
    Strings(Bounds<String>),
    None,
}

#[derive(Debug)]
struct Column {
    name: String,
    index: usize,
    nulls: u64,
    range: Range,
}

/// Collects the statistics of one shard, batch by batch.
#[derive(Debug)]
pub(crate) struct Collector {
    rows: u64,
    columns: Vec<Column>,
}

impl Collector {
    /// Starts for rows of a table's schema.
    pub fn new(schema: &Schema) -> Self {
        let simple = schema.fields().iter().enumerate().take(MAX_COLUMNS).filter(|(_, f)| !f.data_type().is_nested());
        let columns = simple.map(|(index, field)| Column {
            name: field.name().clone(),
            index,
            nulls: 0,
            range: match field.data_type() {
                DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Range::Ints(Bounds::default()),
                DataType::Float32 | DataType::Float64 => Range::Floats(Bounds::default()),
                DataType::Utf8 => Range::Strings(Bounds::default()),
                _ => Range::None,
            },
        });
        Collector { rows: 0, columns: columns.collect() }
    }

    /// Takes rows into account.
    pub fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for column in &mut self.columns {
            let array = batch.column(column.index);
            column.nulls += array.null_count() as u64;
            if !add_range(&mut column.range, array) {
                column.range = Range::None;
            }
        }
    }

    /// The statistics as JSON text.
    pub fn to_json(&self) -> String {
        let (mut nulls, mut min, mut max) = (Map::new(), Map::new(), Map::new());
        for column in &self.columns {
            nulls.insert(column.name.clone(), json!(column.nulls));
            let (low, high) = match &column.range {
                Range::Ints(b) => (b.min.map(|v| json!(v)), b.max.map(|v| json!(v))),
                // Infinities have no JSON form: no bounds then.
                Range::Floats(b) => match (b.min, b.max) {
                    (Some(low), Some(high)) if low.is_finite() && high.is_finite() => (Some(json!(low)), Some(json!(high))),
                    _ => (None, None),
                },
                Range::Strings(b) => (b.min.as_deref().map(lower), b.max.as_deref().map(upper)),
                Range::None => (None, None),
            };
            min.extend(low.map(|v| (column.name.clone(), v)));
            max.extend(high.map(|v| (column.name.clone(), v)));
        }
        json!({"numRecords": self.rows, "nullCount": nulls, "minValues": min, "maxValues": max, "tightBounds": true}).to_string()
    }
}

/// False if the column can have no bounds from here on.
fn add_range(range: &mut Range, array: &ArrayRef) -> bool {
    macro_rules! ints {
        ($bounds:expr, $type:ty) => {
            array.as_primitive::<$type>().iter().flatten().for_each(|v| $bounds.add(i64::from(v)))
        };
    }
    match range {
        Range::Ints(bounds) => match array.data_type() {
            DataType::Int8 => ints!(bounds, Int8Type),
            DataType::Int16 => ints!(bounds, Int16Type),
            DataType::Int32 => ints!(bounds, Int32Type),
            DataType::Int64 => ints!(bounds, Int64Type),
            _ => return false,
        },
        Range::Floats(bounds) => {
            let mut add = |v: f64| {
                bounds.add(v);
                !v.is_nan()
            };
            return match array.data_type() {
                DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().all(|v| add(f64::from(v))),
                DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().all(add),
                _ => false,
            };
        }
        Range::Strings(bounds) => {
            for value in array.as_string::<i32>().iter().flatten() {
                // Compare before copying: most values are inside.
                if bounds.min.as_deref().is_none_or(|min| value.cmp(min) == Ordering::Less) {
                    bounds.min = Some(value.to_owned());
                }
                if bounds.max.as_deref().is_none_or(|max| value.cmp(max) == Ordering::Greater) {
                    bounds.max = Some(value.to_owned());
                }
            }
        }
        Range::None => {}
    }
    true
}

/// A prefix is never larger than the string.
fn lower(text: &str) -> Value {
    json!(prefix(text))
}

/// The prefix and the largest character there is: never smaller than a string that starts with the prefix.
fn upper(text: &str) -> Value {
    let cut = prefix(text);
    if cut.len() == text.len() { json!(cut) } else { json!(format!("{cut}{}", char::MAX)) }
}

fn prefix(text: &str) -> &str {
    text.char_indices().nth(MAX_STRING_CHARS).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Float64Array, Int32Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_log_is_told() {
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(StringArray::from(vec!["b".repeat(40), "a".into()])) as ArrayRef),
            ("n", Arc::new(Int32Array::from(vec![Some(-3), None])) as ArrayRef),
            ("x", Arc::new(Float64Array::from(vec![0.5, 1.5])) as ArrayRef),
            ("y", Arc::new(Float64Array::from(vec![1.0, f64::NAN])) as ArrayRef),
            ("z", Arc::new(Float64Array::from(vec![1.0, f64::INFINITY])) as ArrayRef),
            ("clip", Arc::new(BinaryArray::from(vec![None, Some(&b"x"[..])])) as ArrayRef),
        ])
        .unwrap();
        let mut collector = Collector::new(&batch.schema());
        collector.add(&batch);
        insta::assert_snapshot!(collector.to_json(), @r#"{"numRecords":2,"nullCount":{"id":0,"n":1,"x":0,"y":0,"z":0,"clip":1},"minValues":{"id":"a","n":-3,"x":0.5},"maxValues":{"id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb􏿿","n":-3,"x":1.5},"tightBounds":true}"#);
    }

    proptest! {
        #[test]
        fn bounds_hold_for_any_string(text in "\\PC{0,80}") {
            let (low, high) = (lower(&text), upper(&text));
            prop_assert!(low.as_str().unwrap() <= text.as_str());
            prop_assert!(high.as_str().unwrap() >= text.as_str());
        }
    }
}
