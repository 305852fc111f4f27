//! Words to lines as EasyOCR groups them (`utils.group_text_box`): what lies on one height and close together is read as one.
//!
//! Boxes that are hardly tilted become upright; those on about one height are a line, and neighbours of it with about one height and a small gap are
//! joined. Tilted boxes stay alone. All get a margin. What can go wrong: the rule looks at boxes in the order of their height, so that steps of less
//! than half a line make one line of a staircase; that is the original's way, and kept, because the words that it reads are what the rule of the
//! paper counts.

/// Constants of the grouping; the defaults are those of `Reader.readtext`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LineSettings {
    /// Boxes whose upper and lower edge rise by less than this, as a share of their width, are upright.
    pub slope: f64,
    /// Centres that differ by less than this share of the mean height are in one line.
    pub centre: f64,
    /// Heights that differ by less than this share of the mean may be joined.
    pub height: f64,
    /// Gaps below this share of the height are joined.
    pub gap: f64,
    /// Margin as a share of the shorter side.
    pub margin: f64,
    /// Boxes whose longer side is not above this are dropped, in pixels of the picture.
    pub min_side: f64,
}

impl Default for LineSettings {
    fn default() -> Self {
        LineSettings { slope: 0.1, centre: 0.5, height: 0.5, gap: 0.5, margin: 0.1, min_side: 20.0 }
    }
}

/// A box in whole pixels of the picture: upper left, upper right, lower right, lower left.
pub type PixelQuad = [(i32, i32); 4];

/// What is read as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Where it is.
    pub place: Place,
    /// Which boxes it is made of.
    pub members: Vec<usize>,
}

/// A grouped box; may reach beyond the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    /// Columns `left..right` and rows `top..bottom`.
    Upright {
        /// First column.
        left: i64,
        /// Behind the last column.
        right: i64,
        /// First row.
        top: i64,
        /// Behind the last row.
        bottom: i64,
    },
    /// Corners as of a [`PixelQuad`], at the centres of pixels.
    Tilted([(f64, f64); 4]),
}

#[derive(Clone)]
struct Flat {
    left: i64,
    right: i64,
    top: i64,
    bottom: i64,
    member: usize,
}

impl Flat {
    fn height(&self) -> f64 {
        (self.bottom - self.top) as f64
    }
    fn centre(&self) -> f64 {
        0.5 * (self.top + self.bottom) as f64
    }
}

/// Groups boxes: first the upright ones, line by line, then the tilted ones.
pub fn lines(boxes: &[PixelQuad], settings: &LineSettings) -> Vec<Group> {
    let (mut flat, mut tilted) = (Vec::new(), Vec::new());
    for (member, quad) in boxes.iter().enumerate() {
        if is_upright(quad, settings) {
            let (x, y) = (quad.map(|p| i64::from(p.0)), quad.map(|p| i64::from(p.1)));
            let least = |v: [i64; 4]| v.into_iter().fold(i64::MAX, i64::min);
            let most = |v: [i64; 4]| v.into_iter().fold(i64::MIN, i64::max);
            flat.push(Flat { left: least(x), right: most(x), top: least(y), bottom: most(y), member });
        } else {
            tilted.push(Group { place: Place::Tilted(widened(quad, settings)), members: vec![member] });
        }
    }
    flat.sort_by(|a, b| a.centre().total_cmp(&b.centre()));
    let mut out: Vec<Group> = Vec::new();
    for mut line in on_one_height(flat, settings) {
        line.sort_by_key(|b| b.left);
        out.extend(neighbours(line, settings).iter().map(|words| joined(words, settings)));
    }
    out.extend(tilted);
    out.retain(|group| longer_side(&group.place) > settings.min_side);
    out
}

fn is_upright(quad: &PixelQuad, settings: &LineSettings) -> bool {
    let rise = |from: (i32, i32), to: (i32, i32)| {
        let (dx, dy) = (i64::from(to.0) - i64::from(from.0), i64::from(to.1) - i64::from(from.1));
        // Short edges: a pixel of rounding is no slope.
        (dy as f64 / dx.max(10) as f64).abs()
    };
    rise(quad[0], quad[1]).max(rise(quad[3], quad[2])) < settings.slope
}

/// Each corner is moved along its diagonal.
fn widened(quad: &PixelQuad, settings: &LineSettings) -> [(f64, f64); 4] {
    let p = quad.map(|(x, y)| (f64::from(x), f64::from(y)));
    let length = |a: (f64, f64), b: (f64, f64)| (b.0 - a.0).hypot(b.1 - a.1);
    let margin = (1.44 * settings.margin * length(p[0], p[1]).min(length(p[0], p[3]))).trunc();
    let angle = |a: (f64, f64), b: (f64, f64)| ((a.1 - b.1) / (a.0 - b.0).max(10.0)).atan().abs();
    // Of the falling and of the rising diagonal; the first one's columns are always 10 apart, for they are taken the wrong way round (as in the
    // original).
    let (falling, rising) = (angle(p[0], p[2]), angle(p[1], p[3]));
    let moved = |p: (f64, f64), angle: f64, sx: f64, sy: f64| (p.0 + sx * angle.cos() * margin, p.1 + sy * angle.sin() * margin);
    [
        moved(p[0], falling, -1.0, -1.0),
        moved(p[1], rising, 1.0, -1.0),
        moved(p[2], falling, 1.0, 1.0),
        moved(p[3], rising, -1.0, 1.0),
    ]
}

