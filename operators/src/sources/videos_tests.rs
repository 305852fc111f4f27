//! The source on real folders: what is listed, what rows say, and what happens when files change or are damaged.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::*;
use crate::sources::files::tests::FakeS3;
use crate::testing;

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn source(dir: &Path, toml: &str) -> Box<dyn Source> {
    match testing::build_in(dir, &format!("type = 'videos'\n{toml}"), Arc::new(arrow::datatypes::Schema::empty())).unwrap() {
        Runtime::Source(source) => source,
        _ => panic!("not a source"),
    }
}

fn read(source: &dyn Source, items: &[InputItem]) -> (RecordBatch, Vec<String>) {
    let processed = testing::with_task(|task| source.read(items, task)).unwrap();
    let operator = testing::operator("type = 'videos'\npath = '.'").unwrap();
    testing::check(&*operator, &processed, items.len());
    let codes = testing::codes(&processed);
    (RecordBatch::try_new(Arc::new(operator.columns().added_schema()), processed.columns).unwrap(), codes)
}

fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let array = batch.column_by_name(column).unwrap().as_string::<i32>();
    array.is_valid(row).then(|| array.value(row).to_string())
}

const INFO: &str = r#"{"id": "abc", "title": "T", "tags": ["x"], "channel_id": "UC1", "subtitles": {"de": []}, "automatic_captions": {"en": []}}"#;
const VTT: &str = "WEBVTT\n\n00:01.000 --> 00:02.000\nsay<00:01.500><c> aah</c>\n";

#[test]
fn a_row_holds_what_lies_next_to_the_video() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    write(root, "in/b/Title [abc].mp4", "video");
    write(root, "in/b/Title [abc].info.json", INFO);
    write(root, "in/b/Title [abc].en.vtt", VTT);
    write(root, "in/b/Title [abc].de.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nsag aah\n");
    write(root, "in/a.mkv", "v");
    write(root, "in/a.srt", "1\n00:00:01,000 --> 00:00:02,000\nHello\n");
    let source = source(root, "path = 'in'");
    let items = source.list().unwrap();
    assert_eq!(items.iter().map(|i| (i.key.as_str(), i.cost)).collect::<Vec<_>>(), [("a.mkv", 1), ("b/Title [abc].mp4", 5)]);
    assert!(items[0].identity.starts_with("1-"), "{}", items[0].identity);
    assert_eq!(items, source.list().unwrap(), "listing twice gives the same");

    let (batch, codes) = read(&*source, &items);
    assert_eq!(codes, ["pass", "pass"]);
    let uri = root.canonicalize().unwrap().join("in/b/Title [abc].mp4");
    assert_eq!(text(&batch, "video_uri", 1).as_deref(), uri.to_str());
    assert_eq!(batch.column_by_name("video_bytes").unwrap().as_primitive::<Int64Type>().value(1), 5);
    assert_eq!(text(&batch, "source_id", 1).as_deref(), Some("abc"));
    assert_eq!(text(&batch, "channel_id", 1).as_deref(), Some("UC1"));
    // The German one is by people, the English one automatic: people first.
    assert_eq!(text(&batch, "transcript_language", 1).as_deref(), Some("de"));
    assert_eq!(text(&batch, "transcript_kind", 1).as_deref(), Some("manual"));
    assert_eq!(text(&batch, "title", 0), None);
    assert_eq!(text(&batch, "transcript_language", 0), None);
    let said = text::transcript_items(batch.column_by_name("transcript").unwrap(), 0).unwrap();
    assert_eq!(said, [(1_000_000, 2_000_000, "Hello".to_string())]);
}

#[test]
fn without_an_info_file_the_content_tells_automatic_captions() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.mp4", "v");
    write(dir.path(), "a.en.vtt", VTT);
    let source = source(dir.path(), "path = '*.mp4'");
    let (batch, _) = read(&*source, &source.list().unwrap());
    assert_eq!(text(&batch, "transcript_kind", 0).as_deref(), Some("automatic"));
}

