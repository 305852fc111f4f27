//! Rows, rules and mistakes of the `keyword_filter`.

use arrow::datatypes::Schema;

use super::*;
use crate::testing;

fn rows(json: &str) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("title", DataType::Utf8, true),
        Field::new("description", DataType::Utf8, true),
        Field::new("tags", string_list(), true),
    ]));
    arrow_json::ReaderBuilder::new(schema).build(json.as_bytes()).unwrap().next().unwrap().unwrap()
}

#[test]
fn rows_are_kept_by_distinct_terms_over_all_fields() {
    let batch = rows(
        r#"{"title":"Heart heart HEART","description":"nothing"}
           {"title":"Heart","tags":["Cooking","MRI scan"]}
           {"title":"","description":null}
           {"description":"a heart","tags":["failure"]}
           {}"#,
    );
    let toml = "type = 'keyword_filter'\nterms = ['heart', 'mri', 'heart failure']\nmin_hits = 2";
    let processed = testing::run(toml, &batch);
    assert_eq!(
        testing::codes(&processed),
        ["too_few_keyword_hits", "pass", "too_few_keyword_hits", "too_few_keyword_hits", "unmeasured no_text"]
    );
    let hits = processed.columns[0].as_list::<i32>();
    let second = hits.value(1);
    assert_eq!(second.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["heart", "mri"]);
    assert!(hits.is_null(4));
    let Verdict::Fail(reject) = &processed.verdicts[0] else { panic!() };
    assert_eq!((reject.measured, reject.threshold), (Some(1.0), Some(2.0)));
    assert_eq!(reject.message, "1 of the 2 terms needed occur: heart");
}

#[test]
fn the_dictionary_is_a_file_of_the_step_and_joined_with_terms() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("d.txt"), "# organs\nheart\nliver # twice\nLiver\n").unwrap();
    let batch = rows(r#"{"title":"the liver"} {"title":"a kidney"} {"title":"a car"}"#);
    let toml = "type = 'keyword_filter'\ndictionary = 'd.txt'\nterms = ['kidney']\nfields = ['title']";
    let processed = testing::run_in(dir.path(), toml, &batch);
    assert_eq!(testing::codes(&processed), ["pass", "pass", "too_few_keyword_hits"]);
    let operator = testing::operator(toml).unwrap();
    let files = operator.files(&Paths { base: dir.path().into() });
    assert_eq!((files[0].key, files[0].path.clone()), ("dictionary", dir.path().join("d.txt")));
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let found = |toml: &str| testing::mistakes(toml, &[]);
    assert_eq!(
        found("type = 'keyword_filter'\nfields = ['a', 'a']"),
        ["- E-MissingKey: neither `dictionary` nor `terms` is given", "fields E-Contradiction: column `a` is named twice"]
    );
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("good.txt", "heart\n"), ("bad.txt", "heart\n---\n"), ("empty.txt", "# nothing\n")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let environment = |toml: &str| {
        let mut check = testing::Mistakes { paths: Paths { base: dir.path().into() }, lines: vec![] };
        testing::operator(&format!("type = 'keyword_filter'\n{toml}")).unwrap().check_environment(&mut check);
        check.lines
    };
    assert_eq!(environment("terms = ['...']"), ["terms E-BadModel: `terms`: entry 1: `...` has no letter or digit"]);
    for dictionary in ["good.txt", "empty.txt"] {
        let found = environment(&format!("dictionary = '{dictionary}'\nterms = ['ct', '...']"));
        assert_eq!(found, ["terms E-BadModel: `terms`: entry 2: `...` has no letter or digit"]);
    }
    let found = environment("dictionary = 'bad.txt'\nterms = ['ct']");
    assert_eq!(found, ["dictionary E-BadModel: dictionary `bad.txt`: line 2: `---` has no letter or digit"]);
    let found = environment("dictionary = 'empty.txt'");
    assert_eq!(found, ["dictionary E-BadModel: dictionary `empty.txt`: it holds no term"]);
    assert!(testing::build("type = 'keyword_filter'\ndictionary = 'nowhere.txt'").is_err());
}

