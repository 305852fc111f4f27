//! Captions by a vision-language model: one or two questions per clip, each answered once and kept.
//!
//! First the frames with title, description and transcript give the detailed caption, then the detailed caption alone gives the brief one (or both
//! come in one answer). Each answer is cached by everything that shaped it, so a row whose second question failed does not pay for the first again.
//!
//! What can go wrong: without `content_blake3` the video is known by its decoded frames alone, so a cached answer still costs decoding them.

use std::sync::Arc;

use curette_engine::operator::Task;
use curette_engine::telemetry::names::CACHE_LOOKUPS;
use curette_engine::verdict::Problem;
use serde::Serialize;

use super::answer::{ResponseFormat, Texts, Wanted};
use super::binding::{Bond, texts_blake3};
use super::body::Body;
use super::clip::Clip;
use super::openai::{Answer, judge};
use super::pictures::{Look, Picture};
use super::prompt::{Prompt, Slot};
use super::records::{Entry, Shown};
use super::seen::Seen;
use crate::remote::bill::affordable;
use crate::remote::cache::{Cache, Keyed};
use crate::remote::call::{Failure, Request, Service, call};
use crate::remote::http::Http;
use crate::remote::outcome::{Judged, Outcome};
use crate::remote::purse::Usage;
use crate::remote::turns::Turns;

/// Raise when the same video, span and look give other frames.
const LOOK_VERSION: &str = "1";

/// Bytes of text per token, about: fewer than most texts have.
const BYTES_PER_TOKEN: u64 = 3;

/// Everything besides clip, frames and the place of the service that shapes an answer. Its JSON is hashed: into cache keys and into
/// `caption_prompt_blake3`.
#[derive(Debug, Clone, Serialize)]
pub struct Meaning {
    /// Version of the operator.
    pub version: u32,
    /// Model asked for.
    pub model: String,
    /// The detailed prompt, unfilled.
    pub detailed_prompt: String,
    /// The brief prompt, unfilled; empty when both captions come in one answer.
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
    /// In which form the service answers.
    pub response_format: ResponseFormat,
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
    /// What the answers were asked about.
    pub bond: Bond,
    /// What the answers took when they were given; `None` when the service does not say.
    pub usage: Option<Usage>,
}

/// Gives the frames of a clip.
pub type Eyes = dyn Fn(&str, (i64, i64), &Look, &Task) -> Result<Vec<Picture>, Problem> + Send + Sync;

/// A captioning service with its prompts.
pub struct Describer {
    /// See [`Meaning`].
    pub meaning: Meaning,
    /// Parsed `meaning.detailed_prompt`.
    pub detailed: Prompt,
    /// Parsed brief prompt; `None` when both captions come in one answer.
    pub brief: Option<Prompt>,
    /// The service.
    pub service: Service,
    /// How frames are taken.
    pub look: Look,
    /// What takes them.
    pub eyes: Arc<Eyes>,
    /// Answers, unless switched off.
    pub cache: Option<Arc<Cache>>,
    /// Who answers, in cache keys: the address without what does not decide the answer, or a name.
    pub identity: String,
    /// Ask again where the cache holds a refusal or a cut-off answer.
    pub retry_refused: bool,
    /// Tokens of one picture, about, until the service has said what it charges.
    pub tokens_per_image: u64,
    /// What questions with pictures have taken.
    pub seen: Seen,
}

/// Under what an answer is kept.
struct Key {
    now: String,
    /// Under what it was kept when the whole address counted, with the version of an API in it; nothing if that is the same.
    before: Option<String>,
}

/// One question.
struct Question<'a> {
    key: Key,
    asked_about: String,
    prompt: String,
    pictures: &'a [Picture],
    wanted: Wanted,
    max_tokens: u32,
}

impl Describer {
    /// Both captions of a clip.
    pub fn describe(&self, clip: &Clip, http: &Http, task: &Task) -> Result<Captions, Failure> {
        let uri = clip.uri.ok_or_else(|| problem("no_video", "`video_uri` is empty: there is nothing to look at"))?;
        let span =
            clip.span.ok_or_else(|| problem("no_span", "the row has neither `start_us` and `end_us` nor `duration_us`"))?;
        let (shown, detailed) = self.detailed_caption(clip, uri, span, http, task)?;
        let bond = |brief_for: &str| Bond {
            frames: shown.frames_blake3.clone(),
            detailed_for: detailed.asked_about.clone(),
            brief_for: brief_for.to_owned(),
        };
        let about = texts_blake3([detailed.text.as_str()]);
        let (brief, bond, usage) = match (&self.brief, detailed.brief) {
            (Some(prompt), _) => {
                let prompt = self.filled(prompt, Wanted::One, clip, shown.frames_us.len(), &detailed.text);
                let question = Question {
                    key: self.key(&["brief", &prompt]),
                    asked_about: about,
                    prompt,
                    pictures: &[],
                    wanted: Wanted::One,
                    max_tokens: self.meaning.brief_max_tokens,
                };
                let brief = self.answer(question, http, task)?;
                let sum = |a: Usage, b: Usage| Usage {
                    prompt_tokens: a.prompt_tokens.saturating_add(b.prompt_tokens),
                    completion_tokens: a.completion_tokens.saturating_add(b.completion_tokens),
                };
                (brief.text, bond(&brief.asked_about), detailed.usage.zip(brief.usage).map(|(a, b)| sum(a, b)))
            }
            // Both came in one answer, so they cannot be of two.
            (None, Some(brief)) => (brief, bond(&about), detailed.usage),
            (None, None) => return Err(problem("caption_malformed", "the kept answer has no brief caption; empty the cache")),
        };
        Ok(Captions { detailed: detailed.text, brief, model: detailed.model, frames_us: shown.frames_us, bond, usage })
    }

