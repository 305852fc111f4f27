//! `prepare`: clips become samples of a spool.
//!
//! What encodes is behind [`Encoder`]: models on ONNX Runtime, or the trainer's own `prepare` command ([`crate::command_encoder`]). The loop here is
//! the same for both: clips that the spool knows are passed over, the others are taken a shard at a time, so a killed run loses at most a shard, and
//! running again does nothing twice. What can go wrong: a clip that cannot be encoded is refused and recorded; more than the limit of them ends it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::disk::{Result, TrainerError};
use crate::rules::{self, ClipFacts};
use crate::spool::{Header, REFUSED, Refusal, Sample, SpoolWriter};

/// From so many clips on, the share of refused ones is looked at after each shard, and not only at the end.
const EARLY_LOOK: u64 = 200;

/// A clip to encode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// Names it for ever.
    pub id: String,
    /// The mp4.
    pub path: PathBuf,
    /// What it shows.
    pub caption: String,
    /// What the table says of it.
    pub facts: ClipFacts,
}

/// What becomes of a clip.
pub type Encoded = std::result::Result<Sample, Refusal>;

/// Makes samples of clips.
pub trait Encoder {
    /// What decides its output: names and hashes of models. Enters the spool's header.
    fn identity(&self) -> String;
    /// An answer for each clip, in order. An error is no clip's fault and ends the run.
    fn encode(&mut self, clips: &[Clip], cancel: &AtomicBool) -> Result<Vec<Encoded>>;
}

/// The limits of a `prepare`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PrepareLimits {
    /// Samples of a shard.
    pub samples_per_shard: usize,
    /// Refused clips, as a share of all.
    pub max_bad_fraction: f64,
    /// Bytes of the spool.
    pub max_bytes: u64,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Clips in the spool.
    pub samples: u64,
    /// Of these, encoded by this run.
    pub encoded: u64,
    /// Clips that were refused, by this run and others.
    pub refused: u64,
    /// It was stopped before its end.
    pub cancelled: bool,
}

/// Encodes what is new and seals the spool. Clips that break a rule of the model are refused without being encoded.
pub fn prepare(
    clips: impl Iterator<Item = Result<Clip>>,
    encoder: &mut dyn Encoder,
    folder: &Path,
    header: &Header,
    limits: &PrepareLimits,
    cancel: &AtomicBool,
) -> Result<Prepared> {
    let mut work =
        Work { writer: SpoolWriter::open(folder, header)?, header, limits, waiting: Vec::new(), encoded: 0, seen: 0, bad: 0 };
    let before = work.writer.is_sealed();
    let mut cancelled = false;
    for clip in clips {
        if cancel.load(Ordering::Relaxed) {
            cancelled = true;
            break;
        }
        work.take(clip?, encoder, cancel)?;
    }
    if !cancelled {
        cancelled = !work.flush(encoder, cancel)?;
    }
    if !cancelled {
        work.check_refused()?;
        if !before {
            work.writer.seal()?;
        }
    }
    let (samples, refused) = (work.writer.samples(), work.writer.refused().len() as u64);
    Ok(Prepared { samples, encoded: work.encoded, refused, cancelled })
}

struct Work<'a> {
    writer: SpoolWriter,
    header: &'a Header,
    limits: &'a PrepareLimits,
    waiting: Vec<Clip>,
    encoded: u64,
    /// Clips of the table that have come by, and how many of these are refused: by this run or by one before.
    seen: u64,
    bad: u64,
}

