//! Every mistake that a pipeline file can have, as users see it. One file under `snapshots/` per mistake: read them when a message changes.

mod fake;

use curette_engine::check::{Options, check};
use curette_engine::diag::{Code, Diagnostic, render, render_json};
use curette_engine::graph::{Graph, OnUnmeasured};
use curette_engine::{describe, draw};

const HEAD: &str = "[pipeline]\nname = \"demo\"\noutput = \"out\"\n";
const GOOD: &str = r#"
[step.clips]
type = "clips"
path = "*.mp4"

[step.size]
type = "size"
inputs = ["clips"]

[step.score]
type = "score"
inputs = ["size"]
model = "model.bin"

[step.keep]
type = "keep"
inputs = ["score"]
condition = "score >= 0.5 and width > 100"

[step.table]
type = "table"
inputs = ["keep"]
"#;

fn variable(name: &str) -> Option<String> {
    match name {
        "FOLDER" => Some("/data/videos".into()),
        "API_KEY" => Some("sk-very-secret".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn checked(text: &str) -> Result<Graph, Vec<Diagnostic>> {
    let (_folder, file) = fake::folder();
    let result = check(&file, text, fake::REGISTRY, &Options { environment: true, variables: &variable, ..Options::default() });
    // The folder has another name each time.
    result.map_err(|mut list| {
        let base = file.with_file_name("").to_string_lossy().trim_end_matches('/').to_owned();
        list.iter_mut().for_each(|d| d.message = d.message.replace(&base, "FOLDER"));
        list
    })
}

fn mistakes(text: &str) -> String {
    match checked(text) {
        Ok(_) => panic!("no mistake was found in:\n{text}"),
        Err(list) => render("pipeline.toml", text, &list, false),
    }
}

/// The good pipeline with `old` replaced.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    format!("{HEAD}{}", GOOD.replacen(old, new, 1))
}

fn good() -> String {
    format!("{HEAD}{GOOD}")
}

macro_rules! golden {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), mistakes(&$text));
        }
    )*};
}

