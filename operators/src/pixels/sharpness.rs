//! How sharp a picture is: two measures of its fine detail, both zero for a flat picture and larger for a sharper one. Borders are mirrored (OpenCV's
//! `BORDER_REFLECT_101`). Both grow with contrast and noise, and fall when a picture is enlarged.

use super::luma::Luma;

/// Variance of the 4-neighbour Laplacian over all pixels, `cv2.Laplacian(luma, cv2.CV_64F).var()`.
///
/// Source: J. L. Pech-Pacheco, G. Cristóbal, J. Chamorro-Martínez, J. Fernández-Valdivia, "Diatom autofocusing in brightfield microscopy: a comparative
/// study", ICPR 2000.
pub fn laplacian_variance(luma: &Luma) -> f64 {
    let (mut n, mut sum, mut squares) = (0u64, 0i64, 0i64);
    neighbourhoods(luma, |p| {
        let value = i64::from(p[0][1] + p[1][0] + p[1][2] + p[2][1] - 4 * p[1][1]);
        n += 1;
        sum += value;
        squares += value * value;
    });
    if n == 0 {
        return 0.0;
    }
    let mean = sum as f64 / n as f64;
    squares as f64 / n as f64 - mean * mean
}

/// Tenengrad: mean of gx² + gy² of the 3x3 Sobel operator over all pixels.
///
/// Source: E. Krotkov, "Focusing", IJCV 1, 1988, after J. M. Tenenbaum, 1970.
pub fn tenengrad(luma: &Luma) -> f64 {
    let (mut n, mut sum) = (0u64, 0i64);
    neighbourhoods(luma, |p| {
        let gx = p[0][2] + 2 * p[1][2] + p[2][2] - p[0][0] - 2 * p[1][0] - p[2][0];
        let gy = p[2][0] + 2 * p[2][1] + p[2][2] - p[0][0] - 2 * p[0][1] - p[0][2];
        n += 1;
        sum += i64::from(gx * gx + gy * gy);
    });
    if n == 0 { 0.0 } else { sum as f64 / n as f64 }
}

/// Shows the 3x3 pixels around each pixel, mirrored at the borders without repeating the border pixel.
fn neighbourhoods(luma: &Luma, mut visit: impl FnMut(&[[i32; 3]; 3])) {
    let (w, h) = (luma.width, luma.height);
    let around = |i: usize, n: usize| {
        let before = if i > 0 { i - 1 } else { 1.min(n - 1) };
        [before, i, if i + 1 < n { i + 1 } else { n.saturating_sub(2) }]
    };
    for y in 0..h {
        let rows = around(y, h).map(|y| &luma.data[y * w..(y + 1) * w]);
        for x in 0..w {
            let columns = around(x, w);
            visit(&rows.map(|row| columns.map(|x| i32::from(row[x]))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_pictures_of_any_size_have_no_detail() {
        for (width, height) in [(0, 0), (1, 1), (1, 5), (5, 1), (16, 9)] {
            let flat = Luma { width, height, data: vec![77; width * height] };
            assert_eq!((laplacian_variance(&flat), tenengrad(&flat)), (0.0, 0.0));
        }
    }

    #[test]
    fn smoothing_lowers_both() {
        let mut luma =
            Luma { width: 32, height: 32, data: (0..1024u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect() };
        let mut last = (laplacian_variance(&luma), tenengrad(&luma));
        for _ in 0..4 {
            let mut smooth = Vec::new();
            neighbourhoods(&luma, |p| smooth.push((p.iter().flatten().sum::<i32>() / 9) as u8));
            luma.data = smooth;
            let now = (laplacian_variance(&luma), tenengrad(&luma));
            assert!(now.0 < last.0 && now.1 < last.1, "{now:?} after {last:?}");
            last = now;
        }
    }
}
