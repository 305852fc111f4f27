//! Speech recognition by a service that speaks OpenAI's `audio/transcriptions` (OpenAI, faster-whisper servers, whisper.cpp, vLLM).
//!
//! A span is sent in pieces of at most `max_audio_seconds`, each as a WAV file of 16 kHz mono; the times in the answer are moved to where the piece
//! lies. Answers are cached by the samples themselves, so a clip that is asked about again costs decoding its sound and nothing else. The form is
//! written here and not by the HTTP client, because a request that may be repeated needs a body that can be sent twice.
//!
//! What can go wrong: services that give no times (`{"text": ...}` alone) give one item for the whole piece.

use std::sync::Arc;
use std::time::Duration;

use curette_engine::operator::Task;
use curette_engine::verdict::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::transcript::SpeechFormat;
use crate::captions::binding::texts_blake3;
use crate::media::{MediaContext, limits::SPEECH_RATE, plane_of, problem, speech, wav};
use crate::remote::budget::nano_usd;
use crate::remote::cache::{Cache, Keyed};
use crate::remote::call::{Failure, Request, Service, call};
use crate::remote::http::Http;
use crate::remote::outcome::{Codes, Judged, Outcome, Reply, refused};
use crate::remote::purse::Usage;
use crate::remote::turns::Turns;
use crate::slots::Slots;
use crate::text::TimedText;

/// The codes of what is not an answer.
pub const CODES: Codes = Codes {
    timeout: "speech_timeout",
    service_error: "speech_service_error",
    budget_spent: "speech_budget_spent",
    auth: "speech_auth",
    quota: "speech_quota",
};

/// Pieces shorter than this hold no word and are refused by services: 0.1 s.
const MIN_SAMPLES: usize = SPEECH_RATE as usize / 10;
/// Raise when the same samples are asked about in another way.
const VERSION: &str = "1";

/// A service that recognises speech.
pub struct Whisper {
    /// The service.
    pub service: Service,
    /// Model asked for.
    pub model: String,
    /// Language told to the model, if any.
    pub language: Option<String>,
    /// In which form it answers.
    pub format: SpeechFormat,
    /// Who answers, in cache keys.
    pub identity: String,
    /// US dollars for a minute of sound; 0 if not known.
    pub usd_per_minute: f64,
    /// Longest piece, microseconds.
    pub piece_us: i64,
    /// Limit of decoding one piece.
    pub timeout: Duration,
    /// Answers, unless switched off.
    pub cache: Option<Arc<Cache>>,
}

/// What was heard in a piece; times are in the piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    key: String,
    language: Option<String>,
    items: Vec<(i64, i64, String)>,
}

impl Keyed for Heard {
    fn key(&self) -> &str {
        &self.key
    }
}

/// What was heard in a span, and in which language.
pub type Speech = (Vec<TimedText>, Option<String>);

impl Whisper {
    /// Listens to `[start_us, end_us)`; `None` when the video has no sound. Gaps are silence; only the end of the sound ends it.
    pub fn listen(&self, uri: &str, (start_us, end_us): (i64, i64), task: &Task) -> Result<Option<Speech>, Failure> {
        let http = task.resources.get(Http::start);
        let http = http.as_ref().as_ref().map_err(|e| failure("speech_service_error", format!("no HTTP client: {e}")))?;
        let (mut items, mut language) = (Vec::new(), None);
        let mut at = start_us;
        while at < end_us {
            let until = at.saturating_add(self.piece_us).min(end_us);
            let plane = plane_of(task);
            let context = MediaContext { cancelled: task.cancelled, plane: &plane, timeout: self.timeout };
            let sound = {
                let slots = task.resources.get(Slots::default);
                let _slot = slots.take(task.cancelled).ok_or_else(stopped)?;
                speech(uri, at, until, &context)
            };
            let sound = match sound {
                Err(e) if e.code == "no_audio" => return Ok(None),
                other => other.map_err(|e| Failure::Problem(problem(e)))?,
            };
            // In a gap nothing is said, though a model may hear something there; and it would have to be paid for.
            if sound.samples.len() >= MIN_SAMPLES && !sound.is_silent() {
                let heard = self.hear(&sound.samples, http, task)?;
                language = language.or(heard.language);
                items.extend(heard.items.into_iter().map(|(from, to, text)| TimedText {
                    start_us: at.saturating_add(from),
                    end_us: at.saturating_add(to),
                    text,
                }));
            }
            if sound.ended {
                break;
            }
            at = until;
        }
        Ok(Some((items, language)))
    }

    fn hear(&self, samples: &[i16], http: &Http, task: &Task) -> Result<Heard, Failure> {
        let file = wav(samples);
        let content = blake3::hash(&file).to_hex().to_string();
        let language = self.language.as_deref().unwrap_or_default();
        let mut parts = vec!["speech", VERSION, &self.identity, &self.model, language, &content];
        // Not for the other form: its keys are older than this choice.
        if self.format == SpeechFormat::Json {
            parts.push("json");
        }
        let key = texts_blake3(parts);
        let turns = task.resources.get(Turns::default);
        let turn = self.cache.as_ref().map(|_| turns.take(&key, task.cancelled));
        if matches!(turn, Some(None)) {
            return Err(stopped());
        }
        if let Some(heard) = self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(heard);
        }
        let mut fields = vec![("model", self.model.as_str()), ("temperature", "0")];
        match self.format {
            SpeechFormat::Json => fields.push(("response_format", "json")),
            SpeechFormat::VerboseJson => fields.extend([
                ("response_format", "verbose_json"),
                ("timestamp_granularities[]", "word"),
                ("timestamp_granularities[]", "segment"),
            ]),
        }
        if let Some(language) = &self.language {
            fields.push(("language", language));
        }
        // The file's hash as boundary: it cannot occur in the file that it is the hash of, and every attempt sends the same bytes.
        let request = Request {
            content_type: format!("multipart/form-data; boundary={content}"),
            body: form(&content, &fields, &file).into(),
            id: key.clone(),
            estimate: Usage::default(),
            // Services count whole seconds.
            fee_nano_usd: nano_usd(samples.len().div_ceil(SPEECH_RATE as usize) as f64 / 60.0 * self.usd_per_minute),
        };
        let length_us = samples.len() as i64 * 1_000_000 / i64::from(SPEECH_RATE);
        let heard = call(http, &self.service, &request, task.cancelled, |reply| judge(reply, length_us))?;
        let heard = Heard { key, ..heard };
        if let Some(cache) = &self.cache {
            cache.put(&heard);
        }
        Ok(heard)
    }
}

