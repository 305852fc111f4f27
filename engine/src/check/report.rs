//! What operators say about their own parameters, put in its place in the file.

use std::ops::Range;

use crate::config::{Places, within};
use crate::diag::{Code, Diagnostic};
use crate::operator::{Paths, StepCheck};

/// Collects the mistakes of one step.
pub(super) struct Reporter<'a> {
    pub text: &'a str,
    pub places: &'a Places,
    pub paths: &'a Paths,
    pub diagnostics: &'a mut Vec<Diagnostic>,
}

impl Reporter<'_> {
    fn push(&mut self, span: Range<usize>, label: &str, code: Code, message: String, help: Option<String>) {
        let mut diagnostic = Diagnostic::new(code, message, span, label);
        diagnostic.help = help;
        self.diagnostics.push(diagnostic);
    }
}

impl StepCheck for Reporter<'_> {
    fn error(&mut self, key: Option<&str>, code: Code, message: String, help: Option<String>) {
        match key.map(|k| (k, self.places.get(k))) {
            Some((_, Some(place))) => self.push(place.value.clone(), "here", code, message, help),
            Some((key, None)) => self.push(self.places.step(), &format!("`{key}` is not given"), code, message, help),
            None => self.push(self.places.step(), "in this step", code, message, help),
        }
    }

    fn error_in(&mut self, key: &str, range: Option<Range<usize>>, code: Code, message: String, help: Option<String>) {
        let inside = self.places.get(key).and_then(|place| {
            let raw = self.text.get(place.value.clone())?;
            let found = within(raw, place.text.as_deref()?, &range?)?;
            Some(place.value.start + found.start..place.value.start + found.end)
        });
        match inside {
            Some(span) => self.push(span, "here", code, message, help),
            None => self.error(Some(key), code, message, help),
        }
    }

    fn paths(&self) -> &Paths {
        self.paths
    }
}
