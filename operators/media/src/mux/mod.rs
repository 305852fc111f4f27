//! Writes an mp4 of packets that exist already: one H.264 track, and perhaps one AAC track, index in front (ISO/IEC 14496-12, -14 and -15).
//!
//! Why an own one: `mp4mux` takes one set of parameters and sums up lengths from decoding times, so that a clip of joined packets loses its last
//! frames in players. Here every time is written from the time at which the picture is shown. No creation time is written: same packets, same
//! bytes.
//!
//! Times in the tracks are what a player does: the video's first frame is at zero by an edit list of the reordering delay alone, which hides
//! nothing; the audio's edit list leaves out what lies before the first frame.
//! What can go wrong: nothing larger than 4 GiB can be written; clips are limited to far less.

mod boxes;
mod tables;

use boxes::{Boxes, full};
use tables::{Timeline, Track};

/// Ticks per second of the clip and of its video: divides the frame times of 24, 25, 30, 50, 60 fps, their NTSC variants and milliseconds.
pub(crate) const TIMESCALE: u32 = 90_000;
/// Ticks of a chunk: how much of one track lies together before the other's follows. Half a second.
const CHUNK: i64 = TIMESCALE as i64 / 2;

/// One packet of video.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VideoPacket {
    pub data: Vec<u8>,
    /// When it is shown, from the clip's first frame.
    pub pts_ns: i64,
    /// Decoding can begin here.
    pub sync: bool,
}

/// The video track, in decoding order.
pub(crate) struct VideoTrack {
    pub size: (u32, u32),
    /// Content of the `avcC` box.
    pub avcc: Vec<u8>,
    /// Primaries, transfer, matrix, full range: for a `colr` box.
    pub colour: Option<(u16, u16, u16, bool)>,
    pub packets: Vec<VideoPacket>,
    /// Where the last frame ends.
    pub end_ns: i64,
}

/// One packet of audio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AudioPacket {
    pub data: Vec<u8>,
    /// Where it begins, from the clip's first frame; may be negative.
    pub pts_ns: i64,
    pub duration_ns: i64,
}

/// The audio track.
pub(crate) struct AudioTrack {
    pub rate: u32,
    pub channels: u16,
    /// The AudioSpecificConfig.
    pub config: Vec<u8>,
    pub packets: Vec<AudioPacket>,
}

/// The file.
pub(crate) fn write(video: &VideoTrack, audio: Option<&AudioTrack>) -> Vec<u8> {
    let length = ticks(video.end_ns, TIMESCALE);
    let audio = audio.filter(|a| !a.packets.is_empty());
    let video_timeline = video_timeline(video);
    let audio_timeline = audio.map(|a| audio_timeline(a, length));
    let chunks = chunks(&video_timeline, audio_timeline.as_ref().zip(audio));
    let build = |data_at: usize| {
        let mut offsets = [Vec::new(), Vec::new()];
        let mut at = data_at;
        for chunk in &chunks {
            offsets[chunk.track].push(at as u32);
            at += match (chunk.track, audio) {
                (1, Some(a)) => a.packets[chunk.from..chunk.to].iter().map(|p| p.data.len()).sum::<usize>(),
                _ => video.packets[chunk.from..chunk.to].iter().map(|p| p.data.len()).sum(),
            };
        }
        let counts = |track: usize| chunks.iter().filter(|c| c.track == track).map(|c| (c.to - c.from) as u32).collect();
        let tracks = [
            Some(Track::video(video, &video_timeline, counts(0), &offsets[0])),
            audio.zip(audio_timeline.as_ref()).map(|(a, t)| Track::audio(a, t, counts(1), &offsets[1])),
        ];
        header(length, &tracks)
    };
    // The index has the same length wherever the data lie.
    let front = build(0).len() + 8;
    let mut out = build(front);
    let bytes: usize = video.packets.iter().map(|p| p.data.len()).sum::<usize>()
        + audio.map_or(0, |a| a.packets.iter().map(|p| p.data.len()).sum());
    out.reserve(bytes + 8);
    out.extend((bytes as u32 + 8).to_be_bytes());
    out.extend(b"mdat");
    for chunk in &chunks {
        match (chunk.track, audio) {
            (1, Some(a)) => a.packets[chunk.from..chunk.to].iter().for_each(|p| out.extend(&p.data)),
            _ => video.packets[chunk.from..chunk.to].iter().for_each(|p| out.extend(&p.data)),
        }
    }
    out
}

