//! Which files next to a video belong to it, and which of its transcripts to take.
//!
//! yt-dlp names them by the video's stem: `X [id].mp4`, `X [id].info.json`, `X [id].en.vtt`. Manual and automatic captions share one pattern;
//! the info file tells them apart, failing that the name (`en-orig` is automatic), failing that the content (only automatic captions time
//! single words).

use std::collections::BTreeMap;

use super::files::{FileError, FileStat};
use super::info_json::Info;

/// Endings of files that only accompany a video: never inputs themselves unless `extensions` says so.
pub const SIDECAR_ENDINGS: &[&str] = &[".info.json", ".vtt", ".srt", ".description", ".part", ".ytdl"];

/// What a sidecar is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `<stem>.info.json`
    Info,
    /// `<stem>.vtt`, `<stem>.<language>.srt` ...
    Transcript {
        /// As named; `None` for `<stem>.vtt`.
        language: Option<String>,
        /// WebVTT rather than SRT: it can hold word times.
        vtt: bool,
    },
}

/// Whether people or a machine wrote a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// By people.
    Manual,
    /// Not known before reading it.
    Unknown,
    /// By speech recognition.
    Automatic,
}

/// The name without its extension: `a/b.c.mp4` gives `a/b.c`.
pub fn stem(key: &str) -> &str {
    let name_at = key.rfind('/').map_or(0, |i| i + 1);
    match key[name_at..].rfind('.') {
        Some(dot) if dot > 0 => &key[..name_at + dot],
        _ => key,
    }
}

/// What a file named `<stem>.<ending>` is to the video with that stem, if anything.
pub fn role(ending: &str) -> Option<Role> {
    if ending == "info.json" {
        return Some(Role::Info);
    }
    let (language, extension) = match ending.split_once('.') {
        Some((language, extension)) => (Some(language), extension),
        None => (None, ending),
    };
    let vtt = match extension {
        "vtt" => true,
        "srt" => false,
        _ => return None,
    };
    if !language.is_none_or(is_language) {
        return None;
    }
    Some(Role::Transcript { language: language.map(str::to_string), vtt })
}

/// Longest language tag: what RFC 5646 asks readers to have room for.
const MAX_LANGUAGE_BYTES: usize = 35;

/// Shaped as a language tag of BCP 47: two or three letters, then perhaps parts after `-` or `_` (`en`, `pt-BR`, `zh-Hans`, `es-419`; yt-dlp's `en-orig`,
/// and `en-eEY6OEpapPo` for captions that have a name). `talk.01.srt` and `talk.part1.srt` are of something else than `talk.mp4`.
pub fn is_language(tag: &str) -> bool {
    let (primary, rest) = match tag.find(['-', '_']) {
        Some(at) => (&tag[..at], Some(&tag[at + 1..])),
        None => (tag, None),
    };
    let parts = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    matches!(primary.len(), 2 | 3)
        && primary.bytes().all(|b| b.is_ascii_alphabetic())
        && tag.len() <= MAX_LANGUAGE_BYTES
        && rest.is_none_or(parts)
}

/// The files of a listing, by name.
pub type Listed = BTreeMap<String, Result<FileStat, FileError>>;

/// The sidecars of a video among the files of a listing: what follows `<stem>.` in their names, with their identity. Those that cannot be looked at
/// are listed too: reading them tells why. `is_video` says which files are videos: `talk.en.srt` lies next to `talk.mp4`, but when there is a
/// `talk.en.mp4` it is that one's.
pub fn find(key: &str, files: &Listed, is_video: &dyn Fn(&str) -> bool) -> BTreeMap<String, String> {
    let first = format!("{}.", stem(key));
    files
        .range(first.clone()..)
        .map_while(|(name, stat)| name.strip_prefix(&first).map(|ending| (name, ending, stat)))
        .filter(|(name, ending, _)| match role(ending) {
            Some(Role::Info) => true,
            Some(Role::Transcript { language: None, .. }) => true,
            Some(Role::Transcript { language: Some(_), .. }) => !has_own_video(name, files, is_video),
            None => false,
        })
        .map(|(_, ending, stat)| {
            (ending.to_string(), stat.as_ref().map_or_else(|e| e.code().to_string(), |s| s.identity.clone()))
        })
        .collect()
}