fn stopped() -> Failure {
    failure("cancelled", "the run is being stopped".into())
}

fn failure(code: &'static str, message: String) -> Failure {
    Failure::Problem(Problem::new(code, message))
}

/// The body of a `multipart/form-data` request: text fields, then the file.
fn form(boundary: &str, fields: &[(&str, &str)], file: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(file.len() + 1024);
    for (name, value) in fields {
        out.extend_from_slice(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    let head = "Content-Disposition: form-data; name=\"file\"; filename=\"audio.wav\"\r\nContent-Type: audio/wav";
    out.extend_from_slice(format!("--{boundary}\r\n{head}\r\n\r\n").as_bytes());
    out.extend_from_slice(file);
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out
}

fn judge(reply: &Reply, length_us: i64) -> Judged<Heard> {
    Judged { outcome: outcome(reply, length_us), usage: None }
}

fn outcome(reply: &Reply, length_us: i64) -> Outcome<Heard> {
    let json: Option<Value> = serde_json::from_slice(reply.body).ok();
    let service = |message: String| Problem::new("speech_service_error", message);
    if reply.status != 200 {
        let said = json.as_ref().and_then(|j| j.pointer("/error/message").or_else(|| j.get("detail"))?.as_str());
        let said = said.map(|text| format!(": {}", reply.quoted(text))).unwrap_or_default();
        let message = format!("{} answered {}{said}", reply.host, reply.status);
        let code = json.as_ref().and_then(|j| j.pointer("/error/code")?.as_str()).unwrap_or_default();
        return refused(&CODES, reply, reply.status, code, message);
    }
    if json.is_none() {
        return Outcome::Failed(service(format!(
            "{} answered with something that is not JSON; is `base_url` right?",
            reply.host
        )));
    }
    match json.as_ref().and_then(|json| heard(json, length_us)) {
        Some(heard) => Outcome::Answered(heard),
        None => Outcome::Unusable(service(format!("{} answered with something that is no transcription", reply.host))),
    }
}

/// Words if there are any, else segments, else the text as a whole.
fn heard(json: &Value, length_us: i64) -> Option<Heard> {
    let text = json.get("text")?.as_str()?;
    let us = |v: &Value| v.as_f64().filter(|s| s.is_finite()).map(|s| ((s * 1e6).round() as i64).clamp(0, length_us));
    let timed = |list: &str, name: &str| -> Option<Vec<(i64, i64, String)>> {
        let items = json.get(list)?.as_array()?;
        let item = |item: &Value| {
            let (from, to) = (us(item.get("start")?)?, us(item.get("end")?)?);
            let text = one_line(item.get(name)?.as_str()?);
            (!text.is_empty()).then(|| (from, to.max(from), text))
        };
        let mut items: Vec<_> = items.iter().filter_map(item).collect();
        items.sort_by_key(|item| item.0);
        Some(items).filter(|items| !items.is_empty())
    };
    let whole = || Some(one_line(text)).filter(|t| !t.is_empty()).map(|t| vec![(0, length_us, t)]).unwrap_or_default();
    let items = timed("words", "word").or_else(|| timed("segments", "text")).unwrap_or_else(whole);
    let language = json.get("language").and_then(Value::as_str).filter(|l| !l.is_empty()).map(str::to_owned);
    Some(Heard { key: String::new(), language, items })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(json: Value) -> Option<Vec<(i64, i64, String)>> {
        heard(&json, 2_000_000).map(|h| h.items)
    }

    #[test]
    fn words_before_segments_before_the_whole_text() {
        let words = json!([{"word": " the", "start": 0.1, "end": 0.4}, {"word": "valve ", "start": 0.4, "end": 9.0}]);
        let segments = json!([{"text": "the valve", "start": 0, "end": 1.5, "id": 3}]);
        let word = |from, to, text: &str| (from, to, text.to_owned());
        let both = items(json!({"text": "the valve", "words": words, "segments": segments}));
        assert_eq!(both, Some(vec![word(100_000, 400_000, "the"), word(400_000, 2_000_000, "valve")]), "times stay in the piece");
        assert_eq!(items(json!({"text": "x", "words": [], "segments": segments})), Some(vec![word(0, 1_500_000, "the valve")]));
        assert_eq!(items(json!({"text": " the\nvalve "})), Some(vec![word(0, 2_000_000, "the valve")]));
        assert_eq!(items(json!({"text": " ", "segments": []})), Some(vec![]), "silence");
        assert_eq!(items(json!({"segments": segments})), None);
        let odd = json!([{"word": "a", "start": null, "end": 1}, {"word": 1, "start": 0, "end": 1}, {"word": "b", "start": 1.0, "end": 0.5}]);
        assert_eq!(items(json!({"text": "a b", "words": odd})), Some(vec![word(1_000_000, 1_000_000, "b")]));
    }
}
