//! Words, spellings, exclusions; and the search against the obvious one.

use proptest::prelude::*;

use super::*;

fn of(terms: &[&str]) -> Keywords {
    let entries = terms.iter().enumerate().flat_map(|(i, term)| entries(term).map(move |e| Entry { line: i + 1, ..e }));
    Keywords::new(entries).unwrap()
}

fn hits(terms: &[&str], text: &str) -> Vec<String> {
    of(terms).hits(text).into_iter().map(str::to_string).collect()
}

#[test]
fn only_whole_words_count_in_any_spelling() {
    let terms = ["heart", "heart failure", "x-ray", "café", "Straße", "crohn's disease", "ct"];
    assert_eq!(hits(&terms, "HEART\n  failure"), ["heart", "heart failure"]);
    assert_eq!(hits(&terms, "hearts sweetheart heart2heart"), Vec::<String>::new());
    assert_eq!(hits(&terms, "(heart)_ct."), ["ct", "heart"]);
    assert_eq!(hits(&terms, "X\u{2011}Ray of CAFE\u{301} in der STRASSE"), ["café", "strasse", "x-ray"]);
    assert_eq!(hits(&terms, "Crohn\u{2019}s Disease"), ["crohn's disease"]);
    assert_eq!(hits(&terms, "\u{ff28}\u{ff25}\u{ff21}\u{ff32}\u{ff34}"), ["heart"]);
    assert_eq!(hits(&terms, "infarct action"), Vec::<String>::new());
}

#[test]
fn an_exclusion_cancels_what_lies_inside_of_it_and_nothing_else() {
    let terms = ["surgical", "strike injury", "!surgical strike", "surgical strike injury"];
    assert_eq!(hits(&terms, "a Surgical  Strike on the base"), Vec::<String>::new());
    assert_eq!(hits(&terms, "surgical strike, then surgical care"), ["surgical"]);
    assert_eq!(hits(&terms, "surgical strike injury"), ["strike injury", "surgical strike injury"], "these reach beyond it");
    assert_eq!(hits(&terms, "surgical strikes"), ["surgical"], "the exclusion is a whole word too");
    assert_eq!(
        hits(&["heart", "!!horoscope", "!horoscope heart"], "horoscope heart"),
        ["horoscope"],
        "a veto cannot be cancelled"
    );
}

#[test]
fn useless_dictionaries_are_refused_with_the_line() {
    let error = |text: &str| Keywords::new(entries(text)).err().unwrap().to_string();
    assert_eq!(error("# only\n\n  # comments"), "it holds no term");
    assert_eq!(error("! only\n!! these"), "it holds no term");
    assert_eq!(error("ok\n--- # x"), "line 2: `---` has no letter or digit");
    assert_eq!(error("ok\n!\n"), "line 2: `` has no letter or digit");
    assert_eq!(error("A b\n! a  B"), "line 2: `a  B` is both a term and an exclusion or a veto");
    assert_eq!(error(&"x".repeat(300)), "line 1: a term of 300 bytes; the limit is 256");
    assert_eq!(Keywords::new(entries("\u{feff}a b # c\nA  B\n")).unwrap().patterns().len(), 1);
}

#[test]
fn a_term_knows_all_dictionaries_that_hold_it() {
    let mut collected = Collected::default();
    for (number, text) in ["heart\nliver", "Liver\n!heart of gold", "kidney\n!!heart of gold"].into_iter().enumerate() {
        collected.add(number, entries(text)).unwrap();
    }
    let keywords = collected.build().unwrap();
    let all: Vec<_> = keywords.patterns().iter().map(|p| (p.text.as_str(), p.role, p.dictionaries)).collect();
    assert_eq!(
        all,
        [
            ("heart", Role::Term, 0b001),
            ("heart of gold", Role::Veto, 0b110),
            ("kidney", Role::Term, 0b100),
            ("liver", Role::Term, 0b011)
        ]
    );
}

/// Where a term stands as whole words, the obvious way: look for it at each place.
fn places(term: &str, text: &str) -> Vec<(usize, usize)> {
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let at = |at: usize| {
        text[at..].starts_with(term) && !word(text[..at].chars().next_back()) && !word(text[at + term.len()..].chars().next())
    };
    text.char_indices().filter(|(i, _)| at(*i)).map(|(i, _)| (i, i + term.len())).collect()
}

fn oracle(terms: &[String], exclusions: &[String], text: &str) -> Vec<String> {
    let text = fold(text);
    let excluded: Vec<(usize, usize)> = exclusions.iter().flat_map(|e| places(&fold(e), &text)).collect();
    let counts = |(from, to): &(usize, usize)| !excluded.iter().any(|(a, b)| a <= from && to <= b);
    let mut found: Vec<String> =
        terms.iter().map(|term| fold(term)).filter(|term| places(term, &text).iter().any(counts)).collect();
    found.sort();
    found.dedup();
    found
}

fn words() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "A", "ß", "ss", "é", "e\u{301}", "ς", "Σ", " ", "-", "_", "1", "中", "ﬁ", "i", "…"]),
        1..8,
    )
    .prop_map(|parts| parts.concat())
}

fn useful(entries: Vec<String>) -> Vec<String> {
    entries.into_iter().filter(|t| fold(t).contains(char::is_alphanumeric)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn finds_exactly_what_the_obvious_search_finds(
        terms in prop::collection::vec(words(), 1..8),
        exclusions in prop::collection::vec(words(), 0..4),
        text in prop::collection::vec(words(), 0..12).prop_map(|w| w.join(" ")),
    ) {
        let terms = useful(terms);
        let folded: Vec<String> = terms.iter().map(|t| fold(t)).collect();
        let exclusions: Vec<String> = useful(exclusions).into_iter().filter(|e| !folded.contains(&fold(e))).collect();
        prop_assume!(!terms.is_empty());
        let entry = |role| move |text| Entry { line: 1, text, role };
        let all = terms.iter().map(String::as_str).map(entry(Role::Term));
        let all = all.chain(exclusions.iter().map(String::as_str).map(entry(Role::Exclude)));
        let keywords = Keywords::new(all).unwrap();
        prop_assert_eq!(keywords.hits(&text), oracle(&terms, &exclusions, &text));
    }
}
