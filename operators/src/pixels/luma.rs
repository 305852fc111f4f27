//! One frame's luma on the video scale: black is 16, white is 235, as the published limits of black borders assume.

/// Luma, row by row, no padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Luma {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` values.
    pub data: Vec<u8>,
}

impl Luma {
    /// BT.601 luma of tight RGB24 rows, in the usual 8-bit integer form: 16 + (66 R + 129 G + 25 B + 128) / 256.
    pub fn of_rgb(width: u32, height: u32, rgb: &[u8]) -> Self {
        let y = |p: &[u8]| (16 + ((66 * u32::from(p[0]) + 129 * u32::from(p[1]) + 25 * u32::from(p[2]) + 128) >> 8)) as u8;
        Luma { width: width as usize, height: height as usize, data: rgb.chunks_exact(3).map(y).collect() }
    }

    /// The rows from top to bottom; none if the picture has no width.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.data.chunks_exact(self.width.max(1))
    }

    /// Sum of each row.
    pub fn row_sums(&self) -> Vec<u64> {
        self.rows().map(|row| row.iter().map(|&v| u64::from(v)).sum()).collect()
    }

    /// Sum of each column.
    pub fn column_sums(&self) -> Vec<u64> {
        let mut sums = vec![0u64; self.width];
        for row in self.rows() {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += u64::from(v));
        }
        sums
    }

    /// Mean absolute difference of two pictures, 0 to 1 (black against white); `None` if their sizes differ or they have no pixel.
    pub fn mean_difference(&self, other: &Luma) -> Option<f64> {
        if (self.width, self.height) != (other.width, other.height) || self.data.is_empty() {
            return None;
        }
        let sum: u64 = self.data.iter().zip(&other.data).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        Some(sum as f64 / (219 * self.data.len()) as f64)
    }

    /// Rows become columns.
    pub fn transposed(&self) -> Luma {
        let data = (0..self.width).flat_map(|x| (0..self.height).map(move |y| self.data[y * self.width + x])).collect();
        Luma { width: self.height, height: self.width, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_white_and_the_primaries_have_their_textbook_luma() {
        let rgb = [0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 255, 128, 128, 128];
        assert_eq!(Luma::of_rgb(6, 1, &rgb).data, [16, 235, 82, 144, 41, 126]);
    }

    #[test]
    fn sums_of_the_turned_picture_are_those_of_the_other_direction() {
        let luma = Luma { width: 3, height: 2, data: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!((luma.row_sums(), luma.column_sums()), (vec![6, 15], vec![5, 7, 9]));
        assert_eq!(luma.transposed().row_sums(), luma.column_sums());
        assert_eq!(luma.transposed().data, [1, 4, 2, 5, 3, 6]);
    }
}
