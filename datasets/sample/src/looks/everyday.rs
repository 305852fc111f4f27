//! Pictures that have no place in a medical data set.

use super::{Scene, swing};
use crate::canvas::{Canvas, Rgb, blend, shade, step};
use crate::font::text;
use crate::rng::{Rng, fbm, noise};

/// The words on a slide.
pub const SLIDE_LINES: [&str; 5] =
    ["LEARNING OBJECTIVES", "- KNOW THE MAIN POINTS", "- READ THE CHAPTER FIRST", "- ASK QUESTIONS AT THE END", "PAGE 4"];
/// The words in the caption band of the studio.
pub const NEWS_LINES: [&str; 2] = ["CITY COUNCIL PASSES BUDGET", "LIVE FROM THE TOWN HALL"];

/// Sky, sun, clouds, green hills.
pub struct Landscape {
    sky: Canvas,
    clouds: Canvas,
    /// First row of the hills in each column.
    ridge: Vec<usize>,
    hills: Canvas,
    sun: (f32, f32),
}

impl Landscape {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32, height as f32);
        let deep = blend([46, 120, 214], [78, 150, 232], rng.unit());
        let sky = Canvas::from_fn(width, height, |_, y| blend(deep, [206, 230, 250], y / h * 1.5));
        let clouds = Canvas::from_fn((w * 1.3) as usize, height / 2, |x, y| {
            let cover = step(0.5, 0.72, fbm(x / h * 3.0, y / h * 6.0, seed)) * 0.8 * (1.0 - y / (h * 0.5));
            [(255.0 * cover) as u8; 3]
        });
        let mut hills = Canvas::new(width, height, [0; 3]);
        let mut ridge = vec![height; width];
        for (i, (top, colour)) in [(0.55, [126, 172, 96]), (0.66, [84, 148, 62]), (0.8, [52, 112, 40])].into_iter().enumerate() {
            for (x, first) in ridge.iter_mut().enumerate() {
                let crest = h * (top - 0.14 * (fbm(x as f32 / w * 3.0 + i as f32 * 9.0, 0.5, seed ^ 1) - 0.4));
                *first = (*first).min(crest as usize);
                for y in crest as usize..height {
                    hills.pixels[y * width + x] = shade(colour, 0.9 + 0.2 * (((x * 7 + y * 13) % 11) as f32 / 11.0));
                }
            }
        }
        Landscape { sky, clouds, ridge, hills, sun: (w * rng.range(0.6, 0.85), h * 0.16) }
    }
}

impl Scene for Landscape {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.sky.pixels);
        let (width, w, h) = (canvas.width, canvas.width as f32, canvas.height as f32);
        canvas.disc(self.sun.0, self.sun.1 + seconds * h * 0.001, h * 0.08, h * 0.02, [255, 236, 120], 1.0);
        let drift = ((seconds * w * 0.004) as usize).min(self.clouds.width - width);
        for (row, clouds) in canvas.pixels.chunks_exact_mut(width).zip(self.clouds.pixels.chunks_exact(self.clouds.width)) {
            for (p, cover) in row.iter_mut().zip(&clouds[drift..]).filter(|(_, cover)| cover[0] > 0) {
                *p = blend(*p, [250, 252, 255], cover[0] as f32 / 255.0);
            }
        }
        for (y, row) in canvas.pixels.chunks_exact_mut(width).enumerate() {
            for ((p, &first), hill) in row.iter_mut().zip(&self.ridge).zip(&self.hills.pixels[y * width..]) {
                if y >= first {
                    *p = *hill;
                }
            }
        }
    }
}

/// Sunset over waves.
pub struct Ocean {
    still: Canvas,
    waves: Canvas,
}

impl Ocean {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32, height as f32);
        let sun_x = w * rng.range(0.35, 0.65);
        let horizon = 0.45 * h;
        let still = Canvas::from_fn(width, height, |x, y| {
            if y < horizon {
                let d = ((x - sun_x).powi(2) + (y - horizon * 0.85).powi(2)).sqrt();
                let glow = blend([255, 150, 60], [120, 70, 150], d / w * 1.6);
                blend([255, 250, 200], glow, step(h * 0.07, h * 0.09, d))
            } else {
                blend([40, 120, 150], [8, 44, 78], (y - horizon) / (h - horizon))
            }
        });
        let waves = Canvas::from_fn(width, (h * 1.2) as usize, |x, y| [(255.0 * fbm(x / h * 5.0, y / h * 34.0, seed)) as u8; 3]);
        Ocean { still, waves }
    }
}