#[test]
fn what_vanishes_changes_or_is_damaged_is_a_problem_of_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for name in ["changed", "damaged", "fine", "gone", "sidecar_changed", "sidecar_gone", "talk"] {
        write(root, &format!("{name}.mp4"), "video");
    }
    write(root, "damaged.info.json", "{\"id\": \"x");
    write(root, "sidecar_changed.info.json", INFO);
    write(root, "sidecar_gone.info.json", INFO);
    write(root, "talk.info.json", INFO);
    write(root, "talk.vtt", "these are not captions");
    let source = source(root, "path = '.'");
    let items = source.list().unwrap();
    std::fs::remove_file(root.join("gone.mp4")).unwrap();
    write(root, "changed.mp4", "another video");
    write(root, "sidecar_changed.info.json", "{\"id\": \"longer than before, so that the size differs\"}");
    std::fs::remove_file(root.join("sidecar_gone.info.json")).unwrap();

    let (batch, codes) = read(&*source, &items);
    assert_eq!(
        codes,
        [
            "unmeasured input_changed",
            "unmeasured bad_info_json",
            "pass",
            "unmeasured file_missing",
            "unmeasured input_changed",
            "unmeasured file_missing",
            "unmeasured bad_transcript",
        ]
    );
    // Every row keeps its id and its uri, and what could be read, for `on_unmeasured = "keep"`.
    assert_eq!(text(&batch, "video_id", 3).as_deref(), Some("gone.mp4"));
    assert!(text(&batch, "video_uri", 1).unwrap().ends_with("/damaged.mp4"));
    assert_eq!(text(&batch, "title", 6).as_deref(), Some("T"));
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_text_is_said_so_and_what_is_left_out_is_counted() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.mp4", "v");
    write(dir.path(), "b.mp3", "v");
    std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.mp4")), "v").unwrap();
    let source = source(dir.path(), "path = '.'");
    let items = source.list().unwrap();
    assert_eq!(items.iter().map(|i| i.key.as_str()).collect::<Vec<_>>(), ["a.mp4", "caf\u{fffd}.mp4"]);
    assert_eq!(source.notes(), ["1 file is left out because of the extension: .mp3 1 (`extensions` says which are taken)"]);
    let processed = testing::with_task(|task| source.read(&items, task)).unwrap();
    assert_eq!(testing::codes(&processed), ["pass", "unmeasured bad_address"]);
    let Verdict::Unmeasured(problem) = &processed.verdicts[1] else { panic!("it cannot be read") };
    assert!(problem.message.contains("name is not UTF-8"), "{}", problem.message);
}

#[test]
fn sidecars_enter_the_identity_and_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.mp4", "v");
    let list = |toml: &str| source(dir.path(), toml).list().unwrap();
    let bare = list("path = '.'");
    write(dir.path(), "a.info.json", "{broken");
    assert_ne!(list("path = '.'"), bare);
    let off = source(dir.path(), "path = '.'\nsidecars = false");
    assert_eq!(off.list().unwrap(), bare);
    assert_eq!(read(&*off, &bare).1, ["pass"]);
}

#[test]
fn part_two_of_a_talk_does_not_lend_its_words_to_the_talk() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("talk.mp4", "v"), ("talk.01.mp4", "v"), ("talk.de.mkv", "v")] {
        write(dir.path(), name, text);
    }
    let said = |words: &str| format!("1\n00:00:01,000 --> 00:00:02,000\n{words}\n");
    write(dir.path(), "talk.01.srt", &said("part one"));
    write(dir.path(), "talk.de.srt", &said("deutsch"));
    write(dir.path(), "m.csv", "uri\ntalk.mp4\ntalk.01.mp4\ntalk.de.mkv\n");
    for toml in ["path = '.'", "path = '*.m*'\nextensions = ['mp4', 'mkv']", "path = 'talk.mp4'", "manifest = 'm.csv'"] {
        let source = source(dir.path(), toml);
        let items = source.list().unwrap();
        let (batch, codes) = read(&*source, &items);
        for row in 0..items.len() {
            assert_eq!(codes[row], "pass");
            let words = text::transcript_items(batch.column_by_name("transcript").unwrap(), row).map(|i| i[0].2.clone());
            let wanted = match items[row].key.as_str() {
                "talk.01.mp4" => Some("part one"),
                "talk.de.mkv" => Some("deutsch"),
                _ => None,
            };
            assert_eq!(words.as_deref(), wanted, "{toml}: {}", items[row].key);
        }
    }
}

#[test]
fn a_moved_corpus_is_another_plan_and_another_spelling_of_its_place_is_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "old/a.mp4", "v");
    write(dir.path(), "near.csv", "uri,id\nold/a.mp4,a\n");
    let old = source(dir.path(), "path = 'old'").list().unwrap();
    assert_eq!(source(dir.path(), "path = './old/**/*.mp4'").list().unwrap(), old);
    assert_eq!(source(&dir.path().join("old"), "path = '.'").list().unwrap(), old);
    let named = source(dir.path(), "manifest = 'near.csv'").list().unwrap();

    // As `mv` does it: sizes and times stay, so that identities alone would not tell.
    std::fs::rename(dir.path().join("old"), dir.path().join("new")).unwrap();
    let new = source(dir.path(), "path = 'new'").list().unwrap();
    assert_eq!((&new[0].key, &new[0].identity), (&old[0].key, &old[0].identity));
    assert_ne!(new[0].payload, old[0].payload, "the payload is what the plan hash covers");
    assert_eq!(read(&*source(dir.path(), "path = 'new'"), &old).1, ["unmeasured file_missing"], "an old plan reads old places");
    write(dir.path(), "near.csv", "uri,id\nnew/a.mp4,a\n");
    assert_ne!(source(dir.path(), "manifest = 'near.csv'").list().unwrap(), named);
}

