//! Sharpness, light, blocks and shift against OpenCV and numpy.

use serde_json::Value;

use super::{read, synthetic::draw};
use crate::pixels::blocks::blocks;
use crate::pixels::light::light;
use crate::pixels::luma::Luma;
use crate::pixels::sharpness::{laplacian_variance, tenengrad};
use crate::pixels::shift::Spectrum;

fn near(what: &str, got: f64, want: &Value, tolerance: f64) {
    let want = want.as_f64().unwrap_or_else(|| panic!("{what}: {got}, wanted {want}"));
    assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{what}: {got}, wanted {want}");
}

#[test]
fn measures_are_those_of_opencv_and_numpy() {
    let golden = read("measures.json");
    for one in golden["drawn"].as_array().unwrap() {
        let name = one["case"]["name"].as_str().unwrap();
        let wanted = one["frames"].as_array().unwrap();
        let frames: Vec<Luma> = (0..wanted.len()).map(|i| draw(&one["case"], i as i64)).collect();
        for (frame, want) in frames.iter().zip(wanted) {
            near(&format!("{name}: laplacian"), laplacian_variance(frame), &want["laplacian"], 1e-9);
            near(&format!("{name}: tenengrad"), tenengrad(frame), &want["tenengrad"], 1e-9);
            let got = light(frame).unwrap();
            let parts = [
                ("mean", got.mean),
                ("contrast", got.contrast),
                ("dark_share", got.dark_share),
                ("bright_share", got.bright_share),
            ];
            parts.iter().for_each(|(key, got)| near(&format!("{name}: {key}"), *got, &want["light"][key], 1e-9));
            let got = blocks(frame).unwrap();
            let parts =
                [("boundary", got.boundary), ("inside", got.inside), ("crossings", got.crossings), ("ratio", got.ratio())];
            parts.iter().for_each(|(key, got)| near(&format!("{name}: {key}"), *got, &want["blocks"][key], 1e-9));
            match got.quality() {
                Some(got) => near(&format!("{name}: quality"), got, &want["blocks"]["quality"], 1e-9),
                None => assert!(want["blocks"]["quality"].is_null(), "{name}"),
            }
        }
        for (pair, (shift, difference)) in
            frames.windows(2).zip(one["shifts"].as_array().unwrap().iter().zip(one["differences"].as_array().unwrap()))
        {
            let got = Spectrum::of(&pair[0]).unwrap().to(&Spectrum::of(&pair[1]).unwrap()).unwrap();
            near(&format!("{name}: dx"), got.dx, &shift["dx"], 1e-6);
            near(&format!("{name}: dy"), got.dy, &shift["dy"], 1e-6);
            near(&format!("{name}: response"), got.response, &shift["response"], 1e-6);
            near(&format!("{name}: difference"), pair[0].mean_difference(&pair[1]).unwrap(), difference, 1e-9);
        }
    }
}
