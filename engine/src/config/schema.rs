//! Holds a TOML table against a JSON Schema (the part of draft-07 that operators' structs give) and reports every mistake in it.
//!
//! Why not leave it to serde: serde stops at the first mistake, knows no ranges and no documentation. The schema comes from the same struct, so the
//! two cannot disagree about what exists.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::bounds::{Bounds, number};
use crate::diag::{Code, Diagnostic, did_you_mean, is_secret};

/// What was found in a table, by its own keys.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Keys that do not exist: the table is good without them.
    pub unknown: Vec<String>,
    /// Keys whose value cannot be parsed.
    pub wrong: Vec<String>,
    /// A key without a default is not there.
    pub missing: bool,
}

/// Checks tables of one file.
pub(crate) struct Validator<'a> {
    pub text: &'a str,
    /// Starts of values that are not known.
    pub skip: &'a BTreeSet<usize>,
    pub diagnostics: &'a mut Vec<Diagnostic>,
}

impl Validator<'_> {
    /// Checks `table` against the object schema `schema`. `owner` is what messages call the table, `header` what is marked when a key is missing,
    /// `common` keys that are allowed besides and checked elsewhere.
    pub fn table(&mut self, owner: &str, header: Range<usize>, table: &DeTable<'_>, schema: &Value, common: &[&str]) -> Found {
        let root = Root(schema);
        self.object("", owner, &header, table, schema, &root, common)
    }

    #[expect(clippy::too_many_arguments, reason = "a private recursion")]
    fn object(
        &mut self,
        prefix: &str,
        owner: &str,
        header: &Range<usize>,
        table: &DeTable<'_>,
        schema: &Value,
        root: &Root<'_>,
        common: &[&str],
    ) -> Found {
        let mut found = Found::default();
        let empty = serde_json::Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties");
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            if common.contains(&name) {
                continue;
            }
            let path = format!("{prefix}{name}");
            match (properties.get(name), others) {
                (Some(property), _) => {
                    if !self.value(&path, value, property, root) {
                        found.wrong.push(name.to_owned());
                    }
                }
                (None, Some(property @ Value::Object(_))) => {
                    if !self.value(&path, value, property, root) {
                        found.wrong.push(name.to_owned());
                    }
                }
                (None, Some(Value::Bool(true))) => {}
                (None, None) if properties.is_empty() => {}
                (None, _) => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).chain(common.iter().copied()).collect();
                    let d = Diagnostic::new(Code::UnknownKey, format!("{owner} has no key `{path}`"), key.span(), "unknown key");
                    self.diagnostics.push(match did_you_mean(name, known.iter().copied()) {
                        Some(near) => d.help(format!("did you mean `{near}`?")),
                        None => d.help(format!("its keys are: {}", known.join(", "))),
                    });
                    found.unknown.push(name.to_owned());
                }
            }
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                found.missing = true;
                let d = Diagnostic::new(
                    Code::MissingKey,
                    format!("{owner} needs the key `{prefix}{name}`"),
                    header.clone(),
                    format!("without `{name}`"),
                );
                let doc = properties.get(name).and_then(|p| p.get("description")).and_then(Value::as_str).map(first_sentence);
                self.diagnostics.push(match doc {
                    Some(doc) => d.help(format!("`{name}`: {doc}")),
                    None => d.help(format!("add `{name} = ...`")),
                });
            }
        }
        found
    }

    /// True if the value can be parsed (it may still be out of range).
    fn value(&mut self, path: &str, value: &Spanned<DeValue<'_>>, schema: &Value, root: &Root<'_>) -> bool {
        if self.skip.contains(&value.span().start) {
            return true;
        }
        let schema = root.resolve(schema);
        if let Some(names) = names(schema, root) {
            return self.name(path, value, &names);
        }
        for union in ["anyOf", "oneOf"] {
            if let Some(alternatives) = schema.get(union).and_then(Value::as_array) {
                return self.one_of(path, value, alternatives, root);
            }
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if !self.value(path, value, part, root) {
                return false;
            }
        }
        let types = types(schema);
        if types.is_empty() {
            return true;
        }
        if !types.iter().any(|t| is_type(value.get_ref(), t)) {
            let wanted: Vec<&str> = types.iter().map(|t| said(t)).collect();
            let d = Diagnostic::new(
                Code::WrongType,
                format!("`{path}` takes {}, not {}", wanted.join(" or "), is_a(value.get_ref())),
                value.span(),
                is_a(value.get_ref()),
            );
            self.diagnostics.push(match self.remedy(value, &types).filter(|_| !is_secret(path)) {
                Some(help) => d.help(help),
                None => d,
            });
            return false;
        }
        self.content(path, value, schema, root)
    }

    fn content(&mut self, path: &str, value: &Spanned<DeValue<'_>>, schema: &Value, root: &Root<'_>) -> bool {
        match value.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) => {
                let number = number(value.get_ref());
                let range = Bounds::of(schema);
                if !number.is_some_and(|n| range.holds(n)) {
                    let shown = self.text.get(value.span()).unwrap_or_default();
                    let message = format!("`{path}` must be {range}");
                    let d = Diagnostic::new(Code::OutOfRange, message, value.span(), format!("{shown} is out of range"));
                    self.diagnostics.push(with_doc(d, schema));
                    // serde would refuse what does not fit the machine type.
                    return number.is_some_and(|n| Bounds::of_format(schema).holds(n));
                }
                true
            }
            DeValue::String(text) => {
                let length = |key| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                let chars = text.chars().count();
                if length("minLength").is_some_and(|min| chars < min) || length("maxLength").is_some_and(|max| chars > max) {
                    let message = match (length("minLength"), length("maxLength")) {
                        (Some(1), _) if chars == 0 => format!("`{path}` must not be empty"),
                        (Some(min), Some(max)) => format!("`{path}` must have {min} to {max} characters"),
                        (Some(min), None) => format!("`{path}` must have at least {min} characters"),
                        (_, max) => format!("`{path}` must have at most {} characters", max.unwrap_or_default()),
                    };
                    let d = Diagnostic::new(Code::OutOfRange, message, value.span(), format!("{chars} characters"));
                    self.diagnostics.push(with_doc(d, schema));
                }
                true
            }
            DeValue::Array(items) => {
                let count = |key| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
                let (min, max) = (count("minItems"), count("maxItems"));
                if min.is_some_and(|min| items.len() < min) || max.is_some_and(|max| items.len() > max) {
                    let message = match (min, max) {
                        (Some(1), _) if items.is_empty() => format!("`{path}` must not be empty"),
                        (Some(min), Some(max)) if min == max => format!("`{path}` must have {min} entries"),
                        (Some(min), Some(max)) => format!("`{path}` must have {min} to {max} entries"),
                        (Some(min), None) => format!("`{path}` must have at least {min} entries"),
                        (_, max) => format!("`{path}` must have at most {} entries", max.unwrap_or_default()),
                    };
                    let d = Diagnostic::new(Code::OutOfRange, message, value.span(), format!("{} entries", items.len()));
                    self.diagnostics.push(with_doc(d, schema));
                }
                let each = schema.get("items");
                // A tuple of another length cannot be parsed.
                let mut good = min != max || min.is_none_or(|n| n == items.len());
                for (i, item) in items.iter().enumerate() {
                    let item_schema = match each {
                        Some(Value::Array(list)) => list.get(i),
                        other => other,
                    };
                    if let Some(item_schema) = item_schema {
                        good &= self.value(&format!("{path}[{i}]"), item, item_schema, root);
                    }
                }
                good
            }
            DeValue::Table(table) => {
                let found = self.object(&format!("{path}."), &format!("`{path}`"), &value.span(), table, schema, root, &[]);
                found.unknown.is_empty() && found.wrong.is_empty() && !found.missing
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    /// A value that may have one of several shapes: fine if one fits; else the mistakes of the one that fits best.
    fn one_of(&mut self, path: &str, value: &Spanned<DeValue<'_>>, alternatives: &[Value], root: &Root<'_>) -> bool {
        let mut best: Option<(Vec<Diagnostic>, bool)> = None;
        for alternative in alternatives.iter().filter(|a| a.get("type").and_then(Value::as_str) != Some("null")) {
            let mut diagnostics = Vec::new();
            let mut validator = Validator { text: self.text, skip: self.skip, diagnostics: &mut diagnostics };
            let good = validator.value(path, value, alternative, root);
            if diagnostics.is_empty() {
                return good;
            }
            // A mistake of the type says that this alternative was not meant.
            let rank =
                |d: &[Diagnostic]| (d.iter().any(|d| d.code == Code::WrongType && d.labels[0].span == value.span()), d.len());
            if best.as_ref().is_none_or(|(b, _)| rank(&diagnostics) < rank(b)) {
                best = Some((diagnostics, good));
            }
        }
        let (diagnostics, good) = best.unwrap_or_default();
        self.diagnostics.extend(diagnostics);
        good
    }

    fn name(&mut self, path: &str, value: &Spanned<DeValue<'_>>, names: &[&str]) -> bool {
        let list = names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        let Some(given) = value.get_ref().as_str() else {
            let message = format!("`{path}` takes one of {list}, not {}", is_a(value.get_ref()));
            self.diagnostics.push(Diagnostic::new(Code::WrongType, message, value.span(), is_a(value.get_ref())));
            return false;
        };
        if names.contains(&given) {
            return true;
        }
        let d = Diagnostic::new(Code::UnknownVariant, format!("`{path}` takes one of {list}"), value.span(), "none of them");
        self.diagnostics.push(match did_you_mean(given, names.iter().copied()) {
            Some(near) => d.help(format!("did you mean \"{near}\"?")),
            None => d,
        });
        false
    }

    fn remedy(&self, value: &Spanned<DeValue<'_>>, types: &[&str]) -> Option<String> {
        let shown = self.text.get(value.span())?;
        match value.get_ref() {
            DeValue::String(s) if types.iter().any(|t| ["integer", "number"].contains(t)) && s.trim().parse::<f64>().is_ok() => {
                Some(format!("without quotes: {}", s.trim()))
            }
            DeValue::String(s) if types.contains(&"boolean") && ["true", "false"].contains(&s.trim()) => {
                Some(format!("without quotes: {}", s.trim()))
            }
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) if types.contains(&"string") => {
                Some(format!("in quotes: \"{shown}\""))
            }
            DeValue::Float(_) if types.contains(&"integer") => Some("write it without a decimal point".to_owned()),
            DeValue::String(_) if types.contains(&"array") => Some(format!("in brackets: [{shown}]")),
            _ => None,
        }
    }
}

