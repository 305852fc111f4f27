//! What a pipeline needs around it: places to write to, files to read, software.

use std::fs::File;
use std::path::Path;

use super::columns::Edges;
use super::report::Reporter;
use super::steps::Parsed;
use crate::dataflow::tables::{ERRORS, REJECTS, STAGES};
use crate::diag::{Code, Diagnostic};
use crate::graph::{HashedFile, RuntimeSettings};
use crate::operator::{Kind, Paths};

/// Folders below the output that the engine itself writes.
const RESERVED: [&str; 4] = [REJECTS, ERRORS, STAGES, "_curette"];

/// No sink may write where another writes, or inside of it: each deletes files in its folder that are not its own.
pub(super) fn locations(steps: &[Parsed], diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: Vec<(String, &Parsed)> = Vec::new();
    for step in steps.iter().filter(|s| s.kind() == Some(Kind::Sink)) {
        let Some(operator) = step.sure_operator() else { continue };
        let given = operator.parameters().get("location").and_then(|l| l.as_str().map(str::to_owned));
        let location = normal(given.as_deref().unwrap_or(&step.name));
        let place = |s: &Parsed| s.places.get("location").map_or_else(|| s.places.header.clone(), |p| p.value.clone());
        if let Some(name) = RESERVED.iter().find(|r| overlap(r, &location)) {
            let message = format!("the engine itself writes to `{name}`");
            let d = Diagnostic::new(Code::SameLocation, message, place(step), "taken");
            diagnostics.push(d.help(format!("give `{}` another `location`", step.name)));
        } else if let Some(problem) = unknown_store(&location) {
            diagnostics.push(Diagnostic::new(Code::OutOfRange, problem, place(step), "no known store").help(STORES));
        } else if location.is_empty() || location == ".." || location.starts_with("../") {
            let message = "a sink needs a folder of its own below the output".to_owned();
            diagnostics.push(
                Diagnostic::new(Code::SameLocation, message, place(step), "not below the output")
                    .help("or an absolute path, or a URL"),
            );
        } else if let Some((_, other)) = taken.iter().find(|(l, _)| overlap(l, &location)) {
            let message = format!("`{}` and `{}` write to the same place: {location}", other.name, step.name);
            let d = Diagnostic::new(Code::SameLocation, message, place(step), "here");
            let d = d.also(place(other), "and here");
            diagnostics.push(d.help("give each sink a `location` of its own, not inside of another's"));
        }
        taken.push((location, step));
    }
}

/// What tables can be written to.
pub(super) const STORES: &str = curette_stores::KNOWN;

/// Says what is wrong with a URL that no table can be written to.
pub(super) fn unknown_store(location: &str) -> Option<String> {
    let (scheme, _) = location.split_once("://")?;
    match scheme {
        "file" => None,
        _ if curette_stores::is_known(location) => curette_stores::problem(location),
        _ => Some(format!("tables cannot be written to `{scheme}://`")),
    }
}

/// `./a//b/` and `a/b` are one place.
fn normal(location: &str) -> String {
    let (scheme, path) = location.split_once("://").map_or(("", location), |(s, p)| (s, p));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|p| !p.is_empty() && *p != ".") {
        match (part, parts.last()) {
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    let root = if scheme.is_empty() && path.starts_with('/') { "/" } else { "" };
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{root}{}", parts.join("/"))
}

fn overlap(a: &str, b: &str) -> bool {
    let inside = |x: &str, y: &str| y.strip_prefix(x).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    inside(a, b) || inside(b, a)
}

/// Hashes the files that steps name, and asks operators for the software that they need.
pub(super) fn files(
    steps: &[Parsed],
    edges: &[Option<Edges>],
    text: &str,
    paths: &Paths,
    runtime: &RuntimeSettings,
    environment: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Vec<HashedFile>> {
    let mut all = Vec::new();
    for (step, edges) in steps.iter().zip(edges) {
        let mut hashed = Vec::new();
        if let Some(operator) = step.sure_operator() {
            for file in operator.files(paths).into_iter().chain(operator.model_files(paths, runtime)) {
                match hash(&file.path) {
                    Ok(blake3) => hashed.push(HashedFile { key: file.key.to_owned(), blake3 }),
                    Err(problem) => {
                        let span = step.places.get(file.key).map_or_else(|| step.places.step(), |p| p.value.clone());
                        let message = format!("cannot read {}: {problem}", file.path.display());
                        let d = Diagnostic::new(Code::MissingFile, message, span, format!("`{}`", file.key));
                        diagnostics.push(d.help("relative paths start at the folder of the pipeline file"));
                    }
                }
            }
            if environment {
                let mut check = Reporter { text, places: &step.places, paths, diagnostics };
                operator.check_environment(&mut check);
                operator.check_models(runtime, &mut check);
                if let Some(edges) = edges {
                    operator.check_models_of_input(&edges.input, runtime, &mut check);
                }
            }
        }
        all.push(hashed);
    }
    all
}

fn hash(path: &Path) -> Result<String, String> {
    if path.to_string_lossy().contains("://") {
        return Err("it must be a local file".to_owned());
    }
    let kind = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => e.to_string(),
    };
    if std::fs::metadata(path).map_err(kind)?.is_dir() {
        return Err("it is a folder".to_owned());
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(kind)?).map_err(kind)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_as_places() {
        assert_eq!(normal("./a//b/"), "a/b");
        assert_eq!(normal("a/../b"), "b");
        assert_eq!(normal("../b"), "../b");
        assert_eq!(normal("/x/./y"), "/x/y");
        assert_eq!(normal("s3://bucket/a/"), "s3://bucket/a");
        assert!(overlap("a", "a/b") && overlap("a/b", "a") && overlap("a", "a"));
        assert!(unknown_store("s3://b/x").is_none() && unknown_store("/a").is_none() && unknown_store("file:///a").is_none());
        assert!(unknown_store("gs://b/x").is_none() && unknown_store("ftp://b").is_some() && unknown_store("s3:///x").is_some());
        assert!(!overlap("a", "ab") && !overlap("s3://x", "x"));
    }
}
