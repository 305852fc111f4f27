//! The verbs `ops`, `schema` and `explain`: what the registry and the error codes say about themselves.

use clap::Args;
use curette_engine::describe::{json_schema, ops_list, ops_page};
use curette_engine::diag::{Code, did_you_mean};
use curette_engine::exit::Exit;
use curette_operators::registry::ALL;

use crate::{complain, print};

#[derive(Args)]
pub(crate) struct OpsArgs {
    /// The operator to explain.
    name: Option<String>,
}

pub(crate) fn ops(args: &OpsArgs) -> Exit {
    let Some(name) = &args.name else { return print(&ops_list(ALL)) };
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
