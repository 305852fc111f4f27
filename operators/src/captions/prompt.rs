//! The captioner's prompts and how their slots are filled.
//!
//! The detailed prompt is the published one of MedGen, word for word (line breaks are ours). Its prompt for the brief caption is not published; ours asks for what the
//! published example looks like. Slots are filled in one pass, so that a title with braces in it stays a title. What can go wrong: a slot that does not exist is
//! an error when the file is read, not braces in a prompt.

use serde::Serialize;

/// The detailed prompt: `{Frame Count}` pictures, then the slots.
pub const DETAILED: &str = "The provided images are sampled from a medical video clip ({Frame Count} evenly spaced frames). This clip is taken from a \
video with the following metadata:\nVideo Title: {Video Title}\nVideo Description: {Video Description}\nThe transcript of this medical clip is as follows: \
{Clip Transcript}\nUsing the visual content of the clip, along with the title, description, and transcript, please generate a clear, detailed, and accurate \
description of what is shown in this clip. Focus on visible scenes, actions, and medical elements, including any procedures, instruments, or clinical \
interactions shown.";

/// The brief prompt: made from the detailed caption alone, without pictures.
pub const BRIEF: &str = "Here is a detailed description of a medical video clip:\n{Detailed Caption}\nRewrite it as one paragraph of at most 75 words that \
starts with \"The video shows\". Keep what is visible: the scene, the action, the medical elements. Add nothing that the description does not say. Answer with \
the paragraph alone.";

/// A slot's text is cut to this many characters, at a character border: no description is worth an unbounded bill.
pub const MAX_SLOT_CHARS: usize = 8_000;

/// A prompt file of more bytes than this is refused.
pub const MAX_PROMPT_BYTES: u64 = 64 << 10;

/// What can stand in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Slot {
    /// `{Frame Count}`
    FrameCount,
    /// `{Video Title}`
    Title,
    /// `{Video Description}`
    Description,
    /// `{Clip Transcript}`
    Transcript,
    /// `{Detailed Caption}`: only in the brief prompt.
    Caption,
}

const SLOTS: [(&str, Slot); 5] = [
    ("{Frame Count}", Slot::FrameCount),
    ("{Video Title}", Slot::Title),
    ("{Video Description}", Slot::Description),
    ("{Clip Transcript}", Slot::Transcript),
    ("{Detailed Caption}", Slot::Caption),
];

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Slot(Slot),
}

/// A prompt with slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    text: String,
    parts: Vec<Part>,
}

impl Prompt {
    /// Parses a prompt. `brief` says which of the two it is: the slots differ.
    pub fn parse(text: &str, brief: bool) -> Result<Prompt, String> {
        if text.trim().is_empty() {
            return Err("the prompt is empty".into());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let slot = SLOTS.iter().find(|(name, _)| rest[at..].starts_with(name));
            let Some((name, slot)) = slot else {
                let shown: String = rest[at..].chars().take(30).collect();
                let known = SLOTS.map(|(name, _)| name).join(", ");
                return Err(format!("the prompt has an unknown slot at `{shown}`; known are {known}"));
            };
            if *slot == Slot::Caption && !brief {
                return Err("the detailed prompt cannot use {Detailed Caption}: it is what the prompt asks for".into());
            }
            parts.push(Part::Text(rest[..at].to_owned()));
            parts.push(Part::Slot(*slot));
            rest = &rest[at + name.len()..];
        }
        parts.push(Part::Text(rest.to_owned()));
        if brief && !parts.contains(&Part::Slot(Slot::Caption)) {
            return Err("the brief prompt must use {Detailed Caption}: it is all that the model is shown".into());
        }
        Ok(Prompt { text: text.to_owned(), parts })
    }

    /// The prompt as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The prompt with its slots filled.
    pub fn fill(&self, value: impl Fn(Slot) -> String) -> String {
        let mut out = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Slot(slot) => out.extend(value(*slot).chars().take(MAX_SLOT_CHARS)),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detailed_prompt_is_the_published_one() {
        let filled = Prompt::parse(DETAILED, false).unwrap().fill(|slot| match slot {
            Slot::FrameCount => "8".into(),
            Slot::Title => "{Video Title}".into(),
            Slot::Description => "{Video Description}".into(),
            Slot::Transcript => "{Clip Transcript}".into(),
            Slot::Caption => unreachable!(),
        });
        insta::assert_snapshot!(filled, @r"
        The provided images are sampled from a medical video clip (8 evenly spaced frames). This clip is taken from a video with the following metadata:
        Video Title: {Video Title}
        Video Description: {Video Description}
        The transcript of this medical clip is as follows: {Clip Transcript}
        Using the visual content of the clip, along with the title, description, and transcript, please generate a clear, detailed, and accurate description of what is shown in this clip. Focus on visible scenes, actions, and medical elements, including any procedures, instruments, or clinical interactions shown.
        ");
        assert!(Prompt::parse(BRIEF, true).is_ok());
    }

    #[test]
    fn braces_in_a_title_stay_a_title() {
        let prompt = Prompt::parse("{Video Title} | {Clip Transcript}", false).unwrap();
        let filled = prompt.fill(|slot| if slot == Slot::Title { "{Clip Transcript}".into() } else { "spoken".into() });
        assert_eq!(filled, "{Clip Transcript} | spoken");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let filled = Prompt::parse("{Video Title}", false).unwrap().fill(|_| "ä".repeat(1_000_000));
        assert_eq!(filled.chars().count(), MAX_SLOT_CHARS);
    }

    #[test]
    fn prompts_that_cannot_work_are_refused() {
        let said = [
            Prompt::parse("  \n", false),
            Prompt::parse("Describe {title}", false),
            Prompt::parse("Shorten {Detailed Caption}", false),
            Prompt::parse("Shorten it", true),
        ]
        .map(|r| r.unwrap_err());
        insta::assert_snapshot!(said.join("\n"), @r"
        the prompt is empty
        the prompt has an unknown slot at `{title}`; known are {Frame Count}, {Video Title}, {Video Description}, {Clip Transcript}, {Detailed Caption}
        the detailed prompt cannot use {Detailed Caption}: it is what the prompt asks for
        the brief prompt must use {Detailed Caption}: it is all that the model is shown
        ");
    }
}
