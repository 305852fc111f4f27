//! Pictures that Python and Rust draw alike; the twin is `scripts/goldens/synthetic.py`.

use serde_json::Value;

use crate::pixels::luma::Luma;

/// Frame number `frame` of a case.
pub fn draw(case: &Value, frame: i64) -> Luma {
    let number = |key: &str| case[key].as_i64().unwrap();
    let flag = |key: &str| case[key].as_bool().unwrap();
    let list = |key: &str| case[key].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect::<Vec<_>>();
    let (w, h) = (number("width"), number("height"));
    let (bars, shift) = (list("bars"), list("shift"));
    let [left, right, top, bottom] = bars[..] else { panic!("four bars") };
    let step = if flag("still") { 0 } else { frame };
    let mut state = (number("seed") * 2_654_435_761 + step * 40_503 + 1) as u32;
    state = if state == 0 { 1 } else { state };
    let (rx, ry) = ((w - left - right).div_euclid(2), (h - top - bottom).div_euclid(2));
    let (cx, cy) = (left + rx, top + ry);
    let mut data = Vec::new();
    for y in 0..h {
        for x in 0..w {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let mut lit = left <= x && x < w - right && top <= y && y < h - bottom;
            if lit && flag("round") {
                lit = ((x - cx) * ry).pow(2) + ((y - cy) * rx).pow(2) <= (rx * ry).pow(2);
            }
            let random = |below: i64| if below > 0 { i64::from(state) % below } else { 0 };
            let value = if lit {
                let u = (x + shift[0] * step + 10_000) / number("zoom");
                let v = (y + shift[1] * step + 10_000) / number("zoom");
                let wave = ((3 * u + 2 * v) % 120 - 60).abs() + ((5 * v - u + 60_000) % 64 - 32).abs();
                number("bright") + wave + random(number("noise"))
            } else {
                number("dark") + random(number("dark_noise"))
            };
            data.push(value.min(255) as u8);
        }
    }
    Luma { width: w as usize, height: h as usize, data }
}
