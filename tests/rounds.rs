//! Sources that decide over whole tables: against plain sets and SQL, in any order, with any workers, killed at any point, and crawl by crawl.

// Test code: a number that is asserted is printed, too.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use support::{curette, root, rows, succeed};

/// A row of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Row {
    id: Option<String>,
    channel: Option<String>,
    uploader: Option<String>,
    title: String,
}

/// Numbers that look random and are the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// `n` records of few channels: some large ones, some without a channel, some without an id, some videos in several crawls under another title.
fn catalogue(n: u64, first: u64, random: &mut Random) -> Vec<Row> {
    let mut out = Vec::new();
    for i in first..first + n {
        // Channels are fixed by the video, so that a video that comes again is in the channel that it was in.
        let at = (i * 7919) % 1000;
        let channel = format!("UC{:03}", at * at / 8000);
        let (channel, uploader) = match i % 23 {
            0 => (None, Some(format!("@up{}", i % 5))),
            1 => (None, None),
            _ => (Some(channel), Some(format!("@up{}", i % 5))),
        };
        let id = (i % 97 != 5).then(|| format!("v{i:06}"));
        let row = Row { id, channel, uploader, title: format!("title {}", random.below(1000)) };
        if i % 11 == 0 {
            out.push(Row { title: format!("title {}", random.below(1000)), ..row.clone() });
        }
        out.push(row);
    }
    out
}

fn medical(records: &[Row]) -> Vec<Row> {
    let is_medical = |row: &&Row| row.id.as_ref().is_some_and(|id| id[1..].parse::<u64>().unwrap() % 13 == 4);
    records.iter().filter(is_medical).cloned().collect()
}

fn write(path: &Path, rows: &[Row]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let column = |get: &dyn Fn(&Row) -> Option<&str>| -> ArrayRef { Arc::new(rows.iter().map(get).collect::<StringArray>()) };
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("id", column(&|r| r.id.as_deref()), true),
        ("channel_id", column(&|r| r.channel.as_deref()), true),
        ("uploader_id", column(&|r| r.uploader.as_deref()), true),
        ("title", column(&|r| Some(&r.title)), true),
        // As text: carried columns are cast.
        ("views", column(&|r| r.title.strip_prefix("title ")), true),
    ])
    .unwrap();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// In `files` files of random content, under names in random order.
fn scatter(folder: &Path, rows: &[Row], files: u64, random: &mut Random) {
    let mut parts: Vec<Vec<Row>> = vec![Vec::new(); files as usize];
    rows.iter().for_each(|row| parts[random.below(files) as usize].push(row.clone()));
    for part in &mut parts {
        random.shuffle(part);
        write(&folder.join(format!("crawl-{:08}.parquet", random.below(100_000_000))), part);
    }
}

struct World {
    folder: PathBuf,
    min_videos: u64,
    min_share: f64,
}