/// Whether a video has exactly the sidecar's name without its last extension.
fn has_own_video(sidecar: &str, files: &Listed, is_video: &dyn Fn(&str) -> bool) -> bool {
    let own = stem(sidecar);
    let first = format!("{own}.");
    files
        .range(first.clone()..)
        .map(|(name, _)| name)
        .take_while(|n| n.starts_with(&first))
        .any(|n| stem(n) == own && is_video(n))
}

/// Orders transcripts, best first: manual before automatic; then English (`en`, `en-orig`, other `en-*`) before no language before the others by
/// name; then WebVTT before SRT.
pub fn rank(language: Option<&str>, vtt: bool, origin: Origin) -> impl Ord + use<> {
    let group = match language {
        Some("en") => 0,
        Some("en-orig") => 1,
        Some(l) if l.starts_with("en-") || l.starts_with("en_") => 2,
        None => 3,
        Some(_) => 4,
    };
    (origin, group, language.unwrap_or("").to_string(), !vtt)
}

/// What the info file and the name say about who wrote a transcript.
pub fn origin(language: Option<&str>, info: &Info) -> Origin {
    let Some(language) = language else { return Origin::Unknown };
    let listed = |list: &[String]| list.iter().any(|l| l == language);
    if listed(&info.manual_languages) {
        Origin::Manual
    } else if listed(&info.automatic_languages) || language.ends_with("-orig") {
        Origin::Automatic
    } else {
        Origin::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_found_by_stem() {
        let names =
            ["a/x.en.vtt", "a/x.info.json", "a/x.mp4", "a/x.srt", "a/x.y.mp4", "a/x.y.de.vtt", "a/xx.vtt", "a/x.jpg", "x.en.vtt"];
        let stat = FileStat { bytes: 1, identity: "i".into() };
        let files = names.iter().map(|n| (n.to_string(), Ok(stat.clone()))).collect();
        let of = |key: &str| find(key, &files, &|n| n.ends_with(".mp4")).into_keys().collect::<Vec<_>>();
        assert_eq!(of("a/x.mp4"), ["en.vtt", "info.json", "srt"]);
        assert_eq!(of("a/x.y.mp4"), ["de.vtt"]);
        assert_eq!(stem("a.b/noext"), "a.b/noext");
        assert_eq!(stem("a/Title [id].v2.mp4"), "a/Title [id].v2");
    }

    #[test]
    fn a_transcript_is_bound_to_the_video_that_has_its_name() {
        let names = ["talk.01.mp4", "talk.01.srt", "talk.de.srt", "talk.en.mp4", "talk.en.srt", "talk.mp4", "talk.part2.vtt"];
        let stat = FileStat { bytes: 1, identity: "i".into() };
        let files = names.iter().map(|n| (n.to_string(), Ok(stat.clone()))).collect();
        let of = |key: &str| find(key, &files, &|n| n.ends_with(".mp4")).into_keys().collect::<Vec<_>>();
        assert_eq!(of("talk.mp4"), ["de.srt"]);
        assert_eq!(of("talk.01.mp4"), ["srt"]);
        assert_eq!(of("talk.en.mp4"), ["srt"]);
    }

    #[test]
    fn only_what_is_shaped_as_a_language_is_one() {
        for tag in ["en", "en-US", "en-orig", "zh-Hans", "zh-Hant-TW", "pt-BR", "pt_BR", "es-419", "fil", "en-eEY6OEpapPo"] {
            assert!(is_language(tag), "{tag}");
        }
        for tag in [
            "",
            "e",
            "01",
            "v2",
            "2024",
            "part1",
            "final",
            "clip-a",
            "en-",
            "1en",
            "en-ü",
            "é1",
            &format!("en-{}", "x".repeat(40)),
        ] {
            assert!(!is_language(tag), "{tag}");
        }
    }

    #[test]
    fn manual_english_comes_first_and_automatic_last() {
        let info = Info {
            manual_languages: vec!["de".into(), "en".into()],
            automatic_languages: vec!["en-GB".into(), "fr".into()],
            ..Info::default()
        };
        let mut all = vec![Some("fr"), Some("en-orig"), None, Some("de"), Some("en-GB"), Some("en"), Some("pt")];
        all.sort_by_key(|l| rank(*l, true, origin(*l, &info)));
        assert_eq!(all, [Some("en"), Some("de"), None, Some("pt"), Some("en-orig"), Some("en-GB"), Some("fr")]);
        assert!(rank(Some("en"), true, Origin::Manual) < rank(Some("en"), false, Origin::Manual));
    }
}
