//! The files beside a video as yt-dlp leaves them: `.info.json`, `.en.vtt`, `.en.srt`.

use serde_json::{Map, Value, json};

use crate::rng::Rng;
use crate::spec::{Meta, Transcript, Video};

/// Display name, channel id, handle.
pub const CHANNELS: [(&str, &str, &str); 5] = [
    ("Bedside Imaging", "UCsample0Imaging000000aa", "@bedsideimaging"),
    ("Slide Room Pathology", "UCsample1Pathology0000bb", "@slideroom"),
    ("Open Theatre Surgery", "UCsample2Surgery000000cc", "@opentheatre"),
    ("Clinic Evening School", "UCsample3Clinic0000000dd", "@cliniceveningschool"),
    ("Weekend Wanderers", "UCsample4Wanderers0000ee", "@weekendwanderers"),
];

/// The `.info.json` of a video; `None` when it has none. `size` is as displayed.
pub fn info_json(video: &Video, seed: u64) -> Option<Value> {
    let meta = video.meta.as_ref()?;
    let (channel, channel_id, handle) = CHANNELS[meta.channel % CHANNELS.len()];
    let url = format!("https://www.youtube.com/watch?v={}", meta.id);
    let mut info = Map::new();
    let mut put = |key: &str, value: Value| info.insert(key.to_owned(), value);
    put("id", json!(meta.id));
    put("title", json!(meta.title));
    put("webpage_url", json!(url));
    put("extractor", json!("youtube"));
    put("channel_id", json!(channel_id));
    put("duration", json!((video.duration_us + 500_000) / 1_000_000));
    if !meta.full {
        // As an older yt-dlp wrote it: nulls instead of missing keys.
        put("description", Value::Null);
        put("license", Value::Null);
        put("tags", Value::Null);
        return Some(Value::Object(info));
    }
    let mut rng = Rng::new(seed, &[0x1F0]);
    let views = 1_000 + rng.below(900_000);
    put("description", json!(meta.description));
    put("channel", json!(channel));
    put("channel_url", json!(format!("https://www.youtube.com/channel/{channel_id}")));
    put("channel_follower_count", json!(500 + rng.below(200_000)));
    put("uploader", json!(channel));
    put("uploader_id", json!(handle));
    put("upload_date", json!(meta.upload_date));
    put("view_count", json!(views));
    put("like_count", json!(views / 40));
    put("comment_count", json!(views / 900));
    put("age_limit", json!(0));
    put("tags", json!(meta.tags));
    put("categories", json!([if meta.channel == 4 { "Travel & Events" } else { "Education" }]));
    put("live_status", json!("not_live"));
    put("availability", json!("public"));
    put("language", json!("en"));
    if meta.channel % 2 == 0 {
        put("license", json!("Creative Commons Attribution license (reuse allowed)"));
    }
    put("width", json!(video.size.0));
    put("height", json!(video.size.1));
    put("fps", json!(video.fps));
    let track = |extension: &str| json!({"en": [{"ext": extension, "url": format!("https://www.youtube.com/api/timedtext?v={}", meta.id)}]});
    let empty = || json!({});
    let (manual, automatic) = match video.transcript {
        Transcript::None => (empty(), empty()),
        Transcript::Automatic(_) => (empty(), track("vtt")),
        Transcript::Manual(_) => (track("srt"), empty()),
    };
    put("subtitles", manual);
    put("automatic_captions", automatic);
    Some(Value::Object(info))
}

/// The file name of the metadata: the video's stem and `.info.json`.
pub fn info_name(video: &Video) -> String {
    format!("{}.info.json", stem(video.file))
}

/// File name and text of the transcript, if there is one.
pub fn transcript_file(video: &Video) -> Option<(String, String)> {
    match video.transcript {
        Transcript::None => None,
        Transcript::Automatic(lines) => Some((format!("{}.en.vtt", stem(video.file)), rolling_vtt(lines, video.duration_us))),
        Transcript::Manual(lines) => Some((format!("{}.en.srt", stem(video.file)), srt(lines, video.duration_us))),
    }
}

/// True when the title, description or tags speak of medicine: by the corpus's own knowledge, not by a dictionary.
pub fn is_medical_title(meta: &Meta) -> bool {
    meta.channel != 4
}

fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Start and end of each line: evenly spread, silence at both ends.
fn spans(count: usize, duration_us: i64) -> impl Iterator<Item = (i64, i64)> {
    let room = duration_us - 1_000_000;
    let each = room / count.max(1) as i64;
    (0..count as i64).map(move |i| (400_000 + i * each, 400_000 + (i + 1) * each))
}

fn clock(us: i64, fraction: char) -> String {
    let ms = us / 1_000;
    format!("{:02}:{:02}:{:02}{fraction}{:03}", ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000)
}

/// YouTube's automatic captions: a line comes word by word under the line before it, stands alone for 10 ms, then rolls up over the next one.
fn rolling_vtt(lines: &[&str], duration_us: i64) -> String {
    let mut out = String::from("WEBVTT\nKind: captions\nLanguage: en\n\n");
    let cue = |start: i64, end: i64| format!("{} --> {} align:start position:0%\n", clock(start, '.'), clock(end, '.'));
    let mut before = " ";
    for (line, (start, end)) in lines.iter().zip(spans(lines.len(), duration_us)) {
        let words: Vec<&str> = line.split(' ').collect();
        let each = (end - 10_000 - start) / words.len().max(1) as i64;
        let mut timed = words.first().copied().unwrap_or_default().to_owned();
        for (i, word) in words.iter().enumerate().skip(1) {
            timed += &format!("<{}><c> {word}</c>", clock(start + i as i64 * each, '.'));
        }
        out += &format!("{}{before}\n{timed}\n\n", cue(start, end - 10_000));
        out += &format!("{}{line}\n \n\n", cue(end - 10_000, end));
        before = line;
    }
    out
}

fn srt(lines: &[&str], duration_us: i64) -> String {
    let cue = |(i, (line, (start, end))): (usize, (&&str, (i64, i64)))| {
        format!("{}\n{} --> {}\n{line}\n\n", i + 1, clock(start, ','), clock(end - 100_000, ','))
    };
    lines.iter().zip(spans(lines.len(), duration_us)).enumerate().map(cue).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_written_three_times_but_the_last_one_twice() {
        let vtt = rolling_vtt(&["good morning everyone", "let us begin"], 6_000_000);
        assert!(vtt.contains("good<00:00:01.230><c> morning</c>"), "{vtt}");
        assert_eq!(vtt.matches("good morning everyone\n").count(), 2);
        assert_eq!(vtt.matches("let us begin\n").count(), 1);
        assert_eq!(vtt.matches(" --> ").count(), 4);
    }

    #[test]
    fn clocks_roll_over() {
        assert_eq!(clock(3_661_234_567, ','), "01:01:01,234");
    }
}
