//! Canny edges as OpenCV finds them, to the pixel: 3x3 Sobel with repeated borders, |gx| + |gy|, thinning along four directions, hysteresis. No smoothing.
//!
//! Source: J. Canny, "A computational approach to edge detection", IEEE PAMI 8(6), 1986; the details that the paper leaves open are those of
//! `cv::Canny(image, low, high, 3, false)`, held by golden vectors.

use super::luma::Luma;

/// tan 22.5 degrees as a fraction of 2^15.
const TAN_22: i64 = 13_573;

/// Where edges are, row by row. A pixel is one if its gradient is above `high` and a local maximum, or above `low`, a local maximum and connected to such a one.
pub fn canny(luma: &Luma, low: i32, high: i32) -> Vec<bool> {
    let (w, h) = (luma.width, luma.height);
    if w == 0 || h == 0 {
        return Vec::new();
    }
    // One pixel of nothing all around, so that every pixel has eight neighbours.
    let stride = w + 2;
    let mut magnitude = vec![0i32; stride * (h + 2)];
    let mut gradient = vec![(0i32, 0i32); w * h];
    for y in 0..h {
        let row = |y: usize| &luma.data[y * w..(y + 1) * w];
        let (above, here, below) = (row(y.saturating_sub(1)), row(y), row((y + 1).min(h - 1)));
        for x in 0..w {
            let (l, r) = (x.saturating_sub(1), (x + 1).min(w - 1));
            let weighted = |a: u8, b: u8, c: u8| i32::from(a) + 2 * i32::from(b) + i32::from(c);
            let gx = weighted(above[r], here[r], below[r]) - weighted(above[l], here[l], below[l]);
            let gy = weighted(below[l], below[x], below[r]) - weighted(above[l], above[x], above[r]);
            gradient[y * w + x] = (gx, gy);
            magnitude[(y + 1) * stride + x + 1] = gx.abs() + gy.abs();
        }
    }
    let mut state = vec![State::Nothing; stride * (h + 2)];
    let mut open = Vec::new();
    for y in 0..h {
        for x in 0..w {
            let at = (y + 1) * stride + x + 1;
            if magnitude[at] > low && is_ridge(&magnitude, at, stride, gradient[y * w + x]) {
                state[at] = State::Weak;
                if magnitude[at] > high {
                    state[at] = State::Edge;
                    open.push(at);
                }
            }
        }
    }
    while let Some(at) = open.pop() {
        let (above, below) = (at - stride, at + stride);
        for next in [above - 1, above, above + 1, at - 1, at + 1, below - 1, below, below + 1] {
            if state[next] == State::Weak {
                state[next] = State::Edge;
                open.push(next);
            }
        }
    }
    state.chunks_exact(stride).skip(1).take(h).flat_map(|row| row[1..=w].iter().map(|s| *s == State::Edge)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    Weak,
    Edge,
}

/// Is the gradient at `at` the largest across the edge? Of two equal neighbours in a row or column the first one counts; on a diagonal neither does.
fn is_ridge(magnitude: &[i32], at: usize, stride: usize, (gx, gy): (i32, i32)) -> bool {
    let here = magnitude[at];
    let (ax, ay) = (i64::from(gx.abs()), i64::from(gy.abs()) << 15);
    let (flat, steep) = (ax * TAN_22, ax * TAN_22 + (ax << 16));
    if ay < flat {
        here > magnitude[at - 1] && here >= magnitude[at + 1]
    } else if ay > steep {
        here > magnitude[at - stride] && here >= magnitude[at + stride]
    } else if (gx ^ gy) < 0 {
        here > magnitude[at - stride + 1] && here > magnitude[at + stride - 1]
    } else {
        here > magnitude[at - stride - 1] && here > magnitude[at + stride + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_one_line_and_a_faint_one_is_none() {
        let step = |to: u8| Luma { width: 16, height: 8, data: (0..128).map(|i| if i % 16 < 8 { 50 } else { to }).collect() };
        let edges = canny(&step(120), 50, 150);
        assert!(edges.iter().enumerate().all(|(i, e)| *e == (i % 16 == 7)));
        assert!(canny(&step(60), 50, 150).iter().all(|e| !e)); // 4 * 10 <= 50
        assert!(canny(&step(80), 50, 150).iter().all(|e| !e)); // weak without a strong neighbour
        assert!(canny(&Luma { width: 0, height: 0, data: vec![] }, 50, 150).is_empty());
        assert!(canny(&Luma { width: 1, height: 1, data: vec![9] }, 50, 150) == [false]);
    }
}
