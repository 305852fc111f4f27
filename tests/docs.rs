//! What documents, examples and the binary say about themselves is true.

#![allow(clippy::unwrap_used)]

#[path = "support/check.rs"]
mod check;

use std::path::Path;
use std::process::{Command, Output};

use check::{checked, pipelines, repository};
use curette_engine::describe::{example, json_schema};
use curette_operators::registry::ALL;

fn curette(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_curette")).args(args).output().unwrap()
}

#[test]
fn every_pipeline_of_the_repository_passes_check() {
    let files = pipelines();
    assert!(!files.is_empty());
    for file in files {
        if let Err(mistakes) = checked(&file) {
            panic!("{}:\n{mistakes}", file.display());
        }
    }
}

#[test]
fn the_schema_for_editors_is_the_one_of_this_registry() {
    let text = std::fs::read_to_string(repository().join("datasets/pipeline.schema.json")).unwrap();
    let committed: serde_json::Value = serde_json::from_str(&text).unwrap();
    // Through text, as the file went.
    let now: serde_json::Value = serde_json::from_str(&json_schema(ALL).to_string()).unwrap();
    assert!(committed == now, "run: curette schema > datasets/pipeline.schema.json");
}

#[test]
fn every_operator_explains_itself_with_an_example_that_parses() {
    for entry in ALL {
        let operator = example(entry).unwrap_or_else(|e| panic!("the example of {}: {e}", entry.name));
        assert_eq!((operator.name(), operator.kind()), (entry.name, entry.kind));
        let page = curette(&["ops", entry.name]);
        let text = String::from_utf8(page.stdout).unwrap();
        assert!(page.status.success() && text.starts_with(entry.name), "{}: {text}", entry.name);
        for column in operator.columns().adds {
            assert!(text.contains(column.field.name()), "{}: column {} is not on its page", entry.name, column.field.name());
        }
    }
}

/// The lines of a document's `sh` blocks, without comments.
fn commands(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut out = Vec::new();
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(language) => in_block = !in_block && language.trim() == "sh",
            None if in_block => out.push(line.split(" #").next().unwrap_or("").trim().to_owned()),
            None => {}
        }
    }
    out
}

#[test]
fn commands_of_the_readme_name_verbs_targets_and_files_that_exist() {
    let read = |name: &str| std::fs::read_to_string(repository().join(name)).unwrap();
    let commands = commands(&read("README.md"));
    let makefile = read("Makefile");
    let mut made: Vec<String> = Vec::new();
    let mut seen = 0;
    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["make", target, ..] => {
                assert!(makefile.lines().any(|l| l.starts_with(&format!("{target}:"))), "no such target: {command}");
            }
            ["curette", verb, ..] => {
                assert!(curette(&[verb, "--help"]).status.success(), "no such verb: {command}");
                for file in words[2..].iter().filter(|w| w.ends_with(".toml")) {
                    assert!(made.iter().any(|m| m == file) || repository().join(file).is_file(), "no such file: {command}");
                }
            }
            ["cp", from, to] => {
                assert!(repository().join(from).is_file(), "no such file: {command}");
                made.push(to.to_owned());
                continue;
            }
            _ => continue,
        }
        seen += 1;
    }
    assert!(seen >= 4, "the README shows its commands in `sh` blocks: {commands:?}");
    for link in read("README.md").split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(link.contains("://") || Path::new(&repository().join(link)).exists(), "no such file: {link}");
    }
}

/// Dashboards are written against the table of metrics: each line of it is recorded somewhere, and nothing is recorded that is not in it.
#[test]
fn metrics_are_recorded_as_the_table_says() {
    let table = curette_engine::telemetry::names::METRICS;
    let listing = std::fs::read_to_string(repository().join("engine/src/telemetry/names.rs")).unwrap();
    let constants: Vec<(String, String)> = listing
        .lines()
        .filter_map(|l| l.strip_prefix("pub const ")?.split_once(": &str = \""))
        .map(|(name, value)| (name.to_string(), value.trim_end_matches("\";").to_string()))
        .collect();
    let mut recorded = std::collections::BTreeSet::new();
    for folder in ["engine/src", "operators/src", "operators/models/src", "operators/media/src", "cli"] {
        for file in sources(&repository().join(folder)) {
            let text = std::fs::read_to_string(&file).unwrap();
            for call in ["counter!(", "gauge!(", "histogram!("].iter().flat_map(|c| text.split(c).skip(1)) {
                let first = call.trim_start().split([',', ')']).next().unwrap_or_default().trim();
                let constant = first.rsplit("::").next().unwrap_or_default();
                let literal = first.trim_matches('"');
                match constants.iter().find(|(name, _)| name == constant) {
                    Some((_, value)) => drop(recorded.insert(value.clone())),
                    None if first.starts_with('"') => drop(recorded.insert(literal.to_string())),
                    // The table describes itself by `m.name`.
                    None => assert!(first == "m.name", "{}: what does `{first}` record?", file.display()),
                }
            }
        }
    }
    let listed: std::collections::BTreeSet<String> = table.iter().map(|m| m.name.to_string()).collect();
    assert_eq!(recorded, listed);
}

