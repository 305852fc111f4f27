//! The verb `probe`: what curette sees of files, each with its values or its typed error.

use std::fmt::Write as _;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, ValueEnum};
use curette_engine::exit::Exit;
use curette_operators::media::{Inspection, MediaContext, MediaError, MediaPlane, inspect};
use serde_json::{Value, json};

use crate::print;

#[derive(Args)]
pub(crate) struct ProbeArgs {
    /// The files, or URLs.
    #[arg(required = true)]
    files: Vec<String>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = As::Table)]
    format: As,
    /// Do not decode whole files: damage inside of frames is not seen.
    #[arg(long)]
    quick: bool,
    /// Time for one file, in seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout_seconds: u64,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum As {
    /// A block of lines per file.
    Table,
    /// One JSON array.
    Json,
}

/// Exit 0: every file is a video without damage. Exit 1: at least one is not.
pub(crate) fn probe(args: &ProbeArgs) -> Exit {
    let (plane, cancelled) = (MediaPlane::default(), AtomicBool::new(false));
    let context = MediaContext { cancelled: &cancelled, plane: &plane, timeout: Duration::from_secs(args.timeout_seconds) };
    let mut all: Vec<Value> = Vec::new();
    let mut sound = true;
    for file in &args.files {
        let found = inspect(file, !args.quick, &context);
        sound &= found.as_ref().is_ok_and(|found| damage(found).is_empty());
        let value = as_json(file, &found);
        if args.format == As::Json {
            all.push(value);
        } else if print(&as_table(&value)) != Exit::Done {
            return Exit::Failed;
        }
    }
    if args.format == As::Json && print(&format!("{:#}", Value::Array(all))) != Exit::Done {
        return Exit::Failed;
    }
    if sound { Exit::Done } else { Exit::Failed }
}

/// What is wrong with a video that can be read.
fn damage(found: &Inspection) -> Vec<String> {
    let mut out = Vec::new();
    let seconds = |us: i64| us as f64 / 1e6;
    if found.info.truncated {
        let stated = found.info.stated_duration_us.unwrap_or(0);
        out.push(format!("truncated: data ends at {:.3} s of {:.3} s", seconds(found.info.duration_us), seconds(stated)));
    }
    if let Some(decoded) = &found.decoded {
        if decoded.decode_errors > 0 {
            let whole = seconds(decoded.whole_duration_us);
            out.push(format!("damaged: {} decode errors, the first one after {whole:.3} s", decoded.decode_errors));
        }
        if let Some(why) = &decoded.ended_by {
            out.push(format!("decoding ended at {:.3} s: {why}", seconds(decoded.decoded_duration_us)));
        } else if decoded.truncated && !found.info.truncated {
            out.push(format!("truncated: decoding ends at {:.3} s", seconds(decoded.decoded_duration_us)));
        }
    }
    out
}

fn as_json(file: &str, found: &Result<Inspection, MediaError>) -> Value {
    let found = match found {
        Ok(found) => found,
        Err(e) => return json!({ "file": file, "error": { "code": e.code, "message": e.message } }),
    };
    let info = &found.info;
    json!({
        "file": file,
        "container": info.container,
        "streams": found.streams,
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "width": info.width,
        "height": info.height,
        "rotation_degrees": info.rotation_degrees,
        "fps": info.fps,
        "frames": info.frames,
        "duration_us": info.duration_us,
        "stated_duration_us": info.stated_duration_us,
        "has_audio": info.has_audio,
        "content_blake3": info.content_blake3,
        "bytes_read": found.bytes_read,
        "structure": found.structure.map(|s| json!({
            "key_frames": s.key_frames,
            "reference_frames": s.reference_frames,
            "longest_group_us": s.longest_group_us,
            "sampled_share": s.sampled_share,
        })),
        "decoded": found.decoded.as_ref().map(|d| json!({
            "frames": d.frames_decoded,
            "duration_us": d.decoded_duration_us,
            "whole_duration_us": d.whole_duration_us,
            "truncated": d.truncated,
            "decode_errors": d.decode_errors,
            "ended_by": d.ended_by,
        })),
        "damage": damage(found),
    })
}

/// The JSON as lines.
fn as_table(value: &Value) -> String {
    let text = |key: &str| match &value[key] {
        Value::String(s) => s.clone(),
        other => other.to_string(),
    };
    let seconds = |key: &str| value[key].as_i64().map(|us| format!("{:.6} s", us as f64 / 1e6));
    let mut out = format!("{}\n", text("file"));
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "  {key:<12} {value}");
    };
    if let Some(error) = value.get("error") {
        let said = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        line("error", format!("{}: {}", said("code"), said("message")));
        return out;
    }
    line("container", text("container"));
    let streams = value["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    line("streams", streams.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    let turn = match value["rotation_degrees"].as_i64() {
        Some(degrees) if degrees != 0 => format!(" (turned by {degrees} degrees)"),
        _ => String::new(),
    };
    line("picture", format!("{} {}, {} x {}{turn}", text("codec"), text("pixel_format"), text("width"), text("height")));
    line("frames", format!("{} at {:.3} per second", text("frames"), value["fps"].as_f64().unwrap_or(0.0)));
    let stated = seconds("stated_duration_us").map(|s| format!(" ({s} by its header)")).unwrap_or_default();
    line("duration", format!("{}{stated}", seconds("duration_us").unwrap_or_default()));
    let structure = &value["structure"];
    line(
        "structure",
        match structure["longest_group_us"].as_i64() {
            None => "not known: every frame is decoded".into(),
            Some(longest) => format!(
                "{} key frames, at most {:.3} s apart; {} of {} frames are referred to; 1 frame a second takes {:.0} % of them",
                structure["key_frames"],
                longest as f64 / 1e6,
                structure["reference_frames"],
                text("frames"),
                structure["sampled_share"].as_f64().unwrap_or(1.0) * 100.0
            ),
        },
    );
    let decoded = &value["decoded"];
    line(
        "decoded",
        match decoded["duration_us"].as_i64() {
            None => "not tried".into(),
            Some(us) => format!("{} frames, {:.6} s", decoded["frames"], us as f64 / 1e6),
        },
    );
    let damage = value["damage"].as_array().map(Vec::as_slice).unwrap_or_default();
    let none = if decoded.is_null() { "none that its packets show" } else { "none" };
    match damage {
        [] => line("damage", none.into()),
        some => some.iter().filter_map(Value::as_str).for_each(|d| line("damage", d.into())),
    }
    if let Some(bytes) = value["bytes_read"].as_u64() {
        line("read", format!("{bytes} bytes over the network"));
    }
    line("blake3", text("content_blake3"));
    out
}
