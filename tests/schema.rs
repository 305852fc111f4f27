//! `datasets/SCHEMA.md` against the tables: every column of every table, by name and type, both ways.

#![allow(clippy::unwrap_used)]

#[path = "support/check.rs"]
mod check;

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use check::{checked, repository};
use curette_engine::commit::table_schema;
use curette_engine::dataflow::tables::{SYSTEM_TABLES, schema};
use curette_engine::operator::Kind;

/// Column name to `type` and `null` of its row.
type Columns = BTreeMap<String, (String, String)>;

/// The tables of the document: each `## NAME` with the rows of the table below it.
fn documented() -> BTreeMap<String, Columns> {
    let text = std::fs::read_to_string(repository().join("datasets/SCHEMA.md")).unwrap();
    let mut tables: BTreeMap<String, Columns> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            table = name.trim().to_owned();
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') || cells[0] == "column" || cells[0].starts_with("---") {
            continue;
        }
        assert_eq!(cells.len(), 6, "{table}: this row has not six cells: {line}");
        assert!(cells[4..].iter().all(|c| !c.is_empty()), "{table}: a cell is empty: {line}");
        let column = (cells[1].to_owned(), cells[2].to_owned());
        let before = tables.entry(table.clone()).or_default().insert(cells[0].to_owned(), column);
        assert_eq!(before, None, "{table}: `{}` is there twice", cells[0]);
    }
    tables
}

/// A type as the document writes it.
fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("List<{}>", name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.name(), name(f.data_type()))).collect();
            format!("Struct<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn columns(schema: &Schema) -> Columns {
    let null = |nullable: bool| if nullable { "yes" } else { "no" }.to_owned();
    schema.fields().iter().map(|f| (f.name().clone(), (name(f.data_type()), null(f.is_nullable())))).collect()
}

#[test]
fn the_document_has_exactly_the_columns_of_the_tables() {
    let graph = checked(&repository().join("pipelines/quickstart.toml")).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let mut written: BTreeMap<String, Columns> = BTreeMap::new();
    for step in graph.steps.iter().filter(|s| s.kind() == Kind::Sink) {
        written.insert(step.name.clone(), columns(&table_schema(&step.name, &step.output).unwrap()));
    }
    for table in SYSTEM_TABLES {
        written.insert(table.to_owned(), columns(&table_schema(table, &schema(table)).unwrap()));
    }
    let ratings = curette_review::rating::schema();
    written.insert("ratings".to_owned(), columns(&table_schema("ratings", &ratings).unwrap()));
    let documented = documented();
    let mut wrong = Vec::new();
    for (table, columns) in &written {
        let Some(told) = documented.get(table) else {
            wrong.push(format!("{table}: not in the document"));
            continue;
        };
        for (column, is) in columns {
            match told.get(column) {
                None => wrong.push(format!("{table}.{column}: {} is not in the document", is.0)),
                Some(says) if says != is => wrong.push(format!("{table}.{column}: is {is:?}, the document says {says:?}")),
                Some(_) => {}
            }
        }
        wrong.extend(told.keys().filter(|c| !columns.contains_key(*c)).map(|c| format!("{table}.{c}: there is no such column")));
    }
    wrong.extend(documented.keys().filter(|t| !written.contains_key(*t)).map(|t| format!("{t}: there is no such table")));
    assert!(wrong.is_empty(), "mend datasets/SCHEMA.md:\n{}", wrong.join("\n"));
}
