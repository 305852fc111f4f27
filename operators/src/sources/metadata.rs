//! What is known about a video before looking at it: the descriptive columns of the `videos` source.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use serde::{Deserialize, Serialize};

/// Descriptive columns of one video; everything may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // The names are the columns', documented where the columns are.
pub struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webpage_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
}

impl Metadata {
    /// These values where known, else those of `other`.
    pub fn or(self, other: Metadata) -> Metadata {
        Metadata {
            source_id: self.source_id.or(other.source_id),
            title: self.title.or(other.title),
            description: self.description.or(other.description),
            channel_id: self.channel_id.or(other.channel_id),
            channel: self.channel.or(other.channel),
            tags: self.tags.or(other.tags),
            upload_date: self.upload_date.or(other.upload_date),
            webpage_url: self.webpage_url.or(other.webpage_url),
            license: self.license.or(other.license),
        }
    }

    /// The text column of that name, to fill it.
    pub fn text_mut(&mut self, column: &str) -> Option<&mut Option<String>> {
        Some(match column {
            "source_id" => &mut self.source_id,
            "title" => &mut self.title,
            "description" => &mut self.description,
            "channel_id" => &mut self.channel_id,
            "channel" => &mut self.channel,
            "upload_date" => &mut self.upload_date,
            "webpage_url" => &mut self.webpage_url,
            "license" => &mut self.license,
            _ => return None,
        })
    }
}

/// Arrow columns of many [`Metadata`], in the order of its fields.
pub fn columns<'a>(rows: impl Iterator<Item = &'a Metadata> + Clone) -> Vec<ArrayRef> {
    let text = |get: fn(&Metadata) -> &Option<String>| -> ArrayRef {
        let mut builder = StringBuilder::new();
        rows.clone().for_each(|row| builder.append_option(get(row).as_deref()));
        Arc::new(builder.finish())
    };
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in rows.clone() {
        match &row.tags {
            Some(list) => tags.append_value(list.iter().map(Some)),
            None => tags.append_null(),
        }
    }
    vec![
        text(|m| &m.source_id),
        text(|m| &m.title),
        text(|m| &m.description),
        text(|m| &m.channel_id),
        text(|m| &m.channel),
        Arc::new(tags.finish()),
        text(|m| &m.upload_date),
        text(|m| &m.webpage_url),
        text(|m| &m.license),
    ]
}
