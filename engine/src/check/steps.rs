//! One step by itself: its name, type, common keys and parameters.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::report::Reporter;
use super::settings;
use crate::config::schema::{Validator, enum_names, is_a};
use crate::config::{COMMON_KEYS, Places, RawStep};
use crate::diag::{Code, Diagnostic, did_you_mean};
use crate::graph::OnUnmeasured;
use crate::operator::{DynOperator, Entry, Kind, Paths};

/// What a step stands in.
pub(super) struct Surroundings<'a> {
    pub text: &'a str,
    pub unknown: &'a BTreeSet<usize>,
    pub paths: &'a Paths,
}

/// A step as far as it could be read.
pub(super) struct Parsed {
    pub name: String,
    pub places: Places,
    /// The registry line of its type, if there is one.
    pub entry: Option<Entry>,
    pub operator: Option<Arc<dyn DynOperator>>,
    /// False if a parameter was wrong: the operator may look different from what the user means.
    pub sure: bool,
    /// Names and where they stand.
    pub inputs: Vec<(String, Range<usize>)>,
    /// False if `inputs` itself could not be read.
    pub inputs_known: bool,
    pub on_unmeasured: Option<OnUnmeasured>,
    pub balance: Option<bool>,
}

impl Parsed {
    pub fn kind(&self) -> Option<Kind> {
        self.entry.map(|e| e.kind)
    }

    /// The operator, if it is surely what the user means.
    pub fn sure_operator(&self) -> Option<&Arc<dyn DynOperator>> {
        self.operator.as_ref().filter(|_| self.sure)
    }
}

pub(super) fn parse(raw: RawStep<'_>, registry: &[Entry], around: &Surroundings, diagnostics: &mut Vec<Diagnostic>) -> Parsed {
    let RawStep { name, places, mut table, broken } = raw;
    let mut parsed = Parsed {
        name,
        places,
        entry: None,
        operator: None,
        sure: false,
        inputs: Vec::new(),
        inputs_known: false,
        on_unmeasured: None,
        balance: None,
    };
    if broken {
        return parsed;
    }
    if !settings::is_name(&parsed.name) {
        let message = format!("the name of a step has {}", settings::NAME_RULE);
        diagnostics.push(Diagnostic::new(Code::BadName, message, parsed.places.header.clone(), "not a name"));
    }
    parsed.entry = find_type(&parsed, table.get_ref(), registry, around, diagnostics);
    read_common(&mut parsed, table.get_mut(), around, diagnostics);
    if let Some(entry) = parsed.entry {
        read_parameters(&mut parsed, table, entry, around, diagnostics);
    }
    parsed
}

fn find_type(
    step: &Parsed,
    table: &DeTable<'_>,
    registry: &[Entry],
    around: &Surroundings,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Entry> {
    let Some(value) = table.get("type") else {
        let d = Diagnostic::new(
            Code::MissingType,
            format!("step `{}` has no `type`", step.name),
            step.places.header.clone(),
            "no type",
        );
        // A name that is an operator's is a good guess.
        diagnostics.push(match did_you_mean(&step.name, registry.iter().map(|e| e.name)) {
            Some(near) => d.help(format!("perhaps `type = \"{near}\"`; `curette ops` lists all operators")),
            None => d.help("`curette ops` lists all operators"),
        });
        return None;
    };
    if around.unknown.contains(&value.span().start) {
        return None;
    }
    let Some(name) = value.get_ref().as_str() else {
        diagnostics.push(wrong_type("type", value, "the name of an operator"));
        return None;
    };
    let entry = registry.iter().find(|e| e.name == name).copied();
    if entry.is_none() {
        let d = Diagnostic::new(Code::UnknownType, format!("there is no operator `{name}`"), value.span(), "unknown operator");
        diagnostics.push(match did_you_mean(name, registry.iter().map(|e| e.name)) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help("`curette ops` lists all operators"),
        });
    }
    entry
}

fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Diagnostic {
    let is = is_a(value.get_ref());
    Diagnostic::new(Code::WrongType, format!("`{key}` takes {wanted}, not {is}"), value.span(), is)
}

