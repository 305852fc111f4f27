//! Captions by a vision-language model: two questions per clip, each answered once and kept.
//!
//! First the frames with title, description and transcript give the detailed caption, then the detailed caption alone gives the brief one. Each answer is
//! cached by everything that shaped it, so a row whose second question failed does not pay for the first again.
//!
//! What can go wrong: without `content_blake3` the video is known by its decoded frames alone, so a cached answer still costs decoding them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use curette_engine::operator::Task;
use curette_engine::verdict::Problem;
use serde::Serialize;
use serde_json::{Value, json};

use super::cache::{Cache, Entry};
use super::clip::Clip;
use super::openai::{Endpoint, Http, ask};
use super::pictures::{Look, Picture};
use super::prompt::{Prompt, Slot};

/// Everything besides clip, frames and the place of the service that shapes an answer. Its JSON is hashed: into cache keys and into `caption_prompt_blake3`.
#[derive(Debug, Clone, Serialize)]
pub struct Meaning {
    /// Version of the operator.
    pub version: u32,
    /// Model asked for.
    pub model: String,
    /// The detailed prompt, unfilled.
    pub detailed_prompt: String,
    /// The brief prompt, unfilled.
    pub brief_prompt: String,
    /// What stands for absent text.
    pub missing_text: String,
    /// Frames shown.
    pub frames: usize,
    /// Their longest side.
    pub longest_side_px: u32,
    /// Their JPEG quality.
    pub jpeg_quality: u8,
    /// `detail` of the image parts.
    pub image_detail: String,
    /// Sampling temperature, if given.
    pub temperature: Option<f64>,
    /// Name of the token limit in the request.
    pub token_limit_field: String,
    /// Token limit of the detailed caption.
    pub max_tokens: u32,
    /// Token limit of the brief caption.
    pub brief_max_tokens: u32,
}

impl Meaning {
    /// Hex hash.
    pub fn blake3(&self) -> String {
        // A struct of plain fields always has a JSON form, and always the same.
        blake3::hash(&serde_json::to_vec(self).unwrap_or_default()).to_hex().to_string()
    }
}

/// What a caption is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Captions {
    /// The detailed caption.
    pub detailed: String,
    /// The brief caption.
    pub brief: String,
    /// The model that made the detailed one, as the service names it.
    pub model: String,
    /// Times of the frames shown, microseconds.
    pub frames_us: Vec<i64>,
}

/// Gives the frames of a clip.
pub type Eyes = dyn Fn(&str, (i64, i64), &Look, &Task) -> Result<Vec<Picture>, Problem> + Send + Sync;

/// A captioning service with its prompts.
pub struct Describer {
    /// See [`Meaning`].
    pub meaning: Meaning,
    /// Parsed `meaning.detailed_prompt`.
    pub detailed: Prompt,
    /// Parsed `meaning.brief_prompt`.
    pub brief: Prompt,
    /// The service.
    pub endpoint: Endpoint,
    /// How frames are taken.
    pub look: Look,
    /// What takes them.
    pub eyes: Arc<Eyes>,
    /// Answers, unless switched off.
    pub cache: Option<Arc<Cache>>,
}

impl Describer {
    /// Both captions of a clip.
    pub fn describe(&self, clip: &Clip, http: &Http, task: &Task) -> Result<Captions, Problem> {
        let uri = clip.uri.ok_or_else(|| Problem::new("no_video", "`video_uri` is empty: there is nothing to look at"))?;
        let span =
            clip.span.ok_or_else(|| Problem::new("no_span", "the row has neither `start_us` and `end_us` nor `duration_us`"))?;
        let detailed = self.detailed_caption(clip, uri, span, http, task)?;
        let prompt = self.filled(&self.brief, clip, detailed.frames_us.len(), &detailed.text);
        let key = self.key(&["brief", &prompt]);
        let brief = match self.cached(&key) {
            Some(entry) => entry,
            None => self.asked(key, json!(prompt), self.meaning.brief_max_tokens, Vec::new(), http, task)?,
        };
        Ok(Captions { detailed: detailed.text, brief: brief.text, model: detailed.model, frames_us: detailed.frames_us })
    }

