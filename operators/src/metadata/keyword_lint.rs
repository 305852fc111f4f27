//! What is wrong with a dictionary: entries that do nothing, entries that are there twice, entries that match everything.
//!
//! Why: a list of thousands of terms is written by many hands over years. A term that is in a shorter one changes no decision with `min_hits = 1`,
//! and one everyday word lets half of a catalogue pass. The second kind shows only on a sample of what is searched.
//!
//! What can go wrong: a shadowed term may be wanted, because `min_hits` counts it beside the shorter one, or because it names the video better. The
//! finding says what is so, not what to do.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field};

use super::keywords::{Entry, Keywords, KeywordsError, Role, Scratch, entries, folded};
use crate::tables::OpenTable;

/// Rows of a sample that are read; more say nothing new.
pub const MAX_SAMPLE_ROWS: usize = 1_000_000;
const BATCH_ROWS: usize = 4_096;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It can match nothing, or is too long.
    Useless,
    /// It is there already.
    Duplicate,
    /// A term and an exclusion at once.
    Contradiction,
    /// Wherever it occurs a shorter term does.
    Shadowed,
    /// An exclusion without a term inside of it.
    Idle,
    /// It occurs in too many rows of the sample.
    TooCommon,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Useless => "useless",
            Kind::Duplicate => "duplicate",
            Kind::Contradiction => "contradiction",
            Kind::Shadowed => "shadowed",
            Kind::Idle => "idle",
            Kind::TooCommon => "too common",
        })
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Its kind.
    pub kind: Kind,
    /// What is so.
    pub message: String,
}

/// How often terms occur.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Rows that were searched.
    pub rows: u64,
    /// Rows with at least one term.
    pub hit: u64,
    /// Rows by term (folded).
    pub terms: BTreeMap<String, u64>,
}

/// What is wrong with a dictionary by itself, in the order of its lines.
pub fn lint(dictionary: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut kept: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in entries(dictionary) {
        let line = entry.line;
        let text = match folded(&entry) {
            Ok(text) => text,
            Err(error) => {
                found.push(Finding { line, kind: Kind::Useless, message: without_line(&error) });
                continue;
            }
        };
        let Some(first) = kept.get(&text) else {
            kept.insert(text, entry);
            continue;
        };
        let same = (first.role == Role::Term) == (entry.role == Role::Term);
        let (kind, what) = match same {
            true => (Kind::Duplicate, "is the same as"),
            false => (Kind::Contradiction, "is not wanted here and wanted as"),
        };
        let what = if !same && entry.role == Role::Term { "is wanted here and not wanted as" } else { what };
        found.push(Finding { line, kind, message: format!("`{}` {what} `{}` in line {}", entry.text, first.text, first.line) });
    }
    if let Ok(keywords) = Keywords::new(kept.values().filter(|e| e.role == Role::Term).cloned()) {
        for (text, entry) in &kept {
            let inside = keywords.hits(text);
            let shorter = inside.iter().filter(|hit| *hit != text).min_by_key(|hit| (hit.len(), **hit));
            match (entry.role, shorter) {
                (Role::Term, Some(shorter)) => {
                    let message = format!(
                        "`{}` contains `{}` of line {}: wherever it occurs, that does too",
                        entry.text, kept[*shorter].text, kept[*shorter].line
                    );
                    found.push(Finding { line: entry.line, kind: Kind::Shadowed, message });
                }
                (Role::Exclude, None) => {
                    let message = format!("no term lies inside of the exclusion `{}`: it cancels nothing", entry.text);
                    found.push(Finding { line: entry.line, kind: Kind::Idle, message });
                }
                (Role::Term, None) | (Role::Exclude, Some(_)) | (Role::Veto, _) => {}
            }
        }
    }
    found.sort();
    found
}

fn without_line(error: &KeywordsError) -> String {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((line, what)) if line.starts_with("line ") => what.to_owned(),
        _ => text,
    }
}

/// Terms that occur in more than `max_share` of the rows of a sample.
pub fn too_common(dictionary: &str, sample: &Sample, max_share: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for entry in entries(dictionary).filter(|entry| entry.role == Role::Term) {
        let Ok(text) = folded(&entry) else { continue };
        let rows = sample.terms.get(&text).copied().unwrap_or(0);
        if rows as f64 > max_share * sample.rows as f64 && seen.insert(text) {
            let share = |n: f64| format!("{:.2} %", 100.0 * n);
            let here = share(rows as f64 / sample.rows as f64);
            let message = format!(
                "`{}` occurs in {here} of the sample ({rows} of {} rows), more than {}",
                entry.text,
                sample.rows,
                share(max_share)
            );
            found.push(Finding { line: entry.line, kind: Kind::TooCommon, message });
        }
    }
    found
}

