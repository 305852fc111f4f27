//! `labels.csv`: the table that a human fills in. All columns are text, the last one is `label`.
//!
//! Rows are only ever added at its end, each in one write, so that what somebody filled in is never written again, and a run that was stopped leaves whole rows and
//! at most one begun one. A cell that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a line end) gets an apostrophe before it,
//! which is taken away on reading. What can go wrong: a spreadsheet saves with other separators, which are kept, or in another encoding or other
//! columns, which is an error.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{LabelError, failed};

/// Its name in the folder.
pub const SHEET: &str = "labels.csv";
/// What spreadsheets put beside a file that they have open: LibreOffice, Excel.
const LOCKS: [&str; 2] = [".~lock.labels.csv#", "~$labels.csv"];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Header and rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    path: PathBuf,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// One text per column.
    pub rows: Vec<Vec<String>>,
    separator: u8,
    /// Bytes of header and whole rows.
    whole: usize,
}

impl Sheet {
    /// Reads the sheet of a folder; `None` when there is none. A row that a stopped run had begun at its end is left out.
    pub fn read(folder: &Path) -> Result<Option<Sheet>, LabelError> {
        let path = folder.join(SHEET);
        match std::fs::read(&path) {
            Ok(bytes) => Sheet::parse(&path, &bytes).map(Some).map_err(|what| failed(&path, what)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&path, e)),
        }
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Sheet, String> {
        let mark = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let text = &bytes[mark..];
        let header = text.split(|b| *b == b'\n').next().unwrap_or_default();
        let separator = [b',', b';', b'\t'].into_iter().find(|s| header.contains(s)).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text);
        let mut sheet = Sheet { path: path.to_owned(), columns: vec![], rows: vec![], separator, whole: bytes.len() };
        // A row with too few cells, and where it begins: only the last one may be.
        let mut short: Option<(String, usize)> = None;
        for (number, record) in reader.records().enumerate() {
            let record = record.map_err(|e| match e.kind() {
                csv::ErrorKind::Utf8 { .. } => format!("row {number} is not UTF-8; save the sheet as `CSV UTF-8`"),
                _ => format!("row {number}: {e}"),
            })?;
            let mut cells: Vec<String> = record.iter().map(unguarded).collect();
            if number == 0 {
                sheet.columns = cells;
                continue;
            }
            if let Some((what, _)) = short {
                return Err(what);
            }
            let width = sheet.columns.len();
            let what = format!("row {number} has {} cells, the header has {width}", cells.len());
            if cells.len() < width {
                let begins = record.position().map_or(0, |p| p.byte() as usize);
                short = Some((what, begins));
                continue;
            }
            if cells[width..].iter().any(|more| !more.is_empty()) {
                return Err(what);
            }
            cells.truncate(width);
            sheet.rows.push(cells);
        }
        if let Some((what, begins)) = short {
            let tail = text.get(begins..).unwrap_or_default();
            let open_quote = tail.iter().filter(|b| **b == b'"').count() % 2 == 1;
            if tail.ends_with(b"\n") && !open_quote {
                return Err(what);
            }
            sheet.whole = mark + begins;
        }
        Ok(sheet)
    }

    /// The sheet of a folder to add rows to; made where there is none. It is refused where the rows would not fit what a human has made of it.
    pub fn open(folder: &Path, columns: &[&str]) -> Result<Sheet, LabelError> {
        let path = folder.join(SHEET);
        let err = |e: std::io::Error| failed(&path, e);
        if let Some(lock) = LOCKS.iter().find(|lock| folder.join(lock).exists()) {
            let what =
                format!("is open in a spreadsheet, which would write over new rows: close it (or remove a forgotten {lock})");
            return Err(failed(&path, what));
        }
        let Some(sheet) = Sheet::read(folder)? else {
            let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
            let unfinished = folder.join("labels.tmp");
            std::fs::write(&unfinished, line(&columns, b',')).and_then(|()| std::fs::rename(&unfinished, &path)).map_err(err)?;
            return Ok(Sheet { path, columns, rows: vec![], separator: b',', whole: 0 });
        };
        if sheet.columns != columns {
            let what = format!(
                "has the columns {}, expected {}; nothing was written: restore the columns, or use another folder",
                sheet.columns.join(", "),
                columns.join(", ")
            );
            return Err(failed(&path, what));
        }
        sheet.end_last_row().map_err(err)?;
        Ok(sheet)
    }

    /// Takes away a row that was begun, and ends one that an editor left without a line end.
    fn end_last_row(&self) -> std::io::Result<()> {
        let bytes = std::fs::read(&self.path)?;
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        if bytes.len() > self.whole {
            file.set_len(self.whole as u64)?;
        }
        if bytes.get(..self.whole).unwrap_or(&bytes).ends_with(b"\n") { Ok(()) } else { file.write_all(b"\n") }
    }

    /// Adds a row at the end of the file, in one write. The file is opened for each, because a spreadsheet that saves puts another in its place.
    pub fn add(&mut self, row: Vec<String>) -> Result<(), LabelError> {
        let file = OpenOptions::new().append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&line(&row, self.separator))).map_err(|e| failed(&self.path, e))?;
        self.rows.push(row);
        Ok(())
    }

    /// Where a column is.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c == name)
    }
}

