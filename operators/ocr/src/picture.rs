//! A checked view of RGB pixels.

use crate::OcrError;

/// RGB24 with tight rows, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    width: usize,
    height: usize,
    rgb: &'a [u8],
}

impl<'a> Picture<'a> {
    /// A view; the number of bytes must be `3 * width * height`, and not zero.
    pub fn new(width: usize, height: usize, rgb: &'a [u8]) -> Result<Self, OcrError> {
        let need = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        match need {
            Some(n) if n == rgb.len() && n > 0 => Ok(Picture { width, height, rgb }),
            _ => Err(OcrError::BadPicture { width, height, bytes: rgb.len() }),
        }
    }

    /// Pixels per row, at least 1.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows, at least 1.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, row by row.
    pub fn rgb(&self) -> &'a [u8] {
        self.rgb
    }

    /// The bytes of a row.
    pub(crate) fn row(&self, y: usize) -> &'a [u8] {
        &self.rgb[y * self.width * 3..][..self.width * 3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_agree() {
        assert!(Picture::new(2, 1, &[0; 6]).is_ok());
        assert!(Picture::new(2, 1, &[0; 7]).is_err());
        assert!(Picture::new(0, 1, &[]).is_err());
        assert!(Picture::new(usize::MAX, 3, &[0; 6]).is_err());
    }
}