impl World {
    fn pipeline(&self, name: &str) -> (PathBuf, PathBuf) {
        let output = self.output(name);
        let file = self.folder.join(format!("{name}.toml"));
        let text = format!(
            "[pipeline]\nname = \"expansion\"\noutput = {:?}\nsplit_max_items = 50\n\n\
             [step.expanded]\ntype = \"channel_expansion\"\ncatalogue = \"catalogue\"\n\
             medical = \"medical\"\nmin_videos = {}\nmin_share = {:.2}\ncolumns = {{ title = \"text\" }}\n\n\
             [step.videos]\ntype = \"parquet\"\ninputs = [\"expanded\"]\n\
             columns = [\"video_id\", \"is_medical\", \"title\"]\n\n[engine]\ncommit_interval_seconds = 0\nmax_restarts = 0\n",
            output.display().to_string(),
            self.min_videos,
            self.min_share,
        );
        std::fs::write(&file, text).unwrap();
        (file, output)
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn run(&self, name: &str, args: &[&str]) -> (Vec<String>, String) {
        let (file, output) = self.pipeline(name);
        let said = succeed(curette().arg("run").arg(&file).args(["--log", "json"]).args(args));
        (listed(&output), String::from_utf8_lossy(&said.stderr).into_owned())
    }
}

fn listed(output: &Path) -> Vec<String> {
    rows(&output.join("videos"))
}

/// The same by plain sets.
fn oracle(catalogue: &[Row], medical: &[Row], min_videos: u64, min_share: f64) -> Vec<String> {
    let channel = |row: &Row, id: &str| row.channel.clone().or(row.uploader.clone()).unwrap_or_else(|| format!("alone {id}"));
    let mut all: BTreeMap<String, BTreeMap<String, (bool, String)>> = BTreeMap::new();
    for (row, is_medical) in catalogue.iter().map(|r| (r, false)).chain(medical.iter().map(|r| (r, true))) {
        let Some(id) = &row.id else { continue };
        let video = all.entry(channel(row, id)).or_default().entry(id.clone()).or_insert((false, row.title.clone()));
        video.0 |= is_medical;
        video.1 = video.1.clone().min(row.title.clone());
    }
    let mut out = Vec::new();
    for videos in all.values() {
        let n = videos.values().filter(|v| v.0).count() as u64;
        let good = n >= min_videos && n as f64 >= min_share * videos.len() as f64;
        for (id, (is_medical, title)) in videos.iter().filter(|(_, v)| good || v.0) {
            out.push(format!("video_id={id} | is_medical={is_medical} | title={title}"));
        }
    }
    out.sort();
    out
}

/// By DuckDB, where the environment of the readers' test is.
fn sql(world: &World) -> Option<Vec<String>> {
    let given = std::env::var_os("CURETTE_PYTHON").map(PathBuf::from);
    let python = given.unwrap_or_else(|| root().join(".cache/venv/bin/python"));
    if !python.exists() {
        assert!(std::env::var_os("CI").is_none(), "{} is not there: run scripts/bootstrap", python.display());
        eprintln!("not held against DuckDB: {} is not there", python.display());
        return None;
    }
    let mut query = Command::new(python);
    query.arg(root().join("tests/readers/expansion.py")).args([world.folder.join("catalogue"), world.folder.join("medical")]);
    let said = succeed(query.args([world.min_videos.to_string(), world.min_share.to_string()]));
    let line = |line: &str| {
        let mut cells = line.split('|');
        let mut next = || cells.next().unwrap().to_owned();
        format!("video_id={} | is_medical={} | title={}", next(), next(), next())
    };
    let mut out: Vec<String> = String::from_utf8(said.stdout).unwrap().lines().map(line).collect();
    out.sort();
    Some(out)
}

fn same(what: &str, want: &[String], got: &[String]) {
    let (w, g): (BTreeSet<_>, BTreeSet<_>) = (want.iter().collect(), got.iter().collect());
    let missing: Vec<_> = w.difference(&g).take(3).collect();
    let extra: Vec<_> = g.difference(&w).take(3).collect();
    assert!(missing.is_empty() && extra.is_empty() && want.len() == got.len(), "{what}: missing {missing:#?}, extra {extra:#?}");
}

fn world(records: &[Row], found: &[Row], files: u64, seed: u64, rule: (u64, f64)) -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    scatter(&dir.path().join("catalogue"), records, files, &mut random);
    scatter(&dir.path().join("medical"), found, files.min(2), &mut random);
    let world = World { folder: dir.path().to_owned(), min_videos: rule.0, min_share: rule.1 };
    (dir, world)
}

#[test]
fn expansion_is_what_sets_and_sql_say_whatever_the_order_the_files_and_the_workers() {
    let records = catalogue(1500, 0, &mut Random(3));
    let found = medical(&records);
    for rule in [(2, 0.0), (1, 0.1)] {
        let want = oracle(&records, &found, rule.0, rule.1);
        assert!(want.len() > 300 && want.len() < 1400, "the rule decides something: {}", want.len());
        let setups: [(u64, &[&str]); 4] =
            [(1, &["-w", "1"]), (3, &["-w", "2"]), (5, &["-w", "4", "--binary"]), (2, &["--processes", "2", "-w", "1"])];
        for (seed, (files, workers)) in setups.into_iter().enumerate() {
            let (_dir, world) = world(&records, &found, files, seed as u64, rule);
            same(&format!("{rule:?} {workers:?}"), &want, &world.run("out", workers).0);
            if seed == 1
                && let Some(by_sql) = sql(&world)
            {
                same("SQL", &want, &by_sql);
            }
        }
    }
}

