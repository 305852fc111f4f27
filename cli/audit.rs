//! The verbs `audit ...`: what gates wait for, and what people said on the page of `curette review`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curette_engine::commit::Folder;
use curette_engine::exit::Exit;
use curette_engine::gate;
use curette_operators::filters::gate::Gate;
use curette_review::audit::{Rule, Standing, Verdict};
use curette_review::mode::Mode;
use curette_review::rating::Rating;
use curette_review::results::{Choice, results};
use curette_review::stage::{Output, absolute};
use curette_review::{ReviewError, ledger};
use serde_json::json;

use crate::review::{is_folder_of_files, journals, mistake, output_of, told};
use crate::{CheckArgs, Format, pipeline, print};

#[derive(Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What each gate waits for, and how every audited stage stands. Exit 5 if a gate is closed.
    Status(AuditOf),
    /// Shares with Wilson's interval, agreement of raters, tags, win rates, of all modes.
    Results(ResultsOf),
}

#[derive(Args)]
struct AuditOf {
    /// A pipeline that was run, its output folder, or a table in it.
    place: String,
    /// This step only.
    #[arg(long, value_name = "STEP")]
    stage: Option<String>,
    /// Folder of sessions and journals, if it is not the usual one.
    #[arg(long, value_name = "FOLDER")]
    journal: Option<PathBuf>,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
struct ResultsOf {
    #[command(flatten)]
    of: AuditOf,
    /// This mode only.
    #[arg(long)]
    mode: Option<Mode>,
    /// Plans whose hash begins so.
    #[arg(long, value_name = "HASH")]
    plan: Option<String>,
}

/// A stage: its gate, how it stands, and what its gate says of that.
struct Of(Option<String>, Standing, Option<Verdict>);

/// Gates: step, audited step, limits. The limits are those of the pipeline file where it is named, else those that the last run held the audit against: they
/// are no part of a plan's meaning.
fn gates(place: &str, output: &Output) -> Result<Vec<(String, String, Rule)>, ReviewError> {
    let err = |e: &dyn std::fmt::Display| mistake(&output.location, e);
    let folder = Folder::open(&output.location).map_err(|e| err(&e))?;
    let decided = gate::recorded(&folder, &output.plan_hash, output.generation).map_err(|e| err(&e))?.unwrap_or_default();
    let written = written(place);
    let of = |(step, parameters, input): (String, serde_json::Value, String)| {
        let gate: Gate = serde_json::from_value(parameters).unwrap_or_default();
        let last = || decided.get(&step).and_then(|d| serde_json::from_value::<Rule>(d.rule.clone()).ok());
        let rule = written.get(&step).cloned().or_else(last).unwrap_or_else(|| gate.rule());
        (step, gate.stage.unwrap_or(input), rule)
    };
    Ok(output.steps_of("gate").into_iter().map(of).collect())
}

/// Limits as a pipeline file says them, by step.
fn written(place: &str) -> BTreeMap<String, Rule> {
    if !Path::new(place).extension().is_some_and(|e| e == "toml") {
        return BTreeMap::new();
    }
    let check = CheckArgs { pipeline: PathBuf::from(place), no_environment: true, onnxruntime: None, format: Format::Text };
    let Ok(graph) = pipeline::load(&check) else { return BTreeMap::new() };
    let gates = graph.steps.iter().filter(|s| s.operator.name() == "gate");
    let rule = |step: &curette_engine::graph::Step| {
        let gate: Gate = serde_json::from_value(step.operator.parameters()).ok()?;
        Some((step.name.clone(), gate.rule()))
    };
    gates.filter_map(rule).collect()
}

pub(crate) fn audit(args: &AuditArgs) -> Exit {
    match &args.what {
        What::Status(of) => status(of),
        What::Results(of) => counted(of),
    }
}

/// The ratings below a place, those of journals included.
fn ratings(of: &AuditOf, home: &str) -> Result<Vec<Rating>, ReviewError> {
    // In a store there are no journals unless they are named.
    if let Ok(journals) = journals(home, of.journal.as_deref()) {
        ledger::commit(home, &journals)?;
    }
    ledger::read(home)
}

fn status(of: &AuditOf) -> Exit {
    let place = match output_of(&of.place) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let found = || -> Result<(Vec<Of>, bool), ReviewError> {
        let (output, named) = Output::open(&place)?;
        let all = ratings(of, &output.location)?;
        let plan = output.plan_hash.as_str();
        let only = of.stage.clone().or(named);
        let mut found = Vec::new();
        let mut closed = false;
        let rules = gates(&of.place, &output)?;
        for (step, stage, rule) in rules.iter().filter(|(_, stage, _)| only.as_ref().is_none_or(|only| only == stage)) {
            let standing = Standing::of(&all, stage, plan, rule.raters);
            let verdict = rule.judge(&standing);
            closed |= !matches!(verdict, Verdict::Passed(_));
            found.push(Of(Some(step.clone()), standing, Some(verdict)));
        }
        let mut stages: Vec<&str> = all.iter().filter(|r| r.mode == Mode::Audit).map(|r| r.stage.as_str()).collect();
        stages.sort_unstable();
        stages.dedup();
        let of_gates = |stage: &&str| rules.iter().any(|(_, of, _)| of == stage);
        for stage in stages.into_iter().filter(|s| !of_gates(s) && only.as_ref().is_none_or(|only| only == s)) {
            found.push(Of(None, Standing::of(&all, stage, plan, 1), None));
        }
        Ok((found, closed))
    };
    let (found, closed) = match found() {
        Ok(found) => found,
        Err(e) => return told(&e),
    };
    let printed = match of.format {
        Format::Json => {
            let one = |Of(gate, standing, verdict): &Of| json!({"gate": gate, "standing": standing, "verdict": verdict});
            print(&json!({"stages": found.iter().map(one).collect::<Vec<_>>(), "closed": closed}).to_string())
        }
        Format::Text if found.is_empty() => print("no gates, and nothing is rated"),
        Format::Text => {
            let one = |Of(gate, standing, verdict): &Of| {
                let gate = gate.as_ref().map(|gate| format!("gate `{gate}`, "));
                let verdict = verdict.as_ref().map(|verdict| format!("  {verdict}\n"));
                format!("{}{standing}{}", gate.unwrap_or_default(), verdict.unwrap_or_default())
            };
            print(found.iter().map(one).collect::<Vec<_>>().join("\n").trim_end())
        }
    };
    match printed {
        Exit::Done if closed => Exit::Held,
        other => other,
    }
}

fn counted(args: &ResultsOf) -> Exit {
    let place = match output_of(&args.of.place) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let found = || -> Result<_, ReviewError> {
        let (home, named) = match Output::open(&place) {
            Ok((output, named)) => (output.location.clone(), named),
            // A folder of generated videos is no output, but ratings may be in it.
            Err(e) => (absolute(&place).ok().filter(|_| is_folder_of_files(Path::new(&place))).ok_or(e)?, None),
        };
        let all = ratings(&args.of, &home)?;
        let choice = Choice { mode: args.mode, stage: args.of.stage.clone().or(named), plan: args.plan.clone() };
        results(&all, &choice).map_err(|e| mistake(&home, e))
    };
    match found() {
        Err(e) => told(&e),
        Ok(found) => match args.of.format {
            Format::Json => print(&serde_json::to_string_pretty(&found).unwrap_or_default()),
            Format::Text if found.is_empty() => print("nothing is rated"),
            Format::Text => print(found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").trim_end()),
        },
    }
}