/// Takes the common keys out of the table.
fn read_common(step: &mut Parsed, table: &mut DeTable<'_>, around: &Surroundings, diagnostics: &mut Vec<Diagnostic>) {
    table.remove("type");
    step.inputs_known = true;
    if let Some(value) = table.remove("inputs") {
        match value.get_ref() {
            DeValue::Array(items) => {
                for item in items {
                    match item.get_ref().as_str() {
                        _ if around.unknown.contains(&item.span().start) => step.inputs_known = false,
                        Some(name) => step.inputs.push((name.to_owned(), item.span())),
                        None => {
                            diagnostics.push(wrong_type("inputs", item, "names of steps"));
                            step.inputs_known = false;
                        }
                    }
                }
            }
            other => {
                let d = wrong_type("inputs", &value, "a list of names of steps");
                diagnostics.push(match other.as_str() {
                    Some(name) => d.help(format!("in brackets: [\"{name}\"]")),
                    None => d,
                });
                step.inputs_known = false;
            }
        }
    }
    let kind = step.kind();
    if let Some(value) = table.remove("on_unmeasured") {
        let schema = settings::schema_of::<OnUnmeasured>();
        let names = enum_names(&schema).unwrap_or_default().join("\", \"");
        match value.get_ref().as_str() {
            _ if around.unknown.contains(&value.span().start) => {}
            None => diagnostics.push(wrong_type("on_unmeasured", &value, &format!("one of \"{names}\""))),
            Some("error") => step.on_unmeasured = Some(OnUnmeasured::Error),
            Some("reject") => step.on_unmeasured = Some(OnUnmeasured::Reject),
            Some("keep") => step.on_unmeasured = Some(OnUnmeasured::Keep),
            Some(given) => {
                let message = format!("`on_unmeasured` takes one of \"{names}\"");
                let d = Diagnostic::new(Code::UnknownVariant, message, value.span(), "none of them");
                diagnostics.push(match did_you_mean(given, ["error", "reject", "keep"]) {
                    Some(near) => d.help(format!("did you mean \"{near}\"?")),
                    None => d,
                });
            }
        }
        let contradiction = match (kind, step.on_unmeasured) {
            (Some(Kind::Expand), Some(OnUnmeasured::Keep)) => {
                Some(("a row that could not be expanded has no rows to keep", "choose \"error\" or \"reject\""))
            }
            (Some(Kind::Sink), _) => Some(("a sink measures nothing", "remove `on_unmeasured`")),
            _ => None,
        };
        if let Some((message, help)) = contradiction {
            diagnostics.push(Diagnostic::new(Code::Contradiction, message, value.span(), "no effect here").help(help));
        }
    }
    if let Some(value) = table.remove("balance") {
        step.balance = value.get_ref().as_bool();
        if step.balance.is_none() && !around.unknown.contains(&value.span().start) {
            diagnostics.push(wrong_type("balance", &value, "true or false"));
        } else if kind == Some(Kind::Source) {
            let d = Diagnostic::new(Code::Contradiction, "a source has no input rows to spread", value.span(), "no effect here");
            diagnostics.push(d.help("remove `balance`, or set it on the step that reads from the source"));
        }
    }
}

/// Parses the operator's own keys, without those that are certainly wrong, so that later phases have something to look at.
fn read_parameters(
    step: &mut Parsed,
    mut table: Spanned<DeTable<'_>>,
    entry: Entry,
    around: &Surroundings,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let owner = format!("`{}`", entry.name);
    let header = step.places.header.clone();
    let schema = (entry.schema)();
    let mut validator = Validator { text: around.text, skip: around.unknown, diagnostics };
    let found = validator.table(&owner, header.clone(), table.get_ref(), &schema, &COMMON_KEYS);
    let unknown_value = around.unknown.range(span_of(&table)).next().is_some();
    found.unknown.iter().chain(&found.wrong).for_each(|key| drop(table.get_mut().remove(key.as_str())));
    step.sure = found.wrong.is_empty() && !found.missing && !unknown_value;
    match (entry.parse)(settings::deserializer(table)) {
        Ok(operator) => step.operator = Some(Arc::from(operator)),
        Err(_) if !step.sure => return,
        Err(error) => {
            // Its own schema says the value is fine, so only serde knows what is wrong.
            step.sure = false;
            diagnostics.push(settings::from_serde(&owner, &error, header));
            return;
        }
    }
    if let Some(operator) = step.sure_operator() {
        let mut reporter = Reporter { text: around.text, places: &step.places, paths: around.paths, diagnostics };
        operator.validate(&mut reporter);
    }
}

/// From the first to the last value of a table: its own span is only that of its header.
fn span_of(table: &Spanned<DeTable<'_>>) -> Range<usize> {
    let starts = table.get_ref().values().map(|v| v.span());
    let (low, high) = starts.fold((usize::MAX, 0), |(low, high), s| (low.min(s.start), high.max(s.end)));
    low.min(high)..high
}
