//! `transcript` on real files, real sound and a real server.

use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use curette_engine::verdict::{Processed, Verdict};
use gstreamer::prelude::*;
use serde_json::json;

use crate::testing::{codes, mistakes, run_in};
use crate::text::{TimedText, transcript_column, transcript_items};

/// Two rolling lines as YouTube makes them: 10 ms cues between, the finished line carried on top.
const ROLLING: &str = "WEBVTT\n\n00:00:00.160 --> 00:00:02.389 align:start position:0%\n \nthe<00:00:00.480><c> left</c><00:00:00.800><c> ventricle</c>\n\n\
00:00:02.389 --> 00:00:02.399\nthe left ventricle\n \n\n\
00:00:02.399 --> 00:00:04.550\nthe left ventricle\ncontracts<00:00:03.120><c> and</c><00:00:03.600><c> relaxes</c>\n\n\
00:00:04.560 --> 00:00:07.000\ncontracts and relaxes\n[Music]\n";

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn longs(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn said(out: &Processed, row: usize) -> Option<&str> {
    let text = out.columns[1].as_string::<i32>();
    text.is_valid(row).then(|| text.value(row))
}

fn of(out: &Processed, column: usize, row: usize) -> Option<&str> {
    let text = out.columns[column].as_string::<i32>();
    text.is_valid(row).then(|| text.value(row))
}

#[test]
fn clips_get_the_words_of_their_span_each_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("talk.en.vtt"), ROLLING).unwrap();
    let uri = dir.path().join("talk.mp4").to_string_lossy().into_owned();
    let uri = Some(uri.as_str());
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(&[uri; 6]), true),
        ("start_us", longs(&[Some(0), Some(2_400_000), Some(5_000_000), Some(60_000_000), None, Some(5)]), true),
        ("end_us", longs(&[Some(2_399_000), Some(4_560_000), Some(7_000_000), Some(61_000_000), Some(1), Some(5)]), true),
    ])
    .unwrap();
    let out = run_in(dir.path(), "type = \"transcript\"", &rows);
    assert_eq!(codes(&out), ["pass", "pass", "pass", "pass", "unmeasured no_span", "unmeasured no_span"]);
    assert_eq!(
        (0..5).map(|row| said(&out, row)).collect::<Vec<_>>(),
        [Some("the left ventricle"), Some("contracts and relaxes"), Some("[Music]"), Some(""), None]
    );
    assert_eq!((of(&out, 2, 0), of(&out, 3, 0)), (Some("sidecar"), Some("en")));
    let items = transcript_items(out.columns[0].as_ref(), 1).unwrap();
    assert_eq!(items[0], (2_399_000, 3_120_000, "contracts".to_owned()), "times stay those of the video");
    let quiet = run_in(dir.path(), "type = \"transcript\"\ndrop_sounds = true", &rows);
    assert_eq!((said(&quiet, 2), said(&quiet, 1)), (Some(""), Some("contracts and relaxes")));
}

