//! The pipeline file: TOML text to tables that know where each of their values stands.
//!
//! Parsed once. Everything after works on the spanned tables, so that every message can point at its place; tagged enums and flattened structs would
//! lose the places and are not used. `${VAR}` is filled in after parsing, in string values only, so a variable can never change the structure.
//!
//! What can go wrong: after a syntax error the parser guesses how to go on. Steps in which one was found are left out of all further checks
//! ([`RawStep::broken`]), and so is everything that looks at several steps at once.

pub(crate) mod bounds;
mod interpolate;
mod places;
pub(crate) mod schema;
mod syntax;

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diag::{Code, Diagnostic, did_you_mean};
pub(crate) use interpolate::Variables;
pub(crate) use places::{Places, within};

/// The tables that a pipeline file may have.
pub(crate) const SECTIONS: [&str; 4] = ["pipeline", "engine", "runtime", "step"];
/// The keys that every step may have, whatever its operator.
pub(crate) const COMMON_KEYS: [&str; 4] = ["type", "inputs", "on_unmeasured", "balance"];

/// A table and where it is announced.
pub(crate) struct Section<'t> {
    pub header: Range<usize>,
    pub table: Spanned<DeTable<'t>>,
}

/// One `[step.NAME]` table, complete.
pub(crate) struct RawStep<'t> {
    pub name: String,
    pub places: Places,
    pub table: Spanned<DeTable<'t>>,
    /// A syntax error stands in it: nothing in it can be trusted.
    pub broken: bool,
}

/// A parsed file.
pub(crate) struct Document<'t> {
    pub pipeline: Option<Section<'t>>,
    pub engine: Option<Section<'t>>,
    pub runtime: Option<Section<'t>>,
    /// In the order of the file.
    pub steps: Vec<RawStep<'t>>,
    /// False after a syntax error: steps may be missing.
    pub complete: bool,
    /// Starts of values that could not be filled in: they are not looked at.
    pub unknown: BTreeSet<usize>,
    /// What was filled in.
    pub variables: Variables,
}

/// Parses `text`; `lookup` gives the values of variables. Whatever can be read is returned, with all mistakes.
pub(crate) fn parse<'t>(text: &'t str, lookup: &dyn Fn(&str) -> Option<String>) -> (Document<'t>, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut diagnostics = syntax::mistakes(text, &errors);
    let broken: Vec<usize> = diagnostics.iter().filter_map(|d| Some(d.labels.first()?.span.start)).collect();
    let mut document = Document {
        pipeline: None,
        engine: None,
        runtime: None,
        steps: Vec::new(),
        complete: errors.is_empty(),
        unknown: BTreeSet::new(),
        variables: Variables::default(),
    };
    let mut filler = interpolate::Filler {
        text,
        lookup,
        diagnostics: &mut diagnostics,
        unknown: BTreeSet::new(),
        variables: Variables::default(),
    };

    // A table is ordered by its keys; people read files from top to bottom.
    let mut sections: Vec<_> = root.into_inner().into_iter().collect();
    sections.sort_by_key(|(key, _)| key.span().start);
    for (key, mut value) in sections {
        let name = key.get_ref().to_string();
        if !SECTIONS.contains(&name.as_str()) {
            let d = Diagnostic::new(Code::UnknownSection, format!("a pipeline file has no `{name}`"), key.span(), "unknown");
            filler.diagnostics.push(match did_you_mean(&name, SECTIONS) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None => d.help("the tables are `pipeline`, `engine`, `runtime`, and one `step.NAME` per step"),
            });
            continue;
        }
        filler.fill(&mut value);
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            let d = Diagnostic::new(Code::WrongType, format!("`{name}` must be a table"), key.span(), "not a table");
            filler.diagnostics.push(d.help(if name == "step" {
                "write one `[step.NAME]` per step".into()
            } else {
                format!("write `[{name}]`")
            }));
            continue;
        };
        let section = Section { header: key.span(), table: Spanned::new(span, table) };
        match name.as_str() {
            "pipeline" => document.pipeline = Some(section),
            "engine" => document.engine = Some(section),
            "runtime" => document.runtime = Some(section),
            _ => document.steps = steps(section.table.into_inner(), filler.diagnostics),
        }
    }
    (document.unknown, document.variables) = (filler.unknown, filler.variables);
    mark_broken(&mut document.steps, &broken);
    (document, diagnostics)
}

fn steps<'t>(table: DeTable<'t>, diagnostics: &mut Vec<Diagnostic>) -> Vec<RawStep<'t>> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut steps = Vec::new();
    for (key, value) in entries {
        let (name, span) = (key.get_ref().to_string(), value.span());
        match value.into_inner() {
            DeValue::Table(table) => {
                let places = Places::of(key.span(), &table);
                steps.push(RawStep { name, places, table: Spanned::new(span, table), broken: false });
            }
            _ => {
                let d = Diagnostic::new(Code::WrongType, format!("step `{name}` must be a table"), key.span(), "not a table");
                diagnostics.push(d.help(format!("write `[step.{name}]` and its keys below it")));
            }
        }
    }
    steps
}

/// A syntax error belongs to the last step that starts before it.
fn mark_broken(steps: &mut [RawStep<'_>], errors: &[usize]) {
    for &at in errors {
        if let Some(step) = steps.iter_mut().rev().find(|s| s.places.header.start <= at) {
            step.broken = true;
        }
    }
}
