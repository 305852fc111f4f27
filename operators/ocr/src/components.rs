//! Text regions of a detector's map: pixels above the threshold, joined where they touch.
//!
//! DB's are widened before by one pixel to the right and below (a 2 x 2 dilation) and touch diagonally too; CRAFT's are not and do not.
//!
//! A region is kept as the runs of its rows. Their ends hold every corner of the region's hull, so that nothing else is needed. Runs are joined with
//! a union-find in one pass; the oracle in the tests floods pixel by pixel.

/// A stretch of a row, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Row.
    pub y: u32,
    /// First column.
    pub first: u32,
    /// Last column.
    pub last: u32,
}

/// Which neighbours belong to one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbours {
    /// Left, right, above, below.
    Four,
    /// Diagonal ones too.
    Eight,
}

/// The regions of a map of `width` columns, in the order of their first pixel; the runs of each from top to bottom.
pub fn components(map: &[f32], width: usize, threshold: f32) -> Vec<Vec<Run>> {
    if width == 0 {
        return Vec::new();
    }
    regions(width, map.len() / width, Neighbours::Eight, |y, row| dilated(map, width, y, threshold, row))
}

/// The regions of any mask of `width` columns and `rows` rows; `fill` sets every pixel of the row that it is asked for.
pub fn regions(width: usize, rows: usize, neighbours: Neighbours, mut fill: impl FnMut(usize, &mut [bool])) -> Vec<Vec<Run>> {
    let reach = usize::from(neighbours == Neighbours::Eight);
    let mut runs: Vec<Run> = Vec::new();
    let mut parent: Vec<u32> = Vec::new();
    let mut row = vec![false; width];
    let (mut above, mut above_end) = (0, 0); // runs[above..above_end] are those of the row above
    for y in 0..rows {
        fill(y, &mut row);
        let start = runs.len();
        let mut x = 0;
        while let Some(first) = row[x..].iter().position(|on| *on).map(|i| x + i) {
            let last = row[first..].iter().position(|on| !*on).map_or(width, |i| first + i) - 1;
            let id = runs.len() as u32;
            runs.push(Run { y: y as u32, first: first as u32, last: last as u32 });
            parent.push(id);
            // Runs of the row above that end before this one starts can touch no later one either.
            while above < above_end && (runs[above].last as usize) + reach < first {
                above += 1;
            }
            for (other, run) in runs.iter().enumerate().take(above_end).skip(above) {
                if run.first as usize > last + reach {
                    break;
                }
                join(&mut parent, other as u32, id);
            }
            x = last + 1;
        }
        (above, above_end) = (start, runs.len());
    }
    gather(&runs, &mut parent)
}

fn gather(runs: &[Run], parent: &mut [u32]) -> Vec<Vec<Run>> {
    let mut out: Vec<Vec<Run>> = Vec::new();
    let mut slot = vec![u32::MAX; runs.len()];
    for (id, run) in runs.iter().enumerate() {
        let root = root(parent, id as u32) as usize;
        if slot[root] == u32::MAX {
            slot[root] = out.len() as u32;
            out.push(Vec::new());
        }
        out[slot[root] as usize].push(*run);
    }
    out
}

/// Row `y` of the widened mask: a pixel is on when it, its left, upper or upper left neighbour is above the threshold.
fn dilated(map: &[f32], width: usize, y: usize, threshold: f32, row: &mut [bool]) {
    let this = &map[y * width..][..width];
    match y {
        0 => row.iter_mut().zip(this).for_each(|(on, v)| *on = *v > threshold),
        _ => {
            let upper = &map[(y - 1) * width..][..width];
            row.iter_mut().zip(this.iter().zip(upper)).for_each(|(on, (a, b))| *on = *a > threshold || *b > threshold);
        }
    }
    for x in (1..width).rev() {
        row[x] |= row[x - 1];
    }
}

fn root(parent: &mut [u32], mut id: u32) -> u32 {
    while parent[id as usize] != id {
        let up = parent[parent[id as usize] as usize];
        parent[id as usize] = up;
        id = up;
    }
    id
}

/// The smaller number wins, so that a region's root is its first run.
fn join(parent: &mut [u32], a: u32, b: u32) {
    let (a, b) = (root(parent, a), root(parent, b));
    parent[a.max(b) as usize] = a.min(b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Dilates pixel by pixel.
    fn widened(map: &[f32], width: usize, threshold: f32) -> Vec<bool> {
        let height = map.len() / width;
        let mut mask = vec![false; width * height];
        for y in 0..height {
            for x in 0..width {
                if map[y * width + x] > threshold {
                    for (dy, dx) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                        if y + dy < height && x + dx < width {
                            mask[(y + dy) * width + x + dx] = true;
                        }
                    }
                }
            }
        }
        mask
    }

    /// Floods pixel by pixel.
    fn flooded(mut mask: Vec<bool>, width: usize, neighbours: Neighbours) -> Vec<BTreeSet<(usize, usize)>> {
        let height = mask.len() / width;
        let mut out = Vec::new();
        for start in 0..mask.len() {
            if !mask[start] {
                continue;
            }
            let (mut region, mut open) = (BTreeSet::new(), vec![start]);
            mask[start] = false;
            while let Some(i) = open.pop() {
                let (x, y) = (i % width, i / width);
                region.insert((y, x));
                for ny in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                    for nx in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                        let touches = neighbours == Neighbours::Eight || ny == y || nx == x;
                        if touches && std::mem::take(&mut mask[ny * width + nx]) {
                            open.push(ny * width + nx);
                        }
                    }
                }
            }
            out.push(region);
        }
        out
    }

    fn pixels(region: &[Run]) -> BTreeSet<(usize, usize)> {
        region.iter().flat_map(|r| (r.first..=r.last).map(|x| (r.y as usize, x as usize))).collect()
    }

    proptest! {
        #[test]
        fn regions_are_those_of_a_flood(width in 1usize..24, height in 1usize..24, density in 0.02f32..0.6, seed in any::<u64>()) {
            let mut state = seed | 1;
            let map: Vec<f32> = (0..width * height).map(|_| {
                state ^= state << 13; state ^= state >> 7; state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 24) as f32
            }).collect();
            let found = components(&map, width, 1.0 - density);
            let want = flooded(widened(&map, width, 1.0 - density), width, Neighbours::Eight);
            prop_assert_eq!(found.iter().map(|r| pixels(r)).collect::<Vec<_>>(), want);
            let mask: Vec<bool> = map.iter().map(|v| *v > 1.0 - density).collect();
            let four = regions(width, height, Neighbours::Four, |y, row| row.copy_from_slice(&mask[y * width..][..width]));
            prop_assert_eq!(four.iter().map(|r| pixels(r)).collect::<Vec<_>>(), flooded(mask, width, Neighbours::Four));
            for region in found.iter().chain(&four) {
                prop_assert!(region.windows(2).all(|w| w[0] < w[1]), "runs are sorted");
            }
        }
    }

    #[test]
    fn numbers_that_are_none_are_background() {
        assert!(components(&[f32::NAN; 12], 4, 0.3).is_empty());
        assert!(components(&[], 4, 0.3).is_empty() && components(&[1.0], 0, 0.3).is_empty());
    }
}
