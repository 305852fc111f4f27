//! The quickstart with a captioning service: captions are paid for once, whatever changes before them, and each is sealed to its clip.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::service::Service;
use support::{corpus, curette, quickstart, rows, succeed};

/// The quickstart with captions of the service at `url`; gives the file, its text, and where the tables will be.
fn captioned(folder: &Path, url: &str) -> (PathBuf, String, PathBuf) {
    let output = folder.join("out");
    let corpus = corpus();
    let pipeline = quickstart(&corpus, &corpus.folder.join("videos"), &output, "");
    let text = std::fs::read_to_string(&pipeline).unwrap();
    let service = format!(
        "backend = \"openai\"\nmodel = \"vlm\"\nbase_url = \"{url}\"\ncache_location = \"{}\"\n\
         usd_per_million_prompt_tokens = 2.0\nusd_per_million_completion_tokens = 10.0\nmax_cost_usd = 5.0\n",
        folder.join("cache").display()
    );
    let first = text.replace("backend = \"template\"", &service);
    std::fs::write(&pipeline, &first).unwrap();
    (pipeline, first, output)
}

/// What was spent from the only budget below the folder.
fn spent(folder: &Path) -> Value {
    let purse = std::fs::read_dir(folder.join("cache/budgets")).unwrap().next().unwrap().unwrap().path();
    serde_json::from_str(&std::fs::read_to_string(purse).unwrap()).unwrap()
}

#[test]
fn a_second_signal_cancels_what_waits_for_the_service_and_books_it() {
    // Takes questions and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (pipeline, ..) = captioned(dir.path(), &format!("http://{}/v1", silent.local_addr().unwrap()));
    let mut child = curette().arg("run").arg(&pipeline).args(["--quiet", "-w", "2"]).spawn().unwrap();
    let asked = silent.accept().unwrap();
    // SAFETY: the child has not been waited for.
    let tell = |id: u32| unsafe { libc::kill(id as i32, libc::SIGTERM) };
    tell(child.id());
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "the first signal lets the question be answered");
    let reserved = spent(dir.path());
    assert!(reserved["reserved_tokens"].as_u64().unwrap() > 0, "{reserved}");
    let began = Instant::now();
    tell(child.id());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let booked = spent(dir.path());
    assert_eq!((&booked["reserved_tokens"], &booked["reserved_nano_usd"]), (&json!(0), &json!(0)), "{booked}");
    assert_eq!(booked["tokens"], reserved["tokens"], "what was asked may have been charged");
    drop(asked);
}

#[test]
fn a_run_with_another_threshold_asks_for_no_caption() {
    let seer = Service::start((900, 100));

    let dir = tempfile::tempdir().unwrap();
    let (pipeline, first, output) = captioned(dir.path(), &seer.url);
    succeed(curette().arg("run").arg(&pipeline).args(["--quiet", "-w", "2"]));
    let paid = seer.asked();
    let clips = rows(&output.join("clips"));
    assert!(!clips.is_empty() && paid == 2 * clips.len(), "{paid} requests for {} clips", clips.len());
    let field =
        |row: &str, name: &str| row.split(" | ").find_map(|c| c.strip_prefix(&format!("{name}="))).unwrap_or_default().to_owned();
    for row in &clips {
        let mut hasher = blake3::Hasher::new();
        for name in ["clip_id", "caption_frames_blake3", "caption_prompt_blake3", "caption_model", "caption", "brief_caption"] {
            let text = field(row, name);
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        assert_eq!(field(row, "caption_binding_blake3"), hasher.finalize().to_hex().to_string(), "{row}");
        assert_eq!(field(row, "caption_prompt_tokens"), "1800");
        assert_eq!(field(row, "caption_cost_usd"), "0.0056");
    }
    // What was spent is on disk, for this output and step.
    let spent = spent(dir.path());
    assert_eq!((&spent["requests"], &spent["tokens"]), (&json!(paid), &json!(paid * 1000)));

    let changed = first.replace("mean_frame_score >= 0.6", "mean_frame_score >= 0.55");
    assert_ne!(changed, first);
    std::fs::write(&pipeline, changed).unwrap();
    succeed(curette().arg("run").arg(&pipeline).args(["--quiet", "-w", "1", "--new-version"]));
    let captions = |rows: &[String]| rows.iter().map(|r| (field(r, "clip_id"), field(r, "caption"))).collect::<Vec<_>>();
    assert_eq!(captions(&rows(&output.join("clips"))), captions(&clips));
    assert_eq!(seer.asked(), paid, "every caption was there already");
}
