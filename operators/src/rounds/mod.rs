//! Sources whose rows are decided over whole committed tables, before the run: in planning rounds.
//!
//! Such a decision needs all rows of a channel or of a content, so it cannot be a step among steps whose splits are finished one by one. It is the
//! first step of a pipeline over the tables that another pipeline has committed; what it decides is part of the plan.

pub mod channel_expansion;
pub mod columns;
pub mod dedup;
pub mod ids;
pub mod places;
pub mod planning;

use curette_engine::operator::{OperatorError, Paths};

use crate::sources::files::is_url;

/// An absolute path, or a URL as it is.
fn absolute(paths: &Paths, given: &str) -> Result<String, OperatorError> {
    let given = given.strip_prefix("file://").unwrap_or(given);
    if is_url(given) {
        return Ok(given.to_owned());
    }
    let full = std::path::absolute(paths.resolve(given)).map_err(|e| OperatorError::new(format!("`{given}`: {e}")))?;
    full.into_os_string().into_string().map_err(|p| OperatorError::new(format!("{} is not UTF-8", p.to_string_lossy())))
}