impl Scene for Ocean {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.still.pixels);
        let first = canvas.height * 45 / 100 + 1;
        let drift = ((seconds * canvas.height as f32 * 0.008) as usize).min(self.waves.height - canvas.height);
        for y in first..canvas.height {
            for x in 0..canvas.width {
                let v = self.waves.pixels[(y + drift) * canvas.width + x][0] as f32 / 255.0;
                let p = &mut canvas.pixels[y * canvas.width + x];
                *p = blend(*p, [210, 236, 240], step(0.55, 0.8, v) * 0.6);
            }
        }
    }
}

/// Night skyline with lit windows.
pub struct City {
    skyline: Canvas,
    cars: Vec<(f32, f32, Rgb)>,
}

impl City {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let (w, h) = (width as f32, height as f32);
        let mut skyline = Canvas::from_fn(width, height, |_, y| blend([34, 34, 86], [120, 70, 130], y / h));
        let mut x = 0;
        while x < width as i32 {
            let (bw, bh) = ((h * rng.range(0.08, 0.16)) as i32, (h * rng.range(0.3, 0.75)) as i32);
            let top = height as i32 - bh - (h * 0.12) as i32;
            skyline.rect(x, top, bw - 2, bh, [36, 38, 54]);
            let pitch = (h * 0.028) as i32;
            for wy in (top + pitch / 2..top + bh - pitch).step_by(pitch.max(3) as usize) {
                for wx in (x + pitch / 3..x + bw - pitch).step_by(pitch.max(3) as usize) {
                    if rng.unit() < 0.55 {
                        skyline.rect(wx, wy, pitch / 2, pitch * 2 / 3, blend([255, 214, 110], [255, 244, 190], rng.unit()));
                    }
                }
            }
            x += bw;
        }
        skyline.rect(0, (h * 0.88) as i32, w as i32, (h * 0.12) as i32 + 1, [52, 50, 58]);
        let cars = (0..8)
            .map(|i| (rng.range(0.0, 1.0), 0.9 + 0.09 * rng.unit(), if i % 2 == 0 { [255, 250, 220] } else { [235, 40, 40] }))
            .collect();
        City { skyline, cars }
    }
}

impl Scene for City {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.skyline.pixels);
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        for (i, &(start, y, colour)) in self.cars.iter().enumerate() {
            let way = if i % 2 == 0 { 0.02 } else { -0.02 };
            canvas.disc((start + way * seconds).rem_euclid(1.0) * w, y * h, h * 0.012, h * 0.006, colour, 0.9);
        }
    }
}

/// White page with title and lines of text.
pub struct Slides {
    page: Canvas,
}

impl Slides {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let (w, h) = (width as f32, height as f32);
        let accent = blend([24, 66, 140], [20, 110, 120], rng.unit());
        let mut page = Canvas::new(width, height, [248, 248, 244]);
        page.rect(0, 0, width as i32, (h * 0.2) as i32, accent);
        let scale = (width / 220).max(2);
        text(&mut page, (w * 0.05) as i32, (h * 0.07) as i32, scale + 1, [250, 250, 250], SLIDE_LINES[0]);
        for (i, line) in SLIDE_LINES[1..4].iter().enumerate() {
            text(&mut page, (w * 0.07) as i32, (h * (0.32 + 0.15 * i as f32)) as i32, scale, [40, 44, 52], line);
        }
        text(&mut page, (w * 0.84) as i32, (h * 0.92) as i32, (scale / 2).max(2), [90, 94, 102], SLIDE_LINES[4]);
        Slides { page }
    }
}

impl Scene for Slides {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.page.pixels);
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        let (x, y) = (w * (0.6 + 0.05 * swing(seconds, 6.0)), h * (0.5 + 0.1 * swing(seconds, 9.0)));
        canvas.disc(x, y, h * 0.012, 2.0, [230, 30, 40], 1.0);
    }
}

/// Coloured discs and squares on a plain ground.
pub struct Shapes {
    ground: Rgb,
    bodies: Vec<(f32, f32, f32, f32, Rgb)>,
}

impl Shapes {
    pub fn new(rng: &mut Rng, _width: usize, _height: usize) -> Self {
        let colours = [[250, 214, 40], [240, 60, 150], [60, 70, 220], [250, 250, 250], [255, 130, 20]];
        let ground = blend([20, 150, 130], [40, 170, 80], rng.unit());
        let bodies = colours
            .iter()
            .map(|&c| (rng.range(0.2, 0.8), rng.range(0.2, 0.8), rng.range(7.0, 12.0), rng.range(0.06, 0.11), c))
            .collect();
        Shapes { ground, bodies }
    }
}

