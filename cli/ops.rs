//! The verbs `ops`, `schema` and `explain`: what the registry and the error codes say about themselves. `ops keyword_filter --lint` looks at a
//! dictionary.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use curette_engine::describe::{json_schema, ops_list, ops_page};
use curette_engine::diag::{Code, did_you_mean};
use curette_engine::exit::Exit;
use curette_operators::metadata::dictionaries;
use curette_operators::metadata::keyword_lint::{lint, search, too_common};
use curette_operators::registry::ALL;

use crate::{complain, print};

#[derive(Args)]
pub(crate) struct OpsArgs {
    /// The operator to explain.
    name: Option<String>,
    /// With `keyword_filter`: look at this dictionary instead. Exit 1 if something is wrong with it: doubles, terms that contain shorter ones,
    /// exclusions that cancel nothing; with --sample, terms that are everywhere.
    #[arg(long, value_name = "FILE", requires = "name")]
    lint: Option<PathBuf>,
    /// Search this table: the folder of an output table, or a Parquet, JSON Lines or CSV file. The first million rows count.
    #[arg(long, value_name = "TABLE", requires = "lint")]
    sample: Option<PathBuf>,
    /// The text columns of the sample to search.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',', default_value = "title,description,tags", requires = "sample")]
    fields: Vec<String>,
    /// A term in a greater share of the sample (0 to 1) is too common.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, requires = "sample")]
    max_share: f64,
}

pub(crate) fn ops(args: &OpsArgs) -> Exit {
    let Some(name) = &args.name else { return print(&ops_list(ALL)) };
    if let Some(dictionary) = &args.lint {
        if name != "keyword_filter" {
            complain(&format!("--lint is for `keyword_filter`; `{name}` has no dictionary of terms"));
            return Exit::Mistake;
        }
        return lint_dictionary(args, dictionary);
    }
    match ALL.iter().find(|e| e.name == name) {
        Some(entry) => print(&ops_page(entry)),
        None => {
            let near = did_you_mean(name, ALL.iter().map(|e| e.name));
            let hint = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            complain(&format!("there is no operator `{name}`{hint} (`curette ops` lists them)"));
            Exit::Mistake
        }
    }
}

/// Prints what is wrong with a dictionary, a line each.
fn lint_dictionary(args: &OpsArgs, dictionary: &Path) -> Exit {
    if !(0.0..=1.0).contains(&args.max_share) {
        complain(&"--max-share is from 0 to 1");
        return Exit::Mistake;
    }
    let text = match dictionaries::read(dictionary) {
        Ok(text) => text,
        Err(e) => {
            complain(&format!("dictionary {}: {e}", dictionary.display()));
            return Exit::Mistake;
        }
    };
    let mut found = lint(&text);
    let mut out = String::new();
    if let Some(table) = &args.sample {
        let sample = match search(&text, table, &args.fields) {
            Ok(sample) => sample,
            Err(e) => {
                complain(&format!("sample {}: {e}", table.display()));
                return Exit::Mistake;
            }
        };
        found.extend(too_common(&text, &sample, args.max_share));
        found.sort();
        // Writing to a string cannot fail.
        let _ =
            writeln!(out, "{} of {} rows of the sample have a term; {} terms occur", sample.hit, sample.rows, sample.terms.len());
    }
    let lines: String =
        found.iter().map(|f| format!("{}:{}: {}: {}\n", dictionary.display(), f.line, f.kind, f.message)).collect();
    let verdict = match found.len() {
        0 => "nothing is wrong with it".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    match (print(&format!("{lines}{out}{}: {verdict}", dictionary.display())), found.is_empty()) {
        (Exit::Done, false) => Exit::Failed,
        (exit, _) => exit,
    }
}

pub(crate) fn schema() -> Exit {
    match serde_json::to_string_pretty(&json_schema(ALL)) {
        Ok(text) => print(&text),
        Err(e) => {
            complain(&e);
            Exit::Internal
        }
    }
}

pub(crate) fn explain(code: &str) -> Exit {
    match Code::parse(code) {
        Some(code) => print(&code.explain()),
        None => {
            let all: Vec<_> = Code::all().map(Code::as_str).collect();
            complain(&format!("there is no code `{code}`; there are: {}", all.join(", ")));
            Exit::Mistake
        }
    }
}
