//! Records as text: JSON Lines, single JSON objects (yt-dlp's `.info.json`) and CSV.
//!
//! A line that is no record becomes a row with the reason, the file and the line; the others go on. Byte ranges of a file meet without gap or
//! overlap: a line belongs to the range in which its first byte lies.
//!
//! What can go wrong: a file without line ends. A line above [`MAX_LINE_BYTES`] is one bad record, whatever follows it is read.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, Read};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use curette_engine::verdict::{Problem, Verdict};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::record_columns::{Builders, Record, Value, Wanted};

/// A longer line is no record.
pub const MAX_LINE_BYTES: usize = 16 << 20;
/// How much of a broken line its message shows.
const SHOWN_CHARS: usize = 60;

/// Rows and verdicts of one input. What is wrong is told by number first: the lines before a byte range are counted only when something is.
pub struct Rows<'w> {
    wanted: &'w Wanted,
    columns: Builders,
    verdicts: Vec<Verdict>,
    /// Rows without an id, and their number in the input: the line, or the row, counted from 1 where reading began.
    unplaced: Vec<(usize, u64)>,
}

impl<'w> Rows<'w> {
    /// None yet.
    pub fn new(wanted: &'w Wanted) -> Self {
        Rows { wanted, columns: Builders::new(wanted), verdicts: Vec::new(), unplaced: Vec::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.verdicts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.verdicts.is_empty()
    }

    /// The input, or the rest of it, cannot be read.
    pub fn broken(&mut self, id: &str, problem: Problem) {
        self.columns.push_unknown(id, self.wanted);
        self.verdicts.push(Verdict::Unmeasured(problem));
    }

    /// A record that is none.
    pub fn bad(&mut self, number: u64, code: &'static str, reason: String) {
        self.unplaced.push((self.len(), number));
        self.broken("", Problem::new(code, reason));
    }

    /// A record that was read.
    pub fn record(&mut self, record: &Record, number: u64) {
        match record.id() {
            Some(id) => {
                self.columns.push(&id, record);
                self.verdicts.push(Verdict::Pass);
            }
            None => self.bad(number, "no_id", "the record has no `id`".into()),
        }
    }

    /// A line of JSON.
    pub fn json(&mut self, line: &[u8], number: u64) {
        let mut record = Record::new(self.wanted);
        match parse(line, self.wanted, &mut record) {
            Ok(()) => self.record(&record, number),
            Err(reason) => self.bad(number, "bad_record", format!("{reason}: {}", shown(line))),
        }
    }

    /// Whether the place of a row is to be told.
    pub fn needs_places(&self) -> bool {
        !self.unplaced.is_empty()
    }

    /// Verdicts and columns. `place` says where the row of a number is: that is the id of what has none.
    pub fn finish(mut self, place: &dyn Fn(u64) -> String) -> (Vec<Verdict>, Vec<ArrayRef>) {
        let mut columns = self.columns.finish();
        if let Some(ids) = columns[0].as_string_opt::<i32>().filter(|_| !self.unplaced.is_empty()) {
            let mut placed: Vec<Cow<str>> = ids.iter().map(|id| Cow::Borrowed(id.unwrap_or_default())).collect();
            for &(row, number) in &self.unplaced {
                let place = place(number);
                if let Verdict::Unmeasured(problem) = &mut self.verdicts[row] {
                    problem.message = format!("{place}: {}", problem.message);
                }
                placed[row] = place.into();
            }
            columns[0] = Arc::new(StringArray::from_iter_values(placed));
        }
        (self.verdicts, columns)
    }
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((at, _)) => format!("`{}…`", &text[..at]),
        None => format!("`{text}`"),
    }
}

/// Reads one JSON object. Text that is not UTF-8 is read with signs in the place of what is not.
fn parse<'a>(line: &'a [u8], wanted: &Wanted, record: &mut Record<'a>) -> Result<(), String> {
    let read = |text: &'a str, record: &mut Record<'a>| {
        let mut json = serde_json::Deserializer::from_str(text);
        json.deserialize_any(Fields { wanted, record })?;
        json.end()
    };
    let say = |e: serde_json::Error| match e.is_data() {
        true => "not a JSON object".to_owned(),
        false => format!("not JSON ({})", without_line(&e)),
    };
    match std::str::from_utf8(line) {
        Ok(text) => read(text, record).map_err(say),
        Err(_) => {
            let text = String::from_utf8_lossy(line).into_owned();
            let mut own = Record::new(wanted);
            let mut json = serde_json::Deserializer::from_str(&text);
            json.deserialize_any(Fields { wanted, record: &mut own }).and_then(|()| json.end()).map_err(say)?;
            *record = own.into_owned();
            Ok(())
        }
    }
}

/// What serde says, without its count of lines: it has seen one line only.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what}, column {}", error.column()),
        None => text,
    }
}

impl Record<'_> {
    fn into_owned<'b>(self) -> Record<'b> {
        self.map(|text| Cow::Owned(text.into_owned()))
    }
}

