//! Draws, encodes and writes one video with its sidecars. Every file appears under its name only when it is complete.

use std::fs;
use std::path::Path;

use crate::canvas::Canvas;
use crate::encode::{Job, encode};
use crate::font::subtitle;
use crate::looks::Scene;
use crate::metadata::{info_json, info_name, transcript_file};
use crate::rng::Rng;
use crate::spec::{Damage, Format, Video};
use crate::{SampleError, stamps};

/// The seed of one video: other videos do not change when one is added.
pub fn video_seed(seed: u64, video: &Video) -> u64 {
    let name = video.file.bytes().fold(0u64, |h, b| h.wrapping_mul(0x100_0000_01B3) ^ u64::from(b));
    Rng::new(seed, &[name]).bits()
}

/// Writes a video and its sidecars into `folder`; gives the names of the files.
pub fn write_video(video: &Video, seed: u64, folder: &Path) -> Result<Vec<String>, SampleError> {
    let seed = video_seed(seed, video);
    let mut files = vec![video.file.to_owned()];
    write_whole(folder, video.file, &video_bytes(video, seed, folder)?)?;
    if let Some(info) = info_json(video, seed) {
        files.push(info_name(video));
        write_whole(folder, &info_name(video), format!("{info:#}\n").as_bytes())?;
    }
    if let Some((name, text)) = transcript_file(video) {
        write_whole(folder, &name, text.as_bytes())?;
        files.push(name);
    }
    Ok(files)
}

/// Writes a file under a temporary name beside it and renames it.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), SampleError> {
    let part = folder.join(format!(".{name}.part"));
    let target = folder.join(name);
    fs::write(&part, bytes).and_then(|()| fs::rename(&part, &target)).map_err(|source| SampleError::Io { path: target, source })
}

fn video_bytes(video: &Video, seed: u64, folder: &Path) -> Result<Vec<u8>, SampleError> {
    match video.damage {
        Damage::Empty => Ok(Vec::new()),
        Damage::Text => Ok("These are lecture notes, not a video.\n".repeat(40).into_bytes()),
        Damage::None | Damage::AudioOnly => encoded(video, seed, folder),
        Damage::Truncated(percent) => {
            let mut bytes = encoded(video, seed, folder)?;
            bytes.truncate(bytes.len() * usize::from(percent.min(100)) / 100);
            Ok(bytes)
        }
    }
}

/// A muxer's random numbers can change the length of a file, about once in 100; it is then made again, at most this often.
const ENCODINGS: usize = 8;

fn encoded(video: &Video, seed: u64, folder: &Path) -> Result<Vec<u8>, SampleError> {
    let part = folder.join(format!(".{}.encoding", video.file));
    let pictures = video.damage != Damage::AudioOnly;
    let times = if pictures { video.frame_times_ns(seed) } else { Vec::new() };
    let tones: Vec<(u64, f32)> = if video.audio || !pictures {
        video.shots.iter().enumerate().map(|(i, s)| (s.start_us as u64 * 1_000, 330.0 + 110.0 * i as f32)).collect()
    } else {
        Vec::new()
    };
    let (width, height) = video.size;
    let job = Job {
        path: &part,
        format: video.format,
        size: if video.rotated { (height, width) } else { (width, height) },
        fps: video.fps,
        variable: video.variable,
        timescale: video.fps as u32 * 1_000,
        times_ns: &times,
        end_ns: video.duration_us as u64 * 1_000,
        tones: &tones,
    };
    let mut bytes = Vec::new();
    for _ in 0..ENCODINGS {
        let mut painter = Painter::new(video, seed);
        encode(&job, |n| painter.frame(times[n]).to_i420())?;
        let io = |source| SampleError::Io { path: part.clone(), source };
        bytes = fs::read(&part).map_err(io)?;
        fs::remove_file(&part).map_err(io)?;
        let same_each_time = match video.format {
            Format::Mp4 | Format::Mp4IndexFirst => stamps::clear_mp4(&mut bytes),
            Format::Mkv | Format::WebmVp8 | Format::WebmVp9 => stamps::clear_matroska(&mut bytes),
        };
        if same_each_time {
            break;
        }
    }
    if video.rotated {
        stamps::mark_rotation(&mut bytes, width);
    }
    Ok(bytes)
}

/// Draws the frames of a video in order.
pub struct Painter<'a> {
    video: &'a Video,
    seed: u64,
    scene: Option<(usize, Box<dyn Scene>)>,
    inner: Canvas,
    whole: Canvas,
}

impl<'a> Painter<'a> {
    /// `seed` is the video's own seed.
    pub fn new(video: &'a Video, seed: u64) -> Self {
        let (w, h, b) = (video.size.0 as usize, video.size.1 as usize, video.bars);
        let inner = Canvas::new(w - (b.left + b.right) as usize, h - (b.top + b.bottom) as usize, [0; 3]);
        Painter { video, seed, scene: None, inner, whole: Canvas::new(w, h, [0; 3]) }
    }

    /// The picture as stored, at a presentation time.
    pub fn frame(&mut self, time_ns: u64) -> Canvas {
        // A frame time is cut down to whole nanoseconds, a shot start is exact: compare with a microsecond to spare.
        let Some((number, shot)) = self.video.shot_at(time_ns as i64 / 1_000 + 1) else { return self.whole.clone() };
        let (width, height) = (self.inner.width, self.inner.height);
        let scene = match &mut self.scene {
            Some((current, scene)) if *current == number => scene,
            slot => {
                let scene = shot.look.prepare(&mut Rng::new(self.seed, &[number as u64]), width, height);
                &mut slot.insert((number, scene)).1
            }
        };
        let seconds = if self.video.still { 0.0 } else { time_ns as f32 / 1e9 - shot.start_us as f32 / 1e6 };
        scene.draw(&mut self.inner, seconds);
        if self.video.blur_px > 0 {
            self.inner.blur(self.video.blur_px as usize);
        }
        let now = time_ns as i64 / 1_000 + 1;
        for line in self.video.subtitles.iter().filter(|s| s.start_us <= now && now < s.end_us) {
            subtitle(&mut self.inner, line.line, height / 14);
        }
        self.whole.paste(&self.inner, self.video.bars.left as usize, self.video.bars.top as usize);
        if self.video.rotated { self.whole.turned_left() } else { self.whole.clone() }
    }
}