#[test]
fn sources_are_asked_in_order_and_nothing_known_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.vtt"), "WEBVTT\n\n00:00.000 --> 00:02.000\nfrom the file\n").unwrap();
    std::fs::write(dir.path().join("named.pt-BR.srt"), "1\n00:00:00,000 --> 00:00:01,000\ndo arquivo\n").unwrap();
    std::fs::write(dir.path().join("empty.vtt"), "").unwrap();
    std::fs::write(dir.path().join("silent.vtt"), "WEBVTT\n").unwrap();
    std::fs::write(dir.path().join("damaged.srt"), "no captions at all").unwrap();
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let paths = ["a.mp4", "b.mp4", "empty.mp4", "silent.mp4", "damaged.mp4", "b.mp4", "b.mp4"].map(path);
    let named = path("named.pt-BR.srt");
    let gone = path("gone.vtt");
    let item = [TimedText { start_us: 0, end_us: 10, text: "from the column".into() }];
    let column = transcript_column([Some(&item[..]), None, None, None, None, None, None].into_iter());
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(&paths.each_ref().map(|p| Some(p.as_str()))), true),
        ("transcript", Arc::new(column) as ArrayRef, true),
        ("transcript_uri", texts(&[None, None, None, None, None, Some(&named), Some(&gone)]), true),
    ])
    .unwrap();
    let out = run_in(dir.path(), "type = \"transcript\"", &rows);
    assert_eq!(
        codes(&out),
        ["pass", "pass", "unmeasured bad_transcript", "pass", "unmeasured bad_transcript", "pass", "unmeasured file_missing"]
    );
    assert_eq!((said(&out, 0), of(&out, 2, 0)), (Some("from the column"), Some("column")));
    assert_eq!((said(&out, 1), of(&out, 2, 1), out.columns[0].is_null(1)), (None, None, true), "nothing is known");
    assert_eq!(said(&out, 3), Some(""), "silence is known");
    assert_eq!((said(&out, 5), of(&out, 3, 5)), (Some("do arquivo"), Some("pt-BR")));
    let file_first = run_in(dir.path(), "type = \"transcript\"\nsources = [\"sidecar\", \"column\"]", &rows);
    assert_eq!(said(&file_first, 0), Some("from the file"));
    let Verdict::Unmeasured(problem) = &out.verdicts[2] else { panic!() };
    assert!(problem.message.contains("empty.vtt") && problem.message.contains("no cue could be read"), "{}", problem.message);
}

#[test]
fn a_damaged_sidecar_is_passed_over_for_the_next_source_and_said() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.vtt"), "no captions at all").unwrap();
    let path = dir.path().join("a.mp4").to_string_lossy().into_owned();
    let item = [TimedText { start_us: 0, end_us: 10, text: "from the column".into() }];
    let column = transcript_column([Some(&item[..]), None].into_iter());
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(&[Some(&path), Some(&path)]), true),
        ("transcript", Arc::new(column) as ArrayRef, true),
    ])
    .unwrap();
    let out = run_in(dir.path(), "type = \"transcript\"\nsources = [\"sidecar\", \"column\"]", &rows);
    assert_eq!(codes(&out), ["pass", "unmeasured bad_transcript"], "nobody else knows anything of the second");
    assert_eq!((said(&out, 0), of(&out, 2, 0)), (Some("from the column"), Some("column")));
    let why = of(&out, 4, 0).unwrap();
    assert!(why.starts_with("bad_transcript: ") && why.contains("a.vtt"), "{why}");
    let column_first = run_in(dir.path(), "type = \"transcript\"", &rows);
    assert_eq!(of(&column_first, 4, 0), None);
}

