//! What a file is, from its first bytes and its boxes, never from its name.
//!
//! Why before GStreamer: a renamed text file, an mp4 without its index and an empty file must each give their own reason, and a format that
//! nobody asked for should not reach a parser. What can go wrong: an unusual but valid container is refused as `not_a_video`; add it to the list.

use std::io::{Read, SeekFrom};
use std::time::Instant;

use super::input::{Input, ReadSeek};
use super::{MediaContext, MediaError};

/// What the bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ISO media: mp4, mov, 3gp.
    Mp4,
    /// Matroska.
    Matroska,
    /// WebM.
    WebM,
    /// RIFF AVI.
    Avi,
    /// MPEG transport stream.
    MpegTs,
    /// MPEG program stream.
    MpegPs,
    /// Flash video.
    Flv,
    /// Ogg.
    Ogg,
    /// ASF, WMV.
    Asf,
}

impl Kind {
    /// The name in the `container` column.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mp4 => "mp4",
            Kind::Matroska => "matroska",
            Kind::WebM => "webm",
            Kind::Avi => "avi",
            Kind::MpegTs => "mpegts",
            Kind::MpegPs => "mpegps",
            Kind::Flv => "flv",
            Kind::Ogg => "ogg",
            Kind::Asf => "asf",
        }
    }

    /// True when the container has an index by which a seek lands at or before the wanted time, with the same times as without a seek.
    pub(crate) fn seeks_exactly(self) -> bool {
        matches!(self, Kind::Mp4 | Kind::Matroska | Kind::WebM)
    }
}

const HEAD_BYTES: usize = 4096;

/// Names the container, or says why the file is no video.
pub(crate) fn sniff(input: &Input, deadline: Instant, context: &MediaContext) -> Result<Kind, MediaError> {
    let shown = input.display();
    let (mut bytes, length) = input.open(deadline, context)?;
    let unreadable = |e: std::io::Error| input.unreadable(e);
    let mut head = Vec::with_capacity(HEAD_BYTES);
    bytes.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
    let kind = match classify(&head) {
        Found::Video(kind) => kind,
        Found::Audio(what) => return Err(MediaError::new("no_video_stream", format!("{shown} holds {what}, no video"))),
        Found::Other(what) => {
            return Err(MediaError::new("not_a_video", format!("{shown} holds {what}, not a known video container")));
        }
    };
    if kind == Kind::Mp4 && !has_index(&mut *bytes, length).map_err(unreadable)? {
        let message =
            format!("{shown} is an mp4 without its index (no moov box): the recording or download was cut off; fetch it again");
        return Err(MediaError::new("no_index", message));
    }
    Ok(kind)
}

