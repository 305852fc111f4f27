//! How the engine holds operators of any type: an object-safe face, and the lines of a registry.
//!
//! Nobody who writes an operator needs this: [`entry`] makes its line, and the face is implemented for all.

use arrow::datatypes::SchemaRef;

use crate::gate::{Answer, GatePlace};
use crate::graph::RuntimeSettings;
use crate::operator::{BuildContext, Columns, FileRef, Kind, Operator, OperatorError, Paths, Pool, Runtime, StepCheck};

/// Object-safe face of [`Operator`]; implemented for every operator.
pub trait DynOperator: Send + Sync {
    /// See [`Operator::KIND`].
    fn kind(&self) -> Kind;
    /// See [`Operator::NAME`].
    fn name(&self) -> &'static str;
    /// See [`Operator::VERSION`].
    fn version(&self) -> u32;
    /// See [`Operator::columns`].
    fn columns(&self) -> Columns;
    /// See [`Operator::pool`].
    fn pool(&self) -> Pool;
    /// See [`Operator::rows_per_task`].
    fn rows_per_task(&self) -> usize;
    /// See [`Operator::threads_wanted`].
    fn threads_wanted(&self) -> usize;
    /// See [`Operator::validate`].
    fn validate(&self, check: &mut dyn StepCheck);
    /// See [`Operator::check_input`].
    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck);
    /// See [`Operator::check_environment`].
    fn check_environment(&self, check: &mut dyn StepCheck);
    /// See [`Operator::records`].
    fn records(&self) -> bool;
    /// See [`Operator::files`].
    fn files(&self, paths: &Paths) -> Vec<FileRef>;
    /// See [`Operator::model_files`].
    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef>;
    /// See [`Operator::check_models`].
    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck);
    /// See [`Operator::check_models_of_input`].
    fn check_models_of_input(&self, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck);
    /// See [`Operator::cosmetic_keys`].
    fn cosmetic_keys(&self) -> &'static [&'static str];
    /// See [`Operator::decided_by`].
    fn decided_by(&self) -> Option<Vec<&'static str>>;
    /// See [`Operator::also_decided_by`].
    fn also_decided_by(&self) -> Vec<String>;
    /// See [`Operator::gate`].
    fn gate(&self, place: &GatePlace) -> Option<Result<Answer, OperatorError>>;
    /// The parameters with defaults filled in, as JSON; secrets masked.
    fn parameters(&self) -> serde_json::Value;
    /// See [`Operator::build`].
    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError>;
}

impl<T: Operator> DynOperator for T {
    fn kind(&self) -> Kind {
        T::KIND
    }
    fn name(&self) -> &'static str {
        T::NAME
    }
    fn version(&self) -> u32 {
        T::VERSION
    }
    fn columns(&self) -> Columns {
        Operator::columns(self)
    }
    fn pool(&self) -> Pool {
        Operator::pool(self)
    }
    fn rows_per_task(&self) -> usize {
        Operator::rows_per_task(self)
    }
    fn threads_wanted(&self) -> usize {
        Operator::threads_wanted(self)
    }
    fn validate(&self, check: &mut dyn StepCheck) {
        Operator::validate(self, check)
    }
    fn check_input(&self, input: &SchemaRef, check: &mut dyn StepCheck) {
        Operator::check_input(self, input, check)
    }
    fn check_environment(&self, check: &mut dyn StepCheck) {
        Operator::check_environment(self, check)
    }
    fn records(&self) -> bool {
        Operator::records(self)
    }
    fn files(&self, paths: &Paths) -> Vec<FileRef> {
        Operator::files(self, paths)
    }
    fn model_files(&self, paths: &Paths, runtime: &RuntimeSettings) -> Vec<FileRef> {
        Operator::model_files(self, paths, runtime)
    }
    fn check_models(&self, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        Operator::check_models(self, runtime, check)
    }
    fn check_models_of_input(&self, input: &SchemaRef, runtime: &RuntimeSettings, check: &mut dyn StepCheck) {
        Operator::check_models_of_input(self, input, runtime, check)
    }
    fn cosmetic_keys(&self) -> &'static [&'static str] {
        Operator::cosmetic_keys(self)
    }
    fn decided_by(&self) -> Option<Vec<&'static str>> {
        Operator::decided_by(self)
    }
    fn also_decided_by(&self) -> Vec<String> {
        Operator::also_decided_by(self)
    }
    fn gate(&self, place: &GatePlace) -> Option<Result<Answer, OperatorError>> {
        Operator::gate(self, place)
    }
    fn parameters(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }
    fn build(&self, context: &BuildContext) -> Result<Runtime, OperatorError> {
        Operator::build(self, context)
    }
}

/// One line of the registry.
#[derive(Clone, Copy)]
pub struct Entry {
    /// See [`Operator::NAME`].
    pub name: &'static str,
    /// See [`Operator::KIND`].
    pub kind: Kind,
    /// See [`Operator::VERSION`].
    pub version: u32,
    /// See [`Operator::EXAMPLE`].
    pub example: &'static str,
    /// Parses the step's own keys (common keys removed).
    pub parse: fn(toml::de::ValueDeserializer<'_>) -> Result<Box<dyn DynOperator>, toml::de::Error>,
    /// JSON Schema (draft-07) of the step's own keys; the descriptions are the documentation.
    pub schema: fn() -> serde_json::Value,
}

/// The registry line of an operator.
pub const fn entry<T: Operator>() -> Entry {
    Entry { name: T::NAME, kind: T::KIND, version: T::VERSION, example: T::EXAMPLE, parse: parse::<T>, schema: schema::<T> }
}

fn parse<T: Operator>(value: toml::de::ValueDeserializer<'_>) -> Result<Box<dyn DynOperator>, toml::de::Error> {
    Ok(Box::new(T::deserialize(value)?))
}

fn schema<T: Operator>() -> serde_json::Value {
    let mut generator = schemars::generate::SchemaSettings::draft07().with(|s| s.inline_subschemas = true).into_generator();
    generator.root_schema_for::<T>().to_value()
}