impl Work<'_> {
    fn take(&mut self, clip: Clip, encoder: &mut dyn Encoder, cancel: &AtomicBool) -> Result<()> {
        self.seen += 1;
        if self.writer.knows(&clip.id) {
            self.bad += u64::from(self.writer.refused().contains_key(&clip.id));
            return Ok(());
        }
        if self.waiting.iter().any(|w| w.id == clip.id) {
            return Err(TrainerError(format!("two clips of the table are called `{}`; ids must be distinct", clip.id)));
        }
        if self.writer.is_sealed() {
            return Err(TrainerError(format!(
                "the spool is sealed and does not know clip `{}`: the table has changed; name another folder for the spool, or remove it",
                clip.id
            )));
        }
        if let Err((code, message)) = rules::check(self.header.architecture, &self.header.shape, &clip.facts, &clip.caption) {
            return self.refuse(vec![Refusal { id: clip.id, code: code.into(), message }]);
        }
        self.waiting.push(clip);
        if self.waiting.len() >= self.limits.samples_per_shard {
            self.flush(encoder, cancel)?;
        }
        Ok(())
    }

    fn refuse(&mut self, refusals: Vec<Refusal>) -> Result<()> {
        self.bad += refusals.len() as u64;
        self.writer.refuse(refusals)
    }

    /// Encodes what waits. False if it was stopped meanwhile: what came of it is thrown away.
    fn flush(&mut self, encoder: &mut dyn Encoder, cancel: &AtomicBool) -> Result<bool> {
        // Also without clips: those of the last shard may have been thrown away just now, so this is not the end.
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let clips = std::mem::take(&mut self.waiting);
        if clips.is_empty() {
            return Ok(true);
        }
        let answers = encoder.encode(&clips, cancel);
        if cancel.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let answers = answers?;
        if answers.len() != clips.len() {
            return Err(TrainerError(format!("the encoder gave {} answers for {} clips", answers.len(), clips.len())));
        }
        let (mut samples, mut refusals) = (Vec::new(), Vec::new());
        for (clip, answer) in clips.iter().zip(answers) {
            match answer.and_then(|sample| self.fits(clip, sample)) {
                Ok(sample) => samples.push(sample),
                Err(refusal) => refusals.push(refusal),
            }
        }
        self.encoded += samples.len() as u64;
        self.writer.add(&samples)?;
        self.refuse(refusals)?;
        if self.writer.bytes() > self.limits.max_bytes {
            let (has, most) = (self.writer.bytes(), self.limits.max_bytes);
            return Err(TrainerError(format!(
                "the spool has {has} bytes, more than spool_max_gb allows ({most}); raise it or take fewer clips"
            )));
        }
        if self.seen >= EARLY_LOOK {
            self.check_refused()?;
        }
        Ok(true)
    }

    /// What comes out of an encoder must be what the model will ask for; NaN in a latent would end the training much later.
    fn fits(&self, clip: &Clip, sample: Sample) -> Encoded {
        let refuse = |code: &str, message: String| Err(Refusal { id: clip.id.clone(), code: code.into(), message });
        if sample.info.id != clip.id {
            return refuse("encoder_mixed_up", format!("the encoder answered with clip `{}`", sample.info.id));
        }
        let (sizes, shape) = (self.header.architecture.sizes(), self.header.shape);
        let side = |pixels: u64| (pixels / crate::architecture::PIXELS_PER_LATENT) as usize;
        let frames = self.header.architecture.latent_frames(shape.frames) as usize;
        let wanted = [sizes.channels as usize, frames, side(shape.height), side(shape.width)];
        let Some(latent) = sample.tensors.get("latent") else { return refuse("no_latent", "the encoder gave no latent".into()) };
        if latent.shape != wanted {
            return refuse("latent_shape", format!("the latent is {:?}, {wanted:?} is needed", latent.shape));
        }
        for name in ["embed", "mask"] {
            if !sample.tensors.contains_key(name) {
                return refuse("no_embedding", format!("the encoder gave no `{name}`"));
            }
        }
        for (name, tensor) in &sample.tensors {
            if !rules::is_finite(tensor.dtype, &tensor.bytes) {
                return refuse("not_finite", format!("`{name}` holds NaN or infinity"));
            }
        }
        Ok(sample)
    }

    fn check_refused(&self) -> Result<()> {
        let (bad, all, share) = (self.bad, self.seen, self.limits.max_bad_fraction);
        if bad as f64 <= share * all as f64 {
            return Ok(());
        }
        let last = self.writer.refused().values().next_back();
        let why = last.map(|r| format!("; `{}`: {}: {}", r.id, r.code, r.message)).unwrap_or_default();
        Err(TrainerError(format!(
            "{bad} of {all} clips were refused, more than max_bad_fraction = {share} allows (they are in {REFUSED}; remove it to try them again){why}"
        )))
    }
}

#[cfg(test)]
#[path = "prepare_tests.rs"]
mod tests;
