//! What is known about each video: one JSON line a file, and frame labels. Tests compare pipelines with it, row by row.

use serde::{Deserialize, Serialize};

use crate::looks::Look;
use crate::metadata::is_medical_title;
use crate::spec::{Bars, Damage, Format, Transcript, Video};

/// The truth about one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// File name below `videos/`.
    pub video_id: String,
    /// What the file is for.
    pub about: String,
    /// Whether its pictures can be decoded to the end.
    pub readable: bool,
    /// The typed error of a file that cannot be read at all; any of these. Empty for all others.
    pub error_codes: Vec<String>,
    /// The file ends before its header says so.
    pub truncated: bool,
    pub container: String,
    pub video_codec: Option<String>,
    /// As displayed.
    pub width: u32,
    pub height: u32,
    /// Degrees clockwise from stored to displayed.
    pub rotation_degrees: i32,
    /// Frames divided by duration.
    pub fps: f64,
    pub variable_frame_rate: bool,
    pub frames: u64,
    pub duration_us: i64,
    pub has_audio: bool,
    /// `null` when there is no metadata.
    pub medical_title: Option<bool>,
    pub shots: Vec<TrueShot>,
    /// Every frame is the first one.
    pub still: bool,
    /// Out of focus all the time.
    pub blurred: bool,
    /// Widths of the added black bars.
    pub borders: Borders,
    pub subtitles: Vec<TrueSubtitle>,
    /// Words over all subtitles.
    pub subtitle_words: u32,
    pub transcript: Option<TrueTranscript>,
    /// Presentation time of every frame; only for a variable frame rate.
    pub frame_times_us: Option<Vec<i64>>,
    /// What `pipelines/quickstart.toml` makes of it.
    pub quickstart: Quickstart,
}

/// A stretch of one look, `[start_us, end_us)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueShot {
    pub start_us: i64,
    pub end_us: i64,
    pub kind: Look,
    pub medical: bool,
    /// Words that belong to the picture itself (slides, captions of a news studio).
    pub words: u32,
}

/// Black bars, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borders {
    pub left: u32,
    pub right: u32,
    pub top: u32,
    pub bottom: u32,
}

/// Burnt-in words, shown in `[start_us, end_us)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueSubtitle {
    pub start_us: i64,
    pub end_us: i64,
    pub words: u32,
    pub text: String,
}

/// What a cleaner should make of the transcript file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrueTranscript {
    /// `manual` or `automatic`.
    pub kind: String,
    pub language: String,
    pub text: String,
}

/// The end of a video in the quickstart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quickstart {
    /// The step that drops it, or `clips`.
    pub ends_at: String,
    pub clips: u32,
}

/// The truth about a video of the corpus.
pub fn truth(video: &Video, seed: u64) -> Truth {
    let times = video.frame_times_ns(seed);
    let pictures = !matches!(video.damage, Damage::Empty | Damage::Text | Damage::AudioOnly);
    let (container, codec) = match video.format {
        Format::Mp4 | Format::Mp4IndexFirst => ("mp4", "h264"),
        Format::Mkv => ("matroska", "h264"),
        Format::WebmVp8 => ("webm", "vp8"),
        Format::WebmVp9 => ("webm", "vp9"),
    };
    let codes: &[&str] = match video.damage {
        Damage::None => &[],
        Damage::Truncated(_) if video.format == Format::Mp4IndexFirst => &[],
        Damage::Truncated(_) => &["no_index"],
        Damage::Empty => &["empty_file"],
        Damage::Text => &["not_a_video"],
        Damage::AudioOnly => &["no_video_stream"],
    };
    let Bars { left, right, top, bottom } = video.bars;
    let words = |line: &str| line.split_whitespace().count() as u32;
    Truth {
        video_id: video.file.to_owned(),
        about: video.about.to_owned(),
        readable: video.damage == Damage::None,
        error_codes: codes.iter().map(|c| (*c).to_owned()).collect(),
        truncated: matches!(video.damage, Damage::Truncated(_)),
        container: container.to_owned(),
        video_codec: pictures.then(|| codec.to_owned()),
        width: video.size.0,
        height: video.size.1,
        rotation_degrees: if video.rotated { 90 } else { 0 },
        fps: times.len() as f64 * 1e6 / video.duration_us as f64,
        variable_frame_rate: video.variable,
        frames: if pictures { times.len() as u64 } else { 0 },
        duration_us: video.duration_us,
        has_audio: video.audio || video.damage == Damage::AudioOnly,
        medical_title: video.meta.as_ref().map(is_medical_title),
        shots: if pictures { shots(video) } else { Vec::new() },
        still: video.still,
        blurred: video.blur_px > 0,
        borders: Borders { left, right, top, bottom },
        subtitles: video
            .subtitles
            .iter()
            .map(|s| TrueSubtitle { start_us: s.start_us, end_us: s.end_us, words: words(s.line), text: s.line.to_owned() })
            .collect(),
        subtitle_words: video.subtitles.iter().map(|s| words(s.line)).sum(),
        transcript: video.transcript_text().map(|text| TrueTranscript {
            kind: if matches!(video.transcript, Transcript::Manual(_)) { "manual" } else { "automatic" }.to_owned(),
            language: "en".to_owned(),
            text,
        }),
        frame_times_us: video.variable.then(|| times.iter().map(|t| (t / 1_000) as i64).collect()),
        quickstart: Quickstart { ends_at: video.quickstart.0.to_owned(), clips: video.quickstart.1 },
    }
}

fn shots(video: &Video) -> Vec<TrueShot> {
    let ends = video.shots.iter().skip(1).map(|s| s.start_us).chain([video.duration_us]);
    video
        .shots
        .iter()
        .zip(ends)
        .map(|(s, end_us)| TrueShot {
            start_us: s.start_us,
            end_us,
            kind: s.look,
            medical: s.look.is_medical(),
            words: s.look.words(),
        })
        .collect()
}

/// Label lines of a video, one a second: `video_id,time_us,label`. The frame of second `t` is the first one that does not come earlier than half a
/// frame period before `t`; its own time is written.
pub fn label_lines(video: &Video, seed: u64) -> String {
    let times = video.frame_times_ns(seed);
    let half = video.duration_us * 500 / times.len().max(1) as i64;
    let mut out = String::new();
    for second in 0.. {
        let target = second * 1_000_000_000 - half;
        let Some(&ns) = times.iter().find(|&&t| t as i64 >= target) else { break };
        let Some((_, shot)) = video.shot_at(ns as i64 / 1_000 + 1) else { break };
        let label = if shot.look.is_medical() { "medical" } else { "non_medical" };
        out += &format!("{},{},{label}\n", csv_field(video.file), ns / 1_000);
    }
    out
}

/// The first line of a label file.
pub const LABEL_HEADER: &str = "video_id,time_us,label\n";

fn csv_field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