#[test]
fn a_manifest_names_videos_anywhere_and_its_values_win() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let far = tempfile::tempdir().unwrap();
    write(far.path(), "far.mp4", "12345");
    write(root, "lists/v/near.mp4", "1");
    write(root, "lists/v/near.info.json", INFO);
    let manifest = format!(
        "{{\"uri\": \"v/near.mp4\", \"title\": \"Mine\"}}\n{{\"uri\": \"{}/far.mp4\", \"id\": \"far\"}}\n{{\"uri\": \"v/none.mp4\"}}\n{{\"uri\":\"ftp://x/y.mp4\"}}\n",
        far.path().display()
    );
    write(root, "lists/m.jsonl", &manifest);
    let source = source(root, "manifest = 'lists/m.jsonl'");
    let items = source.list().unwrap();
    assert_eq!(
        items.iter().map(|i| (i.key.as_str(), i.cost)).collect::<Vec<_>>(),
        [("far", 5), ("ftp://x/y.mp4", 0), ("v/near.mp4", 1), ("v/none.mp4", 0)]
    );
    let (batch, codes) = read(&*source, &items);
    assert_eq!(codes, ["pass", "unmeasured bad_address", "pass", "unmeasured file_missing"]);
    assert_eq!(text(&batch, "title", 2).as_deref(), Some("Mine"));
    assert_eq!(text(&batch, "source_id", 2).as_deref(), Some("abc"));
    assert_eq!(text(&batch, "video_uri", 0), Some(format!("{}/far.mp4", far.path().display())));
    assert_eq!(self::source(root, "manifest = 'lists/m.jsonl'\nlimit = 2").list().unwrap(), items[..2]);
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let found = |toml: &str| testing::mistakes(&format!("type = 'videos'\n{toml}"), &[]);
    assert_eq!(found(""), ["- E-MissingKey: neither `path` nor `manifest` is given"]);
    assert_eq!(found("path = 'a'\nmanifest = 'b'"), ["manifest E-Contradiction: `path` and `manifest` are both given"]);
    assert_eq!(found("manifest = 'b'\nextensions = ['mp4']").len(), 1);
    let environment = |toml: &str| {
        let mut check = testing::Mistakes { paths: Paths { base: "/nowhere".into() }, lines: vec![] };
        testing::operator(&format!("type = 'videos'\n{toml}")).unwrap().check_environment(&mut check);
        check.lines
    };
    assert_eq!(environment("path = 'in'"), ["path E-NoInput: `/nowhere/in` does not exist"]);
    assert_eq!(environment("manifest = 'm.csv'"), ["manifest E-MissingFile: `/nowhere/m.csv` does not exist or is no file"]);
    assert_eq!(environment("path = 's3://bucket/x'"), Vec::<String>::new());
    for toml in ["path = 'https://host/x.mp4'", "manifest = 'http://host/m.csv'"] {
        let (key, scheme) = (toml.split(' ').next().unwrap(), toml.split('\'').nth(1).unwrap().split(':').next().unwrap());
        assert_eq!(found(toml), [format!("{key} E-OutOfRange: videos cannot be listed at `{scheme}://`")]);
    }
    let error = source(Path::new("/"), "path = '/nowhere/at/all'").list().unwrap_err().to_string();
    assert!(error.starts_with("step test: /nowhere/at/all does not exist"), "{error}");
}