fn ticks(ns: i64, scale: u32) -> i64 {
    let scaled = i128::from(ns) * i128::from(scale);
    ((scaled + 500_000_000 * scaled.signum()) / 1_000_000_000) as i64
}

/// Decoding times are the times at which pictures are shown, sorted, and early enough that none is shown before it is decoded.
fn video_timeline(video: &VideoTrack) -> Timeline {
    let shown: Vec<i64> = video.packets.iter().map(|p| ticks(p.pts_ns, TIMESCALE)).collect();
    let mut decoded = shown.clone();
    decoded.sort_unstable();
    let delay = decoded.iter().zip(&shown).map(|(d, s)| d - s).max().unwrap_or(0).max(0);
    let end = ticks(video.end_ns, TIMESCALE);
    let starts = decoded.iter().copied().chain([end]).collect::<Vec<_>>();
    let durations = starts.windows(2).map(|w| (w[1] - w[0]).max(0) as u32).collect();
    let offsets = decoded.iter().zip(&shown).map(|(d, s)| (s + delay - d) as u32).collect();
    Timeline { scale: TIMESCALE, starts: decoded, durations, offsets, empty: 0, skip: delay, length: end }
}

/// What lies before the clip's first frame or behind its end is there, but is not played.
fn audio_timeline(audio: &AudioTrack, clip: i64) -> Timeline {
    let scale = audio.rate;
    let base = audio.packets[0].pts_ns;
    let last = &audio.packets[audio.packets.len() - 1];
    let ends = [ticks(last.pts_ns + last.duration_ns - base, scale)];
    let starts: Vec<i64> = audio.packets.iter().map(|p| ticks(p.pts_ns - base, scale)).collect();
    let all: Vec<i64> = starts.iter().copied().chain(ends).collect();
    let durations = all.windows(2).map(|w| (w[1] - w[0]).max(0) as u32).collect();
    let end_ns = last.pts_ns + last.duration_ns;
    Timeline {
        scale,
        starts: starts.iter().map(|t| t * i64::from(TIMESCALE) / i64::from(scale.max(1))).collect(),
        durations,
        offsets: Vec::new(),
        empty: ticks(base.max(0), TIMESCALE),
        skip: ticks((-base).max(0), scale),
        length: ticks(end_ns - base.max(0), TIMESCALE).min(clip - ticks(base.max(0), TIMESCALE)).max(0),
    }
}

/// Packets of one track that lie together.
struct Chunk {
    track: usize,
    from: usize,
    to: usize,
}

fn chunks(video: &Timeline, audio: Option<(&Timeline, &AudioTrack)>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut at, mut heard, mut limit) = (0, 0, CHUNK);
    let audio_starts = audio.map_or(&[][..], |a| &a.0.starts);
    while at < video.starts.len() || heard < audio_starts.len() {
        for (track, starts, done) in [(0, video.starts.as_slice(), &mut at), (1, audio_starts, &mut heard)] {
            let to = *done + starts[*done..].partition_point(|t| *t < limit);
            if to > *done {
                chunks.push(Chunk { track, from: *done, to });
                *done = to;
            }
        }
        limit += CHUNK;
    }
    chunks
}

/// What stands before the data.
fn header(length: i64, tracks: &[Option<Track>; 2]) -> Vec<u8> {
    let mut out = Boxes::default();
    out.leaf(b"ftyp", &[b"isom", &[0, 0, 2, 0][..], b"isom", b"iso2", b"avc1", b"mp41"].concat());
    out.nested(b"moov", |moov| {
        let numbers = [0u32, 0, TIMESCALE, length.max(0) as u32, 0x0001_0000];
        let mut body: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        body.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // volume, reserved
        body.extend(boxes::UNTURNED);
        body.extend([0; 24]);
        let count = tracks.iter().flatten().count() as u32;
        body.extend((count + 1).to_be_bytes());
        moov.leaf(b"mvhd", &full(0, 0, &body));
        for (track, number) in tracks.iter().flatten().zip(1..) {
            track.write(moov, number);
        }
    });
    out.bytes
}

#[cfg(test)]
mod tests;
