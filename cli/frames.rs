//! The verb `frames`: the frames that are on screen at given times, as pictures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, ValueEnum};
use curette_engine::exit::Exit;
use curette_operators::media::{Frame, MediaContext, MediaError, MediaPlane, frames_at, to_jpeg, to_png};

use crate::{complain, print};

/// Times of one call.
const MAX_TIMES: usize = 10_000;

#[derive(Args)]
pub(crate) struct FramesArgs {
    /// The video, or its URL.
    file: String,
    /// Times in seconds, with spaces or commas between.
    #[arg(long, required = true, num_args = 1.., value_delimiter = ',', value_name = "SECONDS", value_parser = seconds)]
    at: Vec<f64>,
    /// Folder to write to; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// Kind of picture.
    #[arg(long, value_enum, default_value_t = Picture::Jpeg)]
    format: Picture,
    /// Quality of JPEGs, 1 to 100.
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Scale down so that the longest side has at most so many pixels.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    longest_side: Option<u32>,
    /// Time for the whole call, in seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_seconds: u64,
}

#[derive(ValueEnum, Clone, Copy)]
enum Picture {
    Jpeg,
    Png,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim().parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    if (0.0..=86_400.0).contains(&value) { Ok(value) } else { Err(format!("{text} s is not within a day")) }
}

/// Exit 0: a picture for every time. Exit 1: the file cannot be read, some times have no frame, or the decoder reported errors; what there is is written.
pub(crate) fn frames(args: &FramesArgs) -> Exit {
    if args.at.len() > MAX_TIMES {
        complain(&format!("{} times; at most {MAX_TIMES} in one call", args.at.len()));
        return Exit::Mistake;
    }
    match written(args) {
        Ok((text, whole)) => match print(&text) {
            Exit::Done if !whole => Exit::Failed,
            exit => exit,
        },
        Err(e) => {
            complain(&e);
            Exit::Failed
        }
    }
}

fn written(args: &FramesArgs) -> Result<(String, bool), String> {
    let (plane, cancelled) = (MediaPlane::default(), AtomicBool::new(false));
    let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(args.timeout_seconds) };
    let times_us: Vec<i64> = args.at.iter().map(|s| (s * 1e6).round() as i64).collect();
    std::fs::create_dir_all(&args.out).map_err(|e| format!("{} cannot be made: {e}", args.out.display()))?;
    // Pictures are written as they come; lines in the order in which the times were given.
    let (mut lines, mut whole) = (BTreeMap::new(), true);
    let mut stopped = None;
    let missing = frames_at(&args.file, &times_us, args.longest_side, &context, &mut |shown| {
        let path = write(args, shown.index, shown.frame).map_err(|e| {
            stopped = Some(e);
            MediaError { code: "cancelled", message: "a picture cannot be written".into() }
        })?;
        let note = if shown.whole { "" } else { "  damaged: the decoder reported errors before or in it" };
        whole &= shown.whole;
        let (asked, time_s) = (args.at[shown.index], shown.frame.pts_ns as f64 / 1e9);
        lines.insert(shown.index, format!("{asked:>14.6}  {time_s:>14.6}  {}{note}", path.display()));
        Ok(())
    });
    if let Some(e) = stopped {
        return Err(e);
    }
    for one in missing.map_err(|e| e.to_string())? {
        whole = false;
        lines.insert(one.index, format!("{:>14.6}  {:>14}  {}", args.at[one.index], "-", one.error));
    }
    let mut text = format!("{:>5}  {:>14}  {:>14}  file\n", "index", "asked, s", "frame, s");
    for (index, line) in &lines {
        let _ = writeln!(text, "{index:>5}  {line}");
    }
    Ok((text, whole))
}

fn write(args: &FramesArgs, index: usize, frame: &Frame) -> Result<PathBuf, String> {
    let (bytes, ending) = match args.format {
        Picture::Jpeg => (to_jpeg(frame, args.quality), "jpg"),
        Picture::Png => (to_png(frame), "png"),
    };
    let bytes = bytes.map_err(|e| e.to_string())?;
    let path = Path::new(&args.out).join(format!("{index:04}-{:.6}s.{ending}", frame.pts_ns as f64 / 1e9));
    std::fs::write(&path, bytes).map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
    Ok(path)
}
