//! Grey scan pictures: ultrasound fan, head slice, chest x-ray.

use super::{SCREEN, Scene, swing};
use crate::canvas::{Canvas, blend, shade, step};
use crate::rng::{Rng, fbm, noise};

const SPECKLE: usize = 512;

/// Where a pixel of the fan lies: in the speckle texture, how bright its tissue is, how far from the middle of the cavity.
struct FanPixel {
    at: usize,
    radius: u16,
    angle: u16,
    tissue: f32,
    cavity: f32,
}

/// Grey fan of moving speckle with a beating cavity.
pub struct Ultrasound {
    background: Canvas,
    fan: Vec<FanPixel>,
    speckle: Vec<f32>,
    tint: [f32; 3],
    beat_s: f32,
}

impl Ultrasound {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let (w, h) = (width as f32, height as f32);
        let seed = rng.bits() as u32;
        let half_angle = rng.range(0.62, 0.78_f32).min((w * 0.62 / h).atan());
        let (apex_x, apex_y) = (w * rng.range(0.47, 0.53), -0.08 * h);
        let (near, far) = (0.14 * h, 1.02 * h);
        let (cav_x, cav_y) = (apex_x + w * rng.range(-0.06, 0.06), h * rng.range(0.48, 0.58));
        let (cav_rx, cav_ry) = (0.17 * h, 0.21 * h);
        let mut background = Canvas::new(width, height, SCREEN);
        for i in 0..9 {
            let y = (0.1 + 0.1 * i as f32) * h;
            background.rect((w * 0.02) as i32, y as i32, if i % 4 == 0 { 14 } else { 8 }, 2, [150, 150, 150]);
        }
        for i in 0..12 {
            let y = 0.1 * h + i as f32 * 0.03 * h;
            background.rect((w * 0.96) as i32, y as i32, 12, (0.03 * h) as i32 + 1, [230 - i * 18; 3]);
        }
        let mut fan = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let (dx, dy) = (x as f32 - apex_x, y as f32 - apex_y);
                let (r, a) = ((dx * dx + dy * dy).sqrt(), dx.atan2(dy));
                if a.abs() < half_angle && r > near && r < far {
                    let layers = fbm(r / h * 9.0, a * 3.0, seed);
                    let wall = 1.0 - step(0.0, 0.05, (r / h - 0.93 - 0.03 * (a * 4.0).sin()).abs());
                    let (ex, ey) = ((x as f32 - cav_x) / cav_rx, (y as f32 - cav_y) / cav_ry);
                    fan.push(FanPixel {
                        at: y * width + x,
                        radius: (r / h * 480.0) as u16,
                        angle: ((a + 2.0) * 150.0) as u16,
                        tissue: (50.0 + 120.0 * layers + 80.0 * wall) * (1.15 - 0.45 * r / h),
                        cavity: (ex * ex + ey * ey).sqrt() + 0.12 * (noise(a * 9.0, r / h * 9.0, seed ^ 9) - 0.5),
                    });
                }
            }
        }
        let speckle = (0..SPECKLE * SPECKLE).map(|_| (rng.unit() * rng.unit()).sqrt()).collect();
        let warm = rng.range(0.92, 1.04);
        Ultrasound { background, fan, speckle, tint: [warm, 1.0, 1.96 - warm], beat_s: rng.range(0.9, 1.3) }
    }
}

impl Scene for Ultrasound {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.background.pixels);
        let edge = 1.0 + 0.10 * swing(seconds, self.beat_s);
        // Two layers of speckle that drift against each other look as tissue does when the probe is held by a hand.
        let (drift_a, drift_b) = ((seconds * 9.0) as usize, (seconds * 5.0) as usize);
        for p in &self.fan {
            let (r, a) = (p.radius as usize, p.angle as usize);
            let one = self.speckle[((r + drift_a) % SPECKLE) * SPECKLE + a % SPECKLE];
            let two = self.speckle[((r / 2 + SPECKLE - drift_b % SPECKLE) % SPECKLE) * SPECKLE + (a / 2 + 77) % SPECKLE];
            let inside = 1.0 - step(edge - 0.1, edge + 0.1, p.cavity);
            let wall = 1.0 - step(0.0, 0.16, (p.cavity - edge - 0.1).abs());
            let v = p.tissue * (1.0 - 0.85 * inside) * (0.35 + 0.9 * one + 0.4 * two) * (1.0 + 0.8 * wall);
            canvas.pixels[p.at] = self.tint.map(|t| (12.0 + v * t).min(255.0) as u8);
        }
    }
}

