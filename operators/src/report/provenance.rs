//! Where the rows of a table come from: steps and settings, models and their licences, prompts, and what rows say of themselves.
//!
//! Steps are those of the stored plan; licences are looked up in the manifests of this machine; columns that name a model or a licence are counted.
//! What can go wrong: a manifest that is not on this machine, or a plan that cannot be read; both are said.

use std::collections::BTreeMap;

use curette_engine::commit::Table;
use curette_models::manifest::CommercialUse;
use curette_models::store::Store;
use curette_models::{Manifest, Settings};
use serde_json::Value;

use super::escape::short;
use super::subject::Subject;
use crate::captions::prompt::{BRIEF, DETAILED};
use crate::meaning::{self, PlanStep};
use crate::media::shown;
use crate::stats::BATCH_ROWS;
use crate::tables::cast;

/// Keys of steps that name a model.
const MODEL_KEYS: [&str; 7] = ["model", "encoder", "head", "detector", "recogniser", "technical_model", "aesthetic_model"];
/// Steps whose models are those of a service.
const SERVICES: [&str; 2] = ["captioner", "transcript"];
/// Characters of a setting that are shown.
const SETTING_CHARS: usize = 160;
/// Different values of a column that are counted one by one.
const MAX_VALUES: usize = 1000;
/// Of these, as many are shown as have the most rows.
const SHOWN_VALUES: usize = 12;

/// A step and what was set.
#[derive(Debug, Clone, PartialEq)]
pub struct StepLine {
    /// Its name.
    pub name: String,
    /// Its operator and that one's version.
    pub operator: String,
    /// `key = value`, without keys that are not set.
    pub settings: Vec<String>,
    /// Key and start of the blake3 of its files.
    pub files: Vec<String>,
}

/// A model that a step names.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelLine {
    /// The step and the key.
    pub place: String,
    /// Its name.
    pub name: String,
    /// What it is, by its manifest.
    pub title: String,
    /// Its licence, and whether it may be used commercially.
    pub licence: String,
    /// Where it comes from.
    pub source: String,
}

/// A prompt that a step asks with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The step, and which prompt.
    pub place: String,
    /// Its text, or the hash of its file.
    pub text: String,
}

/// How often a column says what.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The column.
    pub column: String,
    /// Values and rows, the most frequent first.
    pub values: Vec<(String, u64)>,
    /// Rows of values that are not shown.
    pub others: u64,
    /// Rows without a value.
    pub missing: u64,
}

/// A sum over the rows of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Total {
    /// The column.
    pub column: String,
    /// The sum.
    pub sum: f64,
    /// Rows that have a value.
    pub rows: u64,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Provenance {
    /// The steps that the rows went through.
    pub steps: Vec<StepLine>,
    /// Their models.
    pub models: Vec<ModelLine>,
    /// Their prompts.
    pub prompts: Vec<Prompt>,
    /// Columns that name a model, a prompt or a licence.
    pub named: Vec<Named>,
    /// Columns of money and tokens.
    pub totals: Vec<Total>,
}

/// The provenance of a subject's rows.
pub fn provenance(subject: &Subject) -> Result<Provenance, String> {
    let steps = match &subject.sink {
        Some(sink) => meaning::before(&subject.meaning, sink),
        None => meaning::steps(&subject.meaning),
    };
    let known = Store::new(&Settings::from_environment()).known();
    let known: BTreeMap<String, Manifest> = known.unwrap_or_default().into_iter().map(|(name, k)| (name, k.manifest)).collect();
    let (named, totals) = columns(&subject.table)?;
    Ok(Provenance {
        models: steps.iter().flat_map(|step| models(step, &known)).collect(),
        prompts: steps.iter().flat_map(prompts).collect(),
        steps: steps.iter().map(line).collect(),
        named,
        totals,
    })
}

