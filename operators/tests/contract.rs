//! The contract that every operator of the registry keeps, run on each from its own example.
//!
//! | rule | how it is tried |
//! |---|---|
//! | a pure function of its rows | a second instance gives the same answers |
//! | rows do not see each other | one batch and one row at a time give the same answers |
//! | every row is accounted for | one verdict per row, declared types, no null where none may be |
//! | data never panics | nulls, empty, huge and poisonous values, in all columns and in one at a time |
//! | a stopped run stops | with `cancelled` set beforehand it returns at once, every row still accounted for |
//!
//! Operators with models need ONNX Runtime (`scripts/bootstrap` or `ORT_DYLIB_PATH`); without it they are left out, said on one line each, except
//! where `CI` is set.
//!
//! An operator that reads a column for which `contract/rows.rs` has no values fails here: add them there. So does one that passes no row at all.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, RecordBatch};
use curette_engine::operator::{BuildContext, DynOperator, Entry, Kind, Paths, Runtime, Source, Task, Transform};
use curette_engine::resources::Resources;
use curette_engine::verdict::{Processed, Verdict};
use curette_operators::registry::ALL;

#[path = "contract/rows.rs"]
mod rows;
#[path = "contract/world.rs"]
mod world;

/// Longest time that an operator may take to notice that the run is being stopped.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

/// Keys that the engine takes out before an operator sees its table.
const COMMON_KEYS: [&str; 4] = ["type", "inputs", "on_unmeasured", "balance"];

fn operator(entry: &Entry) -> Box<dyn DynOperator> {
    let document: toml::Table = entry.example.parse().unwrap();
    let (_, step) = document["step"].as_table().unwrap().iter().next().unwrap();
    let mut step = step.as_table().unwrap().clone();
    COMMON_KEYS.iter().for_each(|key| drop(step.remove(*key)));
    let text = toml::to_string(&step).unwrap();
    let table = toml::de::DeTable::parse(&text).unwrap();
    let value = toml::Spanned::new(table.span(), toml::de::DeValue::Table(table.into_inner()));
    (entry.parse)(toml::de::ValueDeserializer::from(value)).unwrap_or_else(|e| panic!("{}: {e}", entry.name))
}

/// A folder with all files that examples name, and one shared set of resources.
struct World {
    folder: tempfile::TempDir,
    resources: Arc<Resources>,
}