/// Boxes in the order of their centres, cut where a centre is too far from the mean of the line so far.
fn on_one_height(boxes: Vec<Flat>, settings: &LineSettings) -> Vec<Vec<Flat>> {
    let mut out: Vec<Vec<Flat>> = Vec::new();
    for flat in boxes {
        match out.last_mut() {
            Some(line) if (mean(line, Flat::centre) - flat.centre()).abs() < settings.centre * mean(line, Flat::height) => {
                line.push(flat);
            }
            _ => out.push(vec![flat]),
        }
    }
    out
}

/// Boxes from left to right, cut at gaps and where the height changes.
fn neighbours(line: Vec<Flat>, settings: &LineSettings) -> Vec<Vec<Flat>> {
    let mut out: Vec<Vec<Flat>> = Vec::new();
    for flat in line {
        let fits = |words: &[Flat]| {
            let height = mean(words, Flat::height);
            let gap = words.last().map_or(0, |last| flat.left - last.right) as f64;
            (height - flat.height()).abs() < settings.height * height && gap < settings.gap * flat.height()
        };
        match out.last_mut() {
            Some(words) if fits(words) => words.push(flat),
            _ => out.push(vec![flat]),
        }
    }
    out
}

fn mean(boxes: &[Flat], of: fn(&Flat) -> f64) -> f64 {
    boxes.iter().map(of).sum::<f64>() / boxes.len() as f64
}

fn joined(words: &[Flat], settings: &LineSettings) -> Group {
    let least = |of: fn(&Flat) -> i64| words.iter().map(of).min().unwrap_or(0);
    let most = |of: fn(&Flat) -> i64| words.iter().map(of).max().unwrap_or(0);
    let (left, right, top, bottom) = (least(|b| b.left), most(|b| b.right), least(|b| b.top), most(|b| b.bottom));
    let margin = (settings.margin * (right - left).min(bottom - top) as f64) as i64;
    let place = Place::Upright { left: left - margin, right: right + margin, top: top - margin, bottom: bottom + margin };
    Group { place, members: words.iter().map(|b| b.member).collect() }
}

fn longer_side(place: &Place) -> f64 {
    match place {
        Place::Upright { left, right, top, bottom } => (right - left).max(bottom - top) as f64,
        Place::Tilted(corners) => {
            let extent = |of: fn(&(f64, f64)) -> f64| {
                let (low, high) = corners.iter().map(of).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
                high - low
            };
            extent(|p| p.0).max(extent(|p| p.1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn upright(left: i32, top: i32, right: i32, bottom: i32) -> PixelQuad {
        [(left, top), (right, top), (right, bottom), (left, bottom)]
    }

    fn members(boxes: &[PixelQuad]) -> Vec<Vec<usize>> {
        lines(boxes, &LineSettings::default()).into_iter().map(|g| g.members).collect()
    }

    #[test]
    fn words_of_a_line_are_joined_and_far_ones_are_not() {
        let boxes = [
            upright(200, 12, 260, 40),
            upright(10, 10, 90, 40),
            upright(100, 11, 190, 39),
            upright(400, 10, 480, 40),
            upright(20, 80, 120, 110),
        ];
        assert_eq!(members(&boxes), [vec![1, 2, 0], vec![3], vec![4]]);
        let first = &lines(&boxes, &LineSettings::default())[0];
        assert_eq!(first.place, Place::Upright { left: 7, right: 263, top: 7, bottom: 43 });
    }

    #[test]
    fn small_and_tilted_boxes() {
        assert!(members(&[upright(0, 0, 18, 18)]).is_empty(), "18 and a margin of 1 on each side are not above 20");
        assert_eq!(members(&[upright(0, 0, 19, 19)]), [vec![0]]);
        let tilted = [(10, 30), (90, 10), (97, 38), (17, 58)];
        let found = lines(&[tilted, upright(100, 20, 160, 50)], &LineSettings::default());
        assert!(matches!(found[0].place, Place::Upright { .. }) && matches!(found[1].place, Place::Tilted(_)), "{found:?}");
        assert!(members(&[]).is_empty());
    }

    proptest! {
        /// Every box is in one group at most, and the groups cover their boxes.
        #[test]
        fn each_box_comes_once(boxes in prop::collection::vec((-50i32..600, -50i32..400, 1i32..200, 1i32..80, -20i32..20), 0..30)) {
            let boxes: Vec<PixelQuad> =
                boxes.iter().map(|&(x, y, w, h, t)| [(x, y), (x + w, y + t), (x + w, y + h + t), (x, y + h)]).collect();
            let found = lines(&boxes, &LineSettings { min_side: -1.0, ..LineSettings::default() });
            let mut all: Vec<usize> = found.iter().flat_map(|g| g.members.clone()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..boxes.len()).collect::<Vec<_>>());
            for group in &found {
                if let Place::Upright { left, right, top, bottom } = group.place {
                    for (x, y) in group.members.iter().flat_map(|&m| boxes[m]) {
                        prop_assert!((left..=right).contains(&i64::from(x)) && (top..=bottom).contains(&i64::from(y)));
                    }
                }
            }
        }

        #[test]
        fn any_numbers_are_taken(boxes in prop::collection::vec(prop::array::uniform4((any::<i32>(), any::<i32>())), 0..6)) {
            lines(&boxes, &LineSettings::default());
        }
    }
}