#[test]
fn contradictions_are_found_before_the_run() {
    let said = |toml: &str| mistakes(&format!("type = \"transcript\"\n{toml}"), &[("video_uri", DataType::Utf8)]).join("\n");
    let all = [
        said(""),
        said("sources = []"),
        said("sources = [\"column\"]"),
        said("sources = [\"whisper\"]"),
        said("sources = [\"whisper\"]\nmodel = \"w\"\nbase_url = \"ftp://h\""),
        said("model = \"w\"\nlanguages = [\"en\", \"../x\"]"),
        said(
            "sources = [\"whisper\"]\nmodel = \"w\"\nbase_url = \"http://h\"\napi_style = \"azure\"\nmax_cost_usd = 1\ncache_location = \"off\"",
        ),
        said("azure_api_version = \"v\"\nbudget_name = \"a b\""),
    ];
    insta::assert_snapshot!(all.join("\n--\n"), @r#"

        --
        sources E-OutOfRange: there is nobody to ask
        --
        sources E-MissingColumn: rows have no column `transcript`, which is the only source
        --
        - E-MissingKey: source `whisper` needs `model`
        - E-MissingKey: source `whisper` needs `base_url`
        --
        base_url E-OutOfRange: `ftp://h` is not an http or https URL
        --
        languages E-OutOfRange: `../x` is no language tag
        model E-Contradiction: `whisper` is not among the sources, so `model` has no effect
        --
        api_style E-MissingKey: `api_style = "azure"` needs `azure_api_version`
        max_cost_usd E-MissingKey: a budget in dollars needs a price
        max_cost_usd E-Contradiction: a budget is kept beside the cache, and there is none
        --
        azure_api_version E-Contradiction: `azure_api_version` has no effect with `api_style = "openai"`
        budget_name E-OutOfRange: a budget's name has at most 64 letters, digits, `-` and `_`
        "#);
}

/// Six seconds with a tone and a picture, or the picture alone.
fn video(path: &Path, sound: bool) {
    gstreamer::init().unwrap();
    let sound = match sound {
        true => {
            "audiotestsrc num-buffers=60 samplesperbuffer=4410 ! audio/x-raw,rate=44100,channels=1 ! avenc_aac ! aacparse ! m. "
        }
        false => "",
    };
    let text = format!(
        "mp4mux name=m ! filesink location=\"{}\" {sound} \
         videotestsrc num-buffers=60 ! video/x-raw,width=64,height=64,framerate=10/1 ! x264enc speed-preset=ultrafast ! m.",
        path.display()
    );
    let pipeline = gstreamer::parse::launch(&text).unwrap();
    pipeline.set_state(gstreamer::State::Playing).unwrap();
    let end = [gstreamer::MessageType::Eos, gstreamer::MessageType::Error];
    let message = pipeline.bus().unwrap().timed_pop_filtered(gstreamer::ClockTime::from_seconds(60), &end).unwrap();
    pipeline.set_state(gstreamer::State::Null).unwrap();
    assert_eq!(message.type_(), gstreamer::MessageType::Eos, "{message:?}");
}

type Asked = Arc<Mutex<Vec<usize>>>;

/// Hears one word per second of sound that it is sent; falls over at every third request.
async fn transcribe(State(asked): State<Asked>, headers: HeaderMap, body: axum::body::Bytes) -> (StatusCode, String) {
    let content_type = headers["content-type"].to_str().unwrap().to_owned();
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    let at = |what: &[u8]| body.windows(what.len()).position(|w| w == what);
    let count = {
        let mut asked = asked.lock().unwrap();
        asked.push(0);
        asked.len()
    };
    if count % 3 == 2 {
        return (StatusCode::BAD_GATEWAY, String::new());
    }
    for field in ["name=\"model\"\r\n\r\nw-1\r\n", "name=\"language\"\r\n\r\nen\r\n", "filename=\"audio.wav\""] {
        assert!(at(field.as_bytes()).is_some(), "{field}");
    }
    assert!(body.ends_with(format!("\r\n--{boundary}--\r\n").as_bytes()));
    let riff = at(b"RIFF").unwrap();
    let bytes = u32::from_le_bytes(body[riff + 40..riff + 44].try_into().unwrap()) as usize;
    assert_eq!(body.len(), riff + 44 + bytes + boundary.len() + 8);
    let seconds = (bytes as f64 / 32_000.0).round() as usize;
    *asked.lock().unwrap().last_mut().unwrap() = seconds;
    let words: Vec<_> =
        (0..seconds).map(|s| json!({"word": format!("w{s}"), "start": s as f64 + 0.1, "end": s as f64 + 0.9})).collect();
    (StatusCode::OK, json!({"language": "english", "text": "w", "words": words}).to_string())
}

#[test]
fn speech_is_recognised_in_pieces_and_never_paid_for_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (tone, mute) = (dir.path().join("tone.mp4"), dir.path().join("mute.mp4"));
    video(&tone, true);
    video(&mute, false);
    let asked = Asked::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app =
        axum::Router::new().route("/v1/audio/transcriptions", axum::routing::post(transcribe)).with_state(Arc::clone(&asked));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });

    let toml = format!(
        "type = \"transcript\"\nsources = [\"sidecar\", \"whisper\"]\nbase_url = \"http://{address}/v1\"\nmodel = \"w-1\"\nlanguage = \"en\"\n\
         max_audio_seconds = 2.0\nretry_initial_seconds = 0.01\ncache_location = \"cache\""
    );
    let (tone, mute) = (tone.to_str().unwrap(), mute.to_str().unwrap());
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(&[Some(tone), Some(mute), Some("/no/such.mp4")]), true),
        ("start_us", longs(&[Some(1_000_000); 3]), true),
        ("end_us", longs(&[Some(4_000_000); 3]), true),
    ])
    .unwrap();
    let out = run_in(dir.path(), &toml, &rows);
    assert_eq!(codes(&out), ["pass", "pass", "unmeasured file_missing"]);
    assert_eq!(said(&out, 0), Some("w0 w1 w0"), "two seconds, then one");
    let items = transcript_items(out.columns[0].as_ref(), 0).unwrap();
    assert_eq!(items.iter().map(|i| i.0).collect::<Vec<_>>(), [1_100_000, 2_100_000, 3_100_000], "times of the video");
    assert_eq!((of(&out, 2, 0), of(&out, 3, 0)), (Some("whisper"), Some("english")));
    assert_eq!((said(&out, 1), of(&out, 2, 1)), (Some(""), Some("no_audio")));
    assert_eq!(*asked.lock().unwrap(), [2, 0, 1], "one request fell over and was repeated");
    let again = run_in(dir.path(), &toml, &rows);
    assert_eq!((again.columns, asked.lock().unwrap().len()), (out.columns, 3));
}