/// Grey head slice, slowly passing through.
pub struct Mri {
    slices: [Canvas; 2],
    period_s: f32,
}

impl Mri {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (h, cx, cy) = (height.min(width) as f32, width as f32 * 0.5, height as f32 * 0.5);
        let (rx, ry) = (h * rng.range(0.36, 0.40), h * rng.range(0.43, 0.46));
        let slice = |level: f32| {
            Canvas::from_fn(width, height, |x, y| {
                let (ex, ey) = ((x - cx) / rx, (y - cy) / ry);
                let d = (ex * ex + ey * ey).sqrt();
                let fold = fbm(ex * 4.5 + 3.0, ey * 4.5 + level * 0.25, seed);
                let grey = if d > 1.0 {
                    36.0 + 5.0 * noise(x, y, seed ^ 4)
                } else if d > 0.93 {
                    205.0 - 30.0 * noise(ex * 20.0, ey * 20.0, seed)
                } else if d > 0.86 {
                    26.0
                } else {
                    let sulcus = step(0.0, 0.055, (fold - 0.5).abs());
                    let brain = (92.0 + 60.0 * sulcus) * (1.0 - 0.12 * d) + 30.0 * (1.0 - step(0.35, 0.6, d));
                    let mid = step(0.0, 0.025, ex.abs());
                    let (vx, vy) = ((ex.abs() - 0.13) / (0.10 + 0.03 * level), (ey + 0.05) / (0.28 + 0.06 * level));
                    let ventricle = step(0.85, 1.05, (vx * vx + vy * vy).sqrt());
                    (brain * (0.55 + 0.45 * mid)) * (0.22 + 0.78 * ventricle)
                };
                let g = grey.clamp(0.0, 255.0) as u8;
                [g, g, g.saturating_add(3)]
            })
        };
        Mri { slices: [slice(0.0), slice(1.0)], period_s: rng.range(14.0, 20.0) }
    }
}

impl Scene for Mri {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        let share = 0.5 + 0.5 * swing(seconds, self.period_s);
        let weight = (share * 256.0) as u32;
        for ((p, a), b) in canvas.pixels.iter_mut().zip(&self.slices[0].pixels).zip(&self.slices[1].pixels) {
            *p = [0, 1, 2].map(|i| ((a[i] as u32 * (256 - weight) + b[i] as u32 * weight) >> 8) as u8);
        }
    }
}

/// Bluish chest picture, breathing.
pub struct Xray {
    plate: Canvas,
    breath_s: f32,
}

impl Xray {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32 * 1.1, height as f32 * 1.1);
        let rib_gap = rng.range(0.085, 0.1);
        let plate = Canvas::from_fn(w as usize, h as usize, |x, y| {
            let (u, v) = ((x - w / 2.0) / h, y / h);
            let body = 1.0 - step(0.42, 0.62, u.abs());
            let mut bright = 60.0 + 105.0 * body;
            let (lx, ly) = ((u.abs() - 0.24) / 0.17, (v - 0.5) / (0.36 - 0.05 * u.signum()));
            let lung = 1.0 - step(0.8, 1.1, (lx * lx + ly * ly).sqrt());
            bright *= 1.0 - 0.62 * lung;
            let arc = v + 0.55 * (u.abs() - 0.2).powi(2) - 0.05 * u.abs();
            let rib = 0.5 + 0.5 * (arc / rib_gap * std::f32::consts::TAU).cos();
            bright += 48.0 * rib.powi(3) * body * step(0.06, 0.12, u.abs());
            bright += 75.0 * (1.0 - step(0.03, 0.07, u.abs())) * (0.8 + 0.2 * (v * 70.0).sin());
            let (hx, hy) = ((u - 0.07) / 0.15, (v - 0.66) / 0.17);
            bright += 60.0 * (1.0 - step(0.7, 1.1, (hx * hx + hy * hy).sqrt()));
            bright += 18.0 * (fbm(x / 14.0, y / 14.0, seed) - 0.5);
            shade(blend([150, 185, 225], [225, 240, 255], bright / 255.0), (bright / 235.0).clamp(0.12, 1.0))
        });
        Xray { plate, breath_s: rng.range(4.0, 6.0) }
    }
}

impl Scene for Xray {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.window(&self.plate, 0.0, 0.0, 1.0 + 0.012 * swing(seconds, self.breath_s));
    }
}
