//! Diagnostics as text for people and as JSON for editors and CI.

use std::fmt;
use std::ops::Range;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use super::{Diagnostic, JsonDiagnostic, secrets};

/// Width of the text in columns.
const WIDTH: usize = 110;

/// Text with the offending lines, in the order given. `file` is the name as the user wrote it; `color` for terminals.
pub fn render(file: &str, text: &str, diagnostics: &[Diagnostic], color: bool) -> String {
    let masked = secrets::mask(text);
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(WIDTH).with_links(false).with_context_lines(1);
    let source = Source { file, text: &masked };
    let mut out = String::new();
    for diagnostic in diagnostics {
        let report = Report { diagnostic, source: &source };
        // Writing into a String cannot fail; what the handler cannot show is said plainly instead.
        if handler.render_report(&mut out, &report).is_err() {
            out.push_str(&format!("{}: {}\n", diagnostic.code.as_str(), diagnostic.message));
        }
        out.push('\n');
    }
    let mistakes = diagnostics.len();
    if mistakes > 0 {
        let s = if mistakes == 1 { "" } else { "s" };
        out.push_str(&format!("{mistakes} mistake{s} in {file}; `curette explain CODE` says more about a code\n"));
    }
    out
}

/// A JSON array of [`JsonDiagnostic`].
pub fn render_json(file: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let masked = secrets::mask(text);
    let list: Vec<_> = diagnostics.iter().map(|d| json(file, &masked, d)).collect();
    // These are plain strings and numbers: they always serialise.
    serde_json::to_string_pretty(&list).unwrap_or_else(|_| "[]".to_owned())
}

fn json<'a>(file: &'a str, text: &'a str, diagnostic: &'a Diagnostic) -> JsonDiagnostic<'a> {
    let span = diagnostic.labels.first().map(|l| clamp(text, &l.span));
    let before = span.as_ref().and_then(|s| text.get(..s.start));
    let column = |before: &str| before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    JsonDiagnostic {
        code: diagnostic.code.as_str(),
        message: &diagnostic.message,
        file,
        line: before.map(|b| b.matches('\n').count() + 1),
        column: before.map(column),
        text: span.as_ref().and_then(|s| text.get(s.clone())),
        span: span.map(|s| (s.start, s.end)),
        help: diagnostic.help.as_deref(),
    }
}

/// A range that lies in the text, on character boundaries.
fn clamp(text: &str, span: &Range<usize>) -> Range<usize> {
    let down = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = down(span.start);
    start..down(span.end.max(start))
}

/// Shows each marked line whole, and no line around it: what is around a mistake in a list of keys says nothing about it.
struct Source<'s> {
    file: &'s str,
    text: &'s str,
}

impl SourceCode for Source<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let (start, end) = (span.offset(), span.offset() + span.len());
        let (Some(head), Some(tail)) = (self.text.get(..start), self.text.get(end..)) else {
            return Err(MietteError::OutOfBounds);
        };
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        // Without lines around it is the place that is asked for.
        let (from, to, column) = match (before, after) {
            (0, 0) => (start, end, head[line_start..].chars().count()),
            _ => {
                let to = end + tail.find('\n').unwrap_or(tail.len());
                // Not the half of a Windows line end, which would be counted as a line of its own.
                let to = if self.text[..to].ends_with('\r') && to > end { to - 1 } else { to };
                (line_start, to, 0)
            }
        };
        let shown = self.text.get(from..to).unwrap_or_default();
        let (line, lines) = (head.matches('\n').count(), shown.matches('\n').count() + 1);
        let place = SourceSpan::from((from, to - from));
        Ok(Box::new(MietteSpanContents::new_named(self.file.to_owned(), shown.as_bytes(), place, line, column, lines)))
    }
}

struct Report<'a> {
    diagnostic: &'a Diagnostic,
    source: &'a Source<'a>,
}

impl fmt::Debug for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.diagnostic.code.as_str()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_deref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let text = self.source.text;
        let labels = self.diagnostic.labels.iter().enumerate().map(move |(i, label)| {
            let span = clamp(text, &label.span);
            let words = (!label.text.is_empty()).then(|| label.text.clone());
            let at = (span.start, span.len());
            if i == 0 { LabeledSpan::new_primary_with_span(words, at) } else { LabeledSpan::new_with_span(words, at) }
        });
        Some(Box::new(labels))
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        (!self.diagnostic.labels.is_empty()).then_some(self.source as &dyn miette::SourceCode)
    }
}
