//! Pictures through eyepieces: stained tissue, retina.

use super::{SCREEN, Scene, swing};
use crate::canvas::{Canvas, blend, shade, step};
use crate::rng::{Rng, fbm, noise};

/// Pink and purple stained tissue, panning.
pub struct Histology {
    slide: Canvas,
    direction: (f32, f32),
}

impl Histology {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let side = width.min(height) as f32;
        let (w, h) = (width as f32 + side * 0.3, height as f32 + side * 0.3);
        let mut slide = Canvas::from_fn(w as usize, h as usize, |x, y| {
            let fibre = fbm(x / side * 10.0, y / side * 26.0, seed);
            let gap = step(0.66, 0.74, fbm(x / side * 5.0, y / side * 5.0, seed ^ 7));
            blend(blend([226, 128, 176], [246, 196, 220], fibre), [250, 240, 247], gap)
        });
        let cell = side * rng.range(0.038, 0.046);
        let (columns, rows) = ((w / cell) as i32 + 1, (h / cell) as i32 + 1);
        for row in 0..rows {
            for column in 0..columns {
                let (x, y) = ((column as f32 + rng.range(0.1, 0.9)) * cell, (row as f32 + rng.range(0.1, 0.9)) * cell);
                let crowd = fbm(x / side * 4.0, y / side * 4.0, seed ^ 2);
                let (size, keep) = (cell * rng.range(0.2, 0.36), rng.unit());
                if keep < 0.35 + 0.9 * crowd {
                    let colour = blend([86, 44, 132], [122, 76, 164], rng.unit());
                    slide.ellipse(x, y, size, size * rng.range(0.7, 1.0), 0.35, colour, 0.9);
                }
            }
        }
        let angle = rng.range(0.0, std::f32::consts::TAU);
        Histology { slide, direction: (angle.cos(), angle.sin()) }
    }
}

impl Scene for Histology {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        let reach = canvas.width.min(canvas.height) as f32 * 0.13;
        let way = swing(seconds, 60.0) * reach;
        canvas.window(&self.slide, self.direction.0 * way, self.direction.1 * way, 1.0);
    }
}

/// Orange retina with vessels.
pub struct Fundus {
    eye: Canvas,
    period_s: f32,
}

impl Fundus {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32 * 1.06, height as f32 * 1.06);
        let side = w.min(h);
        let radius = side * 0.53;
        let nasal = if rng.below(2) == 0 { 1.0 } else { -1.0 };
        let (ox, oy) = (w / 2.0 + nasal * side * 0.2, h / 2.0 + side * rng.range(-0.04, 0.04));
        let mut eye = Canvas::from_fn(w as usize, h as usize, |x, y| {
            let glow = fbm(x / side * 4.0, y / side * 4.0, seed);
            let (mx, my) = (x - w / 2.0 + nasal * side * 0.12, y - h / 2.0);
            let macula = 1.0 - step(0.0, side * 0.12, (mx * mx + my * my).sqrt());
            shade(blend([205, 84, 22], [240, 132, 48], glow), 1.0 - 0.42 * macula)
        });
        for vessel in 0..10 {
            let up = if vessel % 2 == 0 { 1.0 } else { -1.0 };
            let mut angle = up * rng.range(0.5, 2.2) + if nasal > 0.0 { std::f32::consts::PI } else { 0.0 };
            let (mut x, mut y, mut thick) = (ox, oy, side * rng.range(0.008, 0.014));
            for _ in 0..60 {
                angle += rng.range(-0.13, 0.13);
                let next = (x + angle.cos() * side * 0.014, y + angle.sin() * side * 0.014);
                eye.line((x, y), next, thick.max(1.5), [138, 26, 18]);
                (x, y) = next;
                thick *= 0.985;
            }
        }
        eye.disc(ox, oy, side * 0.075, side * 0.02, [252, 216, 140], 1.0);
        eye.disc(ox, oy, side * 0.035, side * 0.02, [255, 240, 196], 1.0);
        for (i, p) in eye.pixels.iter_mut().enumerate() {
            let (x, y) = ((i % w as usize) as f32, (i / w as usize) as f32);
            let d = ((x - w / 2.0).powi(2) + (y - h / 2.0).powi(2)).sqrt();
            let rim = 1.0 - 0.35 * step(radius * 0.6, radius, d) + 0.04 * (noise(x, y, seed) - 0.5);
            *p = blend(shade(*p, rim), SCREEN, step(radius - 2.0, radius + 2.0, d));
        }
        Fundus { eye, period_s: rng.range(7.0, 10.0) }
    }
}

impl Scene for Fundus {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        let side = canvas.width.min(canvas.height) as f32;
        canvas.window(
            &self.eye,
            swing(seconds, self.period_s) * side * 0.012,
            swing(seconds, self.period_s * 0.7) * side * 0.008,
            1.0,
        );
    }
}
