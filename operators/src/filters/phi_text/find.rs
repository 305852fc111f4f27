//! What looks personal in lines that OCR read. Pure.
//!
//! Labels first: a label says what the text behind it is, in its line or, if the line ends with it, in the next one. Then forms that are what they
//! are without a label. What can go wrong: OCR reads `l` for `1` and loses spaces; a label is therefore also known when it is glued to a colon or a
//! number. The findings hold the text only to count a line once that stands in several frames; they must not leave the process.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dates::{dates, eight_digits, pieces};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A person's name.
    Name,
    /// A date with a label of birth.
    BirthDate,
    /// Another full date.
    Date,
    /// An id of a person or examination.
    Id,
}

impl Finding {
    /// In the order of the columns.
    pub const ALL: [Finding; 4] = [Finding::Name, Finding::BirthDate, Finding::Date, Finding::Id];

    /// As in columns and messages.
    pub fn name(self) -> &'static str {
        match self {
            Finding::Name => "name",
            Finding::BirthDate => "birth_date",
            Finding::Date => "date",
            Finding::Id => "id",
        }
    }
}

const BIRTH: [&str; 14] = [
    "dob",
    "d o b",
    "birthdate",
    "birth date",
    "date of birth",
    "birthday",
    "born",
    "geb",
    "geboren",
    "geburtsdatum",
    "ne le",
    "nee le",
    "date de naissance",
    "fecha de nacimiento",
];
const IDS: [&str; 24] = [
    "mrn",
    "id",
    "pid",
    "patient id",
    "pat id",
    "patid",
    "patientid",
    "acc",
    "accession",
    "acc no",
    "accession no",
    "ssn",
    "nhs",
    "nhs no",
    "hosp no",
    "hospital no",
    "hospital number",
    "case no",
    "record no",
    "medical record",
    "study id",
    "patient no",
    "fallnummer",
    "patientennummer",
];
const NAMES: [&str; 13] = [
    "name",
    "patient",
    "patient name",
    "patientname",
    "pat name",
    "pat",
    "pt name",
    "last name",
    "first name",
    "surname",
    "nachname",
    "vorname",
    "nom",
];
const TITLES: [&str; 7] = ["mr", "mrs", "ms", "herr", "frau", "mme", "miss"];
/// Words that stand behind `Patient` and are no name.
const NO_NAMES: [&str; 24] = [
    "id",
    "no",
    "number",
    "name",
    "position",
    "positioning",
    "information",
    "info",
    "data",
    "safety",
    "care",
    "history",
    "with",
    "is",
    "was",
    "and",
    "the",
    "in",
    "on",
    "has",
    "education",
    "monitor",
    "selection",
    "outcome",
];
/// Digits of a number behind a label.
const MIN_ID_DIGITS: usize = 4;
/// Digits of a number that is an id by itself.
const MIN_LONG_DIGITS: usize = 7;
/// Words of a name that are looked at.
const MAX_NAME_WORDS: usize = 4;

/// Kinds and, folded, what was found, each once.
pub fn findings(text: &str) -> BTreeSet<(Finding, String)> {
    let mut out = BTreeSet::new();
    let lines: Vec<&str> = text.lines().collect();
    let mut label = None;
    for line in lines {
        let open = label.take();
        label = look(line, open, &mut out);
    }
    out
}

/// A label that a line ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Birth,
    Id,
    Name,
}

/// Looks at one line; `open` is the label that the line before ended with. Gives the label that this one ends with.
fn look(line: &str, open: Option<Label>, out: &mut BTreeSet<(Finding, String)>) -> Option<Label> {
    let words = pieces(line);
    let found = dates(line);
    let folded: Vec<String> = words.iter().map(|w| fold(w.text)).collect();
    // Labels, as (first word behind it, what it says).
    let mut labels: Vec<(usize, Label)> = open.map(|label| (0, label)).into_iter().collect();
    for at in 0..words.len() {
        for (names, label) in [(&BIRTH[..], Label::Birth), (&IDS[..], Label::Id), (&NAMES[..], Label::Name)] {
            let longest = names.iter().filter(|name| starts(&folded[at..], name)).map(|name| name.split(' ').count()).max();
            if let Some(length) = longest {
                labels.push((at + length, label));
            }
        }
    }
    let behind = |wanted: Label| labels.iter().filter(move |(_, label)| *label == wanted).map(|(at, _)| *at);
    for range in &found {
        // A label of birth is at most two words away: "DOB (Age): 1.2.1956".
        let born = behind(Label::Birth).any(|at| {
            let from = words.iter().position(|w| w.at.start >= range.start).unwrap_or(words.len());
            at <= from && from - at <= 2
        });
        out.insert((if born { Finding::BirthDate } else { Finding::Date }, fold(&line[range.clone()])));
    }
    let in_a_date = |at: usize| found.iter().any(|range| range.contains(&at));
    for number in numbers(line) {
        if in_a_date(number.0) {
            continue;
        }
        let first = words.iter().position(|w| w.at.end > number.0).unwrap_or(words.len());
        // "MRN: 123456", "ID no. 1234", "MRN A-123456": at most a word between.
        let labelled = behind(Label::Id).any(|at| at <= first && first - at <= 1);
        let digits = number.1.chars().filter(char::is_ascii_digit).count();
        if (labelled && digits >= MIN_ID_DIGITS) || stands_alone(&number.1) {
            out.insert((Finding::Id, fold(&number.1).replace(' ', "")));
        }
    }
    names(line, &words, &folded, &behind(Label::Name).collect::<Vec<_>>(), out);
    labels.iter().find(|(at, _)| *at == words.len() && !words.is_empty()).map(|(_, label)| *label)
}

