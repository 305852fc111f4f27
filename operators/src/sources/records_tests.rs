//! One catalogue in every format, cut anywhere, from a disk and from a bucket; and what is wrong with records.

use std::io::Write;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use curette_engine::operator::Paths;
use proptest::prelude::*;

use super::*;
use crate::sources::files::tests::FakeS3;
use crate::testing;

const LINES: &str = r#"{"id": "a", "title": "Heart", "description": "of \"gold\"\n2", "channel_id": "C1", "tags": ["x", "y"], "duration": 12, "view_count": 7}
{"id": 42, "title": null, "description": ["no"], "uploader_id": "@clinic", "uploader": "Clinic", "tags": ["a", 1, null, "b"], "upload_date": 20240131, "license": "", "duration": "12.5", "view_count": "9", "formats": [{"deep": {}}]}

{"id": "c", "channel_id": "", "uploader_id": "@c", "duration": {}, "view_count": 1.5, "tags": "p; q"}
"#;

fn source(dir: &Path, toml: &str) -> Box<dyn Source> {
    match testing::build_in(dir, &format!("type = 'metadata'\n{toml}"), Arc::new(Schema::empty())).unwrap() {
        Runtime::Source(source) => source,
        Runtime::Transform(_) | Runtime::Sink(_) => panic!("not a source"),
    }
}

fn read(source: &dyn Source) -> (Vec<InputItem>, Processed) {
    let mut items = source.list().unwrap();
    items.sort();
    let done = testing::with_task(|task| source.read(&items, task)).unwrap();
    done.check(done.verdicts.len()).unwrap();
    (items, done)
}

fn read_path(dir: &Path, path: &str) -> Processed {
    read(&*source(dir, &format!("path = '{path}'"))).1
}

fn texts(done: &Processed, column: usize) -> Vec<Option<String>> {
    done.columns[column].as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect()
}

