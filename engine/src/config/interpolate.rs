//! `${VAR}` and `${VAR:-default}` in string values. `$${` stands for a literal `${`.
//!
//! What came from a variable may be a secret: [`Variables::hide`] takes it out of messages again.

use std::borrow::Cow;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::DeValue;

use crate::diag::{Code, Diagnostic};

/// Shorter values are not taken out of messages: they would be found everywhere, and no secret is that short.
const MIN_HIDDEN: usize = 4;

/// The values that variables had, and what stands for them in messages.
#[derive(Default)]
pub(crate) struct Variables {
    values: Vec<(String, String)>,
}

impl Variables {
    /// Puts `${VAR}` back in the place of each value.
    pub fn hide(&self, text: &mut String) {
        for (value, shown) in &self.values {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), shown);
            }
        }
    }

    /// The same in all texts of a diagnostic.
    pub fn hide_in(&self, diagnostic: &mut Diagnostic) {
        self.hide(&mut diagnostic.message);
        diagnostic.help.iter_mut().for_each(|h| self.hide(h));
        diagnostic.labels.iter_mut().for_each(|l| self.hide(&mut l.text));
    }

    fn add(&mut self, value: String, shown: String) {
        if value.len() >= MIN_HIDDEN && !self.values.iter().any(|(v, _)| *v == value) {
            self.values.push((value, shown));
            // The longest first: a value may contain another.
            self.values.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        }
    }
}

/// Walks values and fills variables in.
pub(super) struct Filler<'a> {
    pub text: &'a str,
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    pub diagnostics: &'a mut Vec<Diagnostic>,
    pub unknown: BTreeSet<usize>,
    pub variables: Variables,
}

impl Filler<'_> {
    pub fn fill(&mut self, value: &mut Spanned<DeValue<'_>>) {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains("${") => {
                let filled = self.fill_text(text, span);
                *text = Cow::Owned(filled);
            }
            DeValue::Array(items) => items.iter_mut().for_each(|item| self.fill(item)),
            DeValue::Table(table) => table.iter_mut().for_each(|(_, item)| self.fill(item)),
            _ => {}
        }
    }

    fn fill_text(&mut self, template: &str, span: std::ops::Range<usize>) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else {
                self.mistake(
                    &rest[at..],
                    span.clone(),
                    "`${` is not closed by `}`".into(),
                    "a literal `${` is written `$${`".into(),
                );
                return template.to_owned();
            };
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inside[..end], None),
            };
            let whole = &rest[at..at + 2 + end + 1];
            if default.is_some_and(|d| d.contains("${")) {
                let message = "a default of a variable cannot hold another variable".to_owned();
                self.mistake(whole, span.clone(), message, "write a plain text after `:-`".into());
                return template.to_owned();
            }
            rest = &inside[end + 1..];
            let valid =
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !name.starts_with(|c: char| c.is_ascii_digit());
            if !valid || name.is_empty() {
                let message = format!("`{whole}` does not name an environment variable");
                self.mistake(
                    whole,
                    span.clone(),
                    message,
                    "write `${NAME}` or `${NAME:-default}`; a literal `${` is written `$${`".into(),
                );
                continue;
            }
            match ((self.lookup)(name), default) {
                (Some(value), default) if !value.is_empty() || default.is_none() => {
                    self.variables.add(value.clone(), format!("${{{name}}}"));
                    out.push_str(&value);
                }
                (_, Some(default)) => out.push_str(default),
                (_, None) => {
                    let help = format!("set it, or give a default: `${{{name}:-...}}`");
                    self.mistake(whole, span.clone(), format!("the environment variable {name} is not set"), help);
                }
            }
        }
        out.push_str(rest);
        out
    }

    fn mistake(&mut self, what: &str, span: std::ops::Range<usize>, message: String, help: String) {
        self.unknown.insert(span.start);
        let at =
            self.text.get(span.clone()).and_then(|raw| raw.find(what)).map(|at| span.start + at..span.start + at + what.len());
        self.diagnostics.push(Diagnostic::new(Code::MissingVariable, message, at.unwrap_or(span), "here").help(help));
    }
}