/// Whether words begin with the words of a label.
fn starts(words: &[String], label: &str) -> bool {
    let mut label = label.split(' ');
    let mut words = words.iter();
    label.all(|part| words.next().is_some_and(|word| word == part))
}

/// Numbers with single `-`, `.` or spaces inside, and letters glued to them; with where they start.
fn numbers(line: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = Vec::new();
    for token in line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|t| t.chars().any(|c| c.is_ascii_digit()))
    {
        let at = token.as_ptr() as usize - line.as_ptr() as usize;
        let glue = token.find(|c: char| c.is_ascii_digit()).unwrap_or(0);
        out.push((at + glue, token[glue..].trim_matches('-').to_owned()));
    }
    // "943 476 5919" is one number in three parts.
    let parts: Vec<(usize, String)> = out.clone();
    for three in parts.windows(3) {
        let lengths = three.iter().map(|p| p.1.len()).collect::<Vec<_>>();
        let close = three.windows(2).all(|pair| pair[1].0 == pair[0].0 + pair[0].1.len() + 1);
        let joined: String = three.iter().map(|p| p.1.as_str()).collect();
        if lengths == [3, 3, 4] && close && nhs(&joined) {
            out.push((three[0].0, joined));
        }
    }
    out
}

/// A number that is an id without a label.
fn stands_alone(number: &str) -> bool {
    let groups: Vec<usize> = number.split('-').map(str::len).collect();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    let only_digits = number.chars().all(|c| c.is_ascii_digit() || c == '-');
    let social = only_digits && groups == [3, 2, 4];
    let long = number.bytes().all(|b| b.is_ascii_digit()) && number.len() >= MIN_LONG_DIGITS && !eight_digits(number);
    social || long || (only_digits && nhs(&digits))
}

/// The check digit of the United Kingdom's NHS numbers: weights 10 to 2, modulo 11.
fn nhs(digits: &str) -> bool {
    let digits: Vec<u32> = digits.chars().filter_map(|c| c.to_digit(10)).collect();
    let [first @ .., check] = digits.as_slice() else { return false };
    if first.len() != 9 {
        return false;
    }
    let sum: u32 = first.iter().zip((2..=10).rev()).map(|(d, w)| d * w).sum();
    let wanted = (11 - sum % 11) % 11;
    wanted < 10 && wanted == *check
}

