//! Step by step against RapidOCR: `scripts/goldens/ocr.py` made the goldens. Only the last test needs the models.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use curette_ocr::boxes::{BoxSettings, text_boxes};
use curette_ocr::crop::{STRIP_HEIGHT, Strip};
use curette_ocr::prepare::detector_input;
use curette_ocr::{DetectSize, Dictionary, Picture, Settings};
use serde::Deserialize;

mod support;

#[derive(Deserialize)]
struct Golden {
    maps: Vec<Map>,
    strips: Vec<GoldenStrip>,
    ctc: Vec<Ctc>,
    pictures: Vec<Page>,
}

#[derive(Deserialize)]
struct Map {
    file: String,
    boxes: Vec<[(f64, f64); 4]>,
    scores: Vec<f32>,
}

#[derive(Deserialize)]
struct GoldenStrip {
    picture: String,
    file: String,
    corners: [(f64, f64); 4],
}

#[derive(Deserialize)]
struct Ctc {
    keys: String,
    probabilities: Vec<Vec<f32>>,
    text: String,
    score: f32,
}

#[derive(Deserialize)]
struct Page {
    file: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    corners: [(f64, f64); 4],
    text: String,
    score: f32,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(folder().join("golden.json")).unwrap()).unwrap()
}

fn rgb(name: &str) -> image::RgbImage {
    image::open(folder().join(name)).unwrap().to_rgb8()
}

fn view(image: &image::RgbImage) -> Picture<'_> {
    Picture::new(image.width() as usize, image.height() as usize, image.as_raw()).unwrap()
}

fn centre(corners: &[(f64, f64); 4]) -> (f64, f64) {
    let sum = corners.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
    (sum.0 / 4.0, sum.1 / 4.0)
}

/// The largest distance between corners, whichever corner each begins with.
fn apart(a: &[(f64, f64); 4], b: &[(f64, f64); 4]) -> f64 {
    let turned = |k: usize| (0..4).map(|i| (a[i].0 - b[(i + k) % 4].0).hypot(a[i].1 - b[(i + k) % 4].1)).fold(0.0, f64::max);
    (0..4).map(turned).fold(f64::INFINITY, f64::min)
}

fn nearest<'a, T>(to: &[(f64, f64); 4], all: &'a [T], corners: impl Fn(&T) -> [(f64, f64); 4]) -> &'a T {
    all.iter().min_by(|a, b| apart(to, &corners(a)).total_cmp(&apart(to, &corners(b)))).expect("there is none")
}

#[test]
fn the_detector_sees_what_opencv_makes() {
    let (source, want) = (rgb("labels.png"), rgb("resized.png"));
    let input = detector_input(&view(&source), DetectSize::LongestAtMost(352)).unwrap();
    assert_eq!((input.dim().3 as u32, input.dim().2 as u32), want.dimensions());
    let (mut worst, mut differing) = (0, 0);
    for (x, y, pixel) in want.enumerate_pixels() {
        for channel in 0..3 {
            let value = (input[[0, 2 - channel, y as usize, x as usize]] + 1.0) * 127.5;
            let difference = (value.round() as i32 - i32::from(pixel.0[channel])).abs();
            worst = worst.max(difference);
            differing += u32::from(difference > 0);
        }
    }
    println!(
        "resized: largest difference {worst}, {:.2} % differ",
        f64::from(differing) / f64::from(want.width() * want.height() * 3) * 100.0
    );
    assert!(worst <= 1, "{worst}");
}

