//! CSV files that people made: a header, then rows. Each mistake is told with file and line.
//!
//! Cells may be separated by `,`, `;` or tabs (by what the header has most of), and a spreadsheet's byte order mark is passed over. What
//! can go wrong: rows of another length, columns that are not there, words where numbers belong, files that are no text or far too large.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A file of more bytes is not read.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// More names of columns are not listed in a message.
const MAX_NAMED: usize = 20;

/// What is wrong in a file, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// The line, from 1, if it is about one.
    pub line: Option<u64>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// A file of rows.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// Its name, for messages.
    pub file: String,
    /// The names of its columns.
    pub columns: Vec<String>,
    /// Its rows, without blank lines.
    pub rows: Vec<Row>,
}

/// A row: as many cells as there are columns, without blanks around them.
#[derive(Debug, Clone)]
pub struct Row {
    /// The line that it begins on, from 1.
    pub line: u64,
    /// What it says.
    pub cells: Vec<String>,
}

impl Sheet {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Sheet, Mistake> {
        let file = path.display().to_string();
        let mistake = |what: String| Mistake { file: file.clone(), line: None, what };
        let about = std::fs::metadata(path).map_err(|e| mistake(e.to_string()))?;
        if about.is_dir() {
            return Err(mistake("is a folder; give a CSV file".into()));
        }
        if about.len() > MAX_FILE_BYTES {
            return Err(mistake(format!("has {} bytes; files of more than {MAX_FILE_BYTES} are not read", about.len())));
        }
        Sheet::parse(&file, &std::fs::read(path).map_err(|e| mistake(e.to_string()))?)
    }

    /// Reads the bytes of a file of this name.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Sheet, Mistake> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mistake = |line: Option<u64>, what: String| Mistake { file: file.to_owned(), line, what };
        let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        let count = |d: u8| first.iter().filter(|b| **b == d).count();
        // Of equally many the last one.
        let delimiter = [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .delimiter(delimiter)
            .from_reader(bytes);
        let (mut columns, mut rows): (Option<Vec<String>>, Vec<Row>) = (None, Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| {
                let line = e.position().map(csv::Position::line);
                let what = match e.kind() {
                    csv::ErrorKind::Utf8 { .. } => "is not UTF-8 text; save the file as CSV in UTF-8".to_owned(),
                    _ => e.to_string(),
                };
                mistake(line, what)
            })?;
            let line = record.position().map_or(1, csv::Position::line);
            let cells: Vec<String> = record.iter().map(str::to_owned).collect();
            if cells.iter().all(String::is_empty) {
                continue;
            }
            let Some(names) = &columns else {
                columns = Some(header(cells).map_err(|what| mistake(Some(line), what))?);
                continue;
            };
            if cells.len() != names.len() {
                let what = format!(
                    "has {} cells, but the header has {} ({}); put cells with commas in quotes",
                    cells.len(),
                    names.len(),
                    listed(names)
                );
                return Err(mistake(Some(line), what));
            }
            rows.push(Row { line, cells });
        }
        let columns = columns.ok_or_else(|| mistake(None, "is empty; the first line names the columns".into()))?;
        if rows.is_empty() {
            return Err(mistake(None, format!("has a header ({}) but no rows", listed(&columns))));
        }
        Ok(Sheet { file: file.to_owned(), columns, rows })
    }

    /// Where a column is, if there is one of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }

    /// Where a column is that must be there.
    pub fn column(&self, name: &str) -> Result<usize, Mistake> {
        self.find(name).ok_or_else(|| self.mistake(None, format!("has no column `{name}`; it has {}", listed(&self.columns))))
    }

    /// A cell that must say something.
    pub fn text<'a>(&self, row: &'a Row, column: usize) -> Result<&'a str, Mistake> {
        match row.cells[column].as_str() {
            "" => Err(self.at(row, format!("column `{}` is empty", self.columns[column]))),
            text => Ok(text),
        }
    }

    /// A number, or nothing where the cell is empty.
    pub fn maybe_number(&self, row: &Row, column: usize) -> Result<Option<f64>, Mistake> {
        let text = row.cells[column].as_str();
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => {
                let comma = if text.contains(',') { "; write decimal fractions with a point" } else { "" };
                let what = format!("column `{}` says `{text}`, which is not a finite number{comma}", self.columns[column]);
                Err(self.at(row, what))
            }
        }
    }

    /// A number that must be there.
    pub fn number(&self, row: &Row, column: usize) -> Result<f64, Mistake> {
        self.text(row, column)?;
        self.maybe_number(row, column).map(|number| number.unwrap_or_default())
    }

    /// A count.
    pub fn count(&self, row: &Row, column: usize) -> Result<u64, Mistake> {
        let text = self.text(row, column)?;
        let what = || format!("column `{}` says `{text}`, which is not a whole number of at least 0", self.columns[column]);
        text.parse().map_err(|_| self.at(row, what()))
    }

    /// A mistake in a row.
    pub fn at(&self, row: &Row, what: impl Into<String>) -> Mistake {
        self.mistake(Some(row.line), what.into())
    }

    /// A mistake in the file.
    pub fn mistake(&self, line: Option<u64>, what: String) -> Mistake {
        Mistake { file: self.file.clone(), line, what }
    }
}

