//! Step by step against EasyOCR: `scripts/goldens/easyocr.py` made the goldens. Only the last test needs ONNX Runtime; its networks are tiny.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use curette_ocr::contrast::stretched;
use curette_ocr::craft::{CraftSettings, words};
use curette_ocr::ctc::decode_easyocr;
use curette_ocr::grey::{Grey, ROWS};
use curette_ocr::lines::{LineSettings, PixelQuad, Place, lines};
use curette_ocr::{DetectSize, Detector, Dictionary, Picture, Reader, Recogniser, Settings};
use serde::Deserialize;

mod support;

type Corners = [(f64, f64); 4];

#[derive(Deserialize)]
struct Golden {
    words: Vec<Maps>,
    groups: Vec<Grouping>,
    strips: Vec<StripOf>,
    texts: Vec<Text>,
    pages: Vec<Page>,
}

#[derive(Deserialize)]
struct Maps {
    region: String,
    affinity: String,
    words: Vec<Corners>,
}

#[derive(Deserialize)]
struct Grouping {
    boxes: Vec<PixelQuad>,
    upright: Vec<[i64; 4]>,
    tilted: Vec<Corners>,
}

#[derive(Deserialize)]
struct StripOf {
    name: String,
    #[serde(rename = "box")]
    place: [f64; 4],
}

#[derive(Deserialize)]
struct Text {
    characters: String,
    logits: Vec<Vec<f32>>,
    text: String,
    score: f32,
}

#[derive(Deserialize)]
struct Page {
    file: String,
    canvas: u32,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    corners: Corners,
    text: String,
    score: f32,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/easyocr")
}

fn golden() -> Golden {
    serde_json::from_slice(&std::fs::read(folder().join("golden.json")).unwrap()).unwrap()
}

fn grey(name: &str) -> Grey {
    let image = image::open(folder().join(name)).unwrap().to_luma8();
    Grey { width: image.width() as usize, pixels: image.into_raw() }
}

/// The largest distance between corners, whichever corner each begins with.
fn apart(a: &Corners, b: &Corners) -> f64 {
    let turned = |k: usize| (0..4).map(|i| (a[i].0 - b[(i + k) % 4].0).hypot(a[i].1 - b[(i + k) % 4].1)).fold(0.0, f64::max);
    (0..4).map(turned).fold(f64::INFINITY, f64::min)
}

#[test]
fn maps_give_the_words_of_easyocr() {
    for maps in golden().words {
        let region = grey(&maps.region);
        let values = |pixels: &[u8]| pixels.iter().map(|v| f32::from(*v) / 255.0).collect::<Vec<f32>>();
        let found =
            words(&values(&region.pixels), &values(&grey(&maps.affinity).pixels), region.width, &CraftSettings::default());
        assert_eq!(found.len(), maps.words.len(), "{}", maps.region);
        let worst = found.iter().zip(&maps.words).map(|(word, want)| apart(&word.quad, want)).fold(0.0, f64::max);
        println!("{}: {} words in the same order, corners at most {worst:.4} px apart", maps.region, found.len());
        assert!(worst < 0.01, "{}: {worst}", maps.region);
        // The same corner comes first, because lines are made by it.
        for (word, want) in found.iter().zip(&maps.words) {
            let first = (word.quad[0].0 - want[0].0).hypot(word.quad[0].1 - want[0].1);
            assert!(first < 0.01, "{:?} {want:?}", word.quad);
        }
    }
}

#[test]
fn words_give_the_lines_of_easyocr() {
    for (i, case) in golden().groups.into_iter().enumerate() {
        let (mut upright, mut tilted) = (Vec::new(), Vec::new());
        for group in lines(&case.boxes, &LineSettings::default()) {
            match group.place {
                Place::Upright { left, right, top, bottom } => upright.push([left, right, top, bottom]),
                Place::Tilted(corners) => tilted.push(corners),
            }
        }
        assert_eq!(upright, case.upright, "case {i}");
        assert_eq!(tilted.len(), case.tilted.len(), "case {i}");
        for (found, want) in tilted.iter().zip(&case.tilted) {
            assert!(found.iter().zip(want).all(|(a, b)| (a.0 - b.0).abs() < 1e-9 && (a.1 - b.1).abs() < 1e-9), "case {i}");
        }
    }
}

