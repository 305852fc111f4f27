//! From a step's keys to its purse: which file, and what the keys must agree on.

use std::path::Path;

use curette_engine::diag::Code;
use curette_engine::operator::{BuildContext, StepCheck};
use curette_engine::resources::OutputPlace;

use super::purse::{Most, Purse};
use crate::captions::binding::texts_blake3;

/// The longest name of a budget.
const MAX_NAME_BYTES: usize = 64;

/// The purse of a step, kept beside its cache; `None` without any limit. A named one of a step whose cache is where it is by default is kept in the folder of all
/// caches, so that steps of every kind share it; `placed` says that the user chose the cache's folder.
pub fn open(
    context: &BuildContext,
    folder: Option<&Path>,
    placed: bool,
    name: &str,
    most: Most,
) -> Result<Option<Purse>, String> {
    if most == Most::default() {
        return Ok(None);
    }
    let folder = folder.ok_or("a budget is kept beside the cache, and there is none; set `cache_location`")?;
    let folder = if name.is_empty() || placed { folder } else { folder.parent().unwrap_or(folder) };
    let name = match name {
        "" => {
            let output = context.resources.get(OutputPlace::default);
            texts_blake3([output.0.as_str(), context.step])
        }
        name => name.to_owned(),
    };
    Purse::named(folder, &name, most, context.step).map(Some).map_err(|e| e.to_string())
}

/// A sum in US dollars as a purse counts it.
pub fn nano_usd(usd: f64) -> u64 {
    (usd * 1e9).round() as u64
}

/// What contradicts a budget: no cache that it could be kept beside, or an odd name.
pub fn check(limits: &[(&str, bool)], cache_location: Option<&str>, name: &str, check: &mut dyn StepCheck) {
    if let Some((key, _)) = limits.iter().find(|(_, set)| *set)
        && cache_location == Some("off")
    {
        let message = "a budget is kept beside the cache, and there is none";
        check.error(Some(key), Code::Contradiction, message.into(), Some("give `cache_location` a folder".into()));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name.len() > MAX_NAME_BYTES || name.contains(odd) {
        let message = format!("a budget's name has at most {MAX_NAME_BYTES} letters, digits, `-` and `_`");
        check.error(Some("budget_name"), Code::OutOfRange, message, None);
    }
}
