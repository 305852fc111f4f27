//! Operators as text for a terminal.

use serde_json::Value;

use super::example;
use super::pipeline_schema::tidy_default;
use crate::check::type_name;
use crate::config::bounds::Bounds;
use crate::config::schema::{enum_names, first_sentence};
use crate::operator::{Entry, Kind};

/// Width of the text in columns.
const WIDTH: usize = 100;

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "source",
        Kind::Measure => "measure",
        Kind::Filter => "filter",
        Kind::Expand => "expand",
        Kind::Sink => "sink",
    }
}

fn doc(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

/// All operators with one line each.
pub fn ops_list(registry: &[Entry]) -> String {
    let width = registry.iter().map(|e| e.name.len()).max().unwrap_or_default();
    let mut out = String::new();
    for entry in registry {
        let line = first_sentence(doc(&(entry.schema)()));
        out.push_str(&format!("{:width$}  {:7}  {line}\n", entry.name, kind_name(entry.kind)));
    }
    out
}

/// Everything about one operator.
pub fn ops_page(entry: &Entry) -> String {
    let schema = (entry.schema)();
    let mut out = format!("{} ({})\n\n", entry.name, kind_name(entry.kind));
    out.push_str(&wrap(doc(&schema), ""));
    out.push_str("\nKeys\n\n");
    let before = out.len();
    keys(&mut out, "", &schema);
    if out.len() == before {
        out.push_str("  none of its own\n");
    }
    out.push_str(match entry.kind {
        Kind::Source => "\n  Besides: type, on_unmeasured.\n",
        Kind::Sink => "\n  Besides: type, inputs, balance.\n",
        _ => "\n  Besides: type, inputs, on_unmeasured, balance.\n",
    });
    match example(entry) {
        Ok(operator) => {
            let columns = operator.columns();
            out.push_str("\nColumns of the example below\n\n");
            for need in &columns.needs {
                let types = need.types.iter().map(type_name).collect::<Vec<_>>().join(" or ");
                let types = if types.is_empty() { "any type".to_owned() } else { types };
                let may = if need.optional { "may read" } else { "reads" };
                out.push_str(&format!("  {may} {}: {types}\n", need.name));
            }
            for added in &columns.adds {
                let id = if columns.id.as_ref() == Some(added.field.name()) { ", the id of a row from here on" } else { "" };
                out.push_str(&format!("  adds {}: {}{id}\n", added.field.name(), type_name(added.field.data_type())));
                out.push_str(&wrap(&added.doc, "      "));
            }
            if columns.needs.is_empty() && columns.adds.is_empty() {
                out.push_str("  none\n");
            }
        }
        Err(problem) => out.push_str(&format!("\nThe example cannot be read: {problem}\n")),
    }
    out.push_str("\nExample\n\n");
    for line in entry.example.trim().lines() {
        out.push_str(format!("  {line}").trim_end());
        out.push('\n');
    }
    out
}

fn keys(out: &mut String, prefix: &str, schema: &Value) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in properties {
        let mut facts = vec![type_of(property)];
        if required.contains(&name.as_str()) {
            facts.push("required".to_owned());
        }
        match property.get("default") {
            Some(Value::Null | Value::Object(_)) | None => {}
            // A secret's default is masked like any secret.
            Some(Value::String(s)) if s == "***" => {}
            Some(default) => {
                let mut default = default.clone();
                tidy_default(&mut default);
                facts.push(format!("default {default}"));
            }
        }
        let bounds = Bounds::of(property);
        let number = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].iter().any(|k| property.get(*k).is_some());
        if number && !bounds.is_open() {
            facts.push(bounds.to_string());
        }
        out.push_str(&format!("  {prefix}{name}: {}\n", facts.join(", ")));
        out.push_str(&wrap(doc(property), "      "));
        keys(out, &format!("{prefix}{name}."), property);
    }
}

fn type_of(schema: &Value) -> String {
    if let Some(names) = enum_names(schema) {
        return names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(" | ");
    }
    if let Some(alternatives) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let some = alternatives.iter().filter(|a| a.get("type").and_then(Value::as_str) != Some("null"));
        return some.map(type_of).collect::<Vec<_>>().join(" | ");
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}", schema.get("items").map_or("anything".to_owned(), type_of)),
        "object" => "table".to_owned(),
        other => other.to_owned(),
    };
    match schema.get("type") {
        Some(Value::String(name)) => one(name),
        Some(Value::Array(list)) => {
            let names = list.iter().filter_map(Value::as_str).filter(|n| *n != "null");
            names.map(one).collect::<Vec<_>>().join(" | ")
        }
        _ => "anything".to_owned(),
    }
}

/// Paragraphs filled to the width; lists and code keep their lines.
fn wrap(text: &str, indent: &str) -> String {
    let mut out = String::new();
    for paragraph in text.split("\n\n").filter(|p| !p.trim().is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        let keep = paragraph.lines().any(|l| l.starts_with(['-', '*', '|', ' ']) || l.starts_with("```"));
        if keep {
            paragraph.lines().for_each(|line| out.push_str(&format!("{indent}{line}\n")));
            continue;
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent.len() + line.chars().count() + 1 + word.chars().count() > WIDTH {
                out.push_str(&format!("{indent}{line}\n"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        out.push_str(&format!("{indent}{line}\n"));
    }
    out
}