impl World {
    fn of(operator: &dyn DynOperator) -> World {
        let folder = tempfile::tempdir().unwrap();
        world::fill(folder.path(), operator);
        let resources = Arc::new(Resources::default());
        world::with_models(folder.path(), operator.name(), &resources);
        World { folder, resources }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn build(&self, operator: &dyn DynOperator, rows: Option<&RecordBatch>) -> Runtime {
        let paths = Paths { base: self.path().to_path_buf() };
        let input = rows.map_or_else(|| Arc::new(arrow::datatypes::Schema::empty()), RecordBatch::schema);
        let id_column = rows.map(|_| rows::ID.to_owned()).unwrap_or_default();
        let context = BuildContext { step: "it", input, id_column, paths: &paths, resources: &self.resources };
        operator.build(&context).unwrap_or_else(|e| panic!("{} cannot be built: {e}", operator.name()))
    }

    fn task<R>(&self, cancelled: bool, f: impl FnOnce(&Task) -> R) -> R {
        f(&Task { step: "it", resources: &self.resources, cancelled: &AtomicBool::new(cancelled) })
    }
}

/// Every row accounted for, every column as declared.
fn accounted(operator: &dyn DynOperator, processed: &Processed, rows: usize) {
    let name = operator.name();
    processed.check(rows).unwrap_or_else(|e| panic!("{name}: {e}"));
    let adds = operator.columns().adds;
    assert_eq!(processed.columns.len(), adds.len(), "{name}: number of new columns");
    assert_eq!(processed.parents.is_some(), operator.kind() == Kind::Expand, "{name}: only expanding operators have children");
    for (column, added) in processed.columns.iter().zip(&adds) {
        assert_eq!(column.data_type(), added.field.data_type(), "{name}: type of `{}`", added.field.name());
        assert!(added.field.is_nullable() || column.null_count() == 0, "{name}: null in `{}`", added.field.name());
    }
    for verdict in &processed.verdicts {
        let (code, message) = match verdict {
            Verdict::Pass => continue,
            Verdict::Fail(reject) => (&reject.code, &reject.message),
            Verdict::Unmeasured(problem) => (&problem.code, &problem.message),
        };
        let snake = !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(snake, "{name}: `{code}` is not a snake_case code");
        assert!(!message.is_empty() && message.len() < 20_000, "{name}: a message of {} bytes for {code}", message.len());
    }
}

/// The new columns of all answers, one after the other, with verdicts and parents.
fn joined(parts: &[Processed]) -> (String, Vec<u32>, Vec<ArrayRef>) {
    let verdicts: Vec<&Verdict> = parts.iter().flat_map(|p| &p.verdicts).collect();
    let (mut parents, mut offset) = (Vec::new(), 0);
    for part in parts {
        parents.extend(part.parents.iter().flatten().map(|p| p + offset));
        offset += part.verdicts.len() as u32;
    }
    let columns = (0..parts[0].columns.len())
        .map(|c| {
            let arrays: Vec<&dyn Array> = parts.iter().map(|p| p.columns[c].as_ref()).collect();
            arrow::compute::concat(&arrays).unwrap()
        })
        .collect();
    // As text: a measured NaN is equal to itself.
    (format!("{verdicts:#?}"), parents, columns)
}

fn same(name: &str, what: &str, a: &[Processed], b: &[Processed]) {
    let (a, b) = (joined(a), joined(b));
    assert_eq!(a.0, b.0, "{name}: verdicts, {what}");
    assert_eq!(a.1, b.1, "{name}: parents, {what}");
    for (i, (x, y)) in a.2.iter().zip(&b.2).enumerate() {
        let differs = (0..x.len().min(y.len())).find(|&row| x.slice(row, 1) != y.slice(row, 1));
        assert!(x.len() == y.len() && differs.is_none(), "{name}: new column {i} at row {differs:?} of {}, {what}", x.len());
    }
}

fn transform(entry: &Entry) -> String {
    let operator = operator(entry);
    let world = World::of(&*operator);
    let rows = rows::for_operator(&*operator, world.path());
    let n = rows.num_rows();
    let start = || match world.build(&*operator, Some(&rows)) {
        Runtime::Transform(transform) => transform,
        Runtime::Source(_) | Runtime::Sink(_) => panic!("{} is a {:?} but builds something else", entry.name, entry.kind),
    };
    let run = |transform: &dyn Transform, rows: &RecordBatch, cancelled: bool| {
        let done = world.task(cancelled, |task| transform.process(rows, task));
        let done = done.unwrap_or_else(|e| panic!("{}: bad data ended the run: {e}", entry.name));
        accounted(&*operator, &done, rows.num_rows());
        done
    };

    let transform = start();
    let whole = run(&*transform, &rows, false);
    same(entry.name, "run again", std::slice::from_ref(&whole), &[run(&*start(), &rows, false)]);
    let single: Vec<Processed> = (0..n).map(|i| run(&*transform, &rows.slice(i, 1), false)).collect();
    same(entry.name, "row by row", std::slice::from_ref(&whole), &single);

    let started = Instant::now();
    run(&*start(), &rows, true);
    assert!(started.elapsed() < STOPS_WITHIN, "{} took {:?} to notice that the run is stopped", entry.name, started.elapsed());

    let count = |wanted: fn(&Verdict) -> bool| whole.verdicts.iter().filter(|v| wanted(v)).count();
    let passed = count(|v| matches!(v, Verdict::Pass));
    assert!(passed > 0, "{}: no row passes, so nothing was tried; first: {:?}", entry.name, whole.verdicts.first());
    let (failed, unmeasured) = (count(|v| matches!(v, Verdict::Fail(_))), count(|v| matches!(v, Verdict::Unmeasured(_))));
    format!("{n} rows in one batch, again, one by one, stopped: {passed} pass, {failed} fail, {unmeasured} unmeasured")
}

fn source(entry: &Entry) -> String {
    let operator = operator(entry);
    let world = World::of(&*operator);
    let start = || match world.build(&*operator, None) {
        Runtime::Source(source) => source,
        Runtime::Transform(_) | Runtime::Sink(_) => panic!("{} is a source but builds something else", entry.name),
    };
    let sorted = |source: &dyn Source| {
        let mut items = source.list().unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        items.sort();
        items
    };
    let items = sorted(&*start());
    assert!(!items.is_empty(), "{}: lists nothing, so nothing was tried", entry.name);
    assert_eq!(items, sorted(&*start()), "{}: listed again", entry.name);
    assert!(items.windows(2).all(|w| w[0].key != w[1].key), "{}: two inputs have one key", entry.name);

    let read = |items: &[_], cancelled: bool| {
        let done = world.task(cancelled, |task| start().read(items, task)).unwrap_or_else(|e| panic!("{}: {e}", entry.name));
        let rows = if operator.records() { done.verdicts.len() } else { items.len() };
        accounted(&*operator, &done, rows);
        assert_eq!(done.columns[0].null_count(), 0, "{}: every item has an id", entry.name);
        done
    };
    let whole = read(&items, false);
    same(entry.name, "read again", std::slice::from_ref(&whole), &[read(&items, false)]);
    let single: Vec<Processed> = items.iter().map(|item| read(std::slice::from_ref(item), false)).collect();
    same(entry.name, "item by item", std::slice::from_ref(&whole), &single);
    let started = Instant::now();
    read(&items, true);
    assert!(started.elapsed() < STOPS_WITHIN, "{}: does not stop", entry.name);

    world::empty(world.path());
    let gone = read(&items, false);
    assert!(
        gone.verdicts.iter().all(|v| matches!(v, Verdict::Unmeasured(_))),
        "{}: inputs that vanished: {:?}",
        entry.name,
        gone.verdicts
    );
    format!("{} inputs read together, again, one by one, stopped, after they vanished", items.len())
}

fn sink(entry: &Entry) -> String {
    let operator = operator(entry);
    let world = World::of(&*operator);
    let spec = || match world.build(&*operator, None) {
        Runtime::Sink(spec) => spec,
        Runtime::Source(_) | Runtime::Transform(_) => panic!("{} is a sink but builds something else", entry.name),
    };
    assert_eq!(spec(), spec(), "{}: built again", entry.name);
    assert!(operator.columns().adds.is_empty(), "{}: a sink adds no columns", entry.name);
    format!("{:?}", spec().format)
}

#[test]
fn every_operator_keeps_the_contract() {
    let mut broken = Vec::new();
    for entry in ALL {
        let started = Instant::now();
        if let Some(missing) = world::lacks(entry.name) {
            println!("{:<18} skipped: no {} (run scripts/bootstrap)", entry.name, missing.display());
            continue;
        }
        let tried = std::panic::catch_unwind(|| match entry.kind {
            Kind::Source => source(entry),
            Kind::Measure | Kind::Filter | Kind::Expand => transform(entry),
            Kind::Sink => sink(entry),
        });
        let took = started.elapsed().as_millis();
        match tried {
            Ok(tried) => println!("{:<18} {took:>5} ms  {tried}", entry.name),
            Err(_) => broken.push(entry.name),
        }
    }
    assert!(broken.is_empty(), "these break the contract, see above: {broken:?}");
}

#[test]
fn what_an_operator_says_of_itself_is_complete() {
    let mut names: Vec<&str> = ALL.iter().map(|e| e.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "two operators have one name: {names:?}");
    for entry in ALL {
        let operator = operator(entry);
        let name = entry.name;
        assert_eq!((operator.name(), operator.kind(), operator.version()), (name, entry.kind, entry.version));
        assert!(operator.rows_per_task() > 0, "{name}: rows_per_task");
        let columns = operator.columns();
        assert_eq!(
            columns.id.is_some(),
            matches!(entry.kind, Kind::Source | Kind::Expand),
            "{name}: makes rows and an id, or neither"
        );
        for added in &columns.adds {
            assert!(!added.doc.trim().is_empty(), "{name}: `{}` is not documented", added.field.name());
        }
        let schema = (entry.schema)();
        assert!(schema["description"].as_str().is_some_and(|d| d.len() > 20), "{name}: the config struct has no documentation");
        let keys = schema["properties"].as_object().cloned().unwrap_or_default();
        for (key, value) in &keys {
            let documented = value["description"].as_str().is_some_and(|d| !d.is_empty());
            assert!(documented, "{name}: key `{key}` is not documented");
        }
        for key in operator.cosmetic_keys() {
            assert!(keys.contains_key(*key), "{name}: cosmetic key `{key}` does not exist");
        }
        let parameters = operator.parameters();
        let parameters = parameters.as_object().unwrap_or_else(|| panic!("{name}: parameters are no object"));
        assert_eq!(
            parameters.keys().collect::<std::collections::BTreeSet<_>>(),
            keys.keys().collect(),
            "{name}: keys of schema and parameters"
        );
    }
}