#[test]
fn killed_anywhere_in_a_round_it_ends_as_if_nothing_had_happened() {
    let records = catalogue(600, 0, &mut Random(3));
    let found = medical(&records);
    let (_dir, world) = world(&records, &found, 3, 1, (2, 0.0));
    let want = oracle(&records, &found, 2, 0.0);
    for (at, label) in [
        "before_settle",
        "before_round",
        "in_round",
        "before_commit:1",
        "after_commit:1",
        "after_round",
        "after_settle",
        "split_complete:2",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("killed-{at}");
        let (file, output) = world.pipeline(&name);
        let killed = curette().arg("run").arg(&file).args(["--quiet", "-w", "1"]).env("CURETTE_KILL_AT", label).output().unwrap();
        assert!(!killed.status.success(), "{label} was never passed");
        let workers: &[&str] = if at % 2 == 0 { &["-w", "3"] } else { &["--processes", "2", "-w", "1"] };
        same(label, &want, &world.run(&name, workers).0);
        let ledger = rows(&output.join("_curette/rounds/expanded"));
        let rounds: BTreeSet<&str> = ledger.iter().filter_map(|row| row.split(" | ").find(|c| c.starts_with("round="))).collect();
        assert_eq!(rounds.into_iter().collect::<Vec<_>>(), ["round=0"], "{label}: one round, once");
        let records = ledger.iter().filter(|row| row.contains("part=record")).count();
        assert_eq!(records, world_records(&world), "{label}: each record once");
    }
}

/// Rows with an id in both tables.
fn world_records(world: &World) -> usize {
    let count = |name: &str| -> usize {
        let files = std::fs::read_dir(world.folder.join(name)).unwrap().map(|e| e.unwrap().path());
        files
            .map(|path| {
                let reader =
                    parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap());
                let batches = reader.unwrap().build().unwrap().map(|b| b.unwrap());
                batches.map(|b| b.num_rows() - b.column_by_name("id").unwrap().null_count()).sum::<usize>()
            })
            .sum()
    };
    count("catalogue") + count("medical")
}

