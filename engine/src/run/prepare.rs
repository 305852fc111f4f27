//! From a checked pipeline to a run that may begin: inputs listed, plan cut, tables open, finished splits known.
//!
//! What can go wrong: the output was made by another plan. Rows of two plans must not mix in one table, so the run is refused with the
//! difference, and with the two ways on.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::commit::{CommitError, Folder, JsonlDir, PlanStamp, SplitSet, Table, TableSpec, TableState, kill_point};
use crate::dataflow::compile::{Program, compile};
use crate::dataflow::intent::Intents;
use crate::dataflow::{Job, Target, finish_group, tables as system};
use crate::gate::{Gates, Keeper};
use crate::graph::{Graph, OnNewInputs, meaning_diff};
use crate::operator::{ID_METADATA, OperatorError, SinkFormat};
use crate::plan::{Plan, PlanHash, PlanStore, plan};
use crate::resources::{OutputPlace, Resources};
use crate::reuse::Kept;

use super::RunError;
use super::begun::Begun;
use super::difference::refusal;
use super::versions::{Ask, Standing, Version, decide};

/// Target size of shards of the system tables.
const SYSTEM_SHARD_BYTES: u64 = 64 << 20;
/// Row groups of the system tables.
const SYSTEM_ROW_GROUP_BYTES: u64 = 8 << 20;
/// zstd level of the system tables.
const SYSTEM_ZSTD_LEVEL: i32 = 3;
/// Rows of an unfinished split that take more than this go to a JSON Lines file early.
const JSONL_SPILL_BYTES: u64 = 64 << 20;

/// The tables of a pipeline's output, in commit order.
#[derive(Clone)]
pub struct Tables {
    /// One for each sink, then the system tables.
    pub all: Vec<OpenTable>,
}

/// An open table or folder.
#[derive(Clone)]
pub struct OpenTable {
    /// Its name: the sink's step, or a system table's.
    pub name: String,
    /// Where it is.
    pub location: String,
    kind: OpenKind,
}

#[derive(Clone)]
enum OpenKind {
    Table { table: Arc<Table>, done: SplitSet, spec: Arc<TableSpec>, sort_by: Option<String> },
    Jsonl { dir: Arc<JsonlDir>, sort_by: Option<String> },
}

impl OpenTable {
    /// The committed table, unless it is a folder of files.
    pub fn table(&self) -> Option<&Arc<Table>> {
        match &self.kind {
            OpenKind::Table { table, .. } => Some(table),
            OpenKind::Jsonl { .. } => None,
        }
    }

    /// Removes what killed attempts left; gives the number of files and their bytes.
    pub fn collect_orphans(&self, mine: &PlanStamp) -> Result<(u64, u64), CommitError> {
        match &self.kind {
            OpenKind::Table { table, .. } => table.collect_orphans_of(mine).map(|found| (found.files, found.bytes)),
            OpenKind::Jsonl { dir, .. } => dir.remove_half_made(),
        }
    }

    /// Rows that it holds.
    pub fn row_count(&self) -> Result<u64, CommitError> {
        match &self.kind {
            OpenKind::Table { table, .. } => table.row_count(),
            OpenKind::Jsonl { dir, .. } => dir.row_count(),
        }
    }
}

impl Tables {
    /// Splits that stand in every table.
    fn done(&self) -> SplitSet {
        let mut sets = self.all.iter().filter_map(|t| if let OpenKind::Table { done, .. } = &t.kind { Some(done) } else { None });
        let first = sets.next().cloned().unwrap_or_default();
        sets.fold(first, |all, one| all.intersection(one))
    }

    /// Notes which splits each table has in this generation.
    fn look(&mut self, stamp: &PlanStamp) -> Result<(), CommitError> {
        for open in &mut self.all {
            if let OpenKind::Table { table, done, .. } = &mut open.kind {
                let state = table.state()?;
                let current = state.plan_hash.as_ref() == Some(&stamp.plan_hash) && state.generation == stamp.generation;
                *done = if current { state.done } else { SplitSet::new() };
            }
        }
        Ok(())
    }

