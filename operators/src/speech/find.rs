//! Transcripts that somebody wrote already: in the row, or in a file beside the video. And what of them lies in a span.
//!
//! What can go wrong: a file that is there and cannot be read is a problem of the row; one that is not there is not.

use arrow::array::{Array, AsArray, RecordBatch, StructArray};
use arrow::datatypes::Int64Type;
use curette_engine::verdict::Problem;

use crate::sources::files::{FileError, Files};
use crate::text::{self, MAX_TRANSCRIPT_BYTES, TimedText};

/// The items of a row's `transcript` column; `None` when it is null. Items without times or text are passed over.
pub fn in_row(rows: &RecordBatch, row: usize) -> Option<Vec<TimedText>> {
    let list = rows.column_by_name("transcript")?.as_list_opt::<i32>().filter(|list| list.is_valid(row))?;
    let items = list.value(row);
    let items: &StructArray = items.as_struct_opt()?;
    let starts = items.column_by_name("start_us")?.as_primitive_opt::<Int64Type>()?;
    let ends = items.column_by_name("end_us")?.as_primitive_opt::<Int64Type>()?;
    let texts = items.column_by_name("text")?.as_string_opt::<i32>()?;
    let whole = |i: &usize| items.is_valid(*i) && starts.is_valid(*i) && ends.is_valid(*i) && texts.is_valid(*i);
    let item = |i: usize| TimedText { start_us: starts.value(i), end_us: ends.value(i), text: texts.value(i).to_owned() };
    Some((0..items.len()).filter(whole).map(item).filter(|item| item.start_us <= item.end_us).collect())
}

/// A transcript file's items and the language in its name.
pub type Found = (Vec<TimedText>, Option<String>);

/// Reads a transcript file; rolling duplicates are removed.
pub fn read(files: &Files, uri: &str) -> Result<Vec<TimedText>, Problem> {
    let (bytes, _) = files.read(uri, MAX_TRANSCRIPT_BYTES).map_err(|e| Problem::new(e.code(), e.to_string()))?;
    let transcript =
        text::read(&bytes).map_err(|e| Problem::new("bad_transcript", format!("{uri}: {e}. Repair or remove it")))?;
    Ok(transcript.items)
}

/// The first transcript beside a video: for each language `STEM.LANGUAGE.vtt`, `STEM.LANGUAGE.srt`, then `STEM.vtt`, `STEM.srt`.
pub fn beside(files: &Files, video: &str, languages: &[String]) -> Result<Option<Found>, Problem> {
    let stem = stem(video);
    let tagged = languages.iter().map(|language| (format!("{stem}.{language}"), Some(language.clone())));
    for (name, language) in tagged.chain([(stem.to_owned(), None)]) {
        for extension in ["vtt", "srt"] {
            let uri = format!("{name}.{extension}");
            match files.stat(&uri) {
                Ok(_) => return Ok(Some((read(files, &uri)?, language))),
                Err(FileError::Missing { .. } | FileError::NotAFile { .. }) => {}
                Err(e) => return Err(Problem::new(e.code(), e.to_string())),
            }
        }
    }
    Ok(None)
}

/// An address without the last extension of its name.
fn stem(uri: &str) -> &str {
    let name = uri.rfind('/').map_or(0, |slash| slash + 1);
    uri[name..].rfind('.').filter(|dot| *dot > 0).map_or(uri, |dot| &uri[..name + dot])
}

/// The language in the name of a transcript file, such as `en` in `talk.en.vtt`.
pub fn language_of(uri: &str) -> Option<String> {
    let name = uri.rsplit('/').next()?;
    let (before, _) = name.rsplit_once('.')?;
    let (_, tag) = before.rsplit_once('.')?;
    crate::sources::sidecars::is_language(tag).then(|| tag.to_owned())
}

/// Items that only name a sound or a speaker, such as `[Music]`, `(applause)` or `♪`.
pub fn is_sound(text: &str) -> bool {
    let text = text.trim().trim_start_matches(">>").trim();
    let framed = |open: char, close: char| {
        text.strip_prefix(open).and_then(|t| t.strip_suffix(close)).is_some_and(|t| !t.contains([open, close]))
    };
    framed('[', ']') || framed('(', ')') || (!text.is_empty() && text.chars().all(|c| "♪♫ ".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_and_languages_come_from_the_name_alone() {
        assert_eq!(
            ["a.b/talk.mp4", "talk", "s3://b/x.y/talk.v2.mkv", ".hidden"].map(stem),
            ["a.b/talk", "talk", "s3://b/x.y/talk.v2", ".hidden"]
        );
        let of = |uri: &str| language_of(uri);
        assert_eq!(of("/a/talk.en-US.vtt").as_deref(), Some("en-US"));
        assert_eq!((of("/a.en/talk.vtt"), of("talk.part1.srt"), of("")), (None, None, None));
    }

    #[test]
    fn sounds_are_no_speech() {
        for sound in ["[Music]", " (applause) ", "♪ ♪", ">> [Laughter]"] {
            assert!(is_sound(sound), "{sound}");
        }
        for speech in ["", "valve", "[the] aorta [here]", "see (figure 2)", "(a) and (b)"] {
            assert!(!is_sound(speech), "{speech}");
        }
    }
}