golden! {
    syntax_unclosed_header: with("[step.size]", "[step.size");
    syntax_value_missing: with("model = \"model.bin\"", "model =");
    syntax_key_twice: with("path = \"*.mp4\"", "path = \"*.mp4\"\npath = \"b\"");
    syntax_table_twice: format!("{}[step.size]\ntype = \"size\"\n", good());
    two_syntax_and_unknown_key: with("path = \"*.mp4\"", "paht = \"*.mp4\"").replace("model = \"model.bin\"", "model = model.bin");
    section_unknown: format!("{}[steps.a]\ntype = \"size\"\n[foo]\nx = 1\n", good());
    section_not_a_table: format!("engine = 3\n{}", good());
    step_not_a_table: format!("{HEAD}[step]\nclips = \"clips\"\n");
    variable_missing: with("*.mp4", "${NOWHERE}/${ALSO_NOT:-a}/*.mp4");
    variable_malformed: with("*.mp4", "${FOLDER").replace("model.bin", "${1 X}");
    type_unknown: with("type = \"size\"", "type = \"sizes\"");
    type_unknown_far: with("type = \"size\"", "type = \"quux\"");
    type_missing: with("type = \"score\"\n", "");
    type_not_a_string: with("type = \"score\"", "type = 1");
    key_unknown: with("model = ", "frame = 8\nmodel = ");
    key_unknown_far: with("model = ", "zzz = 8\nmodel = ");
    key_missing: with("path = \"*.mp4\"\n", "");
    value_of_wrong_type: with("model = ", "frames = \"8\"\nclasses = \"a\"\ncuda = 1\nmin_score = [1]\nmodel = ");
    value_of_wrong_type_in_a_list: with("model = ", "classes = [\"a\", 2]\nmodel = ");
    value_nested: with("model = ", "service = { ulr = \"x\", timeout_seconds = 0 }\nmodel = ");
    value_float_for_integer: with("model = ", "frames = 8.0\nmodel = ");
    value_date: with("model = \"model.bin\"", "model = 2020-01-01");
    value_tuple_length: format!("{HEAD}{}", GOOD.replace("type = \"size\"", "type = \"cut\"\nlengths_seconds = [1.0]"));
    value_out_of_range: with("model = ", "frames = 65\nmin_score = -0.1\nmodel = ");
    value_too_large_for_its_type: with("path =", "retries = 99999999999999999999\npath =");
    value_nan: with("model = ", "min_score = nan\nmodel = ");
    value_none_of_the_names: with("model = ", "backend = \"locl\"\nmodel = ");
    parameters_contradict: with("model = ", "min_score = 0.9\nmax_score = 0.1\nbackend = \"remote\"\nmodel = ");
    on_unmeasured_unknown: with("model = ", "on_unmeasured = \"kep\"\nmodel = ");
    on_unmeasured_of_expand_and_sink: with("type = \"size\"", "type = \"cut\"\nlengths_seconds = [1.0, 2.0]\non_unmeasured = \"keep\"")
        .replace("type = \"table\"", "type = \"table\"\non_unmeasured = \"error\"").replace(" and width > 100", "");
    balance_of_source_and_wrong: with("path =", "balance = true\npath =").replace("model = ", "balance = \"yes\"\nmodel = ");
    pipeline_missing: GOOD;
    pipeline_keys: format!("[pipeline]\nname = \"my demo\"\nmax_error_rate = 2\nsplit_max = 3\n{GOOD}");
    pipeline_output_empty: good().replace("\"out\"", "\"\"");
    metrics_for_all: format!("[engine]\nmetrics_address = \"0.0.0.0:9464\"\n{}", good());
    engine_keys: format!("[engine]\nworker = 2\nmetrics_address = \"localhost\"\n[engine.pools]\ncpus = 1\ngpu = -1\n{}", good());
    runtime_keys: format!("[runtime]\nonnx = \"x.so\"\nproviders = []\nthreads = 0\nreplicas = 1\n{}", good());
    runtime_provider: format!("[runtime]\nproviders = [\"cudo\"]\n{}", good());
    name_not_allowed: with("[step.size]", "[step.\"my size\"]").replace("[\"size\"]", "[\"my size\"]");
    input_unknown: with("inputs = [\"clips\"]", "inputs = [\"clip\"]");
    input_twice: with("inputs = [\"clips\"]", "inputs = [\"clips\", \"clips\"]");
    input_itself: with("inputs = [\"clips\"]", "inputs = [\"size\"]");
    input_not_a_list: with("inputs = [\"clips\"]", "inputs = \"clips\"");
    input_not_a_string: with("inputs = [\"clips\"]", "inputs = [1]");
    input_is_a_sink: with("inputs = [\"keep\"]", "inputs = [\"keep\"]\n[step.more]\ntype = \"size\"\ninputs = [\"table\"]\n[step.last]\ntype = \"table\"\ninputs = [\"more\"]");
    inputs_of_a_source: with("path =", "inputs = [\"size\"]\npath =");
    inputs_missing: with("inputs = [\"size\"]\n", "");
    cycle: with("inputs = [\"clips\"]", "inputs = [\"keep\"]");
    two_cycles: format!("{}[step.a]\ntype = \"size\"\ninputs = [\"b\"]\n[step.b]\ntype = \"wide\"\ninputs = [\"a\"]\n", with("inputs = [\"clips\"]", "inputs = [\"keep\"]"));
    output_dangling: format!("{}[step.more]\ntype = \"wide\"\ninputs = [\"size\"]\n", good());
    pipeline_empty: HEAD;
    pipeline_without_sink: format!("{HEAD}[step.clips]\ntype = \"clips\"\npath = \"x\"\n");
    sinks_at_one_place: format!("{}[step.b]\ntype = \"table\"\nlocation = \"./table/\"\ninputs = [\"keep\"]\n[step.c]\ntype = \"table\"\nlocation = \"table/x\"\ninputs = [\"keep\"]\n[step.rejects]\ntype = \"table\"\ninputs = [\"keep\"]\n[step.d]\ntype = \"table\"\nlocation = \"../x\"\ninputs = [\"keep\"]\n", good());
    column_missing: with("inputs = [\"size\"]", "inputs = [\"clips\"]");
    column_missing_no_step: format!("{HEAD}[step.clips]\ntype = \"clips\"\npath = \"x\"\n[step.wide]\ntype = \"wide\"\ninputs = [\"clips\"]\n[step.table]\ntype = \"table\"\ninputs = [\"wide\"]\n");
    column_of_wrong_type: format!("{HEAD}[step.texts]\ntype = \"texts\"\n[step.score]\ntype = \"score\"\ninputs = [\"texts\"]\nmodel = \"model.bin\"\n[step.table]\ntype = \"table\"\ninputs = [\"score\"]\n");
    column_twice: with("inputs = [\"size\"]", "inputs = [\"again\"]\n[step.again]\ntype = \"size\"\ninputs = [\"size\"]").replace("model = \"model.bin\"", "").replace("inputs = [\"again\"]", "inputs = [\"again\"]\nmodel = \"model.bin\"");
    columns_of_a_sink: with("inputs = [\"keep\"]", "inputs = [\"keep\"]\ncolumns = [\"widht\", \"score\"]\nexclude = [\"nothing\"]");
    inputs_with_other_columns: with("inputs = [\"keep\"]", "inputs = [\"keep\", \"size\"]");
    inputs_with_other_ids: format!("{}[step.cut]\ntype = \"cut\"\ninputs = [\"size\"]\nlengths_seconds = [1, 2]\n[step.both]\ntype = \"table\"\ninputs = [\"size\", \"cut\"]\n", good());
    sql_unknown_column: with("width > 100", "widht > 100");
    sql_unknown_function: with("width > 100", "abss(width) > 100");
    sql_syntax: with("width > 100", "width >");
    sql_not_boolean: with("score >= 0.5 and width > 100", "score + 1");
    sql_in_several_lines: with("\"score >= 0.5 and width > 100\"", "\"\"\"\nscore >= 0.5\n  and \\\"scroe\\\" < 1\"\"\"");
    file_missing: with("model.bin", "models/none.bin");
    file_is_a_folder: with("model.bin", ".");
    software_missing: with("model = ", "cuda = true\nmodel = ");
    two_in_one_step: with("model = \"model.bin\"", "frame = 65\nmin_score = 7");
    everywhere: with("type = \"size\"", "type = \"siez\"").replace("path", "paht").replace("score >=", "scroe >=").replace("inputs = [\"keep\"]", "inputs = [\"kep\"]").replace("model.bin", "none.bin");
    sinks_where_the_engine_writes: format!("{}[step.stages]\ntype = \"table\"\ninputs = [\"keep\"]\n[step._curette]\ntype = \"table\"\ninputs = [\"keep\"]\n", good());
    stores_unknown: format!("{}[step.b]\ntype = \"table\"\nlocation = \"ftps://bucket/b\"\ninputs = [\"keep\"]\n", good()).replace("\"out\"", "\"ftp://me:secret@host/out\"");
    key_of_another_table: format!("[engine]\nmax_error_rate = 0.1\n{}", good()).replace("output =", "reuse = false\noutput =");
    lines_of_windows: with("type = \"size\"", "type = \"siez\"").replace('\n', "\r\n");
    variable_in_a_default: with("*.mp4", "${NONE:-${FOLDER}}");
    sql_text_against_number: with("width > 100", "title > 5");
    two_unknown_columns: with("score >= 0.5 and width > 100", "scroe >= 0.5 and widht > 100");
    sql_fails_always: with("width > 100", "width > 1 / 0");
    secret_of_the_wrong_type: with("model = ", "api_key = 17\nauth_token = \"sk-written\"\nmodel = ");
}