fn messages(done: &Processed) -> Vec<String> {
    let message = |v: &Verdict| match v {
        Verdict::Unmeasured(problem) => Some(format!("{} {}", problem.code, problem.message)),
        _ => None,
    };
    done.verdicts.iter().filter_map(message).collect()
}

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// As Polars writes it: large types, several row groups.
fn parquet(rows: &str, rows_per_group: usize) -> Vec<u8> {
    let text = |name: &str| Field::new(name, DataType::LargeUtf8, true);
    let list = DataType::LargeList(Arc::new(Field::new_list_field(DataType::LargeUtf8, true)));
    let schema = Arc::new(Schema::new(vec![
        text("id"),
        text("title"),
        text("description"),
        text("channel_id"),
        text("uploader_id"),
        text("uploader"),
        Field::new("tags", list, true),
        Field::new("upload_date", DataType::Int32, true),
        text("license"),
        text("duration"),
        text("view_count"),
    ]));
    let batch = arrow_json::ReaderBuilder::new(schema.clone()).build(rows.as_bytes()).unwrap().next().unwrap().unwrap();
    let mut bytes = Vec::new();
    let properties =
        ::parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

const PARQUET_ROWS: &str = r#"{"id":"a","title":"Heart","description":"of \"gold\"\n2","channel_id":"C1","tags":["x","y"],"duration":"12","view_count":"7"}
{"id":"42","uploader_id":"@clinic","uploader":"Clinic","tags":["a","b"],"upload_date":20240131,"license":"","duration":"12.5","view_count":"9"}
{"id":"c","channel_id":"","uploader_id":"@c","tags":["p","q"],"duration":"x","view_count":"1.5"}"#;

const CSV: &str = "id,title,description,channel_id,uploader_id,uploader,tags,upload_date,license,duration,view_count,more\n\
    a,Heart,\"of \"\"gold\"\"\n2\",C1,,,x; y,,,12,7,z\n42,,,,@clinic,Clinic,a;b,20240131,,12.5,9\nc,,,,@c,,p;q,,,x,1.5,\n";

#[test]
fn every_format_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "r.jsonl", LINES);
    write(dir, "z.ndjson.gz", gzip(LINES.as_bytes()));
    write(dir, "s.jsonl.zst", zstd::encode_all(LINES.as_bytes(), 1).unwrap());
    write(dir, "r.parquet", parquet(PARQUET_ROWS, 2));
    write(dir, "r.csv", CSV);
    write(
        dir,
        "c.csv.gz",
        gzip(
            format!(
                "\u{feff}{}",
                CSV.replace(',', ";").replace("x; y", "\"x; y\"").replace("a;b", "\"a;b\"").replace("p;q", "\"p;q\"")
            )
            .as_bytes(),
        ),
    );
    for (n, line) in LINES.lines().filter(|l| !l.is_empty()).enumerate() {
        write(dir, &format!("one/{n} [x].info.json"), format!("\u{feff}\n {}", line.replace(", \"", ",\n  \"")));
    }
    let expected = read_path(dir, "r.jsonl");
    testing::check(&*testing::operator("type = 'metadata'\npath = 'x'").unwrap(), &expected, 3);
    assert_eq!(testing::codes(&expected), ["pass"; 3]);
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(texts(&expected, 0), [some("a"), some("42"), some("c")]);
    assert_eq!(texts(&expected, 1), [some("Heart"), None, None]);
    assert_eq!(texts(&expected, 2)[0], some("of \"gold\"\n2"));
    assert_eq!(texts(&expected, 3), [some("C1"), some("@clinic"), some("@c")]);
    assert_eq!(expected.columns[8].as_primitive::<Float64Type>().iter().collect::<Vec<_>>(), [Some(12.0), Some(12.5), None]);
    assert_eq!(expected.columns[9].as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(7), Some(9), None]);
    for other in ["z.ndjson.gz", "s.jsonl.zst", "r.parquet", "r.csv", "c.csv.gz", "one"] {
        let done = read_path(dir, other);
        assert_eq!(done.verdicts, expected.verdicts, "{other}");
        for (column, (a, b)) in done.columns.iter().zip(&expected.columns).enumerate() {
            assert_eq!(a, b, "{other}, column {column}");
        }
    }
    let (items, all) = read(&*source(dir, "path = '.'"));
    assert_eq!((items.len(), all.verdicts.len()), (5 + 2 + 3, 21), "the Parquet file has two row groups");
}

#[test]
fn bad_records_are_rows_with_file_and_line_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let long = format!("{{\"id\": \"{}\"}}", "x".repeat(17 << 20));
    let text = format!(
        "{{\"id\": \"a\"}}\n{{\"id\": \"b\", \n[1]\n\n{{\"title\": \"no\"}}\r\n{long}\n{{\"id\": \"z\"}} x\nnull\n{{\"id\": \"e\"}}"
    );
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(b"\n{\"id\": \"f\", \"title\": \"caf\xe9\"}\n");
    write(dir, "r.jsonl", &bytes);
    let done = read_path(dir, "r.jsonl");
    insta::assert_snapshot!(messages(&done).join("\n"), @r#"
    bad_record r.jsonl:2: not JSON (EOF while parsing a value, column 12): `{"id": "b", `
    bad_record r.jsonl:3: not a JSON object: `[1]`
    no_id r.jsonl:5: the record has no `id`
    bad_record r.jsonl:6: a line of more than 16777216 bytes
    bad_record r.jsonl:7: not JSON (trailing characters, column 13): `{"id": "z"} x`
    bad_record r.jsonl:8: not a JSON object: `null`
    "#);
    let ids: Vec<String> = texts(&done, 0).into_iter().flatten().collect();
    assert_eq!(ids, ["a", "r.jsonl:2", "r.jsonl:3", "r.jsonl:5", "r.jsonl:6", "r.jsonl:7", "r.jsonl:8", "e", "f"]);
    assert_eq!(texts(&done, 1)[8].as_deref(), Some("caf\u{fffd}"));

    write(dir, "r.csv", "id,title\na,b\n,x\nc,d,e\n\"f\",\n");
    assert_eq!(
        messages(&read_path(dir, "r.csv")),
        ["no_id r.csv:3: the record has no `id`", "bad_record r.csv:4: 3 cells where the header has 2"]
    );
    write(dir, "r.parquet", parquet("{\"id\":\"a\"} {\"id\":\" \"} {\"id\":null} {\"id\":\"d\"}", 3));
    let done = read_path(dir, "r.parquet");
    assert_eq!(messages(&done), ["no_id r.parquet:2: the record has no `id`", "no_id r.parquet:3: the record has no `id`"]);
    assert_eq!(texts(&done, 0)[2].as_deref(), Some("r.parquet:3"));
}