#[test]
fn a_later_crawl_reads_its_own_records_and_ends_like_a_run_over_everything() {
    let mut random = Random(5);
    let old = catalogue(3000, 0, &mut random);
    let later = catalogue(30, 3000, &mut random);
    let (_dir, world) = world(&old, &medical(&old), 3, 1, (3, 0.0));
    let (first, _) = world.run("out", &["-w", "2"]);
    same("first", &oracle(&old, &medical(&old), 3, 0.0), &first);

    write(&world.folder.join("catalogue/later.parquet"), &later);
    write(&world.folder.join("medical/later.parquet"), &medical(&later));
    let (second, said) = world.run("out", &["-w", "1", "--new-version"]);
    let (whole, everything) = world.run("whole", &["-w", "2"]);
    let all = [old.clone(), later.clone()].concat();
    same("second", &oracle(&all, &medical(&all), 3, 0.0), &second);
    same("whole", &second, &whole);

    let number = |text: &str, before: &str| -> u64 {
        let at = text.find(before).unwrap_or_else(|| panic!("no `{before}` in {text}"));
        text[..at].rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let (few, many) = (number(&said, " records were new"), number(&everything, " records were new"));
    assert!(few * 50 < many && few > 0, "{few} of {many} records were read");
    // New videos of channels that are in, and all videos of channels that came in: nothing that does not end in the listing, except records that
    // were there already.
    let joined = number(&said, " pairs joined");
    let added = (second.len() - first.len()) as u64;
    assert!(
        joined <= added + few && joined * 10 < number(&everything, " pairs joined"),
        "{joined} pairs were joined for {added} videos"
    );

    // Without a change nothing is looked at.
    let (_, said) = world.run("out", &["-w", "2"]);
    assert_eq!(number(&said, " records were new"), 0, "{said}");
}

/// `n` records of many channels, a few of them large; every 500th is medical.
fn crowd(n: u64, first: u64, random: &mut Random) -> (Vec<Row>, Vec<Row>) {
    let row = |i: u64| {
        let x = random.below(1 << 30) as f64 / (1u64 << 30) as f64;
        let channel = Some(format!("UC{:05}", (20_000.0 * x * x * x) as u64));
        Row { id: Some(format!("v{i:07}")), channel, uploader: None, title: format!("title {}", i % 7) }
    };
    let records: Vec<Row> = (first..first + n).map(row).collect();
    let medical = records.iter().enumerate().filter(|(at, _)| at % 500 == 3).map(|(_, row)| row.clone()).collect();
    (records, medical)
}

/// What each round of an output's ledger says that it looked at.
fn work(output: &Path) -> BTreeMap<u64, BTreeMap<String, u64>> {
    let ledger = rows(&output.join("_curette/rounds/expanded"));
    let cell = |row: &str, name: &str| row.split(" | ").find_map(|c| c.strip_prefix(name).map(str::to_owned)).unwrap();
    let of = |row: &String| (cell(row, "round=").parse().unwrap(), serde_json::from_str(&cell(row, "name=")).unwrap());
    ledger.iter().filter(|row| row.contains("part=work")).map(of).collect()
}

#[test]
fn one_percent_more_records_touch_about_one_percent() {
    let mut random = Random(11);
    let (old, old_medical) = crowd(150_000, 0, &mut random);
    let (new, new_medical) = crowd(1_500, 150_000, &mut random);
    let dir = tempfile::tempdir().unwrap();
    let world = World { folder: dir.path().to_owned(), min_videos: 3, min_share: 0.0 };
    write(&world.folder.join("catalogue/first.parquet"), &old);
    write(&world.folder.join("medical/first.parquet"), &old_medical);
    let (first, _) = world.run("out", &["-w", "2"]);
    same("first", &oracle(&old, &old_medical, 3, 0.0), &first);
    write(&world.folder.join("catalogue/later.parquet"), &new);
    write(&world.folder.join("medical/later.parquet"), &new_medical);
    let (second, _) = world.run("out", &["-w", "1", "--new-version"]);
    let (all, all_medical) = ([old, new].concat(), [old_medical, new_medical].concat());
    same("second", &oracle(&all, &all_medical, 3, 0.0), &second);
    assert!(second.len() > first.len() && second.len() < all.len(), "the rule decides something: {}", second.len());

    let work = work(&world.output("out"));
    println!("{work:?}");
    let (whole, more) = (&work[&0], &work[&1]);
    assert_eq!((whole["new_records"], whole["known_records"], whole["decoded_rows"]), (150_300, 0, 0));
    assert_eq!((more["new_records"], more["known_records"]), (1_503, 150_300));
    assert!(more["channels_asked"] >= 1 && more["loaded_records"] >= 1, "the round needs something that is known: {more:?}");
    let looked_at = more["new_records"] + more["loaded_records"];
    assert!(looked_at * 50 < 150_300, "new and looked up: less than 2 %: {more:?}");
    // A page of the ledger holds 1,024 rows, and each channel lies in one or two.
    assert!(more["decoded_rows"] * 20 < 150_300, "decoded to find them: less than 5 %: {more:?}");
}

/// Files come, change and go: what all rounds together say, by sets. A channel that is in stays in, and so does a video, as long as a row of it is
/// there.
fn oracle_of_rounds(rounds: &[[BTreeMap<String, Vec<Row>>; 2]], min_videos: u64, min_share: f64) -> Vec<String> {
    let (mut good, mut listed) = (BTreeSet::new(), BTreeSet::new());
    let mut out = Vec::new();
    for [catalogue, medical] in rounds {
        let mut all: BTreeMap<String, BTreeMap<String, (bool, String)>> = BTreeMap::new();
        let rows = |table: &BTreeMap<String, Vec<Row>>| table.values().flatten().cloned().collect::<Vec<_>>();
        for (row, is_medical) in rows(catalogue).iter().map(|r| (r, false)).chain(rows(medical).iter().map(|r| (r, true))) {
            let Some(id) = &row.id else { continue };
            let channel = row.channel.clone().or(row.uploader.clone()).unwrap_or_else(|| format!("alone {id}"));
            let video = all.entry(channel).or_default().entry(id.clone()).or_insert((false, row.title.clone()));
            video.0 |= is_medical;
            video.1 = video.1.clone().min(row.title.clone());
        }
        for (channel, videos) in &all {
            let n = videos.values().filter(|v| v.0).count() as u64;
            if n >= min_videos && n as f64 >= min_share * videos.len() as f64 {
                good.insert(channel.clone());
            }
            listed.extend(
                videos.iter().filter(|(_, v)| good.contains(channel) || v.0).map(|(id, _)| (channel.clone(), id.clone())),
            );
        }
        out.clear();
        for (channel, id) in &listed {
            if let Some((is_medical, title)) = all.get(channel).and_then(|videos| videos.get(id)) {
                out.push(format!("video_id={id} | is_medical={is_medical} | title={title}"));
            }
        }
        out.sort();
    }
    out
}

#[test]
fn files_that_come_change_and_go_are_what_sets_say_round_by_round() {
    for (seed, rule) in [(1, (2, 0.0)), (2, (2, 0.3)), (3, (1, 0.15))] {
        let mut random = Random(seed);
        let dir = tempfile::tempdir().unwrap();
        let world = World { folder: dir.path().to_owned(), min_videos: rule.0, min_share: rule.1 };
        let mut now: [BTreeMap<String, Vec<Row>>; 2] = Default::default();
        let mut history = Vec::new();
        for round in 0..5u64 {
            let records = catalogue(120, round * 120, &mut random);
            let found: Vec<Row> = medical(&records).into_iter().filter(|_| random.below(3) > 0).collect();
            let name = format!("crawl-{round}.parquet");
            now[0].insert(name.clone(), records);
            now[1].insert(name, found);
            if round >= 2 {
                // One goes, one is another from now on.
                for table in &mut now {
                    let names: Vec<String> = table.keys().cloned().collect();
                    table.remove(&names[random.below(names.len() as u64) as usize]);
                    let names: Vec<String> = table.keys().cloned().collect();
                    let changed = table.get_mut(&names[random.below(names.len() as u64) as usize]).unwrap();
                    changed.truncate(changed.len() / 2);
                }
            }
            for (table, files) in ["catalogue", "medical"].iter().zip(&now) {
                let folder = world.folder.join(table);
                let there: BTreeMap<String, Vec<Row>> = history
                    .last()
                    .map(|last: &[BTreeMap<String, Vec<Row>>; 2]| last[usize::from(*table == "medical")].clone())
                    .unwrap_or_default();
                there.keys().filter(|n| !files.contains_key(*n)).for_each(|n| std::fs::remove_file(folder.join(n)).unwrap());
                files.iter().filter(|(n, rows)| there.get(*n) != Some(rows)).for_each(|(n, rows)| write(&folder.join(n), rows));
            }
            history.push(now.clone());
            let workers: &[&str] =
                if round % 2 == 0 { &["-w", "2", "--new-version"] } else { &["-w", "4", "--binary", "--new-version"] };
            let want = oracle_of_rounds(&history, rule.0, rule.1);
            same(&format!("{rule:?}, round {round}"), &want, &world.run("out", workers).0);
        }
    }
}

#[test]
fn a_later_crawl_is_taken_up_by_a_plain_run_where_the_pipeline_says_so() {
    let mut random = Random(5);
    let (old, later) = (catalogue(300, 0, &mut random), catalogue(30, 300, &mut random));
    let (_dir, world) = world(&old, &medical(&old), 2, 1, (2, 0.0));
    let (file, output) = world.pipeline("out");
    let plain = std::fs::read_to_string(&file).unwrap();
    let text = plain.replace("[pipeline]\n", "[pipeline]\non_new_inputs = \"new_version\"\n");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        curette().arg("run").arg(&file).args(["--quiet", "-w", "2"]).output().unwrap()
    };
    assert!(run(&text).status.success());
    let first = listed(&output);
    write(&world.folder.join("catalogue/later.parquet"), &later);
    write(&world.folder.join("medical/later.parquet"), &medical(&later));
    let refused = run(&plain);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("--new-version") && listed(&output) == first, "{said}");
    // Killed when the new version has begun: the same command goes on with it.
    std::fs::write(&file, &text).unwrap();
    let killed = curette().arg("run").arg(&file).args(["--quiet"]).env("CURETTE_KILL_AT", "version_begun").output().unwrap();
    assert!(!killed.status.success());
    let done = run(&text);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let all = [old.clone(), later.clone()].concat();
    same("all", &oracle(&all, &medical(&all), 2, 0.0), &listed(&output));
    // Anything else that differs is still refused.
    let other = run(&text.replace("split_max_items = 50", "split_max_items = 51"));
    assert!(!other.status.success() && String::from_utf8_lossy(&other.stderr).contains("--new-version"));
}

