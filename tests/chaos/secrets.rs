//! What must not get out: keys, into whatever is written or shown; files, out of the folders that are named.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::stores::{pipeline, said};
use super::support::service::Service;
use super::support::{curette, rows, succeed};
use super::videos;

/// In the environment.
const FROM_ENVIRONMENT: &str = "environment-canary-51d2";
/// In the pipeline's text.
const IN_TOML: &str = "toml-canary-8ce7";
/// What members of a cluster share.
const OF_CLUSTER: &str = "cluster-canary-03ab";
const CANARIES: [&str; 3] = [FROM_ENVIRONMENT, IN_TOML, OF_CLUSTER];

fn assert_none(what: &str, bytes: &[u8]) {
    for canary in CANARIES {
        assert!(!bytes.windows(canary.len()).any(|w| w == canary.as_bytes()), "{canary} is in {what}");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.symlink_metadata().unwrap().is_dir() {
            true => found.extend(files(&entry)),
            false => found.push(entry),
        }
    }
    found
}

#[test]
fn no_secret_is_in_logs_plans_tables_metrics_or_the_list_of_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, output) = (videos(dir.path()), dir.path().join("out"));
    let service = Service::start((10, 10));
    let file = pipeline(dir.path(), "out", &videos.display().to_string(), &output.display().to_string(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    let asks = format!(
        "backend = \"openai\"\nmodel = \"vlm\"\nbase_url = \"{}\"\napi_key = \"{IN_TOML}${{CURETTE_TEST_KEY}}\"\ncache_location = {:?}\n",
        service.url,
        dir.path().join("cache").display().to_string()
    );
    std::fs::write(&file, text.replace("backend = \"template\"", &asks)).unwrap();
    let with_secrets = |verb: &str| {
        let mut command = curette();
        command.arg(verb).arg(&file).env("CURETTE_TEST_KEY", FROM_ENVIRONMENT).env("CURETTE_CLUSTER_SECRET", OF_CLUSTER);
        command
    };
    let (log, metrics) = (dir.path().join("log"), dir.path().join("metrics"));
    let mut run = with_secrets("run");
    run.args(["--processes", "2", "-w", "1", "--log", "json", "--log-level", "trace", "--metrics-file"]).arg(&metrics);
    let mut child = run.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut looked = 0;
    let status = loop {
        for process in std::fs::read_dir("/proc").unwrap().filter_map(|e| Some(e.ok()?.path().join("cmdline"))) {
            assert_none("a command line", &std::fs::read(process).unwrap_or_default());
        }
        looked += 1;
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let logged = std::fs::read(&log).unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&logged[logged.len().saturating_sub(4000)..]));
    assert!(looked > 5 && service.asked() > 0 && logged.len() > 10_000);
    assert_none("the log", &logged);
    assert_none("the metrics", &std::fs::read(&metrics).unwrap());
    for written in files(&output).into_iter().chain(files(&dir.path().join("cache"))) {
        assert_none(&written.display().to_string(), &std::fs::read(&written).unwrap());
    }
    for table in ["clips", "rejects", "errors", "stages"] {
        assert_none(table, rows(&output.join(table)).join("\n").as_bytes());
    }
    for verb in ["plan", "check", "graph"] {
        assert_none(verb, said(&succeed(&mut with_secrets(verb))).as_bytes());
    }
    for verb in ["status", "stats", "gc"] {
        assert_none(verb, said(&succeed(curette().arg(verb).arg(&output))).as_bytes());
    }
    // A mistake in the very lines of the secret.
    let broken = std::fs::read_to_string(&file).unwrap().replace("api_key = ", "api_kye = ");
    std::fs::write(&file, broken).unwrap();
    let refused = with_secrets("check").output().unwrap();
    assert!(refused.status.code() == Some(2) && said(&refused).contains("api_kye"), "{}", said(&refused));
    assert_none("the text of a mistake", said(&refused).as_bytes());
}

#[test]
fn ids_that_look_like_paths_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (videos, output, clips) = (videos(dir.path()), dir.path().join("deep/er/out"), dir.path().join("deep/er/clips"));
    let names: Vec<PathBuf> =
        files(&videos).into_iter().filter(|f| f.extension().is_some_and(|e| e != "json" && e != "vtt")).collect();
    let evil = ["../../../evil", "/curette-evil/x", "..", ".hidden/../../evil", "a/b"];
    let list: String = names
        .iter()
        .enumerate()
        .map(|(at, path)| format!("{{\"uri\": {:?}, \"id\": \"{}{at}\"}}\n", path.display().to_string(), evil[at % evil.len()]))
        .collect();
    std::fs::write(dir.path().join("list.jsonl"), list).unwrap();
    std::fs::create_dir_all(dir.path().join("deep/er")).unwrap();
    let file = pipeline(dir.path(), "paths", "IN", &output.display().to_string(), "");
    let text = std::fs::read_to_string(&file).unwrap();
    let list = format!("manifest = {:?}", dir.path().join("list.jsonl").display().to_string());
    let stored = format!("type = \"clip_cut\"\nstorage = \"objects\"\nlocation = {:?}", clips.display().to_string());
    let text = text.replace("path = \"IN\"", &list).replace("type = \"clip_cut\"", &stored);
    std::fs::write(&file, format!("{text}\n[step.lines]\ntype = \"jsonl\"\ninputs = [\"captions\"]\n")).unwrap();
    let before: BTreeSet<PathBuf> = files(dir.path()).into_iter().collect();
    let run = curette().arg("run").arg(&file).args(["--quiet", "-w", "2"]).output().unwrap();
    assert!(run.status.success(), "{}", said(&run));
    assert!(
        !rows(&output.join("clips")).is_empty() && files(&clips).iter().all(|f| f.parent() == Some(&clips)),
        "{:?}",
        files(&clips)
    );
    let made: Vec<PathBuf> = files(dir.path()).into_iter().filter(|f| !before.contains(f)).collect();
    let astray: Vec<_> = made.iter().filter(|f| !f.starts_with(&output) && !f.starts_with(&clips)).collect();
    assert!(astray.is_empty(), "{astray:?}");
    assert!(made.iter().all(|f| !f.to_string_lossy().contains("evil")), "{made:?}");
    assert!(!Path::new("/curette-evil").exists());
}
