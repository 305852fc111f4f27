//! Views through a lens inside a body: endoscopy, open surgery.

use super::{SCREEN, Scene, swing};
use crate::canvas::{Canvas, Rgb, blend, shade, step};
use crate::rng::{Rng, fbm, noise};

/// Entries of the light table per unit of distance (the shorter side of the picture).
const LIGHT_STEPS: usize = 1024;

/// Round view of pink folds with moving highlights.
pub struct Endoscopy {
    tissue: Canvas,
    mask: Vec<f32>,
    lumen: (f32, f32),
    highlights: Vec<(f32, f32, f32)>,
    period_s: f32,
}

impl Endoscopy {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32, height as f32);
        let side = w.min(h);
        let base: Rgb = blend([214, 112, 104], [196, 96, 84], rng.unit());
        let tissue = Canvas::from_fn((w * 1.15) as usize, (h * 1.15) as usize, |x, y| {
            let cloud = fbm(x / side * 5.0, y / side * 5.0, seed);
            let vessel = (fbm(x / side * 7.0, y / side * 7.0, seed ^ 5) - 0.5).abs();
            let tone = blend(base, [238, 160, 146], cloud);
            blend([150, 40, 44], tone, step(0.0, 0.03, vessel).max(0.35))
        });
        let radius = side * 0.56;
        let mask = (0..width * height)
            .map(|i| {
                let (dx, dy) = ((i % width) as f32 - w / 2.0, (i / width) as f32 - h / 2.0);
                1.0 - step(radius - 2.0, radius + 2.0, (dx * dx + dy * dy).sqrt())
            })
            .collect();
        let lumen = (w / 2.0 + side * rng.range(-0.1, 0.1), h / 2.0 + side * rng.range(-0.08, 0.08));
        let highlights = (0..7)
            .map(|_| (rng.range(0.0, std::f32::consts::TAU), rng.range(0.2, 0.45) * side, rng.range(0.012, 0.03) * side))
            .collect();
        Endoscopy { tissue, mask, lumen, highlights, period_s: rng.range(9.0, 13.0) }
    }
}

impl Scene for Endoscopy {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        let side = canvas.width.min(canvas.height) as f32;
        let sway = swing(seconds, self.period_s);
        canvas.window(&self.tissue, sway * side * 0.02, -sway * side * 0.01, 1.0 + 0.02 * sway);
        let (lx, ly) = (self.lumen.0 + sway * side * 0.02, self.lumen.1 + sway * side * 0.012);
        // Folds: rings that come closer together towards the dark end of the tube. A table over the distance, as a sine per pixel is slow.
        let light: Vec<f32> = (0..2 * LIGHT_STEPS)
            .map(|i| {
                let d = i as f32 / LIGHT_STEPS as f32;
                let ring = ((1.0 / (d + 0.12)) * 3.4 + seconds * 0.08).sin();
                (step(0.03, 0.3, d) * (0.92 + 0.12 * ring) * (1.12 - 0.5 * d)).max(0.16)
            })
            .collect();
        let width = canvas.width;
        for ((y, row), mask) in canvas.pixels.chunks_exact_mut(width).enumerate().zip(self.mask.chunks_exact(width)) {
            let dy = (y as f32 - ly) / side;
            for ((x, p), &inside) in row.iter_mut().enumerate().zip(mask) {
                if inside <= 0.0 {
                    *p = SCREEN;
                    continue;
                }
                let dx = (x as f32 - lx) / side;
                let at = ((dx * dx + 1.25 * dy * dy).sqrt() * LIGHT_STEPS as f32) as usize;
                let lit = shade(*p, light[at.min(light.len() - 1)]);
                *p = if inside < 1.0 { blend(SCREEN, lit, inside) } else { lit };
            }
        }
        for (i, &(angle, far, size)) in self.highlights.iter().enumerate() {
            let a = angle + 0.10 * swing(seconds, 5.0 + i as f32);
            canvas.ellipse(lx + a.cos() * far, ly + a.sin() * far, size, size * 0.6, 0.6, [255, 246, 240], 0.85);
        }
    }
}

/// Full view of red tissue and fat with a steel instrument.
pub struct Surgery {
    tissue: Canvas,
    from_left: bool,
    period_s: f32,
    target: (f32, f32),
}

impl Surgery {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32 * 1.12, height as f32 * 1.12);
        let fat_share = rng.range(0.56, 0.6);
        let tissue = Canvas::from_fn(w as usize, h as usize, |x, y| {
            let (u, v) = (x / h, y / h);
            let muscle = fbm(u * 14.0 + v * 3.0, v * 4.0, seed);
            let red = blend([120, 18, 22], [206, 62, 54], muscle);
            let lobule = fbm(u * 3.2, v * 3.2, seed ^ 3);
            let fat = blend([214, 158, 70], [246, 214, 138], noise(u * 22.0, v * 22.0, seed ^ 8));
            let colour = blend(red, fat, step(fat_share, fat_share + 0.05, lobule));
            let (dx, dy) = (u - w / h * 0.5, v - 0.5);
            let glint = step(0.9, 0.97, noise(u * 30.0, v * 30.0, seed ^ 6));
            blend(shade(colour, 1.12 - 0.55 * (dx * dx + dy * dy)), [255, 240, 235], glint * 0.7)
        });
        let target = (rng.range(0.42, 0.58), rng.range(0.45, 0.6));
        Surgery { tissue, from_left: rng.below(2) == 0, period_s: rng.range(8.0, 11.0), target }
    }
}

impl Scene for Surgery {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        let sway = swing(seconds, self.period_s);
        canvas.window(&self.tissue, sway * h * 0.012, 0.0, 1.0 + 0.01 * swing(seconds, self.period_s * 0.7));
        let side = if self.from_left { -1.0 } else { 1.0 };
        let tip = (self.target.0 * w + sway * h * 0.025, self.target.1 * h + swing(seconds, self.period_s * 0.6) * h * 0.015);
        let elbow = (tip.0 + side * h * 0.12, tip.1 - h * 0.09);
        let end = (tip.0 + side * h * 1.3, tip.1 - h * 0.55);
        canvas.line(elbow, end, h * 0.062, [120, 126, 134]);
        canvas.line((elbow.0, elbow.1 - h * 0.012), (end.0, end.1 - h * 0.012), h * 0.022, [214, 220, 226]);
        let open = h * (0.03 + 0.012 * swing(seconds, self.period_s * 0.5));
        canvas.line(elbow, (tip.0, tip.1 - open), h * 0.022, [186, 192, 200]);
        canvas.line(elbow, (tip.0, tip.1 + open), h * 0.022, [150, 156, 164]);
    }
}
