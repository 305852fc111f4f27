//! The TOML parser's errors in words that say what to do.

use std::ops::Range;

use crate::diag::{Code, Diagnostic};

/// One diagnostic per error, without those that only follow from another.
pub(super) fn mistakes(text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    // Where a table starts that is there twice: each of its keys is there twice, too.
    let mut table_again: Option<usize> = None;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(text.len())..span.end.min(text.len());
        let twice = error.message().starts_with("duplicate key");
        if twice && table_again.is_some_and(|start| !text.get(start..span.start).unwrap_or_default().contains("\n[")) {
            continue;
        }
        if twice && line_before(text, span.start).trim_start().starts_with('[') {
            table_again = Some(span.start);
        }
        out.push(mistake(text, error.message(), span, twice));
    }
    out
}

fn mistake(text: &str, message: &str, span: Range<usize>, twice: bool) -> Diagnostic {
    let what = text.get(span.clone()).unwrap_or_default();
    if twice {
        let d = Diagnostic::new(Code::Syntax, format!("`{what}` is there twice"), span, "again");
        return d.help("a table or key may appear only once: rename or remove one of them");
    }
    if message.starts_with("string values must be quoted") {
        return match what.is_empty() {
            true => {
                Diagnostic::new(Code::Syntax, "a value is missing", span, "after `=`").help("write a value, or remove the key")
            }
            false => Diagnostic::new(Code::Syntax, "text must be quoted", span, "here").help(format!("write \"{what}\"")),
        };
    }
    Diagnostic::new(Code::Syntax, format!("this is not TOML: {message}"), span, "here")
}

fn line_before(text: &str, at: usize) -> &str {
    let head = text.get(..at).unwrap_or_default();
    &head[head.rfind('\n').map_or(0, |n| n + 1)..]
}