/// The schema that `$ref`s start from.
struct Root<'a>(&'a Value);

impl<'a> Root<'a> {
    /// Follows references, at most as many as a sane schema has.
    fn resolve(&self, schema: &'a Value) -> &'a Value
    where
        Self: 'a,
    {
        let mut here = schema;
        for _ in 0..16 {
            let Some(target) = here.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#')) else { break };
            match self.0.pointer(target) {
                Some(next) => here = next,
                None => break,
            }
        }
        here
    }
}

/// The names that an enum schema allows; `None` if it is not one.
pub(crate) fn enum_names(schema: &Value) -> Option<Vec<&str>> {
    names(schema, &Root(schema))
}

fn names<'a>(schema: &'a Value, root: &Root<'a>) -> Option<Vec<&'a str>> {
    let schema = root.resolve(schema);
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        return Some(list.iter().filter_map(Value::as_str).collect());
    }
    if let Some(one) = schema.get("const").and_then(Value::as_str) {
        return Some(vec![one]);
    }
    let alternatives = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array)?;
    let mut all = Vec::new();
    for alternative in alternatives.iter().filter(|a| a.get("type").and_then(Value::as_str) != Some("null")) {
        all.extend(names(alternative, root)?);
    }
    (!all.is_empty()).then_some(all)
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(t)) => vec![t.as_str()],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        _ => Vec::new(),
    }
}

fn is_type(value: &DeValue<'_>, name: &str) -> bool {
    match value {
        DeValue::String(_) => name == "string",
        DeValue::Integer(_) => name == "integer" || name == "number",
        DeValue::Float(_) => name == "number",
        DeValue::Boolean(_) => name == "boolean",
        DeValue::Array(_) => name == "array",
        DeValue::Table(_) => name == "object",
        DeValue::Datetime(_) => false,
    }
}

fn said(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}

/// What a value is, in words.
pub(crate) fn is_a(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
        DeValue::Datetime(_) => "a date",
    }
}

fn with_doc(d: Diagnostic, schema: &Value) -> Diagnostic {
    match schema.get("description").and_then(Value::as_str) {
        Some(doc) => d.help(first_sentence(doc)),
        None => d,
    }
}

/// The first sentence of a documentation text, on one line.
pub(crate) fn first_sentence(text: &str) -> String {
    let line: String = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    match line.find(". ") {
        Some(at) => line[..at].to_owned(),
        None => line.trim_end_matches('.').to_owned(),
    }
}