/// A row as bytes, with its line end.
fn line(cells: &[String], separator: u8) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().delimiter(separator).from_writer(Vec::new());
    // Writing into memory cannot fail.
    let _ = writer.write_record(cells.iter().map(|cell| guarded(cell).into_owned()));
    writer.into_inner().unwrap_or_default()
}

/// Whether a spreadsheet would compute with it; apostrophes before it are seen through, so that every text can be had back.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('\'').starts_with(['=', '+', '-', '@', '\t', '\r', '\n'])
}

fn guarded(cell: &str) -> Cow<'_, str> {
    if is_formula(cell) { Cow::Owned(format!("'{cell}")) } else { Cow::Borrowed(cell) }
}

fn unguarded(cell: &str) -> String {
    match cell.strip_prefix('\'') {
        Some(rest) if is_formula(cell) => rest.to_owned(),
        _ => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sheet(folder: &Path) -> Sheet {
        Sheet::open(folder, &["sample", "title", "label"]).unwrap()
    }

    fn row(sample: &str, title: &str) -> Vec<String> {
        vec![sample.into(), title.into(), String::new()]
    }

    proptest! {
        #[test]
        fn every_text_comes_back_and_none_is_a_formula(cells in prop::collection::vec("(['=+@\t\r\n-]{0,3}|)[a-z,;\"'\n ]{0,6}", 1..6)) {
            let dir = tempfile::tempdir().unwrap();
            let mut written = sheet(dir.path());
            for (i, cell) in cells.iter().enumerate() {
                written.add(row(&format!("s{i}"), cell)).unwrap();
            }
            let read = Sheet::read(dir.path()).unwrap().unwrap();
            prop_assert_eq!(&read.rows, &written.rows);
            let raw = std::fs::read(dir.path().join(SHEET)).unwrap();
            let mut reader = csv::Reader::from_reader(&raw[..]);
            for record in reader.records() {
                let record = record.unwrap();
                prop_assert!(!record[1].starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{:?}", record);
            }
        }

        /// Wherever a run is stopped: whole rows stay, the begun one goes, and what comes next stands in a row of its own.
        #[test]
        fn a_sheet_that_was_cut_anywhere_goes_on(cut in 0usize..200) {
            let dir = tempfile::tempdir().unwrap();
            let mut written = sheet(dir.path());
            for (sample, title) in [("a", "x\ny, \"z\""), ("-b", "=1+1"), ("c", "")] {
                written.add(row(sample, title)).unwrap();
            }
            let path = dir.path().join(SHEET);
            let bytes = std::fs::read(&path).unwrap();
            let header = "sample,title,label\n".len();
            let kept = (header + cut).min(bytes.len());
            std::fs::write(&path, &bytes[..kept]).unwrap();
            let mut again = sheet(dir.path());
            let rows = again.rows.len();
            prop_assert_eq!(&again.rows[..], &written.rows[..rows]);
            again.add(row("d", "new")).unwrap();
            let read = Sheet::read(dir.path()).unwrap().unwrap();
            prop_assert_eq!(&read.rows[..rows], &written.rows[..rows]);
            prop_assert_eq!(&read.rows[rows..], &[row("d", "new")][..]);
        }
    }

    #[test]
    fn what_a_spreadsheet_saved_is_kept_byte_by_byte() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SHEET);
        let saved = "\u{feff}sample;title;label\r\na;\"x; y\";medical\r\n'-b;'=1+1;non_medical";
        std::fs::write(&path, saved).unwrap();
        let mut opened = sheet(dir.path());
        assert_eq!(opened.rows[1], ["-b", "=1+1", "non_medical"]);
        opened.add(row("c", "n;ew")).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{saved}\nc;\"n;ew\";\n"));
        assert_eq!(Sheet::read(dir.path()).unwrap().unwrap().rows[2], ["c", "n;ew", ""]);
    }

    #[test]
    fn a_sheet_that_rows_do_not_fit_is_refused_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SHEET);
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let said = Sheet::open(dir.path(), &["sample", "title", "label"]).unwrap_err().what;
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
            said
        };
        let mut said = vec![
            refused(b"sample,label,title\na,medical,x\n"),
            refused(b"sample,title,label,note\na,x,medical,sure\n"),
            refused(b"sample,title,label\na,x\nb,x,medical\n"),
            refused(b"sample,title,label\na,x\n"),
            refused(b"sample,title,label\na,x,medical,more\n"),
            refused(b"sample,title,label\na,\xe9,medical\n"),
        ];
        std::fs::write(dir.path().join(LOCKS[0]), "").unwrap();
        said.push(refused(b"sample,title,label\na,x,medical\n"));
        insta::assert_snapshot!(said.join("\n"));
    }
}