    /// The highest generation of this plan that a table is in.
    fn generation(&self, plan: &PlanHash) -> Result<u64, CommitError> {
        let states: Vec<TableState> = self.all.iter().filter_map(|t| t.table()).map(|t| t.state()).collect::<Result<_, _>>()?;
        Ok(states.iter().filter(|s| s.plan_hash.as_deref() == Some(plan.as_str())).map(|s| s.generation).max().unwrap_or(0))
    }

    /// Whether rows of this generation were committed anywhere.
    fn begun_work(&self, stamp: &PlanStamp) -> Result<bool, CommitError> {
        for table in self.all.iter().filter_map(|t| t.table()) {
            let state = table.state()?;
            let current = state.plan_hash.as_ref() == Some(&stamp.plan_hash) && state.generation == stamp.generation;
            if current && !state.done.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The system table of this name.
    pub fn system(&self, name: &str) -> Option<&Arc<Table>> {
        let from = self.all.len().saturating_sub(system::SYSTEM_TABLES.len());
        self.all[from..].iter().find(|t| t.name == name).and_then(|t| t.table())
    }
}

/// A run that may begin.
pub struct Prepared {
    /// The pipeline.
    pub graph: Arc<Graph>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// The tables.
    pub tables: Tables,
    /// Splits that are committed everywhere.
    pub done: SplitSet,
    /// Splits to do.
    pub todo: Vec<u32>,
    program: Program,
    resources: Arc<Resources>,
    pub(super) stamp: PlanStamp,
    pub(super) intents: Intents,
    pub(super) begun: Begun,
    pub(super) gates: Arc<Gates>,
    keeper: Keeper,
}

/// What `--new-version` and the place in the cluster say.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrepareOptions {
    /// Begin a new version of the tables when the plan has changed, or when all of it is done.
    pub new_version: bool,
    /// Another process decides whether a finished plan begins again: this one calls [`Prepared::follow`] when the two are connected.
    pub follows: bool,
    /// Open gates ([`crate::gate`]) although nobody has said that rows may pass.
    pub accept_unaudited: bool,
    /// Another process has prepared this run just now, so what it decided about gates holds.
    pub gates_decided: bool,
}

/// Starts the operators, lists the inputs and cuts the plan. Reads, writes nothing.
pub fn plan_only(graph: &Graph, resources: &Arc<Resources>) -> Result<(Program, Plan), RunError> {
    resources.get(|| OutputPlace(absolute(&graph.paths.resolve(&graph.pipeline.output).to_string_lossy())));
    let program = compile(graph, resources)?;
    let (mut listings, mut notes) = (Vec::new(), Vec::new());
    for step in &program.steps {
        if let crate::dataflow::compile::Work::Source(source) = &step.work {
            let items = source.list().map_err(|e| crate::plan::PlanError::List { step: step.name.to_string(), source: e })?;
            listings.push((step.index, items));
            notes.extend(source.notes().into_iter().map(|note| format!("step `{}`: {note}", step.name)));
        }
    }
    let plan = Plan { notes, ..plan(graph, listings)? };
    Ok((program, plan))
}

/// Prepares a run: makes the tables where they are missing and refuses a changed plan.
pub fn prepare(graph: Graph, options: PrepareOptions) -> Result<Prepared, RunError> {
    let resources = Arc::new(Resources::default());
    let (program, plan) = plan_only(&graph, &resources)?;
    let store = PlanStore::new(output_folder(&graph)?);
    let wanted = targets(&graph, &program)?;
    let standings = standings(&wanted, &plan)?;
    let begun = Begun::of(output_folder(&graph)?);
    let ask = Ask { new_version: options.new_version, follows: options.follows, begun: begun.generation()? };
    let mut version = decide_for(&graph, &plan, &standings, ask)?;
    let gates = resources.get(Gates::default);
    let output = absolute(&graph.paths.resolve(&graph.pipeline.output).to_string_lossy());
    let keeper = Keeper::ask(&graph, output_folder(&graph)?, &output, &plan.hash, options.accept_unaudited)?;
    if let Version::Continue(generation) = version
        && !options.gates_decided
        && keeper.would_open(generation)?
    {
        version = decide_for(&graph, &plan, &standings, Ask { new_version: true, ..ask })?;
        if let Version::Begin(_) = version {
            tracing::info!("A gate that held rows back opens: a new version of the tables begins");
        }
    }
    let asked = options.new_version && !options.follows && standings.iter().any(|s| s.stamp.is_some());
    if let (Version::Continue(_), true) = (&version, asked) {
        tracing::info!("--new-version begins nothing: the newest version is of this plan and not finished, so it is continued");
    }
    let mut tables = match open_all(&wanted, &version) {
        // Tables that were made for other columns but never held a row bind nobody.
        Err(RunError::Commit(CommitError::SchemaMismatch { .. })) if standings.iter().all(|s| s.stamp.is_none()) => {
            version = Version::Begin(1);
            open_all(&wanted, &version)?
        }
        other => other?,
    };
    let generation = match version {
        Version::Continue(generation) | Version::Begin(generation) => generation,
        Version::Refuse(old) => return Err(RunError::PlanChanged(refusal(&graph, &plan, &store, &old))),
    };
    let stamp = PlanStamp { plan_hash: plan.hash.as_str().to_string(), generation };
    store.save(&graph, &plan)?;
    if !options.follows {
        let begins = matches!(version, Version::Begin(_));
        let bound = !begins && (options.gates_decided || tables.begun_work(&stamp)?);
        gates.set(keeper.settle(generation, bound)?);
        kill_point("gates_noted");
        kill_point("before_settle");
        settle(&program)?;
        kill_point("after_settle");
    }
    if let (Version::Begin(_), false) = (&version, options.follows) {
        begun.note(generation)?;
        kill_point("version_noted");
    }
    // Tables before folders of files: a folder is emptied, which only a table that says so can explain to the next run.
    let (folders, committed): (Vec<_>, Vec<_>) =
        tables.all.iter().zip(&standings).partition(|(open, _)| matches!(open.kind, OpenKind::Jsonl { .. }));
    // A follower begins nothing: its files may differ from those of the process that decides, and the two have not been compared yet.
    for (open, standing) in committed.into_iter().chain(folders).filter(|_| !options.follows) {
        if standing.stamp.as_ref() == Some(&stamp) {
            continue;
        }
        match &open.kind {
            // Also tables without a record: they may have been made for other columns.
            OpenKind::Table { table, .. } if generation > 0 => drop(table.begin_generation(&stamp)?),
            OpenKind::Table { .. } => {}
            OpenKind::Jsonl { dir, .. } if generation > 0 => dir.begin_generation(&stamp)?,
            OpenKind::Jsonl { dir, .. } => dir.claim(&stamp)?,
        }
        kill_point("version_begun");
    }
    let intents = Intents::new(output_folder(&graph)?);
    let committed: Vec<Option<Arc<Table>>> = tables.all.iter().map(|t| t.table().cloned()).collect();
    let groups = intents.finish(&stamp, |group| finish_group(&committed, &stamp, group))?;
    if groups > 0 {
        tracing::info!(groups, "Finished the commits that a killed run had begun");
    }
    tables.look(&stamp)?;
    let done = tables.done();
    let todo = crate::dataflow::todo(&plan, &done);
    let (graph, plan) = (Arc::new(graph), Arc::new(plan));
    Ok(Prepared { graph, plan, tables, done, todo, program, resources, stamp, intents, begun, gates, keeper })
}

/// [`decide`], and the pipeline's own word on inputs that are new.
fn decide_for(graph: &Graph, plan: &Plan, standings: &[Standing], ask: Ask) -> Result<Version, RunError> {
    let version = decide(standings, &plan.hash, ask);
    let (Version::Refuse(old), OnNewInputs::NewVersion) = (&version, graph.pipeline.on_new_inputs) else { return Ok(version) };
    // A plan that cannot be read back may differ in anything.
    let meaning = PlanStore::new(output_folder(graph)?).meaning(old);
    let only_inputs_differ = meaning.is_ok_and(|meaning| meaning_diff(&meaning, &plan.meaning).is_empty());
    Ok(if only_inputs_differ { decide(standings, &plan.hash, Ask { new_version: true, ..ask }) } else { version })
}

/// Lets sources keep what their listings decided.
fn settle(program: &Program) -> Result<(), RunError> {
    for step in &program.steps {
        if let crate::dataflow::compile::Work::Source(source) = &step.work {
            let named =
                |e: OperatorError| OperatorError { message: format!("step `{}`: {}", step.name, e.message), help: e.help };
            source.settle().map_err(named)?;
        }
    }
    Ok(())
}

/// Answers of earlier runs, if a step has any.
fn kept(graph: &Graph, program: &Program, processes: usize) -> Result<Option<Kept>, RunError> {
    if program.steps.iter().all(|s| s.reuse.is_none()) {
        return Ok(None);
    }
    let output = absolute(&graph.paths.resolve(&graph.pipeline.output).to_string_lossy());
    Ok(Some(Kept::open(&output, graph.engine.reuse_max_bytes, processes)?))
}

/// Counts kept answers beside the run, since a listing of millions may take minutes; the first process also makes room. Until it is known what is
/// there, the limit holds for the answers of this run alone.
fn count_kept(kept: &Arc<Kept>, program: &Program, first: bool) {
    let used: BTreeSet<String> = program.steps.iter().filter_map(|s| s.reuse.as_ref()).map(|r| r.folder.clone()).collect();
    let kept = Arc::clone(kept);
    let counting = std::thread::Builder::new().name("kept-answers".into()).spawn(move || {
        if let Err(e) = kept.tidy(first.then_some(&used)) {
            tracing::warn!("Kept answers cannot be counted: {e}");
        }
    });
    drop(counting);
}

/// Names of the steps that have kept answers for their present parameters.
pub fn steps_with_kept_answers(graph: &Graph, program: &Program) -> Result<Vec<String>, RunError> {
    let Some(kept) = kept(graph, program, 1)? else { return Ok(Vec::new()) };
    let held = program.steps.iter().filter(|s| s.reuse.as_ref().is_some_and(|recipe| kept.holds(recipe)));
    Ok(held.map(|s| s.name.to_string()).collect())
}

/// The pipeline's output folder or URL.
pub fn output_folder(graph: &Graph) -> Result<Folder, RunError> {
    let path = graph.paths.resolve(&graph.pipeline.output);
    Ok(Folder::open(&absolute(&path.to_string_lossy()))?)
}

fn absolute(path: &str) -> String {
    if path.contains("://") {
        return path.to_string();
    }
    std::path::absolute(path).map(|p| normalized(&p)).unwrap_or_else(|_| path.to_string())
}

/// `a/b/../c` is `a/c`: for messages that people read, and for stores that know no `..`.
fn normalized(path: &std::path::Path) -> String {
    let mut out = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

/// What each table and folder says, in commit order.
fn standings(wanted: &[(String, String, Wanted)], plan: &Plan) -> Result<Vec<Standing>, RunError> {
    let look = |(name, location, kind): &(String, String, Wanted)| -> Result<Standing, RunError> {
        Ok(match kind {
            Wanted::Jsonl(_) => Standing { stamp: JsonlDir::open(name, location)?.plan()?, ..Standing::default() },
            Wanted::Table(..) => {
                let state = Table::open_existing(name, location)?.map(|table| table.state()).transpose()?;
                let all = plan.splits.len() as u64;
                let whole = |s: &TableState| s.plan_hash.as_deref() == Some(plan.hash.as_str()) && s.done.len() == all;
                let complete = all > 0 && state.as_ref().is_some_and(whole);
                let stamp = state.and_then(|s| s.plan_hash.map(|plan_hash| PlanStamp { plan_hash, generation: s.generation }));
                Standing { stamp, committed: true, complete }
            }
        })
    };
    wanted.iter().map(look).collect()
}

/// What a run of this plan would find.
#[derive(Debug)]
pub struct Found {
    /// The plan that the tables were made by, if it is another one and a run would be refused.
    pub other: Option<PlanHash>,
    /// Splits that a run would not do again.
    pub done: SplitSet,
}

/// Looks at the tables of a pipeline's output, without making any.
pub fn look(graph: &Graph, program: &Program, plan: &Plan) -> Result<Found, RunError> {
    let wanted = targets(graph, program)?;
    Ok(match decide_for(graph, plan, &standings(&wanted, plan)?, Ask::default())? {
        Version::Refuse(other) => Found { other: Some(other), done: SplitSet::new() },
        Version::Begin(_) => Found { other: None, done: SplitSet::new() },
        Version::Continue(generation) => {
            let mut done: Option<SplitSet> = None;
            for (name, location, _) in wanted.iter().filter(|(_, _, kind)| matches!(kind, Wanted::Table(..))) {
                let state = Table::open_existing(name, location)?.map(|table| table.state()).transpose()?;
                let current = state.filter(|s| s.plan_hash.as_deref() == Some(plan.hash.as_str()) && s.generation == generation);
                let here = current.map(|s| s.done).unwrap_or_default();
                done = Some(done.map_or_else(|| here.clone(), |d| d.intersection(&here)));
            }
            Found { other: None, done: done.unwrap_or_default() }
        }
    })
}

enum Wanted {
    Table(TableSpec, Option<String>),
    Jsonl(Option<String>),
}

/// Name, location and kind of every table, in commit order.
fn targets(graph: &Graph, program: &Program) -> Result<Vec<(String, String, Wanted)>, RunError> {
    let base = absolute(&graph.paths.resolve(&graph.pipeline.output).to_string_lossy());
    let below = |location: &str| {
        if location.contains("://") || location.starts_with('/') {
            location.to_string()
        } else {
            format!("{}/{location}", base.trim_end_matches('/'))
        }
    };
    let mut out = Vec::new();
    for (index, spec) in &program.sinks {
        let step = &program.steps[*index];
        let location = spec.location.clone().unwrap_or_else(|| step.name.to_string());
        if system::SYSTEM_TABLES.contains(&location.trim_matches('/')) || location.trim_matches('/').starts_with("_curette") {
            return Err(RunError::Output(format!(
                "sink `{}` wants to write to `{location}`, where the engine keeps its own table; give it another `location`",
                step.name
            )));
        }
        let id = step.output.metadata().get(ID_METADATA).filter(|id| step.output.column_with_name(id).is_some()).cloned();
        let wanted = match &spec.format {
            SinkFormat::Jsonl => Wanted::Jsonl(id),
            SinkFormat::Parquet { target_shard_bytes, row_group_bytes, zstd_level } => {
                let ids = step.output.fields().iter().map(|f| f.name()).filter(|n| n.ends_with("_id")).cloned();
                Wanted::Table(
                    TableSpec {
                        name: step.name.to_string(),
                        location: below(&location),
                        schema: Arc::clone(&step.output),
                        target_shard_bytes: *target_shard_bytes,
                        row_group_bytes: *row_group_bytes,
                        zstd_level: *zstd_level,
                        dictionary_columns: ids.collect(),
                        page_rows: None,
                    },
                    id,
                )
            }
        };
        out.push((step.name.to_string(), below(&location), wanted));
    }
    for name in system::SYSTEM_TABLES {
        let spec = TableSpec {
            name: name.into(),
            location: below(name),
            schema: system::schema(name),
            target_shard_bytes: SYSTEM_SHARD_BYTES,
            row_group_bytes: SYSTEM_ROW_GROUP_BYTES,
            zstd_level: SYSTEM_ZSTD_LEVEL,
            dictionary_columns: ["root_id", "step", "operator", "code"].map(String::from).to_vec(),
            page_rows: None,
        };
        out.push((name.into(), below(name), Wanted::Table(spec, None)));
    }
    Ok(out)
}

fn open_all(wanted: &[(String, String, Wanted)], version: &Version) -> Result<Tables, RunError> {
    let columns_may_change = match version {
        Version::Refuse(_) => return Ok(Tables { all: Vec::new() }),
        // A generation that was begun may not have reached every table.
        Version::Begin(_) => true,
        Version::Continue(generation) => *generation > 0,
    };
    let open = |(name, location, wanted): &(String, String, Wanted)| -> Result<OpenTable, RunError> {
        let kind = match wanted {
            Wanted::Jsonl(sort_by) => {
                OpenKind::Jsonl { dir: Arc::new(JsonlDir::open(name, location)?), sort_by: sort_by.clone() }
            }
            Wanted::Table(spec, sort_by) => {
                let table = if columns_may_change { Table::open_for_new_version(spec)? } else { Table::open_or_create(spec)? };
                OpenKind::Table {
                    table: Arc::new(table),
                    done: SplitSet::new(),
                    spec: Arc::new(spec.clone()),
                    sort_by: sort_by.clone(),
                }
            }
        };
        Ok(OpenTable { name: name.clone(), location: location.clone(), kind })
    };
    Ok(Tables { all: wanted.iter().map(open).collect::<Result<_, _>>()? })
}

impl Prepared {
    /// Looks at the tables again, when the first process of the cluster is known to be ready: it may have begun a generation, or finished the commits of a killed
    /// run, after this process had looked. All members then agree on what is left.
    pub fn follow(&mut self) -> Result<(), RunError> {
        self.stamp.generation = self.tables.generation(&self.plan.hash)?.max(self.stamp.generation);
        self.gates.set(self.keeper.recorded(self.stamp.generation)?.unwrap_or_default());
        self.tables.look(&self.stamp)?;
        self.done = self.tables.done();
        self.todo = crate::dataflow::todo(&self.plan, &self.done);
        Ok(())
    }

    pub(super) fn into_job(self, threads: usize, peers: usize, first: bool) -> Result<Job, RunError> {
        let kept = kept(&self.graph, &self.program, peers / threads.max(1))?.map(Arc::new);
        if let Some(kept) = &kept {
            count_kept(kept, &self.program, first);
        }
        let mut targets = Vec::new();
        let mut tables = Vec::new();
        for open in self.tables.all {
            match open.kind {
                OpenKind::Table { table, done, spec, sort_by } => {
                    tables.push(Some((Arc::clone(&table), done.clone())));
                    targets.push(Target::Table { table, done, spill_bytes: spec.row_group_bytes, sort_by });
                }
                OpenKind::Jsonl { dir, sort_by } => {
                    tables.push(None);
                    targets.push(Target::Jsonl { dir, spill_bytes: JSONL_SPILL_BYTES, sort_by });
                }
            }
        }
        Ok(Job {
            graph: self.graph,
            plan: self.plan,
            todo: self.todo,
            program: self.program,
            resources: self.resources,
            targets,
            tables,
            stamp: self.stamp,
            intents: self.intents,
            kept,
            attempt: ulid::Ulid::generate().to_string(),
            threads,
            peers,
        })
    }
}