fn said(value: &Value) -> String {
    match value {
        // An address may hold a name and a password.
        Value::String(text) if text.contains("://") => shown(text),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn line(step: &PlanStep) -> StepLine {
    let set = |value: &Value| !(value.is_null() || value == "" || value.as_array().is_some_and(Vec::is_empty));
    let settings = step.parameters.as_object().into_iter().flatten().filter(|(_, value)| set(value));
    StepLine {
        name: step.name.to_owned(),
        operator: format!("{}/{}", step.operator, step.version),
        settings: settings.map(|(key, value)| format!("{key} = {}", short(&said(value), SETTING_CHARS))).collect(),
        files: step.files.iter().map(|(key, hash)| format!("{key}: blake3 {}", short(hash, 16))).collect(),
    }
}

fn models(step: &PlanStep, known: &BTreeMap<String, Manifest>) -> Vec<ModelLine> {
    let named =
        MODEL_KEYS.iter().filter_map(|key| Some((*key, step.parameters[*key].as_str()?))).filter(|(_, name)| !name.is_empty());
    let of = |(key, name): (&str, &str)| {
        let mut line = ModelLine {
            place: format!("{}.{key}", step.name),
            name: name.to_owned(),
            title: String::new(),
            licence: "no manifest of it is on this machine".into(),
            source: String::new(),
        };
        if SERVICES.contains(&step.operator) {
            line.licence = "of a service, whose terms hold".into();
        } else if let Some(manifest) = known.get(name) {
            let commercial = match manifest.origin.commercial_use {
                CommercialUse::Yes => "commercial use allowed",
                CommercialUse::No => "no commercial use",
                CommercialUse::Unknown => "commercial use unknown",
            };
            line.title = format!("{} (version {})", manifest.title, manifest.version);
            line.licence = format!("{}, {commercial}", manifest.origin.licence);
            line.source = manifest.origin.source.clone().unwrap_or_default();
        } else if name.starts_with("curette/") {
            line.licence = "built in, no trained model".into();
        }
        line
    };
    named.map(of).collect()
}

fn prompts(step: &PlanStep) -> Vec<Prompt> {
    if step.operator != "captioner" || step.parameters["backend"] != "openai" {
        return Vec::new();
    }
    let one = |key: &str, which: &str, own: &str| {
        let file = step.files.iter().find(|(k, _)| *k == key);
        let text = file.map_or_else(|| own.to_owned(), |(_, hash)| format!("a file with blake3 {hash}"));
        Prompt { place: format!("{}: {which}", step.name), text }
    };
    vec![one("prompt_file", "detailed caption", DETAILED), one("brief_prompt_file", "brief caption", BRIEF)]
}

/// One pass over the columns that name something and those that cost something.
fn columns(table: &Table) -> Result<(Vec<Named>, Vec<Total>), String> {
    let fields = table.schema().fields().iter();
    let names = |name: &str| {
        name.ends_with("_model") || name.ends_with("_models") || name == "license" || name.ends_with("_prompt_blake3")
    };
    let costs = |name: &str| name.ends_with("_cost_usd") || name.ends_with("_tokens");
    let texts: Vec<&str> = fields
        .clone()
        .filter(|f| names(f.name()) && f.data_type().to_string().ends_with("Utf8"))
        .map(|f| f.name().as_str())
        .collect();
    let numbers: Vec<&str> =
        fields.filter(|f| costs(f.name()) && f.data_type().is_numeric()).map(|f| f.name().as_str()).collect();
    let mut counts: Vec<(BTreeMap<String, u64>, u64, u64)> = vec![Default::default(); texts.len()];
    let mut sums: Vec<(f64, u64)> = vec![(0.0, 0); numbers.len()];
    let wanted: Vec<&str> = texts.iter().chain(&numbers).copied().collect();
    if !wanted.is_empty() {
        let read = table.read_batches(Some(&wanted)).map_err(|e| e.to_string())?.with_batch_rows(BATCH_ROWS);
        for batch in read {
            let batch = batch.map_err(|e| e.to_string())?;
            for (name, (values, others, missing)) in texts.iter().zip(&mut counts) {
                for value in cast::need_text(&batch, name)?.iter() {
                    match value {
                        None => *missing += 1,
                        Some(v) if values.len() < MAX_VALUES || values.contains_key(v) => {
                            *values.entry(v.to_owned()).or_default() += 1
                        }
                        Some(_) => *others += 1,
                    }
                }
            }
            for (name, (sum, rows)) in numbers.iter().zip(&mut sums) {
                for value in cast::numbers(&batch, name)?.iter().flat_map(|c| c.iter()).flatten() {
                    *sum += value;
                    *rows += 1;
                }
            }
        }
    }
    let named = texts.into_iter().zip(counts).map(|(column, (values, others, missing))| {
        let mut values: Vec<(String, u64)> = values.into_iter().collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let rest = values.split_off(values.len().min(SHOWN_VALUES));
        Named { column: column.to_owned(), values, others: others + rest.iter().map(|r| r.1).sum::<u64>(), missing }
    });
    let totals = numbers.into_iter().zip(sums).map(|(column, (sum, rows))| Total { column: column.to_owned(), sum, rows });
    Ok((named.collect(), totals.collect()))
}