#[test]
fn a_good_file_becomes_a_graph() {
    let graph = checked(&good()).unwrap();
    let names: Vec<_> = graph.steps.iter().map(|s| (s.name.as_str(), s.inputs.clone(), s.balance)).collect();
    assert_eq!(
        names,
        [
            ("clips", vec![], false),
            ("size", vec![0], true),
            ("score", vec![1], false),
            ("keep", vec![2], false),
            ("table", vec![3], false)
        ]
    );
    assert_eq!(graph.engine.max_restarts, 5);
    assert_eq!(graph.steps[2].files[0].key, "model");
    assert_eq!(graph.steps[2].files[0].blake3, blake3::hash(b"model").to_hex().to_string());
    assert_eq!(graph.steps[2].on_unmeasured, OnUnmeasured::Error);
    let columns: Vec<_> = graph.steps[4].output.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(columns, ["video_id", "title", "width", "height", "score"]);
    assert_eq!(graph.steps[4].output.metadata()["curette.id"], "video_id");
}

#[test]
fn the_order_of_steps_is_that_of_the_file_where_inputs_allow() {
    let text = format!(
        "{HEAD}[step.out]\ntype = \"table\"\ninputs = [\"b\", \"a\"]\nexclude = [\"title\"]\n[step.b]\ntype = \"size\"\ninputs = [\"src\"]\n\
         [step.a]\ntype = \"size\"\ninputs = [\"src\"]\n[step.src]\ntype = \"clips\"\npath = \"x\"\n[step.parts]\ntype = \"cut\"\ninputs = [\"a\"]\n\
         lengths_seconds = [1, 2]\non_unmeasured = \"reject\"\n[step.end]\ntype = \"table\"\ninputs = [\"parts\"]\nbalance = false\ncolumns = [\"clip_id\"]\n"
    );
    let graph = checked(&text).unwrap();
    let names: Vec<_> = graph.steps.iter().map(|s| (s.name.as_str(), s.inputs.clone(), s.balance)).collect();
    assert_eq!(
        names,
        [
            ("src", vec![], false),
            ("b", vec![0], true),
            ("a", vec![0], true),
            ("out", vec![1, 2], false),
            ("parts", vec![2], false),
            ("end", vec![4], false)
        ]
    );
    let fields = |i: usize| graph.steps[i].output.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    assert_eq!(fields(3), ["video_id", "width", "height"]);
    assert_eq!(fields(5), ["clip_id"]);
    assert_eq!(graph.steps[5].input.metadata()["curette.id"], "clip_id");
    assert_eq!(graph.steps[5].input.metadata()["curette.root_id"], "video_id");
    insta::assert_snapshot!("mermaid", draw::mermaid(&graph));
    insta::assert_snapshot!("dot", draw::dot(&graph));
    let svg = draw::svg(&graph);
    assert!(svg.contains("<svg") && svg.contains("parts"));
    (0..20).for_each(|_| assert_eq!(svg, draw::svg(&graph)));
}