enum Found {
    Video(Kind),
    Audio(&'static str),
    Other(&'static str),
}

fn classify(b: &[u8]) -> Found {
    let at = |i: usize, want: &[u8]| b.get(i..i + want.len()) == Some(want);
    if at(4, b"ftyp") {
        return match b.get(8..12) {
            Some(b"avif" | b"heic" | b"mif1" | b"heix") => Found::Other("an image (HEIF)"),
            Some(b"M4A " | b"M4B ") => Found::Audio("audio (m4a)"),
            _ => Found::Video(Kind::Mp4),
        };
    }
    if [b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"].iter().any(|t| at(4, *t)) {
        return Found::Video(Kind::Mp4);
    }
    if at(0, &[0x1A, 0x45, 0xDF, 0xA3]) {
        let webm = b[..b.len().min(64)].windows(4).any(|w| w == b"webm");
        return Found::Video(if webm { Kind::WebM } else { Kind::Matroska });
    }
    if at(0, b"RIFF") {
        return match b.get(8..12) {
            Some(b"AVI ") => Found::Video(Kind::Avi),
            Some(b"WAVE") => Found::Audio("audio (wav)"),
            Some(b"WEBP") => Found::Other("an image (WebP)"),
            _ => Found::Other("an unknown RIFF file"),
        };
    }
    if is_mpeg_ts(b) {
        return Found::Video(Kind::MpegTs);
    }
    if at(0, &[0, 0, 1, 0xBA]) {
        return Found::Video(Kind::MpegPs);
    }
    if at(0, b"FLV\x01") {
        return Found::Video(Kind::Flv);
    }
    if at(0, b"OggS") {
        return Found::Video(Kind::Ogg);
    }
    if at(0, &[0x30, 0x26, 0xB2, 0x75, 0x8E, 0x66, 0xCF, 0x11]) {
        return Found::Video(Kind::Asf);
    }
    if at(0, b"ID3") || at(0, b"fLaC") || at(0, b"#!AMR") || is_mpeg_audio(b) {
        return Found::Audio("audio");
    }
    let image: [&[u8]; 6] = [b"\x89PNG\r\n\x1a\n", b"\xFF\xD8\xFF", b"GIF8", b"BM", b"II*\0", b"MM\0*"];
    if image.iter().any(|m| at(0, m)) {
        return Found::Other("an image");
    }
    if at(0, b"%PDF") {
        return Found::Other("a PDF document");
    }
    if at(0, b"PK\x03\x04") || at(0, &[0x1F, 0x8B]) {
        return Found::Other("an archive");
    }
    if let Some(what) = as_text(b) {
        return Found::Other(what);
    }
    Found::Other("bytes of no known type")
}

/// Four sync bytes at the distance of a packet (188, or 192 with a time code in front).
fn is_mpeg_ts(b: &[u8]) -> bool {
    let synced = |offset: usize, step: usize| (0..4).all(|i| b.get(offset + i * step) == Some(&0x47));
    synced(0, 188) || synced(4, 192)
}

/// An MPEG audio frame header with no reserved value in it.
fn is_mpeg_audio(b: &[u8]) -> bool {
    let [0xFF, b1, b2, ..] = b else { return false };
    b1 & 0xE0 == 0xE0 && b1 & 0x18 != 0x08 && b1 & 0x06 != 0 && b2 & 0xF0 != 0xF0 && b2 & 0x0C != 0x0C
}

fn as_text(b: &[u8]) -> Option<&'static str> {
    let text = match std::str::from_utf8(b) {
        Ok(text) => text,
        // The head may end in the middle of a character.
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&b[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let start = text.trim_start().to_ascii_lowercase();
    let html = start.starts_with("<!doctype html") || start.starts_with("<html");
    Some(if html { "an HTML page (a download error page?)" } else { "text" })
}

/// Walks the top-level boxes. A size that runs past the end ends the walk: a truncated file with its index in front has one.
fn has_index(file: &mut dyn ReadSeek, len: u64) -> std::io::Result<bool> {
    const MAX_BOXES: usize = 100_000;
    let mut at = 0u64;
    for _ in 0..MAX_BOXES {
        if at + 8 > len {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0u8; 16];
        let got = (len - at).min(16) as usize;
        file.read_exact(&mut header[..got])?;
        let mut size = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        if size == 1 && got == 16 {
            size = u64::from_be_bytes([
                header[8], header[9], header[10], header[11], header[12], header[13], header[14], header[15],
            ]);
        }
        if &header[4..8] == b"moov" {
            return Ok(true);
        }
        if size < 8 {
            return Ok(false); // 0: to the end of the file; anything else: nonsense
        }
        at = match at.checked_add(size) {
            Some(next) => next,
            None => return Ok(false),
        };
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniffed(path: &std::path::Path) -> Result<Kind, &'static str> {
        let bench = crate::tests::Bench::new();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        sniff(&Input::file(path), deadline, &bench.context()).map_err(|e| e.code)
    }

    fn code(bytes: &[u8]) -> Result<Kind, &'static str> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        sniffed(file.path())
    }

    #[test]
    fn each_kind_of_wrong_file_has_its_own_reason() {
        assert_eq!(sniffed("/nonexistent/a.mp4".as_ref()), Err("file_missing"));
        assert_eq!(sniffed("/".as_ref()), Err("file_unreadable"));
        assert_eq!(code(b""), Err("empty_file"));
        assert_eq!(code("plain text, \u{e4}".as_bytes()), Err("not_a_video"));
        assert_eq!(code(b"<!DOCTYPE html><title>403</title>"), Err("not_a_video"));
        assert_eq!(code(b"\x89PNG\r\n\x1a\n...."), Err("not_a_video"));
        assert_eq!(code(&[0x93, 0x00, 0x41, 0xF7, 0x01]), Err("not_a_video"));
        assert_eq!(code(b"ID3\x03\0\0\0\0\0\0"), Err("no_video_stream"));
        assert_eq!(code(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08mdat"), Err("no_index"));
        assert_eq!(code(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"), Ok(Kind::Mp4));
        assert_eq!(code(b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x00mdat"), Err("no_index"));
        assert_eq!(code(b"FLV\x01\x05"), Ok(Kind::Flv));
    }
}
