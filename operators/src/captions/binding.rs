//! Which caption belongs to which clip, provably.
//!
//! A caption is bound to the frames that the model was shown: their hash is in the question's cache key, in the kept answer, and in the row. When a row
//! is written the hash in the answer is held against the hash of the row's own clip; the brief caption is bound to the detailed one in the same way. The
//! finished columns then get a seal over the row's id and everything that was captioned, which any reader can compute again.
//!
//! What can go wrong: an answer that belongs to other frames is `caption_misbound`, and the row is unmeasured; it is never written.

use curette_engine::verdict::Problem;

use super::pictures::Picture;

/// Hash of frames: of each the time in microseconds (8 bytes, little endian), the length of its JPEG (8 bytes, little endian) and the JPEG.
pub fn frames_blake3(pictures: &[Picture]) -> String {
    let mut hasher = blake3::Hasher::new();
    for picture in pictures {
        hasher.update(&picture.at_us.to_le_bytes());
        hasher.update(&(picture.jpeg.len() as u64).to_le_bytes()).update(&picture.jpeg);
    }
    hasher.finalize().to_hex().to_string()
}

/// Hash of texts, each behind its length in bytes (8 bytes, little endian): the form of every other hash of captions.
pub fn texts_blake3<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// What an answer was asked about, against what it is about to be written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// Hash of the frames of the row's own clip.
    pub frames: String,
    /// Hash of the frames that the detailed caption was asked for.
    pub detailed_for: String,
    /// Hash of the detailed caption that the brief one was made from.
    pub brief_for: String,
}

impl Bond {
    /// The check at write: are these captions those of this clip?
    pub fn check(&self, detailed: &str) -> Result<(), Problem> {
        let misbound = |what: &str, found: &str, wanted: &str| {
            let message = format!(
                "the {what} caption was made for {found} and not for this clip's {wanted}; empty the cache that holds it, and report this"
            );
            Err(Problem::new("caption_misbound", message))
        };
        if self.detailed_for != self.frames {
            return misbound("detailed", &self.detailed_for, &self.frames);
        }
        let detailed = texts_blake3([detailed]);
        if self.brief_for != detailed {
            return misbound("brief", &self.brief_for, &detailed);
        }
        Ok(())
    }
}

/// The seal of a row: [`texts_blake3`] of its id, `caption_frames_blake3`, `caption_prompt_blake3`, `caption_model`, `caption` and `brief_caption`.
pub fn seal(id: &str, [frames, prompt, model, detailed, brief]: [&str; 5]) -> String {
    texts_blake3([id, frames, prompt, model, detailed, brief])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_of_another_clip_are_noticed() {
        let bond = Bond { frames: "f".into(), detailed_for: "f".into(), brief_for: texts_blake3(["A heart."]) };
        assert_eq!(bond.check("A heart."), Ok(()));
        assert_eq!(bond.check("A liver.").unwrap_err().code, "caption_misbound");
        assert_eq!(Bond { frames: "g".into(), ..bond.clone() }.check("A heart.").unwrap_err().code, "caption_misbound");
    }

    #[test]
    fn texts_and_frames_keep_their_borders() {
        assert_ne!(texts_blake3(["ab", "c"]), texts_blake3(["a", "bc"]));
        let picture = |at_us, jpeg: &[u8]| Picture { at_us, jpeg: jpeg.to_vec() };
        assert_ne!(frames_blake3(&[picture(0, b"ab"), picture(1, b"c")]), frames_blake3(&[picture(0, b"a"), picture(1, b"bc")]));
        assert_ne!(frames_blake3(&[picture(0, b"ab")]), frames_blake3(&[picture(1, b"ab")]));
    }
}