fn header(names: Vec<String>) -> Result<Vec<String>, String> {
    let mut seen = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("column {} of the header has no name", at + 1));
        }
        if let Some(before) = seen.insert(name, at) {
            return Err(format!("columns {} and {} of the header are both called `{name}`", before + 1, at + 1));
        }
    }
    Ok(names)
}

fn listed(names: &[String]) -> String {
    let more = if names.len() > MAX_NAMED { ", ..." } else { "" };
    format!("{}{more}", names[..names.len().min(MAX_NAMED)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> String {
        Sheet::parse("x.csv", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn spreadsheets_of_all_kinds_are_read() {
        for text in ["a,b\n1,\"x, y\"\n", "\u{feff}a;b\r\n1;x, y\r\n\r\n", "a\tb\n\n 1 \t x, y \n"] {
            let sheet = Sheet::parse("x.csv", text.as_bytes()).unwrap();
            assert_eq!((sheet.columns.join("|"), sheet.rows.len()), ("a|b".to_owned(), 1), "{text:?}");
            assert_eq!(sheet.rows[0].cells, ["1", "x, y"]);
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let bytes = Sheet::parse("x.csv", b"a,b\n1,2\n\xff,3\n").unwrap_err().to_string();
        let sheet = Sheet::parse("x.csv", b"a,b\n1,2\n\n\"two\nlines\",\n3,\"1,5\"\n").unwrap();
        let cells = [
            sheet.column("c").unwrap_err(),
            sheet.text(&sheet.rows[1], 1).unwrap_err(),
            sheet.number(&sheet.rows[2], 1).unwrap_err(),
            sheet.number(&sheet.rows[1], 0).unwrap_err(),
            sheet.count(&sheet.rows[2], 1).unwrap_err(),
        ];
        let told =
            [why(""), why("\n\n"), why("a,b\n"), why("a,,b\n1,2,3\n"), why("a,b,a\n1,2,3\n"), why("a,b\n1,2\n1,2,3\n"), bytes];
        let all: Vec<String> = told.into_iter().chain(cells.iter().map(Mistake::to_string)).collect();
        insta::assert_snapshot!(all.join("\n"));
        assert!(Sheet::read(Path::new("no/such.csv")).unwrap_err().to_string().starts_with("no/such.csv: "));
        assert!(Sheet::read(Path::new(".")).unwrap_err().to_string().contains("is a folder"));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        std::fs::File::create(&path).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(Sheet::read(&path).unwrap_err().to_string().contains("are not read"));
    }
}
