//! The verbs `models ...` and `doctor`: what models this machine has, and how it gets the others.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use curette_engine::exit::Exit;
use curette_heads::Head;
use curette_models::doctor::{ModelReport, State, processor_features};
use curette_models::manifest::{CommercialUse, ModelKind};
use curette_models::store::fetch::{Brought, FetchOptions};
use curette_models::store::{Known, main_role};
use curette_models::{ErrorKind, FileRole, ModelError, ModelRef, Models, Settings};
use serde_json::{Value, json};

use crate::{Format, complain, print};

#[derive(Args, Clone)]
pub(crate) struct Where {
    /// Folder of manifests that come before the built-in ones (default: CURETTE_MODELS).
    #[arg(long, global = true, value_name = "FOLDER")]
    models: Option<PathBuf>,
    /// The store of model files (default: CURETTE_MODEL_CACHE, else curette/models in your cache folder).
    #[arg(long, global = true, value_name = "FOLDER")]
    cache: Option<PathBuf>,
    /// ONNX Runtime's shared library.
    #[arg(long, global = true, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Where {
    fn models(&self) -> Models {
        let mut settings = Settings::from_environment();
        settings.manifests = self.models.clone().or(settings.manifests);
        settings.cache = self.cache.clone().unwrap_or(settings.cache);
        settings.onnxruntime = self.onnxruntime.clone();
        Models::new(settings)
    }
}

#[derive(Args)]
pub(crate) struct ModelsArgs {
    #[command(flatten)]
    at: Where,
    #[command(subcommand)]
    verb: ModelsVerb,
}

#[derive(Args, Clone, Copy)]
struct Licence {
    /// You have read the licence of a non-commercial model and may use it.
    #[arg(long)]
    accept_licence: bool,
}

#[derive(Subcommand)]
enum ModelsVerb {
    /// List the known models, their licences, and whether they are here.
    List,
    /// Download the files of models; each must have a known hash.
    Fetch {
        /// Names or manifests.
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        licence: Licence,
        /// Do not use the network; file:// still works.
        #[arg(long, env = "CURETTE_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
        offline: bool,
    },
    /// Read files again, compare hashes, open each graph, compare its contract, and run it once.
    Verify {
        /// Names, manifests or ONNX files (default: every model that is here).
        names: Vec<String>,
    },
    /// Copy files of a model into the store and pin their hashes in models.lock.
    Add {
        /// Name or manifest.
        name: String,
        /// ROLE=FILE with a role of graph, tokenizer, head, dictionary; or only FILE for the model's main file.
        #[arg(required = true)]
        files: Vec<String>,
        #[command(flatten)]
        licence: Licence,
    },
    /// Write models and their files into one tar file.
    Export {
        /// Names or manifests.
        #[arg(required = true)]
        names: Vec<String>,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Bring in a file that `export` wrote.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        licence: Licence,
    },
}

pub(crate) fn models(args: &ModelsArgs) -> Exit {
    let models = args.at.models();
    let done = match &args.verb {
        ModelsVerb::List => models.model_reports().map(|reports| list(&reports)),
        ModelsVerb::Fetch { names, licence, offline } => {
            let options = FetchOptions { accept_licence: licence.accept_licence, offline: *offline };
            each(&models, names, |known| models.store().fetch(known, options))
        }
        ModelsVerb::Verify { names } => return verify(&models, names, args.at.format),
        ModelsVerb::Add { name, files, licence } => each(&models, std::slice::from_ref(name), |known| {
            let files = roles(known, files)?;
            files.iter().try_for_each(|(role, path)| fits(&models, known, *role, path))?;
            models.store().add(known, &files, licence.accept_licence)
        })
        .and_then(|output| tried(&models, name, output)),
        ModelsVerb::Export { names, to } => export(&models, names, to),
        ModelsVerb::Import { file, licence } => models.store().import(file, licence.accept_licence).map(|i| Output {
            text: format!("{}: {} files brought in, {} were here", i.models.join(", "), i.blobs, i.already),
            json: json!(i),
        }),
    };
    match done {
        Ok(output) => output.print(args.at.format),
        Err(e) => failed(&e),
    }
}

struct Output {
    text: String,
    json: Value,
}