#[test]
fn variables_are_filled_in_and_secrets_stay_secret() {
    let text = with("*.mp4", "${FOLDER}/${EMPTY:-all}/$${x}${EMPTY}").replace("model = ", "api_key = \"${API_KEY}\"\nmodel = ");
    let graph = checked(&text).unwrap();
    assert_eq!(graph.steps[0].operator.parameters()["path"], "/data/videos/all/${x}");
    assert_eq!(graph.steps[2].operator.parameters()["api_key"], "***");
    assert!(!graph.meaning().to_string().contains("sk-very-secret"));

    // Even where the value ends up in a message.
    let text = with("model.bin", "${API_KEY}/model.bin")
        .replace("score >= 0.5", "score >= '${API_KEY}")
        .replace("type = \"size\"", "type = \"${API_KEY}\"");
    let list = checked(&text).err().unwrap();
    let all = format!("{list:?}{}{}", render("p.toml", &text, &list, true), render_json("p.toml", &text, &list));
    assert!(all.contains("${API_KEY}"), "{all}");
    assert!(!all.contains("sk-very-secret"), "{all}");
}

#[test]
fn written_secrets_are_not_shown() {
    let text = with("model = ", "api_key = 'sk-written'\nauth_tokn = 1\nauth_token = \"sk-also\"\nmodel = ");
    let list = checked(&text).err().unwrap();
    let all = format!("{}{}", render("p.toml", &text, &list, false), render_json("p.toml", &text, &list));
    assert!(all.contains("E0103") && !all.contains("sk-"), "{all}");
}

#[test]
fn environment_checks_can_be_left_out() {
    let (_folder, file) = fake::folder();
    let text = with("model = ", "cuda = true\nmodel = ");
    let options = Options { environment: false, variables: &variable, ..Options::default() };
    assert!(check(&file, &text, fake::REGISTRY, &options).is_ok());
}

#[test]
fn json_is_for_editors() {
    let text = with("width > 100", "é > 1 and widht > 100").replace("[step.keep]", "# é\n[step.keep]");
    let list = checked(&text).err().unwrap();
    insta::assert_snapshot!("json", render_json("pipelines/p.toml", &text, &list));
}

