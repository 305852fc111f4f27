use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, ListBuilder, RecordBatch, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field};

use super::*;

fn batch() -> RecordBatch {
    let mut hits = ListBuilder::new(StringBuilder::new());
    hits.append_value([Some("mri"), Some("ct")]);
    hits.append_null();
    hits.append_value(Vec::<Option<&str>>::new());
    let path: ArrayRef = Arc::new(StringArray::from(vec![Some("a.mp4"), None, Some("c.mp4")]));
    let clip = StructArray::from(vec![(Arc::new(Field::new("path", DataType::Utf8, true)), path)]);
    RecordBatch::try_from_iter_with_nullable([
        ("title", Arc::new(StringArray::from(vec![Some("Liver MRI"), Some("Cooking"), None])) as ArrayRef, true),
        ("width", Arc::new(Int32Array::from(vec![Some(640), None, Some(320)])) as ArrayRef, true),
        ("score", Arc::new(Float32Array::from(vec![Some(0.9), Some(f32::NAN), Some(0.1)])) as ArrayRef, true),
        ("hits", Arc::new(hits.finish()) as ArrayRef, true),
        ("clip", Arc::new(clip) as ArrayRef, true),
    ])
    .unwrap()
}

fn answers(sql: &str) -> Vec<Option<bool>> {
    let rows = batch();
    Predicate::compile(sql, &rows.schema()).unwrap_or_else(|e| panic!("{sql}: {e}")).evaluate(&rows).unwrap().iter().collect()
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

#[test]
fn missing_and_nan_values_are_unmeasured() {
    assert_eq!(answers("width >= 480"), [YES, None, NO]);
    assert_eq!(answers("score < 5.0"), [YES, None, YES]);
    assert_eq!(answers("width >= 480 and title is not null"), [YES, None, NO]);
    // Three-valued logic: false and null = false, true or null = true.
    assert_eq!(answers("width >= 480 and score > 5"), [NO, None, NO]);
    assert_eq!(answers("width >= 480 or title = 'Cooking'"), [YES, YES, None]);
    assert_eq!(answers("true"), [YES, YES, YES]);
}

#[test]
fn types_meet_in_the_middle() {
    // The column is Float32: what was written as 0.9 is 0.9.
    assert_eq!(answers("score >= 0.9"), [YES, None, NO]);
    assert_eq!(answers("score = 0.9"), [YES, None, NO]);
    assert_eq!(answers("score between 0.1 and 0.9"), [YES, None, YES]);
    assert_eq!(answers("score in (0.1, 0.2)"), [NO, None, YES]);
    assert_eq!(answers("width > 1e2"), [YES, None, YES]);
    assert_eq!(answers("width = 9000000000"), [NO, None, NO]);
    assert_eq!(answers("width / 2 = 320 and -score < 0"), [YES, None, NO]);
}

#[test]
fn functions_of_text_numbers_lists_and_structs() {
    assert_eq!(answers("lower(title) like '%mri%'"), [YES, NO, None]);
    assert_eq!(answers("LENGTH(title) > 8"), [YES, NO, None]);
    assert_eq!(answers("regexp_like(title, '^C')"), [NO, YES, None]);
    assert_eq!(answers("array_has(hits, 'mri')"), [YES, None, NO]);
    assert_eq!(answers("cardinality(hits) >= 1"), [YES, None, NO]);
    assert_eq!(answers("clip.path = 'a.mp4'"), [YES, None, NO]);
    assert_eq!(answers("coalesce(width, 0) >= 320 and round(score) = 1"), [YES, NO, NO]);
    assert_eq!(answers("case when width > 500 then true else false end"), [YES, NO, NO]);
    assert_eq!(answers("\"width\" > 500 -- wide"), [YES, None, NO]);
}

#[test]
fn batches_may_have_other_columns_in_another_order() {
    let rows = batch();
    let predicate = Predicate::compile("width > 500 and score > 0.5", &rows.schema()).unwrap();
    let other = rows.project(&[2, 1]).unwrap();
    assert_eq!(predicate.evaluate(&other).unwrap(), predicate.evaluate(&rows).unwrap());
    assert_eq!(predicate.evaluate(&rows.project(&[2]).unwrap()).unwrap_err(), "the rows have no column `width`");
    assert_eq!(predicate.columns(), ["width", "score"]);
    assert_eq!(predicate.values(&rows, 0), "width = 640, score = 0.9");
    assert_eq!(predicate.values(&rows, 1), "width = null, score = NaN");
    assert_eq!(predicate.measured(&rows, 0), None);
    let one = Predicate::compile("width > 500", &rows.schema()).unwrap();
    assert_eq!((one.measured(&rows, 0), one.measured(&rows, 1)), (Some(640.0), None));
}

#[test]
fn a_failed_row_fails_its_batch() {
    let rows = batch();
    let predicate = Predicate::compile("width / (width - 640) > 0", &rows.schema()).unwrap();
    assert!(predicate.evaluate(&rows).unwrap_err().contains("Divide by zero"));
    assert!(!predicate.evaluate(&rows.slice(2, 1)).unwrap().value(0));
    let answers = predicate.answers(&rows);
    assert_eq!((answers.len(), answers[2].clone()), (rows.num_rows(), Ok(Some(false))));
    assert!(answers.iter().any(|answer| answer.as_ref().is_err_and(|e| e.contains("Divide by zero"))));
}

#[test]
fn columns_are_found_without_a_schema() {
    assert_eq!(referenced_columns("b > 1 and (A < b or clip.path is null) and abs(c) = 1").unwrap(), ["b", "A", "clip", "c"]);
    assert!(referenced_columns("b >").is_err());
}

#[test]
fn all_unknown_names_are_told_at_once() {
    let errors = Predicate::compile_all("foo > 1 and lowr(title) = bar", &batch().schema()).unwrap_err();
    let messages: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(messages, ["no column is called `foo`", "no function is called `lowr`", "no column is called `bar`"]);
}

#[test]
fn mistakes_name_their_place_and_remedy() {
    let schema = batch().schema();
    let mut out = String::new();
    for sql in [
        "",
        "widht >= 640",
        "Width >= 640",
        "width >= 640 and scroe > 0.5",
        "title = \"Liver MRI\"",
        "title = 'Liver",
        "width >=",
        "width >= 640)",
        "width => 640",
        "width == 640 && score > 1",
        "width + 1",
        "lowr(title) = 'x'",
        "avg(score) > 1",
        "lower(title, 2) = 'x'",
        "title > 5 + hits",
        "hits > 3",
        "random() > 0.5",
        "width in (select 1)",
        "exists (select 1)",
        "width > ?",
        "clip.size > 1",
        "sum(score) over () > 1",
        "é >= 1",
        "title =\n  'x' and bogus",
    ] {
        let e = Predicate::compile(sql, &schema).unwrap_err();
        let at = e.range.as_ref().map_or("-".to_owned(), |r| format!("{:?}", &sql[r.clone()]));
        out.push_str(&format!("{sql:?}\n  at {at}: {}\n  help: {}\n", e.message, e.help.as_deref().unwrap_or("-")));
    }
    insta::assert_snapshot!(out);
}

#[test]
fn computed_numbers_that_mean_nothing_are_unmeasured() {
    // ln of a negative number is NaN, with either sign; it must not decide.
    for sql in ["ln(width - 1000) < 0", "not (ln(width - 1000) > 0)", "ln(width - 1000) > 0"] {
        assert_eq!(answers(sql), [None, None, None], "{sql}");
    }
    assert_eq!(answers("ln(width - 500) > 1"), [YES, None, None]);
    assert_eq!(answers("cast('NaN' as double) > width"), [None, None, None]);
    assert_eq!(answers("ln(-1.0) < 0 or width >= 480"), [YES, None, None]);
    assert_eq!(answers("coalesce(ln(width - 1000), 7.0) = 7.0"), [YES, YES, YES]);
    assert_eq!(answers("abs(score - 0.9) < 0.01"), [YES, None, NO]);
}

#[test]
fn integers_do_not_wrap_around() {
    let rows = batch();
    for sql in ["width * 9223372036854775807 > 1", "9223372036854775807 + width > 0", "-9223372036854775807 - width < 0"] {
        let predicate = Predicate::compile(sql, &rows.schema()).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let why = predicate.evaluate(&rows.slice(0, 1)).unwrap_err();
        assert!(why.to_lowercase().contains("overflow"), "{sql}: {why}");
    }
    let why = Predicate::compile("9223372036854775807 * 2 > width", &rows.schema()).unwrap_err();
    assert!(why.message.contains("64-bit"), "{why}");
}

#[test]
fn what_must_fail_on_every_row_is_refused_at_once() {
    let mut out = String::new();
    let sqls = [
        "title > 5",
        "5 < title",
        "title in (1, 2)",
        "title between 1 and 2",
        "1 / 0 > 1",
        "width > 1 / 0",
        "cast('x' as int) = width",
    ];
    for sql in sqls {
        let e = Predicate::compile(sql, &batch().schema()).map(|_| ()).expect_err(sql);
        out.push_str(&format!("{sql}: {e}\n"));
    }
    insta::assert_snapshot!(out);
    assert_eq!(answers("cast(title as int) is null or true"), [YES, YES, YES]);
    assert_eq!(answers("title = '5' or width > 500"), [YES, None, None]);
}

#[test]
fn huge_conditions_are_refused_and_the_largest_allowed_ones_work() {
    let schema = batch().schema();
    let sum = |n: usize| format!("{} > 0", vec!["width"; n].join(" + "));
    assert!(Predicate::compile(&sum(5_000), &schema).unwrap_err().message.contains("more than"));
    let deep = format!("{}width > 0{}", "(".repeat(200), ")".repeat(200));
    assert!(Predicate::compile(&deep, &schema).unwrap_err().message.contains("deeper"));
    let most = Predicate::compile(&sum(63), &schema).unwrap();
    assert!(most.evaluate(&batch()).unwrap().value(0));
    assert!(Predicate::compile(&sum(200), &schema).unwrap_err().message.contains("more than"));
    let nots = format!("{} width > 0", "not ".repeat(490));
    assert!(Predicate::compile(&nots, &schema).is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_compiler_panic(sql in "[a-z'\"().,<>=*+\\- 0-9$?é\n]{0,80}") {
        let _ = Predicate::compile(&sql, &batch().schema());
    }

    #[test]
    fn no_words_make_the_compiler_panic(words in proptest::collection::vec(proptest::sample::select(vec![
        "width", "score", "title", "hits", "clip", "and", "or", "not", "(", ")", ">=", "=", "1", "0.5", "'x'", "is", "null", "in", "between",
        "case", "when", "then", "end", "lower(", "array_has(", "cast(", "as", "int", ",", "::", ".", "[", "]", "like", "interval", "->", "{", "}",
    ]), 0..25)) {
        let _ = Predicate::compile(&words.join(" "), &batch().schema());
    }
}
