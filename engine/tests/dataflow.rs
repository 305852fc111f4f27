//! The dataflow against a slow obvious oracle: every row, whatever the number of workers, and after kills.

#![allow(clippy::unwrap_used)]

mod toy;

use std::path::Path;

use curette_engine::commit::Table;
use curette_engine::graph::Graph;
use curette_engine::run::{self, Place, PrepareOptions, Report};

fn go(graph: Graph, threads: usize, binary: bool) -> Report {
    let prepared = run::prepare(graph, PrepareOptions::default()).unwrap();
    run::run(prepared, Place::Alone { binary }, threads, |_, _| ()).unwrap().unwrap()
}

fn check(output: &Path, report: &Report, count: u64) {
    pretty(&toy::oracle(count), &toy::tables(output));
    let stage = |name: &str| &report.funnel.stages.iter().find(|s| s.step == name).unwrap().counts;
    assert_eq!(stage("numbers").rows_in, count);
    let oracle = toy::oracle(count);
    assert_eq!(stage("kept").rows_in, oracle["kept"].len() as u64);
    assert_eq!(stage("parts").rows_in, oracle["parts"].len() as u64);
}

fn pretty(
    want: &std::collections::BTreeMap<&'static str, Vec<toy::Row>>,
    got: &std::collections::BTreeMap<&'static str, Vec<toy::Row>>,
) {
    for (table, rows) in want {
        let (want, got): (std::collections::BTreeSet<_>, std::collections::BTreeSet<_>) =
            (rows.iter().collect(), got[table].iter().collect());
        let missing: Vec<_> = want.difference(&got).take(5).collect();
        let extra: Vec<_> = got.difference(&want).take(5).collect();
        assert!(missing.is_empty() && extra.is_empty(), "table {table}: missing {missing:?}, extra {extra:?}");
    }
    assert_eq!(want, got, "a row is there twice");
}

#[test]
fn every_row_is_accounted_for_whatever_the_number_of_workers() {
    for (threads, binary) in [(1, false), (2, false), (4, false), (2, true)] {
        let dir = tempfile::tempdir().unwrap();
        let report = go(toy::graph(dir.path(), 300), threads, binary);
        check(dir.path(), &report, 300);
        assert_eq!(report.splits_done, 43);
    }
}

#[test]
fn a_folder_of_files_holds_the_same_rows_as_a_table_in_the_same_order() {
    let mut seen: Option<Vec<String>> = None;
    for (threads, binary) in [(1, false), (2, false), (4, false), (2, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut graph = toy::graph(dir.path(), 300);
        let kept = graph.steps.iter_mut().find(|s| s.name == "kept").unwrap();
        kept.operator = std::sync::Arc::new(toy::Out { jsonl: true });
        go(graph, threads, binary);
        let mut files: Vec<_> = std::fs::read_dir(dir.path().join("kept")).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        let data = files.iter().filter(|p| p.extension().is_some_and(|e| e == "jsonl"));
        let lines: Vec<String> =
            data.flat_map(|p| std::fs::read_to_string(p).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        let ids: Vec<_> = lines.iter().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].clone()).collect();
        let want: Vec<_> = toy::oracle(300)["kept"].iter().map(|row| serde_json::Value::from(row[0].as_str())).collect();
        assert_eq!(ids, want);
        assert_eq!(*seen.get_or_insert_with(|| lines.clone()), lines, "{threads} workers, binary {binary}");
    }
}

