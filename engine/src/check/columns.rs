//! The schema of every edge: which columns a step needs, gets and adds.
//!
//! What can go wrong: the columns of an operator depend on its parameters, so a step that could not be read fully has an unknown schema, and everything
//! after it as well; nothing is said about those.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::report::Reporter;
use super::steps::Parsed;
use super::wiring::Wiring;
use crate::describe::example;
use crate::diag::{Code, Diagnostic, did_you_mean};
use crate::operator::{Columns, DynOperator, Entry, Kind, Need, Paths, output_schema};

/// The schemas before and after a step.
#[derive(Clone)]
pub(super) struct Edges {
    pub input: SchemaRef,
    pub output: SchemaRef,
}

struct Checker<'a> {
    steps: &'a [Parsed],
    wiring: &'a Wiring,
    registry: &'a [Entry],
    text: &'a str,
    paths: &'a Paths,
    diagnostics: &'a mut Vec<Diagnostic>,
    edges: Vec<Option<Edges>>,
}

/// Schemas by the index of the step in the file; `None` where unknown.
pub(super) fn edges(
    steps: &[Parsed],
    wiring: &Wiring,
    registry: &[Entry],
    text: &str,
    paths: &Paths,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Option<Edges>> {
    let mut checker = Checker { steps, wiring, registry, text, paths, diagnostics, edges: vec![None; steps.len()] };
    for &index in &wiring.order {
        checker.edges[index] = checker.step(index);
    }
    checker.edges
}

impl Checker<'_> {
    fn step(&mut self, index: usize) -> Option<Edges> {
        let step = &self.steps[index];
        let input = self.input(index);
        let operator = step.sure_operator()?;
        let input = input?;
        let mut columns = operator.columns();
        if operator.kind() != Kind::Source {
            let before = self.diagnostics.len();
            for need in &columns.needs {
                self.need(index, need, &input);
            }
            let precise = self.diagnostics.len();
            let mut reporter =
                Reporter { text: self.text, places: &step.places, paths: self.paths, diagnostics: &mut *self.diagnostics };
            operator.check_input(&input, &mut reporter);
            once(self.diagnostics, before, precise);
        }
        let output = if operator.kind() == Kind::Sink {
            self.written(step, operator, &input)
        } else {
            self.duplicates(index, &mut columns, &input);
            output_schema(&input, &columns)
        };
        Some(Edges { input, output })
    }

    /// The schema that all inputs agree on.
    fn input(&mut self, index: usize) -> Option<SchemaRef> {
        let step = &self.steps[index];
        if step.kind()? == Kind::Source {
            return Some(Arc::new(Schema::empty()));
        }
        let inputs = &self.wiring.inputs[index];
        let known: Vec<(usize, SchemaRef)> =
            inputs.iter().filter_map(|&i| Some((i, Arc::clone(&self.edges[i].as_ref()?.output)))).collect();
        let (first, schema) = known.first()?.clone();
        let mut merged = schema;
        for (other, schema) in &known[1..] {
            let differences = differences(&merged, &self.steps[first].name, schema, &self.steps[*other].name);
            if differences.is_empty() {
                merged = nullable_where_either(&merged, schema);
                continue;
            }
            let place = |i: usize| step.inputs.iter().find(|(n, _)| *n == self.steps[i].name).map(|(_, s)| s.clone());
            let mut d = Diagnostic::new(
                Code::SchemaMismatch,
                format!(
                    "`{}` and `{}` give different columns to `{}`",
                    self.steps[first].name, self.steps[*other].name, step.name
                ),
                place(*other).unwrap_or_else(|| step.places.step()),
                "other columns than the first input",
            );
            d.help = Some(differences.join("; "));
            self.diagnostics.push(d);
            return None;
        }
        let complete = self.wiring.known[index] && known.len() == inputs.len();
        complete.then_some(merged)
    }

    fn need(&mut self, index: usize, need: &Need, input: &Schema) {
        let step = &self.steps[index];
        let operator = step.entry.map_or("", |e| e.name);
        match input.field_with_name(&need.name) {
            Ok(field) if need.types.is_empty() || need.types.iter().any(|t| t.equals_datatype(field.data_type())) => {}
            Ok(field) => {
                let wanted = need.types.iter().map(type_name).collect::<Vec<_>>().join(" or ");
                let message =
                    format!("`{operator}` needs `{}` as {wanted}, but it is {}", need.name, type_name(field.data_type()));
                let mut d = Diagnostic::new(Code::WrongColumnType, message, step.places.step(), format!("reads `{}`", need.name));
                if let Some(maker) = self.maker(index, &need.name) {
                    d = d.also(self.steps[maker].places.step(), format!("makes `{}`", need.name));
                }
                self.diagnostics.push(d.help("let another step make the column, or correct the input of this one"));
            }
            Err(_) if need.optional => {}
            Err(_) => {
                let message = format!("`{operator}` needs the column `{}`, which no step before it makes", need.name);
                let d = Diagnostic::new(Code::MissingColumn, message, step.places.step(), format!("needs `{}`", need.name));
                let help = self.who_could(index, &need.name, input);
                self.diagnostics.push(d.help(help));
            }
        }
    }

    /// Where the column could come from: a step of this file that is not before this one, or an operator.
    fn who_could(&self, index: usize, column: &str, input: &Schema) -> String {
        let before = self.before(index);
        let elsewhere = self.steps.iter().enumerate().find(|(i, s)| {
            *i != index && !before.contains(i) && s.sure_operator().is_some_and(|o| adds(o.as_ref(), column).is_some())
        });
        if let Some((_, other)) = elsewhere {
            return format!(
                "step `{}` makes `{column}`, but its rows do not reach `{}`: read from it, directly or through other steps",
                other.name, self.steps[index].name
            );
        }
        let makers: Vec<String> = self
            .registry
            .iter()
            .filter(|entry| entry.kind != Kind::Sink)
            .filter(|entry| example(entry).is_ok_and(|o| adds(o.as_ref(), column).is_some()))
            .map(|entry| format!("`{}`", entry.name))
            .collect();
        if !makers.is_empty() {
            return format!("put a step of type {} before it", makers.join(" or "));
        }
        match did_you_mean(column, input.fields().iter().map(|f| f.name().as_str())) {
            Some(near) => format!("did you mean `{near}`? No operator makes `{column}`"),
            None => "no operator makes it".to_owned(),
        }
    }

    /// All steps whose rows reach this one.
    fn before(&self, index: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = self.wiring.inputs[index].clone();
        while let Some(next) = open.pop() {
            if !found.contains(&next) {
                found.push(next);
                open.extend(&self.wiring.inputs[next]);
            }
        }
        found.sort_unstable();
        found
    }

    fn maker(&self, index: usize, column: &str) -> Option<usize> {
        let mut before = self.before(index).into_iter();
        before.find(|&i| self.steps[i].sure_operator().is_some_and(|o| adds(o.as_ref(), column).is_some()))
    }

    /// Reports added columns that are there already, and goes on without them.
    fn duplicates(&mut self, index: usize, columns: &mut Columns, input: &Schema) {
        let step = &self.steps[index];
        let operator = step.entry.map_or("", |e| e.name);
        let taken: Vec<String> =
            columns.adds.iter().map(|a| a.field.name().clone()).filter(|n| input.field_with_name(n).is_ok()).collect();
        if taken.is_empty() {
            return;
        }
        columns.adds.retain(|a| !taken.contains(a.field.name()));
        let list = taken.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
        let message = match taken.len() {
            1 => format!("`{operator}` adds the column {list}, which is there already"),
            _ => format!("`{operator}` adds the columns {list}, which are there already"),
        };
        let mut d = Diagnostic::new(Code::DuplicateColumn, message, step.places.step(), "adds it again");
        if let Some(maker) = self.maker(index, &taken[0]) {
            let other = &self.steps[maker];
            d = d.also(other.places.step(), format!("makes `{}`", taken[0]));
            d = d.help(format!("remove `{}` or `{}`", other.name, step.name));
        }
        self.diagnostics.push(d);
    }

    /// The columns that a sink writes: its keys `columns` and `exclude`.
    fn written(&mut self, step: &Parsed, operator: &Arc<dyn DynOperator>, input: &SchemaRef) -> SchemaRef {
        let parameters = operator.parameters();
        let list = |key: &str| -> Option<Vec<String>> {
            let items = parameters.get(key)?.as_array()?;
            Some(items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
        };
        let names = || input.fields().iter().map(|f| f.name().as_str());
        for key in ["columns", "exclude"] {
            for (i, name) in list(key).unwrap_or_default().iter().enumerate() {
                if input.field_with_name(name).is_ok() {
                    continue;
                }
                let place = step.places.get(&format!("{key}[{i}]")).or_else(|| step.places.get(key));
                let span = place.map_or_else(|| step.places.step(), |p| p.value.clone());
                let d = Diagnostic::new(Code::MissingColumn, format!("there is no column `{name}`"), span, "unknown column");
                self.diagnostics.push(match did_you_mean(name, names()) {
                    Some(near) => d.help(format!("did you mean `{near}`?")),
                    None => d.help(format!("the columns are: {}", names().collect::<Vec<_>>().join(", "))),
                });
            }
        }
        let exclude = list("exclude").unwrap_or_default();
        let chosen = list("columns").unwrap_or_else(|| names().map(str::to_owned).collect());
        let mut fields: Vec<Field> = Vec::new();
        for name in chosen.iter().filter(|n| !exclude.contains(n)) {
            if let Ok(field) = input.field_with_name(name)
                && !fields.iter().any(|f| f.name() == name)
            {
                fields.push(field.clone());
            }
        }
        Arc::new(Schema::new_with_metadata(fields, input.metadata().clone()))
    }
}

/// A missing column that the operator itself names, with its exact place, is told once: there, with the help of the general finding.
fn once(diagnostics: &mut Vec<Diagnostic>, before: usize, mut precise: usize) {
    for general in (before..precise).rev().filter(|&i| diagnostics[i].code == Code::MissingColumn).collect::<Vec<_>>() {
        let Some(name) = diagnostics[general].message.split('`').nth(3).map(|name| format!("`{name}`")) else { continue };
        let help = diagnostics[general].help.clone();
        let mut told = diagnostics[precise..].iter_mut().filter(|d| d.message.contains(&name)).peekable();
        if told.peek().is_none() {
            continue;
        }
        told.for_each(|d| {
            if help.as_deref().is_some_and(|h| h.starts_with("put a step") || h.starts_with("step `")) {
                d.help.clone_from(&help);
            }
        });
        diagnostics.remove(general);
        precise -= 1;
    }
}

fn adds(operator: &dyn DynOperator, column: &str) -> Option<DataType> {
    operator.columns().adds.into_iter().find(|a| a.field.name() == column).map(|a| a.field.data_type().clone())
}

/// Arrow's name of a type, short.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("List<{}>", type_name(item.data_type())),
        DataType::FixedSizeList(item, n) => format!("FixedSizeList<{}, {n}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{} {}", f.name(), type_name(f.data_type()))).collect();
            format!("Struct<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// What two inputs of one step do not agree on.
fn differences(a: &Schema, a_name: &str, b: &Schema, b_name: &str) -> Vec<String> {
    let mut out = Vec::new();
    let only = |x: &Schema, y: &Schema| -> Vec<String> {
        x.fields().iter().filter(|f| y.field_with_name(f.name()).is_err()).map(|f| format!("`{}`", f.name())).collect()
    };
    for (x, y, name) in [(a, b, a_name), (b, a, b_name)] {
        let list = only(x, y);
        if !list.is_empty() {
            out.push(format!("only `{name}` has {}", list.join(", ")));
        }
    }
    for field in a.fields() {
        if let Ok(other) = b.field_with_name(field.name())
            && !field.data_type().equals_datatype(other.data_type())
        {
            let (x, y) = (type_name(field.data_type()), type_name(other.data_type()));
            out.push(format!("`{}` is {x} from `{a_name}` and {y} from `{b_name}`", field.name()));
        }
    }
    if out.is_empty() && a.metadata() != b.metadata() {
        out.push(format!("rows of `{a_name}` and `{b_name}` are known by different id columns"));
    }
    out
}

fn nullable_where_either(a: &Schema, b: &Schema) -> SchemaRef {
    let fields: Vec<Field> = a
        .fields()
        .iter()
        .map(|f| {
            let nullable = f.is_nullable() || b.field_with_name(f.name()).is_ok_and(Field::is_nullable);
            f.as_ref().clone().with_nullable(nullable)
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, a.metadata().clone()))
}