#[test]
fn videos_in_a_bucket_are_listed_page_by_page_and_read_with_their_sidecars() {
    let bucket = FakeS3::start();
    for (key, body) in [
        ("in/a/x.mp4", "video"),
        ("in/a/x.info.json", INFO),
        ("in/a/x.en.vtt", VTT),
        ("in/b & c/Title [é+%41].mp4", "longer video"),
        ("in/notes.txt", "n"),
        ("in/z.mp4", "v"),
        ("inside.mp4", "not below the prefix"),
    ] {
        bucket.put(key, body);
    }
    let source = bucket.source("path = 's3://corpus/in'");
    let items = source.list().unwrap();
    assert_eq!(
        items.iter().map(|i| (i.key.as_str(), i.cost)).collect::<Vec<_>>(),
        [("a/x.mp4", 5), ("b & c/Title [é+%41].mp4", 12), ("z.mp4", 1)]
    );
    assert_eq!(bucket.source("path = 's3://corpus/in/**/*.mp4'").list().unwrap(), items);
    bucket.put("in/z.mp4", "w");
    let (batch, codes) = read(&*source, &items);
    assert_eq!(codes, ["pass", "pass", "unmeasured input_changed"], "same size, other etag");
    assert_eq!(text(&batch, "video_uri", 1).as_deref(), Some("s3://corpus/in/b & c/Title [é+%41].mp4"));
    assert_eq!(text(&batch, "title", 0).as_deref(), Some("T"));
    assert_eq!(text(&batch, "transcript_kind", 0).as_deref(), Some("automatic"));
    bucket.remove("in/a/x.mp4");
    assert_eq!(read(&*source, &items).1[0], "unmeasured file_missing");
    let one = bucket.source("path = 's3://corpus/in/z.mp4'").list().unwrap();
    assert_eq!(one.iter().map(|i| i.key.as_str()).collect::<Vec<_>>(), ["z.mp4"]);
    let error = bucket.source("path = 's3://corpus/nowhere'").list().unwrap_err().to_string();
    assert!(error.contains("holds no video: 0 files lie below s3://corpus/nowhere"), "{error}");

    bucket.put("lists/m.jsonl", "{\"uri\": \"../in/z.mp4\"}\n{\"uri\": \"s3://corpus/in/z.mp4\", \"id\": \"z\"}\n");
    let source = bucket.source("manifest = 's3://corpus/lists/m.jsonl'");
    let items = source.list().unwrap();
    assert_eq!(items.iter().map(|i| (i.key.as_str(), i.cost)).collect::<Vec<_>>(), [("../in/z.mp4", 1), ("z", 1)]);
    assert_eq!(read(&*source, &items).1, ["pass", "pass"]);

    // A list in a store reaches neither files of this machine nor other buckets.
    let here = std::env::current_exe().unwrap().display().to_string();
    bucket.put(
        "lists/escape.jsonl",
        &format!("{{\"uri\": \"{here}\", \"id\": \"a\"}}\n{{\"uri\": \"file://{here}\", \"id\": \"b\"}}\n{{\"uri\": \"../../../x.mp4\", \"id\": \"c\"}}\n"),
    );
    let source = bucket.source("manifest = 's3://corpus/lists/escape.jsonl'");
    assert_eq!(read(&*source, &source.list().unwrap()).1, ["unmeasured bad_address"; 3]);
}

/// A web server with one file, which knows ranges; the etag is `tag`.
fn web_server(tag: &'static std::sync::Mutex<&'static str>) -> std::net::SocketAddr {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let answer = match lines[0].contains("/there.mp4") {
                true => {
                    let tag = *tag.lock().unwrap();
                    format!("206 Part\r\nETag: \"{tag}\"\r\nContent-Range: bytes 0-0/77\r\nContent-Length: 1\r\n\r\nx")
                }
                false if lines[0].contains("/secret.mp4") => "403 No\r\nContent-Length: 0\r\n\r\n".into(),
                false => "404 No\r\nContent-Length: 0\r\n\r\n".into(),
            };
            let answer = answer.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let _ = write!(stream, "HTTP/1.1 {answer}");
        }
    });
    address
}

#[test]
fn videos_on_the_web_are_rows_of_a_manifest() {
    static TAG: std::sync::Mutex<&str> = std::sync::Mutex::new("one");
    let address = web_server(&TAG);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "near.mp4", "1");
    let manifest = format!(
        "uri,id,title\nhttp://{address}/there.mp4?key=1,there,Knee\nhttp://{address}/gone.mp4,gone,\n\
         http://{address}/secret.mp4,secret,\nnear.mp4,near,\nhttp://127.0.0.1:1/a.mp4,refused,\n"
    );
    write(dir.path(), "m.csv", &manifest);
    let source = source(dir.path(), "manifest = 'm.csv'");
    let items = source.list().unwrap();
    let told: Vec<_> = items.iter().map(|i| (i.key.as_str(), i.identity.as_str(), i.cost)).collect();
    assert_eq!(told[..1], [("gone", "file_missing", 0)]);
    assert_eq!(told[2..], [("refused", "fetch_failed", 0), ("secret", "access_denied", 0), ("there", "77-one", 77)]);
    let codes = ["unmeasured file_missing", "pass", "unmeasured fetch_failed", "unmeasured access_denied", "pass"];
    let (batch, found) = read(&*source, &items);
    assert_eq!(found, codes);
    assert_eq!(text(&batch, "video_uri", 4), Some(format!("http://{address}/there.mp4?key=1")));
    assert_eq!(text(&batch, "title", 4).as_deref(), Some("Knee"));
    *TAG.lock().unwrap() = "two";
    assert_eq!(read(&*source, &items).1[4], "unmeasured input_changed");
}
