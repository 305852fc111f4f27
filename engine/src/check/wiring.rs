//! Who reads from whom: inputs, circles, loose ends, and an order in which inputs come before their consumers.

use std::collections::{BTreeMap, BTreeSet};

use super::steps::Parsed;
use crate::diag::{Code, Diagnostic, did_you_mean};
use crate::operator::Kind;

/// The edges between steps, by their index in the file.
pub(super) struct Wiring {
    pub inputs: Vec<Vec<usize>>,
    /// Inputs first, ties in the order of the file. Steps in or behind a circle are not in it.
    pub order: Vec<usize>,
    /// False for steps with an input that is not known.
    pub known: Vec<bool>,
}

pub(super) fn wire(steps: &[Parsed], diagnostics: &mut Vec<Diagnostic>) -> Wiring {
    let index: BTreeMap<&str, usize> = steps.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut inputs = vec![Vec::new(); steps.len()];
    let mut known: Vec<bool> = steps.iter().map(|s| s.inputs_known).collect();
    for (i, step) in steps.iter().enumerate() {
        for (name, span) in &step.inputs {
            let Some(&from) = index.get(name.as_str()) else {
                known[i] = false;
                let d = Diagnostic::new(Code::UnknownInput, format!("there is no step `{name}`"), span.clone(), "unknown step");
                let others =
                    steps.iter().filter(|s| s.name != step.name && s.kind() != Some(Kind::Sink)).map(|s| s.name.as_str());
                diagnostics.push(match did_you_mean(name, others.clone()) {
                    Some(near) => d.help(format!("did you mean `{near}`?")),
                    None => d.help(format!("the steps are: {}", others.collect::<Vec<_>>().join(", "))),
                });
                continue;
            };
            if inputs[i].contains(&from) {
                let d = Diagnostic::new(Code::DuplicateInput, format!("`{name}` is named twice"), span.clone(), "again");
                diagnostics.push(d.help("its rows would be there twice: remove one"));
            } else if from == i {
                let d = Diagnostic::new(Code::Cycle, format!("step `{name}` reads from itself"), span.clone(), "itself");
                diagnostics.push(d.help("name the step whose rows it should read"));
                known[i] = false;
            } else if step.kind() == Some(Kind::Source) {
                // Told below: no edge leads into a source.
            } else if steps[from].kind() == Some(Kind::Sink) {
                let d =
                    Diagnostic::new(Code::WrongInputs, format!("`{name}` is a sink and gives no rows"), span.clone(), "a sink");
                let before: Vec<&str> = steps[from].inputs.iter().map(|(n, _)| n.as_str()).collect();
                diagnostics.push(match before.is_empty() {
                    true => d,
                    false => d.help(format!("read from what it reads: {}", before.join(", "))),
                });
                known[i] = false;
            } else {
                inputs[i].push(from);
            }
        }
    }
    // In the order of the file, whatever the order in the list.
    let order = order(&inputs);
    cycles(steps, &inputs, &order, diagnostics);
    loose_ends(steps, diagnostics);
    Wiring { inputs, order, known }
}

/// Takes the first step of the file whose inputs are all taken, again and again.
fn order(inputs: &[Vec<usize>]) -> Vec<usize> {
    let mut consumers = vec![Vec::new(); inputs.len()];
    let mut open: Vec<usize> = inputs.iter().map(Vec::len).collect();
    for (i, from) in inputs.iter().enumerate() {
        from.iter().for_each(|&f| consumers[f].push(i));
    }
    let mut ready: BTreeSet<usize> = (0..inputs.len()).filter(|&i| open[i] == 0).collect();
    let mut order = Vec::new();
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for &consumer in &consumers[next] {
            open[consumer] -= 1;
            if open[consumer] == 0 {
                ready.insert(consumer);
            }
        }
    }
    order
}