impl Output {
    fn print(&self, format: Format) -> Exit {
        match format {
            Format::Text => print(&self.text),
            Format::Json => print(&self.json.to_string()),
        }
    }
}

fn failed(e: &ModelError) -> Exit {
    complain(&e.full());
    match e.kind {
        ErrorKind::Download | ErrorKind::Store | ErrorKind::Run | ErrorKind::Busy | ErrorKind::Cancelled => Exit::Failed,
        _ => Exit::Mistake,
    }
}

fn reference(name: &str) -> ModelRef {
    ModelRef::parse(name, std::path::Path::new(""))
}

fn list(reports: &[ModelReport]) -> Output {
    let mut text = format!("{:<24}{:<8}{:<62}{}\n", "model", "state", "licence", "what it is");
    for r in reports {
        let state = state(r.state);
        let commercial = match r.commercial_use {
            CommercialUse::Yes => "",
            CommercialUse::No => " (non-commercial)",
            CommercialUse::Unknown => " (commercial use unknown)",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<24}{state:<8}{:<62}{}", r.name, format!("{}{commercial}", r.licence), r.title);
    }
    for r in reports {
        if let Some(problem) = &r.problem {
            let _ = write!(text, "\n{}: {problem}", r.name);
        }
    }
    Output { text, json: json!(reports) }
}

fn state(state: State) -> &'static str {
    match state {
        State::Present => "here",
        State::CanFetch => "fetch",
        State::MustAdd => "add",
        State::Broken => "broken",
    }
}

type Brings<'a> = &'a dyn Fn(&Known) -> Result<Vec<Brought>, ModelError>;

fn each(
    models: &Models,
    names: &[String],
    bring: impl Fn(&Known) -> Result<Vec<Brought>, ModelError>,
) -> Result<Output, ModelError> {
    let bring: Brings<'_> = &bring;
    let (mut text, mut all) = (String::new(), Vec::new());
    for name in names {
        let known = models.store().manifest(&reference(name))?;
        for file in bring(&known)? {
            let what = file.bytes.map_or_else(|| "was here".to_owned(), |n| format!("{n} bytes"));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}  {:<10} {}  {what}", known.manifest.name, file.role.name(), file.sha256);
            all.push(json!({"model": known.manifest.name, "file": file}));
        }
    }
    Ok(Output { text, json: json!(all) })
}

fn roles(known: &Known, files: &[String]) -> Result<Vec<(FileRole, PathBuf)>, ModelError> {
    let role = |file: &String| match file.split_once('=') {
        None => Ok((main_role(&known.manifest), PathBuf::from(file))),
        Some((role, path)) => match FileRole::parse(role) {
            Some(role) => Ok((role, PathBuf::from(path))),
            None => Err(ModelError::new(ErrorKind::BadInput, format!("`{role}` is not a role"))
                .help("roles are graph, tokenizer, head, dictionary: write ROLE=FILE")),
        },
    };
    files.iter().map(role).collect()
}

fn export(models: &Models, names: &[String], to: &std::path::Path) -> Result<Output, ModelError> {
    let known = names.iter().map(|n| models.store().manifest(&reference(n))).collect::<Result<Vec<_>, _>>()?;
    models.store().export(&known, to)?;
    let names: Vec<_> = known.iter().map(|k| k.manifest.name.clone()).collect();
    Ok(Output {
        text: format!("{}: {}", to.display(), names.join(", ")),
        json: json!({"file": to.display().to_string(), "models": names}),
    })
}

/// A wrong file shows itself before it is pinned, not at the start of a run; as far as it can be tried alone, and here.
fn fits(models: &Models, known: &Known, role: FileRole, path: &Path) -> Result<(), ModelError> {
    let tried = match role {
        FileRole::Graph => models.try_graph(&known.manifest, path),
        FileRole::Head => readable_head(&known.manifest.name, path),
        FileRole::Tokenizer | FileRole::Dictionary => Ok(()),
    };
    tried.or_else(|e| if e.kind == ErrorKind::Library { Ok(()) } else { Err(e) })
}