#[test]
fn maps_give_the_boxes_of_rapidocr() {
    for map in golden().maps {
        let image = image::open(folder().join(&map.file)).unwrap().to_luma8();
        let values: Vec<f32> = image.as_raw().iter().map(|v| f32::from(*v) / 255.0).collect();
        let found = text_boxes(&values, image.width() as usize, &BoxSettings::default());
        assert_eq!(found.len(), map.boxes.len(), "{}", map.file);
        for (want, score) in map.boxes.iter().zip(&map.scores) {
            let inside = want.map(|(x, y)| (x.clamp(0.0, f64::from(image.width())), y.clamp(0.0, f64::from(image.height()))));
            let clipped = |b: &curette_ocr::boxes::Scored| {
                b.rect.corners().map(|(x, y)| (x.clamp(0.0, f64::from(image.width())), y.clamp(0.0, f64::from(image.height()))))
            };
            let hit = nearest(&inside, &found, clipped);
            let distance = apart(&inside, &clipped(hit));
            println!("{} {:?}: {distance:.2} px, score {:.3} for {score:.3}", map.file, centre(want), hit.score);
            // RapidOCR rounds corners twice to whole pixels.
            assert!(distance <= 2.0, "{}: {want:?} {:?}", map.file, hit.rect);
            assert!((hit.score - score).abs() <= 0.03, "{}: score {} for {score}", map.file, hit.score);
        }
    }
}

#[test]
fn strips_are_those_of_rapidocr() {
    for strip in golden().strips {
        let (source, want) = (rgb(&strip.picture), rgb(&strip.file));
        // RapidOCR takes a corner for the centre of the first pixel, so that its grid lies half a pixel up and left along the box.
        let [a, b, c, d] = strip.corners;
        let half =
            |p: (f64, f64)| (0.5 * (p.0 - a.0) / (p.0 - a.0).hypot(p.1 - a.1), 0.5 * (p.1 - a.1) / (p.0 - a.0).hypot(p.1 - a.1));
        let (along, down) = (half(b), half(d));
        let corners = [a, b, c, d].map(|p| (p.0 - along.0 - down.0, p.1 - along.1 - down.1));
        let made = Strip::of(&corners);
        assert!(made.width.abs_diff(want.width() as usize) <= 2, "{}: {} columns for {}", strip.file, made.width, want.width());
        let mut planes = vec![0.0; 3 * STRIP_HEIGHT * made.width];
        made.fill(&view(&source), &mut planes, made.width);
        let (mut sum, mut n) = (0.0, 0u32);
        for (x, y, pixel) in want.enumerate_pixels().filter(|(x, _, _)| (*x as usize) < made.width) {
            for channel in 0..3 {
                let value = (planes[((2 - channel) * STRIP_HEIGHT + y as usize) * made.width + x as usize] + 1.0) * 127.5;
                sum += f64::from((value - f32::from(pixel.0[channel])).abs());
                n += 1;
            }
        }
        let mean = sum / f64::from(n);
        println!("{}: mean difference {mean:.2} of 255", strip.file);
        // RapidOCR resamples twice, bicubic and bilinear; letters have edges of 200 levels.
        assert!(mean < 6.0, "{}: {mean}", strip.file);
    }
}

#[test]
fn probabilities_give_the_text_of_rapidocr() {
    for (i, case) in golden().ctc.into_iter().enumerate() {
        let read = curette_ocr::ctc::decode(&case.probabilities.concat(), &Dictionary::from_lines(&case.keys));
        assert_eq!(read.text, case.text, "case {i}");
        assert!((read.score - case.score).abs() < 1e-5, "case {i}: {} {}", read.score, case.score);
    }
}

#[test]
fn whole_pictures_read_as_rapidocr_reads_them() {
    let Some(mut reader) = support::reader(Settings::default()) else { return };
    for page in golden().pictures {
        let image = rgb(&page.file);
        let reading = reader.read(&view(&image)).unwrap();
        // Spaces are what a recogniser loses first; which ones depends on single pixels. Letters must agree.
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        let texts: Vec<String> = reading.lines.iter().map(|l| letters(&l.text)).collect();
        let want: Vec<String> = page.lines.iter().map(|l| letters(&l.text)).collect();
        println!("{}: {texts:?}", page.file);
        assert_eq!(texts, want, "{}", page.file);
        for want in &page.lines {
            let hit = nearest(&want.corners, &reading.lines, |l| reading.boxes[l.text_box].corners);
            let distance = apart(&want.corners, &reading.boxes[hit.text_box].corners);
            println!("  {:?}: corners {distance:.2} px apart, score {:.3} for {:.3}", want.text, hit.score, want.score);
            assert!(distance <= 3.0 && (hit.score - want.score).abs() <= 0.05);
        }
    }
}