    /// A prompt for a clip of which `frames` frames are shown.
    fn filled(&self, prompt: &Prompt, clip: &Clip, frames: usize, caption: &str) -> String {
        prompt.fill(|slot| match slot {
            Slot::FrameCount => frames.to_string(),
            Slot::Title => self.or_missing(clip.title),
            Slot::Description => self.or_missing(clip.description),
            Slot::Transcript => self.or_missing(clip.transcript.as_deref()),
            Slot::Caption => caption.to_owned(),
        })
    }

    fn detailed_caption(&self, clip: &Clip, uri: &str, span: (i64, i64), http: &Http, task: &Task) -> Result<Entry, Problem> {
        // How many frames a short clip really has is known after decoding; it follows from content and span, so the key holds the number that is wanted.
        let wanted = self.filled(&self.detailed, clip, self.look.frames, "");
        let key_of = |content: &str| self.key(&["detailed", content, &span.0.to_string(), &span.1.to_string(), &wanted]);
        if let Some(entry) = clip.content.and_then(|content| self.cached(&key_of(content))) {
            return Ok(entry);
        }
        let pictures = (self.eyes)(uri, span, &self.look, task)?;
        if pictures.is_empty() {
            return Err(Problem::new("no_frames", format!("no frame of {uri} lies in [{}, {}) us", span.0, span.1)));
        }
        let key = match clip.content {
            Some(content) => key_of(content),
            None => {
                let mut hasher = blake3::Hasher::new();
                for picture in &pictures {
                    hasher.update(&(picture.jpeg.len() as u64).to_le_bytes()).update(&picture.jpeg);
                }
                let key = key_of(&format!("frames:{}", hasher.finalize().to_hex()));
                if let Some(entry) = self.cached(&key) {
                    return Ok(entry);
                }
                key
            }
        };
        let prompt = self.filled(&self.detailed, clip, pictures.len(), "");
        let mut content = vec![json!({"type": "text", "text": prompt})];
        content.extend(pictures.iter().map(|picture| {
            let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(&picture.jpeg));
            json!({"type": "image_url", "image_url": {"url": url, "detail": self.meaning.image_detail}})
        }));
        let times = pictures.iter().map(|p| p.at_us).collect();
        self.asked(key, Value::Array(content), self.meaning.max_tokens, times, http, task)
    }

    fn asked(
        &self,
        key: String,
        content: Value,
        max_tokens: u32,
        frames_us: Vec<i64>,
        http: &Http,
        task: &Task,
    ) -> Result<Entry, Problem> {
        let mut body = json!({
            "model": self.meaning.model,
            "messages": [{"role": "user", "content": content}],
            (self.meaning.token_limit_field.as_str()): max_tokens,
        });
        if let Some(temperature) = self.meaning.temperature {
            body["temperature"] = json!(temperature);
        }
        let answer = ask(http, &self.endpoint, &body, task.cancelled)?;
        let model = if answer.model.is_empty() { self.meaning.model.clone() } else { answer.model };
        let entry = Entry { key, text: answer.text, model, frames_us };
        if let Some(cache) = &self.cache {
            cache.put(&entry);
        }
        Ok(entry)
    }

    fn cached(&self, key: &str) -> Option<Entry> {
        self.cache.as_ref()?.get(key)
    }

    /// A hash of what was asked, and of whom: two services may give one name to different models. Lengths keep the parts apart.
    fn key(&self, parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [self.meaning.blake3().as_str(), self.endpoint.url.as_str()].into_iter().chain(parts.iter().copied()) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    fn or_missing(&self, text: Option<&str>) -> String {
        text.filter(|t| !t.trim().is_empty()).unwrap_or(&self.meaning.missing_text).to_owned()
    }
}