/// The files together. One that is still missing, or no library to try them with, is no failure.
fn tried(models: &Models, name: &str, mut output: Output) -> Result<Output, ModelError> {
    let said = match verified(models, name) {
        Ok(()) => "tried: fine".to_owned(),
        Err(e) if matches!(e.kind, ErrorKind::MissingFile | ErrorKind::Library) => format!("not tried: {}", e.full()),
        Err(e) => return Err(e.help("the files were added but do not fit together: add the right one in the wrong one's place")),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(output.text, "{name}  {said}");
    Ok(output)
}

fn readable_head(name: &str, path: &Path) -> Result<(), ModelError> {
    Head::load(path).map(drop).map_err(|e| ModelError::new(ErrorKind::Contract, format!("model `{name}`: {e}")))
}

fn verified(models: &Models, name: &str) -> Result<(), ModelError> {
    models.verify(&reference(name))?;
    let located = models.find(&reference(name))?;
    if located.manifest.kind != ModelKind::Head {
        return Ok(());
    }
    readable_head(name, located.require(FileRole::Head)?)
}

/// Goes on after a failure, so that one report tells all.
fn verify(models: &Models, names: &[String], format: Format) -> Exit {
    let names: Vec<String> = if names.is_empty() {
        match models.model_reports() {
            Ok(reports) => reports.into_iter().filter(|r| r.state == State::Present).map(|r| r.name).collect(),
            Err(e) => return failed(&e),
        }
    } else {
        names.to_vec()
    };
    let (mut text, mut all, mut exit) = (String::new(), Vec::new(), Exit::Done);
    for name in &names {
        let problem = verified(models, name).err().map(|e| e.full());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {}", problem.as_deref().unwrap_or("fine"));
        if problem.is_some() {
            exit = Exit::Mistake;
        }
        all.push(json!({"model": name, "problem": problem}));
    }
    if names.is_empty() {
        text.push_str("no model is here: `curette models list` shows how to get them\n");
    }
    match (Output { text, json: json!(all) }).print(format) {
        Exit::Done => exit,
        other => other,
    }
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    at: Where,
    /// A folder or URL that tables are to be written to. Objects are made and removed below it. Exit 2 if it must not hold tables, 1 if it cannot be used now.
    place: Option<String>,
}

/// The verb `doctor`. Fails if ONNX Runtime cannot be loaded or a manifest is broken; a model that is not here is no failure.
pub(crate) fn doctor(args: &DoctorArgs) -> Exit {
    if let Some(place) = &args.place {
        return crate::doctor::store(place, args.at.format);
    }
    let models = args.at.models();
    let (library, reports, features) = (models.library_report(), models.model_reports(), processor_features());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let fine = library.is_ok() && reports.as_ref().is_ok_and(|r| r.iter().all(|r| r.state != State::Broken));
    let json = json!({
        "curette": env!("CARGO_PKG_VERSION"),
        "cores": cores,
        "processor_features": features,
        "onnxruntime": match &library { Ok(l) => json!(l), Err(e) => json!({"problem": e.full()}) },
        "store": models.settings().cache,
        "lock": models.store().lock_file(),
        "models": match &reports { Ok(r) => json!(r), Err(e) => json!({"problem": e.full()}) },
    });
    let library = match &library {
        Ok(l) => {
            let providers: Vec<_> = l.providers.iter().map(|p| p.name()).collect();
            format!(
                "{} at {} ({}); providers: {}; oldest that would do: {}",
                l.version,
                l.path.display(),
                l.found_by,
                providers.join(", "),
                l.needs
            )
        }
        Err(e) => format!("PROBLEM: {}", e.full()),
    };
    let store = models.settings().cache.display();
    let mut text = format!(
        "curette       {}\nprocessor     {cores} cores, {}\nONNX Runtime  {library}\nstore         {store}\nlock          {}\n\n",
        env!("CARGO_PKG_VERSION"),
        if features.is_empty() { "no vector extension that matters".to_owned() } else { features.join(", ") },
        models.store().lock_file().display()
    );
    match &reports {
        Ok(reports) => text.push_str(&list(reports).text),
        Err(e) => text.push_str(&format!("models: PROBLEM: {}", e.full())),
    }
    match (Output { text, json }).print(args.at.format) {
        Exit::Done if fine => Exit::Done,
        Exit::Done => Exit::Mistake,
        other => other,
    }
}