#[test]
fn what_a_killed_round_left_in_the_ledgers_folder_is_swept_up() {
    let records = catalogue(200, 0, &mut Random(3));
    let (_dir, world) = world(&records, &medical(&records), 1, 1, (2, 0.0));
    let (file, output) = world.pipeline("out");
    let killed =
        curette().arg("run").arg(&file).args(["--quiet", "-w", "1"]).env("CURETTE_KILL_AT", "before_commit:1").output().unwrap();
    assert!(!killed.status.success());
    let ledger = output.join("_curette/rounds/expanded");
    let files = || std::fs::read_dir(&ledger).unwrap().filter(|e| e.as_ref().unwrap().path().is_file()).count();
    assert_eq!(files(), 1, "a file that nobody names");
    same("after", &oracle(&records, &medical(&records), 2, 0.0), &world.run("out", &["-w", "2"]).0);
    assert_eq!(files(), 1, "the one that is named, and no other");
}

#[test]
fn what_a_user_can_get_wrong_is_told() {
    let records = catalogue(100, 0, &mut Random(3));
    let (_dir, mut world) = world(&records, &medical(&records), 1, 1, (1, 0.0));
    world.run("out", &[]);
    let fails = |file: &Path, more: &str| {
        let text = std::fs::read_to_string(file).unwrap().replace("min_videos", &format!("{more}min_videos"));
        std::fs::write(file, text).unwrap();
        let said = curette().arg("run").arg(file).args(["--quiet", "--new-version"]).output().unwrap();
        assert!(!said.status.success());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        text.replace(&world.folder.display().to_string(), "DIR")
    };
    world.min_videos = 2;
    let said = fails(&world.pipeline("out").0, "");
    assert!(said.contains("was begun under another rule") && said.contains("another `ledger`"), "{said}");
    world.min_videos = 1;
    let said = fails(&world.pipeline("limited").0, "max_records = 10\n");
    assert!(said.contains("more than max_records = 10") && said.contains("about 23 bytes"), "{said}");
    let said = fails(&world.pipeline("few").0, "max_videos = 3\n");
    assert!(said.contains("more than max_videos = 3"), "{said}");
    let said = fails(&world.pipeline("nameless").0, "video_columns = [\"nothing\"]\n");
    assert!(said.contains("has none of the columns nothing"), "{said}");
    std::fs::rename(world.folder.join("medical"), world.folder.join("elsewhere")).unwrap();
    let said = fails(&world.pipeline("missing").0, "");
    assert!(said.contains("DIR/medical") && said.contains("run the pipeline that makes this table first"), "{said}");
}