impl Scene for Shapes {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.fill(self.ground);
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        for (i, &(x, y, period, size, colour)) in self.bodies.iter().enumerate() {
            let (cx, cy) = (w * (x + 0.03 * swing(seconds, period)), h * (y + 0.05 * swing(seconds + 2.0, period * 0.8)));
            if i % 2 == 0 {
                canvas.disc(cx, cy, size * h, 2.0, colour, 1.0);
            } else {
                let s = (size * h * 1.8) as i32;
                canvas.rect(cx as i32 - s / 2, cy as i32 - s / 2, s, s, colour);
            }
        }
    }
}

/// Speaker in a blue studio with a caption band.
pub struct News {
    studio: Canvas,
    jacket: Rgb,
    centre: f32,
}

impl News {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let (w, h) = (width as f32, height as f32);
        let studio = Canvas::from_fn(width, height, |x, y| {
            let panel = if ((x / w * 8.0) as i32) % 2 == 0 { 1.0 } else { 0.82 };
            shade(blend([30, 84, 190], [90, 170, 240], y / h), panel)
        });
        News { studio, jacket: blend([70, 74, 84], [110, 60, 70], rng.unit()), centre: rng.range(0.4, 0.6) }
    }
}

impl Scene for News {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.pixels.copy_from_slice(&self.studio.pixels);
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        let (cx, nod) = (w * self.centre + h * 0.006 * swing(seconds, 4.0), h * 0.005 * swing(seconds, 2.6));
        canvas.ellipse(cx, h * 0.88, h * 0.3, h * 0.36, 0.02, self.jacket, 1.0);
        canvas.ellipse(cx, h * 0.36 + nod, h * 0.115, h * 0.15, 0.03, [226, 180, 150], 1.0);
        canvas.ellipse(cx, h * 0.27 + nod, h * 0.125, h * 0.09, 0.05, [84, 58, 40], 1.0);
        for side in [-1.0, 1.0] {
            canvas.disc(cx + side * h * 0.045, h * 0.35 + nod, h * 0.012, 2.0, [40, 36, 40], 1.0);
        }
        canvas.ellipse(cx, h * 0.435 + nod, h * 0.035, h * (0.008 + 0.006 * swing(seconds, 0.7)), 0.2, [150, 60, 60], 1.0);
        canvas.rect(0, (h * 0.78) as i32, w as i32, (h * 0.12) as i32, [200, 24, 36]);
        canvas.rect(0, (h * 0.9) as i32, w as i32, (h * 0.1) as i32 + 1, [244, 244, 248]);
        let scale = (canvas.width / 240).max(2);
        text(canvas, (w * 0.04) as i32, (h * 0.81) as i32, scale, [255, 255, 255], NEWS_LINES[0]);
        text(canvas, (w * 0.04) as i32, (h * 0.925) as i32, (scale - 1).max(2), [30, 30, 40], NEWS_LINES[1]);
    }
}

/// Plate of vegetables on a wooden table.
pub struct Food {
    table: Canvas,
    steam_s: f32,
}

impl Food {
    pub fn new(rng: &mut Rng, width: usize, height: usize) -> Self {
        let seed = rng.bits() as u32;
        let (w, h) = (width as f32, height as f32);
        let side = w.min(h);
        let mut table = Canvas::from_fn(width, height, |x, y| {
            let grain = noise(x / side * 3.0, y / side * 40.0, seed);
            blend([128, 82, 44], [176, 122, 70], grain)
        });
        table.disc(w / 2.0, h / 2.0, side * 0.44, 3.0, [238, 238, 234], 1.0);
        table.disc(w / 2.0, h / 2.0, side * 0.34, 4.0, [222, 224, 222], 1.0);
        for _ in 0..70 {
            let (a, d) = (rng.range(0.0, std::f32::consts::TAU), rng.unit().sqrt() * side * 0.28);
            let colour = [[60, 150, 50], [90, 180, 60], [226, 60, 40], [250, 170, 40], [240, 220, 90]][rng.below(5) as usize];
            let size = side * rng.range(0.025, 0.05);
            table.ellipse(w / 2.0 + a.cos() * d, h / 2.0 + a.sin() * d, size, size * 0.8, 0.15, colour, 1.0);
        }
        Food { table, steam_s: rng.range(6.0, 9.0) }
    }
}

impl Scene for Food {
    fn draw(&self, canvas: &mut Canvas, seconds: f32) {
        canvas.window(&self.table, 0.0, 0.0, 1.02 + 0.02 * swing(seconds, self.steam_s));
    }
}
