//! The tables `[pipeline]`, `[engine]` and `[runtime]`.

use std::collections::BTreeSet;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::surroundings;
use crate::config::Section;
use crate::config::schema::Validator;
use crate::diag::{Code, Diagnostic, did_you_mean};
use crate::graph::{EngineSettings, PipelineSettings, RuntimeSettings};

/// Longest name of a pipeline or step.
const MAX_NAME: usize = 64;

/// Names become parts of folders, columns and metrics.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

pub(super) const NAME_RULE: &str = "1 to 64 letters (a-z, A-Z), digits, `-` and `_`";

/// The schema of a settings table.
pub(crate) fn schema_of<T: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::draft07()
        .with(|s| s.inline_subschemas = true)
        .into_generator()
        .root_schema_for::<T>()
        .to_value()
}

pub(super) fn pipeline(
    text: &str,
    section: Option<Section<'_>>,
    complete: bool,
    unknown: &BTreeSet<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<PipelineSettings> {
    let Some(section) = section else {
        if complete {
            let (message, help) = ("a pipeline file needs a `[pipeline]` table", "it gives at least `name` and `output`");
            let labels = Vec::new();
            diagnostics.push(Diagnostic { code: Code::MissingKey, message: message.into(), labels, help: Some(help.into()) });
        }
        return None;
    };
    let given = |key: &str| {
        let value = section.table.get_ref().get(key).filter(|v| !unknown.contains(&v.span().start))?;
        Some((value.get_ref().as_str()?.to_owned(), value.span()))
    };
    if let Some((_, span)) = given("name").filter(|(name, _)| !is_name(name)) {
        diagnostics.push(Diagnostic::new(Code::BadName, format!("the name of a pipeline has {NAME_RULE}"), span, "not a name"));
    }
    if let Some((_, span)) = given("output").filter(|(output, _)| output.trim().is_empty()) {
        let d = Diagnostic::new(Code::OutOfRange, "`output` must not be empty", span, "no folder");
        diagnostics.push(d.help("a folder, or a URL such as s3://bucket/prefix"));
    }
    if let Some((output, span)) = given("output")
        && let Some(problem) = surroundings::unknown_store(&output)
    {
        diagnostics.push(Diagnostic::new(Code::OutOfRange, problem, span, "no known store").help(surroundings::STORES));
    }
    parse("`[pipeline]`", text, section, unknown, diagnostics)
}

/// The steps that `reference` counts, and where they are named.
pub(super) fn counted_steps(section: Option<&Section<'_>>) -> Vec<(String, Range<usize>)> {
    let counts = section
        .and_then(|s| s.table.get_ref().get("reference"))
        .and_then(|reference| inner(reference)?.get("rows_out"))
        .and_then(inner);
    let names = counts.into_iter().flat_map(|counts| counts.iter());
    names.map(|(name, _)| (name.get_ref().to_string(), name.span())).collect()
}

fn inner<'v, 't>(value: &'v Spanned<DeValue<'t>>) -> Option<&'v DeTable<'t>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Every counted step must be one.
pub(super) fn steps_are_there(counted: &[(String, Range<usize>)], steps: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    for (name, span) in counted.iter().filter(|(name, _)| !steps.contains(&name.as_str())) {
        let message = format!("`reference.rows_out` counts a step `{name}`, which there is not");
        let d = Diagnostic::new(Code::UnknownInput, message, span.clone(), "unknown step");
        diagnostics.push(match did_you_mean(name, steps.iter().copied()) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help(format!("the steps are: {}", steps.join(", "))),
        });
    }
}

