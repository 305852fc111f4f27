//! Where the keys and values of a step stand in the file.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// The value of a key.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub value: Range<usize>,
    /// The value, if it is a string: ranges inside of it can be found in the file.
    pub text: Option<String>,
}

/// All keys of a step: `path`, and below it `backend.url`, `columns[0]`.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The step's name in its header.
    pub header: Range<usize>,
    keys: BTreeMap<String, Place>,
}

impl Places {
    pub fn of(header: Range<usize>, table: &DeTable<'_>) -> Places {
        let mut keys = BTreeMap::new();
        walk("", table, &mut keys);
        Places { header, keys }
    }

    pub fn get(&self, key: &str) -> Option<&Place> {
        self.keys.get(key)
    }

    /// What to mark when the step as a whole is meant: its type, or else its name.
    pub fn step(&self) -> Range<usize> {
        self.keys.get("type").map_or_else(|| self.header.clone(), |p| p.value.clone())
    }
}

fn walk(prefix: &str, table: &DeTable<'_>, keys: &mut BTreeMap<String, Place>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        visit(name, value.get_ref(), value.span(), keys);
    }
}

fn visit(name: String, value: &DeValue<'_>, span: Range<usize>, keys: &mut BTreeMap<String, Place>) {
    match value {
        DeValue::Table(table) => walk(&format!("{name}."), table, keys),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                visit(format!("{name}[{i}]"), item.get_ref(), item.span(), keys);
            }
        }
        _ => {}
    }
    let text = value.as_str().map(str::to_owned);
    keys.insert(name, Place { value: span, text });
}

/// The range of the file that holds `range` of a string value whose text, quotes included, is `raw`. `None` if the value is not what stands there
/// (a variable was filled in).
pub(crate) fn within(raw: &str, value: &str, range: &Range<usize>) -> Option<Range<usize>> {
    let quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| raw.starts_with(q))?;
    let mut at = quotes.len();
    let end = raw.len().checked_sub(quotes.len()).filter(|e| *e >= at)?;
    if quotes.len() == 3 {
        at += ["\r\n", "\n"].into_iter().find(|n| raw[at..].starts_with(n)).map_or(0, str::len);
    }
    let escapes = quotes.starts_with('"');
    let (mut start, mut stop) = (None, None);
    let mut position = 0;
    loop {
        if escapes && quotes.len() == 3 {
            at = skip_folded(raw, at);
        }
        if position == range.start {
            start = Some(at);
        }
        if position == range.end {
            stop = Some(at);
        }
        let Some(c) = value[position..].chars().next() else { break };
        let found = raw.get(at..end)?.chars().next()?;
        at += match found {
            '\\' if escapes => match raw[at + 1..].chars().next()? {
                'x' => 4,
                'u' => 6,
                'U' => 10,
                other => 1 + other.len_utf8(),
            },
            other if other == c => other.len_utf8(),
            _ => return None,
        };
        position += c.len_utf8();
    }
    (at == end).then_some(start?..stop?)
}

/// A backslash at the end of a line folds it into the next.
fn skip_folded(raw: &str, at: usize) -> usize {
    let Some(after) = raw.get(at..).and_then(|r| r.strip_prefix('\\')) else { return at };
    let line_end = after.trim_start_matches([' ', '\t']);
    if line_end.starts_with(['\n', '\r']) { raw.len() - line_end.trim_start().len() } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_inside_strings_are_found_in_the_file() {
        let place = |toml: &str, word: &str| {
            let parsed = toml::de::DeValue::parse(toml).unwrap();
            let value = parsed.get_ref().as_str().unwrap().to_owned();
            let at = value.find(word).unwrap();
            within(&toml[parsed.span()], &value, &(at..at + word.len())).map(|r| toml[r].to_owned())
        };
        assert_eq!(place("'a >= bogus'", "bogus").as_deref(), Some("bogus"));
        assert_eq!(place("\"é = \\\"x\\\" or \\u00e9 > bogus\"", "bogus").as_deref(), Some("bogus"));
        assert_eq!(place("\"\"\"\na > 1\n  and bogus\"\"\"", "bogus").as_deref(), Some("bogus"));
        assert_eq!(place("\"\"\"a > 1 \\\n   and bogus\"\"\"", "bogus").as_deref(), Some("bogus"));
        assert_eq!(place("'''\na \\ bogus'''", "bogus").as_deref(), Some("bogus"));
        assert_eq!(place("\"bogus\"", "bogus").as_deref(), Some("bogus"));
        assert_eq!(within("'${A} > 1'", "width > 1", &(0..5)), None);
    }
}
