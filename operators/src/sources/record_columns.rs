//! The columns of a video's record, and how their values are found in what yt-dlp and others write.
//!
//! A value that is absent, null or of another type than expected is unknown, and so is an empty id, date or address; nothing of that is damage.
//! Columns that nobody reads are not made.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int64Builder, ListBuilder, NullArray, StringBuilder};
use arrow::datatypes::{DataType, Field};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// An id, an address: empty means unknown, a whole number is written out.
    Word,
    /// A day, as [`date`] writes it.
    Date,
    /// Text as it is.
    Text,
    /// A list of texts; in one text they are separated by `;`.
    Texts,
    /// A number.
    Number,
    /// A whole number.
    Whole,
}

impl Holds {
    /// The column's type.
    pub fn data_type(self) -> DataType {
        match self {
            Holds::Word | Holds::Date | Holds::Text => DataType::Utf8,
            Holds::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
            Holds::Number => DataType::Float64,
            Holds::Whole => DataType::Int64,
        }
    }
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in the tables.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// Names in the input: the first that has a value is taken.
    pub from: &'static [&'static str],
    /// What it means.
    pub doc: &'static str,
}

const fn column(name: &'static str, holds: Holds, from: &'static [&'static str], doc: &'static str) -> Column {
    Column { name, holds, from, doc }
}

/// The id, which every record must have.
pub const ID: Column = column("video_id", Holds::Word, &["id", "video_id"], "Id of the video, as the record says.");

/// The columns besides the id.
pub const COLUMNS: &[Column] = &[
    column("title", Holds::Text, &["title"], "Title."),
    column("description", Holds::Text, &["description"], "Description."),
    column("channel_id", Holds::Word, &["channel_id", "uploader_id"], "Channel id, else the uploader's id."),
    column("channel", Holds::Text, &["channel", "uploader"], "Channel name, else the uploader's name."),
    column("tags", Holds::Texts, &["tags"], "Tags as the uploader gave them."),
    column("categories", Holds::Texts, &["categories"], "Categories of the platform."),
    column(
        "upload_date",
        Holds::Date,
        &["upload_date"],
        "Upload date in UTC, `YYYYMMDD`; `YYYY-MM-DD` is read too, anything else is unknown.",
    ),
    column("duration_seconds", Holds::Number, &["duration", "duration_seconds"], "Length in seconds, as the record says."),
    column("view_count", Holds::Whole, &["view_count"], "Views when the record was made."),
    column("language", Holds::Word, &["language"], "Language, as the platform states it."),
    column("webpage_url", Holds::Word, &["webpage_url"], "Address of the page that it came from."),
    column("license", Holds::Word, &["license"], "Licence as the platform states it, free text."),
];

/// The columns to make, and which of them somebody reads.
#[derive(Debug, Clone)]
pub struct Wanted {
    columns: Vec<(&'static Column, bool)>,
}

impl Wanted {
    /// The id and the named columns (all, if none is named).
    pub fn of(names: &[String]) -> Wanted {
        let chosen = COLUMNS.iter().filter(|c| names.is_empty() || names.iter().any(|n| n == c.name));
        Wanted { columns: std::iter::once(&ID).chain(chosen).map(|c| (c, true)).collect() }
    }

    /// Makes only these.
    pub fn only(&mut self, live: &BTreeSet<String>) {
        for (column, read) in self.columns.iter_mut().skip(1) {
            *read = live.contains(column.name);
        }
    }

    /// The same columns, of those that are read only the ones that `keep` says.
    pub fn those(&self, keep: impl Fn(&str) -> bool) -> Wanted {
        Wanted { columns: self.columns.iter().map(|&(column, read)| (column, read && keep(column.name))).collect() }
    }

    /// Whether any is read.
    pub fn is_any_read(&self) -> bool {
        self.columns.iter().any(|(_, read)| *read)
    }

    /// All, with whether they are read; the id first.
    pub fn columns(&self) -> impl Iterator<Item = (&'static Column, bool)> {
        self.columns.iter().copied()
    }

    /// The place of an input name among those that are looked for: column, and rank in [`Column::from`].
    pub fn place(&self, name: &str) -> Option<(usize, usize)> {
        let read = self.columns.iter().enumerate().filter(|(_, (_, read))| *read);
        read.into_iter().find_map(|(at, (column, _))| Some((at, column.from.iter().position(|f| *f == name)?)))
    }
}

/// A day as `YYYYMMDD`: from eight digits, or from text that begins with `YYYY-MM-DD`.
pub fn date(text: &str) -> Option<String> {
    let text = text.trim();
    let compact = |t: &str| t.len() == 8 && t.bytes().all(|b| b.is_ascii_digit());
    if compact(text) {
        return Some(text.to_owned());
    }
    let day = text.get(..10).filter(|_| text.len() == 10 || matches!(text.as_bytes()[10], b'T' | b' '))?;
    let dashes = day.bytes().enumerate().all(|(at, b)| (b == b'-') == matches!(at, 4 | 7));
    Some(day.replace('-', "")).filter(|t| dashes && compact(t))
}

/// A value of an input.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value<'a> {
    /// Absent, null, or of no use.
    #[default]
    Unknown,
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Whole(i64),
    /// Another number.
    Number(f64),
    /// Texts.
    Texts(Vec<Cow<'a, str>>),
}

/// Whether a value says something in a column of this kind.
fn is_known(holds: Holds, value: &Value) -> bool {
    match (holds, value) {
        (Holds::Word, Value::Text(text)) => !text.trim().is_empty(),
        (Holds::Date, Value::Text(text)) => date(text).is_some(),
        (Holds::Word, Value::Whole(number)) => *number >= 0,
        (Holds::Text, Value::Text(_)) | (Holds::Texts, Value::Texts(_)) => true,
        (Holds::Texts, Value::Text(text)) => !text.is_empty(),
        (Holds::Number, Value::Whole(_)) | (Holds::Whole, Value::Whole(_)) => true,
        (Holds::Number | Holds::Whole, Value::Number(number)) => number.is_finite(),
        (Holds::Number | Holds::Whole, Value::Text(text)) => text.trim().parse::<f64>().is_ok_and(f64::is_finite),
        _ => false,
    }
}

/// The values of one record by column, before it is known whether the record is whole.
pub struct Record<'a> {
    values: Vec<(usize, Value<'a>)>,
}

impl<'a> Record<'a> {
    /// Nothing known yet.
    pub fn new(wanted: &Wanted) -> Self {
        Record { values: vec![(usize::MAX, Value::Unknown); wanted.columns.len()] }
    }

    /// Takes a value unless a better place has one.
    pub fn set(&mut self, wanted: &Wanted, (column, rank): (usize, usize), value: Value<'a>) {
        let holds = wanted.columns[column].0.holds;
        let value = match (holds, value) {
            (Holds::Date, Value::Text(text)) => date(&text).map_or(Value::Unknown, |day| Value::Text(day.into())),
            (Holds::Date, Value::Whole(number)) => {
                date(&number.to_string()).map_or(Value::Unknown, |day| Value::Text(day.into()))
            }
            (_, value) => value,
        };
        let kept = &mut self.values[column];
        if rank <= kept.0 && is_known(holds, &value) {
            *kept = (rank, value);
        }
    }

    /// The same with other texts.
    pub fn map<'b>(self, text: impl Fn(Cow<'a, str>) -> Cow<'b, str>) -> Record<'b> {
        let value = |value| match value {
            Value::Unknown => Value::Unknown,
            Value::Text(t) => Value::Text(text(t)),
            Value::Whole(number) => Value::Whole(number),
            Value::Number(number) => Value::Number(number),
            Value::Texts(texts) => Value::Texts(texts.into_iter().map(&text).collect()),
        };
        Record { values: self.values.into_iter().map(|(rank, v)| (rank, value(v))).collect() }
    }

    /// The id, if it has one.
    pub fn id(&self) -> Option<String> {
        match &self.values[0].1 {
            Value::Text(text) => Some(text.clone().into_owned()),
            Value::Whole(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

enum Builder {
    Text(StringBuilder),
    Texts(ListBuilder<StringBuilder>),
    Number(Float64Builder),
    Whole(Int64Builder),
    /// Nobody reads it.
    Nothing,
}

/// Arrow columns, record by record.
pub struct Builders {
    rows: usize,
    columns: Vec<Builder>,
}

impl Builders {
    /// For the wanted columns.
    pub fn new(wanted: &Wanted) -> Builders {
        let builder = |(column, read): (&Column, bool)| match column.holds {
            _ if !read => Builder::Nothing,
            Holds::Word | Holds::Date | Holds::Text => Builder::Text(StringBuilder::new()),
            Holds::Texts => Builder::Texts(ListBuilder::new(StringBuilder::new())),
            Holds::Number => Builder::Number(Float64Builder::new()),
            Holds::Whole => Builder::Whole(Int64Builder::new()),
        };
        Builders { rows: 0, columns: wanted.columns().map(builder).collect() }
    }

    /// Adds a record; its id is given apart because it must be there.
    pub fn push(&mut self, id: &str, record: &Record) {
        self.rows += 1;
        for (at, builder) in self.columns.iter_mut().enumerate() {
            let value = &record.values[at].1;
            match builder {
                Builder::Text(builder) if at == 0 => builder.append_value(id),
                Builder::Text(builder) => match value {
                    Value::Text(text) => builder.append_value(text),
                    Value::Whole(number) => builder.append_value(number.to_string()),
                    Value::Unknown | Value::Number(_) | Value::Texts(_) => builder.append_null(),
                },
                Builder::Texts(builder) => match value {
                    Value::Texts(texts) => builder.append_value(texts.iter().map(Some)),
                    Value::Text(text) => builder.append_value(text.split(';').map(str::trim).filter(|t| !t.is_empty()).map(Some)),
                    Value::Unknown | Value::Number(_) | Value::Whole(_) => builder.append_null(),
                },
                Builder::Number(builder) => builder.append_option(number(value)),
                Builder::Whole(builder) => builder.append_option(whole(value)),
                Builder::Nothing => {}
            }
        }
    }

    /// Adds a row that has nothing but an id.
    pub fn push_unknown(&mut self, id: &str, wanted: &Wanted) {
        self.push(id, &Record::new(wanted));
    }

    /// The columns.
    pub fn finish(self) -> Vec<ArrayRef> {
        let rows = self.rows;
        let array = |builder| -> ArrayRef {
            match builder {
                Builder::Text(mut b) => Arc::new(b.finish()),
                Builder::Texts(mut b) => Arc::new(b.finish()),
                Builder::Number(mut b) => Arc::new(b.finish()),
                Builder::Whole(mut b) => Arc::new(b.finish()),
                Builder::Nothing => Arc::new(NullArray::new(rows)),
            }
        };
        self.columns.into_iter().map(array).collect()
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Whole(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok(),
        Value::Unknown | Value::Texts(_) => None,
    }
}

/// Whole numbers only: `12.0` is one, `12.5` is not.
fn whole(value: &Value) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    match value {
        Value::Whole(number) => Some(*number),
        Value::Text(text) if text.trim().parse::<i64>().is_ok() => text.trim().parse().ok(),
        other => number(other).filter(|n| n.fract() == 0.0 && n.abs() <= EXACT).map(|n| n as i64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_in_one_way_or_unknown() {
        for (text, want) in [
            ("20240131", Some("20240131")),
            (" 2024-01-31 ", Some("20240131")),
            ("2024-01-31T10:00:00Z", Some("20240131")),
            ("2024-01-31 10:00", Some("20240131")),
            ("2024-01-311", None),
            ("2024/01/31", None),
            ("-024-01-31", None),
            ("31.01.2024", None),
            ("2024013", None),
            ("yesterdayé", None),
            ("", None),
        ] {
            assert_eq!(date(text).as_deref(), want, "{text}");
        }
    }
}
