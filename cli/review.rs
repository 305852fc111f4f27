//! The verb `review`: people rate a sample on a page of this machine.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use curette_engine::exit::Exit;
use curette_engine::operator::Kind;
use curette_operators::registry::ALL;
use curette_review::mode::Mode;
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

/// What operators do to rows.
fn kind(operator: &str) -> Option<Kind> {
    ALL.iter().find(|entry| entry.name == operator).map(|entry| entry.kind)
}

pub(crate) fn mistake(place: &str, what: impl std::fmt::Display) -> ReviewError {
    ReviewError::at(place, what)
}

/// The output folder of a pipeline file; anything else is a folder or URL itself.
pub(crate) fn output_of(place: &str) -> Result<String, Exit> {
    let path = Path::new(place);
    if path.extension().is_none_or(|e| e != "toml") || path.is_dir() {
        return Ok(place.to_owned());
    }
    let check = CheckArgs { pipeline: path.to_owned(), no_environment: true, onnxruntime: None, format: Format::Text };
    let graph = pipeline::load(&check)?;
    Ok(graph.paths.resolve(&graph.pipeline.output).to_string_lossy().into_owned())
}

pub(crate) fn told(e: &ReviewError) -> Exit {
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
            let raters =
                review.seats.iter().map(|seat| json!({"rater": seat.rater, "url": review.link(seat)})).collect::<Vec<_>>();
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
pub(crate) fn is_folder_of_files(folder: &Path) -> bool {
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

pub(crate) fn journals(home: &str, journal: Option<&Path>) -> Result<PathBuf, ReviewError> {
    match journal {
        Some(folder) => Ok(folder.to_owned()),
        None if home.contains("://") => Err(mistake(
            home,
            "is in a store, which cannot keep each rating as it is given: name a folder on a disk with --journal",
        )),
        None => Ok(Path::new(home).join(ledger::JOURNALS)),
    }
}
