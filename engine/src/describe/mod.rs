//! Documentation and schemas, derived from the registry: `curette ops`, `curette schema`.
//!
//! Everything comes from the operators' own structs and examples, so it cannot be out of date.

mod pages;
mod pipeline_schema;

use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::config::COMMON_KEYS;
use crate::operator::{DynOperator, Entry};

pub use pages::{ops_list, ops_page};
pub use pipeline_schema::json_schema;

/// The operator of an entry's example: what `ops` and messages say about its columns.
pub fn example(entry: &Entry) -> Result<Box<dyn DynOperator>, String> {
    let root = DeTable::parse(entry.example).map_err(|e| e.to_string())?;
    let steps = root.into_inner().into_iter().find(|(key, _)| key.get_ref() == "step");
    let Some((_, steps)) = steps else { return Err("the example has no `[step.NAME]` table".to_owned()) };
    let DeValue::Table(steps) = steps.into_inner() else { return Err("`step` is not a table".to_owned()) };
    // The operator's own step, if the example shows others around it.
    let step = steps.into_iter().map(|(_, step)| step).find(|s| {
        let name = s.get_ref().as_table().and_then(|t| t.get("type")).and_then(|t| t.get_ref().as_str());
        name == Some(entry.name)
    });
    let Some(step) = step else { return Err(format!("the example has no step of type `{}`", entry.name)) };
    let span = step.span();
    let DeValue::Table(mut table) = step.into_inner() else { return Err("the step is not a table".to_owned()) };
    COMMON_KEYS.iter().for_each(|key| drop(table.remove(*key)));
    let value = ValueDeserializer::from(Spanned::new(span, DeValue::Table(table)));
    (entry.parse)(value).map_err(|e| e.to_string())
}
