//! What is kept of captioning: which frames a clip shows, and what was answered about frames.
//!
//! Two records and not one, so that an answer is found by the frames themselves: one video under two names is paid for once. Refusals and cut-off answers are
//! kept too: they were paid for, and would be the same.

use curette_engine::verdict::Problem;
use serde::{Deserialize, Serialize};

use super::binding::frames_blake3;
use super::pictures::Picture;
use crate::remote::cache::Keyed;
use crate::remote::purse::Usage;

/// The frames of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Hash of content, span and how frames are taken.
    pub key: String,
    /// Times of the frames, microseconds.
    pub frames_us: Vec<i64>,
    /// Hash of the frames.
    pub frames_blake3: String,
}

impl Shown {
    /// What these pictures show.
    pub fn of(key: String, pictures: &[Picture]) -> Shown {
        Shown { key, frames_us: pictures.iter().map(|p| p.at_us).collect(), frames_blake3: frames_blake3(pictures) }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Hash of everything that shaped the answer.
    pub key: String,
    /// Hash of what was asked about: frames, or a detailed caption.
    pub asked_about: String,
    /// Why there is no caption, for answers that are final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The caption.
    pub text: String,
    /// The brief caption when both were asked for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<String>,
    /// The model that the service says it used.
    pub model: String,
    /// What the service charged, if it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

impl Keyed for Shown {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Keyed for Entry {
    fn key(&self) -> &str {
        &self.key
    }
}