#[test]
fn mistakes_come_in_the_order_of_the_file() {
    let text = with("type = \"size\"", "type = \"siez\"").replace("path", "paht").replace("[\"keep\"]", "[\"kep\"]");
    let list = checked(&text).err().unwrap();
    let codes: Vec<Code> = list.iter().map(|d| d.code).collect();
    assert_eq!(codes, [Code::MissingKey, Code::UnknownKey, Code::UnknownType, Code::UnknownInput]);
    let places: Vec<usize> = list.iter().map(|d| d.labels[0].span.start).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn operators_document_themselves() {
    insta::assert_snapshot!("ops", describe::ops_list(fake::REGISTRY));
    let score = fake::REGISTRY.iter().find(|e| e.name == "score").unwrap();
    insta::assert_snapshot!("ops_score", describe::ops_page(score));
    insta::assert_json_snapshot!("schema", describe::json_schema(fake::REGISTRY));
}

mod robust {
    use proptest::prelude::*;

    use super::*;

    /// Checks, and renders what was found: neither may panic, whatever the text.
    fn survive(text: &str) {
        if let Err(list) = checked(text) {
            render("p.toml", text, &list, false);
            render_json("p.toml", text, &list);
        }
    }

    fn lines() -> Vec<&'static str> {
        vec![
            "[pipeline]",
            "name = \"a\"",
            "output = 'o'",
            "[engine]",
            "[step.a]",
            "[step.b]",
            "[step.c]",
            "[step]",
            "[[step.a]]",
            "[step.a.b]",
            "type = \"clips\"",
            "type = \"size\"",
            "type = \"score\"",
            "type = \"keep\"",
            "type = \"cut\"",
            "type = \"table\"",
            "type = 3",
            "inputs = [\"a\"]",
            "inputs = [\"b\", \"a\"]",
            "inputs = [\"c\"]",
            "inputs = 5",
            "path = \"${X}\"",
            "path = \"${X:-é}$\"",
            "condition = \"a >= 'é\"",
            "condition = '''\n width > 1'''",
            "condition = \"\\u00e9 \\\n  > é\"",
            "model = \"model.bin\"",
            "frames = 1e999",
            "frames = 0xffffffffffffffffffff",
            "lengths_seconds = [1, []]",
            "a.b.c = {d = [[[1]]]}",
            "x = \"\"\"",
            "= 1",
            "é = 1",
            "[",
            "on_unmeasured = \"keep\"",
            "balance = 1",
            "columns = [\"a\"]",
            "step.a = 1",
            "api_key = \"\\\"é",
            "\u{feff}",
            "\0",
            "\r",
        ]
    }

    #[test]
    fn absurd_nesting() {
        for text in [
            format!("{}a = 1", "a.".repeat(50_000)),
            format!("[step.{}a]", "a.".repeat(50_000)),
            format!("a = {}", "[".repeat(50_000)),
            format!("a = {}", "{a=".repeat(50_000)),
            with("score >= 0.5", &"(".repeat(50_000)),
            with("score >= 0.5", &"not ".repeat(50_000)),
            with("score >= 0.5", &"score >= 0.5 and ".repeat(5_000)),
            with("*.mp4", &"${A:-".repeat(50_000)),
        ] {
            survive(&text);
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,200}") {
            survive(&text);
        }

        #[test]
        fn any_lines(picked in prop::collection::vec(prop::sample::select(lines()), 0..30)) {
            survive(&picked.join("\n"));
        }

        #[test]
        fn damaged_files(at in 0usize..600, cut in 0usize..40, insert in "[\\[\\]{}\"'=.,#$\\\\a1\n]{0,3}") {
            let mut text = good();
            let at = at.min(text.len());
            let end = (at + cut).min(text.len());
            text.replace_range(at..end, &insert);
            survive(&text);
        }
    }
}

#[test]
fn counts_of_another_run_are_of_steps_that_are_there() {
    let with = |more: &str| format!("{HEAD}{more}{GOOD}");
    let good = checked(&with("[pipeline.reference]\nsource = \"the paper\"\nrows_out.size = 37000\n")).ok().unwrap();
    let reference = good.pipeline.reference.unwrap();
    assert_eq!((reference.source.as_str(), reference.rows_out["size"]), ("the paper", 37_000));
    let bad = checked(&with("[pipeline.reference]\nsource = \"the paper\"\nrows_out = { siez = 1, keep = 2 }\n")).err().unwrap();
    let [one] = bad.as_slice() else { panic!("{bad:?}") };
    assert_eq!(one.code, Code::UnknownInput);
    assert_eq!(one.message, "`reference.rows_out` counts a step `siez`, which there is not");
    assert_eq!(one.help.as_deref(), Some("did you mean `size`?"));
}