struct Fields<'r, 'a> {
    wanted: &'r Wanted,
    record: &'r mut Record<'a>,
}

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(place) = map.next_key_seed(Key(self.wanted))? {
            match place {
                Some(place) => {
                    let value = map.next_value_seed(Cell { depth: 0 })?;
                    self.record.set(self.wanted, place, value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A key, as the place of the column that wants it.
struct Key<'w>(&'w Wanted);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<(usize, usize)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<(usize, usize)>;
    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.place(name))
    }
}

/// A value of any type. Lists are read one level deep.
struct Cell {
    depth: u8,
}

impl<'de> DeserializeSeed<'de> for Cell {
    type Value = Value<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Number(number as f64), Value::Whole))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Number(number))
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value<'de>, E> {
        Ok(Value::Unknown)
    }
    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Unknown)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Unknown)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value<'de>, A::Error> {
        let mut texts = Vec::new();
        if self.depth > 0 {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Unknown);
        }
        while let Some(item) = seq.next_element_seed(Cell { depth: self.depth + 1 })? {
            match item {
                Value::Text(text) => texts.push(text),
                Value::Unknown | Value::Whole(_) | Value::Number(_) | Value::Texts(_) => {}
            }
        }
        Ok(Value::Texts(texts))
    }
}

/// One line without its end, at most [`MAX_LINE_BYTES`] of it in memory. Gives the bytes that were taken, 0 at the end of the file, and whether the
/// line was longer.
pub fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> std::io::Result<(u64, bool)> {
    line.clear();
    let mut taken = 0;
    let mut too_long = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        let end = buffer.iter().position(|&b| b == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        too_long |= line.len() + part.len() > MAX_LINE_BYTES;
        if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        taken += used as u64;
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok((taken, too_long))
}

/// The lines that begin in the first `length` bytes of `reader` (`None`: all). `stopped` is asked now and then.
pub fn json_lines(
    reader: &mut dyn BufRead,
    length: Option<u64>,
    rows: &mut Rows,
    stopped: &dyn Fn() -> bool,
) -> std::io::Result<()> {
    let mut line = Vec::new();
    let (mut at, mut number) = (0u64, 0u64);
    while length.is_none_or(|length| at < length) && !(number.is_multiple_of(1024) && stopped()) {
        let (taken, too_long) = next_line(reader, &mut line)?;
        if taken == 0 {
            break;
        }
        at += taken;
        number += 1;
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if too_long {
            rows.bad(number, "bad_record", format!("a line of more than {MAX_LINE_BYTES} bytes"));
        } else if !text.trim_ascii().is_empty() {
            rows.json(text, number);
        }
    }
    Ok(())
}

/// What separates the names of a header: the most frequent of comma, semicolon and tab, outside of quotes; a comma where there is none.
fn delimiter_of(header: &[u8]) -> u8 {
    let mut quoted = false;
    let mut counts = [(0, b'\t'), (0, b';'), (0, b',')];
    for byte in header {
        quoted ^= *byte == b'"';
        counts.iter_mut().filter(|(_, d)| !quoted && d == byte).for_each(|(n, _)| *n += 1);
    }
    counts.into_iter().max_by_key(|(n, _)| *n).map_or(b',', |(_, d)| d)
}

/// A CSV file with a header. Cells are text; what is missing at the end of a record is unknown.
pub fn csv(reader: &mut dyn Read, rows: &mut Rows, stopped: &dyn Fn() -> bool) -> Result<(), String> {
    let mut buffered = std::io::BufReader::new(reader);
    if buffered.fill_buf().map_err(|e| e.to_string())?.starts_with(b"\xef\xbb\xbf") {
        buffered.consume(3);
    }
    let delimiter = {
        let start = buffered.fill_buf().map_err(|e| e.to_string())?;
        delimiter_of(start.split(|b| *b == b'\n').next().unwrap_or_default())
    };
    let mut csv = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(buffered);
    let names = csv.byte_headers().map_err(|e| e.to_string())?.clone();
    let wanted = rows.wanted;
    let places: Vec<Option<(usize, usize)>> =
        names.iter().map(|name| std::str::from_utf8(name).ok().and_then(|n| wanted.place(n.trim()))).collect();
    let mut cells = csv::ByteRecord::new();
    loop {
        if rows.len().is_multiple_of(1024) && stopped() || !csv.read_byte_record(&mut cells).map_err(|e| e.to_string())? {
            return Ok(());
        }
        let line = cells.position().map_or(0, csv::Position::line);
        if cells.len() > names.len() {
            rows.bad(line, "bad_record", format!("{} cells where the header has {}", cells.len(), names.len()));
            continue;
        }
        let texts: Vec<Cow<str>> = cells.iter().map(String::from_utf8_lossy).collect();
        let mut record = Record::new(wanted);
        for (place, text) in places.iter().zip(&texts) {
            if let Some(place) = place.filter(|_| !text.is_empty()) {
                record.set(wanted, place, Value::Text(Cow::Borrowed(text)));
            }
        }
        rows.record(&record, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_what_separates_cells() {
        for (header, want) in [
            ("id,title", b','),
            ("id;\"title, long\";tags", b';'),
            ("id\ttitle, long\ttags", b'\t'),
            ("id;title, long;tags", b';'),
            ("id", b','),
            ("", b','),
        ] {
            assert_eq!(delimiter_of(header.as_bytes()), want, "{header}");
        }
    }
}
