//! Captions out of an answer: plain text, or JSON with one or both of them.
//!
//! Why lenient: models put JSON into a fence or say a sentence before it, also when a schema was asked for and the server does not enforce it. Why
//! not more lenient: an answer that holds no caption where it should is asked for again (`caption_malformed`), never guessed from.

use curette_engine::verdict::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// In which form the service answers (`response_format` of the request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Plain text; `response_format` is not sent.
    Text,
    /// A JSON object, described in the prompt.
    JsonObject,
    /// A JSON object of a schema that the service enforces.
    JsonSchema,
}

/// What is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// One caption, whichever.
    One,
    /// The detailed and the brief one.
    Both,
}

/// The captions of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// The caption asked for; of two the detailed one. Never empty.
    pub caption: String,
    /// The brief one when both were asked for.
    pub brief: Option<String>,
}

/// Ends a prompt for one caption as JSON.
pub const AS_JSON: &str = "\nAnswer with a JSON object that has one string, `caption`.";
/// Ends a prompt for both captions as JSON.
pub const BOTH_AS_JSON: &str = "\nAnswer with a JSON object that has two strings: `caption`, the detailed description, and `brief_caption`, the same as one \
paragraph of at most 75 words that starts with \"The video shows\" and adds nothing to it.";

impl ResponseFormat {
    /// What the prompt says about the form, at its end.
    pub fn instruction(self, wanted: Wanted) -> &'static str {
        match (self, wanted) {
            (ResponseFormat::Text, _) => "",
            (_, Wanted::One) => AS_JSON,
            (_, Wanted::Both) => BOTH_AS_JSON,
        }
    }

    /// The value of `response_format`, if it is sent.
    pub fn parameter(self, wanted: Wanted) -> Option<Value> {
        let names: &[&str] = match wanted {
            Wanted::One => &["caption"],
            Wanted::Both => &["caption", "brief_caption"],
        };
        let properties: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        match self {
            ResponseFormat::Text => None,
            ResponseFormat::JsonObject => Some(json!({"type": "json_object"})),
            ResponseFormat::JsonSchema => Some(json!({"type": "json_schema", "json_schema": {
                "name": "captions", "strict": true,
                "schema": {"type": "object", "properties": properties, "required": names, "additionalProperties": false},
            }})),
        }
    }

    /// The captions of an answer's text, which is not empty.
    pub fn texts(self, wanted: Wanted, text: &str) -> Result<Texts, Problem> {
        if self == ResponseFormat::Text {
            return Ok(Texts { caption: text.to_owned(), brief: None });
        }
        let malformed =
            |what: &str| Problem::new("caption_malformed", format!("the answer {what}; does the model know `response_format`?"));
        let object = object(text).ok_or_else(|| malformed("is no JSON object"))?;
        let string = |name: &str| {
            let text = object.get(name).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
            text.map(str::to_owned).ok_or_else(|| malformed(&format!("has no text in `{name}`")))
        };
        let brief = match wanted {
            Wanted::One => None,
            Wanted::Both => Some(string("brief_caption")?),
        };
        Ok(Texts { caption: string("caption")?, brief })
    }
}

/// The JSON object in a text: the text itself, or what is between its first `{` and its last `}`.
fn object(text: &str) -> Option<Value> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    parse(text).or_else(|| {
        let (from, to) = (text.find('{')?, text.rfind('}')?);
        parse(text.get(from..=to)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_found_in_fences_and_sentences() {
        for text in [
            r#"{"caption": " A heart. ", "other": 1}"#,
            "```json\n{\"caption\": \"A heart.\"}\n```",
            "Here it is: {\"caption\": \"A heart.\"} Enjoy!",
        ] {
            let texts = ResponseFormat::JsonObject.texts(Wanted::One, text).unwrap();
            assert_eq!(texts, Texts { caption: "A heart.".into(), brief: None }, "{text}");
        }
        let both = ResponseFormat::JsonSchema.texts(Wanted::Both, r#"{"brief_caption": "b", "caption": "d"}"#).unwrap();
        assert_eq!(both, Texts { caption: "d".into(), brief: Some("b".into()) });
    }

    #[test]
    fn an_answer_without_a_caption_is_not_guessed_from() {
        for text in
            ["A heart.", "[1]", "\"caption\"", "{\"caption\": 1}", "{\"caption\": \" \"}", "}{", "{", "{\"Caption\": \"x\"}"]
        {
            assert_eq!(ResponseFormat::JsonObject.texts(Wanted::One, text).unwrap_err().code, "caption_malformed", "{text}");
        }
        assert!(ResponseFormat::JsonSchema.texts(Wanted::Both, r#"{"caption": "d"}"#).is_err());
        assert_eq!(ResponseFormat::Text.texts(Wanted::One, "{}").unwrap().caption, "{}");
    }
}