#[test]
fn what_is_wrong_with_a_file_is_one_row_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let whole = parquet(PARQUET_ROWS, 1);
    write(dir, "cut.parquet", &whole[..whole.len() / 2]);
    write(dir, "cut.jsonl.gz", &gzip(LINES.repeat(50).as_bytes())[..200]);
    write(dir, "no.jsonl.zst", "no zstd");
    write(dir, "later.jsonl", "{\"id\": 1}\n");
    write(dir, "gone.jsonl", "{\"id\": 1}\n");
    write(dir, "empty.jsonl", "");
    write(dir, "good.jsonl", "{\"id\": 1}");
    let source = source(dir, "path = '.'");
    let mut items = source.list().unwrap();
    items.sort();
    std::fs::remove_file(dir.join("gone.jsonl")).unwrap();
    write(dir, "later.jsonl", "{\"id\": 1}\n{\"id\": 2}\n");
    let done = testing::with_task(|task| source.read(&items, task)).unwrap();
    let codes: Vec<String> = testing::codes(&done).into_iter().filter(|c| c != "pass").collect();
    assert_eq!(
        codes,
        [
            "unmeasured file_unreadable",
            "unmeasured file_unreadable",
            "unmeasured file_missing",
            "unmeasured input_changed",
            "unmeasured file_unreadable"
        ]
    );
    let ids: Vec<String> = texts(&done, 0).into_iter().flatten().filter(|id| id.contains('.')).collect();
    assert_eq!(ids, ["cut.jsonl.gz", "cut.parquet", "gone.jsonl#000000", "later.jsonl#000000", "no.jsonl.zst"]);
    assert!(done.verdicts.iter().filter(|v| **v == Verdict::Pass).count() >= 1);
}

