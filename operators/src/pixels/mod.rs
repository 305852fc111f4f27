//! Measures of pictures as pure functions of pixels: no rows, no files, no clock. Operators in [`crate::clips`], [`crate::filters`] and [`crate::quality`] ask them.
//!
//! Each follows a published algorithm or a reference library; `tests/goldens` beside the crate holds what that library says of the same pixels.

pub mod blocks;
pub mod borders;
pub mod canny;
pub mod content;
pub mod fourier;
pub mod global_motion;
pub mod hough;
pub mod hsv;
pub mod light;
pub mod luma;
pub mod sharpness;
pub mod shift;

#[cfg(test)]
pub(crate) mod goldens;