fn dedup(folder: &Path, name: &str, args: &[&str]) -> BTreeMap<&'static str, Vec<String>> {
    let output = folder.join(name);
    let file = folder.join(format!("{name}.toml"));
    let text = format!(
        "[pipeline]\nname = \"dedup\"\noutput = {:?}\nsplit_max_items = 20\n\n\
         [step.unique]\ntype = \"dedup\"\ntable = \"catalogue\"\nid_column = \"id\"\n\
         content_columns = [\"title\"]\ncolumns = {{ title = \"text\", channel_id = \"text\" }}\n\n\
         [step.rows]\ntype = \"parquet\"\ninputs = [\"unique\"]\n",
        output.display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    succeed(curette().arg("run").arg(&file).args(["--quiet"]).args(args));
    let rejects = rows(&output.join("rejects"));
    assert_eq!(rows(&output.join("errors")), Vec::<String>::new());
    [("rows", rows(&output.join("rows"))), ("rejects", rejects)].into()
}

#[test]
fn duplicates_go_whatever_the_order_the_files_and_the_workers() {
    let mut random = Random(9);
    let mut records = catalogue(400, 0, &mut random);
    // Exact copies, too.
    records.extend(records.clone().into_iter().step_by(9));
    // First the row of each id that sorts first, then of each title the smallest id.
    let mut by_id: BTreeMap<String, (Option<String>, String)> = BTreeMap::new();
    for row in records.iter().filter(|row| row.id.is_some()) {
        let new = (row.channel.clone(), row.title.clone());
        let there = by_id.entry(row.id.clone().unwrap()).or_insert_with(|| new.clone());
        *there = there.clone().min(new);
    }
    let mut by_title: BTreeMap<String, String> = BTreeMap::new();
    for (id, (_, title)) in &by_id {
        by_title.entry(title.clone()).or_insert_with(|| id.clone());
    }
    let want: BTreeSet<String> = by_title.values().cloned().collect();
    let with_id = records.iter().filter(|row| row.id.is_some()).count();
    let mut first: Option<BTreeMap<&str, Vec<String>>> = None;
    let setups: [(u64, &[&str]); 4] =
        [(1, &["-w", "1"]), (4, &["-w", "2"]), (3, &["-w", "4", "--binary"]), (7, &["--processes", "2", "-w", "1"])];
    for (seed, (files, workers)) in setups.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        scatter(&dir.path().join("catalogue"), &records, files, &mut Random(seed as u64));
        let got = dedup(dir.path(), "out", workers);
        let ids: BTreeSet<String> =
            got["rows"].iter().map(|r| r.split(" | ").next().unwrap().trim_start_matches("id=").to_owned()).collect();
        assert_eq!(ids, want, "{workers:?}");
        assert_eq!(got["rows"].len(), want.len());
        assert_eq!(got["rows"].len() + got["rejects"].len(), with_id, "each row has one end");
        for code in ["duplicate_id", "duplicate_content"] {
            assert!(got["rejects"].iter().any(|r| r.contains(code)), "no {code}");
        }
        match &first {
            Some(first) => support::assert_same(&format!("{workers:?}"), first, &got),
            None => first = Some(got),
        }
    }
}

