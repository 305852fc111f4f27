//! Column types as Hugging Face's `datasets` and as Croissant name them. Pure.
//!
//! What can go wrong: a type that one of them has no name for. A table with such a column is described without features (`datasets` then reads the
//! types from the files), and Croissant's records without that column.

use std::fmt::Write;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};

use super::escape::yaml;

/// The columns as the `features` of a dataset card, each line behind `indent`. `None` if `datasets` has no name for a type.
pub fn huggingface(schema: &Schema, indent: &str) -> Option<String> {
    fields(schema.fields(), indent)
}

fn fields(all: &Fields, indent: &str) -> Option<String> {
    let mut out = String::new();
    for field in all {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{indent}- name: {}", yaml(field.name()));
        let inner = format!("{indent}  ");
        out += &match is_video(field) {
            true => format!("{inner}dtype: video\n"),
            false => of_type(field.data_type(), &inner)?,
        };
    }
    Some(out)
}

fn of_type(data_type: &DataType, indent: &str) -> Option<String> {
    if let Some(name) = value(data_type) {
        return Some(format!("{indent}dtype: {name}\n"));
    }
    match data_type {
        DataType::List(item) => Some(match (value(item.data_type()), item.data_type()) {
            (Some(name), _) => format!("{indent}list: {name}\n"),
            (None, DataType::Struct(inner)) => format!("{indent}list:\n{}", fields(inner, indent)?),
            (None, other) => format!("{indent}list:\n{}", of_type(other, &format!("{indent}  "))?),
        }),
        DataType::Struct(inner) => Some(format!("{indent}struct:\n{}", fields(inner, indent)?)),
        _ => None,
    }
}

fn value(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "bool".into(),
        DataType::Utf8 => "string".into(),
        DataType::LargeUtf8 => "large_string".into(),
        DataType::Binary => "binary".into(),
        DataType::LargeBinary => "large_binary".into(),
        DataType::Date32 => "date32".into(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "timestamp[us]".into(),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) => format!("timestamp[us, tz={zone}]"),
        number if number.is_integer() || number.is_floating() => number.to_string().to_lowercase(),
        _ => return None,
    })
}

/// Bytes and a path, as `clip_cut` writes them and `datasets.Video` reads them.
pub fn is_video(field: &Field) -> bool {
    let DataType::Struct(inner) = field.data_type() else { return false };
    let parts: Vec<(&str, &DataType)> = inner.iter().map(|f| (f.name().as_str(), f.data_type())).collect();
    field.name() == "clip" && parts == [("bytes", &DataType::Binary), ("path", &DataType::Utf8)]
}

/// Croissant's name of a column's type, and whether the column holds lists of it.
pub fn croissant(data_type: &DataType) -> Option<(&'static str, bool)> {
    Some(match data_type {
        DataType::Boolean => ("sc:Boolean", false),
        DataType::Utf8 | DataType::LargeUtf8 => ("sc:Text", false),
        DataType::Date32 | DataType::Timestamp(..) => ("sc:Date", false),
        number if number.is_integer() => ("sc:Integer", false),
        number if number.is_floating() => ("sc:Float", false),
        DataType::List(item) => {
            let (name, list) = croissant(item.data_type())?;
            if list {
                return None;
            }
            (name, true)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nested_columns_are_written_as_datasets_reads_them() {
        let field = |name: &str, t: DataType| Field::new(name, t, true);
        let list = |t: DataType| DataType::new_list(t, true);
        let places = DataType::Struct(vec![field("term", DataType::Utf8), field("n", DataType::Int32)].into());
        let clip = DataType::Struct(vec![field("bytes", DataType::Binary), field("path", DataType::Utf8)].into());
        let schema = Schema::new(vec![
            field("id", DataType::Utf8),
            field("score: \"x\"", DataType::Float32),
            field("tags", list(DataType::Utf8)),
            field("places", list(places.clone())),
            field("vectors", list(list(DataType::Float32))),
            field("one", places),
            field("clip", clip.clone()),
            field("other", clip),
        ]);
        insta::assert_snapshot!(huggingface(&schema, "  ").unwrap(), @r#"
          - name: "id"
            dtype: string
          - name: "score: \"x\""
            dtype: float32
          - name: "tags"
            list: string
          - name: "places"
            list:
            - name: "term"
              dtype: string
            - name: "n"
              dtype: int32
          - name: "vectors"
            list:
              list: float32
          - name: "one"
            struct:
            - name: "term"
              dtype: string
            - name: "n"
              dtype: int32
          - name: "clip"
            dtype: video
          - name: "other"
            struct:
            - name: "bytes"
              dtype: binary
            - name: "path"
              dtype: string
        "#);
        let odd = Schema::new(vec![Arc::new(field("x", DataType::Duration(TimeUnit::Second)))]);
        assert_eq!(huggingface(&odd, ""), None);
        let kinds: Vec<_> = schema.fields().iter().map(|f| croissant(f.data_type())).collect();
        assert_eq!(kinds[..3], [Some(("sc:Text", false)), Some(("sc:Float", false)), Some(("sc:Text", true))]);
        assert_eq!(kinds[3..], [None; 5]);
    }
}