fn sources(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .flat_map(|p| {
            if p.is_dir() {
                sources(&p)
            } else if p.extension().is_some_and(|e| e == "rs") {
                vec![p]
            } else {
                vec![]
            }
        })
        .collect()
}

/// The blocks `  NAME: |` of a YAML file, and `content: |` under a name, without their indentation.
fn blocks(yaml: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = yaml.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let begins = |at: &usize| lines[*at].trim_end().ends_with(": |");
    let block = |at: usize| {
        let name = lines[at].trim().trim_end_matches(": |");
        let name = if name == "content" { lines[at - 1].trim().trim_end_matches(':') } else { name };
        let inside = lines[at + 1..].iter().take_while(|l| l.trim().is_empty() || indent(l) > indent(lines[at]));
        let cut = indent(lines[at + 1]);
        let text = inside.map(|l| format!("{}\n", l.get(cut..).unwrap_or_default()));
        (name.trim_end_matches(".toml").to_owned(), text.collect())
    };
    (0..lines.len()).filter(begins).map(block).collect()
}

/// What stands in `deploy/` is what this program understands: its YAML, its pipelines, its hosts, its options.
#[test]
fn the_files_of_deploy_are_well_formed() {
    let read = |name: &str| std::fs::read_to_string(repository().join("deploy").join(name)).unwrap();
    let help = String::from_utf8(curette(&["run", "--help"]).stdout).unwrap();
    for (name, processes) in [("kubernetes.yaml", 4), ("docker-compose.yaml", 3)] {
        let text = read(name);
        let blocks = blocks(&text);
        let block =
            |wanted: &str| &blocks.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("{name}: {wanted}")).1;
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("pipeline.toml");
        std::fs::write(&pipeline, block("pipeline")).unwrap();
        let checked = checked(&pipeline).unwrap_or_else(|mistakes| panic!("{name}: {mistakes}"));
        assert_eq!(checked.steps.len(), 3, "{name}");
        let hosts = curette_engine::cluster::parse_hosts(name, block("hosts")).unwrap();
        assert_eq!(hosts.len(), processes, "{name}");
        let options =
            text.split_whitespace().filter_map(|word| word.strip_prefix("--")).map(|o| o.split(['=', '"']).next().unwrap());
        let ours: Vec<&str> = options.filter(|o| !["from-literal", "abort-on-container-failure"].contains(o)).collect();
        assert!(ours.contains(&"hosts") && ours.contains(&"secret-file") && ours.contains(&"listen"), "{name}: {ours:?}");
        for option in ours {
            assert!(help.contains(&format!("--{option}")), "{name}: `run` has no option --{option}");
        }
    }
    let script = Command::new("bash").arg("-n").arg(repository().join("deploy/slurm.sh")).output().unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    let given = std::env::var_os("CURETTE_PYTHON").map(std::path::PathBuf::from);
    let python = given.unwrap_or_else(|| repository().join(".cache/venv/bin/python"));
    let parse = "import sys, yaml\nfor name in sys.argv[1:]: assert list(yaml.safe_load_all(open(name))), name";
    let files = ["kubernetes.yaml", "docker-compose.yaml"].map(|name| repository().join("deploy").join(name));
    match Command::new(&python).args(["-c", parse]).args(files).output() {
        Ok(parsed) => assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr)),
        Err(_) => eprintln!("skipped: {} is missing (scripts/bootstrap makes it), so YAML was not parsed", python.display()),
    }
}
