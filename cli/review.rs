//! The verbs `review` and `audit`: people rate a sample on a page of this machine, and what they said is counted.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curette_engine::commit::Folder;
use curette_engine::exit::Exit;
use curette_engine::gate;
use curette_engine::operator::Kind;
use curette_operators::filters::gate::Gate;
use curette_operators::registry::ALL;
use curette_review::audit::{Rule, Standing, Verdict};
use curette_review::mode::Mode;
use curette_review::results::{Choice, results};
use curette_review::server::{MAX_RATERS, Review, listen, serve};
use curette_review::session::{Ask, MAX_ITEMS, Session, Source, of_output};
use curette_review::stage::{Output, Wish, absolute};
use curette_review::{ReviewError, files, ledger};
use serde_json::json;

use crate::{CheckArgs, Format, complain, pipeline, print};

#[derive(Args)]
pub(crate) struct ReviewArgs {
    /// What is looked at: a pipeline that was run, its output folder or a table in it; a folder of generated videos (--mode warping, pairwise); or a folder that
    /// `curette label` laid out (--mode label).
    place: String,
    /// What raters are asked: audit (is it clean?), label (--classes), caption (is it true?), warping (none to severe), pairwise (--against).
    #[arg(long, default_value = "audit")]
    mode: Mode,
    /// The step whose kept and dropped rows are looked at (default: the one that the table of that name holds, or the pipeline's only gate asks about).
    #[arg(long, value_name = "STEP")]
    stage: Option<String>,
    /// Rows that the step kept, or files.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    n: usize,
    /// Rows that it dropped, beside those (default with --mode audit: a quarter of --n, else none).
    #[arg(long, value_name = "COUNT")]
    rejected: Option<usize>,
    /// Draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Who rates; several times for several people, each with a link of their own.
    #[arg(long = "rater", value_name = "NAME", required = true)]
    raters: Vec<String>,
    /// Port on 127.0.0.1; 0: any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Classes for --mode label, the negative one first, with commas between (default: those that the folder was laid out for).
    #[arg(long, value_delimiter = ',')]
    classes: Vec<String>,
    /// Rows whose value in this column is nearest to --boundary come first, instead of random ones: what a head is least certain of teaches it most.
    #[arg(long, value_name = "COLUMN")]
    uncertain: Option<String>,
    /// Where a head is least certain.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.5, requires = "uncertain", allow_hyphen_values = true)]
    boundary: f64,
    /// For --mode pairwise: another model's videos, with the same names; may be given several times.
    #[arg(long, value_name = "NAME=FOLDER")]
    against: Vec<String>,
    /// Folder below which the table `ratings` is written (default: the output, or the folder that is looked at).
    #[arg(long, value_name = "FOLDER")]
    out: Option<String>,
    /// Folder for sessions and journals (default: _curette/review below the output); needed where the output is in a store.
    #[arg(long, value_name = "FOLDER")]
    journal: Option<PathBuf>,
    /// For --mode label: the label table to write for `train-head` (default: labels.parquet below --out).
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How the links are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

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

/// What operators do to rows.
fn kind(operator: &str) -> Option<Kind> {
    ALL.iter().find(|entry| entry.name == operator).map(|entry| entry.kind)
}

fn mistake(place: &str, what: impl std::fmt::Display) -> ReviewError {
    ReviewError::at(place, what)
}

/// The output folder of a pipeline file; anything else is a folder or URL itself.
fn output_of(place: &str) -> Result<String, Exit> {
    let path = Path::new(place);
    if path.extension().is_none_or(|e| e != "toml") || path.is_dir() {
        return Ok(place.to_owned());
    }
    let check = CheckArgs { pipeline: path.to_owned(), no_environment: true, onnxruntime: None, format: Format::Text };
    let graph = pipeline::load(&check)?;
    Ok(graph.paths.resolve(&graph.pipeline.output).to_string_lossy().into_owned())
}

fn told(e: &ReviewError) -> Exit {
    complain(e);
    Exit::Mistake
}

pub(crate) fn review(args: &ReviewArgs) -> Exit {
    let place = match output_of(&args.place) {
        Ok(place) => place,
        Err(exit) => return exit,
    };
    let (review, listener) = match prepare(args, &place) {
        Ok(prepared) => prepared,
        Err(e) => return told(&e),
    };
    review.session.notes.iter().for_each(|note| tracing::warn!("{note}"));
    match print(&links(&review, args.format)) {
        Exit::Done => {}
        other => return other,
    }
    match serve(review, listener) {
        Ok(done) => {
            let labels = done.labels.map(|labels| {
                let counts: Vec<String> = labels.per_class.iter().map(|(class, n)| format!("{n} {class}")).collect();
                format!("; labels: {}, {} undecided, {} without", counts.join(", "), labels.undecided, labels.unlabelled)
            });
            // Nothing is left to do if stderr is closed.
            let _ = writeln!(std::io::stderr(), "{} ratings committed{}", done.committed, labels.unwrap_or_default());
            Exit::Done
        }
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}

fn links(review: &Review, format: Format) -> String {
    let items = review.session.items.len();
    match format {
        Format::Json => {
            let raters = review.seats.iter().map(|seat| json!({"rater": seat.rater, "url": review.link(seat)})).collect::<Vec<_>>();
            json!({"session": review.session.name, "items": items, "raters": raters}).to_string()
        }
        Format::Text => {
            let mut out = format!("{items} items to rate; Ctrl-C ends the review, the same command goes on with it\n");
            review.seats.iter().for_each(|seat| out += &format!("{:<12}  {}\n", seat.rater, review.link(seat)));
            out
        }
    }
}

fn prepare(args: &ReviewArgs, place: &str) -> Result<(Review, std::net::TcpListener), ReviewError> {
    if args.n == 0 || args.n > MAX_ITEMS || args.rejected.is_some_and(|n| n > MAX_ITEMS) {
        return Err(mistake("--n", format!("from 1 to {MAX_ITEMS}, and --rejected from 0")));
    }
    let mut raters = args.raters.clone();
    raters.sort();
    raters.dedup();
    if raters.len() != args.raters.len() || raters.len() > MAX_RATERS {
        return Err(mistake("--rater", format!("each name once, at most {MAX_RATERS}")));
    }
    if !args.boundary.is_finite() {
        return Err(mistake("--boundary", "is no finite number"));
    }
    let folder = Path::new(place);
    let laid_out = files::is_laid_out(folder);
    let is_files = !args.against.is_empty() || laid_out || is_folder_of_files(folder);
    let mut ask = Ask {
        mode: args.mode,
        stage: "files".into(),
        seed: args.seed,
        count: args.n,
        rejected: args.rejected.unwrap_or(if args.mode == Mode::Audit && !is_files { args.n / 4 } else { 0 }),
        classes: args.classes.clone(),
        nearest: args.uncertain.clone().map(|column| (column, args.boundary)),
        against: args.against.iter().map(|text| against(text)).collect::<Result<_, _>>()?,
    };
    if laid_out && ask.classes.is_empty() {
        ask.classes = files::classes_of(folder)?;
    }
    check(&ask, laid_out)?;
    let output = if is_files { None } else { Some(Output::open(place)?) };
    if let Some((output, named)) = &output {
        ask.stage = match args.stage.clone().or_else(|| named.clone()).or_else(|| only_gate(output)) {
            Some(stage) => stage,
            None => return Err(mistake(place, "name the step whose rows are looked at: --stage STEP")),
        };
    } else if args.stage.is_some() {
        return Err(mistake("--stage", format!("{place} is a folder of files, not the output of a pipeline")));
    }
    let home = match (&args.out, &output) {
        (Some(out), _) => {
            make(out)?;
            absolute(out).map_err(|e| mistake(out, e))?
        }
        (None, Some((output, _))) => output.location.clone(),
        (None, None) => absolute(place).map_err(|e| mistake(place, e))?,
    };
    let journals = journals(&home, args.journal.as_deref())?;
    std::fs::create_dir_all(&journals).map_err(|e| mistake(&journals.to_string_lossy(), e))?;
    let asked = ask.clone();
    let source: Source = match &output {
        Some((output, _)) => of_output(output, wish(&asked)),
        None if laid_out => files::of_laid_out(folder, &asked)?,
        None if asked.mode == Mode::Pairwise => files::of_pairs(folder, &asked)?,
        None => files::of_videos(folder, &asked)?,
    };
    let session = Session::open(&journals, ask, source)?;
    let usual = || Path::new(&home).join("labels.parquet");
    let labels = (args.mode == Mode::Label).then(|| args.labels.clone().unwrap_or_else(usual));
    let listener = listen(args.port)?;
    // What a killed server left in the journals.
    ledger::commit(&home, &journals)?;
    Ok((Review::new(session, &args.raters, home, journals, labels, &listener)?, listener))
}

fn wish(ask: &Ask) -> Wish<'_> {
    let nearest = ask.nearest.as_ref().map(|(column, target)| (column.as_str(), *target));
    Wish { stage: &ask.stage, seed: ask.seed, kept: ask.count, rejected: ask.rejected, nearest, kind: &kind }
}

fn check(ask: &Ask, laid_out: bool) -> Result<(), ReviewError> {
    if ask.mode == Mode::Label && ask.classes.len() < 2 {
        return Err(mistake("--classes", "--mode label needs two classes or more, with commas between"));
    }
    if ask.mode != Mode::Label && !ask.classes.is_empty() && !laid_out {
        return Err(mistake("--classes", format!("is for --mode label, not {}", ask.mode)));
    }
    if laid_out && ask.mode != Mode::Label {
        return Err(mistake("--mode", "what `curette label` laid out is for --mode label"));
    }
    files::fits(ask.mode, !ask.against.is_empty()).map_err(|e| mistake("--against", e))
}

fn against(text: &str) -> Result<(String, PathBuf), ReviewError> {
    let parts = text.split_once('=').filter(|(name, folder)| !name.is_empty() && !folder.is_empty());
    let (name, folder) = parts.ok_or_else(|| mistake("--against", format!("`{text}` is not NAME=FOLDER")))?;
    Ok((name.to_owned(), PathBuf::from(folder)))
}

/// A folder that no pipeline wrote.
fn is_folder_of_files(folder: &Path) -> bool {
    let of_pipeline = |folder: &Path| folder.join("_delta_log").is_dir() || folder.join("stages").join("_delta_log").is_dir();
    folder.is_dir() && !of_pipeline(folder)
}

fn make(out: &str) -> Result<(), ReviewError> {
    if out.contains("://") {
        return Ok(());
    }
    std::fs::create_dir_all(out).map_err(|e| mistake(out, e))
}

/// The step that the only gate of an output asks about.
fn only_gate(output: &Output) -> Option<String> {
    match output.steps_of("gate").as_slice() {
        [(_, parameters, input)] => Some(parameters["stage"].as_str().unwrap_or(input).to_owned()),
        _ => None,
    }
}

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

fn journals(home: &str, journal: Option<&Path>) -> Result<PathBuf, ReviewError> {
    match journal {
        Some(folder) => Ok(folder.to_owned()),
        None if home.contains("://") => {
            Err(mistake(home, "is in a store, which cannot keep each rating as it is given: name a folder on a disk with --journal"))
        }
        None => Ok(Path::new(home).join(ledger::JOURNALS)),
    }
}

pub(crate) fn audit(args: &AuditArgs) -> Exit {
    match &args.what {
        What::Status(of) => status(of),
        What::Results(of) => counted(of),
    }
}

/// The ratings below a place, those of journals included.
fn ratings(of: &AuditOf, home: &str) -> Result<Vec<curette_review::rating::Rating>, ReviewError> {
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
    let found = || -> Result<(Vec<(Option<String>, Standing, Option<Verdict>)>, bool), ReviewError> {
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
            found.push((Some(step.clone()), standing, Some(verdict)));
        }
        let mut stages: Vec<&str> = all.iter().filter(|r| r.mode == Mode::Audit).map(|r| r.stage.as_str()).collect();
        stages.sort_unstable();
        stages.dedup();
        let of_gates = |stage: &&str| rules.iter().any(|(_, of, _)| of == stage);
        for stage in stages.into_iter().filter(|s| !of_gates(s) && only.as_ref().is_none_or(|only| only == s)) {
            found.push((None, Standing::of(&all, stage, plan, 1), None));
        }
        Ok((found, closed))
    };
    let (found, closed) = match found() {
        Ok(found) => found,
        Err(e) => return told(&e),
    };
    let printed = match of.format {
        Format::Json => {
            let one = |(gate, standing, verdict): &(Option<String>, Standing, Option<Verdict>)| {
                json!({"gate": gate, "standing": standing, "verdict": verdict})
            };
            print(&json!({"stages": found.iter().map(one).collect::<Vec<_>>(), "closed": closed}).to_string())
        }
        Format::Text if found.is_empty() => print("no gates, and nothing is rated"),
        Format::Text => {
            let one = |(gate, standing, verdict): &(Option<String>, Standing, Option<Verdict>)| {
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