/// What was asked: path with query, key, and whether times were asked for.
type Heard = Arc<Mutex<Vec<(String, String, bool)>>>;

async fn text_alone(State(heard): State<Heard>, uri: axum::http::Uri, headers: HeaderMap, body: axum::body::Bytes) -> String {
    let key = headers.get("api-key").map(|k| k.to_str().unwrap().to_owned()).unwrap_or_default();
    let has = |what: &[u8]| body.windows(what.len()).any(|w| w == what);
    assert!(has(b"name=\"response_format\"\r\n\r\njson\r\n"));
    heard.lock().unwrap().push((uri.path_and_query().unwrap().to_string(), key, has(b"timestamp_granularities")));
    json!({"text": "the left ventricle"}).to_string()
}

#[test]
fn azure_text_alone_and_a_budget() {
    let dir = tempfile::tempdir().unwrap();
    let tone = dir.path().join("tone.mp4");
    video(&tone, true);
    let heard = Heard::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let app = axum::Router::new().fallback(text_alone).with_state(Arc::clone(&heard));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move { axum::serve(listener, app).await });
    // Two seconds cost two cents: two such pieces may be paid.
    let toml = format!(
        "type = \"transcript\"\nsources = [\"whisper\"]\nbase_url = \"http://{address}\"\nmodel = \"hear\"\napi_key = \"k\"\n\
         api_style = \"azure\"\nazure_api_version = \"2024-10-21\"\nresponse_format = \"json\"\ncache_location = \"cache\"\n\
         usd_per_minute = 0.6\nmax_cost_usd = 0.05\nbudget_name = \"b\"\non_service_down = \"error\""
    );
    let tone = tone.to_str().unwrap();
    let rows = RecordBatch::try_from_iter_with_nullable([
        ("video_uri", texts(&[Some(tone); 3]), true),
        ("start_us", longs(&[Some(0), Some(2_000_000), Some(4_000_000)]), true),
        ("end_us", longs(&[Some(2_000_000), Some(4_000_000), Some(6_000_000)]), true),
    ])
    .unwrap();
    let out = run_in(dir.path(), &toml, &rows);
    assert_eq!(codes(&out), ["pass", "pass", "unmeasured speech_budget_spent"]);
    let items = transcript_items(out.columns[0].as_ref(), 1).unwrap();
    assert_eq!(items, [(2_000_000, 4_000_000, "the left ventricle".to_owned())], "the text belongs to the whole piece");
    let asked = heard.lock().unwrap().clone();
    let path = "/openai/deployments/hear/audio/transcriptions?api-version=2024-10-21";
    assert_eq!(asked, [(path.to_owned(), "k".to_owned(), false), (path.to_owned(), "k".to_owned(), false)]);
    let purse = std::fs::read_to_string(dir.path().join("cache/budgets/b.purse")).unwrap();
    assert!(purse.contains("\"nano_usd\":40000000,"), "{purse}");
    let raised = run_in(dir.path(), &toml.replace("2024-10-21", "2025-01-01").replace("0.05", "1.0"), &rows);
    assert_eq!((codes(&raised), heard.lock().unwrap().len()), (vec!["pass".to_owned(); 3], 3), "what is paid stays paid");
}