/// Looks until it is so, for a minute.
fn until(what: &str, so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !so() {
        assert!(began.elapsed().as_secs() < 60, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn cancelled_tasks_end_and_nothing_of_them_is_recorded() {
    for (threads, binary) in [(1, false), (2, false), (4, false), (2, true)] {
        let dir = tempfile::tempdir().unwrap();
        let mut graph = toy::graph(dir.path(), 70);
        graph.steps.iter_mut().find(|s| s.name == "square").unwrap().operator = std::sync::Arc::new(toy::Waiting {});
        let prepared = run::prepare(graph, PrepareOptions::default()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        // A cancelled run is over when its process ends, so it is left alone here.
        std::thread::spawn(move || {
            run::run(prepared, Place::Alone { binary }, threads, |_, progress| tell.send(progress).unwrap()).map(drop)
        });
        let progress = told.recv().unwrap();
        until("the first split is committed", || progress.splits_committed() == 1);
        until("the others wait", || progress.tasks_running() > 0);
        progress.cancel();
        until("all tasks end", || progress.tasks_running() == 0);
        // Long enough for the workers to record what they should not.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!((progress.splits_committed(), progress.tasks_running()), (1, 0));
        assert!(toy::tables(dir.path())["errors"].iter().all(|row| !row.contains(&"cancelled".to_string())));

        let report = go(toy::graph(dir.path(), 70), threads, binary);
        assert_eq!((report.splits_before, report.splits_done), (1, 9));
        check(dir.path(), &report, 70);
    }
}

#[test]
fn running_again_does_nothing() {
    let dir = tempfile::tempdir().unwrap();
    go(toy::graph(dir.path(), 50), 2, false);
    let again = go(toy::graph(dir.path(), 50), 3, false);
    assert_eq!((again.splits_done, again.splits_before), (0, 8));
    check(dir.path(), &again, 50);
}

#[test]
fn no_inputs_are_no_rows() {
    let dir = tempfile::tempdir().unwrap();
    let report = go(toy::graph(dir.path(), 0), 2, false);
    check(dir.path(), &report, 0);
}

#[test]
fn one_open_split_and_a_budget_of_one_byte_still_finish() {
    let dir = tempfile::tempdir().unwrap();
    let mut graph = toy::graph(dir.path(), 100);
    graph.engine.max_bytes_in_flight = 1;
    graph.engine.window_splits = 1;
    let report = go(graph, 2, false);
    check(dir.path(), &report, 100);
}

#[test]
fn a_changed_plan_is_refused_and_a_new_version_keeps_the_old_one_readable() {
    let dir = tempfile::tempdir().unwrap();
    go(toy::graph(dir.path(), 30), 1, false);
    let error = run::prepare(toy::graph(dir.path(), 31), PrepareOptions::default()).err().unwrap();
    let text = error.to_string().replace(&*dir.path().to_string_lossy(), "DIR");
    let hash = regex_free_hashes(&text);
    insta::assert_snapshot!(hash, @r"
    the output was made by another plan (HASH) than this one (HASH) and their rows must not mix
      step.numbers.count: 30 -> 31
      1 input(s) new: 000030
    to go on, either run again with --new-version (the old rows stay readable as older versions of the tables),
    or give the pipeline another output than `DIR`
    ");
    let prepared = run::prepare(toy::graph(dir.path(), 31), PrepareOptions { new_version: true, ..Default::default() }).unwrap();
    let report = run::run(prepared, Place::Alone { binary: false }, 2, |_, _| ()).unwrap().unwrap();
    check(dir.path(), &report, 31);
}

#[test]
fn a_new_version_that_died_before_its_verdict_is_not_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let graph = || toy::graph(dir.path(), 30);
    go(graph(), 1, false);
    let mark = dir.path().join("_curette/begun-generation");
    let report = end(graph(), true).unwrap();
    assert_eq!((report.generation, report.splits_before), (1, 0));
    assert!(!mark.exists(), "it came to its verdict");
    // All is committed, but the process that did it was killed while it looked at the sums.
    std::fs::write(&mark, "1\n").unwrap();
    let report = end(graph(), true).unwrap();
    assert_eq!((report.generation, report.splits_done), (1, 0));
    check(dir.path(), &report, 30);
    assert!(!mark.exists());
    assert_eq!(end(graph(), true).unwrap().generation, 2, "now it is asked for anew");
}

#[test]
fn a_follower_begins_no_version() {
    let dir = tempfile::tempdir().unwrap();
    go(toy::graph(dir.path(), 30), 1, false);
    // Its pipeline differs from that of the first process, which it has not met yet.
    let options = PrepareOptions { new_version: true, follows: true, ..Default::default() };
    drop(run::prepare(toy::graph(dir.path(), 31), options).unwrap());
    let report = end(toy::graph(dir.path(), 30), false).unwrap();
    assert_eq!((report.generation, report.splits_done), (0, 0), "the finished output is as it was");
    check(dir.path(), &report, 30);
}

fn end(graph: Graph, new_version: bool) -> Result<Report, String> {
    let prepared = run::prepare(graph, PrepareOptions { new_version, ..Default::default() }).unwrap();
    run::run(prepared, Place::Alone { binary: false }, 2, |_, _| ())
        .map(Option::unwrap)
        .map_err(|e| format!("{:?}: {e}", e.exit()))
}

#[test]
fn too_many_errors_fail_the_run_however_few_rows_there_are_and_fail_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let graph = |rate| {
        let mut graph = toy::graph(dir.path(), 13);
        graph.pipeline.max_error_rate = rate;
        graph
    };
    let first = end(graph(0.0), false).unwrap_err();
    insta::assert_snapshot!(first, @"ErrorRate: step `numbers`: 1 of 13 rows could not be measured, more than max_error_rate = 0 allows; most often: bad_luck (1); what was done is committed. `curette ops` explains the codes. All splits are done, so running again ends like this: mend the cause and run once with --new-version, which works the rows with errors out again (answers that were kept are used), or raise max_error_rate");
    assert_eq!(end(graph(0.0), false).unwrap_err(), first, "nothing was left to do");
    let report = end(graph(0.01), false).unwrap();
    check(dir.path(), &report, 13);
    assert_eq!(report.splits_done, 0, "another rate is no other plan");
}

#[test]
fn a_new_version_of_an_unchanged_plan_works_out_again_only_what_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    end(toy::graph(dir.path(), 40), false).unwrap();
    for generation in [1, 2] {
        let report = end(toy::graph(dir.path(), 40), true).unwrap();
        check(dir.path(), &report, 40);
        assert_eq!((report.splits_done, report.splits_before), (6, 0));
        // All but the rows with errors.
        let square = (0..40).filter(|n| n % 13 != 12 && n % 11 != 3).count() as u64;
        let divide = (0..40).filter(|n| n % 13 != 12 && n % 5 != 0).count() as u64;
        assert_eq!(report.reused, [("square".to_string(), square), ("divide".to_string(), divide)]);
        for table in ["parts", "kept", "rejects", "errors", "stages"] {
            let table = Table::open_existing(table, &dir.path().join(table).to_string_lossy()).unwrap().unwrap();
            assert_eq!(table.state().unwrap().generation, generation);
        }
    }
}

/// Hashes change with the format of plans; their place in the sentence does not.
#[test]
fn a_new_version_works_out_only_what_it_has_not_seen() {
    for (threads, binary) in [(1, false), (2, false), (4, false), (2, true)] {
        let dir = tempfile::tempdir().unwrap();
        let first = go(toy::graph(dir.path(), 40), threads, binary);
        assert!(first.reused.is_empty(), "{:?}", first.reused);
        let prepared =
            run::prepare(toy::graph(dir.path(), 50), PrepareOptions { new_version: true, ..Default::default() }).unwrap();
        let second = run::run(prepared, Place::Alone { binary }, threads, |_, _| ()).unwrap().unwrap();
        check(dir.path(), &second, 50);
        // What could not be measured is tried again.
        let square = (0..40).filter(|n| n % 13 != 12 && n % 11 != 3).count() as u64;
        let divide = (0..40).filter(|n| n % 13 != 12 && n % 5 != 0).count() as u64;
        assert_eq!(second.reused, [("square".to_string(), square), ("divide".to_string(), divide)]);
        let mut off = toy::graph(dir.path(), 51);
        off.engine.reuse = false;
        let prepared = run::prepare(off, PrepareOptions { new_version: true, ..Default::default() }).unwrap();
        let third = run::run(prepared, Place::Alone { binary }, threads, |_, _| ()).unwrap().unwrap();
        check(dir.path(), &third, 51);
        assert!(third.reused.is_empty());
    }
}

fn regex_free_hashes(text: &str) -> String {
    text.split(' ')
        .map(|w| if w.starts_with('(') && w.trim_matches(['(', ')', ',']).len() == 12 { "(HASH)" } else { w })
        .collect::<Vec<_>>()
        .join(" ")
}
