//! Reads the `.info.json` that yt-dlp writes next to a video.
//!
//! Every field but `id` is optional in that format and types vary by site, so a missing, null or mistyped field is simply unknown. Only
//! text that is no JSON object at all is damage.
//!
//! What can go wrong: these files hold comments and format lists of many megabytes. Only the few fields that become columns are kept
//! while parsing, and the file is bounded by [`MAX_INFO_JSON_BYTES`].

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::metadata::Metadata;
use super::record_columns::date;

/// Larger files are refused.
pub const MAX_INFO_JSON_BYTES: u64 = 64 << 20;

/// What an `.info.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Descriptive columns.
    pub metadata: Metadata,
    /// Languages of subtitles made by people.
    pub manual_languages: Vec<String>,
    /// Languages of automatic captions.
    pub automatic_languages: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Raw {
    id: Value,
    title: Value,
    description: Value,
    channel_id: Value,
    uploader_id: Value,
    channel: Value,
    uploader: Value,
    tags: Value,
    upload_date: Value,
    webpage_url: Value,
    license: Value,
    subtitles: Languages,
    automatic_captions: Languages,
}

/// The keys of an object; anything else holds none. Values are skipped, not kept: they are long lists of URLs.
#[derive(Default)]
struct Languages(Vec<String>);

impl<'de> Deserialize<'de> for Languages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LanguagesVisitor)
    }
}

struct LanguagesVisitor;

impl<'de> Visitor<'de> for LanguagesVisitor {
    type Value = Languages;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Languages, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
            names.push(name);
        }
        Ok(Languages(names))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Languages, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Languages::default())
    }
    fn visit_unit<E>(self) -> Result<Languages, E> {
        Ok(Languages::default())
    }
    fn visit_bool<E>(self, _: bool) -> Result<Languages, E> {
        Ok(Languages::default())
    }
    fn visit_i64<E>(self, _: i64) -> Result<Languages, E> {
        Ok(Languages::default())
    }
    fn visit_u64<E>(self, _: u64) -> Result<Languages, E> {
        Ok(Languages::default())
    }
    fn visit_f64<E>(self, _: f64) -> Result<Languages, E> {
        Ok(Languages::default())
    }
    fn visit_str<E>(self, _: &str) -> Result<Languages, E> {
        Ok(Languages::default())
    }
}

/// Reads the file's text. The error says where it is broken.
pub fn parse(bytes: &[u8]) -> Result<Info, String> {
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    if !text.trim_start().starts_with('{') {
        return Err("it does not hold a JSON object".into());
    }
    let raw: Raw = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let metadata = Metadata {
        source_id: word(raw.id),
        title: text_of(raw.title),
        description: text_of(raw.description),
        channel_id: word(raw.channel_id).or(word(raw.uploader_id)),
        channel: text_of(raw.channel).or(text_of(raw.uploader)),
        tags: tags(raw.tags),
        upload_date: word(raw.upload_date).and_then(|day| date(&day)),
        webpage_url: word(raw.webpage_url),
        license: word(raw.license),
    };
    Ok(Info { metadata, manual_languages: raw.subtitles.0, automatic_languages: raw.automatic_captions.0 })
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// As [`text_of`], but an empty string is unknown and a whole number is written out: some sites number their videos and dates.
fn word(value: Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        Value::Number(number) if number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

fn tags(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => Some(items.into_iter().filter_map(text_of).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_any_type_never_break_a_row() {
        let info = parse(
            br#"{"id": 42, "title": null, "description": ["no"], "uploader_id": "@clinic", "uploader": "Clinic", "tags": ["a", 1, null, "b"],
                 "upload_date": 20240131, "license": "", "subtitles": {"en": []}, "automatic_captions": [{"en": 1}], "formats": [{"deep": {}}]}"#,
        )
        .unwrap();
        let m = info.metadata;
        assert_eq!(m.source_id.as_deref(), Some("42"));
        assert_eq!((m.title, m.description, m.license), (None, None, None));
        assert_eq!((m.channel_id.as_deref(), m.channel.as_deref()), (Some("@clinic"), Some("Clinic")));
        assert_eq!(m.tags, Some(vec!["a".to_string(), "b".to_string()]));
        assert_eq!(m.upload_date.as_deref(), Some("20240131"));
        assert_eq!((info.manual_languages, info.automatic_languages), (vec!["en".to_string()], vec![]));
    }

    #[test]
    fn damage_is_told_from_absence() {
        assert_eq!(parse(b"{}").unwrap(), Info::default());
        assert!(parse(b"").is_err());
        assert!(parse(b"[]").is_err());
        assert!(parse(b"null").is_err());
        assert!(parse(br#"{"id": "x", "title": "cut off"#).unwrap_err().contains("EOF"));
    }
}
