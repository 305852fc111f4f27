//! What can be rated: the scale with its keys, the tags, the dimensions.
//!
//! The paper audits stages by "clean or only slightly noisy", has warping errors rated in four levels of which two are acceptable, and doctors vote for one of two
//! videos or for neither, in three dimensions. The other words are our choice.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What raters are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Is this clip clean? Kept and dropped ones.
    Audit,
    /// Which class is this?
    Label,
    /// Is the caption true?
    Caption,
    /// How badly does the picture warp?
    Warping,
    /// Which of two videos is better?
    Pairwise,
}

/// All modes.
pub const MODES: [Mode; 5] = [Mode::Audit, Mode::Label, Mode::Caption, Mode::Warping, Mode::Pairwise];

impl Mode {
    /// As on the command line and in the table.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Audit => "audit",
            Mode::Label => "label",
            Mode::Caption => "caption",
            Mode::Warping => "warping",
            Mode::Pairwise => "pairwise",
        }
    }

    /// The labels from best to worst; of [`Mode::Label`] the classes are asked for.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Mode::Audit => &["clean", "slightly_noisy", "noisy"],
            Mode::Label => &[],
            Mode::Caption => &["correct", "minor_error", "wrong"],
            Mode::Warping => &["none", "minor", "moderate", "severe"],
            Mode::Pairwise => &["win", "both_loss", "loss"],
        }
    }

    /// The labels that are good enough.
    pub fn acceptable(self) -> &'static [&'static str] {
        match self {
            Mode::Audit | Mode::Caption | Mode::Warping => &self.labels()[..2],
            Mode::Label | Mode::Pairwise => &[],
        }
    }

    /// What may be said besides.
    pub fn tags(self) -> &'static [&'static str] {
        match self {
            Mode::Audit => &[
                "border",
                "text",
                "watermark",
                "blur",
                "compression",
                "freeze",
                "shake",
                "cut_inside",
                "talking_head",
                "off_topic",
            ],
            Mode::Caption => &["invented", "missing", "wrong_anatomy", "wrong_action", "wrong_order", "language"],
            Mode::Warping => &["hands", "instruments", "anatomy", "faces", "text", "background", "flicker"],
            Mode::Label => &["unsure"],
            Mode::Pairwise => &[],
        }
    }

    /// What is voted about, each by itself; empty: the item as a whole.
    pub fn dimensions(self) -> &'static [&'static str] {
        match self {
            Mode::Pairwise => &["text_alignment", "medical_accuracy", "visual_quality"],
            Mode::Audit | Mode::Label | Mode::Caption | Mode::Warping => &[],
        }
    }

    /// What the page asks.
    pub fn question(self) -> &'static str {
        match self {
            Mode::Audit => "How clean is this clip?",
            Mode::Label => "Which class is this?",
            Mode::Caption => "Is the caption true of the clip?",
            Mode::Warping => "How badly do things warp?",
            Mode::Pairwise => "Which video is better?",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let names: Vec<&str> = MODES.iter().map(|mode| mode.name()).collect();
        let found = MODES.into_iter().find(|mode| mode.name() == text);
        found.ok_or_else(|| format!("`{text}` is none of {}", names.join(", ")))
    }
}