/// What the lines of a file are, cut into byte ranges at these places.
fn in_ranges(dir: &Path, cuts: &[u64]) -> (Vec<Verdict>, Vec<Option<String>>) {
    let source = source(dir, "path = 'r.jsonl'");
    let item = source.list().unwrap().remove(0);
    let payload: Payload = serde_json::from_str(&item.payload).unwrap();
    let Part::Bytes { to: size, .. } = payload.part else { panic!() };
    let mut ends: Vec<u64> = cuts.iter().map(|cut| cut % (size + 1)).chain([0, size]).collect();
    ends.sort_unstable();
    ends.dedup();
    let part =
        |w: &[u64]| Payload { uri: payload.uri.clone(), name: payload.name.clone(), part: Part::Bytes { from: w[0], to: w[1] } };
    let items: Vec<InputItem> =
        ends.windows(2).map(|w| InputItem { payload: serde_json::to_string(&part(w)).unwrap(), ..item.clone() }).collect();
    // Backwards, so that lines are counted from where nothing is known.
    let mut parts: Vec<Processed> =
        items.iter().rev().map(|i| testing::with_task(|task| source.read(std::slice::from_ref(i), task)).unwrap()).collect();
    parts.reverse();
    (parts.iter().flat_map(|p| p.verdicts.clone()).collect(), parts.iter().flat_map(|p| texts(p, 0)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_cut_anywhere_give_each_line_once_with_its_number(
        lines in prop::collection::vec(prop::sample::select(vec!["{\"id\": 1}", "", "x", "{}", "{\"id\": \"long long long\"}", "\r"]), 0..12),
        end in prop::sample::select(vec!["", "\n", "\n\n"]),
        cuts in prop::collection::vec(0u64..200, 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let text = format!("{}{end}", lines.join("\n"));
        prop_assume!(!text.is_empty());
        write(dir.path(), "r.jsonl", &text);
        prop_assert_eq!(in_ranges(dir.path(), &cuts), in_ranges(dir.path(), &[]));
    }
}

#[test]
fn only_what_is_read_is_made() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "r.parquet", parquet(PARQUET_ROWS, 2));
    write(dir.path(), "r.jsonl", LINES);
    let mut source = source(dir.path(), "path = '.'\ncolumns = ['title', 'channel_id', 'tags']");
    let declared =
        testing::operator("type = 'metadata'\npath = '.'\ncolumns = ['title', 'channel_id', 'tags']").unwrap().columns();
    assert_eq!(
        declared.adds.iter().map(|a| a.field.name().as_str()).collect::<Vec<_>>(),
        ["video_id", "title", "channel_id", "tags"]
    );
    source.only(&["channel_id".to_owned()].into());
    let done = read(&*source).1;
    let types: Vec<&DataType> = done.columns.iter().map(|c| c.data_type()).collect();
    assert_eq!(types, [&DataType::Utf8, &DataType::Null, &DataType::Utf8, &DataType::Null]);
    assert_eq!(done.columns[2].as_string::<i32>().value(4), "@clinic");
}

#[test]
fn a_bucket_is_read_as_a_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = FakeS3::start();
    for (name, bytes) in [
        ("cat/a.parquet", parquet(PARQUET_ROWS, 2)),
        ("cat/b.jsonl", LINES.as_bytes().to_vec()),
        ("cat/c.jsonl.zst", zstd::encode_all(LINES.as_bytes(), 1).unwrap()),
        ("cat/d.csv", CSV.as_bytes().to_vec()),
    ] {
        bucket.put_bytes(name, &bytes);
        write(dir.path(), name, &bytes);
    }
    let (items, there) = read(&*bucket.source_of("type = 'metadata'\npath = 's3://corpus/cat'"));
    let here = read_path(dir.path(), "cat");
    assert_eq!((items.len(), there.verdicts.len()), (5, 12));
    assert_eq!(there.verdicts, here.verdicts);
    assert_eq!(there.columns, here.columns);
}

