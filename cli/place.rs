//! Folders and URLs on the command line.

use curette_engine::commit::{Folder, Table};
use curette_engine::dataflow::tables::STAGES;

/// Without a `/` at its end, and absolute if it is a local path; `..` is resolved.
pub(crate) fn absolute(given: &str) -> Result<String, String> {
    if given.contains("://") && !given.starts_with("file://") {
        return match curette_stores::problem(given) {
            Some(problem) => Err(format!("{}: {problem}; {}", curette_stores::shown(given), curette_stores::KNOWN)),
            None => Ok(given.trim_end_matches('/').to_owned()),
        };
    }
    let path = std::path::absolute(given.strip_prefix("file://").unwrap_or(given)).map_err(|e| format!("`{given}`: {e}"))?;
    let path = path.canonicalize().unwrap_or(path);
    path.into_os_string().into_string().map_err(|p| format!("{} is not UTF-8", p.to_string_lossy()))
}

/// A pipeline's output and the tables in it that are meant.
pub(crate) struct Place {
    pub(crate) output: String,
    /// Name and location.
    pub(crate) tables: Vec<(String, String)>,
}

/// What a folder or URL is: an output, with all its tables; or a table, whose output is the folder above, or `output` where the table lies elsewhere.
pub(crate) fn of(given: &str, output: Option<&str>) -> Result<Place, String> {
    let place = absolute(given)?;
    if is_table(&format!("{place}/{STAGES}"))? {
        let names = Folder::open(&place).and_then(|folder| folder.folders()).map_err(|e| e.to_string())?;
        let mut tables = Vec::new();
        for name in names {
            let location = format!("{place}/{name}");
            if is_table(&location)? {
                tables.push((name, location));
            }
        }
        return Ok(Place { output: place, tables });
    }
    if !is_table(&place)? {
        return Err(format!("{given} is neither a table nor the output of a pipeline: there is no log and no table `{STAGES}`"));
    }
    let (parent, name) = place.rsplit_once('/').unwrap_or(("", &place));
    let output = match output {
        Some(output) => absolute(output)?,
        None => parent.to_owned(),
    };
    if !is_table(&format!("{output}/{STAGES}"))? {
        return Err(format!(
            "{output} is no pipeline's output, so it is not known which files of {given} a stopped run will still commit: name the output with --output"
        ));
    }
    Ok(Place { tables: vec![(name.to_owned(), place.clone())], output })
}

fn is_table(location: &str) -> Result<bool, String> {
    Table::open_existing("table", location).map(|table| table.is_some()).map_err(|e| e.to_string())
}