    fn wanted(&self) -> Wanted {
        if self.brief.is_some() { Wanted::One } else { Wanted::Both }
    }

    /// A prompt for a clip of which `frames` frames are shown.
    fn filled(&self, prompt: &Prompt, wanted: Wanted, clip: &Clip, frames: usize, caption: &str) -> String {
        let mut text = prompt.fill(|slot| match slot {
            Slot::FrameCount => frames.to_string(),
            Slot::Title => self.or_missing(clip.title),
            Slot::Description => self.or_missing(clip.description),
            Slot::Transcript => self.or_missing(clip.transcript.as_deref()),
            Slot::Caption => caption.to_owned(),
        });
        text.push_str(self.meaning.response_format.instruction(wanted));
        text
    }

    fn detailed_caption(
        &self,
        clip: &Clip,
        uri: &str,
        span: (i64, i64),
        http: &Http,
        task: &Task,
    ) -> Result<(Shown, Entry), Failure> {
        let look_key = |content: &str| {
            let Look { frames, longest_side_px, jpeg_quality, .. } = self.look;
            let look = format!("{frames} {longest_side_px} {jpeg_quality}");
            texts_blake3(["look", LOOK_VERSION, content, &span.0.to_string(), &span.1.to_string(), &look])
        };
        let question = |shown: &Shown| {
            let prompt = self.filled(&self.detailed, self.wanted(), clip, shown.frames_us.len(), "");
            (self.detailed_key(&["detailed", &shown.frames_blake3, &prompt]), prompt)
        };
        // What is known of the clip's frames spares decoding them, if the answer is there too.
        let known: Option<Shown> = clip.content.and_then(|content| self.kept(&look_key(content)));
        if let Some(shown) = known
            && let Some(entry) = self.cached(&question(&shown).0, task)
        {
            return Ok((shown, usable(entry)?));
        }
        if clip.content.is_some() {
            // What cannot be paid need not be decoded. (Frames of an unknown video may have an answer that is paid for already.)
            let prompt = self.filled(&self.detailed, self.wanted(), clip, self.look.frames, "");
            affordable(&self.service, &Request::of_size(self.estimate(&prompt, self.look.frames, self.meaning.max_tokens)))?;
        }
        let pictures = (self.eyes)(uri, span, &self.look, task).map_err(Failure::Problem)?;
        if pictures.is_empty() {
            return Err(problem("no_frames", &format!("no frame of {uri} lies in [{}, {}) us", span.0, span.1)));
        }
        let shown = Shown::of(clip.content.map(look_key).unwrap_or_default(), &pictures);
        if let Some(cache) = self.cache.as_ref().filter(|_| clip.content.is_some()) {
            cache.put(&shown);
        }
        let (key, prompt) = question(&shown);
        let question = Question {
            key,
            asked_about: shown.frames_blake3.clone(),
            prompt,
            pictures: &pictures,
            wanted: self.wanted(),
            max_tokens: self.meaning.max_tokens,
        };
        Ok((shown, self.answer(question, http, task)?))
    }