/// One diagnostic per circle: follow inputs from the first step that could not be ordered until a step comes again.
fn cycles(steps: &[Parsed], inputs: &[Vec<usize>], order: &[usize], diagnostics: &mut Vec<Diagnostic>) {
    let mut left: BTreeSet<usize> = (0..steps.len()).filter(|i| !order.contains(i)).collect();
    while let Some(&start) = left.first() {
        let mut path = vec![start];
        let circle = loop {
            let here = path[path.len() - 1];
            // Every step that is left has an input that is left, or is behind a circle that was told already.
            let Some(&next) = inputs[here].iter().find(|i| left.contains(i)) else { break None };
            if let Some(at) = path.iter().position(|&p| p == next) {
                break Some(path[at..].to_vec());
            }
            path.push(next);
        };
        let Some(mut circle) = circle else {
            left.remove(&path[path.len() - 1]);
            continue;
        };
        // `path` goes against the rows; tell it with them, from the first step of the file.
        circle.reverse();
        let first = circle.iter().enumerate().min_by_key(|(_, i)| **i).map_or(0, |(at, _)| at);
        circle.rotate_left(first);
        let names: Vec<&str> = circle.iter().chain(circle.first()).map(|&i| steps[i].name.as_str()).collect();
        let message = format!("steps feed each other in a circle: {}", names.join(" -> "));
        let mut diagnostic: Option<Diagnostic> = None;
        for (at, &i) in circle.iter().enumerate() {
            let from = circle[(at + circle.len() - 1) % circle.len()];
            let Some((name, span)) = steps[i].inputs.iter().find(|(n, _)| *n == steps[from].name) else { continue };
            let label = format!("`{}` reads from `{name}`", steps[i].name);
            diagnostic = Some(match diagnostic {
                None => Diagnostic::new(Code::Cycle, message.clone(), span.clone(), label),
                Some(d) => d.also(span.clone(), label),
            });
        }
        diagnostics.extend(diagnostic.map(|d| d.help("take one of them out of the `inputs` of another")));
        left.retain(|i| !circle.contains(i));
    }
}

fn loose_ends(steps: &[Parsed], diagnostics: &mut Vec<Diagnostic>) {
    let named: BTreeSet<&str> = steps.iter().flat_map(|s| &s.inputs).map(|(n, _)| n.as_str()).collect();
    // If some inputs cannot be read, or name nothing, they may be meant for the step that seems loose.
    let all_known = steps.iter().all(|s| s.inputs_known && s.entry.is_some())
        && steps.iter().flat_map(|s| &s.inputs).all(|(n, _)| steps.iter().any(|s| s.name == *n));
    for (i, step) in steps.iter().enumerate() {
        match step.kind() {
            Some(Kind::Source) => {
                if let Some((_, span)) = step.inputs.first() {
                    let message = format!("`{}` is a source: it has no inputs", step.name);
                    let d = Diagnostic::new(Code::WrongInputs, message, span.clone(), "a source reads nothing");
                    diagnostics.push(d.help("remove `inputs`"));
                }
            }
            Some(_) if step.inputs.is_empty() && step.inputs_known => {
                let message = format!("step `{}` has no `inputs`", step.name);
                let d = Diagnostic::new(Code::WrongInputs, message, step.places.header.clone(), "reads nothing");
                let before = steps[..i].iter().rev().find(|s| s.kind().is_some_and(|k| k != Kind::Sink));
                diagnostics.push(match before {
                    Some(before) => d.help(format!("for example `inputs = [\"{}\"]`", before.name)),
                    None => d.help("name the steps whose rows it should read"),
                });
            }
            _ => {}
        }
        let gives_rows = step.kind().is_some_and(|k| k != Kind::Sink);
        if gives_rows && all_known && !named.contains(step.name.as_str()) {
            let message = format!("no step reads the rows of `{}`", step.name);
            let d = Diagnostic::new(Code::DanglingOutput, message, step.places.header.clone(), "its rows go nowhere");
            diagnostics.push(d.help("let a sink or another step read from it, or remove it"));
        }
    }
    let all_types_known = steps.iter().all(|s| s.entry.is_some());
    let some = |kind: Kind| steps.iter().any(|s| s.kind() == Some(kind));
    if all_types_known {
        for (kind, name, help) in [
            (Kind::Source, "source", "add a step that makes rows; `curette ops` lists sources first"),
            (Kind::Sink, "sink", "add a step that writes rows; `curette ops` lists sinks last"),
        ] {
            if !some(kind) {
                let message = format!("the pipeline has no {name}");
                let labels = Vec::new();
                diagnostics.push(Diagnostic { code: Code::EmptyPipeline, message, labels, help: Some(help.into()) });
            }
        }
    }
}