/// Searches the rows of a table, the first [`MAX_SAMPLE_ROWS`] at most.
pub fn search(dictionary: &str, table: &Path, fields: &[String]) -> Result<Sample, String> {
    let usable = entries(dictionary).filter(|entry| entry.role != Role::Veto && folded(entry).is_ok());
    // What contradicts itself is a finding; here the term counts.
    let mut roles: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in usable {
        let slot = roles.entry(folded(&entry).unwrap_or_default()).or_insert_with(|| entry.clone());
        if entry.role == Role::Term {
            *slot = entry;
        }
    }
    let keywords = Keywords::new(roles.into_values()).map_err(|e| e.to_string())?;
    let table = OpenTable::open(table)?;
    let there: Vec<&str> = fields.iter().map(String::as_str).filter(|field| table.has(field)).collect();
    if there.is_empty() {
        return Err(format!("it has none of the columns {}", fields.join(", ")));
    }
    let mut sample = Sample::default();
    let mut counts = vec![0u64; keywords.patterns().len()];
    let (mut scratch, mut found) = (Scratch::default(), Vec::new());
    for batch in table.batches(&there, BATCH_ROWS)? {
        let batch = batch?;
        let columns: Vec<Texts> = batch.columns().iter().filter_map(Texts::of).collect();
        for row in 0..batch.num_rows() {
            found.clear();
            columns.iter().for_each(|column| column.each(row, &mut |text| keywords.find(text, &mut scratch, &mut found)));
            found.sort_unstable();
            found.dedup();
            found.iter().for_each(|&term| counts[term] += 1);
            sample.rows += 1;
            sample.hit += u64::from(!found.is_empty());
        }
        if sample.rows >= MAX_SAMPLE_ROWS as u64 {
            break;
        }
    }
    let hit = keywords.patterns().iter().zip(counts).filter(|(_, rows)| *rows > 0);
    sample.terms = hit.map(|(pattern, rows)| (pattern.text.clone(), rows)).collect();
    Ok(sample)
}

/// A column of texts or of lists of them, of any layout.
enum Texts {
    Plain(ArrayRef),
    Lists(ArrayRef),
}

impl Texts {
    fn of(column: &ArrayRef) -> Option<Texts> {
        let list = DataType::List(std::sync::Arc::new(Field::new_list_field(DataType::Utf8, true)));
        match column.data_type().is_nested() {
            true => arrow_cast::cast(column, &list).ok().map(Texts::Lists),
            false => arrow_cast::cast(column, &DataType::Utf8).ok().map(Texts::Plain),
        }
    }

    fn each(&self, row: usize, f: &mut dyn FnMut(&str)) {
        match self {
            Texts::Plain(texts) if texts.is_valid(row) => f(texts.as_string::<i32>().value(row)),
            Texts::Lists(lists) if lists.is_valid(row) => {
                lists.as_list::<i32>().value(row).as_string::<i32>().iter().flatten().for_each(f);
            }
            Texts::Plain(_) | Texts::Lists(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_do_nothing_are_named_with_their_lines() {
        let text = "heart\nheart failure # long\nHEART\n---\n!strike\n! heart of gold\n!! heart attack grill\nblood-heart barrier\n! Liver\nliver\nhearty\n";
        let found: Vec<String> = lint(text).iter().map(|f| format!("{}: {}: {}", f.line, f.kind, f.message)).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        2: shadowed: `heart failure` contains `heart` of line 1: wherever it occurs, that does too
        3: duplicate: `HEART` is the same as `heart` in line 1
        4: useless: `---` has no letter or digit
        5: idle: no term lies inside of the exclusion `strike`: it cancels nothing
        8: shadowed: `blood-heart barrier` contains `heart` of line 1: wherever it occurs, that does too
        9: idle: no term lies inside of the exclusion `Liver`: it cancels nothing
        10: contradiction: `liver` is wanted here and not wanted as `Liver` in line 9
        ");
        assert_eq!(lint("heart\nliver\n!heart of gold"), []);
    }

    #[test]
    fn everyday_words_show_on_a_sample() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("s.jsonl");
        let rows: String = (0..100)
            .map(|i| {
                format!(
                    "{{\"title\":\"my heart {}\",\"tags\":[\"{}\"]}}\n",
                    if i < 3 { "of gold" } else { "" },
                    if i < 2 { "mri" } else { "x" }
                )
            })
            .collect();
        std::fs::write(&file, rows).unwrap();
        let text = "mri\nHeart\nct\n!heart of gold\n!!x";
        let sample = search(text, &file, &["title".into(), "tags".into(), "none".into()]).unwrap();
        assert_eq!((sample.rows, sample.hit), (100, 99));
        assert_eq!(sample.terms, BTreeMap::from([("heart".to_owned(), 97), ("mri".to_owned(), 2)]));
        let found: Vec<String> = too_common(text, &sample, 0.02).iter().map(|f| format!("{}: {}", f.line, f.message)).collect();
        assert_eq!(found, ["2: `Heart` occurs in 97.00 % of the sample (97 of 100 rows), more than 2.00 %"]);
        assert!(search(text, &file, &["none".into()]).unwrap_err().contains("none of the columns none"));
    }
}