#[test]
fn large_row_groups_are_read_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let ids: arrow::array::StringArray = (0..300_000).map(|i| Some(format!("v{i}"))).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    write(dir.path(), "r.parquet", bytes);
    let (items, done) = read(&*source(dir.path(), "path = 'r.parquet'"));
    assert_eq!(
        items.iter().map(|i| i.key.as_str()).collect::<Vec<_>>(),
        ["r.parquet#000000", "r.parquet#000001", "r.parquet#000002"]
    );
    let ids = done.columns[0].as_string::<i32>();
    assert_eq!(ids.len(), 300_000);
    assert!((0..300_000).all(|i| ids.value(i) == format!("v{i}")));
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    assert_eq!(
        testing::mistakes("type = 'metadata'\npath = 'gs://x'\ncolumns = ['titel', 'tags', 'tags']", &[]),
        [
            "path E-OutOfRange: records cannot be listed at `gs://`",
            "columns E-OutOfRange: records have no column `titel`",
            "columns E-Contradiction: column `tags` is named twice"
        ]
    );
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.txt", "x");
    write(dir.path(), "sub/b.tar.gz", "x");
    let listed = |path: &str| {
        let source = source(dir.path(), &format!("path = '{path}'"));
        let said = source.list().map(|items| items.len()).map_err(|e| {
            e.to_string()
                .replace(&dir.path().canonicalize().unwrap().display().to_string(), "D")
                .replace(&dir.path().display().to_string(), "D")
        });
        (said, source.notes())
    };
    let said = [listed("a.txt").0, listed(".").0, listed("*.parquet").0].map(|said| said.unwrap_err());
    insta::assert_snapshot!(said.join("\n").replace(&format!(" ({})", CATALOGUE.help), " (help)"), @r"
    step test: D/a.txt: its format is not known from its name (help)
    step test: D/sub/b.tar.gz: its format is not known from its name (help)
    step test: `D/*.parquet` holds no file of records: 1 files lie below D, none of them matches the pattern (help)
    ");
    write(dir.path(), "good.csv", "id");
    let (said, notes) = listed(".");
    assert_eq!(said, Ok(1));
    insta::assert_snapshot!(notes.join("\n"), @r"
    1 file is left out because of the extension: .txt 1
    1 compressed files hold no records by their names, such as sub/b.tar.gz
    ");
    let mut found = testing::Mistakes { paths: Paths { base: dir.path().into() }, lines: vec![] };
    testing::operator("type = 'metadata'\npath = 'nowhere'").unwrap().check_environment(&mut found);
    assert_eq!(found.lines.len(), 1);
}

/// A catalogue with lengths, some of which are unknown, and one record without an id.
fn with_lengths(records: usize) -> String {
    let line = |n: usize| match n % 7 {
        3 => format!(r#"{{"id":"v{n}","title":"Title {n}","description":"{}"}}"#, "d".repeat(n % 50)),
        5 => format!(r#"{{"title":"nobody {n}","duration":"99"}}"#),
        _ => format!(r#"{{"id":"v{n}","title":"Title {n}","tags":["t{n}"],"duration":"{}"}}"#, n % 13),
    };
    (0..records).map(|n| line(n) + "\n").collect()
}

#[test]
fn a_condition_drops_records_while_they_are_read_as_a_filter_would_behind() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let rows = with_lengths(500);
    write(dir, "r.jsonl", &rows);
    write(dir, "r.parquet", parquet(&rows, 64));
    for condition in [
        "duration_seconds >= 6",
        "duration_seconds > 1000",
        "duration_seconds is null or duration_seconds >= 0",
        "title like '%7'",
    ] {
        for path in ["r.jsonl", "r.parquet"] {
            let all = read_path(dir, path);
            let some = read(&*source(dir, &format!("path = '{path}'\nkeep_if = \"{condition}\""))).1;
            let fields =
                Wanted::of(&[]).columns().map(|(c, _)| Field::new(c.name, c.holds.data_type(), true)).collect::<Vec<_>>();
            let whole = RecordBatch::try_new(Arc::new(Schema::new(fields)), all.columns.clone()).unwrap();
            let behind = testing::run(&format!("type = 'filter'\nkeep_if = \"{condition}\""), &whole);
            let want = all.verdicts.iter().zip(behind.verdicts).map(|(first, then)| match first {
                Verdict::Pass => then,
                other => other.clone(),
            });
            assert_eq!(some.verdicts, want.collect::<Vec<_>>(), "{condition} {path}");
            assert_eq!(texts(&some, 0), texts(&all, 0), "every record has its id");
            for row in (0..some.verdicts.len()).filter(|row| some.verdicts[*row] == Verdict::Pass) {
                for (column, (ours, theirs)) in some.columns.iter().zip(&all.columns).enumerate() {
                    assert_eq!(
                        ours.slice(row, 1).to_data(),
                        theirs.slice(row, 1).to_data(),
                        "{condition} {path} row {row} column {column}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_condition_names_columns_that_are_there() {
    let found = testing::mistakes("type = 'metadata'\npath = '.'\ncolumns = ['title']\nkeep_if = 'duration_seconds > 3'", &[]);
    assert!(found[0].contains("E-BadPredicate") && found[0].contains("duration_seconds"), "{found:?}");
}
