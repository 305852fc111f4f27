//! Canny, lines and widths against OpenCV; cropdetect against ffmpeg.

use serde_json::{Value, json};

use super::{crc32, read, synthetic::draw};
use crate::pixels::borders::{Borders, CANNY, canny_hough, cropdetect, one_frame, transposed, vertical_lines};
use crate::pixels::canny::canny;
use crate::pixels::hough::Line;
use crate::pixels::luma::Luma;

fn as_json(borders: Option<Borders>) -> Value {
    borders.map_or(Value::Null, |b| json!([b.left, b.right, b.top, b.bottom]))
}

fn lines(found: &[Line]) -> Value {
    found.iter().map(|l| json!([l.at, l.from, l.to])).collect()
}

#[test]
fn edges_lines_and_widths_are_those_of_opencv_and_ffmpeg() {
    let golden = read("borders.json");
    let drawn = golden["drawn"].as_array().unwrap();
    let (mut edge_pixels, mut found) = (0, 0);
    for one in drawn {
        let name = one["case"]["name"].as_str().unwrap();
        let frames: Vec<Luma> = (0..one["frames"].as_array().unwrap().len()).map(|i| draw(&one["case"], i as i64)).collect();
        for (i, (frame, want)) in frames.iter().zip(one["frames"].as_array().unwrap()).enumerate() {
            assert_eq!(crc32(&frame.data), one["luma_crc32"][i], "{name} {i}: the twins draw differently");
            let edges = canny(frame, CANNY.0, CANNY.1);
            let bytes: Vec<u8> = edges.iter().map(|e| u8::from(*e)).collect();
            assert_eq!(bytes.iter().map(|b| u64::from(*b)).sum::<u64>(), want["edges"], "{name} {i}: number of edge pixels");
            assert_eq!(crc32(&bytes), want["edges_crc32"], "{name} {i}: edge pixels");
            assert_eq!(lines(&vertical_lines(&edges, frame.width)), want["vertical"], "{name} {i}");
            assert_eq!(lines(&vertical_lines(&transposed(&edges, frame.width), frame.height)), want["horizontal"], "{name} {i}");
            assert_eq!(as_json(Some(one_frame(frame, 24))), want["borders"], "{name} {i}");
            edge_pixels += want["edges"].as_u64().unwrap();
            found += want["vertical"].as_array().unwrap().len() + want["horizontal"].as_array().unwrap().len();
        }
        assert_eq!(as_json(canny_hough(&frames, 24)), one["canny_hough"], "{name}");
        let all_dark = Borders { top: frames[0].height as u32, ..Borders::default() };
        let want = if one["cropdetect"].is_null() { as_json(Some(all_dark)) } else { one["cropdetect"].clone() };
        assert_eq!(as_json(Some(cropdetect(&frames, 24))), want, "{name}");
    }
    eprintln!("{} cases, {edge_pixels} edge pixels, {found} lines", drawn.len());
    assert!(edge_pixels > 10_000 && found > 100, "the goldens must hold something");
}
