//! Diagnostics: what is wrong with a pipeline, where, and what to do.
//!
//! Every mistake has a stable code, so that editors and CI can match it and `curette explain CODE` can say more. All mistakes of all phases are
//! collected and shown together; nothing stops at the first.

mod codes;
mod render;
mod secrets;

use std::ops::Range;

use serde::Serialize;

pub use render::{render, render_json};
pub(crate) use secrets::is_secret;

/// Stable codes of all mistakes that a pipeline can have. The text of each is in [`Code::explain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// E0001: the file is not TOML.
    Syntax,
    /// E0002: a top-level table or key that does not exist.
    UnknownSection,
    /// E0003: an environment variable is not set and has no default.
    MissingVariable,
    /// E0101: a step's `type` names no operator.
    UnknownType,
    /// E0102: a step has no `type`.
    MissingType,
    /// E0103: a key that the operator does not have.
    UnknownKey,
    /// E0104: a required key is missing.
    MissingKey,
    /// E0105: a value of the wrong type.
    WrongType,
    /// E0106: a value outside its range.
    OutOfRange,
    /// E0107: a value that is none of the allowed names.
    UnknownVariant,
    /// E0108: parameters that contradict each other.
    Contradiction,
    /// E0109: a step name that is not allowed.
    BadName,
    /// E0201: an input names no step.
    UnknownInput,
    /// E0202: an input is named twice.
    DuplicateInput,
    /// E0203: steps feed each other in a circle.
    Cycle,
    /// E0204: a step's rows go nowhere.
    DanglingOutput,
    /// E0205: a step that needs inputs has none, or a source that has some.
    WrongInputs,
    /// E0206: nothing to run: no source or no sink.
    EmptyPipeline,
    /// E0207: two sinks write to the same place.
    SameLocation,
    /// E0301: a column is needed but nothing upstream makes it.
    MissingColumn,
    /// E0302: a column has the wrong type.
    WrongColumnType,
    /// E0303: a column is added that exists already.
    DuplicateColumn,
    /// E0304: inputs of one step have different schemas.
    SchemaMismatch,
    /// E0305: a SQL condition that cannot be understood.
    BadPredicate,
    /// E0401: a file is missing or unreadable.
    MissingFile,
    /// E0402: a model, head or dictionary does not fit.
    BadModel,
    /// E0403: software that is needed is not installed.
    MissingSoftware,
    /// E0404: an input path matches nothing.
    NoInput,
}

/// A place in the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What to say there.
    pub text: String,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its code.
    pub code: Code,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// The main place first.
    pub labels: Vec<Label>,
    /// What to do.
    pub help: Option<String>,
}

/// A diagnostic with its place worked out, as `--format json` prints it.
#[derive(Debug, Serialize)]
pub struct JsonDiagnostic<'a> {
    /// `E0103`
    pub code: &'static str,
    /// One sentence.
    pub message: &'a str,
    /// File as given on the command line.
    pub file: &'a str,
    /// 1-based line, if there is a place.
    pub line: Option<usize>,
    /// 1-based column in characters.
    pub column: Option<usize>,
    /// The offending text.
    pub text: Option<&'a str>,
    /// Byte range `[start, end)`.
    pub span: Option<(usize, usize)>,
    /// What to do.
    pub help: Option<&'a str>,
}

impl Diagnostic {
    /// A mistake with its main place.
    pub fn new(code: Code, message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        Diagnostic { code, message: message.into(), labels: vec![Label { span, text: label.into() }], help: None }
    }

    /// Adds the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place that explains the mistake.
    pub fn also(mut self, span: Range<usize>, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }
}

/// Brings diagnostics into the order of the file and removes what was found twice.
pub fn sort(diagnostics: &mut Vec<Diagnostic>) {
    let place = |d: &Diagnostic| d.labels.first().map_or((0, 0), |l| (l.span.start, l.span.end));
    diagnostics.sort_by(|a, b| (place(a), a.code, &a.message).cmp(&(place(b), b.code, &b.message)));
    diagnostics.dedup();
}

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be offered for the other.
const ALIKE: f64 = 0.8;

/// The name most like `name` among `candidates`, if one is alike enough; the first of equals.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let (a, b) = (name.to_lowercase(), candidate.to_lowercase());
        // One slip of the finger is always meant, also in short names, which Jaro-Winkler finds unlike.
        let slip = a.chars().count() > 2 && strsim::osa_distance(&a, &b) == 1;
        let score = strsim::jaro_winkler(&a, &b).max(if slip { ALIKE } else { 0.0 });
        if score >= ALIKE && best.is_none_or(|(b, _)| score > b) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}
