//! How a video of the corpus is described: everything that its pictures, sidecars and truth are made from.

use crate::looks::Look;

/// Container and codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// H.264 in MP4, index at the end.
    Mp4,
    /// H.264 in MP4, index at the start.
    Mp4IndexFirst,
    /// H.264 in Matroska.
    Mkv,
    /// VP8 in WebM.
    WebmVp8,
    /// VP9 in WebM.
    WebmVp9,
}

/// A stretch of one look, to the next shot or the end.
#[derive(Debug, Clone, Copy)]
pub struct Shot {
    /// First moment, a multiple of the frame period.
    pub start_us: i64,
    /// What it shows.
    pub look: Look,
}

/// Words burnt into the picture.
#[derive(Debug, Clone, Copy)]
pub struct Subtitle {
    pub start_us: i64,
    pub end_us: i64,
    pub line: &'static str,
}

/// Black bars in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bars {
    pub left: u32,
    pub right: u32,
    pub top: u32,
    pub bottom: u32,
}

/// What is broken on purpose after encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// Cut to a share of its bytes, in percent.
    Truncated(u8),
    /// No bytes at all.
    Empty,
    /// A text file with a video's name.
    Text,
    /// Sound without pictures.
    AudioOnly,
}

/// What yt-dlp would know.
#[derive(Debug, Clone)]
pub struct Meta {
    pub id: &'static str,
    pub title: &'static str,
    pub description: Option<&'static str>,
    pub tags: &'static [&'static str],
    /// Index into [`crate::metadata::CHANNELS`].
    pub channel: usize,
    pub upload_date: &'static str,
    /// False: only the fields that yt-dlp always writes.
    pub full: bool,
}

/// The transcript beside the video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transcript {
    /// No file.
    None,
    /// `.en.vtt` as YouTube makes it: each line rolls through three cues.
    Automatic(&'static [&'static str]),
    /// `.en.srt`, one cue a line.
    Manual(&'static [&'static str]),
}

/// One video.
#[derive(Debug, Clone)]
pub struct Video {
    /// File name below its folder.
    pub file: &'static str,
    /// What it is for, in one sentence.
    pub about: &'static str,
    /// Displayed size.
    pub size: (u32, u32),
    /// Frames per second; the grid that frames are dropped from if `variable`.
    pub fps: i32,
    pub duration_us: i64,
    pub format: Format,
    pub audio: bool,
    /// Frames missing irregularly.
    pub variable: bool,
    /// Stored turned by 90 degrees, with a mark to turn it back.
    pub rotated: bool,
    /// Every frame is the first one.
    pub still: bool,
    /// Out of focus: pixels on each side that each pixel is the mean of, twice over; 0 is sharp.
    pub blur_px: u32,
    pub bars: Bars,
    pub shots: Vec<Shot>,
    pub subtitles: Vec<Subtitle>,
    pub meta: Option<Meta>,
    pub transcript: Transcript,
    pub damage: Damage,
    /// Where `pipelines/quickstart.toml` lets it end, and with how many clips.
    pub quickstart: (&'static str, u32),
}

/// Starts the description of a whole, plain MP4 of 640x480 without sidecars.
pub fn video(file: &'static str, about: &'static str, fps: i32, seconds: f64, shots: &[(f64, Look)]) -> Video {
    let us = |s: f64| (s * 1e6).round() as i64;
    Video {
        file,
        about,
        size: (640, 480),
        fps,
        duration_us: us(seconds),
        format: Format::Mp4,
        audio: false,
        variable: false,
        rotated: false,
        still: false,
        blur_px: 0,
        bars: Bars::default(),
        shots: shots.iter().map(|&(start, look)| Shot { start_us: us(start), look }).collect(),
        subtitles: Vec::new(),
        meta: None,
        transcript: Transcript::None,
        damage: Damage::None,
        quickstart: ("clips", 1),
    }
}

impl Video {
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width, height);
        self
    }
    pub fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }
    pub fn audio(mut self) -> Self {
        self.audio = true;
        self
    }
    pub fn variable(mut self) -> Self {
        self.variable = true;
        self
    }
    pub fn rotated(mut self) -> Self {
        self.rotated = true;
        self
    }
    pub fn still(mut self) -> Self {
        self.still = true;
        self
    }
    pub fn blurred(mut self, px: u32) -> Self {
        self.blur_px = px;
        self
    }
    pub fn bars(mut self, left: u32, right: u32, top: u32, bottom: u32) -> Self {
        self.bars = Bars { left, right, top, bottom };
        self
    }
    pub fn subtitles(mut self, lines: &[(f64, f64, &'static str)]) -> Self {
        let us = |s: f64| (s * 1e6).round() as i64;
        self.subtitles = lines.iter().map(|&(a, b, line)| Subtitle { start_us: us(a), end_us: us(b), line }).collect();
        self
    }
    pub fn damage(mut self, damage: Damage) -> Self {
        self.damage = damage;
        self
    }
    pub fn transcript(mut self, transcript: Transcript) -> Self {
        self.transcript = transcript;
        self
    }
    pub fn titled(mut self, id: &'static str, channel: usize, title: &'static str) -> Self {
        self.meta = Some(Meta { id, title, description: None, tags: &[], channel, upload_date: "20240517", full: true });
        self
    }
    pub fn described(mut self, description: &'static str, tags: &'static [&'static str]) -> Self {
        if let Some(meta) = &mut self.meta {
            meta.description = Some(description);
            meta.tags = tags;
        }
        self
    }
    /// Leaves every optional metadata field out.
    pub fn sparse(mut self) -> Self {
        if let Some(meta) = &mut self.meta {
            meta.full = false;
        }
        self
    }
    pub fn ends(mut self, step: &'static str, clips: u32) -> Self {
        self.quickstart = (step, clips);
        self
    }

    /// Presentation times of all frames in nanoseconds; the last frame ends at the duration.
    pub fn frame_times_ns(&self, seed: u64) -> Vec<u64> {
        let fps = self.fps.max(1) as u64;
        let count = (self.duration_us as u64 * fps).div_ceil(1_000_000);
        let mut rng = crate::rng::Rng::new(seed, &[0xF9A3]);
        // Dropped in runs of at most three, never the first frame of the video or of a shot, nor the last one: cuts and duration stay
        // exact.
        let mut run = 0;
        (0..count)
            .map(|n| n * 1_000_000_000 / fps)
            .filter(|&t| {
                let first = self.shots.iter().any(|s| (s.start_us * 1000 - t as i64).abs() < 1000);
                let last = t == (count - 1) * 1_000_000_000 / fps;
                let keep = !self.variable || first || last || run >= 3 || rng.unit() >= 0.45;
                run = if keep { 0 } else { run + 1 };
                keep
            })
            .collect()
    }

    /// The shot that shows at a time, with its number.
    pub fn shot_at(&self, time_us: i64) -> Option<(usize, Shot)> {
        self.shots.iter().enumerate().rev().find(|(_, s)| s.start_us <= time_us).map(|(i, s)| (i, *s))
    }

    /// What is said: the lines in order, as a cleaner should give them.
    pub fn transcript_text(&self) -> Option<String> {
        match self.transcript {
            Transcript::None => None,
            Transcript::Automatic(lines) | Transcript::Manual(lines) => Some(lines.join(" ")),
        }
    }
}