#[test]
fn the_grey_picture_is_that_of_opencv() {
    let image = image::open(folder().join("../labels.png")).unwrap().to_rgb8();
    let made = Grey::of(&Picture::new(image.width() as usize, image.height() as usize, image.as_raw()).unwrap());
    let want = grey("grey.png");
    assert_eq!(made, want);
}

#[test]
fn boxes_give_the_strips_of_easyocr() {
    let picture = grey("grey.png");
    let faint = Grey { width: picture.width, pixels: picture.pixels.iter().map(|p| p / 4 + 80).collect() };
    for strip in golden().strips {
        let [l, r, t, b] = strip.place.map(|v| v - 0.5);
        for (kind, of) in [("plain", &picture), ("strong", &picture), ("faint", &faint)] {
            let cut = of.cut(&[(l, t), (r, t), (r, b), (l, b)]).unwrap();
            let want = grey(&format!("strip-{}-{kind}.png", strip.name));
            let pixels = if kind == "plain" { cut.grey.pixels.clone() } else { stretched(&cut.grey.pixels) };
            let made = Grey { width: cut.grey.width, pixels }.squeezed().unwrap();
            assert_eq!((want.width, want.height()), (cut.input_width, ROWS), "{}", strip.name);
            let mut values = vec![0.0; ROWS * want.width];
            made.fill(&mut values, want.width);
            let differences = values.iter().zip(&want.pixels).map(|(v, p)| ((v + 1.0) * 127.5 - f32::from(*p)).abs());
            let worst = differences.clone().fold(0.0, f32::max);
            let differing = differences.filter(|d| *d > 0.5).count();
            println!("{} {kind}: {differing} of {} pixels differ, at most by {worst:.0}", strip.name, want.pixels.len());
            // One level where rounding differs; stretching makes up to 20 of it.
            assert!(worst <= if kind == "faint" { 20.01 } else { 1.01 }, "{} {kind}: {worst}", strip.name);
        }
    }
}

#[test]
fn logits_give_the_text_of_easyocr() {
    for (i, case) in golden().texts.into_iter().enumerate() {
        let read = decode_easyocr(&case.logits.concat(), &Dictionary::from_characters(&case.characters));
        assert_eq!(read.text, case.text, "case {i}");
        assert!((read.score - case.score).abs() < 1e-5, "case {i}: {} {}", read.score, case.score);
    }
}

#[test]
fn whole_pictures_read_as_easyocr_reads_them() {
    let Some(environment) = support::environment() else { return };
    let dictionary = Dictionary::from_file(&std::fs::read_to_string(folder().join("english.yaml")).unwrap()).unwrap();
    let (mut lines, mut same) = (0, 0);
    for page in golden().pages {
        let settings = Settings {
            detect_size: DetectSize::LongestAtMost(page.canvas),
            detector: Detector::Craft(CraftSettings::default(), LineSettings::default()),
            recogniser: Recogniser::EasyOcr,
            min_line_score: 0.0,
        };
        let open = |name: &str| support::Model::open(&environment, &folder().join(name));
        let mut reader = Reader::new(open("craft-tiny.onnx"), open("rec-tiny.onnx"), dictionary.clone(), settings);
        let image = image::open(folder().join("..").join(&page.file)).unwrap().to_rgb8();
        let picture = Picture::new(image.width() as usize, image.height() as usize, image.as_raw()).unwrap();
        let reading = reader.read(&picture).unwrap();
        assert_eq!(reading.boxes.len(), page.lines.len(), "{} {}", page.file, page.canvas);
        for want in &page.lines {
            // Columns and rows of upright boxes end behind the last one there.
            let corners = want.corners.map(|(x, y)| (x - 0.5, y - 0.5));
            let distance = |b: &curette_ocr::TextBox| apart(&corners, &b.corners);
            let (i, nearest) = reading.boxes.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1))).unwrap();
            assert!(distance(nearest) < 1.5, "{} {}: {:?} is not there", page.file, page.canvas, want.corners);
            let read = reading.lines.iter().find(|l| l.text_box == i);
            let (text, score) = read.map_or(("", 0.0), |l| (l.text.as_str(), l.score));
            println!("{} {}: {:?} {score:.3} for {:?} {:.3}", page.file, page.canvas, text, want.text, want.score);
            lines += 1;
            same +=
                usize::from(text == want.text.trim_end_matches(' ') && (score - want.score).abs() < 0.02 || text == want.text);
        }
    }
    println!("{same} of {lines} lines are the same");
    assert!(lines >= 10 && same == lines, "{same} of {lines}");
}