/// `term field dictionary` of each hit of a row.
fn places(processed: &Processed, row: usize) -> Vec<String> {
    let list = processed.columns[3].as_list::<i32>().value(row);
    let list = list.as_struct();
    let cell = |column: usize, at: usize| list.column(column).as_string::<i32>().value(at).to_owned();
    (0..list.len()).map(|at| [0, 1, 2].map(|column| cell(column, at)).join(" ")).collect()
}

#[test]
fn each_hit_says_which_field_and_which_dictionary() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("organs.txt"), "heart\nliver\n!heart of gold\n").unwrap();
    std::fs::write(dir.path().join("food.txt"), "liver\n!!recipe\n").unwrap();
    let batch = rows(
        r#"{"title":"Heart and liver","description":"A heart of gold","tags":["liver"]}
           {"title":"heart of gold","description":"heart of gold"}
           {"title":"liver recipe"}"#,
    );
    let toml = "type = 'keyword_filter'\nterms = ['gold']\nexclude = ['heart of']\ndictionaries = { organs = 'organs.txt', food = 'food.txt' }";
    let processed = testing::run_in(dir.path(), toml, &batch);
    assert_eq!(testing::codes(&processed), ["pass", "too_few_keyword_hits", "vetoed"]);
    assert_eq!(
        places(&processed, 0),
        ["heart title organs", "liver title food", "liver title organs", "liver tags food", "liver tags organs"]
    );
    // `gold` lies inside of an exclusion of another dictionary.
    assert_eq!(places(&processed, 1), [""; 0]);
    let Verdict::Fail(reject) = &processed.verdicts[2] else { panic!() };
    assert_eq!(reject.message, "`recipe` occurs, which no row may have");
}

#[test]
fn weights_and_minimums_by_field_and_dictionary_decide() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("organs.txt"), "heart\nliver\n").unwrap();
    let batch = rows(
        r#"{"title":"heart","description":"heart, ct"}
           {"title":"nothing","description":"heart, liver"}
           {"title":"ct","description":"mri"}
           {"title":"heart","tags":["mri"]}"#,
    );
    let run = |more: &str| {
        let toml = format!("type = 'keyword_filter'\ndictionaries = {{ organs = 'organs.txt' }}\nterms = ['ct', 'mri']\n{more}");
        testing::run_in(dir.path(), &toml, &batch)
    };
    let all = run("weights = { title = 3.0, tags = 0.5 }\nmin_score = 3.5");
    let scores = all.columns[2].as_primitive::<arrow::datatypes::Float64Type>();
    assert_eq!(scores.values(), &[4.0, 2.0, 4.0, 3.5]);
    assert_eq!(testing::codes(&all), ["pass", "low_keyword_score", "pass", "pass"]);
    let Verdict::Fail(reject) = &all.verdicts[1] else { panic!() };
    assert_eq!((reject.measured, reject.threshold), (Some(2.0), Some(3.5)));
    assert_eq!(reject.message, "the terms are worth 2, needed are 3.5: heart, liver");
    let by_field = run("min_hits_by_field = { title = 1 }");
    assert_eq!(testing::codes(&by_field), ["pass", "too_few_hits_in_field", "pass", "pass"]);
    let by_dictionary = run("min_hits_by_dictionary = { organs = 1, terms = 1 }");
    assert_eq!(testing::codes(&by_dictionary), ["pass", "too_few_hits_of_dictionary", "too_few_hits_of_dictionary", "pass"]);
}

#[test]
fn names_that_stand_for_nothing_are_found() {
    let toml = "type = 'keyword_filter'\nterms = ['ct']\nfields = ['title']\nweights = { titel = 2.0, title = -1.0 }\n\
                min_hits_by_field = { tags = 1 }\nmin_hits_by_dictionary = { organs = 1 }\ndictionaries = { terms = 'a.txt' }";
    assert_eq!(
        testing::mistakes(toml, &[]),
        [
            "dictionaries E-Contradiction: a dictionary cannot be called `terms`: that is the name of the key `terms`",
            "weights E-Contradiction: `titel` is not one of `fields`",
            "min_hits_by_field E-Contradiction: `tags` is not one of `fields`",
            "min_hits_by_dictionary E-Contradiction: `organs` is not a dictionary of this step",
            "weights E-OutOfRange: the weight of `title` is -1; it must be 0 or more"
        ]
    );
}