pub(super) fn engine(
    text: &str,
    section: Option<Section<'_>>,
    unknown: &BTreeSet<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> EngineSettings {
    let Some(section) = section else { return EngineSettings::default() };
    let address = section.table.get_ref().get("metrics_address").map(Spanned::span);
    let settings: EngineSettings = parse("`[engine]`", text, section, unknown, diagnostics).unwrap_or_default();
    if let Some(span) = address.filter(|s| !unknown.contains(&s.start)) {
        let given = &settings.metrics_address;
        match given.parse::<std::net::SocketAddr>() {
            _ if given.is_empty() => {}
            Err(_) => {
                let message = "`metrics_address` must be an IP address and a port";
                diagnostics.push(
                    Diagnostic::new(Code::WrongType, message, span, "not an address").help("for example \"127.0.0.1:9464\""),
                );
            }
            Ok(address) if !address.ip().is_loopback() && !settings.metrics_public => {
                let message = "other machines can reach `metrics_address`, where nobody is asked who he is";
                let d = Diagnostic::new(Code::OutOfRange, message, span, "not on loopback");
                diagnostics.push(d.help("use 127.0.0.1, or set `metrics_public = true` where the network is private"));
            }
            Ok(_) => {}
        }
    }
    settings
}

pub(super) fn runtime(
    text: &str,
    section: Option<Section<'_>>,
    unknown: &BTreeSet<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> RuntimeSettings {
    let Some(section) = section else { return RuntimeSettings::default() };
    let providers = section.table.get_ref().get("providers").map(Spanned::span);
    let settings: RuntimeSettings = parse("`[runtime]`", text, section, unknown, diagnostics).unwrap_or_default();
    if let Some(span) = providers.filter(|_| settings.providers.is_empty()) {
        let d = Diagnostic::new(Code::OutOfRange, "`providers` must name at least one", span, "nothing computes");
        diagnostics.push(d.help("for example [\"cuda\", \"cpu\"]"));
    }
    settings
}

fn parse<T: DeserializeOwned + JsonSchema>(
    owner: &str,
    text: &str,
    section: Section<'_>,
    unknown: &BTreeSet<usize>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<T> {
    let Section { header, mut table } = section;
    let before = diagnostics.len();
    let found =
        Validator { text, skip: unknown, diagnostics }.table(owner, header.clone(), table.get_ref(), &schema_of::<T>(), &[]);
    diagnostics[before..].iter_mut().filter(|d| d.code == Code::UnknownKey).for_each(belongs_elsewhere);
    found.unknown.iter().chain(&found.wrong).for_each(|key| drop(table.get_mut().remove(key.as_str())));
    match T::deserialize(deserializer(table)) {
        Ok(settings) => Some(settings),
        Err(_) if found.missing || !found.wrong.is_empty() => None,
        Err(error) => {
            diagnostics.push(from_serde(owner, &error, header));
            None
        }
    }
}

/// A key that another settings table has is told where it belongs.
fn belongs_elsewhere(d: &mut Diagnostic) {
    let tables = [
        ("pipeline", schema_of::<PipelineSettings>()),
        ("engine", schema_of::<EngineSettings>()),
        ("runtime", schema_of::<RuntimeSettings>()),
    ];
    let Some(key) = d.message.rsplit('`').nth(1) else { return };
    if let Some((table, _)) =
        tables.iter().find(|(_, schema)| schema.pointer("/properties").is_some_and(|p| p.get(key).is_some()))
    {
        d.help = Some(format!("it belongs to the table `[{table}]`"));
    }
}

pub(super) fn deserializer<'t>(table: Spanned<DeTable<'t>>) -> ValueDeserializer<'t> {
    let span = table.span();
    ValueDeserializer::from(Spanned::new(span, DeValue::Table(table.into_inner())))
}

/// What serde says, for what no schema can express.
pub(super) fn from_serde(owner: &str, error: &toml::de::Error, header: Range<usize>) -> Diagnostic {
    let message = error.message().lines().next().unwrap_or_default();
    let code = match message {
        m if m.starts_with("unknown field") || m.starts_with("unexpected keys") => Code::UnknownKey,
        m if m.starts_with("missing field") => Code::MissingKey,
        m if m.starts_with("unknown variant") => Code::UnknownVariant,
        m if m.starts_with("invalid value") => Code::OutOfRange,
        _ => Code::WrongType,
    };
    let span = error.span().filter(|s| !s.is_empty() && code != Code::MissingKey).unwrap_or(header);
    Diagnostic::new(code, format!("{owner}: {message}"), span, "here")
}
