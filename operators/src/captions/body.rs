//! The body of a chat-completions request, written once as bytes.
//!
//! Why by hand: eight frames are two thirds of a megabyte as base64; a tree of JSON values copies them three times and escapes what needs no
//! escaping. Here each frame is encoded once, into its place, and repeated attempts share the bytes. What can go wrong: nothing; the parts with free
//! text go through `serde_json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use super::pictures::Picture;

/// Room for everything in a part besides its picture, in bytes.
const PART_BYTES: usize = 128;

/// What is asked.
pub struct Body<'a> {
    /// The model.
    pub model: &'a str,
    /// The question.
    pub prompt: &'a str,
    /// What is shown; with none the content is plain text.
    pub pictures: &'a [Picture],
    /// `detail` of the image parts.
    pub image_detail: &'a str,
    /// Name and value of the token limit.
    pub token_limit: (&'a str, u32),
    /// Sampling temperature, if given.
    pub temperature: Option<f64>,
    /// `response_format`, if given.
    pub response_format: Option<Value>,
}

impl Body<'_> {
    /// The JSON text.
    pub fn bytes(&self) -> Vec<u8> {
        let of_pictures: usize = self.pictures.iter().map(|p| p.jpeg.len().div_ceil(3) * 4 + PART_BYTES).sum();
        let mut out = Vec::with_capacity(of_pictures + self.prompt.len() + 1024);
        raw(&mut out, "{\"model\":");
        json(&mut out, self.model);
        raw(&mut out, ",\"messages\":[{\"role\":\"user\",\"content\":");
        match self.pictures {
            [] => json(&mut out, self.prompt),
            pictures => {
                raw(&mut out, "[{\"type\":\"text\",\"text\":");
                json(&mut out, self.prompt);
                raw(&mut out, "}");
                pictures.iter().for_each(|p| self.picture(p, &mut out));
                raw(&mut out, "]");
            }
        }
        raw(&mut out, "}],");
        json(&mut out, self.token_limit.0);
        raw(&mut out, ":");
        json(&mut out, &self.token_limit.1);
        if let Some(temperature) = self.temperature {
            raw(&mut out, ",\"temperature\":");
            json(&mut out, &temperature);
        }
        if let Some(format) = &self.response_format {
            raw(&mut out, ",\"response_format\":");
            json(&mut out, format);
        }
        raw(&mut out, "}");
        out
    }

    fn picture(&self, picture: &Picture, out: &mut Vec<u8>) {
        raw(out, ",{\"type\":\"image_url\",\"image_url\":{\"detail\":");
        json(out, self.image_detail);
        raw(out, ",\"url\":\"data:image/jpeg;base64,");
        let at = out.len();
        out.resize(at + picture.jpeg.len().div_ceil(3) * 4, 0);
        // The place has exactly the size that the encoding has.
        let written = STANDARD.encode_slice(&picture.jpeg, &mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
        raw(out, "\"}}");
    }
}

fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Values of text and numbers always have a JSON form, and writing into memory does not fail.
fn json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The slow, obvious way.
    fn slow(body: &Body) -> Value {
        let content = match body.pictures {
            [] => json!(body.prompt),
            pictures => {
                let mut parts = vec![json!({"type": "text", "text": body.prompt})];
                parts.extend(pictures.iter().map(|picture| {
                    let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(&picture.jpeg));
                    json!({"type": "image_url", "image_url": {"detail": body.image_detail, "url": url}})
                }));
                Value::Array(parts)
            }
        };
        let mut value = json!({
            "model": body.model, "messages": [{"role": "user", "content": content}], (body.token_limit.0): body.token_limit.1,
        });
        if let Some(temperature) = body.temperature {
            value["temperature"] = json!(temperature);
        }
        if let Some(format) = &body.response_format {
            value["response_format"] = format.clone();
        }
        value
    }

    proptest! {
        #[test]
        fn it_says_what_a_tree_of_values_would_say(
            (model, prompt) in (any::<String>(), any::<String>()),
            jpegs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            // Numbers that any reader of JSON reads exactly.
            temperature in prop::option::of((0u8..=128).prop_map(|sixtyfourths| f64::from(sixtyfourths) / 64.0)),
            schema in any::<bool>(),
        ) {
            let pictures: Vec<Picture> = jpegs.into_iter().map(|jpeg| Picture { at_us: 0, jpeg }).collect();
            let body = Body {
                model: &model,
                prompt: &prompt,
                pictures: &pictures,
                image_detail: "auto",
                token_limit: ("max_tokens", 1024),
                temperature,
                response_format: schema.then(|| json!({"type": "json_object"})),
            };
            let said: Value = serde_json::from_slice(&body.bytes()).unwrap();
            prop_assert_eq!(said.to_string(), slow(&body).to_string());
        }
    }
}
