//! Captions without a model: what the metadata says, in sentences that say so.
//!
//! Why: a pipeline can be built, tested and demonstrated without a captioning service, and nobody can mistake the result for one, because the text and
//! `caption_model` both name it. What can go wrong: titles and transcripts are quoted as they are, they may be wrong about the pictures.

use super::clip::Clip;

/// What `caption_model` says of these captions.
pub const MODEL: &str = "curette-template/1";

/// Quoted titles and transcripts are cut to this many characters.
const MAX_QUOTE_CHARS: usize = 300;

/// The detailed and the brief caption.
pub fn captions(clip: &Clip) -> (String, String) {
    let of = match clip.title {
        Some(title) => format!("the video \"{}\"", quote(title)),
        None => "a video without a title".to_owned(),
    };
    let what = match clip.span {
        Some((start, end)) => {
            format!(
                "A clip of {:.1} seconds from {of}, from {} to {}",
                (end as f64 - start as f64) / 1e6,
                clock(start),
                clock(end)
            )
        }
        None => format!("A clip from {of}"),
    };
    let size = clip.size.map(|(w, h)| format!(", {w}x{h} pixels")).unwrap_or_default();
    let said = match clip.transcript.as_deref() {
        Some(text) if !text.trim().is_empty() => format!(" Spoken: \"{}\"", quote(text)),
        Some(_) => " Nothing is spoken in it according to the transcript.".to_owned(),
        None => String::new(),
    };
    let detailed = format!("{what}{size}.{said} Written from metadata alone; no model has seen the frames.");
    let brief = format!("{what}.");
    (detailed, brief)
}

/// One line, cut with an ellipsis.
fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('"', "'");
    match line.char_indices().nth(MAX_QUOTE_CHARS) {
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
        None => line,
    }
}

/// `1:02:03`, or `2:03` below an hour.
fn clock(us: i64) -> String {
    let s = us.max(0) / 1_000_000;
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        h => format!("{h}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_say_what_is_known_and_where_from() {
        let full = Clip {
            title: Some("Cardiac \"echo\"\nbasics"),
            span: Some((3_723_000_000, 3_731_500_000)),
            size: Some((1280, 720)),
            transcript: Some("the left ventricle".into()),
            ..Clip::default()
        };
        let silent = Clip { span: Some((0, 7_000_000)), transcript: Some(String::new()), ..Clip::default() };
        let texts: Vec<String> = [full, silent, Clip::default()].iter().map(captions).flat_map(|(a, b)| [a, b]).collect();
        insta::assert_snapshot!(texts.join("\n"), @r#"
        A clip of 8.5 seconds from the video "Cardiac 'echo' basics", from 1:02:03 to 1:02:11, 1280x720 pixels. Spoken: "the left ventricle" Written from metadata alone; no model has seen the frames.
        A clip of 8.5 seconds from the video "Cardiac 'echo' basics", from 1:02:03 to 1:02:11.
        A clip of 7.0 seconds from a video without a title, from 0:00 to 0:07. Nothing is spoken in it according to the transcript. Written from metadata alone; no model has seen the frames.
        A clip of 7.0 seconds from a video without a title, from 0:00 to 0:07.
        A clip from a video without a title. Written from metadata alone; no model has seen the frames.
        A clip from a video without a title.
        "#);
    }

    #[test]
    fn endless_text_makes_short_captions() {
        let endless = "ä ".repeat(1_000_000);
        let clip = Clip { title: Some(&endless), transcript: Some(endless.clone()), ..Clip::default() };
        assert!(captions(&clip).0.chars().count() < 800);
    }
}