fn names(
    line: &str,
    words: &[super::dates::Piece],
    folded: &[String],
    labelled: &[usize],
    out: &mut BTreeSet<(Finding, String)>,
) {
    let capital = |w: &str| w.chars().next().is_some_and(char::is_uppercase) && w.chars().count() >= 2;
    let gap = |i: usize| &line[words[i].at.end..words[i + 1].at.start];
    let mut add = |from: usize, to: usize| {
        let name: Vec<&str> = folded[from..to].iter().map(String::as_str).collect();
        out.insert((Finding::Name, name.join(" ")));
    };
    for &at in labelled {
        // A label alone is not enough in a sentence: a colon or the like has to be between, or capitals behind it.
        let Some(next) = words.get(at) else { continue };
        let before = if at == 0 { "" } else { &line[words[at - 1].at.end..next.at.start] };
        let marked = at == 0 || before.contains([':', '=', '#', '|', '.']) || next.text.chars().all(char::is_uppercase);
        if !marked || NO_NAMES.contains(&folded[at].as_str()) || NAMES.contains(&folded[at].as_str()) {
            continue;
        }
        let mut to = at;
        while to < words.len() && to - at < MAX_NAME_WORDS && capital(words[to].text) && (to == at || gap(to - 1).len() <= 2) {
            to += 1;
        }
        if to > at {
            add(at, to);
        }
    }
    for i in 0..words.len() {
        if TITLES.contains(&folded[i].as_str())
            && words.get(i + 1).is_some_and(|w| capital(w.text))
            && gap(i).len() <= 2
            && capital(words[i].text)
        {
            add(i + 1, i + 2);
        }
        let Some(next) = words.get(i + 1) else { continue };
        let both_upper = [words[i].text, next.text].iter().all(|w| w.chars().count() >= 2 && w.chars().all(char::is_uppercase));
        let dicom = gap(i) == "^" && [words[i].text, next.text].iter().all(|w| w.chars().all(char::is_alphabetic));
        let long = [words[i].text, next.text].iter().any(|w| w.chars().count() >= 3);
        let comma = both_upper && long && [",", ", "].contains(&gap(i)) && words.len() <= 4;
        let is_label = |k: usize| NAMES.contains(&folded[k].as_str()) || IDS.contains(&folded[k].as_str());
        if (dicom || comma) && !is_label(i) && !is_label(i + 1) {
            add(i, i + 2);
        }
    }
}

/// Small letters without the commonest accents, one space between words.
fn fold(text: &str) -> String {
    let plain = |c: char| match c {
        'é' | 'è' | 'ê' | 'É' => 'e',
        'ü' | 'Ü' => 'u',
        'ö' | 'Ö' => 'o',
        'ä' | 'Ä' => 'a',
        c => c,
    };
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty());
    words.map(|w| w.chars().map(plain).collect::<String>().to_lowercase()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str) -> Vec<&'static str> {
        findings(text).into_iter().map(|(kind, _)| kind.name()).collect()
    }

    #[test]
    fn lines_of_scanners_and_records_are_found() {
        for (text, want) in [
            ("DOE^JOHN^A", vec!["name", "name"]),
            ("SMITH, ANNA", vec!["name"]),
            ("Name: Jane Roe", vec!["name"]),
            ("Patient Name\nMUSTER MAX", vec!["name"]),
            ("PATIENT:Müller", vec!["name"]),
            ("Mrs. Miller is scheduled", vec!["name"]),
            ("DOB: 12.03.1956", vec!["birth_date"]),
            ("geb. 1.4.1931", vec!["birth_date"]),
            ("Date of birth\n12 Mar 1956", vec!["birth_date"]),
            ("née le 3 août 1990", vec!["birth_date"]),
            ("14/08/2019 10:33:21", vec!["date"]),
            ("MRN 471123", vec!["id"]),
            ("MRN:A471123", vec!["id"]),
            ("Patient ID: 00-4711", vec!["id"]),
            ("Acc No 88123", vec!["id"]),
            ("123-45-6789", vec!["id"]),
            ("943 476 5919", vec!["id"]),
            ("4711234", vec!["id"]),
            ("ID 20190814", vec!["date"]),
            // The same line in three frames.
            ("MRN 471123\nMRN 471123\nMRN 471123", vec!["id"]),
        ] {
            assert_eq!(kinds(text), want, "{text}");
        }
    }

    #[test]
    fn lectures_and_measures_are_not() {
        for text in [
            "The left ventricle, 12 mm",
            "Patient positioning and safety",
            "120/80 mmHg  HR 72  SpO2 98 %",
            "MI 1.2 TIS 0.8 Depth 16 cm 25 fps",
            "Patient with heart failure",
            "A patient is brought in",
            "Figure 3: Results of 2023",
            "EF 55-60 %, n = 1284",
            "LV, RV",
            "Step 1: name the structures",
            "ID the artery",
            "Ms 12",
            "943 476 5918 mm",
            "Subscribe to our channel 2024",
            "",
        ] {
            assert!(kinds(text).is_empty(), "{text}: {:?}", kinds(text));
        }
    }

    #[test]
    fn check_digits_decide() {
        assert!(nhs("9434765919") && !nhs("9434765918") && !nhs("943476591") && !nhs(""));
        assert!(stands_alone("943-476-5919") && !stands_alone("943-476-5918"));
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at_without_a_panic(text in any::<String>(), lines in prop::collection::vec("[A-Za-z0-9:^,./ -]{0,30}", 0..6)) {
            findings(&text);
            findings(&lines.join("\n"));
        }
    }
}
