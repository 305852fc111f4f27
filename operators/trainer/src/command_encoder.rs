//! An [`Encoder`] that is the trainer's own `prepare` command.
//!
//! The command is given a request file, writes one file of tensors in the form of a shard and says `refused` for clips that it cannot encode; it is
//! watched like a training: silence, garbage and requests to stop have the same limits. What can go wrong: it crashes; it is started again a few
//! times, then the run ends. A clip that is neither in the file nor refused counts as refused.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attempt;
use crate::disk::{self, Result, TrainerError};
use crate::event::Body;
use crate::job::{JOB_VERSION, Model, Shape, pretty};
use crate::outcome::{Verdict, judge};
use crate::prepare::{Clip, Encoded, Encoder};
use crate::ranks::Start;
use crate::spool::{Refusal, read_shard};
use crate::supervise::Conduct;
use crate::watch::Patience;

/// What the command reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// See [`JOB_VERSION`].
    pub version: u32,
    /// Whose encoders.
    pub model: Model,
    /// Size of the clips.
    pub shape: Shape,
    /// The clips.
    pub clips: Vec<Clip>,
    /// Where the tensors go.
    pub out: PathBuf,
    /// Keys that only the trainer knows.
    #[serde(default)]
    pub trainer: Map<String, Value>,
}

/// Runs the command.
#[derive(Debug)]
pub struct CommandEncoder {
    /// How it is run.
    pub conduct: Conduct,
    /// Whose encoders.
    pub model: Model,
    /// Size of the clips.
    pub shape: Shape,
    /// Folder for requests, answers and logs.
    pub folder: PathBuf,
    /// Keys that only the trainer knows.
    pub trainer: Map<String, Value>,
}

impl Encoder for CommandEncoder {
    fn identity(&self) -> String {
        format!("{} of {}@{}", self.conduct.command.join(" "), self.model.weights, self.model.revision)
    }

    fn encode(&mut self, clips: &[Clip], cancel: &AtomicBool) -> Result<Vec<Encoded>> {
        disk::make_folder(&self.folder)?;
        let (request, out) = (self.folder.join("request.json"), self.folder.join("answer.safetensors"));
        let content = PrepareRequest {
            version: JOB_VERSION,
            model: self.model.clone(),
            shape: self.shape,
            clips: clips.to_vec(),
            out: out.clone(),
            trainer: self.trainer.clone(),
        };
        disk::write_whole(&request, &pretty(&content)?)?;
        let mut why = String::new();
        for _ in 0..=self.conduct.max_restarts {
            // An answer of before must not pass for one of now.
            if out.exists() {
                std::fs::remove_file(&out).map_err(|e| TrainerError::at("remove", &out, e))?;
            }
            let mut refused = BTreeMap::new();
            let arguments = ["prepare".to_owned(), "--request".to_owned(), request.display().to_string()];
            let start = Start {
                command: self.conduct.command.iter().cloned().chain(arguments).collect(),
                env: Vec::new(),
                ranks: 1,
                dir: self.folder.clone(),
                logs: self.folder.join("logs"),
                log_max_bytes: self.conduct.log_max_bytes,
                log_files: self.conduct.log_files,
            };
            let done = attempt::run(&start, Patience::from(&self.conduct), cancel, &mut |event| {
                if let Body::Refused { sample, code, message } = &event.body {
                    let refusal = Refusal { id: sample.clone(), code: code.clone(), message: message.clone() };
                    refused.insert(sample.clone(), refusal);
                }
            })
            .map_err(|e| TrainerError(format!("cannot run `{}`: {e}", start.command.join(" "))))?;
            if cancel.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            match judge(&done.ending) {
                Verdict::Finished => return answers(clips, &out, refused),
                Verdict::Hopeless(text) => return Err(TrainerError(text)),
                verdict => {
                    why = format!("{verdict:?}");
                    tracing::warn!("The trainer's `prepare` is started again: {why}");
                }
            }
        }
        Err(TrainerError(format!(
            "the trainer's `prepare` failed {} times for the same clips: {why}; its logs are in {}",
            self.conduct.max_restarts + 1,
            self.folder.join("logs").display()
        )))
    }
}

fn answers(clips: &[Clip], out: &std::path::Path, mut refused: BTreeMap<String, Refusal>) -> Result<Vec<Encoded>> {
    let samples =
        if out.exists() { read_shard(&disk::read(out)?).map_err(|e| TrainerError::at("read", out, e))? } else { vec![] };
    let mut samples: BTreeMap<String, _> = samples.into_iter().map(|s| (s.info.id.clone(), s)).collect();
    let answer = |clip: &Clip| match (samples.remove(&clip.id), refused.remove(&clip.id)) {
        (_, Some(refusal)) => Err(refusal),
        (Some(sample), None) => Ok(sample),
        (None, None) => {
            let message = "the trainer's `prepare` neither encoded nor refused it".to_owned();
            Err(Refusal { id: clip.id.clone(), code: "no_answer".into(), message })
        }
    };
    Ok(clips.iter().map(answer).collect())
}
