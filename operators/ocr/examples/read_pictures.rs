//! Reads every PNG of a folder and prints the lines as JSON; the Rust side of `benches/ocr.py`.
//!
//! `read_pictures DETECTOR RECOGNISER LIBRARY FOLDER min736|max640|max960`. The last line says how long reading took: CPU seconds of the process, pictures
//! decoded before and one of them read for warming up.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::path::PathBuf;

use curette_ocr::{DetectSize, Picture, Reader, Settings};

#[path = "../tests/support/mod.rs"]
mod support;

fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value, and the clock exists on Linux.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [detector, recogniser, library, folder, size] = &arguments[..] else {
        panic!("DETECTOR RECOGNISER LIBRARY FOLDER min736|max640")
    };
    let side = size[3..].parse().expect("a size such as max640");
    let detect_size = if size.starts_with("min") { DetectSize::ShortestAtLeast(side) } else { DetectSize::LongestAtMost(side) };
    let environment = ort::init_from(library).unwrap().with_telemetry(false).build().unwrap();
    let open = |path: &String| support::Model::open(&environment, path.as_ref());
    let recogniser = open(recogniser);
    let dictionary = recogniser.dictionary();
    let mut reader = Reader::new(open(detector), recogniser, dictionary, Settings { detect_size, ..Settings::default() });

    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "png"));
    files.sort();
    let images: Vec<_> = files.iter().map(|f| image::open(f).unwrap().to_rgb8()).collect();
    let pictures: Vec<_> =
        images.iter().map(|i| Picture::new(i.width() as usize, i.height() as usize, i.as_raw()).unwrap()).collect();
    reader.read(&pictures[0]).unwrap();
    let started = cpu_seconds();
    let readings: Vec<_> = pictures.iter().map(|p| reader.read(p).unwrap()).collect();
    let seconds = cpu_seconds() - started;
    for (file, reading) in files.iter().zip(readings) {
        let texts: Vec<_> = reading.lines.iter().map(|l| &l.text).collect();
        println!("{}", serde_json::json!({ "file": file.file_name().unwrap().to_string_lossy(), "texts": texts }));
    }
    println!("{}", serde_json::json!({ "frames": pictures.len(), "cpu_seconds": seconds }));
}