#[test]
fn statistics_are_the_sums_of_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let records = catalogue(300, 0, &mut Random(4));
    scatter(&dir.path().join("catalogue"), &records, 2, &mut Random(1));
    let (output, file) = (dir.path().join("out"), dir.path().join("out.toml"));
    let text = format!(
        "[pipeline]\nname = \"stats\"\noutput = {:?}\nsplit_max_items = 40\n\n\
         [step.unique]\ntype = \"dedup\"\ntable = \"catalogue\"\nid_column = \"id\"\n\
         columns = {{ title = \"text\", views = \"integer\" }}\n\n\
         [step.short]\ntype = \"filter\"\ninputs = [\"unique\"]\nkeep_if = \"views >= 300\"\n\n\
         [step.rows]\ntype = \"parquet\"\ninputs = [\"short\"]\n",
        output.display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    succeed(curette().arg("run").arg(&file).args(["--quiet", "-w", "2"]));
    let show = |place: &Path, format: &str| {
        let said = succeed(curette().arg("stats").arg(place).args(["--format", format]));
        String::from_utf8(said.stdout).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&show(&output, "json")).unwrap();
    let (kept, rejects) = (rows(&output.join("rows")), rows(&output.join("rejects")));
    let stages = json["stages"].as_array().unwrap();
    let names: Vec<&str> = stages.iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(names, ["unique", "short", "rows"]);
    assert_eq!(stages[0]["rows_in"], records.iter().filter(|r| r.id.is_some()).count());
    assert_eq!(stages[2]["rows_in"], kept.len());
    let of = |step: &str| rejects.iter().filter(|r| r.contains(&format!("step={step}"))).count() as u64;
    for (at, step) in ["unique", "short"].into_iter().enumerate() {
        let rejected: u64 = stages[at]["rejected"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(rejected, of(step), "{step}");
        assert!(rejected > 0, "{step} rejects something");
    }
    let histogram = &json["histograms"][0];
    assert_eq!((&histogram["of"], &histogram["what"]), (&"short".into(), &"condition_false".into()));
    let binned: u64 = histogram["bins"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(binned, of("short"));
    assert!(histogram["max"].as_f64().unwrap() < 300.0);
    let table: serde_json::Value = serde_json::from_str(&show(&output.join("rows"), "json")).unwrap();
    let of_column = table["histograms"].as_array().unwrap().iter().find(|h| h["what"] == "views").unwrap();
    assert_eq!(of_column["values"], kept.len());
    let text = show(&output, "text");
    assert!(text.contains("splits are committed") && text.contains("duplicate_id"), "{text}");
    let svg = show(&output, "svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.contains(">short<"), "{svg}");
    let no_output = curette().arg("stats").arg(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&no_output.stderr).into_owned();
    assert!(!no_output.status.success() && said.contains("neither the output folder of a pipeline"), "{said}");
}