    /// The answer to a question, kept or new.
    fn answer(&self, question: Question, http: &Http, task: &Task) -> Result<Entry, Failure> {
        let turns = task.resources.get(Turns::default);
        // Without a cache there is nothing to wait for.
        let turn = self.cache.as_ref().map(|_| turns.take(&question.key.now, task.cancelled));
        if matches!(turn, Some(None)) {
            return Err(stopped());
        }
        if let Some(entry) = self.cached(&question.key, task) {
            return usable(entry);
        }
        if self.cache.is_some() {
            metrics::counter!(CACHE_LOOKUPS, "step" => task.step.to_owned(), "outcome" => "miss").increment(1);
        }
        // What pictures cost is known only when one question was answered; until then a budget could be exceeded by as many as are asked at once.
        let alone = self.service.purse.is_some() && !question.pictures.is_empty();
        let first = if alone { Some(self.seen.first(task.cancelled).ok_or_else(stopped)?) } else { None };
        let (request, format) = (self.request(&question), self.meaning.response_format);
        let asked = call(http, &self.service, &request, task.cancelled, |reply| {
            let Judged { outcome, usage } = judge(reply);
            if let Some(usage) = usage.filter(|_| !question.pictures.is_empty()) {
                self.seen.took(usage.prompt_tokens);
            }
            let outcome = outcome.and_then(|answer| match format.texts(question.wanted, &answer.text) {
                Ok(texts) => Outcome::Answered((answer, texts)),
                Err(problem) => Outcome::Unusable(problem),
            });
            Judged { outcome, usage }
        });
        if let Some(first) = first {
            first.is_over(asked.is_ok());
        }
        let kept = match asked {
            Ok((answer, texts)) => Ok(self.entry(question, answer, texts)),
            Err(Failure::Problem(p)) if ["caption_refused", "caption_truncated"].contains(&&*p.code) => Err(Entry {
                key: question.key.now,
                asked_about: question.asked_about,
                problem: Some(p),
                text: String::new(),
                brief: None,
                model: self.meaning.model.clone(),
                usage: None,
            }),
            Err(failure) => return Err(failure),
        };
        if let Some(cache) = &self.cache {
            cache.put(kept.as_ref().unwrap_or_else(|refused| refused));
        }
        kept.or_else(usable)
    }

    fn entry(&self, question: Question, answer: Answer, texts: Texts) -> Entry {
        let model = if answer.model.is_empty() { self.meaning.model.clone() } else { answer.model };
        let Question { key, asked_about, .. } = question;
        Entry { key: key.now, asked_about, problem: None, text: texts.caption, brief: texts.brief, model, usage: answer.usage }
    }

    fn request(&self, question: &Question) -> Request {
        let body = Body {
            model: &self.meaning.model,
            prompt: &question.prompt,
            pictures: question.pictures,
            image_detail: &self.meaning.image_detail,
            token_limit: (&self.meaning.token_limit_field, question.max_tokens),
            temperature: self.meaning.temperature,
            response_format: self.meaning.response_format.parameter(question.wanted),
        };
        Request {
            content_type: "application/json".into(),
            body: body.bytes().into(),
            id: question.key.now.clone(),
            estimate: self.estimate(&question.prompt, question.pictures.len(), question.max_tokens),
            fee_nano_usd: 0,
        }
    }

    fn estimate(&self, prompt: &str, pictures: usize, max_tokens: u32) -> Usage {
        let guess = prompt.len() as u64 / BYTES_PER_TOKEN + pictures as u64 * self.tokens_per_image;
        let prompt_tokens = if pictures == 0 { guess } else { self.seen.at_least(guess) };
        Usage { prompt_tokens, completion_tokens: u64::from(max_tokens) }
    }

    fn kept<T: Keyed>(&self, key: &str) -> Option<T> {
        self.cache.as_ref()?.get(key)
    }

    fn cached(&self, key: &Key, task: &Task) -> Option<Entry> {
        let entry: Option<Entry> = self.kept(&key.now).or_else(|| self.kept(key.before.as_ref()?));
        let entry = entry.filter(|entry| !(self.retry_refused && entry.problem.is_some()));
        if entry.is_some() {
            metrics::counter!(CACHE_LOOKUPS, "step" => task.step.to_owned(), "outcome" => "hit").increment(1);
        }
        entry
    }

    /// A hash of what was asked, and of whom: two services may give one name to different models.
    fn key(&self, parts: &[&str]) -> Key {
        self.key_of(&self.meaning, parts)
    }

    /// As `key`, for the detailed caption: what concerns the brief one alone is left out, or a word of its prompt would send all pictures again.
    fn detailed_key(&self, parts: &[&str]) -> Key {
        match self.brief {
            None => self.key(parts),
            Some(_) => self.key_of(&Meaning { brief_prompt: String::new(), brief_max_tokens: 0, ..self.meaning.clone() }, parts),
        }
    }

    fn key_of(&self, meaning: &Meaning, parts: &[&str]) -> Key {
        let hash = meaning.blake3();
        let of = |who: &str| texts_blake3([hash.as_str(), who].into_iter().chain(parts.iter().copied()));
        let address = self.service.url.as_str();
        Key { now: of(&self.identity), before: (address != self.identity).then(|| of(address)) }
    }

    fn or_missing(&self, text: Option<&str>) -> String {
        text.filter(|t| !t.trim().is_empty()).unwrap_or(&self.meaning.missing_text).to_owned()
    }
}

/// An entry with a caption in it, or the problem that it keeps.
fn usable(entry: Entry) -> Result<Entry, Failure> {
    match entry.problem {
        Some(problem) => Err(Failure::Problem(problem)),
        None => Ok(entry),
    }
}

fn stopped() -> Failure {
    problem("cancelled", "the run is being stopped")
}

fn problem(code: &'static str, message: &str) -> Failure {
    Failure::Problem(Problem::new(code, message))
}
